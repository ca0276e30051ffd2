//! The encoding of attributes in snapshots and records.
//!
//! ```text
//! attributes = count, { name length (1 byte), short name, value }
//! value      = tag (1 byte), then by tag: 0 null, 1 false, 2 true: nothing; 3 integer: number; 4 float: 8 bytes;
//!              5 moment: number of microseconds; 6 text, 8 JSON: length, bytes; 7 list: count, values (no lists);
//!              9 range: start, length
//! ```
//! Counts, lengths and numbers are little-endian base 128, numbers with the sign in the lowest bit; a float is
//! little-endian. Names are written out, since [`AttrId`] changes with the tables.

use crate::attributes::{Attributes, BadAttributes};
use crate::limits::{BODY_BYTES_MAX, LIST_ITEMS_MAX, MEMBERS_MAX};
use crate::tables::AttrId;
use crate::time::Timestamp;
use crate::value::{Span, Value};

impl Attributes {
    /// Appends the encoding that snapshots and records hold.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put(out, self.len() as u64);
        for (id, value) in self.iter() {
            let name = id.short().as_bytes();
            put(out, name.len() as u64);
            out.extend_from_slice(name);
            encode_value(out, value);
        }
    }

    /// Reads one encoding from the front of `bytes` and moves `bytes` past it.
    pub fn decode(bytes: &mut &[u8]) -> Result<Self, BadAttributes> {
        let count = length(bytes, 2 * MEMBERS_MAX)?;
        let mut all = Self::new();
        for _ in 0..count {
            let name = text(bytes)?;
            let id = AttrId::from_short(name).ok_or(BadAttributes)?;
            all.set(id, decode_value(bytes, true)?);
        }
        all.shrink();
        Ok(all)
    }
}

fn encode_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(0),
        Value::Bool(b) => out.push(1 + u8::from(*b)),
        Value::Int(n) => {
            out.push(3);
            put_signed(out, *n);
        }
        Value::Float(f) => {
            out.push(4);
            out.extend_from_slice(&f.to_le_bytes());
        }
        Value::Time(t) => {
            out.push(5);
            put_signed(out, t.us());
        }
        Value::Str(s) => {
            out.push(6);
            put_text(out, s);
        }
        Value::List(items) => {
            out.push(7);
            put(out, items.len() as u64);
            items.iter().for_each(|item| encode_value(out, item));
        }
        Value::Json(s) => {
            out.push(8);
            put_text(out, s);
        }
        Value::Raw(span) => {
            out.push(9);
            put(out, span.start.into());
            put(out, span.len.into());
        }
    }
}

fn decode_value(bytes: &mut &[u8], lists: bool) -> Result<Value, BadAttributes> {
    let number32 = |bytes: &mut &[u8]| u32::try_from(get(bytes)?).map_err(|_| BadAttributes);
    Ok(match byte(bytes)? {
        0 => Value::Null,
        1 => Value::Bool(false),
        2 => Value::Bool(true),
        3 => Value::Int(get_signed(bytes)?),
        4 => {
            let (float, rest) = bytes.split_first_chunk().ok_or(BadAttributes)?;
            *bytes = rest;
            Value::Float(f64::from_le_bytes(*float))
        }
        5 => Value::Time(Timestamp::from_us(get_signed(bytes)?).ok_or(BadAttributes)?),
        6 => Value::str(text(bytes)?),
        7 if lists => {
            let count = length(bytes, LIST_ITEMS_MAX)?;
            Value::List((0..count).map(|_| decode_value(bytes, false)).collect::<Result<_, _>>()?)
        }
        8 => Value::Json(text(bytes)?.into()),
        9 => Value::Raw(Span { start: number32(bytes)?, len: number32(bytes)? }),
        _ => return Err(BadAttributes),
    })
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn put_signed(out: &mut Vec<u8>, n: i64) {
    put(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
}

fn byte(bytes: &mut &[u8]) -> Result<u8, BadAttributes> {
    let (first, rest) = bytes.split_first().ok_or(BadAttributes)?;
    *bytes = rest;
    Ok(*first)
}

fn get(bytes: &mut &[u8]) -> Result<u64, BadAttributes> {
    let mut n = 0_u64;
    for shift in (0..64).step_by(7) {
        let b = byte(bytes)?;
        n |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Ok(n);
        }
    }
    Err(BadAttributes)
}

fn get_signed(bytes: &mut &[u8]) -> Result<i64, BadAttributes> {
    let n = get(bytes)?;
    Ok((n >> 1).cast_signed() ^ -(n & 1).cast_signed())
}

fn length(bytes: &mut &[u8], max: usize) -> Result<usize, BadAttributes> {
    usize::try_from(get(bytes)?).ok().filter(|n| *n <= max).ok_or(BadAttributes)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Result<&'a str, BadAttributes> {
    let length = length(bytes, BODY_BYTES_MAX)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(BadAttributes)?;
    *bytes = rest;
    std::str::from_utf8(text).map_err(|_| BadAttributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Attributes {
        [
            (AttrId::RN, Value::str("é")),
            (AttrId::MNI, Value::Int(-5)),
            (AttrId::RR, Value::Bool(true)),
            (AttrId::DISR, Value::Bool(false)),
            (AttrId::CT, Value::Time(Timestamp::from_ms(1_700_000_000_123))),
            (AttrId::LBL, Value::list(["a", ""])),
            (AttrId::PV, Value::Json("{}".into())),
            (AttrId::CON, Value::Raw(Span { start: 1, len: u32::MAX })),
            (AttrId::ET, Value::Null),
            (AttrId::LOC, Value::Float(1.5)),
        ]
        .into_iter()
        .collect()
    }

    #[test]
    fn decodes_what_it_encodes() {
        let mut bytes = Vec::new();
        sample().encode(&mut bytes);
        bytes.push(77);
        let mut rest = &bytes[..];
        assert_eq!(Attributes::decode(&mut rest), Ok(sample()));
        assert_eq!(rest, [77]);
        for cut in 0..bytes.len() - 1 {
            assert_eq!(Attributes::decode(&mut &bytes[..cut]), Err(BadAttributes), "{cut}");
        }
    }

    #[test]
    fn golden_bytes() {
        let mut bytes = Vec::new();
        [(AttrId::MNI, Value::Int(-65)), (AttrId::LBL, Value::list(["k"]))]
            .into_iter()
            .collect::<Attributes>()
            .encode(&mut bytes);
        assert_eq!(bytes, b"\x02\x03lbl\x07\x01\x06\x01k\x03mni\x03\x81\x01");
    }

    #[test]
    fn lists_in_lists_are_refused() {
        let bytes = [b"\x01\x03lbl".to_vec(), b"\x07\x01".repeat(100_000)].concat();
        assert_eq!(Attributes::decode(&mut &bytes[..]), Err(BadAttributes));
        let nested = b"\x01\x03lbl\x07\x01\x07\x01\x02";
        assert_eq!(Attributes::decode(&mut &nested[..]), Err(BadAttributes));
    }

    #[test]
    fn a_value_is_small() {
        assert!(size_of::<Value>() <= 24, "{}", size_of::<Value>());
        assert!(size_of::<(AttrId, Value)>() <= 32);
    }

    proptest::proptest! {
        #[test]
        fn never_panics(bytes: Vec<u8>, at: usize, to: u8) {
            let _ = Attributes::decode(&mut &bytes[..]);
            let mut good = Vec::new();
            sample().encode(&mut good);
            let at = at % good.len();
            good[at] = to;
            let _ = Attributes::decode(&mut &good[..]);
        }
        #[test]
        fn numbers(n: i64, m: u64) {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, n);
            put(&mut bytes, m);
            let mut rest = &bytes[..];
            proptest::prop_assert_eq!(get_signed(&mut rest), Ok(n));
            proptest::prop_assert_eq!(get(&mut rest), Ok(m));
        }
    }
}
