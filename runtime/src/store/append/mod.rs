//! A log in preallocated append files with group commit: many hand in frames, one committer gathers what is queued,
//! writes it with one call, syncs once, and completes the submissions in order. Layout: [`mod@format`].
//!
//! Used twice on a node, in separate instances: for the groups' tails ([`crate::store::wal`]) and for the directory's
//! Raft log.
//!
//! - The queue is bounded by bytes: beyond it [`SubmitError::Full`], nothing taken.
//! - A disk without room for the next file: what is queued waits, new submissions get [`SubmitError::NoSpace`]; it goes
//!   on by itself when there is room.
//! - What nobody waits for ([`Append::submit_lazy`]) is written at once and synced with the next sync that somebody waits
//!   for, after 200 ms, or after 1 MiB.
//! - A failed sync or write is final: everything not yet completed gets [`Fatal`], so does every later submission, and
//!   the hook is called, which ends the process. At the next start the frames whose sync is not proven are written and
//!   synced again before they are handed out.
//! - Each start begins a new file. A file that nobody needs any more ([`Append::release`]) is used again.

mod committer;
mod files;
pub mod format;
mod scan;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher, RandomState};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use parking_lot::Mutex;

pub use self::committer::Step;
use self::committer::{Core, How};
use super::disk::{Disk, DiskError};
use crate::meter::Counted;

/// Number of a frame: rises by one over all files of a log. The first is 1.
pub type Lsn = u64;

/// Who runs the committer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drive {
    /// A thread of its own.
    Thread,
    /// Whoever calls [`Append::pump`]: for simulations.
    Manual,
}

/// Called once when a write or sync has failed: the process must end.
pub type FatalHook = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// How a log is run.
#[derive(Clone)]
pub struct AppendOptions {
    /// Name of the committer's thread.
    pub name: &'static str,
    /// Length of a file; a frame must fit in one.
    pub file_bytes: u64,
    /// Frames that are queued or being written: at most so many bytes.
    pub queue_bytes_max: usize,
    /// One write and sync takes at most so much (and at least one frame).
    pub batch_bytes_max: usize,
    /// Released files that are kept for use.
    pub spare_files_max: usize,
    /// The next frame gets at least this number.
    pub lsn_min: Lsn,
    /// Seeds the salts of new files: something that outsiders cannot know.
    pub salt: u64,
    /// Who commits.
    pub drive: Drive,
    /// Called when the log has failed.
    pub on_fatal: FatalHook,
}

impl Default for AppendOptions {
    fn default() -> Self {
        Self {
            name: "onemec-commit",
            file_bytes: 64 << 20,
            queue_bytes_max: 64 << 20,
            batch_bytes_max: 4 << 20,
            spare_files_max: 2,
            lsn_min: 1,
            salt: RandomState::new().hash_one(0),
            drive: Drive::Thread,
            on_fatal: Arc::new(|_| {}),
        }
    }
}

/// One frame to be appended.
#[derive(Debug, Clone)]
pub struct Frame {
    /// What it is, below [`format::KIND_OWN`].
    pub kind: u8,
    /// Its payload, in pieces that are written as they are.
    pub parts: Vec<Bytes>,
}

/// A frame as it was read back. The payload is a slice of a larger buffer: copy what is kept.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its number.
    pub lsn: Lsn,
    /// What it is.
    pub kind: u8,
    /// Its payload.
    pub payload: Bytes,
}

/// The log has failed for good: a write or sync went wrong, or its thread panicked, and whether anything since the last completed submission is
/// on the disk is not known. The process must end; its next start finds out.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the log failed and the node must be started again")]
pub struct Fatal {
    /// What went wrong.
    #[source]
    pub cause: DiskError,
}

/// Completion of a submission: called once, on the committer's thread, in the order of submission. Must not block.
pub type Done = Box<dyn FnOnce(Result<Lsn, Fatal>) + Send>;

/// Why frames were not taken. Nothing of the submission will ever be written, and its completion is not called.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// The queue is full: try again after some completions.
    #[error("the log's queue is full ({queued_bytes} bytes)")]
    Full {
        /// Bytes in the queue.
        queued_bytes: usize,
    },
    /// The disk is full: try again when there is space.
    #[error("no disk space for the log")]
    NoSpace,
    /// The frame cannot be written to any file: do not try again.
    #[error("a frame of {bytes} bytes is longer than a file")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The log has failed or was closed: do not try again.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

/// What was found at the start.
#[derive(Debug, Default, Clone)]
pub struct Recovered {
    /// Frames handed out.
    pub frames: u64,
    /// The number that the next frame gets.
    pub next_lsn: Lsn,
    /// Frames that had been synced and cannot be read any more.
    pub lost: Vec<Lost>,
}

/// Frames that had been synced and are damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// The file.
    pub file: PathBuf,
    /// Their numbers; empty if only the file's header or the folder's list is damaged.
    pub lsns: Range<Lsn>,
}

/// How much of the disk the log takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Files in use.
    pub files: usize,
    /// Their bytes, at full length.
    pub bytes: u64,
    /// Frames with lower numbers lie in the oldest file, if that file is no longer written.
    pub oldest_end: Option<Lsn>,
    /// Everything up to this frame is synced.
    pub synced: Lsn,
}

/// A log; see the module.
pub struct Append {
    core: Arc<Core>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Append {
    /// Opens the log in `dir` (made if absent), hands every frame that counts to `sink` in order, and gets ready to
    /// append. What is handed out is durable.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: AppendOptions,
        sink: &mut dyn FnMut(Entry),
    ) -> Result<(Self, Recovered), DiskError> {
        let (drive, name) = (options.drive, options.name);
        let (core, recovered) = files::open(disk, dir, options, sink)?;
        let core = Arc::new(core);
        let thread = match drive {
            Drive::Manual => None,
            Drive::Thread => {
                let core = Arc::clone(&core);
                let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || core.run_to_the_end());
                Some(spawned.map_err(|e| DiskError::from_io(super::disk::DiskOp::Open, dir, e))?)
            }
        };
        Ok((Self { core, thread: Mutex::new(thread) }, recovered))
    }

    /// Queues frames, to be completed together; they are neither parted by other frames nor reordered. Returns the number
    /// of the last.
    pub fn submit(&self, frames: Vec<Frame>, done: Done) -> Result<Lsn, SubmitError> {
        self.core.submit(frames, How::Urgent, done)
    }

    /// As [`Append::submit`], where nobody waits: synced together with what somebody waits for, or within a moment.
    pub fn submit_lazy(&self, frames: Vec<Frame>, done: Done) -> Result<Lsn, SubmitError> {
        self.core.submit(frames, How::Lazy, done)
    }

    /// As [`Append::submit`], for the little work that makes room again: not refused by a full queue or disk. The caller
    /// bounds it.
    pub fn submit_reserved(&self, frames: Vec<Frame>, done: Done) -> Result<Lsn, SubmitError> {
        self.core.submit(frames, How::Reserved, done)
    }

    /// Commits what is queued until nothing is left or nothing goes on ([`Drive::Manual`]).
    pub fn pump(&self) -> Step {
        loop {
            match self.core.step() {
                Step::Committed => {}
                other => {
                    self.core.flush();
                    return other;
                }
            }
        }
    }

    /// Everything up to this frame is synced.
    pub fn synced(&self) -> Lsn {
        self.core.synced()
    }

    /// The number that the next frame will get.
    pub fn next_lsn(&self) -> Lsn {
        self.core.next_lsn()
    }

    /// Use of the disk.
    pub fn usage(&self) -> Usage {
        self.core.usage()
    }

    /// How long syncs took.
    pub fn syncs(&self) -> Counted {
        self.core.syncs.counted()
    }

    /// Frames below `before` are no longer needed, and whatever replaces them is synced: gives back the files that hold
    /// nothing else. Blocks for some syncs.
    pub fn release(&self, before: Lsn) -> Result<(), DiskError> {
        files::release(&self.core, before)
    }

    /// Commits what is queued, and ends the thread. Later submissions get [`SubmitError::Closed`].
    pub fn close(&self) {
        self.core.close();
        if let Some(thread) = self.thread.lock().take() {
            // Its panic would have been caught and reported.
            let _ = thread.join();
        }
    }
}

impl Drop for Append {
    fn drop(&mut self) {
        self.close();
    }
}
