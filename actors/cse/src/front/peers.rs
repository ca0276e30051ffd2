//! The other CSEs of the cluster: names and points of access, by node.

use std::sync::Arc;

use onemec_onem2m::{CseIdentity, Refusal, Rsc};
use onemec_wire::NodeId;

use super::exec::Trouble;
use super::locate::base_key;
use super::{Cse, Inner};
use crate::tree::Target;

/// Another CSE of this cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCse {
    /// Its names.
    pub identity: CseIdentity,
    /// Where clients reach it.
    pub poa: Vec<String>,
}

impl Cse {
    /// Tells this CSE of another one (from the topology, or from gossip when its points of access change).
    pub fn learn_peer(&self, node: NodeId, peer: PeerCse) {
        self.inner.peers.insert(node, Arc::new(peer));
    }
}

impl Inner {
    /// The CSE of a node: as it was told, else read from its CSEBase.
    pub(super) async fn peer(&self, node: NodeId) -> Result<Arc<PeerCse>, Trouble> {
        if let Some(peer) = self.peers.get(&node) {
            return Ok(Arc::clone(&peer));
        }
        let unknown = || Refusal::new(Rsc::TARGET_NOT_REACHABLE, "the CSE of that node is not known");
        let base = self.find(base_key(node)).await?.ok_or_else(unknown)?;
        let facts = self.facts_at(&base, Target::root(), &self.internal_call()).await.ok_or_else(unknown)?;
        let peer = Arc::new(PeerCse {
            identity: CseIdentity {
                base_name: facts.name.into(),
                cse_id: facts.csi.ok_or_else(unknown)?.into(),
                sp_id: self.me.sp_id.clone(),
            },
            poa: facts.poa,
        });
        self.peers.insert(node, Arc::clone(&peer));
        Ok(peer)
    }
}
