//! Measures what the device itself feels: the gaps between acknowledgements. Pure: times come in as microseconds since the
//! run's origin.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest gap that the histogram tells apart from longer ones.
pub const GAP_US_MAX: u64 = 10 * 60 * 1_000_000;
/// So many of the latest acknowledgements are kept for [`Meter::gap_through`].
pub const RECENT_MAX: usize = 8192;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Readings that went into the buffer.
    pub buffered: u64,
    /// Writes that the CSE acknowledged.
    pub acknowledged: u64,
    /// Attempts beyond the first one of a write.
    pub retried: u64,
    /// Readings that a full buffer lost before they were sent.
    pub dropped: u64,
    /// Writes that the CSE refused.
    pub refused: u64,
    /// Writes whose outcome is not known.
    pub unknown: u64,
    /// Connections opened.
    pub connections: u64,
    /// Times that the device went on at another host.
    pub switches: u64,
}

/// The gaps of one device.
#[derive(Debug, Clone)]
pub struct Meter {
    window_us: u64,
    window_end_us: Option<u64>,
    longest_us: u64,
    last_ack_us: Option<u64>,
    gaps: Histogram<u64>,
    recent: VecDeque<u64>,
    /// What was counted.
    pub counters: Counters,
}

impl Meter {
    /// One value per window of `window_us` goes into the histogram: the longest gap that ended in it.
    pub fn new(window_us: u64) -> Self {
        #[allow(clippy::expect_used)] // two constants that hdrhistogram documents as valid
        let gaps = Histogram::new_with_bounds(1, GAP_US_MAX, 3).expect("constant bounds are valid");
        Self {
            window_us: window_us.max(1),
            window_end_us: None,
            longest_us: 0,
            last_ack_us: None,
            gaps,
            recent: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// A write was acknowledged.
    pub fn acknowledged(&mut self, now_us: u64) {
        self.counters.acknowledged += 1;
        let gap = self.last_ack_us.map(|last| now_us.saturating_sub(last));
        match self.window_end_us {
            None => self.window_end_us = Some(now_us + self.window_us),
            Some(end) if now_us >= end => {
                self.close_window();
                self.window_end_us = Some(now_us + self.window_us);
            }
            Some(_) => {}
        }
        if let Some(gap) = gap {
            self.longest_us = self.longest_us.max(gap);
        }
        self.last_ack_us = Some(now_us);
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(now_us);
    }

    fn close_window(&mut self) {
        if self.longest_us > 0 {
            self.gaps.saturating_record(self.longest_us);
        }
        self.longest_us = 0;
    }

    /// The histogram with the current window closed.
    pub fn gaps(&self) -> Histogram<u64> {
        let mut copy = self.clone();
        copy.close_window();
        copy.gaps
    }

    /// The last acknowledgement.
    pub fn last_ack_us(&self) -> Option<u64> {
        self.last_ack_us
    }

    /// The longest gap between two acknowledgements that touches the time from `from_us` to `to_us`, as far as the latest
    /// [`RECENT_MAX`] acknowledgements tell.
    pub fn gap_through(&self, from_us: u64, to_us: u64) -> Option<u64> {
        gap_through(self.recent.iter().copied(), from_us, to_us)
    }
}

/// The longest gap between neighbours of `acks` (rising) that touches the time from `from_us` to `to_us`.
pub fn gap_through(acks: impl IntoIterator<Item = u64>, from_us: u64, to_us: u64) -> Option<u64> {
    let mut longest = None;
    let mut last: Option<u64> = None;
    for ack in acks {
        if let Some(last) = last
            && last <= to_us
            && ack >= from_us
        {
            longest = longest.max(Some(ack - last.min(ack)));
        }
        last = Some(ack);
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_per_window_the_longest() {
        let mut m = Meter::new(1000);
        for t in [0, 100, 500, 600, 1000, 1010, 3000, 3001] {
            m.acknowledged(t);
        }
        let gaps = m.gaps();
        assert_eq!(gaps.len(), 3);
        assert_eq!((gaps.min(), gaps.max()), (400, 1990));
        assert_eq!(m.counters.acknowledged, 8);
    }

    #[test]
    fn the_gap_through_a_move_is_the_longest_that_touches_it() {
        let acks = [0, 10, 20, 120, 130, 400];
        assert_eq!(gap_through(acks, 50, 60), Some(100));
        assert_eq!(gap_through(acks, 15, 125), Some(100));
        assert_eq!(gap_through(acks, 0, 15), Some(10));
        assert_eq!(gap_through(acks, 300, 500), Some(270));
        assert_eq!(gap_through(acks, 500, 600), None);
    }
}
