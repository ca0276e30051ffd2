//! The toy machine behind each group's log: a list of the operations that were applied, a repeat table, finished contexts.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::group::Position;
use onemec_wire::{ContextId, Seq};

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Write,
    /// The context's final operation (rule 13).
    Finish(ContextId),
}

/// A record of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) at: Position,
    pub(crate) op: u64,
    /// Which try of the client made it.
    pub(crate) attempt: u64,
    pub(crate) repeatable: bool,
    pub(crate) wish: Wish,
}

/// What `apply` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Place in the list, from 1.
    pub(crate) place: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Toy {
    pub(crate) applied: Seq,
    pub(crate) list: Vec<u64>,
    repeats: BTreeMap<u64, usize>,
    pub(crate) finished: BTreeSet<ContextId>,
}

impl Toy {
    pub(crate) fn apply(&mut self, rec: &Rec) -> Applied {
        assert_eq!(rec.at.seq, self.applied.next(), "records are applied in order");
        self.applied = rec.at.seq;
        if rec.repeatable
            && let Some(place) = self.repeats.get(&rec.op)
        {
            return Applied { place: *place };
        }
        self.list.push(rec.op);
        if rec.repeatable {
            self.repeats.insert(rec.op, self.list.len());
        }
        if let Wish::Finish(context) = rec.wish {
            self.finished.insert(context);
        }
        Applied { place: self.list.len() }
    }
}
