//! The queue and its committer.

use std::collections::{BTreeMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use zerocopy::IntoBytes;

use super::format::{FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FrameHeader, KIND_MARK, frame_bytes};
use super::{AppendOptions, Done, Fatal, Frame, Lsn, SubmitError, Usage};
use crate::meter::Histogram;
use crate::store::disk::{Disk, DiskError, DiskFile, DiskOp};

/// How long a full disk is left alone before the next try.
const NO_SPACE_RETRY: Duration = Duration::from_millis(50);
/// What nobody waits for is synced after this time, or this many bytes, or with what somebody waits for.
const LAZY_SYNC: Duration = Duration::from_millis(200);
const LAZY_BYTES_MAX: usize = 1 << 20;
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
    /// Somebody waits for the sync.
    urgent: bool,
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
    /// Written, not synced, and nobody waits: bytes, and what is to be told then.
    lazy_bytes: usize,
    lazy: Vec<(Lsn, Option<Done>)>,
}

impl Writer {
    fn new(serial: u64, file: Arc<dyn DiskFile>, salt: u32, unsynced_from: Lsn) -> Self {
        Self { serial, file, salt, unsynced_from, marked: false, lazy_bytes: 0, lazy: Vec::new() }
    }
}

/// How frames are queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// Somebody waits for the sync.
    Urgent,
    /// Nobody does.
    Lazy,
    /// Urgent, and not refused by a full queue or disk.
    Reserved,
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
    /// The writer holds something lazy.
    is_lazy: AtomicBool,
    /// How long syncs of batches took.
    pub(super) syncs: Histogram,
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
            writer: Mutex::new(Writer::new(serial, file, salt, next_lsn)),
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
            is_lazy: AtomicBool::new(false),
            syncs: Histogram::default(),
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

    pub(super) fn submit(&self, frames: Vec<Frame>, how: How, done: Done) -> Result<Lsn, SubmitError> {
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
        if how != How::Reserved {
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
            queue.items.push_back(Item {
                serial,
                offset,
                lsn,
                kind: frame.kind,
                len,
                parts: frame.parts,
                urgent: how != How::Lazy,
                done,
            });
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

    /// The committer's thread. What a panic in it leaves behind is as unknown as after a failed write, and treated alike.
    pub(super) fn run_to_the_end(&self) {
        if std::panic::catch_unwind(AssertUnwindSafe(|| self.run())).is_err() {
            let cause = std::io::Error::other("the thread that commits panicked");
            let cause = DiskError::Failed { op: DiskOp::Write, path: self.dir.clone(), source: Arc::new(cause) };
            self.fail(cause, &mut self.writer.lock(), Vec::new());
        }
    }

    fn run(&self) {
        let mut lazy_since: Option<Instant> = None;
        loop {
            let step = self.step();
            if !self.is_lazy.load(Ordering::Acquire) {
                lazy_since = None;
            } else if lazy_since.get_or_insert_with(Instant::now).elapsed() >= LAZY_SYNC {
                self.flush();
                continue;
            }
            match step {
                Step::Committed => {}
                Step::Failed => return,
                Step::Idle => {
                    let mut queue = self.queue.lock();
                    if queue.items.is_empty() {
                        let closed = queue.closed;
                        match lazy_since {
                            Some(_) if closed => {
                                drop(queue);
                                self.flush();
                            }
                            Some(since) => {
                                self.wake.wait_for(&mut queue, LAZY_SYNC.saturating_sub(since.elapsed()));
                            }
                            None if closed => return,
                            None => self.wake.wait(&mut queue),
                        }
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
                Err(error) => return self.fail(error, &mut writer, batch),
            }
        }
        if let Err(error) = self.write(&writer, &batch) {
            return self.fail(error, &mut writer, batch);
        }
        let bytes: usize = batch.iter().map(|item| frame_bytes(item.len) as usize).sum();
        self.queue.lock().bytes -= bytes;
        let urgent = batch.iter().any(|item| item.urgent);
        writer.lazy_bytes += bytes;
        writer.lazy.extend(batch.into_iter().map(|item| (item.lsn, item.done)));
        if !urgent && writer.lazy_bytes < LAZY_BYTES_MAX {
            self.is_lazy.store(true, Ordering::Release);
            return Step::Committed;
        }
        match self.sync(&mut writer) {
            Ok(()) => self.mark(&mut writer),
            Err(error) => self.fail(error, &mut writer, Vec::new()),
        }
    }

    /// Syncs what was written and nobody waits for.
    pub(super) fn flush(&self) {
        let mut writer = self.writer.lock();
        if writer.lazy.is_empty() {
            return;
        }
        match self.sync(&mut writer) {
            Ok(()) => self.mark(&mut writer),
            Err(error) => self.fail(error, &mut writer, Vec::new()),
        };
    }

    /// Syncs everything that was written, and tells who waits.
    fn sync(&self, writer: &mut Writer) -> Result<(), DiskError> {
        let began = Instant::now();
        writer.file.sync()?;
        self.syncs.note(began.elapsed());
        writer.marked = false;
        writer.lazy_bytes = 0;
        self.is_lazy.store(false, Ordering::Release);
        let written = std::mem::take(&mut writer.lazy);
        if let Some((last, _)) = written.last() {
            writer.unsynced_from = last + 1;
            self.synced.store(*last, Ordering::Release);
        }
        for (lsn, done) in written {
            if let Some(done) = done {
                done(Ok(lsn));
            }
        }
        Ok(())
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
        if writer.marked || !writer.lazy.is_empty() {
            // The new file's header says that everything before it was synced.
            self.sync(writer)?;
        }
        let Started { serial, file, salt } = super::files::begin(self, serial, first_lsn)?;
        *writer = Writer::new(serial, file, salt, first_lsn);
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

    /// After a sync: leaves a mark if there is nothing to do, so that damage to the batch can be told from a torn end.
    fn mark(&self, writer: &mut Writer) -> Step {
        let place = {
            let mut queue = self.queue.lock();
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
            Err(error) => self.fail(error, writer, Vec::new()),
        }
    }

    /// The log has failed: what was written and not synced is in doubt, what is queued will not be written.
    fn fail(&self, cause: DiskError, writer: &mut Writer, batch: Vec<Item>) -> Step {
        let fatal = Fatal { cause };
        for done in std::mem::take(&mut writer.lazy).into_iter().filter_map(|(_, done)| done) {
            done(Err(fatal.clone()));
        }
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
