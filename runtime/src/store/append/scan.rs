//! Reads append files back: finds the end after a crash, tells a torn end from damage.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;

use super::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileHeader, FrameHeader, KIND_OWN, frame_bytes};
use super::{Entry, Lsn};
use crate::store::disk::{DiskError, DiskFile, read_range};

/// How much is read at once; longer frames are read whole.
const WINDOW_BYTES: usize = 256 << 10;

/// Reads forward through a file.
struct Window<'a> {
    file: &'a dyn DiskFile,
    file_bytes: u64,
    base: u64,
    bytes: Bytes,
    salt: u32,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn DiskFile) -> Result<Self, DiskError> {
        Ok(Self { file, file_bytes: file.bytes()?, base: 0, bytes: Bytes::new(), salt: 0 })
    }

    /// `len` bytes at `offset`, or `None` where the file ends before.
    fn get(&mut self, offset: u64, len: usize) -> Result<Option<Bytes>, DiskError> {
        if self.file_bytes < offset + len as u64 {
            return Ok(None);
        }
        if offset < self.base || self.base + (self.bytes.len() as u64) < offset + len as u64 {
            self.bytes = read_range(self.file, offset, len.max(WINDOW_BYTES))?;
            self.base = offset;
        }
        let from = (offset - self.base) as usize;
        Ok((from + len <= self.bytes.len()).then(|| self.bytes.slice(from..from + len)))
    }

    /// The frame at `offset`, if there is a whole and undamaged one of this life of the file.
    fn frame(&mut self, offset: u64, serial: u64) -> Result<Option<Frame>, DiskError> {
        let Some(head) = self.get(offset, FRAME_HEADER_BYTES)? else { return Ok(None) };
        let Some(header) = FrameHeader::read(&head, serial, self.file_bytes - offset) else { return Ok(None) };
        let len = header.len.get() as usize;
        let Some(payload) = self.get(offset + FRAME_HEADER_BYTES as u64, len)? else { return Ok(None) };
        if header.sum(self.salt, std::iter::once(&payload[..])) != header.crc.get() {
            return Ok(None);
        }
        let lsn = header.lsn.get();
        let synced_before = lsn - u64::from(header.open.get());
        Ok(Some(Frame { offset, next: offset + frame_bytes(len), kind: header.kind, lsn, synced_before, payload }))
    }

    /// The next place from `offset` on at which a frame of this life begins.
    fn search(&mut self, mut offset: u64, serial: u64) -> Result<Option<Frame>, DiskError> {
        let mark = super::format::FRAME_MAGIC.to_le_bytes();
        loop {
            let Some(rest) = self.rest(offset)? else { return Ok(None) };
            match rest.chunks_exact(8).position(|word| word.starts_with(&mark)) {
                None => offset += (rest.len() / 8 * 8) as u64,
                Some(n) => {
                    offset += n as u64 * 8;
                    if let Some(frame) = self.frame(offset, serial)? {
                        return Ok(Some(frame));
                    }
                    offset += 8;
                }
            }
        }
    }

    /// What is at hand from `offset` on, at least 8 bytes; `None` at the end of the file.
    fn rest(&mut self, offset: u64) -> Result<Option<Bytes>, DiskError> {
        if self.get(offset, 8)?.is_none() {
            return Ok(None);
        }
        Ok(Some(self.bytes.slice((offset - self.base) as usize..)))
    }
}

struct Frame {
    offset: u64,
    next: u64,
    kind: u8,
    lsn: u64,
    /// Everything before this was synced when the frame was written.
    synced_before: u64,
    payload: Bytes,
}

/// What a file held.
#[derive(Debug, Default)]
pub(super) struct Scanned {
    /// The header could not be read.
    pub(super) header_damaged: bool,
    /// There is something like a frame although the header, or the frame itself, cannot be read.
    pub(super) looks_used: bool,
    /// Of the first frame that the file should hold.
    pub(super) first_lsn: Lsn,
    /// After the last frame that counts.
    pub(super) next_lsn: Lsn,
    /// Where the last frame that counts ends.
    pub(super) used_bytes: u64,
    /// Frames that counted.
    pub(super) frames: u64,
    /// Frames that were synced and cannot be read any more.
    pub(super) lost: Vec<Range<Lsn>>,
    /// The bytes whose sync is not proven by what follows them: to be written and synced again.
    pub(super) doubtful: Range<u64>,
}

/// Reads the file `serial`. `end` is where the next file begins, if there is one; `expected` what should come first if
/// the header cannot tell.
pub(super) fn scan(
    file: &dyn DiskFile,
    serial: u64,
    expected: Option<Lsn>,
    end: Option<Lsn>,
    sink: &mut dyn FnMut(Entry),
) -> Result<Scanned, DiskError> {
    let mut window = Window::new(file)?;
    let header = window.get(0, FILE_HEADER_BYTES as usize)?.and_then(|bytes| FileHeader::read(&bytes, serial));
    window.salt = header.map_or(0, |(_, salt)| salt);
    let header = header.map(|(first_lsn, _)| first_lsn);
    let mut offset = FILE_HEADER_BYTES;
    let mut known_synced = end.unwrap_or(0);
    let mut ahead: VecDeque<(u64, Lsn)> = VecDeque::new();
    let first_lsn = match header.or(expected) {
        Some(lsn) => lsn,
        None => match window.search(offset, serial)? {
            Some(frame) => frame.lsn,
            None => end.unwrap_or(0),
        },
    };
    let looks_used = window
        .get(FILE_HEADER_BYTES, FRAME_HEADER_BYTES)?
        .is_some_and(|bytes| FrameHeader::read(&bytes, serial, u64::MAX).is_some());
    let mut out = Scanned {
        looks_used,
        header_damaged: header.is_none(),
        first_lsn,
        next_lsn: first_lsn,
        used_bytes: FILE_HEADER_BYTES,
        ..Scanned::default()
    };
    // Frames of the batch whose sync is not proven yet: where each begins.
    let mut open: VecDeque<(Lsn, u64)> = VecDeque::new();
    let mut looked_ahead = false;
    loop {
        if end.is_some_and(|end| out.next_lsn >= end) {
            break;
        }
        let frame = match window.frame(offset, serial)?.filter(|f| f.lsn == out.next_lsn) {
            Some(frame) => frame,
            None => {
                if !looked_ahead {
                    // Everything valid that lies behind the gap: it shows what had been synced.
                    looked_ahead = true;
                    let mut from = offset + 8;
                    while let Some(frame) = window.search(from, serial)? {
                        from = frame.next;
                        if frame.lsn > out.next_lsn {
                            known_synced = known_synced.max(frame.synced_before);
                            ahead.push_back((frame.offset, frame.lsn));
                        }
                    }
                }
                while ahead.front().is_some_and(|(_, lsn)| *lsn < out.next_lsn) {
                    ahead.pop_front();
                }
                if out.next_lsn >= known_synced {
                    break; // the torn end
                }
                let resume = ahead.front().map_or(known_synced, |(_, lsn)| (*lsn).min(known_synced));
                // A frame right here would have been read: at least this one is lost.
                let resume = resume.max(out.next_lsn + 1);
                out.lost.push(out.next_lsn..resume);
                out.next_lsn = resume;
                match ahead.front() {
                    Some((at, lsn)) if *lsn == resume => offset = *at,
                    _ if resume >= known_synced => break,
                    _ => {}
                }
                continue;
            }
        };
        offset = frame.next;
        out.next_lsn = frame.lsn + 1;
        out.used_bytes = frame.next;
        out.frames += 1;
        open.push_back((frame.lsn, frame.offset));
        while open.front().is_some_and(|(lsn, _)| *lsn < frame.synced_before) {
            open.pop_front();
        }
        out.doubtful = open.front().map_or(frame.offset, |(_, at)| *at)..frame.next;
        if frame.kind < KIND_OWN {
            sink(Entry { lsn: frame.lsn, kind: frame.kind, payload: frame.payload });
        }
    }
    Ok(out)
}
