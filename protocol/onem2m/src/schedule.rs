//! Schedule entries (TS-0004 6.3.3 m2m:scheduleEntry): seven fields, second to year, UTC.

use crate::limits::EXPRESSION_BYTES_MAX;
use crate::time::Timestamp;

/// When something is allowed or active. Each field is a set of numbers as bits; all fields must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleEntry {
    /// Second, minute, hour, day of month, month, day of week.
    fields: [u64; 6],
    /// Ranges of years with a step; empty means every year.
    years: Vec<(u32, u32, u32)>,
}

/// Lowest and highest number of the first six fields.
const BOUNDS: [(u32, u32); 6] = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)];
const YEAR_MAX: u32 = 9999;

impl ScheduleEntry {
    /// Reads the seven fields: second, minute, hour, day of month, month, day of week (0 = Sunday), year. Each is `*`, a
    /// number, a range `a-b`, one of these with a step `/n`, or a list of them.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > EXPRESSION_BYTES_MAX {
            return None;
        }
        let mut words = text.split_ascii_whitespace();
        let mut fields = [0; 6];
        for (field, (low, high)) in fields.iter_mut().zip(BOUNDS) {
            for (from, to, step) in ranges(words.next()?, low, high)? {
                for n in (from..=to).step_by(usize::try_from(step).ok()?) {
                    *field |= 1 << n;
                }
            }
        }
        let years = match words.next()? {
            "*" => Vec::new(),
            word => ranges(word, 0, YEAR_MAX)?,
        };
        words.next().is_none().then_some(Self { fields, years })
    }

    /// Whether the second that holds `now_ms` is in it.
    pub fn contains(&self, now_ms: u64) -> bool {
        let c = Timestamp::from_ms(now_ms).civil();
        let now = [c.second, c.minute, c.hour, c.day, c.month, c.weekday];
        let year = u32::try_from(c.year).unwrap_or(0);
        self.fields.iter().zip(now).all(|(field, n)| field >> n & 1 == 1)
            && (self.years.is_empty()
                || self.years.iter().any(|(from, to, step)| (*from..=*to).contains(&year) && (year - from) % step == 0))
    }
}

/// The ranges of one field with their steps.
fn ranges(word: &str, low: u32, high: u32) -> Option<Vec<(u32, u32, u32)>> {
    word.split(',')
        .map(|item| {
            let (range, step) = match item.split_once('/') {
                Some((range, step)) => (range, number(step)?),
                None => (item, 1),
            };
            let (from, to) = match range.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                None if range == "*" => (low, high),
                None => {
                    let n = number(range)?;
                    // `5/15` means from 5 on, as in cron.
                    (n, if item.contains('/') { high } else { n })
                }
            };
            (low <= from && from <= to && to <= high && step > 0).then_some((from, to, step))
        })
        .collect()
}

fn number(text: &str) -> Option<u32> {
    (text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::ScheduleEntry;
    use crate::Timestamp;

    fn holds(entry: &str, at: &str) -> bool {
        ScheduleEntry::parse(entry).unwrap().contains(Timestamp::parse(at).unwrap().ms())
    }

    #[test]
    fn ts0004_6_3_3_schedule_entry_fields() {
        // 21 November 2026 is a Saturday.
        assert!(holds("* * * * * * *", "20261121T090136"));
        assert!(holds("* * 8-10 * * 1-6 *", "20261121T090136"));
        assert!(!holds("* * 8-10 * * 1-5 *", "20261121T090136"));
        assert!(holds("36 1 9 21 11 6 2026", "20261121T090136"));
        assert!(!holds("37 1 9 21 11 6 2026", "20261121T090136"));
        assert!(holds("*/12 * * * * * *", "20261121T090136"));
        assert!(!holds("*/7 * * * * * *", "20261121T090136"));
        assert!(holds("* * * 1,21 * * 2020-2030/2", "20261121T090136"));
        assert!(!holds("* * * * * * 2021-2030/2", "20261121T090136"));
    }

    #[test]
    fn bad_schedule_entries() {
        for bad in [
            "",
            "* * * * * *",
            "* * * * * * * *",
            "60 * * * * * *",
            "* * * 0 * * *",
            "* * * * * 7 *",
            "5-1 * * * * * *",
            "*/0 * * * * * *",
            "a * * * * * *",
            "-1 * * * * * *",
            "1- * * * * * *",
            "99999 * * * * * *",
            "+1 * * * * * *",
        ] {
            assert_eq!(ScheduleEntry::parse(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "[0-9*,/ -]{0,40}", ms: u64) {
            if let Some(entry) = ScheduleEntry::parse(&text) {
                entry.contains(ms);
            }
            if let Some(entry) = ScheduleEntry::parse(&format!("* * * * * * {}", text.trim())) {
                entry.contains(ms);
            }
        }
    }
}
