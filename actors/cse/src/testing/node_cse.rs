//! A CSE on a node of the in-memory cluster, ready to serve.

use std::sync::Arc;

use onemec_core::context::ContextKind;
use onemec_onem2m::Refusal;
use onemec_wire::NodeId;

use super::{MemoryCluster, MemoryNode};
use crate::front::{Cse, CseOptions, CseParts, Mobility, Tokens};
use crate::index::CseIndex;
use crate::machine::TreeFactory;
use crate::notify::{NotifyHandler, SendOptions, Sender};

/// What [`start_cse`] takes beside the configuration.
#[derive(Clone, Default)]
pub struct Extras {
    /// Moves AEs.
    pub mobility: Option<Arc<dyn Mobility>>,
    /// Makes handover tokens.
    pub tokens: Option<Arc<dyn Tokens>>,
    /// Keeps what devices write while the node is cut off.
    pub buffer: Option<Arc<dyn onemec_core::buffer::Buffer>>,
    /// Limits of outgoing requests.
    pub send: SendOptions,
}

/// Puts a CSE on a new node of the cluster, registers its factory and handlers, and makes its CSEBase. This is how the
/// real node does it as well.
pub async fn start_cse(
    cluster: &Arc<MemoryCluster>,
    node: u64,
    options: CseOptions,
    extras: Extras,
) -> Result<(Cse, Arc<MemoryNode>), Refusal> {
    let node = cluster.add_node(NodeId(node));
    let index = CseIndex::new();
    let factory = Arc::new(TreeFactory::new(index.clone()));
    node.set_factory(ContextKind::AE, factory.clone());
    node.set_factory(ContextKind::CSE_BASE, factory);
    let cse = Cse::new(CseParts {
        options,
        contexts: node.clone(),
        index,
        sender: Sender::new(extras.send),
        mobility: extras.mobility,
        tokens: extras.tokens,
        buffer: extras.buffer,
    });
    node.set_effect_handler(Arc::new(NotifyHandler::new(cse.clone())));
    node.set_read_handler(Arc::new(cse.clone()));
    cse.ensure_base().await?;
    Ok((cse, node))
}
