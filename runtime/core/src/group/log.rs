//! What the machine knows of its log: positions and the epochs in which they were made. The records themselves are the
//! executor's business.

use onemec_wire::{Epoch, Seq};

/// A place in a log together with the epoch in which it was filled: equal positions mean equal logs up to there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, bincode::Encode, bincode::Decode)]
pub struct Position {
    /// The epoch of the record at `seq`.
    pub epoch: Epoch,
    /// The place.
    pub seq: Seq,
}

/// The shape of a log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogShape {
    /// Everything up to here is in the snapshot; records after it can be streamed.
    base: Position,
    /// First record of each epoch, rising, all after `base`.
    epochs: Vec<(Epoch, Seq)>,
    last: Seq,
    /// Everything up to here is on this node's disk.
    synced: Seq,
}

impl LogShape {
    /// An empty log.
    pub fn new() -> Self {
        Self::default()
    }

    /// A log as recovered or installed: a snapshot at `base`, then records.
    pub fn recovered(base: Position, records: impl IntoIterator<Item = Position>, synced: bool) -> Self {
        let mut log = Self { base, epochs: Vec::new(), last: base.seq, synced: Seq(0) };
        for p in records {
            log.append(p);
        }
        if synced {
            log.synced = log.last;
        }
        log
    }

    /// The snapshot's position.
    pub fn base(&self) -> Position {
        self.base
    }
    /// The last record's place.
    pub fn last(&self) -> Seq {
        self.last
    }
    /// The last record's position.
    pub fn last_position(&self) -> Position {
        Position { epoch: self.epoch_at(self.last).unwrap_or_default(), seq: self.last }
    }
    /// Everything up to here is on this node's disk.
    pub fn synced(&self) -> Seq {
        self.synced
    }

    /// The epoch of the record at `seq`; `None` beyond the end or before the base.
    pub fn epoch_at(&self, seq: Seq) -> Option<Epoch> {
        if seq > self.last || seq < self.base.seq {
            return None;
        }
        self.epochs.iter().rev().find(|(_, first)| *first <= seq).map(|(e, _)| *e).or(Some(self.base.epoch))
    }

    /// Is the log the same as another's up to `p`?
    pub fn matches(&self, p: Position) -> bool {
        self.epoch_at(p.seq) == Some(p.epoch)
    }

    /// Adds the next record.
    pub fn append(&mut self, p: Position) {
        assert!(p.seq == self.last.next(), "a log has no holes: {p:?} after {:?}", self.last);
        let latest = self.epochs.last().map_or(self.base.epoch, |(e, _)| *e);
        assert!(p.epoch >= latest, "epochs rise: {p:?} after {latest:?}");
        if p.epoch > latest || (self.epochs.is_empty() && self.base.seq == Seq(0)) {
            self.epochs.push((p.epoch, p.seq));
        }
        self.last = p.seq;
    }

    /// Removes everything after `seq`.
    pub fn truncate(&mut self, seq: Seq) {
        assert!(seq >= self.base.seq, "a snapshot holds only what was committed");
        self.epochs.retain(|(_, first)| *first <= seq);
        self.last = self.last.min(seq);
        self.synced = self.synced.min(seq);
    }

    /// The disk holds everything up to `seq`, in the state in which the log was when the sync was asked for; a later
    /// truncation lowers it again.
    pub fn note_synced(&mut self, seq: Seq) {
        self.synced = self.synced.max(seq.min(self.last));
    }

    /// A snapshot was taken at `seq`: earlier records may go.
    pub fn rebase(&mut self, seq: Seq) {
        let Some(epoch) = self.epoch_at(seq) else { return };
        self.base = Position { epoch, seq };
        let keep_from = self.epochs.iter().rposition(|(_, first)| *first <= seq.next()).unwrap_or(0);
        self.epochs.drain(..keep_from);
        if let Some(first) = self.epochs.first_mut()
            && first.1 <= seq
        {
            if first.0 == epoch && seq == self.last {
                self.epochs.remove(0);
            } else {
                first.1 = seq.next();
            }
        }
    }

    /// The largest position at or before `limit.seq` whose epoch is not newer than `limit.epoch`: the two sides of a
    /// replication step down to it in turn until they agree (as Kafka's leader epochs do, KIP-101).
    pub fn at_or_before(&self, limit: Position) -> Position {
        let mut seq = limit.seq.min(self.last);
        for (epoch, first) in self.epochs.iter().rev() {
            if *epoch > limit.epoch {
                seq = seq.min(Seq(first.0.saturating_sub(1)));
            } else {
                break;
            }
        }
        Position { epoch: self.epoch_at(seq).unwrap_or_default(), seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(epoch: u64, seq: u64) -> Position {
        Position { epoch: Epoch(epoch), seq: Seq(seq) }
    }

    #[test]
    fn two_logs_step_down_to_where_they_agree() {
        let a = LogShape::recovered(p(0, 0), (1..=10).map(|s| p(3, s)).chain([p(5, 11)]), true);
        let b = LogShape::recovered(p(0, 0), (1..=8).map(|s| p(3, s)).chain([p(4, 9), p(4, 10)]), true);
        let mut at = a.last_position();
        for _ in 0..5 {
            at = b.at_or_before(at);
            at = a.at_or_before(at);
        }
        assert_eq!(at, p(3, 8));
    }

    #[test]
    fn rebase_keeps_epochs_of_what_follows() {
        let mut a = LogShape::recovered(p(0, 0), [p(1, 1), p(1, 2), p(2, 3), p(2, 4)], false);
        a.rebase(Seq(3));
        assert_eq!(
            (a.epoch_at(Seq(2)), a.epoch_at(Seq(3)), a.epoch_at(Seq(4))),
            (None, Some(Epoch(2)), Some(Epoch(2)))
        );
        a.rebase(Seq(4));
        a.append(p(2, 5));
        a.append(p(4, 6));
        assert_eq!((a.epoch_at(Seq(5)), a.epoch_at(Seq(6))), (Some(Epoch(2)), Some(Epoch(4))));
        a.truncate(Seq(5));
        assert_eq!(a.last_position(), p(2, 5));
    }
}
