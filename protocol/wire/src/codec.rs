//! The one place where bodies are encoded: bincode 2, fixed-size integers, little-endian, with a length limit.
//!
//! The crate bincode is finished and no longer maintained; a test reads the golden frames with `wincode`, so that it can
//! be replaced here.

use bytes::Bytes;

use crate::limits::BODY_BYTES_MAX;

pub use bincode::{Decode, Encode};

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<BODY_BYTES_MAX>()
}

/// Why a body was not encoded or decoded. Nothing was changed; trying again gives the same.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The value is longer than [`BODY_BYTES_MAX`] or cannot be expressed.
    #[error("value cannot be encoded: {0}")]
    Encode(String),
    /// The bytes are not such a value.
    #[error("bytes cannot be decoded: {0}")]
    Decode(String),
    /// The value ended before the bytes did.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Encodes a value.
pub fn encode<T: Encode>(value: &T) -> Result<Bytes, CodecError> {
    bincode::encode_to_vec(value, config()).map(Bytes::from).map_err(|e| CodecError::Encode(e.to_string()))
}

/// Decodes a value that fills `bytes` exactly. Allocates no more than the limit, whatever the bytes say.
pub fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) = bincode::decode_from_slice(bytes, config()).map_err(|e| CodecError::Decode(e.to_string()))?;
    match bytes.len().checked_sub(used) {
        None | Some(0) => Ok(value),
        Some(more) => Err(CodecError::Trailing(more)),
    }
}

/// Longest encoded state (a snapshot of a group or of the directory). States never travel in a frame's body: they are raw
/// bytes of a transfer stream or a file, with a checksum of their own.
pub const STATE_BYTES_MAX: usize = 1 << 30;

fn state_config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<STATE_BYTES_MAX>()
}

/// Encodes a state.
pub fn encode_state<T: Encode>(state: &T) -> Result<Bytes, CodecError> {
    bincode::encode_to_vec(state, state_config()).map(Bytes::from).map_err(|e| CodecError::Encode(e.to_string()))
}

/// Decodes a state that fills `bytes` exactly.
pub fn decode_state<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, used) =
        bincode::decode_from_slice(bytes, state_config()).map_err(|e| CodecError::Decode(e.to_string()))?;
    match bytes.len().checked_sub(used) {
        None | Some(0) => Ok(value),
        Some(more) => Err(CodecError::Trailing(more)),
    }
}
