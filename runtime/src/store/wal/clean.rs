//! Winning back the oldest files.

use std::sync::Arc;

use super::{Wal, WalGroup, frame};
use crate::store::append::{Drive, Fatal, Lsn, Step, SubmitError};
use crate::store::disk::DiskError;

/// What cleaning did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Files given back.
    pub files: usize,
    /// Bytes of records that had to be appended again.
    pub moved_bytes: usize,
}

/// Why cleaning stopped. Nothing is lost; the log is longer than it should be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CleanError {
    /// What is still needed could not be appended again.
    #[error("live records could not be moved")]
    Move(#[from] SubmitError),
    /// The log failed.
    #[error(transparent)]
    Fatal(#[from] Fatal),
    /// A file could not be given back: try again later.
    #[error("a file could not be given back")]
    Disk(#[from] DiskError),
}

impl Wal {
    /// Whether [`Wal::clean`] has something to do.
    pub fn wants_cleaning(&self) -> bool {
        self.usage().files > self.files_allowed()
    }

    fn files_allowed(&self) -> usize {
        let live: usize = self.groups.read().values().map(|g| g.positions().tail_bytes).sum();
        self.options.files_min + 2 * live.div_ceil(self.options.append.file_bytes as usize)
    }

    /// Gives back the oldest files until the log is as short as it should be. Blocks for syncs; run it beside the work.
    pub fn clean(&self) -> Result<Cleaned, CleanError> {
        let _one_at_a_time = self.cleaning.lock();
        let mut cleaned = Cleaned::default();
        // What is moved makes the log longer: a bound on the rounds, so that it ends in any case.
        for _ in 0..self.usage().files {
            if !self.wants_cleaning() {
                break;
            }
            let Some(cut) = self.usage().oldest_end else { break };
            cleaned.moved_bytes += self.move_older(cut)?;
            let before = self.usage().files;
            self.append.release(cut)?;
            cleaned.files += before.saturating_sub(self.usage().files);
        }
        Ok(cleaned)
    }

    /// Appends again what lies before `cut` and is still needed, and waits until it is synced.
    fn move_older(&self, cut: Lsn) -> Result<usize, CleanError> {
        let groups: Vec<Arc<WalGroup>> = self.groups.read().values().cloned().collect();
        let mut bytes = 0;
        for group in groups {
            bytes += self.move_group(&group, cut)?;
        }
        self.barrier()?;
        Ok(bytes)
    }

    fn move_group(&self, group: &Arc<WalGroup>, cut: Lsn) -> Result<usize, CleanError> {
        let mut tail = group.tail.write();
        let records = tail.older_than(cut);
        let (mut frames, mut gnum) = (Vec::new(), tail.gnum_next);
        if tail.state_lsn.is_some_and(|lsn| lsn < cut) {
            let state = tail.state.clone();
            frames.push(frame::state(group.id, gnum, &state));
            gnum += 1;
        }
        let has_state = !frames.is_empty();
        let (more, gnum) = self.frames_of(group.id, gnum, &records);
        frames.extend(more);
        if frames.is_empty() {
            return Ok(0);
        }
        let count = frames.len() as u64;
        let lsn = self.append.submit_reserved(frames, Box::new(|_| {}))?;
        tail.gnum_next = gnum;
        if has_state {
            tail.state_lsn = Some(lsn + 1 - count);
        }
        // The first of the new frames stands for all: nothing is given back too early.
        tail.moved(cut, lsn + 1 - count);
        Ok(records.iter().map(|r| r.bytes().len()).sum())
    }

    /// Waits until everything submitted so far is synced.
    fn barrier(&self) -> Result<(), CleanError> {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        // The end of a group that does not exist: a frame that means nothing, only to be told of.
        let nothing = frame::forget(onemec_wire::GroupId::default(), 0);
        let done = Box::new(move |result| {
            let _ = tell.try_send(result); // nobody waits any more: fine
        });
        self.append.submit_reserved(vec![nothing], done)?;
        if self.options.append.drive == Drive::Manual && self.append.pump() == Step::NoSpace {
            return Err(SubmitError::NoSpace.into());
        }
        match told.recv() {
            Ok(result) => Ok(result.map(|_| ())?),
            Err(_) => Err(SubmitError::Closed.into()),
        }
    }
}
