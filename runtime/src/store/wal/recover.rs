//! From the frames of the log to the groups' tails.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};
use rustc_hash::FxHashMap;

use super::frame::{self, Content, GroupState};
use super::tail::Tail;
use super::{GroupLoss, WalDamage};
use crate::store::append::{Entry, Lost, Lsn};

/// For groups whose checkpoint was received: records in earlier frames do not count.
pub type Floors = FxHashMap<GroupId, Lsn>;

/// What the log held.
#[derive(Debug)]
pub struct WalRecovery {
    /// By group.
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    /// What could not be read, if anything.
    pub damage: Option<WalDamage>,
    /// Frames read.
    pub frames: u64,
}

/// One group as the log has it.
#[derive(Debug, Default)]
pub struct RecoveredGroup {
    /// By place; where a place was written twice without a truncation between, the later one.
    records: BTreeMap<Seq, (Record, Lsn)>,
    /// The state that was set last, with the highest epoch of state and records.
    pub state: GroupState,
    state_lsn: Option<Lsn>,
    gnum_next: Option<u64>,
    last_lsn: Lsn,
    gap: bool,
}

/// A hole in what should be a group's tail: what follows it was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TailHole {
    /// Last record before it.
    pub last: Seq,
    /// First record behind it.
    pub found: Seq,
}

impl RecoveredGroup {
    /// The places that the log has.
    pub fn seqs(&self) -> impl Iterator<Item = Seq> + '_ {
        self.records.keys().copied()
    }

    /// The tail behind a checkpoint: as far as it goes without a gap and without an epoch that goes down.
    pub fn into_tail(self, base: Seq, base_epoch: Epoch) -> (Tail, Option<TailHole>) {
        let mut state = self.state;
        state.epoch = state.epoch.max(base_epoch);
        let mut tail = Tail::recovered(base, base_epoch, self.gnum_next.unwrap_or(0), state, self.state_lsn);
        let mut hole = None;
        let (mut last, mut epoch) = (base, base_epoch);
        for (seq, (record, lsn)) in self.records.range((Bound::Excluded(base), Bound::Unbounded)) {
            if *seq != last.next() || record.epoch() < epoch {
                hole = Some(TailHole { last, found: *seq });
                break;
            }
            (last, epoch) = (*seq, record.epoch());
            tail.push(record.clone(), *lsn);
        }
        tail.all_synced();
        (tail, hole)
    }
}

/// Takes the frames in order.
pub(super) struct Replay<'a> {
    floors: &'a Floors,
    groups: BTreeMap<GroupId, RecoveredGroup>,
    unreadable: Vec<Lsn>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(floors: &'a Floors) -> Self {
        Self { floors, groups: BTreeMap::new(), unreadable: Vec::new() }
    }

    pub(super) fn take(&mut self, entry: &Entry) {
        // The entry is a slice of a large buffer, and records are kept: one copy.
        let payload = Bytes::copy_from_slice(&entry.payload);
        let Some(parsed) = frame::parse(entry.kind, &payload) else {
            self.unreadable.push(entry.lsn);
            return;
        };
        if matches!(parsed.content, Content::Forget) {
            self.groups.remove(&parsed.group);
            return;
        }
        let counts = self.floors.get(&parsed.group).is_none_or(|floor| entry.lsn >= *floor);
        let group = self.groups.entry(parsed.group).or_default();
        if group.gnum_next.is_some_and(|next| next != parsed.gnum) {
            group.gap = true;
        }
        group.gnum_next = Some(parsed.gnum + 1);
        group.last_lsn = entry.lsn;
        match parsed.content {
            Content::Records(records) => {
                for record in records {
                    group.state.epoch = group.state.epoch.max(record.epoch());
                    if counts {
                        group.records.insert(record.seq(), (record, entry.lsn));
                    }
                }
            }
            Content::State(mut state) => {
                state.epoch = state.epoch.max(group.state.epoch);
                group.state = state;
                group.state_lsn = Some(entry.lsn);
            }
            Content::Truncate(after) => {
                if counts {
                    group.records.split_off(&after.next());
                }
            }
            Content::Forget => {}
        }
    }

    pub(super) fn finish(self, lost: Vec<Lost>, frames: u64) -> WalRecovery {
        let mut behind = lost.iter().map(|l| l.lsns.end).max();
        behind = behind.max(self.unreadable.iter().map(|lsn| lsn + 1).max());
        let mut groups = BTreeMap::new();
        for (id, group) in &self.groups {
            if group.gap {
                groups.insert(*id, GroupLoss::Certain);
            } else if behind.is_some_and(|end| group.last_lsn < end) {
                groups.insert(*id, GroupLoss::Possible);
            }
        }
        let damage = (behind.is_some() || !groups.is_empty()).then_some(WalDamage { lost, groups });
        WalRecovery { groups: self.groups, damage, frames }
    }
}
