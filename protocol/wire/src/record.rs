//! The record: one entry of a group's log, in the one form in which it lies in memory, travels and is stored.
//!
//! ```text
//!  0               8               16                              32
//! +-------+---+---+-------+-------+-------------------------------+
//! | magic |ver|knd| flags |   0   | head_len      | body_len      |   u16 u8 u8 u16 u16 u32 u32
//! +-------+---+---+-------+-------+---------------+---------------+ 16
//! | crc32c        |       0       | time_ms                       |   u32 u32 u64
//! +---------------+---------------+-------------------------------+ 32
//! | group (16 bytes, big-endian parts)                            |
//! +---------------------------------------------------------------+ 48
//! | context (16 bytes)                                            |
//! +-------------------------------+-------------------------------+ 64
//! | epoch                         | seq                           |   u64 u64
//! +-------------------------------+-------------------------------+ 80
//! | head: head_len bytes, the operation's control part            |
//! | body: body_len bytes, the client's bytes as they came         |
//! ```
//! Numbers are little-endian. The checksum covers the whole record, with its own four bytes as zero.

use bytes::{Bytes, BytesMut};
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ids::{ContextId, Epoch, GroupId, Seq};

/// First two bytes of every record ("oR").
pub const RECORD_MAGIC: u16 = u16::from_le_bytes(*b"oR");
/// Version of the record layout.
pub const RECORD_VERSION: u8 = 1;
/// Length of [`RecordHeader`].
pub const RECORD_HEADER_BYTES: usize = 80;
/// Longest head of a record.
pub const RECORD_HEAD_BYTES_MAX: usize = 1 << 20;
/// Longest body of a record.
pub const RECORD_BODY_BYTES_MAX: usize = 16 << 20;

/// What a record does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// Nothing: marks the beginning of an epoch or fills a place.
    Noop = 0,
    /// An operation on a context's machine.
    Operation = 1,
    /// A context is created inside the group.
    CreateContext = 2,
    /// The final record of a context (rule 13).
    DeleteContext = 3,
    /// Effects of the outbox up to a position were delivered.
    OutboxCursor = 4,
    /// Timers that were due were run.
    Timers = 5,
    /// A kept record of a context that is about to join the group; the body is that record as it was.
    Adopt = 6,
    /// The state of a context that joins the group; it counts once the directory says so (rule 16).
    Join = 7,
    /// A context that left the group, or whose joining failed, takes its state and its kept records away.
    Leave = 8,
}

impl RecordKind {
    /// The kind with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            0 => Self::Noop,
            1 => Self::Operation,
            2 => Self::CreateContext,
            3 => Self::DeleteContext,
            4 => Self::OutboxCursor,
            5 => Self::Timers,
            6 => Self::Adopt,
            7 => Self::Join,
            8 => Self::Leave,
            _ => return None,
        })
    }
}

/// The fixed part of a record, as drawn at the top of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct RecordHeader {
    pub magic: U16,
    pub version: u8,
    pub kind: u8,
    pub flags: U16,
    pub zero: U16,
    pub head_len: U32,
    pub body_len: U32,
    pub crc: U32,
    pub zero2: U32,
    pub time_ms: U64,
    pub group: GroupId,
    pub context: ContextId,
    pub epoch: U64,
    pub seq: U64,
}

/// Why bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RecordError {
    /// More bytes are needed: not damage, if the source goes on.
    #[error("record is cut off: {have} of {need} bytes")]
    Short { have: usize, need: usize },
    /// The first bytes are not those of a record.
    #[error("not a record (magic {0:#06x})")]
    Magic(u16),
    /// Written by a newer version.
    #[error("record version {0} is not known here")]
    Version(u8),
    /// No such kind.
    #[error("record kind {0} is not known here")]
    Kind(u8),
    /// A length is over its limit.
    #[error("record length {0} is over the limit")]
    TooLong(usize),
    /// The checksum does not fit: the bytes are damaged.
    #[error("record checksum does not fit")]
    Checksum,
}

/// A whole record: a cheap, shared view of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    header: RecordHeader,
    bytes: Bytes,
}

/// What a new record says, apart from what is derived.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct RecordMeta {
    pub kind: RecordKind,
    pub group: GroupId,
    pub context: ContextId,
    pub epoch: Epoch,
    pub seq: Seq,
    /// Log time: milliseconds since 1970, UTC, never going back within a group.
    pub time_ms: u64,
}

impl Record {
    /// Builds a record; the one copy of head and body that its making costs.
    pub fn build(meta: RecordMeta, head: &[u8], body: &[u8]) -> Result<Self, RecordError> {
        check_lengths(head.len(), body.len())?;
        let mut header = RecordHeader {
            magic: U16::new(RECORD_MAGIC),
            version: RECORD_VERSION,
            kind: meta.kind as u8,
            flags: U16::ZERO,
            zero: U16::ZERO,
            head_len: U32::new(u32::try_from(head.len()).map_err(|_| RecordError::TooLong(head.len()))?),
            body_len: U32::new(u32::try_from(body.len()).map_err(|_| RecordError::TooLong(body.len()))?),
            crc: U32::ZERO,
            zero2: U32::ZERO,
            time_ms: U64::new(meta.time_ms),
            group: meta.group,
            context: meta.context,
            epoch: U64::new(meta.epoch.0),
            seq: U64::new(meta.seq.0),
        };
        header.crc = U32::new(checksum(&header, head, body));
        let mut bytes = BytesMut::with_capacity(RECORD_HEADER_BYTES + head.len() + body.len());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(body);
        Ok(Self { header, bytes: bytes.freeze() })
    }

    /// Reads the record at the start of `bytes`, checks its checksum, and says how long it is. Copies nothing.
    pub fn parse(bytes: &Bytes) -> Result<(Self, usize), RecordError> {
        let (header, len) = Self::peek(bytes)?;
        if bytes.len() < len {
            return Err(RecordError::Short { have: bytes.len(), need: len });
        }
        let head_end = RECORD_HEADER_BYTES + header.head_len.get() as usize;
        let (Some(head), Some(body)) = (bytes.get(RECORD_HEADER_BYTES..head_end), bytes.get(head_end..len)) else {
            return Err(RecordError::Short { have: bytes.len(), need: len });
        };
        if checksum(&header, head, body) != header.crc.get() {
            return Err(RecordError::Checksum);
        }
        Ok((Self { header, bytes: bytes.slice(..len) }, len))
    }

    /// Reads only the header at the start of `bytes` and says how long the whole record is.
    pub fn peek(bytes: &[u8]) -> Result<(RecordHeader, usize), RecordError> {
        let Ok((header, _)) = RecordHeader::read_from_prefix(bytes) else {
            return Err(RecordError::Short { have: bytes.len(), need: RECORD_HEADER_BYTES });
        };
        if header.magic.get() != RECORD_MAGIC {
            return Err(RecordError::Magic(header.magic.get()));
        }
        if header.version != RECORD_VERSION {
            return Err(RecordError::Version(header.version));
        }
        if RecordKind::from_u8(header.kind).is_none() {
            return Err(RecordError::Kind(header.kind));
        }
        let (head, body) = (header.head_len.get() as usize, header.body_len.get() as usize);
        check_lengths(head, body)?;
        Ok((header, RECORD_HEADER_BYTES + head + body))
    }

    /// What it does.
    pub fn kind(&self) -> RecordKind {
        RecordKind::from_u8(self.header.kind).unwrap_or(RecordKind::Noop)
    }
    /// Its group.
    pub fn group(&self) -> GroupId {
        self.header.group
    }
    /// The context that it concerns.
    pub fn context(&self) -> ContextId {
        self.header.context
    }
    /// The epoch under which it was made.
    pub fn epoch(&self) -> Epoch {
        Epoch(self.header.epoch.get())
    }
    /// Its place in the group's log.
    pub fn seq(&self) -> Seq {
        Seq(self.header.seq.get())
    }
    /// Its log time in milliseconds since 1970, UTC.
    pub fn time_ms(&self) -> u64 {
        self.header.time_ms.get()
    }
    /// The operation's control part.
    pub fn head(&self) -> Bytes {
        self.bytes.slice(RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + self.header.head_len.get() as usize)
    }
    /// The client's bytes.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(RECORD_HEADER_BYTES + self.header.head_len.get() as usize..)
    }
    /// The record as it travels and is stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

fn check_lengths(head: usize, body: usize) -> Result<(), RecordError> {
    if head > RECORD_HEAD_BYTES_MAX {
        return Err(RecordError::TooLong(head));
    }
    if body > RECORD_BODY_BYTES_MAX {
        return Err(RecordError::TooLong(body));
    }
    Ok(())
}

fn checksum(header: &RecordHeader, head: &[u8], body: &[u8]) -> u32 {
    let mut plain = *header;
    plain.crc = U32::ZERO;
    let crc = crc32c::crc32c(plain.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, head), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> RecordMeta {
        RecordMeta {
            kind: RecordKind::Operation,
            group: GroupId::made(1, 7, 0),
            context: ContextId::made(1, 7, 1),
            epoch: Epoch(3),
            seq: Seq(9),
            time_ms: 1_700_000_000_000,
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_built() {
        let built = Record::build(meta(), b"head", b"body!").unwrap();
        let mut long = BytesMut::from(&built.bytes()[..]);
        long.extend_from_slice(b"what follows");
        let (read, len) = Record::parse(&long.freeze()).unwrap();
        assert_eq!(len, RECORD_HEADER_BYTES + 9);
        assert_eq!(read, built);
        assert_eq!((&read.head()[..], &read.body()[..]), (&b"head"[..], &b"body!"[..]));
        assert_eq!((read.epoch(), read.seq(), read.context()), (Epoch(3), Seq(9), ContextId::made(1, 7, 1)));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_noticed() {
        let built = Record::build(meta(), b"head", b"body!").unwrap();
        for bit in 0..built.bytes().len() * 8 {
            let mut bad = built.bytes().to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Record::parse(&Bytes::from(bad)).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let built = Record::build(meta(), b"head", b"body!").unwrap();
        for len in 0..built.bytes().len() {
            assert!(matches!(Record::parse(&built.bytes().slice(..len)), Err(RecordError::Short { .. })));
        }
    }
}
