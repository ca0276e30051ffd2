//! Writing segments: from records, and from pieces that a peer sent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{GroupId, Seq};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U32, U64};

use super::{
    ENTRY_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Header, IndexEntry, MAGIC, SEGMENT_BYTES_MAX, SegmentInfo,
    VERSION, info,
};
use crate::store::disk::{Disk, DiskFile, Open, TEMPORARY, write_atomically};
use crate::store::error::StoreError;

/// Writes a segment of `records` (rising) that speaks for `first..=last`. The folder is not yet synced.
pub(in crate::store) fn write(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    group: GroupId,
    range: (Seq, Seq),
    records: &[Record],
) -> Result<SegmentInfo, StoreError> {
    let records_bytes: usize = records.iter().map(|r| r.bytes().len()).sum();
    let bytes = (HEADER_BYTES + records_bytes + records.len() * ENTRY_BYTES + FOOTER_BYTES) as u64;
    if bytes > SEGMENT_BYTES_MAX {
        return Err(StoreError::TooLong { bytes, bytes_max: SEGMENT_BYTES_MAX });
    }
    let header = Header {
        magic: MAGIC,
        version: U32::new(VERSION),
        count: U32::new(records.len() as u32),
        group,
        first: U64::new(range.0.0),
        last: U64::new(range.1.0),
        records_bytes: U64::new(records_bytes as u64),
        zero: U64::ZERO,
    };
    let mut body_crc = crc32c::crc32c(header.as_bytes());
    let mut index = Vec::with_capacity(records.len() * ENTRY_BYTES);
    let mut offset = HEADER_BYTES as u32;
    let mut parts: Vec<&[u8]> = Vec::with_capacity(records.len() + 3);
    parts.push(header.as_bytes());
    for record in records {
        let len = record.bytes().len() as u32;
        body_crc = crc32c::crc32c_append(body_crc, record.bytes());
        let entry = IndexEntry { seq: U64::new(record.seq().0), offset: U32::new(offset), len: U32::new(len) };
        index.extend_from_slice(entry.as_bytes());
        parts.push(record.bytes());
        offset += len;
    }
    let footer = Footer::new(body_crc, crc32c::crc32c(&index), bytes);
    parts.push(&index);
    parts.push(footer.as_bytes());
    write_atomically(disk, dir, name, &parts, false)?;
    Ok(info(&header, &footer))
}

/// Takes in a segment piece by piece as it is received, and gives it its name only when it is what was announced.
pub struct SegmentWriter {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    temporary: PathBuf,
    path: PathBuf,
    pub(in crate::store) generation: u64,
    group: GroupId,
    expected: SegmentInfo,
    at: u64,
    head: Vec<u8>,
    parsed: Option<(Header, u64, u64)>,
    body_crc: u32,
    index_crc: u32,
    foot: Vec<u8>,
    finished: bool,
}

/// A segment that was received whole and is synced; it counts once a checkpoint names it.
#[derive(Debug)]
pub struct ReceivedSegment {
    pub(in crate::store) generation: u64,
    /// What it holds.
    pub info: SegmentInfo,
}

impl SegmentWriter {
    pub(in crate::store) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        generation: u64,
        group: GroupId,
        expected: SegmentInfo,
    ) -> Result<Self, StoreError> {
        if expected.bytes > SEGMENT_BYTES_MAX {
            return Err(StoreError::TooLong { bytes: expected.bytes, bytes_max: SEGMENT_BYTES_MAX });
        }
        let mut temporary = path.clone().into_os_string();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let file = disk.open(&temporary, Open::Create)?;
        Ok(Self {
            disk,
            file,
            temporary,
            path,
            generation,
            group,
            expected,
            at: 0,
            head: Vec::with_capacity(HEADER_BYTES),
            parsed: None,
            body_crc: 0,
            index_crc: 0,
            foot: Vec::with_capacity(FOOTER_BYTES),
            finished: false,
        })
    }

    /// The next bytes, written as they are.
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<(), StoreError> {
        let more: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        if self.at + more > self.expected.bytes {
            return Err(StoreError::Received("a segment is longer than announced"));
        }
        let parts: Vec<&[u8]> = pieces.iter().map(|p| &p[..]).collect();
        self.file.write_at(self.at, &parts)?;
        for part in parts {
            self.sum(part)?;
        }
        Ok(())
    }

    fn sum(&mut self, mut part: &[u8]) -> Result<(), StoreError> {
        while !part.is_empty() {
            let end = match &self.parsed {
                None => HEADER_BYTES as u64,
                Some((_, index_at, _)) if self.at < *index_at => *index_at,
                Some((_, _, end)) if self.at < end - FOOTER_BYTES as u64 => end - FOOTER_BYTES as u64,
                Some((_, _, end)) => *end,
            };
            let n = usize::try_from(end.saturating_sub(self.at)).unwrap_or(usize::MAX).min(part.len());
            if n == 0 {
                return Err(StoreError::Received("a segment is longer than it says"));
            }
            let (now, rest) = part.split_at(n);
            match &self.parsed {
                None => {
                    self.body_crc = crc32c::crc32c_append(self.body_crc, now);
                    self.head.extend_from_slice(now);
                }
                Some((_, index_at, _)) if self.at < *index_at => {
                    self.body_crc = crc32c::crc32c_append(self.body_crc, now);
                }
                Some((_, _, end)) if self.at < end - FOOTER_BYTES as u64 => {
                    self.index_crc = crc32c::crc32c_append(self.index_crc, now);
                }
                Some(_) => self.foot.extend_from_slice(now),
            }
            self.at += n as u64;
            part = rest;
            if self.parsed.is_none() && self.head.len() == HEADER_BYTES {
                let parsed =
                    Header::read(&self.head).filter(|(h, _, end)| h.group == self.group && *end == self.expected.bytes);
                self.parsed = Some(parsed.ok_or(StoreError::Received("not the header of the announced segment"))?);
            }
        }
        Ok(())
    }

    /// Checks the whole and makes it durable, except for the folder.
    pub fn finish(mut self) -> Result<ReceivedSegment, StoreError> {
        let whole = self.parsed.as_ref().filter(|_| self.at == self.expected.bytes);
        let footer = Footer::read(&self.foot);
        let (Some((header, _, _)), Some(footer)) = (whole, footer) else {
            return Err(StoreError::Received("a segment is not complete"));
        };
        if footer.body_crc.get() != self.body_crc
            || footer.index_crc.get() != self.index_crc
            || info(header, &footer) != self.expected
        {
            return Err(StoreError::Received("a segment's checksum does not fit"));
        }
        self.file.sync()?;
        self.disk.rename(&self.temporary, &self.path)?;
        self.finished = true;
        Ok(ReceivedSegment { generation: self.generation, info: self.expected })
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if !self.finished {
            // If this fails too, the next start removes it.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
