//! Latency histograms: nanoseconds, three digits, percentiles for people, `.hgrm` for plotters.

use std::fmt::Write as _;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longer ones count as this.
const NS_MAX: u64 = 600_000_000_000;
/// Lines per halving of the distance to 100 % in a `.hgrm` file, as HdrHistogram's own tools write it.
const TICKS_PER_HALF: u32 = 5;

/// Durations.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Percentiles {
    /// How many values.
    pub(crate) count: u64,
    /// Median.
    pub(crate) p50: f64,
    /// 90 % are no longer.
    pub(crate) p90: f64,
    /// 99 % are no longer.
    pub(crate) p99: f64,
    /// 99.9 % are no longer.
    pub(crate) p99_9: f64,
    /// The longest.
    pub(crate) max: f64,
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl Latency {
    pub(crate) fn new() -> Self {
        #[allow(clippy::expect_used)] // constants that hdrhistogram documents as valid
        Self(Histogram::new_with_bounds(1, NS_MAX, 3).expect("constant bounds are valid"))
    }

    pub(crate) fn record(&mut self, value: Duration) {
        self.0.saturating_record(ns(value));
    }

    pub(crate) fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _same_bounds = self.0.add(&other.0);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In microseconds.
    pub(crate) fn quantile_us(&self, quantile: f64) -> f64 {
        us(self.0.value_at_quantile(quantile))
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        let q = |q| self.quantile_us(q);
        Percentiles {
            count: self.0.len(),
            p50: q(0.5),
            p90: q(0.9),
            p99: q(0.99),
            p99_9: q(0.999),
            max: us(self.0.max()),
        }
    }

    /// HdrHistogram's text format for percentile distributions; values in milliseconds.
    pub(crate) fn hgrm(&self) -> String {
        let h = &self.0;
        let mut out =
            format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
        let mut total = 0;
        for step in h.iter_quantiles(TICKS_PER_HALF) {
            total += step.count_since_last_iteration();
            let value = us(step.value_iterated_to()) / 1e3;
            let quantile = step.quantile_iterated_to();
            let _never = write!(out, "{value:>12.6} {quantile:>14.12} {total:>10}");
            let _never =
                if quantile < 1.0 { writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(out) };
        }
        let (mean, deviation) = (h.mean() / 1e6, h.stdev() / 1e6);
        let _never = writeln!(out, "#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]");
        let _never = writeln!(out, "#[Max     = {:>12.6}, Total count    = {:>12}]", us(h.max()) / 1e3, h.len());
        out
    }
}

fn ns(value: Duration) -> u64 {
    u64::try_from(value.as_nanos()).unwrap_or(u64::MAX)
}

fn us(ns: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // below 2^53 for a hundred days
    let value = ns as f64;
    value / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_and_hgrm_tell_the_same() {
        let mut l = Latency::new();
        (1..=1000).for_each(|ms| l.record(Duration::from_millis(ms)));
        let p = l.percentiles();
        assert_eq!(p.count, 1000);
        assert!((p.p50 - 500_000.0).abs() < 1_000.0, "{p:?}");
        assert!((p.p99 - 990_000.0).abs() < 1_000.0, "{p:?}");
        let text = l.hgrm();
        assert!(text.contains("1.000000000000       1000"), "{text}");
        assert!(text.contains("Total count    =         1000]"), "{text}");
    }
}
