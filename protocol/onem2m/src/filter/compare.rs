//! Comparing an attribute's value with the text of an attribute filter.

use crate::value::Value;

/// Whether any way to read the value as text matches. Elements of a list are compared one by one; complex values never
/// match.
pub(super) fn value_matches(value: &Value, pattern: &str, wildcards: bool) -> bool {
    let same = |text: &str| if wildcards { like(text, pattern) } else { text == pattern };
    match value {
        Value::Str(s) => same(s),
        Value::Int(n) => same(&n.to_string()),
        Value::Bool(b) => same(if *b { "true" } else { "false" }),
        Value::Float(f) => pattern.parse::<f64>().is_ok_and(|p| p == *f) || wildcards && same(&f.to_string()),
        Value::Time(t) => same(&t.to_string()),
        Value::List(items) => items.iter().any(|item| value_matches(item, pattern, wildcards)),
        Value::Null | Value::Json(_) | Value::Raw(_) => false,
    }
}

/// Whether the text matches a pattern in which `*` stands for any characters. Linear in practice, never worse than the
/// product of the lengths: only the last `*` is ever tried again.
pub(crate) fn like(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.as_bytes(), pattern.as_bytes());
    let (mut t, mut p) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(wanted) if wanted == byte => {
                t += 1;
                p += 1;
            }
            _ => match &mut retry {
                Some((after, from)) => {
                    *from += 1;
                    (p, t) = (*after, *from);
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).is_some_and(|rest| rest.iter().all(|b| *b == b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        for (text, pattern, expected) in [
            ("", "", true),
            ("", "*", true),
            ("abc", "abc", true),
            ("abc", "a*", true),
            ("abc", "*c", true),
            ("abc", "*b*", true),
            ("abc", "a*c*", true),
            ("abc", "a*d", false),
            ("abc", "ab", false),
            ("ab", "abc", false),
            ("aXbXc", "a*b*c", true),
            ("aab", "*ab", true),
            ("mississippi", "m*iss*p*i", true),
            ("abc", "**", true),
        ] {
            assert_eq!(like(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn wildcards_stay_fast() {
        let text = "a".repeat(10_000);
        assert!(!like(&text, &format!("{}b", "a*".repeat(500))));
    }

    #[test]
    fn ts0004_7_3_3_17_values_as_text() {
        assert!(value_matches(&Value::Int(5), "5", false));
        assert!(value_matches(&Value::Bool(true), "true", false));
        assert!(value_matches(&Value::list(["a", "b"]), "b", false));
        assert!(value_matches(&Value::Float(1.5), "1.50", false));
        assert!(!value_matches(&Value::str("abc"), "a*", false));
        assert!(value_matches(&Value::str("abc"), "a*", true));
        assert!(!value_matches(&Value::Json("{}".into()), "{}", true));
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_recursive_matcher(text in "[ab]{0,8}", pattern in "[ab*]{0,8}") {
            fn naive(t: &[u8], p: &[u8]) -> bool {
                match p.split_first() {
                    None => t.is_empty(),
                    Some((b'*', rest)) => (0..=t.len()).any(|i| naive(&t[i..], rest)),
                    Some((c, rest)) => t.first() == Some(c) && naive(&t[1..], rest),
                }
            }
            proptest::prop_assert_eq!(like(&text, &pattern), naive(text.as_bytes(), pattern.as_bytes()));
        }
    }
}
