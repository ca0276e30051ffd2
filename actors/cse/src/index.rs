//! The node's read index: the contexts that this node serves, for readers that do not pass a mailbox (DESIGN.md
//! section 6). A machine enters itself when it begins to serve and leaves when it stops.

use std::sync::Arc;

use dashmap::DashMap;
use onemec_core::context::{Gate, History};
use onemec_wire::ContextId;
use parking_lot::RwLock;

use crate::tree::Tree;

/// A context as a reader sees it.
#[derive(Clone)]
pub struct Served {
    /// Its resources. The machine takes the write lock for the moment of applying one committed record, so a reader
    /// never sees half an operation or one that is not committed (rule 10).
    pub tree: Arc<RwLock<Tree>>,
    /// Must be open when the reader looks (rule 2).
    pub gate: Arc<dyn Gate>,
    /// Bodies of contentInstances.
    pub history: Arc<dyn History>,
}

/// The contexts that this node serves.
#[derive(Clone, Default)]
pub struct CseIndex {
    contexts: Arc<DashMap<ContextId, Served, rustc_hash::FxBuildHasher>>,
}

impl CseIndex {
    /// An empty index.
    pub fn new() -> Self {
        Self::default()
    }

    /// The context, if this node may answer for it at this moment.
    pub fn open(&self, context: ContextId) -> Option<Served> {
        let served = self.contexts.get(&context)?.clone();
        served.gate.is_open().then_some(served)
    }

    /// The context as this node last knew it, also while it may not answer for it: for nothing but a first look at what
    /// goes into the local buffer.
    pub(crate) fn last_known(&self, context: ContextId) -> Option<Served> {
        self.contexts.get(&context).map(|s| s.clone())
    }

    /// Whether the context is in memory to be served.
    pub(crate) fn holds(&self, context: ContextId) -> bool {
        self.contexts.contains_key(&context)
    }

    /// How many contentInstances a context holds; `None` if this node does not serve it.
    pub fn instances(&self, context: ContextId) -> Option<u64> {
        let served = self.open(context)?;
        let tree = served.tree.read();
        Some(tree.nodes().map(|n| n.instance_count() as u64).sum())
    }

    /// How many contexts are served.
    pub fn len(&self) -> usize {
        self.contexts.len()
    }

    /// None is served.
    pub fn is_empty(&self) -> bool {
        self.contexts.is_empty()
    }

    pub(crate) fn enter(&self, context: ContextId, served: Served) {
        self.contexts.insert(context, served);
    }

    /// Leaves the index, unless a newer machine of the same context has entered meanwhile.
    pub(crate) fn leave(&self, context: ContextId, tree: &Arc<RwLock<Tree>>) {
        self.contexts.remove_if(&context, |_, s| Arc::ptr_eq(&s.tree, tree));
    }
}
