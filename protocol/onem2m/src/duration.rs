//! xs:duration (`P1DT2H`), as batchNotify and rateLimit have it.

/// Milliseconds of a duration; a year counts 365 days, a month 30. Negative ones are refused.
pub fn parse_ms(text: &str) -> Option<u64> {
    let rest = text.strip_prefix('P')?;
    let (date, time) = match rest.split_once('T') {
        Some((_, "")) => return None,
        Some((date, time)) => (date, time),
        None => (rest, ""),
    };
    if date.is_empty() && time.is_empty() {
        return None;
    }
    const DAY_MS: u64 = 86_400_000;
    let date_ms = sum(date, &[('Y', 365 * DAY_MS), ('M', 30 * DAY_MS), ('W', 7 * DAY_MS), ('D', DAY_MS)])?;
    date_ms.checked_add(sum(time, &[('H', 3_600_000), ('M', 60_000), ('S', 1000)])?)
}

/// Adds up `<number><unit>` parts; units in their order, each at most once. Only seconds may have a fraction.
fn sum(mut text: &str, mut units: &[(char, u64)]) -> Option<u64> {
    let mut total: u64 = 0;
    while !text.is_empty() {
        let end = text.find(|c: char| c.is_ascii_alphabetic())?;
        let (number, rest) = text.split_at_checked(end)?;
        let letter = rest.chars().next()?;
        let place = units.iter().position(|(unit, _)| *unit == letter)?;
        let (_, ms) = *units.get(place)?;
        units = units.get(place + 1..)?;
        text = rest.get(1..)?;
        let part = match number.split_once('.') {
            Some((whole, fraction)) if letter == 'S' => {
                let ms_text: String = digits(fraction)?.chars().chain("00".chars()).take(3).collect();
                digits(whole)?.parse::<u64>().ok()?.checked_mul(ms)?.checked_add(ms_text.parse().ok()?)?
            }
            Some(_) => return None,
            None => digits(number)?.parse::<u64>().ok()?.checked_mul(ms)?,
        };
        total = total.checked_add(part)?;
    }
    Some(total)
}

fn digits(text: &str) -> Option<&str> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::parse_ms;

    #[test]
    fn xs_duration() {
        assert_eq!(parse_ms("PT1S"), Some(1000));
        assert_eq!(parse_ms("PT0.25S"), Some(250));
        assert_eq!(parse_ms("PT1.5S"), Some(1500));
        assert_eq!(parse_ms("P1DT2H3M4S"), Some(93_784_000));
        assert_eq!(parse_ms("P1Y1M"), Some(395 * 86_400_000));
        for bad in
            ["", "P", "PT", "P1DT", "1S", "-PT1S", "PT1", "PT1M1H", "PT1.5M", "PTS", "P1S", "PT99999999999999999999S"]
        {
            assert_eq!(parse_ms(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in "P?[0-9YMDTHS.é]{0,20}") {
            let _ = parse_ms(&text);
        }
    }
}
