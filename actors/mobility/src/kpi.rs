//! KPIs of moves (COVERAGE.md rows H08, H10): histograms per reason and phase, counters, alarms.
//!
//! All of it is bounded: seven reasons with a histogram per [`Phase`] (about 20 KiB each, made when first used),
//! [`CODES_MAX`] failure codes, [`EVENTS_MAX`] moves in the alarms' window.

mod alarms;
mod phases;
mod prometheus;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use onemec_wire::GroupId;
use serde::Serialize;

use self::alarms::Alarms;
pub use self::alarms::{ALARMS_MAX, AlarmOptions, EVENTS_MAX, MoveAlarm};
use self::phases::Phases;
pub use self::phases::{Phase, PhaseFigures};
use crate::strategy::MoveReason;

/// Failure codes that are counted by name; the rest counts as `other`.
pub const CODES_MAX: usize = 48;
/// A longer code counts as `other`.
pub const CODE_BYTES_MAX: usize = 48;
/// The budget of row H08, in microseconds.
pub const INTERRUPTION_BUDGET_US: u64 = 200_000;

/// How a move ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveOutcome<'a> {
    /// The target is primary.
    Moved,
    /// Not; by the code of the failure.
    Failed(&'a str),
}

/// One move that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveSample<'a> {
    /// The group.
    pub group: GroupId,
    /// Why.
    pub reason: MoveReason,
    /// When it ended.
    pub at_ms: u64,
    /// How.
    pub outcome: MoveOutcome<'a>,
    /// Durations that are known, in microseconds. Later ones ([`Phase::Attach`]) come by [`MoveKpis::measured`].
    pub phases: &'a [(Phase, u64)],
    /// Operations that were parked and forwarded.
    pub parked: u64,
    /// Bytes sent to the target.
    pub bytes: u64,
    /// Messages that are known to be lost.
    pub lost: u64,
}

#[derive(Debug, Default)]
struct PerReason {
    moved: u64,
    failed: u64,
    parked: u64,
    bytes: u64,
    lost: u64,
    over_budget: u64,
    phases: Phases,
}

/// The figures of one node. Feed every end of a move; read with [`Self::snapshot`] and [`Self::render`].
#[derive(Debug, Default)]
pub struct MoveKpis {
    reasons: BTreeMap<MoveReason, PerReason>,
    codes: BTreeMap<String, u64>,
    alarms: Alarms,
}

/// Figures of one reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ReasonFigures {
    /// Which.
    pub reason: MoveReason,
    /// Moves that succeeded.
    pub moved: u64,
    /// Moves that did not.
    pub failed: u64,
    /// Operations that were parked and forwarded.
    pub parked: u64,
    /// Bytes sent to targets.
    pub bytes: u64,
    /// Messages that are known to be lost.
    pub lost: u64,
    /// Interruptions above [`INTERRUPTION_BUDGET_US`].
    pub over_budget: u64,
    /// Durations; only phases that were measured.
    pub phases: Vec<PhaseFigures>,
}

/// Everything at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct KpiSnapshot {
    /// By reason; only those that occurred.
    pub reasons: Vec<ReasonFigures>,
    /// Failures by code.
    pub failures: BTreeMap<String, u64>,
    /// Alarms that are on.
    pub alarms: Vec<MoveAlarm>,
}

impl MoveKpis {
    /// With thresholds of its own.
    pub fn new(options: AlarmOptions) -> Self {
        Self { alarms: Alarms::new(options), ..Self::default() }
    }

    /// A move has ended.
    pub fn ended(&mut self, sample: MoveSample<'_>) {
        let figures = self.reasons.entry(sample.reason).or_default();
        figures.parked = figures.parked.saturating_add(sample.parked);
        figures.bytes = figures.bytes.saturating_add(sample.bytes);
        figures.lost = figures.lost.saturating_add(sample.lost);
        match sample.outcome {
            MoveOutcome::Moved => figures.moved += 1,
            MoveOutcome::Failed(code) => {
                figures.failed += 1;
                self.count_code(code);
            }
        }
        self.alarms.ended(sample.at_ms, sample.group, matches!(sample.outcome, MoveOutcome::Moved));
        // The budget is that of planned moves: a death must first be noticed.
        let planned = sample.reason != MoveReason::Failover;
        let slow =
            |(phase, us): &&(Phase, u64)| planned && *phase == Phase::Interruption && *us > INTERRUPTION_BUDGET_US;
        if let Some((_, us)) = sample.phases.iter().find(slow) {
            self.alarms.slow(*us);
        }
        for (phase, us) in sample.phases {
            self.measured(sample.reason, *phase, *us);
        }
    }

    /// A duration that became known.
    pub fn measured(&mut self, reason: MoveReason, phase: Phase, us: u64) {
        let figures = self.reasons.entry(reason).or_default();
        figures.phases.record(phase, us);
        if phase == Phase::Interruption && us > INTERRUPTION_BUDGET_US {
            figures.over_budget += 1;
        }
    }

    fn count_code(&mut self, code: &str) {
        let plain = (1..=CODE_BYTES_MAX).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let room = self.codes.len() < CODES_MAX || self.codes.contains_key(code);
        let name = if plain && room { code } else { "other" };
        *self.codes.entry(name.to_owned()).or_default() += 1;
    }

    /// The alarms that are on.
    pub fn alarms(&mut self, now_ms: u64) -> Vec<MoveAlarm> {
        self.alarms.on(now_ms)
    }

    /// Everything, for the admin API.
    pub fn snapshot(&mut self, now_ms: u64) -> KpiSnapshot {
        let figures = |(reason, r): (&MoveReason, &PerReason)| ReasonFigures {
            reason: *reason,
            moved: r.moved,
            failed: r.failed,
            parked: r.parked,
            bytes: r.bytes,
            lost: r.lost,
            over_budget: r.over_budget,
            phases: r.phases.figures(),
        };
        KpiSnapshot {
            reasons: self.reasons.iter().map(figures).collect(),
            failures: self.codes.clone(),
            alarms: self.alarms.on(now_ms),
        }
    }

    /// Everything as Prometheus text (version 0.0.4), to be appended to the node's other metrics.
    pub fn render(&mut self, now_ms: u64) -> String {
        prometheus::render(self, now_ms)
    }
}
