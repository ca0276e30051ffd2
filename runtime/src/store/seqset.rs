//! A set of record numbers, kept as ranges: what of a group's history is kept.

use std::collections::BTreeMap;

use onemec_wire::Seq;

/// A set of places in a group's log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeqSet {
    /// First to last of each range, both included; ranges neither touch nor overlap.
    ranges: BTreeMap<u64, u64>,
}

impl SeqSet {
    /// Whether it is in the set.
    pub fn contains(&self, seq: Seq) -> bool {
        self.ranges.range(..=seq.0).next_back().is_some_and(|(_, last)| *last >= seq.0)
    }

    /// Puts it in; false if it was there.
    pub fn insert(&mut self, seq: Seq) -> bool {
        if self.contains(seq) {
            return false;
        }
        let (mut first, mut last) = (seq.0, seq.0);
        if let Some((&f, _)) = self.ranges.range(..seq.0).next_back().filter(|(_, l)| l.checked_add(1) == Some(seq.0)) {
            first = f;
        }
        if let Some(next) = seq.0.checked_add(1)
            && let Some(l) = self.ranges.remove(&next)
        {
            last = l;
        }
        self.ranges.insert(first, last);
        true
    }

    /// Takes it out; false if it was not there.
    pub fn remove(&mut self, seq: Seq) -> bool {
        let Some((&first, &last)) = self.ranges.range(..=seq.0).next_back().filter(|(_, l)| **l >= seq.0) else {
            return false;
        };
        self.ranges.remove(&first);
        if first < seq.0 {
            self.ranges.insert(first, seq.0 - 1);
        }
        if seq.0 < last {
            self.ranges.insert(seq.0 + 1, last);
        }
        true
    }

    /// Takes out everything after `after`.
    pub fn truncate(&mut self, after: Seq) {
        self.ranges.split_off(&(after.0.saturating_add(1)));
        if let Some((_, last)) = self.ranges.iter_mut().next_back() {
            *last = (*last).min(after.0);
        }
    }

    /// Its ranges in order, first and last included.
    pub fn ranges(&self) -> impl ExactSizeIterator<Item = (Seq, Seq)> + '_ {
        self.ranges.iter().map(|(first, last)| (Seq(*first), Seq(*last)))
    }

    /// From ranges in order that neither touch nor overlap; `None` otherwise.
    pub fn from_ranges(ranges: impl IntoIterator<Item = (Seq, Seq)>) -> Option<Self> {
        let mut out = Self::default();
        let mut free_from = 0;
        for (first, last) in ranges {
            if first.0 < free_from || last < first {
                return None;
            }
            out.ranges.insert(first.0, last.0);
            free_from = last.0.checked_add(2)?;
        }
        Some(out)
    }

    /// How many are in it.
    pub fn count(&self) -> u64 {
        self.ranges.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// How many of `first..=last` are in it.
    pub fn count_in(&self, first: Seq, last: Seq) -> u64 {
        let before = self.ranges.range(..first.0).next_back();
        let inside = self.ranges.range(first.0..=last.0.max(first.0));
        let overlap = |(f, l): (&u64, &u64)| (last.0.min(*l) + 1).saturating_sub(first.0.max(*f));
        before.into_iter().chain(inside).map(overlap).sum()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(ops in proptest::collection::vec((0..3u8, 0..40u64), 0..200)) {
            let (mut set, mut model) = (SeqSet::default(), BTreeSet::new());
            for (op, n) in ops {
                match op {
                    0 => prop_assert_eq!(set.insert(Seq(n)), model.insert(n)),
                    1 => prop_assert_eq!(set.remove(Seq(n)), model.remove(&n)),
                    _ if n > 35 => { set.truncate(Seq(n)); model.retain(|m| *m <= n); }
                    _ => prop_assert_eq!(set.contains(Seq(n)), model.contains(&n)),
                }
                prop_assert_eq!(set.count(), model.len() as u64);
                let inside = model.iter().filter(|m| (10..=n).contains(*m)).count() as u64;
                prop_assert_eq!(if n >= 10 { set.count_in(Seq(10), Seq(n)) } else { 0 }, inside);
                let again = SeqSet::from_ranges(set.ranges());
                prop_assert_eq!(again.as_ref(), Some(&set));
            }
        }
    }
}
