//! Histograms of durations.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer durations count as this: ten minutes.
const US_MAX: u64 = 600_000_000;
/// Decimal digits that a histogram keeps.
const DIGITS: u8 = 2;

/// A part of a move that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// From the order to the freeze: the source serves on.
    Prepare,
    /// From the freeze to the applied transfer.
    Freeze,
    /// The directory command.
    Commit,
    /// From the applied transfer to the target's open gate.
    Activate,
    /// From closing the source's gate to the target's open gate.
    Interruption,
    /// Token check and re-registration.
    Authentication,
    /// Until the device's first request came directly to the target.
    Attach,
    /// A device's request before the move.
    LatencyBefore,
    /// A device's request after it.
    LatencyAfter,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Prepare,
        Self::Freeze,
        Self::Commit,
        Self::Activate,
        Self::Interruption,
        Self::Authentication,
        Self::Attach,
        Self::LatencyBefore,
        Self::LatencyAfter,
    ];

    /// As in JSON and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Freeze => "freeze",
            Self::Commit => "commit",
            Self::Activate => "activate",
            Self::Interruption => "interruption",
            Self::Authentication => "authentication",
            Self::Attach => "attach",
            Self::LatencyBefore => "latency_before",
            Self::LatencyAfter => "latency_after",
        }
    }
}

/// Figures of one phase, in microseconds (percentiles to two digits).
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PhaseFigures {
    /// Which.
    pub phase: Phase,
    /// Measurements.
    pub count: u64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: u64,
    /// 90th percentile.
    pub p90_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// Largest.
    pub max_us: u64,
}

#[derive(Debug)]
pub(super) struct Durations {
    histogram: Histogram<u64>,
    pub(super) sum_us: u64,
    max_us: u64,
}

impl Durations {
    pub(super) fn count(&self) -> u64 {
        self.histogram.len()
    }
    /// Measurements up to `us`, to the histogram's precision.
    pub(super) fn count_to(&self, us: u64) -> u64 {
        self.histogram.count_between(0, us)
    }
}

#[derive(Debug, Default)]
pub(super) struct Phases(BTreeMap<Phase, Durations>);

impl Phases {
    pub(super) fn record(&mut self, phase: Phase, us: u64) {
        let us = us.min(US_MAX);
        let durations = match self.0.entry(phase) {
            std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::btree_map::Entry::Vacant(e) => {
                // The bounds are constants that are known to be good; without a histogram nothing is recorded.
                let Ok(histogram) = Histogram::new_with_bounds(1, US_MAX, DIGITS) else { return };
                e.insert(Durations { histogram, sum_us: 0, max_us: 0 })
            }
        };
        durations.histogram.saturating_record(us);
        durations.sum_us = durations.sum_us.saturating_add(us);
        durations.max_us = durations.max_us.max(us);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Phase, &Durations)> {
        self.0.iter().map(|(phase, d)| (*phase, d))
    }

    pub(super) fn figures(&self) -> Vec<PhaseFigures> {
        let figures = |(phase, d): (Phase, &Durations)| {
            let h = &d.histogram;
            // A histogram names the upper end of a bucket: never more than what was measured.
            let at = |q| h.value_at_quantile(q).min(d.max_us);
            PhaseFigures {
                phase,
                count: h.len(),
                mean_us: h.mean(),
                p50_us: at(0.5),
                p90_us: at(0.9),
                p99_us: at(0.99),
                max_us: d.max_us,
            }
        };
        self.iter().map(figures).collect()
    }
}
