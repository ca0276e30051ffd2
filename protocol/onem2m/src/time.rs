//! Timestamps (TS-0004 6.3.3): basic ISO 8601 `YYYYMMDDThhmmss[,f{1,6}]`, UTC, no zone.

use crate::rsc::Refusal;

const US_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;
/// 9999-12-31T23:59:59,999999.
const LAST_US: i64 = 253_402_300_799_999_999;

/// A moment: microseconds since 1970 UTC, years 0001 to 9999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// m2m:absRelTimestamp: a moment, or a duration from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AbsRelTimestamp {
    /// At.
    Absolute(Timestamp),
    /// Milliseconds from when the request was received.
    RelativeMs(i64),
}

/// A moment as a calendar shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
    /// 0 = Sunday.
    pub(crate) weekday: i64,
}

impl Timestamp {
    /// From milliseconds since 1970; what is beyond the year 9999 becomes its end.
    pub fn from_ms(ms: u64) -> Self {
        Self(i64::try_from(ms).ok().and_then(|ms| ms.checked_mul(1000)).map_or(LAST_US, |us| us.min(LAST_US)))
    }
    /// Milliseconds since 1970, 0 for earlier moments.
    pub fn ms(self) -> u64 {
        u64::try_from(self.0.div_euclid(1000)).unwrap_or(0)
    }
    /// Microseconds since 1970: what snapshots hold.
    pub(crate) fn us(self) -> i64 {
        self.0
    }
    /// From them.
    pub(crate) fn from_us(us: i64) -> Option<Self> {
        (days_from_civil(1, 1, 1) * SECONDS_PER_DAY * US_PER_SECOND..=LAST_US).contains(&us).then_some(Self(us))
    }
    /// Reads the textual form.
    pub fn parse(text: &str) -> Option<Self> {
        let (moment, fraction) = match text.split_once(',') {
            Some((moment, fraction)) => (moment, Some(fraction)),
            None => (text, None),
        };
        let (date, time) = moment.split_once('T')?;
        if date.len() != 8 || time.len() != 6 {
            return None;
        }
        let (year, month, day) = (digits(date.get(..4)?)?, digits(date.get(4..6)?)?, digits(date.get(6..)?)?);
        let (hour, minute, second) = (digits(time.get(..2)?)?, digits(time.get(2..4)?)?, digits(time.get(4..)?)?);
        if year < 1 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut us = 0;
        if let Some(f) = fraction {
            let places = u32::try_from(f.len()).ok().filter(|n| (1..=6).contains(n))?;
            us = digits(f)? * 10_i64.pow(6 - places);
        }
        let seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY + hour * 3600 + minute * 60 + second;
        Some(Self(seconds * US_PER_SECOND + us))
    }

    pub(crate) fn civil(self) -> Civil {
        let seconds = self.0.div_euclid(US_PER_SECOND);
        let days = seconds.div_euclid(SECONDS_PER_DAY);
        let of_day = seconds.rem_euclid(SECONDS_PER_DAY);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (days + 4).rem_euclid(7),
        }
    }
}

/// With the fraction only if there is one, and then without trailing zeros.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let c = self.civil();
        write!(f, "{:04}{:02}{:02}T{:02}{:02}{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second)?;
        match self.0.rem_euclid(US_PER_SECOND) {
            0 => Ok(()),
            us => write!(f, ",{}", format!("{us:06}").trim_end_matches('0')),
        }
    }
}

impl AbsRelTimestamp {
    /// Reads either form.
    pub fn parse(text: &str) -> Option<Self> {
        match text.parse() {
            Ok(ms) => Some(Self::RelativeMs(ms)),
            Err(_) => Timestamp::parse(text).map(Self::Absolute),
        }
    }
    /// Milliseconds since 1970.
    pub fn at_ms(self, now_ms: u64) -> u64 {
        match self {
            Self::Absolute(t) => t.ms(),
            Self::RelativeMs(ms) => now_ms.saturating_add_signed(ms),
        }
    }
}

impl std::fmt::Display for AbsRelTimestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absolute(t) => t.fmt(f),
            Self::RelativeMs(ms) => ms.fmt(f),
        }
    }
}

/// The expiration time that a resource gets (TS-0004 7.3.3.3-5): what was asked for, but no later than `latest_ms` (the
/// parent's, or policy). In the past: BAD_REQUEST.
pub fn expiration(asked: Option<Timestamp>, latest_ms: u64, now_ms: u64) -> Result<Timestamp, Refusal> {
    let latest = Timestamp::from_ms(latest_ms);
    match asked {
        None => Ok(latest),
        Some(asked) if asked <= Timestamp::from_ms(now_ms) => {
            Err(Refusal::bad_request(format!("et: {asked} is in the past")))
        }
        Some(asked) => Ok(asked.min(latest)),
    }
}

/// A number of nothing but digits.
fn digits(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date in the Gregorian calendar; years are counted from March so that the leap day comes last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let of_era = y.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468
}

/// The reverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ts0004_6_3_3_basic_iso_8601() {
        assert_eq!(Timestamp::parse("19700101T000000").unwrap().ms(), 0);
        assert_eq!(Timestamp::parse("20000301T000000").unwrap().ms(), 951_868_800_000);
        assert_eq!(Timestamp::parse("20240229T235959,5").unwrap().ms(), 1_709_251_199_500);
        assert_eq!(Timestamp::parse("20240229T235959,500000").unwrap().to_string(), "20240229T235959,5");
        assert_eq!(Timestamp::parse("99991231T235959,999999").unwrap().us(), LAST_US);
        assert_eq!(Timestamp::parse("00010101T000000").unwrap().ms(), 0);
    }

    #[test]
    fn ts0004_6_3_3_refuses_other_forms() {
        for bad in [
            "",
            "T",
            "20230229T000000",
            "20241301T000000",
            "20240100T000000",
            "20240101T240000",
            "20240101T006000",
            "20240101T000060",
            "2024-01-01T00:00:00",
            "20240101T000000Z",
            "20240101T000000,",
            "20240101T000000,1234567",
            "20240101T000000.5",
            "+0240101T000000",
            "00000101T000000",
            "2024010١T000000",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn abs_rel_timestamp_is_a_moment_or_milliseconds_from_now() {
        assert_eq!(AbsRelTimestamp::parse("1500").unwrap().at_ms(1000), 2500);
        assert_eq!(AbsRelTimestamp::parse("-1500").unwrap().at_ms(1000), 0);
        assert_eq!(AbsRelTimestamp::parse("19700101T000002").unwrap().at_ms(1000), 2000);
        assert_eq!(AbsRelTimestamp::parse("soon"), None);
        assert_eq!(AbsRelTimestamp::RelativeMs(i64::MAX).at_ms(u64::MAX), u64::MAX);
    }

    #[test]
    fn ts0004_7_3_3_3_expiration_is_never_later_than_the_parents() {
        let at = |ms| Timestamp::from_ms(ms);
        assert_eq!(expiration(None, 100_000, 0).unwrap(), at(100_000));
        assert_eq!(expiration(Some(at(200_000)), 100_000, 0).unwrap(), at(100_000));
        assert_eq!(expiration(Some(at(50_000)), 100_000, 0).unwrap(), at(50_000));
        assert_eq!(expiration(Some(at(50_000)), 100_000, 50_000).unwrap_err().rsc, crate::Rsc::BAD_REQUEST);
    }

    #[test]
    fn weekday_and_calendar() {
        let c = Timestamp::parse("20261121T090136").unwrap().civil();
        assert_eq!((c.year, c.month, c.day, c.hour, c.minute, c.second, c.weekday), (2026, 11, 21, 9, 1, 36, 6));
    }

    proptest::proptest! {
        #[test]
        fn parses_what_it_renders(us in -62_135_596_800_000_000..=LAST_US) {
            let t = Timestamp::from_us(us).unwrap();
            proptest::prop_assert_eq!(Timestamp::parse(&t.to_string()), Some(t));
        }
        #[test]
        fn never_panics(text in ".{0,24}", ms: u64) {
            let _ = Timestamp::parse(&text);
            let _ = AbsRelTimestamp::parse(&text);
            let _ = Timestamp::from_ms(ms).to_string();
        }
    }
}
