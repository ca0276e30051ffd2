//! Reading segments.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{GroupId, Seq};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use zerocopy::FromBytes;

use super::{
    ENTRY_BYTES, FOOTER_BYTES, Footer, HEADER_BYTES, Header, IndexEntry, SEGMENT_BYTES_MAX, SegmentInfo, info,
};
use crate::store::disk::{Disk, DiskFile, Open, read_all, read_range};
use crate::store::error::StoreError;

/// A sealed segment of the manifest. When it was replaced ([`Segment::doom`]), its file goes with the last holder.
pub struct Segment {
    disk: Arc<dyn Disk>,
    /// The file's number: unique on the node, never used again.
    pub(in crate::store) generation: u64,
    group: GroupId,
    path: PathBuf,
    info: SegmentInfo,
    doomed: AtomicBool,
}

/// An open file and its index.
struct Opened {
    file: Arc<dyn DiskFile>,
    index: Vec<IndexEntry>,
}

/// Segments that are open at the moment, for all groups; bounded.
pub struct OpenSegments {
    inner: Mutex<Inner>,
    files_max: usize,
    index_bytes_max: usize,
}

#[derive(Default)]
struct Inner {
    open: FxHashMap<u64, (Arc<Opened>, u64)>,
    index_bytes: usize,
    uses: u64,
}

impl OpenSegments {
    /// At most so many files, and indexes of so many bytes.
    pub fn new(files_max: usize, index_bytes_max: usize) -> Self {
        Self { inner: Mutex::default(), files_max: files_max.max(1), index_bytes_max }
    }

    fn get(&self, segment: &Segment) -> Result<Arc<Opened>, StoreError> {
        {
            let mut inner = self.inner.lock();
            inner.uses += 1;
            let now = inner.uses;
            if let Some((opened, used)) = inner.open.get_mut(&segment.generation) {
                *used = now;
                return Ok(Arc::clone(opened));
            }
        }
        let opened = Arc::new(segment.open()?);
        let mut inner = self.inner.lock();
        let now = inner.uses;
        inner.index_bytes += opened.index.len() * ENTRY_BYTES;
        if let Some((old, _)) = inner.open.insert(segment.generation, (Arc::clone(&opened), now)) {
            inner.index_bytes -= old.index.len() * ENTRY_BYTES;
        }
        while inner.open.len() > 1 && (inner.open.len() > self.files_max || inner.index_bytes > self.index_bytes_max) {
            let oldest =
                inner.open.iter().filter(|(g, _)| **g != segment.generation).min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(g, _)| *g) else { break };
            inner.forget(oldest);
        }
        Ok(opened)
    }

    pub(in crate::store) fn close(&self, generation: u64) {
        self.inner.lock().forget(generation);
    }
}

impl Inner {
    fn forget(&mut self, generation: u64) {
        if let Some((opened, _)) = self.open.remove(&generation) {
            self.index_bytes -= opened.index.len() * ENTRY_BYTES;
        }
    }
}

impl Segment {
    pub(in crate::store) fn new(
        disk: Arc<dyn Disk>,
        path: PathBuf,
        generation: u64,
        group: GroupId,
        info: SegmentInfo,
    ) -> Self {
        Self { disk, generation, group, path, info, doomed: AtomicBool::new(false) }
    }

    /// What it holds.
    pub fn info(&self) -> SegmentInfo {
        self.info
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its file is removed when nobody holds it any more.
    pub(in crate::store) fn doom(&self) {
        self.doomed.store(true, Ordering::Release);
    }

    fn damaged(&self, offset: u64, what: &'static str) -> StoreError {
        StoreError::Damaged { file: self.path.clone(), offset, what }
    }

    fn open(&self) -> Result<Opened, StoreError> {
        let file = self.disk.open(&self.path, Open::Read)?;
        let bytes = file.bytes()?;
        let head = read_range(&*file, 0, HEADER_BYTES)?;
        let (header, index_at, end) = Header::read(&head).ok_or_else(|| self.damaged(0, "header"))?;
        if end != bytes || bytes != self.info.bytes {
            return Err(self.damaged(bytes, "length"));
        }
        let rest = read_range(&*file, index_at, (end - index_at) as usize)?;
        let (index, foot) = rest.split_at(rest.len().saturating_sub(FOOTER_BYTES));
        let footer = Footer::read(foot).ok_or_else(|| self.damaged(end - FOOTER_BYTES as u64, "footer"))?;
        if crc32c::crc32c(index) != footer.index_crc.get() {
            return Err(self.damaged(index_at, "index"));
        }
        if info(&header, &footer) != self.info || header.group != self.group {
            return Err(self.damaged(0, "not the segment of the manifest"));
        }
        let index = <[IndexEntry]>::ref_from_bytes(index).map_err(|_| self.damaged(index_at, "index"))?;
        Ok(Opened { file, index: index.to_vec() })
    }

    /// The record at `seq`; `None` if the segment has none there.
    pub fn record(&self, open: &OpenSegments, seq: Seq) -> Result<Option<Record>, StoreError> {
        let opened = open.get(self)?;
        match opened.index.binary_search_by_key(&seq.0, |entry| entry.seq.get()) {
            Ok(at) => match opened.index.get(at) {
                Some(entry) => self.read(&opened, entry).map(Some),
                None => Ok(None),
            },
            Err(_) => Ok(None),
        }
    }

    fn read(&self, opened: &Opened, entry: &IndexEntry) -> Result<Record, StoreError> {
        let (offset, len) = (u64::from(entry.offset.get()), entry.len.get() as usize);
        if offset + len as u64 > self.info.bytes {
            return Err(self.damaged(offset, "index"));
        }
        let bytes = read_range(&*opened.file, offset, len)?;
        match Record::parse(&bytes) {
            Ok((record, used)) if used == len && record.seq().0 == entry.seq.get() && record.group() == self.group => {
                Ok(record)
            }
            _ => Err(self.damaged(offset, "record")),
        }
    }

    /// The records that `wanted` names, in order.
    pub fn records(&self, open: &OpenSegments, wanted: impl Fn(Seq) -> bool) -> Result<Vec<Record>, StoreError> {
        let opened = open.get(self)?;
        let entries = opened.index.iter().filter(|entry| wanted(Seq(entry.seq.get())));
        entries.map(|entry| self.read(&opened, entry)).collect()
    }

    /// The whole file, checked: to be sent as it is.
    pub fn bytes(&self) -> Result<Bytes, StoreError> {
        let bytes = read_all(&*self.disk, &self.path, SEGMENT_BYTES_MAX)?;
        let (header, index_at, end) = Header::read(&bytes).ok_or_else(|| self.damaged(0, "header"))?;
        if end != bytes.len() as u64 {
            return Err(self.damaged(bytes.len() as u64, "length"));
        }
        let index_at = index_at as usize;
        let (body, rest) = bytes.split_at_checked(index_at).ok_or_else(|| self.damaged(0, "length"))?;
        let (index, foot) = rest.split_at(rest.len().saturating_sub(FOOTER_BYTES));
        let footer = Footer::read(foot).ok_or_else(|| self.damaged(end - FOOTER_BYTES as u64, "footer"))?;
        if crc32c::crc32c(body) != footer.body_crc.get() {
            return Err(self.damaged(HEADER_BYTES as u64, "records"));
        }
        if crc32c::crc32c(index) != footer.index_crc.get() {
            return Err(self.damaged(index_at as u64, "index"));
        }
        if info(&header, &footer) != self.info || header.group != self.group {
            return Err(self.damaged(0, "not the segment of the manifest"));
        }
        Ok(bytes)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // If this fails, the next start removes it.
            let _ = self.disk.remove(&self.path);
        }
    }
}
