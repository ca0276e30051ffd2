//! The log of all groups' tails: one per node, one sync for whatever all groups have queued.
//!
//! A group's *tail* is what was appended and is not yet covered by its checkpoint ([`crate::store::checkpoint`]). It is
//! kept in memory and here. Frames ([`frame`]) are records, a state (highest epoch seen, completeness, a small note), a
//! truncation, or the end of the group.
//!
//! Room is won back from the oldest file on: what in it is still part of a tail is appended again at the end
//! ([`Wal::clean`]), then the file is given back. So a group that is quiet for long pins nothing, and the disk holds at
//! most about twice the live tails and a few files.

mod clean;
pub mod frame;
mod recover;
mod tail;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};
use parking_lot::{Mutex, RwLock};
use rustc_hash::FxHashMap;

pub use self::clean::{CleanError, Cleaned};
pub use self::recover::{Floors, RecoveredGroup, WalRecovery};
pub use self::tail::{Positions, Tail};
use super::append::{Append, AppendOptions, Done, Fatal, Frame, Lost, Lsn, Step, SubmitError, Usage};
use super::disk::{Disk, DiskError};
use frame::GroupState;

/// Records of one submission are split into frames of at most this size.
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Why the log of a group did not take something. The group's tail is as it was.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The first record does not follow the last one held: append what is missing first, or truncate.
    #[error("record {got} does not follow {last}")]
    Gap {
        /// Last record held.
        last: Seq,
        /// What came.
        got: Seq,
    },
    /// The record or the epoch is older than what this replica has seen (rule 5): refuse the sender.
    #[error("epoch {got} is older than {seen}")]
    StaleEpoch {
        /// Highest epoch seen.
        seen: Epoch,
        /// What came.
        got: Epoch,
    },
    /// The record belongs to another group: a mistake of the caller.
    #[error("a record of group {0} came for another")]
    WrongGroup(GroupId),
    /// What is covered by the checkpoint cannot be truncated.
    #[error("cannot truncate to {after}: the checkpoint covers {base}")]
    BelowCheckpoint {
        /// What was asked.
        after: Seq,
        /// Last record covered.
        base: Seq,
    },
    /// The note is too long.
    #[error("a note of {bytes} bytes is over the limit")]
    NoteTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The group was deleted here.
    #[error("the group was deleted from this store")]
    Gone,
    /// The log took nothing; see there whether to try again.
    #[error(transparent)]
    Log(#[from] SubmitError),
}

/// Completion of a change to one group's log.
pub type GroupDone = Box<dyn FnOnce(Result<(), Fatal>) + Send>;

/// The log of all groups.
pub struct Wal {
    append: Append,
    groups: RwLock<FxHashMap<GroupId, Arc<WalGroup>>>,
    cleaning: Mutex<()>,
    options: WalOptions,
}

/// How the log of all groups is run.
#[derive(Clone)]
pub struct WalOptions {
    /// The files.
    pub append: AppendOptions,
    /// Files up to which nothing is cleaned.
    pub files_min: usize,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self { append: AppendOptions::default(), files_min: 4 }
    }
}

/// One group's part of the log.
pub struct WalGroup {
    id: GroupId,
    /// Order: this lock, then the append log's queue.
    tail: RwLock<Tail>,
}

impl WalGroup {
    /// The group.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Where it stands.
    pub fn positions(&self) -> Positions {
        self.tail.read().positions()
    }

    /// The record at `seq`, if it is in the tail.
    pub fn record(&self, seq: Seq) -> Option<Record> {
        self.tail.read().get(seq).cloned()
    }

    /// Records from `from` on, at least one if there is one, otherwise at most `bytes_max` of them.
    pub fn records(&self, from: Seq, bytes_max: usize) -> Vec<Record> {
        self.tail.read().records(from, bytes_max)
    }

    /// Runs `f` on the tail; keep it short.
    pub fn read<T>(&self, f: impl FnOnce(&Tail) -> T) -> T {
        f(&self.tail.read())
    }

    /// Everything up to `upto` is covered by a checkpoint that is durable: it leaves the tail.
    pub fn sealed(&self, upto: Seq) {
        self.tail.write().seal(upto);
    }

    /// A checkpoint with `floor` replaced everything: the tail is empty and begins after `base`.
    pub fn reset(&self, base: Seq, epoch: Epoch) {
        self.tail.write().reset(base, epoch);
    }
}

impl Wal {
    /// Opens the log. `floors`: for groups with a checkpoint that was received, the frame from which on records count.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        mut options: WalOptions,
        floors: &Floors,
    ) -> Result<(Self, WalRecovery), DiskError> {
        options.append.lsn_min = options.append.lsn_min.max(floors.values().copied().max().unwrap_or(1));
        let mut replay = recover::Replay::new(floors);
        let (append, found) = Append::open(disk, dir, options.append.clone(), &mut |entry| replay.take(&entry))?;
        let recovery = replay.finish(found.lost, found.frames);
        let wal = Self { append, groups: RwLock::default(), cleaning: Mutex::new(()), options };
        Ok((wal, recovery))
    }

    /// Adds a group: empty, or with what was recovered of it.
    pub fn add(&self, id: GroupId, tail: Tail) -> Arc<WalGroup> {
        let group = Arc::new(WalGroup { id, tail: RwLock::new(tail) });
        Arc::clone(self.groups.write().entry(id).or_insert(group))
    }

    /// A group that was added.
    pub fn group(&self, id: GroupId) -> Option<Arc<WalGroup>> {
        self.groups.read().get(&id).cloned()
    }

    /// Appends records that follow the tail, under an epoch that is not older than any seen. They are in the tail at once;
    /// `done` is called when they are synced.
    /// `sync`: somebody waits for that; otherwise it comes within a moment.
    pub fn append(
        &self,
        group: &Arc<WalGroup>,
        records: Vec<Record>,
        sync: bool,
        done: GroupDone,
    ) -> Result<(), AppendError> {
        let mut tail = group.tail.write();
        tail.check_append(group.id, &records)?;
        let Some(last) = records.last().map(Record::seq) else {
            drop(tail);
            done(Ok(()));
            return Ok(());
        };
        let counts: Vec<usize> = self.chunks(&records).iter().map(|chunk| chunk.len()).collect();
        let (frames, gnum) = self.frames_of(group.id, tail.gnum_next, &records);
        let done = synced_later(group, done);
        let lsn = if sync { self.append.submit(frames, done)? } else { self.append.submit_lazy(frames, done)? };
        tail.gnum_next = gnum;
        let mut records = records.into_iter();
        let first = lsn + 1 - counts.len() as u64;
        for (lsn, count) in (first..).zip(counts) {
            records.by_ref().take(count).for_each(|record| tail.push(record, lsn));
        }
        tail.pending.push_back((lsn, last));
        Ok(())
    }

    /// Removes everything after `after` from the tail: the new primary's log says so (rule 5). If there is nothing, `done`
    /// is called at once, whatever else is queued.
    pub fn truncate(&self, group: &Arc<WalGroup>, after: Seq, done: GroupDone) -> Result<(), AppendError> {
        let mut tail = group.tail.write();
        tail.check_alive()?;
        if after < tail.base {
            return Err(AppendError::BelowCheckpoint { after, base: tail.base });
        }
        if after >= tail.last() {
            drop(tail);
            done(Ok(()));
            return Ok(());
        }
        let frame = frame::truncate(group.id, tail.gnum_next, after);
        self.append.submit(vec![frame], synced_later(group, done))?;
        tail.gnum_next += 1;
        tail.truncate(after);
        Ok(())
    }

    /// Persists what changed of the group's state; the epoch never goes down.
    pub fn set_state(
        &self,
        group: &Arc<WalGroup>,
        change: impl FnOnce(&mut GroupState),
        done: GroupDone,
    ) -> Result<(), AppendError> {
        let mut tail = group.tail.write();
        tail.check_alive()?;
        let mut state = tail.state.clone();
        change(&mut state);
        if state.epoch < tail.state.epoch {
            return Err(AppendError::StaleEpoch { seen: tail.state.epoch, got: state.epoch });
        }
        if state.note.len() > frame::NOTE_BYTES_MAX {
            return Err(AppendError::NoteTooLong { bytes: state.note.len() });
        }
        let frame = frame::state(group.id, tail.gnum_next, &state);
        let lsn = self.append.submit(vec![frame], synced_later(group, done))?;
        tail.gnum_next += 1;
        tail.state = state;
        tail.state_lsn = Some(lsn);
        Ok(())
    }

    /// The group is deleted: nothing of it will be recovered. `done` when that is durable.
    pub fn forget(&self, group: &Arc<WalGroup>, done: GroupDone) -> Result<(), AppendError> {
        let mut tail = group.tail.write();
        tail.check_alive()?;
        let frame = frame::forget(group.id, tail.gnum_next);
        self.append.submit(vec![frame], synced_later(group, done))?;
        tail.die();
        drop(tail);
        self.groups.write().remove(&group.id);
        Ok(())
    }

    /// The frame from which on a checkpoint that is received now makes records count, and a guard that keeps what lies
    /// before it from being appended again; hold it until the checkpoint is durable and [`WalGroup::reset`] was called.
    pub fn floor(&self) -> (Lsn, impl Drop + '_) {
        let guard = self.cleaning.lock();
        (self.append.next_lsn(), guard)
    }

    /// Runs of records that go into one frame each: of at most [`FRAME_BYTES_MAX`] and a quarter of a file, or single ones
    /// that are longer.
    fn chunks<'r>(&self, records: &'r [Record]) -> Vec<&'r [Record]> {
        let limit = FRAME_BYTES_MAX.min(self.options.append.file_bytes as usize / 4);
        let mut out = Vec::new();
        let (mut from, mut bytes) = (0, 0);
        for (i, record) in records.iter().enumerate() {
            let len = record.bytes().len();
            if i > from && bytes + len > limit {
                out.extend(records.get(from..i));
                (from, bytes) = (i, 0);
            }
            bytes += len;
        }
        out.extend(records.get(from..).filter(|rest| !rest.is_empty()));
        out
    }

    /// Frames of `records` for `group`, numbered from `gnum` on; and the number after the last.
    fn frames_of(&self, group: GroupId, mut gnum: u64, records: &[Record]) -> (Vec<Frame>, u64) {
        let mut frames = Vec::new();
        for chunk in self.chunks(records) {
            frames.push(frame::records(group, gnum, chunk));
            gnum += 1;
        }
        (frames, gnum)
    }

    /// Commits by hand ([`crate::store::append::Drive::Manual`]).
    pub fn pump(&self) -> Step {
        self.append.pump()
    }

    /// Use of the disk.
    pub fn usage(&self) -> Usage {
        self.append.usage()
    }

    /// How long syncs took.
    pub fn syncs(&self) -> crate::meter::Counted {
        self.append.syncs()
    }

    /// Commits what is queued and ends the thread.
    pub fn close(&self) {
        self.append.close();
    }
}

/// A completion that first notes in the tail how far it is synced.
fn synced_later(group: &Arc<WalGroup>, done: GroupDone) -> Done {
    let group = Arc::clone(group);
    Box::new(move |result| match result {
        Ok(lsn) => {
            group.tail.write().synced_upto(lsn);
            done(Ok(()));
        }
        Err(fatal) => done(Err(fatal)),
    })
}

/// Damage found when the log was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalDamage {
    /// Where.
    pub lost: Vec<Lost>,
    /// Groups that lost something for certain, or may have lost their newest records.
    pub groups: BTreeMap<GroupId, GroupLoss>,
}

/// What damage to the log means for a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupLoss {
    /// Frames of it are missing.
    Certain,
    /// Its newest frames may be missing: nothing of it was read from behind the damage.
    Possible,
}
