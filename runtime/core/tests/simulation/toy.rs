//! The state that is replicated: of each context the list of operations that were applied, with a repeat table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onemec_core::group::Position;
use onemec_wire::{ContextId, Seq};

/// What a record does to its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    Write,
    /// The context's final operation (rule 13).
    Finish,
    /// The context comes from another group with this state (rule 16).
    Join(Arc<List>),
}

/// A record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rec {
    pub(crate) at: Position,
    pub(crate) context: ContextId,
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

/// A context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct List {
    pub(crate) ops: Vec<u64>,
    repeats: BTreeMap<u64, usize>,
    pub(crate) finished: bool,
}

/// A group's machines.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Toy {
    pub(crate) applied: Seq,
    lists: BTreeMap<ContextId, List>,
}

impl Toy {
    /// Without contexts, its log begins after this place.
    pub(crate) fn beginning_at(applied: Seq) -> Self {
        Self { applied, lists: BTreeMap::new() }
    }

    pub(crate) fn ops(&self, context: ContextId) -> &[u64] {
        self.lists.get(&context).map_or(&[], |l| &l.ops)
    }

    pub(crate) fn finished(&self) -> BTreeSet<ContextId> {
        self.lists.iter().filter(|(_, l)| l.finished).map(|(c, _)| *c).collect()
    }

    pub(crate) fn state_of(&self, context: ContextId) -> Arc<List> {
        Arc::new(self.lists.get(&context).cloned().unwrap_or_default())
    }

    pub(crate) fn apply(&mut self, rec: &Rec) -> Applied {
        assert_eq!(rec.at.seq, self.applied.next(), "records are applied in order");
        self.applied = rec.at.seq;
        let list = self.lists.entry(rec.context).or_default();
        if let Wish::Join(state) = &rec.wish {
            list.clone_from(state);
            return Applied { place: 0 };
        }
        if rec.repeatable
            && let Some(place) = list.repeats.get(&rec.op)
        {
            return Applied { place: *place };
        }
        list.ops.push(rec.op);
        if rec.repeatable {
            list.repeats.insert(rec.op, list.ops.len());
        }
        list.finished |= rec.wish == Wish::Finish;
        Applied { place: list.ops.len() }
    }
}
