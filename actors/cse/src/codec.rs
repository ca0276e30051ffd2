//! bincode for control parts and snapshots, with the options of the wire protocol.

use bytes::Bytes;

/// Longest control part of an operation or answer.
const HEAD_BYTES_MAX: usize = 1 << 20;
/// Longest body of an answer that is not a client's.
const BODY_BYTES_MAX: usize = 64 << 20;
/// Longest snapshot of one context.
const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// Writes a control part.
pub(crate) fn encode<T: bincode::Encode>(value: &T) -> Bytes {
    let config = bincode::config::standard().with_fixed_int_encoding();
    // Encoding into memory fails only for types that refuse to be encoded; none of ours does.
    bincode::encode_to_vec(value, config).map_or_else(|_| Bytes::new(), Bytes::from)
}

/// Reads a control part; `None` if it is damaged or from a newer version.
pub(crate) fn decode<T: bincode::Decode<()>>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_fixed_int_encoding().with_limit::<HEAD_BYTES_MAX>();
    whole(bincode::decode_from_slice(bytes, config), bytes.len()).ok()
}

/// Reads the body of an answer.
pub(crate) fn decode_body<T: bincode::Decode<()>>(bytes: &[u8]) -> Option<T> {
    let config = bincode::config::standard().with_fixed_int_encoding().with_limit::<BODY_BYTES_MAX>();
    whole(bincode::decode_from_slice(bytes, config), bytes.len()).ok()
}

/// Reads a snapshot.
pub(crate) fn decode_snapshot<T: bincode::Decode<()>>(bytes: &[u8]) -> Result<T, String> {
    let config = bincode::config::standard().with_fixed_int_encoding().with_limit::<SNAPSHOT_BYTES_MAX>();
    whole(bincode::decode_from_slice(bytes, config), bytes.len())
}

fn whole<T>(read: Result<(T, usize), bincode::error::DecodeError>, len: usize) -> Result<T, String> {
    let (value, used) = read.map_err(|e| e.to_string())?;
    if used == len { Ok(value) } else { Err(format!("{} bytes are left over", len - used)) }
}
