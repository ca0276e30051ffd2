//! Emptying a node (`onemec drain NODE`; COVERAGE.md row H02): in order, not too many at once, with progress.
//!
//! [`DrainPlan`] is pure: [`DrainPlan::start`] gives the moves that may begin now, [`DrainPlan::ended`] takes each end.
//! [`Drainer`] runs it.

mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use onemec_wire::{GroupId, NodeId};
use serde::Serialize;

pub use self::run::{Drainer, MoveEnd};
use crate::strategy::MoveRequest;

/// Groups in one drain; more are left for the next one ([`DrainProgress::left_off`]).
pub const GROUPS_MAX: usize = 1 << 20;
/// Failures that are listed; all are counted.
pub const FAILED_LISTED_MAX: usize = 100;

/// Bounds of a drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainOptions {
    /// Moves at once; at least 1.
    pub moves_max: usize,
    /// Time between two beginnings.
    pub gap_ms: u64,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self { moves_max: 8, gap_ms: 0 }
    }
}

/// A group on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainGroup {
    /// The group.
    pub group: GroupId,
    /// Higher goes first.
    pub priority: u8,
    /// Bytes of its history: small groups go first.
    pub bytes: u64,
    /// It belongs to the CSEBase and stays.
    pub pinned: bool,
}

/// A group that could not be moved; it is served where it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainFailure {
    /// The group.
    pub group: GroupId,
    /// A short word for machines.
    pub code: String,
    /// In words.
    pub text: String,
}

/// Where a drain stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainState {
    /// Moves are under way or wait.
    #[default]
    Running,
    /// Nothing is left there.
    Done,
    /// It has ended, and some have not moved.
    Failed,
}

/// What a drain has behind it when a round begins, or when its node dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind {
    /// Groups that the drain is about.
    pub total: u64,
    /// Moved.
    pub moved: u64,
    /// No longer there because the node died.
    pub failed_over: u64,
}

impl Behind {
    /// The node has died and leads `left` of the groups still, since nobody else may. All others that had not moved have
    /// failed over; so have, as far as is known, those that moved after the last report. Said twice it changes nothing.
    #[must_use]
    pub fn after_death(self, left: u64) -> Self {
        let failed_over = self.total.saturating_sub(self.moved.saturating_add(left)).max(self.failed_over);
        Self { total: self.moved.saturating_add(failed_over).saturating_add(left), failed_over, ..self }
    }
}

/// Progress of a drain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DrainProgress {
    /// Where it stands.
    pub state: DrainState,
    /// Groups that are to move.
    pub total: u64,
    /// Moved so far.
    pub moved: u64,
    /// No longer there because the node died.
    pub failed_over: u64,
    /// Under way.
    pub running: u64,
    /// Waiting.
    pub waiting: u64,
    /// Could not be moved.
    pub failed: u64,
    /// Stay because they belong to the CSEBase.
    pub pinned: u64,
    /// Beyond [`GROUPS_MAX`].
    pub left_off: u64,
    /// The first [`FAILED_LISTED_MAX`] failures.
    pub failures: Vec<DrainFailure>,
}

/// A drain: what waits, what runs, what has ended. `total = moved + failed_over + running + waiting + failed` always holds.
#[derive(Debug)]
pub struct DrainPlan {
    options: DrainOptions,
    target: Option<NodeId>,
    known: BTreeSet<GroupId>,
    waiting: VecDeque<GroupId>,
    running: BTreeMap<GroupId, u64>,
    next_start_ms: u64,
    moved: u64,
    failed_over: u64,
    failed: u64,
    pinned: u64,
    left_off: u64,
    failures: Vec<DrainFailure>,
}

impl DrainPlan {
    /// Empties a node of these groups, towards `target` or the best candidate of each.
    pub fn new(groups: &[DrainGroup], target: Option<NodeId>, options: DrainOptions) -> Self {
        let options = DrainOptions { moves_max: options.moves_max.max(1), ..options };
        let mut plan = Self {
            options,
            target,
            known: BTreeSet::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            next_start_ms: 0,
            moved: 0,
            failed_over: 0,
            failed: 0,
            pinned: 0,
            left_off: 0,
            failures: Vec::new(),
        };
        plan.add(groups);
        plan
    }

    /// Counts what earlier rounds did as well. What they did not end is counted anew, by what is on the node now.
    #[must_use]
    pub fn going_on(mut self, behind: Behind) -> Self {
        (self.moved, self.failed_over) = (behind.moved, behind.failed_over);
        self
    }

    /// Groups that came to the node before everybody knew that it is being emptied. Known ones are ignored; new ones wait
    /// behind the others.
    pub fn add(&mut self, groups: &[DrainGroup]) {
        let mut new: Vec<&DrainGroup> = groups.iter().filter(|g| !self.known.contains(&g.group)).collect();
        new.sort_by_key(|g| (std::cmp::Reverse(g.priority), g.bytes, g.group));
        for g in new {
            if self.known.len() >= GROUPS_MAX {
                self.left_off += 1;
            } else if self.known.insert(g.group) {
                match g.pinned {
                    true => self.pinned += 1,
                    false => self.waiting.push_back(g.group),
                }
            }
        }
    }

    /// The moves that begin now. They count as under way from here on.
    pub fn start(&mut self, now_ms: u64) -> Vec<MoveRequest> {
        let mut moves = Vec::new();
        while self.running.len() < self.options.moves_max && now_ms >= self.next_start_ms {
            let Some(group) = self.waiting.pop_front() else { break };
            self.running.insert(group, now_ms);
            moves.push(MoveRequest::drain(group, self.target));
            if self.options.gap_ms > 0 {
                self.next_start_ms = now_ms.saturating_add(self.options.gap_ms);
            }
        }
        moves
    }

    /// When [`Self::start`] can give more, if only the gap holds it back.
    pub fn next_start_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty() && self.running.len() < self.options.moves_max).then_some(self.next_start_ms)
    }

    /// A move has ended; the error is code and sentence. What is not under way is ignored.
    pub fn ended(&mut self, group: GroupId, end: Result<(), (String, String)>) {
        if self.running.remove(&group).is_none() {
            return;
        }
        match end {
            Ok(()) => self.moved += 1,
            Err((code, text)) => self.fail(group, code, text),
        }
    }

    /// Nothing more begins; what waits counts as failed. Moves under way end as they end.
    pub fn cancel(&mut self) {
        for group in std::mem::take(&mut self.waiting) {
            self.fail(group, "cancelled".into(), "the drain was cancelled".into());
        }
    }

    fn fail(&mut self, group: GroupId, code: String, text: String) {
        self.failed += 1;
        if self.failures.len() < FAILED_LISTED_MAX {
            self.failures.push(DrainFailure { group, code, text });
        }
    }

    /// Nothing waits and nothing is under way.
    pub fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Where it stands.
    pub fn progress(&self) -> DrainProgress {
        let (running, waiting) = (self.running.len() as u64, self.waiting.len() as u64);
        DrainProgress {
            state: match (self.is_over(), self.failed + self.left_off) {
                (false, _) => DrainState::Running,
                (true, 0) => DrainState::Done,
                (true, _) => DrainState::Failed,
            },
            total: self.moved + self.failed_over + running + waiting + self.failed,
            moved: self.moved,
            failed_over: self.failed_over,
            running,
            waiting,
            failed: self.failed,
            pinned: self.pinned,
            left_off: self.left_off,
            failures: self.failures.clone(),
        }
    }
}
