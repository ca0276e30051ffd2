//! Kept records, with the one that is being applied among them: it joins the history only afterwards.

use onemec_core::context::History;
use onemec_wire::{Record, Seq};

pub(super) struct WithRecord<'a> {
    pub(super) record: &'a Record,
    pub(super) kept: &'a dyn History,
}

impl History for WithRecord<'_> {
    fn record(&self, seq: Seq) -> Option<Record> {
        if seq == self.record.seq() { Some(self.record.clone()) } else { self.kept.record(seq) }
    }
}
