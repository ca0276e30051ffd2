//! The trace that something belongs to, as it travels between nodes: W3C Trace Context.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::str::FromStr;

use onemec_wire::codec::{Decode, Encode};

/// A trace and the span within it that is the parent of what follows. As text it is a W3C `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct TraceContext {
    /// The trace; 0: there is none.
    pub trace: u128,
    /// The span; 0: there is none.
    pub span: u64,
}

impl TraceContext {
    /// A new trace with its first span.
    pub fn begin() -> Self {
        Self { trace: u128::from(random()) << 64 | u128::from(random()), span: random() }
    }

    /// A new span in the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { span: random(), ..self }
    }

    /// The trace's id as 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        format!("{:032x}", self.trace)
    }
}

/// Never 0. Ids of traces need to be unique, not secret: the keys of a hash table are random enough.
fn random() -> u64 {
    RandomState::new().hash_one(0u8).max(1)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", self.trace, self.span)
    }
}

/// A text that is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no W3C traceparent")]
pub struct BadTraceparent;

impl FromStr for TraceContext {
    type Err = BadTraceparent;
    fn from_str(text: &str) -> Result<Self, BadTraceparent> {
        let mut parts = text.splitn(4, '-');
        let mut next = || parts.next().ok_or(BadTraceparent);
        let (version, trace, span, _flags) = (hex(next()?, 2)?, hex(next()?, 32)?, hex(next()?, 16)?, next()?);
        let trace = u128::from_str_radix(trace, 16).map_err(|_| BadTraceparent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| BadTraceparent)?;
        if version == "ff" || trace == 0 || span == 0 { Err(BadTraceparent) } else { Ok(Self { trace, span }) }
    }
}

fn hex(digits: &str, length: usize) -> Result<&str, BadTraceparent> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() == length && digits.bytes().all(lower) { Ok(digits) } else { Err(BadTraceparent) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_traceparent() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(text.parse::<TraceContext>().unwrap().to_string(), text);
        let one = TraceContext::begin();
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one.child().trace, one.trace);
        assert_ne!(one.child().span, one.span);
        for bad in ["", "00-0-0-01", "00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-äöü-1-2"] {
            assert_eq!(bad.parse::<TraceContext>(), Err(BadTraceparent), "{bad}");
        }
    }
}
