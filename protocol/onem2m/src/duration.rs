//! xs:duration (`P1DT2H`), as batchNotify and rateLimit have it.

/// Milliseconds of a duration; a year counts 365 days, a month 30. Negative ones are refused.
pub fn parse_ms(_text: &str) -> Option<u64> {
    unimplemented!()
}
