//! The bytes of an append file.
//!
//! ```text
//!  file "log-<serial, 16 hex digits>":
//!  0                       8               16              24
//! +-----------------------+-------+-------+---------------+---------------+
//! | magic "oneAPND1"      |version|   0   | serial        | first_lsn     |  u64 u32 u32 u64 u64
//! +-------+-------+-------+-------+-------+---------------+---------------+ 32
//! | crc   | salt  | zero; the same 40 bytes again at 2048; zero up to 4096 |
//! +-------+-------+-------------------------------------------------------+ 4096
//! | frame | frame | ...                            | zeros or older bytes |
//!
//!  frame, starting at a multiple of 8:
//!  0       4       8       12      16              24      28
//! +-------+-------+-------+-------+---------------+-------+-------+---------+------+
//! | magic | crc   | len   |kind|0 | lsn           | open  |serial | payload | pad  |  u32 u32 u32 u8 [u8;3] u64 u32 u32
//! +-------+-------+-------+-------+---------------+-------+-------+---------+------+
//! ```
//! Numbers are little-endian, checksums are CRC-32C. A frame's checksum begins with the file's salt, and covers
//! its header from `len` on and its payload; without the salt, which is random, nobody outside can make bytes that pass
//! for a frame when they lie inside a damaged one.
//! `lsn` counts frames without a gap over all files. `open` says how many frames directly before this one were not yet
//! known to be synced when this one was written: everything before `lsn - open` was. So a frame that is missing
//! although a later frame counts it as synced is damage, and any other missing frame is merely the torn end.
//! `serial` (its low 32 bits) tells the frames of this life of the file from those of an earlier one.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of an append file.
pub const FILE_MAGIC: [u8; 8] = *b"oneAPND1";
/// Version of the layout.
pub const FILE_VERSION: u32 = 1;
/// Where the first frame begins.
pub const FILE_HEADER_BYTES: u64 = 4096;
const SECOND_COPY: usize = 2048;
/// First bytes of a frame.
pub const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"oAf1");
/// Length of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 32;
/// Kinds from here on belong to this module.
pub const KIND_OWN: u8 = 0xF0;
/// A frame without content, written after a sync: shows that everything before it was synced.
pub const KIND_MARK: u8 = 0xF0;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FileHeader {
    magic: [u8; 8],
    version: U32,
    zero: U32,
    serial: U64,
    first_lsn: U64,
    crc: U32,
    salt: U32,
}

impl FileHeader {
    pub(super) fn new(serial: u64, first_lsn: u64, salt: u32) -> Self {
        let mut header = Self {
            magic: FILE_MAGIC,
            version: U32::new(FILE_VERSION),
            zero: U32::ZERO,
            serial: U64::new(serial),
            first_lsn: U64::new(first_lsn),
            crc: U32::ZERO,
            salt: U32::new(salt),
        };
        header.crc = U32::new(crc32c::crc32c(header.as_bytes()));
        header
    }

    /// The `first_lsn` and the salt of the file with this serial, if one of the two copies in the bytes is its header.
    pub(super) fn read(bytes: &[u8], serial: u64) -> Option<(u64, u32)> {
        let copies = [Some(bytes), bytes.get(SECOND_COPY..)];
        copies.into_iter().flatten().find_map(|copy| Self::read_copy(copy, serial))
    }

    fn read_copy(bytes: &[u8], serial: u64) -> Option<(u64, u32)> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let mut plain = header;
        plain.crc = U32::ZERO;
        let right = header.magic == FILE_MAGIC
            && header.version.get() == FILE_VERSION
            && header.serial.get() == serial
            && header.crc.get() == crc32c::crc32c(plain.as_bytes());
        right.then(|| (header.first_lsn.get(), header.salt.get()))
    }

    /// The block at the beginning of the file.
    pub(super) fn block(&self) -> Vec<u8> {
        let mut block = vec![0; FILE_HEADER_BYTES as usize];
        block.splice(..size_of::<Self>(), self.as_bytes().iter().copied());
        block.splice(SECOND_COPY..SECOND_COPY + size_of::<Self>(), self.as_bytes().iter().copied());
        block
    }
}

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct FrameHeader {
    pub(super) magic: U32,
    pub(super) crc: U32,
    pub(super) len: U32,
    pub(super) kind: u8,
    pub(super) zero: [u8; 3],
    pub(super) lsn: U64,
    pub(super) open: U32,
    pub(super) serial: U32,
}

impl FrameHeader {
    pub(super) fn new(serial: u64, lsn: u64, open: u32, kind: u8, len: u32) -> Self {
        Self {
            magic: U32::new(FRAME_MAGIC),
            crc: U32::ZERO,
            len: U32::new(len),
            kind,
            zero: [0; 3],
            lsn: U64::new(lsn),
            open: U32::new(open),
            serial: U32::new(serial as u32),
        }
    }

    pub(super) fn sum<'a>(&self, salt: u32, payload: impl Iterator<Item = &'a [u8]>) -> u32 {
        let salted = crc32c::crc32c(&salt.to_le_bytes());
        let fixed = crc32c::crc32c_append(salted, self.as_bytes().get(8..).unwrap_or_default());
        payload.fold(fixed, crc32c::crc32c_append)
    }

    /// A header that could stand in file `serial`, with `room` bytes left in it; the checksum is not yet looked at.
    pub(super) fn read(bytes: &[u8], serial: u64, room: u64) -> Option<Self> {
        let (header, _) = Self::read_from_prefix(bytes).ok()?;
        let plausible = header.magic.get() == FRAME_MAGIC
            && header.serial.get() == serial as u32
            && header.zero == [0; 3]
            && u64::from(header.open.get()) < header.lsn.get()
            && frame_bytes(header.len.get() as usize) <= room;
        plausible.then_some(header)
    }
}

/// Room that a payload takes in a file.
pub(super) fn frame_bytes(payload: usize) -> u64 {
    (FRAME_HEADER_BYTES + payload.next_multiple_of(8)) as u64
}

/// Name of the file with this serial.
pub(super) fn file_name(serial: u64) -> String {
    format!("log-{serial:016x}")
}

/// The serial in a file's name.
pub(super) fn serial_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("log-").filter(|d| d.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_as_drawn() {
        assert_eq!(size_of::<FrameHeader>(), FRAME_HEADER_BYTES);
        assert_eq!(size_of::<FileHeader>(), 40);
        let mut block = FileHeader::new(7, 9, 5).block();
        assert_eq!(block.len() as u64, FILE_HEADER_BYTES);
        assert_eq!(FileHeader::read(&block, 7), Some((9, 5)));
        assert_eq!(FileHeader::read(&block, 8), None);
        block[20] ^= 1;
        assert_eq!(FileHeader::read(&block, 7), Some((9, 5)), "the second copy");
        assert_eq!(serial_of(&file_name(0xabc)), Some(0xabc));
    }
}
