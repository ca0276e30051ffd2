//! The queue and its committer.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use zerocopy::IntoBytes;

use super::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameHeader, KIND_MARK, frame_bytes};
use super::{AppendOptions, Done, Fatal, Frame, Lsn, SubmitError, Usage};
use crate::store::disk::{Disk, DiskError, DiskFile, DiskOp};

/// How long a full disk is left alone before the next try.
const NO_SPACE_RETRY: Duration = Duration::from_millis(50);
const ZEROS: [u8; 8] = [0; 8];

/// What one step of the committer did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing was queued.
    Idle,
    /// A batch was written and synced.
    Committed,
    /// The next file cannot be made: the disk is full. What is queued waits.
    NoSpace,
    /// The log has failed.
    Failed,
}

struct Item {
    serial: u64,
    offset: u64,
    lsn: Lsn,
    kind: u8,
    len: usize,
    parts: Vec<Bytes>,
    done: Option<Done>,
}

pub(super) struct Queue {
    items: VecDeque<Item>,
    /// Queued and being written.
    bytes: usize,
    pub(super) next_lsn: Lsn,
    /// Where the next frame goes.
    pub(super) serial: u64,
    pub(super) offset: u64,
    /// Files in use with their first frame, the one being written and those that are going to be included.
    pub(super) files: BTreeMap<u64, Lsn>,
    last_was_mark: bool,
    no_space: bool,
    closed: bool,
    failed: Option<Fatal>,
}

/// Owned by whoever commits.
pub(super) struct Writer {
    pub(super) serial: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: u32,
    /// Everything before this frame is synced.
    pub(super) unsynced_from: Lsn,
    /// A mark was written after the last sync.
    marked: bool,
}

/// A file that was begun.
pub(super) struct Started {
    pub(super) serial: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: u32,
}

pub(super) struct Core {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
    pub(super) options: AppendOptions,
    // Order: writer, then queue. `spares` and `releasing` (files.rs) are taken alone or before queue.
    pub(super) writer: Mutex<Writer>,
    pub(super) queue: Mutex<Queue>,
    pub(super) spares: Mutex<Vec<String>>,
    pub(super) releasing: Mutex<()>,
    wake: Condvar,
    synced: AtomicU64,
}

impl Core {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: AppendOptions,
        file: Started,
        files: BTreeMap<u64, Lsn>,
        next_lsn: Lsn,
    ) -> Self {
        let Started { serial, file, salt } = file;
        Self {
            disk,
            dir,
            options,
            writer: Mutex::new(Writer { serial, file, salt, unsynced_from: next_lsn, marked: false }),
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                bytes: 0,
                next_lsn,
                serial,
                offset: FILE_HEADER_BYTES,
                files,
                last_was_mark: true,
                no_space: false,
                closed: false,
                failed: None,
            }),
            spares: Mutex::new(Vec::new()),
            releasing: Mutex::new(()),
            wake: Condvar::new(),
            synced: AtomicU64::new(next_lsn - 1),
        }
    }

    pub(super) fn synced(&self) -> Lsn {
        self.synced.load(Ordering::Acquire)
    }

    pub(super) fn next_lsn(&self) -> Lsn {
        self.queue.lock().next_lsn
    }

    pub(super) fn usage(&self) -> Usage {
        let queue = self.queue.lock();
        let mut firsts = queue.files.values();
        let oldest_end = firsts.next().and(firsts.next()).copied();
        let files = queue.files.len();
        Usage { files, bytes: files as u64 * self.options.file_bytes, oldest_end, synced: self.synced() }
    }

    pub(super) fn submit(&self, frames: Vec<Frame>, reserved: bool, done: Done) -> Result<Lsn, SubmitError> {
        let room = self.options.file_bytes - FILE_HEADER_BYTES;
        let mut bytes = 0;
        for frame in &frames {
            let len = frame.parts.iter().map(Bytes::len).sum::<usize>();
            if frame_bytes(len) > room || u32::try_from(len).is_err() {
                return Err(SubmitError::TooLong { bytes: len });
            }
            bytes += frame_bytes(len) as usize;
        }
        let mut queue = self.queue.lock();
        if let Some(fatal) = &queue.failed {
            return Err(fatal.clone().into());
        }
        if queue.closed {
            return Err(SubmitError::Closed);
        }
        if !reserved {
            if queue.no_space {
                return Err(SubmitError::NoSpace);
            }
            // A queue that is empty takes anything, so that the bound cannot lock out a large submission for ever.
            if queue.bytes > 0 && queue.bytes + bytes > self.options.queue_bytes_max {
                return Err(SubmitError::Full { queued_bytes: queue.bytes });
            }
        }
        queue.bytes += bytes;
        let was_idle = queue.items.is_empty();
        let mut done = Some(done);
        let count = frames.len();
        for (i, frame) in frames.into_iter().enumerate() {
            let len = frame.parts.iter().map(Bytes::len).sum::<usize>();
            let (serial, offset, lsn) = self.place(&mut queue, len);
            let done = if i + 1 == count { done.take() } else { None };
            queue.items.push_back(Item { serial, offset, lsn, kind: frame.kind, len, parts: frame.parts, done });
        }
        let last = queue.next_lsn - 1;
        drop(queue);
        if was_idle {
            self.wake.notify_one();
        }
        Ok(last)
    }

    fn place(&self, queue: &mut Queue, len: usize) -> (u64, u64, Lsn) {
        let bytes = frame_bytes(len);
        let lsn = queue.next_lsn;
        if queue.offset + bytes > self.options.file_bytes {
            queue.serial += 1;
            queue.offset = FILE_HEADER_BYTES;
            let serial = queue.serial;
            queue.files.insert(serial, lsn);
        }
        let offset = queue.offset;
        queue.offset += bytes;
        queue.next_lsn += 1;
        queue.last_was_mark = false;
        (queue.serial, offset, lsn)
    }

    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake.notify_all();
    }

    /// The committer's thread.
    pub(super) fn run(&self) {
        loop {
            match self.step() {
                Step::Committed => {}
                Step::Failed => return,
                Step::Idle => {
                    let mut queue = self.queue.lock();
                    if queue.items.is_empty() {
                        if queue.closed {
                            return;
                        }
                        self.wake.wait(&mut queue);
                    }
                }
                Step::NoSpace => {
                    let mut queue = self.queue.lock();
                    if queue.closed {
                        let rest = std::mem::take(&mut queue.items);
                        drop(queue);
                        let fatal =
                            Fatal { cause: DiskError::NoSpace { op: DiskOp::Allocate, path: self.dir.clone() } };
                        rest.into_iter().filter_map(|item| item.done).for_each(|done| done(Err(fatal.clone())));
                        return;
                    }
                    self.wake.wait_for(&mut queue, NO_SPACE_RETRY);
                }
            }
        }
    }

    /// Commits one batch.
    pub(super) fn step(&self) -> Step {
        let mut writer = self.writer.lock();
        let batch = {
            let mut queue = self.queue.lock();
            if queue.failed.is_some() {
                return Step::Failed;
            }
            self.take_batch(&mut queue)
        };
        let Some((serial, first)) = batch.first().map(|item| (item.serial, item.lsn)) else { return Step::Idle };
        if serial != writer.serial {
            match self.roll(&mut writer, serial, first) {
                Ok(()) => {}
                Err(error) if error.is_no_space() => {
                    let mut queue = self.queue.lock();
                    queue.no_space = true;
                    for item in batch.into_iter().rev() {
                        queue.items.push_front(item);
                    }
                    return Step::NoSpace;
                }
                Err(error) => return self.fail(error, batch),
            }
        }
        if let Err(error) = self.write(&writer, &batch).and_then(|()| writer.file.sync()) {
            return self.fail(error, batch);
        }
        let last = batch.last().map_or(first, |item| item.lsn);
        writer.unsynced_from = last + 1;
        writer.marked = false;
        self.synced.store(last, Ordering::Release);
        let bytes: usize = batch.iter().map(|item| frame_bytes(item.len) as usize).sum();
        for item in batch {
            if let Some(done) = item.done {
                done(Ok(item.lsn));
            }
        }
        self.finish(&mut writer, bytes)
    }

    fn take_batch(&self, queue: &mut Queue) -> Vec<Item> {
        let mut bytes = 0;
        let mut batch = Vec::new();
        let serial = queue.items.front().map(|item| item.serial);
        while let Some(item) = queue.items.front() {
            let more = frame_bytes(item.len) as usize;
            if Some(item.serial) != serial || (bytes > 0 && bytes + more > self.options.batch_bytes_max) {
                break;
            }
            bytes += more;
            batch.extend(queue.items.pop_front());
        }
        batch
    }

    /// Begins the next file. After an error the old one is still current.
    fn roll(&self, writer: &mut Writer, serial: u64, first_lsn: Lsn) -> Result<(), DiskError> {
        if writer.marked {
            // The new file's header says that everything before it was synced.
            writer.file.sync()?;
            writer.marked = false;
        }
        let Started { serial, file, salt } = super::files::begin(self, serial, first_lsn)?;
        *writer = Writer { serial, file, salt, unsynced_from: first_lsn, marked: false };
        self.queue.lock().no_space = false;
        Ok(())
    }

    fn write(&self, writer: &Writer, batch: &[Item]) -> Result<(), DiskError> {
        let Some(offset) = batch.first().map(|item| item.offset) else { return Ok(()) };
        let headers: Vec<FrameHeader> = batch
            .iter()
            .map(|item| {
                let open = u32::try_from(item.lsn - writer.unsynced_from).unwrap_or(u32::MAX);
                let mut header = FrameHeader::new(item.serial, item.lsn, open, item.kind, item.len as u32);
                header.crc.set(header.sum(writer.salt, item.parts.iter().map(|p| &p[..])));
                header
            })
            .collect();
        let mut parts: Vec<&[u8]> = Vec::with_capacity(batch.len() * 4);
        for (header, item) in headers.iter().zip(batch) {
            parts.push(header.as_bytes());
            parts.extend(item.parts.iter().map(|p| &p[..]));
            let pad = frame_bytes(item.len) as usize - FRAME_HEADER_BYTES - item.len;
            parts.push(ZEROS.get(..pad).unwrap_or_default());
        }
        writer.file.write_at(offset, &parts)
    }

    /// After a batch: gives its room back, and leaves a mark if there is nothing to do, so that damage to the batch can be
    /// told from a torn end.
    fn finish(&self, writer: &mut Writer, bytes: usize) -> Step {
        let place = {
            let mut queue = self.queue.lock();
            queue.bytes -= bytes;
            let fits = queue.offset + frame_bytes(0) <= self.options.file_bytes;
            if !queue.items.is_empty() || queue.last_was_mark || !fits || queue.serial != writer.serial {
                return Step::Committed;
            }
            let place = self.place(&mut queue, 0);
            queue.last_was_mark = true;
            place
        };
        let (serial, offset, lsn) = place;
        let mut header = FrameHeader::new(serial, lsn, 0, KIND_MARK, 0);
        header.crc.set(header.sum(writer.salt, std::iter::empty()));
        writer.marked = true;
        match writer.file.write_at(offset, &[header.as_bytes()]) {
            Ok(()) => Step::Committed,
            Err(error) => self.fail(error, Vec::new()),
        }
    }

    fn fail(&self, cause: DiskError, batch: Vec<Item>) -> Step {
        let fatal = Fatal { cause };
        let rest = {
            let mut queue = self.queue.lock();
            queue.failed = Some(fatal.clone());
            queue.bytes = 0;
            std::mem::take(&mut queue.items)
        };
        for done in batch.into_iter().chain(rest).filter_map(|item| item.done) {
            done(Err(fatal.clone()));
        }
        (self.options.on_fatal)(&fatal);
        Step::Failed
    }
}
