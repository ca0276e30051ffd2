//! Response status codes (TS-0004 6.6) and refusals.

use crate::tables::STATUS_CODES;

/// A response status code. Any number is kept as it came from another CSE; the constants are those of the standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Rsc(pub u16);

impl Rsc {
    /// The name in the standard.
    pub fn name(self) -> Option<&'static str> {
        STATUS_CODES.iter().find(|s| s.rsc == self).map(|s| s.name)
    }
    /// The HTTP status (TS-0009 table 6.3.2-1); by the class of the code where it is unknown.
    pub fn http_status(self) -> u16 {
        let by_class = match self.0 / 1000 {
            1 => 202,
            2 => 200,
            4 => 400,
            _ => 500,
        };
        STATUS_CODES.iter().find(|s| s.rsc == self).map_or(by_class, |s| s.http)
    }
    /// 1xxx or 2xxx.
    pub fn is_success(self) -> bool {
        (1000..3000).contains(&self.0)
    }
}

impl std::fmt::Display for Rsc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a request is not done: the status and a text for the person who debugs the client. Nothing was changed; whether
/// to retry is said by the status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{rsc}: {debug}")]
pub struct Refusal {
    /// Status.
    pub rsc: Rsc,
    /// What was wrong.
    pub debug: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(rsc: Rsc, debug: impl Into<String>) -> Self {
        Self { rsc, debug: debug.into() }
    }
    /// BAD_REQUEST.
    pub fn bad_request(debug: impl Into<String>) -> Self {
        Self::new(Rsc::BAD_REQUEST, debug)
    }
    /// NOT_IMPLEMENTED.
    pub fn not_implemented(debug: impl Into<String>) -> Self {
        Self::new(Rsc::NOT_IMPLEMENTED, debug)
    }
}
