//! What the runtime and the CSE ask of mobility: admission, and re-attachment of devices that come by themselves.

use onemec_core::context::{ContextKind, Contexts};
use onemec_runtime::exec::{Admission, Runtime};
use onemec_wire::{ContextId, NodeId};

use crate::topology::Limits;

/// Decides whether a group may come to this node.
pub(super) struct Admit {
    runtime: Runtime,
    limits: Limits,
}

impl Admit {
    pub(super) fn new(runtime: Runtime, limits: Limits) -> Self {
        Self { runtime, limits }
    }
}

impl Admission for Admit {
    fn admit(&self, contexts: &[(ContextId, ContextKind)], _history: u64, reason: &str) -> Result<(), (String, String)> {
        let me = self.runtime.node();
        let no = |code: &str, text: String| Err((code.to_owned(), text));
        if reason != "failback" && self.runtime.directory().read().fact(&draining_fact(me)).is_some() {
            return no("draining", "this node is being emptied".into());
        }
        let here = self.runtime.at_home(me, ContextKind::AE, None, usize::MAX).len() as u64;
        let coming = contexts.iter().filter(|(_, k)| *k == ContextKind::AE).count() as u64;
        let most = u64::from(self.limits.aes_max);
        if here + coming > most {
            return no("full", format!("{here} AEs are at home here, {most} may be"));
        }
        Ok(())
    }
}

/// Name of the fact that says that a node is being emptied.
pub(super) fn draining_fact(node: NodeId) -> String {
    format!("draining/{}", node.0)
}
