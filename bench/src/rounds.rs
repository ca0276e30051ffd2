//! Figures over rounds. The two sides of a comparison take turns, so that noise hits both; what counts is the median.

use serde::Serialize;

/// A figure over the rounds of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The median round.
    pub(crate) median: f64,
    /// The lowest round.
    pub(crate) min: f64,
    /// The highest round.
    pub(crate) max: f64,
}

impl Spread {
    /// Of the values of all rounds; `None` without any.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = if sorted.len() % 2 == 1 { upper } else { (sorted.get(middle - 1)? + upper) / 2.0 };
        Some(Self { median, min, max })
    }

    /// One value, measured once.
    pub(crate) const fn single(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
}

/// Ours by theirs, round by round: neighbours in time are compared with each other.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).filter(|(_, t)| **t > 0.0).map(|(o, t)| o / t).collect()
}

/// Which side begins a round: they alternate.
pub(crate) const fn ours_first(round: usize) -> bool {
    round.is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        let spread = Spread::of(&[2.0, 1.0, 90.0]).unwrap();
        assert_eq!((spread.median, spread.min, spread.max), (2.0, 1.0, 90.0));
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0, 4.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn ratios_compare_rounds_with_their_neighbours() {
        assert_eq!(ratios(&[2.0, 9.0], &[4.0, 3.0]), [0.5, 3.0]);
        assert_eq!(ratios(&[2.0], &[0.0]), [] as [f64; 0]);
    }
}
