//! Timestamps (TS-0004 6.3.3): basic ISO 8601 `YYYYMMDDThhmmss[,f{1,6}]`, UTC, no zone.

use crate::rsc::Refusal;

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

impl Timestamp {
    /// From milliseconds since 1970.
    pub fn from_ms(_ms: u64) -> Self {
        unimplemented!()
    }
    /// Milliseconds since 1970, 0 for earlier moments.
    pub fn ms(self) -> u64 {
        unimplemented!()
    }
    /// Reads the textual form.
    pub fn parse(_text: &str) -> Option<Self> {
        unimplemented!()
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, _f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        unimplemented!()
    }
}

impl AbsRelTimestamp {
    /// Reads either form.
    pub fn parse(_text: &str) -> Option<Self> {
        unimplemented!()
    }
    /// Milliseconds since 1970.
    pub fn at_ms(self, _now_ms: u64) -> u64 {
        unimplemented!()
    }
}

/// The expiration time that a resource gets (TS-0004 7.3.3.3-5): what was asked for, but no later than `latest_ms` (the
/// parent's, or policy). In the past: BAD_REQUEST.
pub fn expiration(_asked: Option<Timestamp>, _latest_ms: u64, _now_ms: u64) -> Result<Timestamp, Refusal> {
    unimplemented!()
}
