//! Kept records of contexts that came from another group (rule 16): the machine goes on naming them by their old places,
//! while they lie in this group's log, each in an `Adopt` record around the record as it was.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use onemec_wire::{Record, RecordKind, Seq};

use crate::context::History;

/// The adopted records of one context.
#[derive(Clone, Default)]
pub(super) struct Adopted {
    /// Places up to this one are the old group's; this group's own records of the context come after it.
    pub(super) joined: Seq,
    /// Old place to place in this group's log. Shared with readers; one writer, the group.
    places: Arc<RwLock<BTreeMap<Seq, Seq>>>,
}

impl Adopted {
    pub(super) fn new(joined: Seq, places: impl IntoIterator<Item = (Seq, Seq)>) -> Self {
        Self { joined, places: Arc::new(RwLock::new(places.into_iter().collect())) }
    }

    /// A place of the old group; what was adopted under it before is no longer needed.
    pub(super) fn insert(&self, old: Seq, here: Seq) -> Option<Seq> {
        self.places.write().unwrap_or_else(PoisonError::into_inner).insert(old, here)
    }

    /// Where the record lies that the machine releases.
    pub(super) fn release(&self, named: Seq) -> Option<Seq> {
        if named > self.joined {
            return Some(named);
        }
        self.places.write().unwrap_or_else(PoisonError::into_inner).remove(&named)
    }

    pub(super) fn contains(&self, old: Seq) -> bool {
        self.places.read().unwrap_or_else(PoisonError::into_inner).contains_key(&old)
    }

    pub(super) fn places(&self) -> Vec<(Seq, Seq)> {
        self.places.read().unwrap_or_else(PoisonError::into_inner).iter().map(|(a, b)| (*a, *b)).collect()
    }

    /// The history as the context's machine names it.
    pub(super) fn history(&self, group: Arc<dyn History>) -> Arc<dyn History> {
        Arc::new(Renamed { group, adopted: self.clone() })
    }
}

struct Renamed {
    group: Arc<dyn History>,
    adopted: Adopted,
}

impl History for Renamed {
    fn record(&self, named: Seq) -> Option<Record> {
        if named > self.adopted.joined {
            return self.group.record(named);
        }
        let place = {
            let places = self.adopted.places.read().unwrap_or_else(PoisonError::into_inner);
            places.get(&named).copied()?
        };
        let around = self.group.record(place).filter(|r| r.kind() == RecordKind::Adopt)?;
        Record::parse(&around.body()).ok().map(|(record, _)| record)
    }
}
