//! Datagrams: beats and gossip, whose loss does not matter. No frame: a short header of their own.
//!
//! ```text
//!  0       2   3   4       6       8
//! +-------+---+---+-------+-------+
//! | magic |ver| 0 |service|   0   |   u16 u8 u8 u16 u16, then the service's bytes
//! +-------+---+---+-------+-------+
//! ```

use bytes::{Bytes, BytesMut};
use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::code::ProtocolError;
use crate::frame::check;
use crate::limits::{DATAGRAM_BYTES_MAX, DATAGRAM_HEADER_BYTES, PROTOCOL_VERSION};
use crate::service::ServiceId;

/// First two bytes of every datagram ("oD").
pub const DATAGRAM_MAGIC: u16 = u16::from_le_bytes(*b"oD");

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: U16,
    version: u8,
    zero: u8,
    service: U16,
    zero2: U16,
}

/// A datagram with its header.
pub fn encode(service: ServiceId, body: &[u8]) -> Result<Bytes, ProtocolError> {
    check("datagram", DATAGRAM_HEADER_BYTES + body.len(), DATAGRAM_BYTES_MAX)?;
    let service = U16::new(service.0);
    let header =
        Header { magic: U16::new(DATAGRAM_MAGIC), version: PROTOCOL_VERSION, zero: 0, service, zero2: U16::ZERO };
    let mut all = BytesMut::with_capacity(DATAGRAM_HEADER_BYTES + body.len());
    all.extend_from_slice(header.as_bytes());
    all.extend_from_slice(body);
    Ok(all.freeze())
}

/// The service and its bytes.
pub fn decode(datagram: &Bytes) -> Result<(ServiceId, Bytes), ProtocolError> {
    let Ok((header, _)) = Header::read_from_prefix(datagram) else {
        return Err(ProtocolError::Truncated("a datagram"));
    };
    if header.magic.get() != DATAGRAM_MAGIC {
        return Err(ProtocolError::Magic(header.magic.get()));
    }
    if header.version != PROTOCOL_VERSION {
        return Err(ProtocolError::Version(header.version));
    }
    if header.zero != 0 || header.zero2.get() != 0 {
        return Err(ProtocolError::Field("of a datagram"));
    }
    Ok((ServiceId(header.service.get()), datagram.slice(DATAGRAM_HEADER_BYTES..)))
}
