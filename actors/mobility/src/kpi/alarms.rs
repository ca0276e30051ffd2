//! Alarms: a group that moves too often, too many moves that fail.

use std::collections::{BTreeMap, VecDeque};

use onemec_wire::GroupId;
use serde::Serialize;

/// Moves that are remembered for the alarms; beyond it the oldest count no longer.
pub const EVENTS_MAX: usize = 65_536;
/// Groups that are named at once.
pub const ALARMS_MAX: usize = 64;

/// Thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmOptions {
    /// Over this time.
    pub window_ms: u64,
    /// More moves of one group than this are too many.
    pub moves_max: u32,
    /// More failures in all than this are too many.
    pub failures_max: u32,
}

impl Default for AlarmOptions {
    fn default() -> Self {
        Self { window_ms: 60_000, moves_max: 6, failures_max: 3 }
    }
}

/// Something an operator should look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MoveAlarm {
    /// `moves-frequent`, `moves-failed` or `moves-slow`.
    pub code: &'static str,
    /// In words.
    pub text: String,
    /// The group, if it is about one.
    pub group: Option<String>,
    /// Since when.
    pub since_ms: u64,
}

/// Events of the window and what follows from them. The time never runs back: an earlier one counts as the latest seen.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    options: AlarmOptions,
    now_ms: u64,
    events: VecDeque<(u64, GroupId, bool)>,
    moves: BTreeMap<GroupId, u32>,
    failures: u32,
    frequent: BTreeMap<GroupId, u64>,
    failing: Option<u64>,
    /// When moves broke the budget, and for how long they interrupted.
    slow: VecDeque<(u64, u64)>,
}

impl Alarms {
    pub(super) fn new(options: AlarmOptions) -> Self {
        Self { options, ..Self::default() }
    }

    pub(super) fn ended(&mut self, at_ms: u64, group: GroupId, moved: bool) {
        self.advance(at_ms);
        if self.events.len() >= EVENTS_MAX {
            self.forget_oldest();
        }
        self.events.push_back((self.now_ms, group, moved));
        if moved {
            let count = self.moves.entry(group).or_default();
            *count += 1;
            if *count > self.options.moves_max {
                self.frequent.entry(group).or_insert(self.now_ms);
            }
        } else {
            self.failures += 1;
            if self.failures > self.options.failures_max {
                self.failing.get_or_insert(self.now_ms);
            }
        }
    }

    pub(super) fn on(&mut self, now_ms: u64) -> Vec<MoveAlarm> {
        self.advance(now_ms);
        let seconds = self.options.window_ms / 1_000;
        let frequent = self.frequent.iter().take(ALARMS_MAX).map(|(group, since_ms)| MoveAlarm {
            code: "moves-frequent",
            text: format!("group {group} moved {} times in {seconds} s", self.moves.get(group).copied().unwrap_or(0)),
            group: Some(group.to_string()),
            since_ms: *since_ms,
        });
        let slow = self.slow.front().map(|(since_ms, _)| MoveAlarm {
            code: "moves-slow",
            text: format!(
                "{} moves interrupted their devices for longer than {} ms in {seconds} s, the worst for {} ms",
                self.slow.len(),
                super::INTERRUPTION_BUDGET_US / 1_000,
                self.slow.iter().map(|(_, us)| us / 1_000).max().unwrap_or(0)
            ),
            group: None,
            since_ms: *since_ms,
        });
        let failing = self.failing.map(|since_ms| MoveAlarm {
            code: "moves-failed",
            text: format!("{} moves failed in {seconds} s", self.failures),
            group: None,
            since_ms,
        });
        failing.into_iter().chain(slow).chain(frequent).collect()
    }

    fn advance(&mut self, now_ms: u64) {
        self.now_ms = self.now_ms.max(now_ms);
        while self.events.front().is_some_and(|(at, ..)| self.now_ms - at >= self.options.window_ms) {
            self.forget_oldest();
        }
        while self.slow.front().is_some_and(|(at, _)| self.now_ms - at >= self.options.window_ms) {
            self.slow.pop_front();
        }
    }

    /// The move that ended last broke the budget.
    pub(super) fn slow(&mut self, us: u64) {
        if self.slow.len() >= EVENTS_MAX {
            self.slow.pop_front();
        }
        self.slow.push_back((self.now_ms, us));
    }

    fn forget_oldest(&mut self) {
        let Some((_, group, moved)) = self.events.pop_front() else { return };
        if !moved {
            self.failures = self.failures.saturating_sub(1);
            if self.failures <= self.options.failures_max {
                self.failing = None;
            }
            return;
        }
        let left = self.moves.get(&group).copied().unwrap_or(0).saturating_sub(1);
        match left {
            0 => drop(self.moves.remove(&group)),
            left => drop(self.moves.insert(group, left)),
        }
        if left <= self.options.moves_max {
            self.frequent.remove(&group);
        }
    }
}
