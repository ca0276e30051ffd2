//! What a device program can run into.

use crate::http1::HttpError;

/// Why a call of the library gave no result.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The CSE answered, and the answer is no. Nothing was changed; trying the same again gives the same answer.
    #[error("{what} refused: HTTP {status}, RSC {rsc}: {detail}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// HTTP status.
        status: u16,
        /// oneM2M response status code, 0 if the answer had none.
        rsc: u32,
        /// What the CSE said, shortened.
        detail: String,
        /// Where the AE is registered, when another registration has won (403 or 409 with a home).
        home: Option<String>,
    },
    /// No answer before the mark of the request ran out: it may or may not have been applied.
    #[error("{what}: no answer within {waited_ms} ms, outcome unknown; last trouble: {last}")]
    Unknown {
        /// What was asked.
        what: &'static str,
        /// How long the library tried.
        waited_ms: u64,
        /// The last thing that went wrong.
        last: String,
    },
    /// The answer is not what oneM2M says it is.
    #[error("{what}: the answer cannot be understood: {detail}")]
    BadAnswer {
        /// What was asked.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The AE is not registered yet (or has no handover token yet): call `register` first.
    #[error("{0}")]
    NotReady(&'static str),
    /// The network failed where the library does not try again.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The device's worker has ended.
    #[error("the device was stopped")]
    Stopped,
}
