//! Bytes of the directory's messages, log records and snapshots: bincode as in [`onemec_wire::codec`], with a version in
//! front and a larger limit, since a snapshot is longer than a frame's body may be.

use bincode::{Decode, Encode};
use bytes::Bytes;

/// Version of everything that this module encodes.
pub(crate) const VERSION: u8 = 1;
/// Longest value.
pub(crate) const VALUE_BYTES_MAX: usize = 1 << 30;

/// Why bytes are not a value of ours. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// A newer node wrote it.
    #[error("version {0} is not known here")]
    Version(u8),
    /// The bytes are damaged or from something else.
    #[error("not readable: {0}")]
    Bad(String),
}

fn config() -> impl bincode::config::Config {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<VALUE_BYTES_MAX>()
}

/// Encodes a value. Only a value that cannot be expressed fails, and none of ours can be that.
pub(crate) fn encode<T: Encode>(value: &T) -> Result<Bytes, CodecError> {
    let mut out = vec![VERSION];
    bincode::encode_into_std_write(value, &mut out, config()).map_err(|e| CodecError::Bad(e.to_string()))?;
    Ok(out.into())
}

/// Decodes a value that fills `bytes`.
pub(crate) fn decode<T: Decode<()>>(bytes: &[u8]) -> Result<T, CodecError> {
    let (version, body) = bytes.split_first().ok_or_else(|| CodecError::Bad("empty".into()))?;
    if *version != VERSION {
        return Err(CodecError::Version(*version));
    }
    let (value, used) = bincode::decode_from_slice(body, config()).map_err(|e| CodecError::Bad(e.to_string()))?;
    if used == body.len() { Ok(value) } else { Err(CodecError::Bad(format!("{} bytes follow", body.len() - used))) }
}

/// Length of a value's encoding.
pub(crate) fn encoded_len<T: Encode>(value: &T) -> usize {
    struct Count(usize);
    impl bincode::enc::write::Writer for Count {
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0 += bytes.len();
            Ok(())
        }
    }
    let mut encoder = bincode::enc::EncoderImpl::new(Count(1), config());
    // A counter never fails; what cannot be expressed counts as too long.
    if value.encode(&mut encoder).is_err() { usize::MAX } else { encoder.into_writer().0 }
}
