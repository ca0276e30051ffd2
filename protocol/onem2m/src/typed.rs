//! JSON text -> [`Value`] by data type (TS-0004 6.3, 8.4).

use crate::content_info::ContentInfo;
use crate::duration;
use crate::id::is_name;
use crate::json;
use crate::limits::{ADDRESS_BYTES_MAX, LIST_ITEMS_MAX};
use crate::schedule::ScheduleEntry;
use crate::tables::{COMPLEX, DataType, ENUMS, Ty};
use crate::time::{AbsRelTimestamp, Timestamp};
use crate::value::Value;

/// Lowest user-defined event category (TS-0004 6.3.3 m2m:eventCat).
const USER_EVENT_CATEGORIES: std::ops::RangeInclusive<i64> = 100..=999;
const STANDARD_EVENT_CATEGORIES: std::ops::RangeInclusive<i64> = 2..=4;

/// The value of an attribute, or what is wrong with it. The depth of `text` has been checked.
pub(crate) fn value(data: DataType, list: bool, text: &str) -> Result<Value, String> {
    if !list {
        return single(data, text);
    }
    let items = json::array(text).map_err(|_| "not an array".to_owned())?;
    if items.len() > LIST_ITEMS_MAX {
        return Err("too many elements".into());
    }
    let values = items.iter().map(|item| single(data, item)).collect::<Result<Box<[_]>, _>>()?;
    if matches!(data, DataType::Complex(_) | DataType::Any) {
        return Ok(Value::Json(json::compact(text)));
    }
    Ok(Value::List(values))
}

fn single(data: DataType, text: &str) -> Result<Value, String> {
    match data {
        DataType::Bool => match text {
            "true" => Ok(Value::Bool(true)),
            "false" => Ok(Value::Bool(false)),
            _ => Err("not a boolean".into()),
        },
        DataType::Float => match serde_json::from_str::<f64>(text) {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err("not a number".into()),
        },
        DataType::Complex(index) => complex(index, text),
        DataType::Any => Ok(any(text)),
        DataType::AbsRelTimestamp => match integer(text) {
            Some(ms) => Ok(Value::Int(ms)),
            None => textual(data, text),
        },
        DataType::Integer
        | DataType::NonNegative
        | DataType::Positive
        | DataType::UnsignedInt
        | DataType::ResourceType
        | DataType::MemberType
        | DataType::EventCategory
        | DataType::AccessOperations
        | DataType::Enum(_) => numeric(data, text),
        _ => textual(data, text),
    }
}

fn integer(text: &str) -> Option<i64> {
    serde_json::from_str(text).ok()
}

fn numeric(data: DataType, text: &str) -> Result<Value, String> {
    let n = integer(text).ok_or("not an integer, or beyond 64 bits")?;
    let known_type = || u16::try_from(n).is_ok_and(|n| Ty(n).info().is_some());
    let good = match data {
        DataType::NonNegative => n >= 0,
        DataType::Positive => n > 0,
        DataType::UnsignedInt => u32::try_from(n).is_ok(),
        DataType::ResourceType => known_type(),
        DataType::MemberType => known_type() || in_enum("m2m:memberType", n),
        DataType::EventCategory => STANDARD_EVENT_CATEGORIES.contains(&n) || USER_EVENT_CATEGORIES.contains(&n),
        DataType::AccessOperations => (0..=63).contains(&n),
        DataType::Enum(index) => {
            ENUMS.get(usize::from(index)).is_some_and(|e| e.values.iter().any(|v| (v.low..=v.high).contains(&n)))
        }
        _ => true,
    };
    if good { Ok(Value::Int(n)) } else { Err(format!("{n} is no value that it can have")) }
}

/// Whether an enumeration has this value.
pub(crate) fn in_enum(name: &str, n: i64) -> bool {
    ENUMS
        .binary_search_by_key(&name, |e| e.name)
        .ok()
        .and_then(|i| ENUMS.get(i))
        .is_some_and(|e| e.values.iter().any(|v| (v.low..=v.high).contains(&n)))
}

fn textual(data: DataType, text: &str) -> Result<Value, String> {
    let s = json::string(text).ok_or("not a string")?;
    if let DataType::Timestamp = data {
        return Timestamp::parse(&s).map(Value::Time).ok_or_else(|| "not a timestamp".into());
    }
    let printable = || !s.chars().any(char::is_control);
    let good = match data {
        DataType::Id | DataType::Uri => s.len() <= ADDRESS_BYTES_MAX && printable(),
        DataType::Label => printable(),
        DataType::Name => is_name(&s),
        DataType::NcName => is_nc_name(&s),
        DataType::ContentInfo => ContentInfo::parse(&s).is_some(),
        DataType::Duration => duration::parse_ms(&s).is_some(),
        DataType::ScheduleEntry => ScheduleEntry::parse(&s).is_some(),
        DataType::AbsRelTimestamp => AbsRelTimestamp::parse(&s).is_some(),
        DataType::Base64 => is_base64(&s),
        _ => true,
    };
    if good { Ok(Value::str(s)) } else { Err(format!("not of the type {data:?}")) }
}

/// xs:NCName, as far as ASCII goes; other letters pass.
fn is_nc_name(text: &str) -> bool {
    let ok = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.chars().next().is_some_and(|c| c.is_alphabetic() || c == '_') && text.chars().all(ok)
}

fn is_base64(text: &str) -> bool {
    let data = text.trim_end_matches('=');
    text.len() - data.len() <= 2
        && text.len().is_multiple_of(4)
        && data.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

fn any(text: &str) -> Value {
    match text.as_bytes().first() {
        Some(b'"') => json::string(text).map_or_else(|| Value::Json(text.into()), Value::str),
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'-' | b'0'..=b'9') => integer(text).map_or_else(|| Value::Json(text.into()), Value::Int),
        _ => Value::Json(json::compact(text)),
    }
}

/// Checks the members of a complex value; types whose members no table tells may have any.
fn complex(index: u16, text: &str) -> Result<Value, String> {
    let members = json::object(text).map_err(|r| r.debug)?;
    let known = COMPLEX.get(usize::from(index)).map(|c| c.members).unwrap_or_default();
    if !known.is_empty() {
        for (name, member) in &members {
            let row = known.iter().find(|m| m.short == name).ok_or_else(|| format!("unknown member {name}"))?;
            value(row.data, row.list, member).map_err(|why| format!("{name}: {why}"))?;
        }
        if let Some(missing) = known.iter().find(|m| m.mandatory && !members.iter().any(|(n, _)| n == m.short)) {
            return Err(format!("{} is missing", missing.short));
        }
    }
    Ok(Value::Json(json::compact(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> DataType {
        DataType::Complex(u16::try_from(COMPLEX.iter().position(|c| c.name == name).unwrap()).unwrap())
    }

    #[test]
    fn ts0004_8_4_simple_types() {
        use DataType::*;
        for (data, good, bad) in [
            (Bool, "true", "\"true\""),
            (Integer, "-9223372036854775808", "9223372036854775808"),
            (NonNegative, "0", "-1"),
            (Positive, "1", "0"),
            (UnsignedInt, "4294967295", "4294967296"),
            (NonNegative, "7", "7.0"),
            (NonNegative, "7", "1e99999"),
            (NonNegative, "7", "\"7\""),
            (Float, "1.5", "1e999"),
            (Text, "\"\"", "5"),
            (Timestamp, "\"20261121T090136\"", "\"2026-11-21\""),
            (AbsRelTimestamp, "5000", "\"soon\""),
            (AbsRelTimestamp, "\"20261121T090136\"", "true"),
            (ResourceType, "3", "9999"),
            (MemberType, "0", "33"),
            (EventCategory, "100", "1"),
            (AccessOperations, "63", "64"),
            (Name, "\"a-1\"", "\"a/1\""),
            (NcName, "\"lbl\"", "\"1a\""),
            (ContentInfo, "\"text/plain:0\"", "\"text\""),
            (Duration, "\"PT5S\"", "\"5\""),
            (ScheduleEntry, "\"* * * * * * *\"", "\"* *\""),
            (Base64, "\"YWI=\"", "\"YWI\""),
            (Uri, "\"http://h/p?ct=json\"", "\"a\\u0000b\""),
        ] {
            assert!(value(data, false, good).is_ok(), "{data:?} {good}");
            assert!(value(data, false, bad).is_err(), "{data:?} {bad}");
            assert!(value(data, false, "null").is_err(), "{data:?}");
            assert!(value(data, true, good).is_err(), "{data:?} list");
            assert!(value(data, true, &format!("[{good}, {good}]")).is_ok(), "{data:?} list");
            assert!(value(data, true, &format!("[{good},{bad}]")).is_err(), "{data:?} list");
        }
    }

    #[test]
    fn ts0004_6_3_5_complex_types() {
        let acrs = named("m2m:setOfAcrs");
        let good = r#"{"acr":[{"acor":["all"],"acop":63,"acco":[{"actw":["* * * * * * *"],"acip":{"ipv4":["10.0.0.0/8"]}}],
            "acod":[{"chty":[3,4]}],"acaf":true}]}"#;
        assert!(value(acrs, false, good).is_ok());
        assert!(value(acrs, false, "{}").is_ok());
        for bad in [
            "[]",
            r#"{"acr":{}}"#,
            r#"{"acr":[{"acor":["all"]}]}"#,
            r#"{"acr":[{"acor":"all","acop":63}]}"#,
            r#"{"acr":[{"acor":["all"],"acop":63,"x":1}]}"#,
            r#"{"acr":[{"acor":["all"],"acop":64}]}"#,
            r#"{"acr":[{"acor":["all"],"acop":1,"acod":[{}]}]}"#,
        ] {
            assert!(value(acrs, false, bad).is_err(), "{bad}");
        }
        let enc = named("m2m:eventNotificationCriteria");
        assert!(value(enc, false, r#"{"net":[1,3],"atr":["con"],"chty":[4]}"#).is_ok());
        assert!(value(enc, false, r#"{"net":[99]}"#).is_err());
        assert!(value(enc, false, r#"{"net":1}"#).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics(text in r#"[\[\]{}",:a1-9.eE+\\ ntf-]{0,30}"#, index: u16, list: bool) {
            for data in [DataType::Any, DataType::Enum(index % 80), DataType::Complex(index % 120), DataType::Float,
                DataType::Text, DataType::Base64, DataType::Positive] {
                let _ = value(data, list, &text);
            }
        }
    }
}
