//! A group's checkpoint: what replaces the log up to one place. Written as one file, so that it changes as a whole.
//!
//! ```text
//!  0                       8       12      16                              32
//! +-----------------------+-------+-------+-------------------------------+
//! | magic "oneCKPT1"      |version|lists_b| group                         |  u64 u32 u32 [u8;16]
//! +-----------------------+-------+-------+---------------+---------------+
//! | seq                   | epoch         | floor         | generation    |  u64 u64 u64 u64
//! +-----------------------+-------+-------+-------+-------+---------------+ 64
//! | snapshot_bytes        |n_segs |n_kept |snapcrc|headcrc|                  u64 u32 u32 u32 u32
//! +-----------------------+-------+-------+-------+-------+ 88
//! | n_segs times: first u64, last u64, checksum u64, bytes u64, generation u64, records u32, 0 u32
//! | n_kept times: first u64, last u64: ranges of kept records up to seq
//! | snapshot: snapshot_bytes, the machines' state at seq, opaque here
//! ```
//! Numbers are little-endian, checksums CRC-32C: `headcrc` over header (itself as zero) and lists, `snapcrc` over the
//! snapshot. The file is `<group, 32 hex>.<generation, 16 hex>.ckp`, segments are `<group>.<generation>.seg`. Of several
//! checkpoints of a group the highest generation counts; a segment that it does not name is rubbish.
//! Records of the group in log frames before `floor` do not count: the checkpoint was received, and they are of another
//! past.

use std::path::{Path, PathBuf};

use bytes::{BufMut, Bytes, BytesMut};
use onemec_wire::{Epoch, GroupId, Seq};
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::append::Lsn;
use super::disk::{Disk, DiskError, Open, read_range, write_atomically};
use super::error::StoreError;
use super::segment::SegmentInfo;
use super::seqset::SeqSet;

const MAGIC: [u8; 8] = *b"oneCKPT1";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 88;
const SEGMENT_LINE_BYTES: usize = 48;
const RANGE_BYTES: usize = 16;
/// Longest snapshot.
pub const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;
/// Longest lists of segments and ranges.
const LISTS_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    version: U32,
    lists_bytes: U32,
    group: GroupId,
    seq: U64,
    epoch: U64,
    floor: U64,
    generation: U64,
    snapshot_bytes: U64,
    segments: U32,
    ranges: U32,
    snapshot_crc: U32,
    head_crc: U32,
}

/// A checkpoint without its snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its group.
    pub group: GroupId,
    /// The last record that it covers.
    pub seq: Seq,
    /// That record's epoch.
    pub epoch: Epoch,
    pub(super) floor: Lsn,
    pub(super) generation: u64,
    /// Segments with the numbers of their files, by range, not overlapping.
    pub(super) segments: Vec<(u64, SegmentInfo)>,
    /// Records up to `seq` that are kept.
    pub kept: SeqSet,
    pub(super) snapshot_bytes: u64,
    pub(super) snapshot_crc: u32,
}

fn group_hex(group: GroupId) -> String {
    group.0.iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn checkpoint_name(group: GroupId, generation: u64) -> String {
    format!("{}.{generation:016x}.ckp", group_hex(group))
}

pub(super) fn segment_name(group: GroupId, generation: u64) -> String {
    format!("{}.{generation:016x}.seg", group_hex(group))
}

/// A file of the folder of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupFile {
    Checkpoint(GroupId, u64),
    Segment(GroupId, u64),
}

impl GroupFile {
    pub(super) fn of(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (hex, generation, kind) = (parts.next()?, parts.next()?, parts.next()?);
        if hex.len() != 32 || generation.len() != 16 || parts.next().is_some() {
            return None;
        }
        let group = GroupId(u128::from_str_radix(hex, 16).ok()?.to_be_bytes());
        let generation = u64::from_str_radix(generation, 16).ok()?;
        match kind {
            "ckp" => Some(Self::Checkpoint(group, generation)),
            "seg" => Some(Self::Segment(group, generation)),
            _ => None,
        }
    }
}

impl Checkpoint {
    fn encode(&mut self, snapshot: &[u8]) -> Result<Bytes, StoreError> {
        let ranges = self.kept.ranges();
        let lists = self.segments.len() * SEGMENT_LINE_BYTES + ranges.len() * RANGE_BYTES;
        if lists > LISTS_BYTES_MAX {
            return Err(StoreError::TooLong { bytes: lists as u64, bytes_max: LISTS_BYTES_MAX as u64 });
        }
        if snapshot.len() as u64 > SNAPSHOT_BYTES_MAX {
            return Err(StoreError::TooLong { bytes: snapshot.len() as u64, bytes_max: SNAPSHOT_BYTES_MAX });
        }
        (self.snapshot_bytes, self.snapshot_crc) = (snapshot.len() as u64, crc32c::crc32c(snapshot));
        let mut header = Header {
            magic: MAGIC,
            version: U32::new(VERSION),
            lists_bytes: U32::new(lists as u32),
            group: self.group,
            seq: U64::new(self.seq.0),
            epoch: U64::new(self.epoch.0),
            floor: U64::new(self.floor),
            generation: U64::new(self.generation),
            snapshot_bytes: U64::new(self.snapshot_bytes),
            segments: U32::new(self.segments.len() as u32),
            ranges: U32::new(ranges.len() as u32),
            snapshot_crc: U32::new(self.snapshot_crc),
            head_crc: U32::ZERO,
        };
        let mut out = BytesMut::with_capacity(HEADER_BYTES + lists);
        out.put_slice(header.as_bytes());
        for (generation, info) in &self.segments {
            for n in [info.first.0, info.last.0, info.checksum, info.bytes, *generation, u64::from(info.records)] {
                out.put_u64_le(n);
            }
        }
        for (first, last) in ranges {
            out.put_u64_le(first.0);
            out.put_u64_le(last.0);
        }
        header.head_crc = U32::new(crc32c::crc32c(&out));
        if let Some(start) = out.get_mut(..HEADER_BYTES) {
            start.copy_from_slice(header.as_bytes());
        }
        Ok(out.freeze())
    }

    /// Writes it as the group's newest. The folder is not yet synced.
    pub(super) fn write(&mut self, disk: &dyn Disk, dir: &Path, snapshot: &[u8]) -> Result<(), StoreError> {
        let head = self.encode(snapshot)?;
        let name = checkpoint_name(self.group, self.generation);
        Ok(write_atomically(disk, dir, &name, &[&head, snapshot], false)?)
    }

    pub(super) fn path(&self, dir: &Path) -> PathBuf {
        dir.join(checkpoint_name(self.group, self.generation))
    }

    /// Reads the file of this name, without the snapshot.
    pub(super) fn read(disk: &dyn Disk, dir: &Path, group: GroupId, generation: u64) -> Result<Self, StoreError> {
        let path = dir.join(checkpoint_name(group, generation));
        let damaged = |offset, what| StoreError::Damaged { file: path.clone(), offset, what };
        let file = disk.open(&path, Open::Read)?;
        let head = read_range(&*file, 0, HEADER_BYTES)?;
        let header = Header::read_from_bytes(&head).map_err(|_| damaged(0, "header"))?;
        let lists_bytes = header.lists_bytes.get() as usize;
        let expected = header.segments.get() as usize * SEGMENT_LINE_BYTES + header.ranges.get() as usize * RANGE_BYTES;
        if header.magic != MAGIC
            || header.version.get() != VERSION
            || lists_bytes > LISTS_BYTES_MAX
            || lists_bytes != expected
        {
            return Err(damaged(0, "header"));
        }
        let lists = read_range(&*file, HEADER_BYTES as u64, lists_bytes)?;
        let mut plain = header;
        plain.head_crc = U32::ZERO;
        if crc32c::crc32c_append(crc32c::crc32c(plain.as_bytes()), &lists) != header.head_crc.get()
            || header.group != group
            || header.generation.get() != generation
        {
            return Err(damaged(0, "header or lists"));
        }
        let (segments, kept) =
            Self::lists(&lists, header.segments.get() as usize).ok_or_else(|| damaged(HEADER_BYTES as u64, "lists"))?;
        Ok(Self {
            group,
            seq: Seq(header.seq.get()),
            epoch: Epoch(header.epoch.get()),
            floor: header.floor.get(),
            generation,
            segments,
            kept,
            snapshot_bytes: header.snapshot_bytes.get(),
            snapshot_crc: header.snapshot_crc.get(),
        })
    }

    fn lists(lists: &[u8], segments: usize) -> Option<(Vec<(u64, SegmentInfo)>, SeqSet)> {
        let number = |bytes: &[u8], n: usize| -> Option<u64> {
            Some(u64::from_le_bytes(bytes.get(n * 8..n * 8 + 8)?.try_into().ok()?))
        };
        let (lines, ranges) = lists.split_at_checked(segments * SEGMENT_LINE_BYTES)?;
        let line = |l: &[u8]| {
            let info = SegmentInfo {
                first: Seq(number(l, 0)?),
                last: Seq(number(l, 1)?),
                checksum: number(l, 2)?,
                bytes: number(l, 3)?,
                records: number(l, 5)? as u32,
            };
            Some((number(l, 4)?, info))
        };
        let segments = lines.chunks_exact(SEGMENT_LINE_BYTES).map(line).collect::<Option<Vec<_>>>()?;
        let range = |r: &[u8]| Some((Seq(number(r, 0)?), Seq(number(r, 1)?)));
        let ranges = ranges.chunks_exact(RANGE_BYTES).map(range).collect::<Option<Vec<_>>>()?;
        Some((segments, SeqSet::from_ranges(ranges)?))
    }

    /// Reads and checks the snapshot.
    pub(super) fn snapshot(&self, disk: &dyn Disk, dir: &Path) -> Result<Bytes, StoreError> {
        let path = self.path(dir);
        let lists = self.segments.len() * SEGMENT_LINE_BYTES + self.kept.ranges().len() * RANGE_BYTES;
        let offset = (HEADER_BYTES + lists) as u64;
        let damaged = |what| StoreError::Damaged { file: path.clone(), offset, what };
        if self.snapshot_bytes > SNAPSHOT_BYTES_MAX {
            return Err(damaged("length of the snapshot"));
        }
        let file = disk.open(&path, Open::Read)?;
        let snapshot = read_range(&*file, offset, self.snapshot_bytes as usize)?;
        if snapshot.len() as u64 != self.snapshot_bytes || crc32c::crc32c(&snapshot) != self.snapshot_crc {
            return Err(damaged("snapshot"));
        }
        Ok(snapshot)
    }

    pub(super) fn remove(&self, disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
        disk.remove(&self.path(dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::SimDisk;

    fn sample() -> Checkpoint {
        let info = SegmentInfo { first: Seq(1), last: Seq(5), checksum: 99, bytes: 1000, records: 3 };
        Checkpoint {
            group: GroupId::made(1, 2, 3),
            seq: Seq(7),
            epoch: Epoch(2),
            floor: 11,
            generation: 4,
            segments: vec![(3, info)],
            kept: SeqSet::from_ranges([(Seq(1), Seq(2)), (Seq(5), Seq(5))]).unwrap(),
            snapshot_bytes: 0,
            snapshot_crc: 0,
        }
    }

    #[test]
    fn it_is_read_as_it_was_written_and_every_flipped_bit_is_noticed() {
        let (disk, dir) = (SimDisk::new(), Path::new("/g"));
        let mut written = sample();
        written.write(&disk, dir, b"state").unwrap();
        let read = Checkpoint::read(&disk, dir, written.group, 4).unwrap();
        assert_eq!(read, written);
        assert_eq!(&read.snapshot(&disk, dir).unwrap()[..], b"state");
        let path = written.path(dir);
        let bytes = disk.files().iter().find(|(p, _)| *p == path).unwrap().1;
        for bit in 0..bytes * 8 {
            assert!(disk.flip_bit(&path, bit / 8, (bit % 8) as u8));
            let result = Checkpoint::read(&disk, dir, written.group, 4).and_then(|c| c.snapshot(&disk, dir));
            assert!(result.is_err(), "bit {bit}");
            assert!(disk.flip_bit(&path, bit / 8, (bit % 8) as u8));
        }
    }

    #[test]
    fn names_are_read_back() {
        let id = GroupId::made(1, 2, 3);
        assert_eq!(GroupFile::of(&checkpoint_name(id, 9)), Some(GroupFile::Checkpoint(id, 9)));
        assert_eq!(GroupFile::of(&segment_name(id, 9)), Some(GroupFile::Segment(id, 9)));
        assert_eq!(GroupFile::of("something else"), None);
    }
}
