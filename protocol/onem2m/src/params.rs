//! Reading values of primitive parameters from JSON text.

use crate::json;
use crate::limits::{PARAM_BYTES_MAX, PARAM_ITEMS_MAX};
use crate::rsc::Refusal;
use crate::time::{AbsRelTimestamp, Timestamp};

pub(crate) fn bad(name: &str, why: &str) -> Refusal {
    Refusal::bad_request(format!("{name}: {why}"))
}

pub(crate) fn text(name: &str, value: &str) -> Result<String, Refusal> {
    match json::string(value) {
        Some(s) => bounded(name, &s),
        None => Err(bad(name, "not a string")),
    }
}

/// A text that is short enough and can stand in a header: no control characters.
pub(crate) fn bounded(name: &str, text: &str) -> Result<String, Refusal> {
    if text.len() > PARAM_BYTES_MAX {
        return Err(bad(name, "too long"));
    }
    if text.chars().any(char::is_control) {
        return Err(bad(name, "has control characters"));
    }
    Ok(text.to_owned())
}

pub(crate) fn texts(name: &str, value: &str) -> Result<Vec<String>, Refusal> {
    let items = json::array(value).map_err(|_| bad(name, "not an array"))?;
    if items.len() > PARAM_ITEMS_MAX {
        return Err(bad(name, "too many elements"));
    }
    items.into_iter().map(|item| text(name, item)).collect()
}

/// A number, given as a number or (query, header) as its digits.
pub(crate) fn number<N: std::str::FromStr>(name: &str, value: &str) -> Result<N, Refusal> {
    value.trim().parse().map_err(|_| bad(name, "not a number in its range"))
}

pub(crate) fn boolean(name: &str, value: &str) -> Result<bool, Refusal> {
    match value {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(bad(name, "not a boolean")),
    }
}

pub(crate) fn timestamp(name: &str, value: &str) -> Result<Timestamp, Refusal> {
    Timestamp::parse(value).ok_or_else(|| bad(name, "not a timestamp"))
}

pub(crate) fn abs_rel(name: &str, value: &str) -> Result<AbsRelTimestamp, Refusal> {
    AbsRelTimestamp::parse(value).ok_or_else(|| bad(name, "not a timestamp and not milliseconds"))
}

/// A JSON string or number as its bare text.
pub(crate) fn bare(name: &str, value: &str) -> Result<String, Refusal> {
    if value.starts_with('"') { text(name, value) } else { Ok(value.to_owned()) }
}

/// One of an enumeration's values.
pub(crate) fn one_of<T>(name: &str, value: &str, from: impl Fn(u8) -> Option<T>) -> Result<T, Refusal> {
    number::<u8>(name, value).ok().and_then(from).ok_or_else(|| bad(name, "is no value that it can have"))
}
