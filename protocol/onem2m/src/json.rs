//! JSON text as it came: limits, members with their places, and writing.

use std::borrow::Cow;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::limits::{BODY_BYTES_MAX, CONTENT_DEPTH_MAX, JSON_DEPTH_MAX, LIST_ITEMS_MAX, MEMBERS_MAX};
use crate::rsc::Refusal;

/// The text of a body, if it is within the limits. Everything below relies on the depth having been checked here.
pub(crate) fn text(body: &[u8]) -> Result<&str, Refusal> {
    limited(body, JSON_DEPTH_MAX)
}

/// The text of a representation in a CREATE or UPDATE, likewise.
pub(crate) fn content(body: &[u8]) -> Result<&str, Refusal> {
    limited(body, CONTENT_DEPTH_MAX)
}

fn limited(body: &[u8], depth_max: usize) -> Result<&str, Refusal> {
    if body.len() > BODY_BYTES_MAX {
        return Err(Refusal::bad_request("content: too long"));
    }
    let text = std::str::from_utf8(body).map_err(|_| Refusal::bad_request("content: not UTF-8"))?;
    if depth(text) > depth_max {
        return Err(Refusal::bad_request("content: nested too deeply"));
    }
    Ok(text)
}

/// The deepest nesting. A look at brackets outside strings is enough: text that is no JSON fails later.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    outside_strings(text, |byte| match byte {
        b'{' | b'[' => {
            depth += 1;
            deepest = deepest.max(depth);
        }
        b'}' | b']' => depth = depth.saturating_sub(1),
        _ => {}
    });
    deepest
}

fn outside_strings(text: &str, mut each: impl FnMut(u8)) {
    let mut in_string = false;
    let mut escaped = false;
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if !in_string => each(byte),
            _ => {}
        }
    }
}

/// The text without white space between its tokens.
pub(crate) fn compact(text: &str) -> Box<str> {
    let mut out = String::with_capacity(text.len());
    let mut in_string = false;
    let mut escaped = false;
    for c in text.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            ' ' | '\t' | '\n' | '\r' if !in_string => continue,
            _ => {}
        }
        out.push(c);
    }
    out.into()
}

/// The members of an object, each value as its text.
pub(crate) type Members<'a> = Vec<(Cow<'a, str>, &'a str)>;

/// Reads an object. A name that stands twice is refused: two readers could take different ones for valid.
pub(crate) fn object(text: &str) -> Result<Members<'_>, Refusal> {
    serde_json::from_str::<Object<'_>>(text).map(|o| o.0).map_err(|e| Refusal::bad_request(format!("JSON: {e}")))
}

/// Reads an array.
pub(crate) fn array(text: &str) -> Result<Vec<&str>, Refusal> {
    serde_json::from_str::<Array<'_>>(text).map(|a| a.0).map_err(|e| Refusal::bad_request(format!("JSON: {e}")))
}

/// Reads a string.
pub(crate) fn string(text: &str) -> Option<Cow<'_, str>> {
    serde_json::from_str::<Text<'_>>(text).ok().map(|t| t.0)
}

struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: Error>(self, s: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(s)))
            }
            fn visit_str<E: Error>(self, s: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(s.to_owned())))
            }
        }
        d.deserialize_str(V)
    }
}

struct Object<'a>(Members<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members: Members<'de> = Vec::new();
                while let Some((Text(name), value)) = map.next_entry::<Text<'de>, &'de RawValue>()? {
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    if members.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom(format!("{name} stands twice")));
                    }
                    members.push((name, value.get()));
                }
                Ok(Object(members))
            }
        }
        d.deserialize_map(V)
    }
}

struct Array<'a>(Vec<&'a str>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V;
        impl<'de> Visitor<'de> for V {
            type Value = Array<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Array<'de>, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element::<&'de RawValue>()? {
                    if items.len() == LIST_ITEMS_MAX {
                        return Err(A::Error::custom("too many elements"));
                    }
                    items.push(item.get());
                }
                Ok(Array(items))
            }
        }
        d.deserialize_seq(V)
    }
}

/// Where `part`, a piece of `whole` itself, begins in it.
pub(crate) fn offset_in(whole: &str, part: &str) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// Appends a string as JSON.
pub(crate) fn push_str(out: &mut Vec<u8>, text: &str) {
    // Writing a string to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

/// Writes one object member by member.
pub(crate) struct ObjectWriter<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl<'o> ObjectWriter<'o> {
    pub(crate) fn begin(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, first: true }
    }
    /// Writes the name; the caller writes the value to what is returned.
    pub(crate) fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        push_str(self.out, name);
        self.out.push(b':');
        self.out
    }
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        push_str(self.name(name), value);
    }
    /// Writes what is JSON text already.
    pub(crate) fn raw(&mut self, name: &str, value: &[u8]) {
        self.name(name).extend_from_slice(value);
    }
    pub(crate) fn number(&mut self, name: &str, value: impl std::fmt::Display) {
        self.name(name).extend_from_slice(value.to_string().as_bytes());
    }
    pub(crate) fn boolean(&mut self, name: &str, value: bool) {
        self.raw(name, if value { b"true" } else { b"false" });
    }
    pub(crate) fn texts<S: AsRef<str>>(&mut self, name: &str, values: impl IntoIterator<Item = S>) {
        let out = self.name(name);
        push_array(out, values, |out, value| push_str(out, value.as_ref()));
    }
    pub(crate) fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends an array.
pub(crate) fn push_array<I>(out: &mut Vec<u8>, items: impl IntoIterator<Item = I>, each: impl Fn(&mut Vec<u8>, I)) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        each(out, item);
    }
    out.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_limited() {
        let at = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(content(at(CONTENT_DEPTH_MAX).as_bytes()).is_ok());
        assert!(content(at(CONTENT_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(text(at(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert!(text(at(JSON_DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(text(&vec![b'['; BODY_BYTES_MAX]).is_err());
        assert!(text(br#""[[[\"[[[[""#).is_ok());
        assert!(text(b"\xff").is_err());
    }

    #[test]
    fn members_keep_their_places() {
        let whole = r#" {"a" : [1, 2] ,"b\n":"x"}"#;
        let members = object(whole).unwrap();
        assert_eq!(members[0], ("a".into(), "[1, 2]"));
        assert_eq!(offset_in(whole, members[0].1), 8);
        assert_eq!(members[1].0, "b\n");
        assert_eq!(&*compact(whole), r#"{"a":[1,2],"b\n":"x"}"#);
    }

    #[test]
    fn refuses_double_names_and_too_many() {
        assert!(object(r#"{"a":1,"\u0061":2}"#).unwrap_err().debug.contains("stands twice"));
        let many: Vec<_> = (0..=MEMBERS_MAX).map(|i| format!("\"{i}\":0")).collect();
        assert!(object(&format!("{{{}}}", many.join(","))).is_err());
        for bad in ["", "[]", "{", "{\"a\"}", "{}x", "1"] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, chars in r#"[\[\]{}",:a1\\ ]{0,30}"#) {
            for input in [&bytes[..], chars.as_bytes()] {
                if let Ok(text) = text(input) {
                    let _ = object(text);
                    let _ = array(text);
                    let _ = string(text);
                    compact(text);
                }
            }
        }
    }
}
