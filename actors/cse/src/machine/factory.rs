//! Makes the machines of AEs and CSEBases.

use bytes::Bytes;
use onemec_core::context::{BadSnapshot, Env, Machine, MachineFactory};

use super::TreeMachine;
use crate::index::CseIndex;
use crate::tree::Tree;

/// Factory for [`onemec_core::context::ContextKind::AE`] and [`onemec_core::context::ContextKind::CSE_BASE`].
#[derive(Clone, Default)]
pub struct TreeFactory {
    index: CseIndex,
}

impl TreeFactory {
    /// A factory whose machines enter themselves in `index` while they serve.
    pub fn new(index: CseIndex) -> Self {
        Self { index }
    }
}

impl MachineFactory for TreeFactory {
    fn create(&self, env: Env) -> Box<dyn Machine> {
        let tree = Tree::new(env.context);
        Box::new(TreeMachine::new(env, self.index.clone(), tree))
    }

    fn restore(&self, env: Env, snapshot: &Bytes) -> Result<Box<dyn Machine>, BadSnapshot> {
        let tree = Tree::from_snapshot(env.context, snapshot).map_err(BadSnapshot)?;
        Ok(Box::new(TreeMachine::new(env, self.index.clone(), tree)))
    }
}
