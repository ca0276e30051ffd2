//! Histograms for metrics: fixed buckets, counted without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper ends of the buckets, in microseconds; what is longer is counted beyond the last one.
pub const BOUNDS_US: [u64; 14] =
    [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 5_000_000];

/// Durations of something, counted as they happen.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counted {
    /// How many fell into each bucket; the last one is for what was longer than all bounds.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// All durations together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Notes one.
    pub fn note(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was noted so far.
    pub fn counted(&self) -> Counted {
        Counted {
            counts: std::array::from_fn(|i| self.counts.get(i).map_or(0, |c| c.load(Ordering::Relaxed))),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let h = Histogram::default();
        for us in [0, 100, 101, 5_000_000, 5_000_001] {
            h.note(Duration::from_micros(us));
        }
        let c = h.counted();
        assert_eq!((c.counts[0], c.counts[1], c.counts[13], c.counts[14]), (2, 1, 1, 1));
        assert_eq!(c.sum_us, 10_000_202);
    }
}
