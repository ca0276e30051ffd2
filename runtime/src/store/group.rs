//! One group on this node: what the executor works with.
//!
//! Legal order: [`GroupStore::append`] as records come; [`GroupStore::mark`] after each record was applied;
//! [`GroupStore::prepare`] between two applications, at the place that was applied last, and the job's
//! [`run`](super::seal::CheckpointJob::run) beside the work. What is checkpointed can no longer be truncated: only
//! committed records may be. During the commit of an installation nothing is appended.
//!
//! Everything here returns at once, except what says that it reads or writes files.

use std::sync::Arc;

use bytes::Bytes;
use onemec_core::group::Position;
use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};
use parking_lot::{Mutex, RwLock};

use super::error::StoreError;
use super::history::{GroupHistory, Sealed};
use super::install::{Export, Install};
use super::node::Shared;
use super::seal::CheckpointJob;
use super::segment::SegmentInfo;
use super::wal::frame::GroupState;
use super::wal::{AppendError, GroupDone, Positions, WalGroup};

/// A group's store; see the module.
pub struct GroupStore {
    pub(super) log: Arc<WalGroup>,
    pub(super) shared: Arc<Shared>,
    pub(super) history: Arc<GroupHistory>,
    /// One checkpoint, installation, repair or deletion at a time. True once the group is deleted. Taken before every
    /// other lock.
    pub(super) work: Mutex<bool>,
}

impl GroupStore {
    pub(super) fn new(shared: Arc<Shared>, log: Arc<WalGroup>, sealed: Sealed) -> Arc<Self> {
        let history = GroupHistory { log: Arc::clone(&log), shared: Arc::clone(&shared), sealed: RwLock::new(sealed) };
        Arc::new(Self { log, shared, history: Arc::new(history), work: Mutex::new(false) })
    }

    /// The group.
    pub fn id(&self) -> GroupId {
        self.log.id()
    }

    /// Where it stands.
    pub fn positions(&self) -> Positions {
        self.log.positions()
    }

    /// What is persisted beside the records.
    pub fn state(&self) -> GroupState {
        self.log.read(|tail| tail.state().clone())
    }

    /// Appends records that follow the last one held. They are held in memory at once; `done` is called on the
    /// committer's thread when they are synced, in the order of the calls. `sync`: somebody waits for the disk; otherwise
    /// they are synced together with what comes within a moment.
    pub fn append(
        &self,
        records: Vec<Record>,
        sync: bool,
        done: impl FnOnce(Result<(), super::append::Fatal>) + Send + 'static,
    ) -> Result<(), AppendError> {
        self.shared.wal.append(&self.log, records, sync, Box::new(done))
    }

    /// Removes what follows `after`: the log of a new primary is authoritative.
    pub fn truncate(&self, after: Seq, done: GroupDone) -> Result<(), AppendError> {
        self.shared.wal.truncate(&self.log, after, done)?;
        self.history.sealed.write().kept.truncate(after);
        Ok(())
    }

    /// Persists that `epoch` was seen: records and epochs below it are refused from now on.
    pub fn note_epoch(&self, epoch: Epoch, done: GroupDone) -> Result<(), AppendError> {
        self.set_state(|state| state.epoch = epoch, done)
    }

    /// Persists whether this replica holds everything (rule 7).
    pub fn set_complete(&self, complete: bool, done: GroupDone) -> Result<(), AppendError> {
        self.set_state(|state| state.complete = complete, done)
    }

    /// Persists a change of the group's state.
    pub fn set_state(&self, change: impl FnOnce(&mut GroupState), done: GroupDone) -> Result<(), AppendError> {
        self.shared.wal.set_state(&self.log, change, done)
    }

    /// After the record at `seq` was applied: whether it is kept, and which ones are no longer needed.
    pub fn mark(&self, seq: Seq, keep: bool, released: &[Seq]) {
        if !keep && released.is_empty() {
            return;
        }
        let mut sealed = self.history.sealed.write();
        if keep {
            sealed.kept.insert(seq);
        }
        for seq in released {
            sealed.kept.remove(*seq);
        }
    }

    /// Records of the tail from `from` on: one, or as many as fit in `bytes_max`. Empty if `from` is covered by the
    /// checkpoint (then a replica needs the checkpoint) or not yet there.
    pub fn records(&self, from: Seq, bytes_max: usize) -> Vec<Record> {
        if from <= self.positions().base {
            return Vec::new();
        }
        let records = self.log.records(from, bytes_max);
        // A checkpoint may have come between the two looks.
        if records.first().is_some_and(|r| r.seq() == from) { records } else { Vec::new() }
    }

    /// Kept records, for machines and readers.
    pub fn history(&self) -> Arc<GroupHistory> {
        Arc::clone(&self.history)
    }

    /// The tail has grown long enough for a checkpoint.
    pub fn wants_checkpoint(&self) -> bool {
        self.positions().tail_bytes >= self.shared.options.tail_bytes_max
    }

    /// Gathers what a checkpoint at `seq` needs; `snapshot` is the state exactly then, and everything up to there was
    /// marked. Cheap; the writing is done by [`CheckpointJob::run`].
    pub fn prepare(self: &Arc<Self>, seq: Seq, snapshot: Bytes) -> Result<CheckpointJob, StoreError> {
        CheckpointJob::new(self, seq, snapshot)
    }

    /// The last checkpoint's place, if there is one.
    pub fn checkpoint(&self) -> Option<Position> {
        self.history.sealed.read().checkpoint.as_ref().map(|c| Position { epoch: c.epoch, seq: c.seq })
    }

    /// The last checkpoint's place and snapshot, if there is one. Reads a file.
    pub fn snapshot(&self) -> Result<Option<(Seq, Epoch, Bytes)>, StoreError> {
        let _work = self.work.lock();
        let Some(checkpoint) = self.history.sealed.read().checkpoint.clone() else { return Ok(None) };
        let bytes = checkpoint.snapshot(&*self.shared.disk, &self.shared.dir)?;
        Ok(Some((checkpoint.seq, checkpoint.epoch, bytes)))
    }

    /// The segments of the last checkpoint, with the number of records in each that are still kept.
    pub fn manifest(&self) -> Vec<(SegmentInfo, u64)> {
        let sealed = self.history.sealed.read();
        let live = |info: SegmentInfo| (info, sealed.kept.count_in(info.first, info.last));
        sealed.segments.iter().map(|s| live(s.info())).collect()
    }

    /// Bytes of the history as it is stored here: segments and tail.
    pub fn bytes(&self) -> u64 {
        let sealed: u64 = self.history.sealed.read().segments.iter().map(|s| s.info().bytes).sum();
        sealed + self.positions().tail_bytes as u64
    }

    /// Everything that another replica needs, apart from the tail; `None` if there is no checkpoint yet: then the tail is
    /// all. Reads a file. The segments stay readable as long as the export is held.
    pub fn export(&self) -> Result<Option<Export>, StoreError> {
        let _work = self.work.lock();
        let (checkpoint, segments) = {
            let sealed = self.history.sealed.read();
            let Some(checkpoint) = sealed.checkpoint.clone() else { return Ok(None) };
            (checkpoint, sealed.segments.clone())
        };
        let snapshot = checkpoint.snapshot(&*self.shared.disk, &self.shared.dir)?;
        let (seq, epoch, kept) = (checkpoint.seq, checkpoint.epoch, checkpoint.kept);
        Ok(Some(Export { seq, epoch, kept, snapshot, segments }))
    }

    /// Begins to take in a checkpoint from a peer. What is here stays valid until [`Install::commit`].
    pub fn begin_install(self: &Arc<Self>) -> Install {
        Install::new(Arc::clone(self))
    }

    /// Reads every segment and the snapshot to the end. Reads files.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.snapshot()?;
        let segments = self.history.sealed.read().segments.clone();
        for segment in segments {
            segment.bytes().inspect_err(|error| self.history.report(error, &segment))?;
        }
        Ok(())
    }

    pub(super) fn check_alive(dead: bool) -> Result<(), StoreError> {
        if dead { Err(AppendError::Gone.into()) } else { Ok(()) }
    }

    /// Deletes everything of the group here; `done` when that is durable in the log. Writes files.
    pub(super) fn delete(&self, done: GroupDone) -> Result<(), StoreError> {
        let mut dead = self.work.lock();
        Self::check_alive(*dead)?;
        let shared = &self.shared;
        let checkpoint = self.history.sealed.read().checkpoint.clone();
        if let Some(checkpoint) = checkpoint {
            // The checkpoint goes before the log: a tail without its checkpoint is seen to be incomplete, a checkpoint
            // without its tail would look whole.
            shared.watch(checkpoint.remove(&*shared.disk, &shared.dir).map_err(Into::into))?;
            shared.watch(shared.disk.sync_dir(&shared.dir).map_err(Into::into))?;
        }
        shared.wal.forget(&self.log, done)?;
        *dead = true;
        let mut sealed = self.history.sealed.write();
        for segment in &sealed.segments {
            segment.doom();
            shared.open.close(segment.generation);
        }
        *sealed = Sealed::default();
        Ok(())
    }
}
