//! Sealed segments: immutable files of many records of one group.
//!
//! ```text
//!  0                       8       12      16                              32
//! +-----------------------+-------+-------+-------------------------------+
//! | magic "oneSEG01"      |version|count  | group                         |  u64 u32 u32 [u8;16]
//! +-----------------------+-------+-------+---------------+---------------+
//! | first seq             | last seq      | records_bytes |       0       |  u64 u64 u64 u64
//! +-----------------------+---------------+---------------+---------------+ 64
//! | records as they are, one after the other: records_bytes               |
//! +-----------------------------------------------------------------------+
//! | index, count times: seq u64, offset u32, len u32; rising, offset from the start of the file
//! +-------+-------+---------------+-------+-------+-----------------------+
//! |crc 1  |crc 2  | file bytes    |version|crc 3  | magic "oneSEGE1"      |  footer: u32 u32 u64 u32 u32 u64
//! +-------+-------+---------------+-------+-------+-----------------------+
//! ```
//! Numbers are little-endian, checksums CRC-32C: 1 over header and records, 2 over the index, 3 over the footer before it.
//! Both of the first two together (`crc 1 << 32 | crc 2`) are the segment's checksum in manifests. The range first..last
//! is what the segment speaks for: a record in it that is not in the index was evicted, or never kept.
//!
//! A segment travels as the bytes of its file.

mod read;
mod write;

use onemec_wire::{GroupId, Seq};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use read::{OpenSegments, Segment};
pub(super) use write::write;
pub use write::{ReceivedSegment, SegmentWriter};

const MAGIC: [u8; 8] = *b"oneSEG01";
const MAGIC_END: [u8; 8] = *b"oneSEGE1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
const ENTRY_BYTES: usize = 16;
const FOOTER_BYTES: usize = 32;
/// Longest segment that is read or taken in: a few of the longest records.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// A line of a group's manifest: what a segment holds, and by which checksum it is told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SegmentInfo {
    /// First place that it speaks for.
    pub first: Seq,
    /// Last place that it speaks for.
    pub last: Seq,
    /// Its checksum.
    pub checksum: u64,
    /// Length of the file.
    pub bytes: u64,
    /// Records in it.
    pub records: u32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    count: U32,
    group: GroupId,
    first: U64,
    last: U64,
    records_bytes: U64,
    zero: U64,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct IndexEntry {
    seq: U64,
    offset: U32,
    len: U32,
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Footer {
    body_crc: U32,
    index_crc: U32,
    bytes: U64,
    version: U32,
    footer_crc: U32,
    magic: [u8; 8],
}

impl Header {
    /// Reads it and checks that its numbers fit together. Says where the index begins and how long the file is.
    fn read(bytes: &[u8]) -> Option<(Self, u64, u64)> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let index_at = header.records_bytes.get().checked_add(HEADER_BYTES as u64)?;
        let end = index_at.checked_add(u64::from(header.count.get()) * ENTRY_BYTES as u64 + FOOTER_BYTES as u64)?;
        let right = header.magic == MAGIC
            && header.version.get() == VERSION
            && end <= SEGMENT_BYTES_MAX
            && header.first.get() <= header.last.get();
        right.then_some((header, index_at, end))
    }
}

impl Footer {
    fn new(body_crc: u32, index_crc: u32, bytes: u64) -> Self {
        let mut footer = Self {
            body_crc: U32::new(body_crc),
            index_crc: U32::new(index_crc),
            bytes: U64::new(bytes),
            version: U32::new(VERSION),
            footer_crc: U32::ZERO,
            magic: MAGIC_END,
        };
        footer.footer_crc = U32::new(footer.sum());
        footer
    }

    fn sum(&self) -> u32 {
        crc32c::crc32c(self.as_bytes().get(..20).unwrap_or_default())
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let footer = Self::read_from_bytes(bytes).ok()?;
        let right =
            footer.magic == MAGIC_END && footer.version.get() == VERSION && footer.footer_crc.get() == footer.sum();
        right.then_some(footer)
    }

    fn checksum(&self) -> u64 {
        u64::from(self.body_crc.get()) << 32 | u64::from(self.index_crc.get())
    }
}

fn info(header: &Header, footer: &Footer) -> SegmentInfo {
    SegmentInfo {
        first: Seq(header.first.get()),
        last: Seq(header.last.get()),
        checksum: footer.checksum(),
        bytes: footer.bytes.get(),
        records: header.count.get(),
    }
}
