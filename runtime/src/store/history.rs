//! Reading a group's kept records: from the tail in memory, else from a segment.

use std::sync::Arc;

use onemec_core::context::History;
use onemec_wire::record::Record;
use onemec_wire::{GroupId, Seq};
use parking_lot::RwLock;

use super::checkpoint::Checkpoint;
use super::error::{Damage, DamageKind, StoreError};
use super::node::Shared;
use super::segment::Segment;
use super::seqset::SeqSet;
use super::wal::WalGroup;

/// What is sealed of a group, and what is kept of all of it.
#[derive(Default)]
pub(super) struct Sealed {
    /// The last checkpoint; none before the first.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Its segments, by range.
    pub(super) segments: Vec<Arc<Segment>>,
    /// Kept records, of segments and tail.
    pub(super) kept: SeqSet,
}

impl Sealed {
    fn segment(&self, seq: Seq) -> Option<&Arc<Segment>> {
        let at = self.segments.partition_point(|s| s.info().last < seq);
        self.segments.get(at).filter(|s| s.info().first <= seq)
    }
}

/// Kept records of one group; see [`History`]. Locks are held for look-ups only, never while a file is read.
pub struct GroupHistory {
    pub(super) log: Arc<WalGroup>,
    pub(super) shared: Arc<Shared>,
    /// Order: this lock alone, or before the tail's.
    pub(super) sealed: RwLock<Sealed>,
}

impl GroupHistory {
    /// The record at `seq`, unless it was released or is not here. Records of the tail are found whether kept or not.
    pub fn read(&self, seq: Seq) -> Result<Option<Record>, StoreError> {
        // The tail first: what leaves it has been put into a segment before.
        if let Some(record) = self.log.record(seq) {
            return Ok(Some(record));
        }
        let segment = {
            let sealed = self.sealed.read();
            if !sealed.kept.contains(seq) {
                return Ok(None);
            }
            sealed.segment(seq).cloned()
        };
        match segment {
            Some(segment) => segment.record(&self.shared.open, seq),
            None => Ok(None),
        }
    }

    pub(super) fn group(&self) -> GroupId {
        self.log.id()
    }

    pub(super) fn report(&self, error: &StoreError, segment: &Segment) {
        let offset = match error {
            StoreError::Damaged { offset, .. } => *offset,
            StoreError::Disk(super::disk::DiskError::NotFound(_)) => 0,
            _ => return,
        };
        let info = segment.info();
        let file = segment.path().to_owned();
        let what = DamageKind::Segment { file, first: info.first, last: info.last, offset };
        self.shared.damaged(&Damage { group: Some(self.group()), what });
    }
}

impl History for GroupHistory {
    /// Damage is reported to the store's hook, and the record is as good as not here: a peer has to give it.
    fn record(&self, seq: Seq) -> Option<Record> {
        match self.read(seq) {
            Ok(found) => found,
            Err(error) => {
                if let Some(segment) = self.sealed.read().segment(seq).cloned() {
                    self.report(&error, &segment);
                }
                None
            }
        }
    }
}
