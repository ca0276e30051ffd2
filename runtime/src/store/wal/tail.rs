//! A group's records that no checkpoint covers yet.

use std::collections::VecDeque;

use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};

use super::AppendError;
use super::frame::GroupState;
use crate::store::append::Lsn;

/// Where a group's log stands on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Positions {
    /// Covered by the checkpoint; the tail begins after it.
    pub base: Seq,
    /// Last record held in memory.
    pub last: Seq,
    /// Epoch of that record, or of the checkpoint.
    pub last_epoch: Epoch,
    /// Last record that is on the disk, with everything before it.
    pub synced: Seq,
    /// Highest epoch seen (not necessarily synced yet).
    pub epoch: Epoch,
    /// This replica holds everything (rule 7).
    pub complete: bool,
    /// Bytes of the tail.
    pub tail_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    record: Record,
    lsn: Lsn,
}

/// The tail of one group: records `base + 1 ..= last` without a gap.
#[derive(Debug, Default)]
pub struct Tail {
    slots: VecDeque<Slot>,
    bytes: usize,
    pub(super) base: Seq,
    base_epoch: Epoch,
    synced: Seq,
    /// Appended and not yet synced: (frame, last record in it).
    pub(super) pending: VecDeque<(Lsn, Seq)>,
    pub(super) gnum_next: u64,
    pub(super) state: GroupState,
    /// Where the state was written last, if ever.
    pub(super) state_lsn: Option<Lsn>,
    gone: bool,
}

impl Tail {
    /// An empty tail after `base`.
    pub fn after(base: Seq, epoch: Epoch) -> Self {
        let state = GroupState { epoch, ..GroupState::default() };
        Self { base, base_epoch: epoch, synced: base, state, ..Self::default() }
    }

    pub(super) fn recovered(
        base: Seq,
        base_epoch: Epoch,
        gnum_next: u64,
        state: GroupState,
        state_lsn: Option<Lsn>,
    ) -> Self {
        Self { base, base_epoch, synced: base, gnum_next, state, state_lsn, ..Self::default() }
    }

    /// The last record, or what the checkpoint covers.
    pub fn last(&self) -> Seq {
        Seq(self.base.0 + self.slots.len() as u64)
    }

    /// The state as it was last set.
    pub fn state(&self) -> &GroupState {
        &self.state
    }

    /// All positions at once.
    pub fn positions(&self) -> Positions {
        Positions {
            base: self.base,
            last: self.last(),
            last_epoch: self.last_epoch(),
            synced: self.synced,
            epoch: self.state.epoch,
            complete: self.state.complete,
            tail_bytes: self.bytes,
        }
    }

    fn last_epoch(&self) -> Epoch {
        self.slots.back().map_or(self.base_epoch, |slot| slot.record.epoch())
    }

    /// The record at `seq`.
    pub fn get(&self, seq: Seq) -> Option<&Record> {
        let at = seq.0.checked_sub(self.base.0 + 1)?;
        Some(&self.slots.get(usize::try_from(at).ok()?)?.record)
    }

    /// All records in order.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.slots.iter().map(|slot| &slot.record)
    }

    /// See [`super::WalGroup::records`].
    pub fn records(&self, from: Seq, bytes_max: usize) -> Vec<Record> {
        let skip = from.0.saturating_sub(self.base.0 + 1);
        let mut bytes = 0;
        let fits = |slot: &&Slot| {
            let first = bytes == 0;
            bytes += slot.record.bytes().len();
            first || bytes <= bytes_max
        };
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.slots.len());
        self.slots.range(skip..).take_while(fits).map(|slot| slot.record.clone()).collect()
    }

    pub(super) fn check_alive(&self) -> Result<(), AppendError> {
        if self.gone { Err(AppendError::Gone) } else { Ok(()) }
    }

    pub(super) fn check_append(&self, group: GroupId, records: &[Record]) -> Result<(), AppendError> {
        self.check_alive()?;
        let mut last = self.last();
        // Epochs rise along the log. The newest epoch *seen* may be higher: a new primary hands on what older reigns
        // wrote. Refusing a stale primary is the machine's business (rule 5).
        let mut seen = self.slots.back().map_or(self.base_epoch, |slot| slot.record.epoch());
        for record in records {
            if record.group() != group {
                return Err(AppendError::WrongGroup(record.group()));
            }
            if record.seq() != last.next() {
                return Err(AppendError::Gap { last, got: record.seq() });
            }
            if record.epoch() < seen {
                return Err(AppendError::StaleEpoch { seen, got: record.epoch() });
            }
            (last, seen) = (record.seq(), record.epoch());
        }
        Ok(())
    }

    pub(super) fn push(&mut self, record: Record, lsn: Lsn) {
        self.bytes += record.bytes().len();
        self.state.epoch = self.state.epoch.max(record.epoch());
        self.slots.push_back(Slot { record, lsn });
    }

    pub(super) fn truncate(&mut self, after: Seq) {
        let keep = after.0.saturating_sub(self.base.0) as usize;
        while self.slots.len() > keep {
            self.bytes -= self.slots.pop_back().map_or(0, |slot| slot.record.bytes().len());
        }
        self.synced = self.synced.min(after);
        for (_, seq) in &mut self.pending {
            *seq = (*seq).min(after);
        }
    }

    pub(super) fn seal(&mut self, upto: Seq) {
        while self.base < upto {
            let Some(slot) = self.slots.pop_front() else { break };
            self.bytes -= slot.record.bytes().len();
            self.base = slot.record.seq();
            self.base_epoch = slot.record.epoch();
        }
        self.synced = self.synced.max(self.base);
    }

    pub(super) fn reset(&mut self, base: Seq, epoch: Epoch) {
        self.slots.clear();
        self.pending.clear();
        self.bytes = 0;
        (self.base, self.base_epoch, self.synced) = (base, epoch, base);
        self.state.epoch = self.state.epoch.max(epoch);
    }

    pub(super) fn synced_upto(&mut self, lsn: Lsn) {
        while let Some(&(_, seq)) = self.pending.front().filter(|(at, _)| *at <= lsn) {
            self.synced = self.synced.max(seq);
            self.pending.pop_front();
        }
    }

    pub(super) fn all_synced(&mut self) {
        self.synced = self.last();
    }

    pub(super) fn die(&mut self) {
        self.gone = true;
        self.reset(self.base, self.base_epoch);
        self.state_lsn = None;
    }

    /// Records whose frame lies before `cut`.
    pub(super) fn older_than(&self, cut: Lsn) -> Vec<Record> {
        self.slots.iter().filter(|slot| slot.lsn < cut).map(|slot| slot.record.clone()).collect()
    }

    /// The records that [`Tail::older_than`] named lie in later frames now.
    pub(super) fn moved(&mut self, cut: Lsn, to: Lsn) {
        for slot in self.slots.iter_mut().filter(|slot| slot.lsn < cut) {
            slot.lsn = to;
        }
    }
}
