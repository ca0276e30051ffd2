//! The nodes of the cluster as everybody here names them: those of the topology, and those that the directory knows, with
//! what they said of themselves when they came up. A node that joins need not stand in the others' topology files.

use std::collections::BTreeMap;
use std::sync::Arc;

use onemec_core::directory::Directory;
use onemec_cse::{Cse, PeerCse};
use onemec_onem2m::CseIdentity;
use onemec_runtime::directory::{Change, DirectoryHandle};
use onemec_wire::NodeId;
use parking_lot::RwLock;

use crate::topology::{Node, Topology};

/// Names under which a node says these when it comes up.
const NAME: &str = "name";
const POA: &str = "poa";
const ADMIN: &str = "admin";
const CSE_ID: &str = "cse_id";
const CSE_BASE: &str = "cse_base";
const ROLES: &str = "roles";

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct NodeView {
    pub(super) id: NodeId,
    pub(super) name: String,
    /// Of its topology.
    pub(super) roles: Vec<String>,
    pub(super) poa: String,
    pub(super) admin: String,
    pub(super) cse_id: String,
    pub(super) cse_base: String,
}

impl NodeView {
    fn of_topology(node: &Node) -> Self {
        Self {
            id: NodeId(node.id),
            name: node.name.clone(),
            roles: node.role_names(),
            poa: node.poa(),
            admin: node.admin_url(),
            cse_id: node.cse_id.clone(),
            cse_base: node.cse_base.clone(),
        }
    }

    fn of_info(id: NodeId, info: &BTreeMap<String, String>) -> Option<Self> {
        let text = |key: &str| info.get(key).cloned().unwrap_or_default();
        let roles = text(ROLES);
        Some(Self {
            id,
            name: info.get(NAME)?.clone(),
            roles: roles.split(',').filter(|r| !r.is_empty()).map(str::to_owned).collect(),
            poa: text(POA),
            admin: text(ADMIN),
            cse_id: text(CSE_ID),
            cse_base: text(CSE_BASE),
        })
    }

    fn peer(&self, domain: &str) -> PeerCse {
        PeerCse {
            identity: CseIdentity {
                base_name: self.cse_base.as_str().into(),
                cse_id: self.cse_id.as_str().into(),
                sp_id: domain.into(),
            },
            poa: vec![self.poa.clone()],
        }
    }
}

/// What a node says of itself when it comes up.
pub(super) fn info(node: &Node) -> [(String, String); 6] {
    let text = |key: &str, value: String| (key.to_owned(), value);
    [
        text(NAME, node.name.clone()),
        text(POA, node.poa()),
        text(ADMIN, node.admin_url()),
        text(CSE_ID, node.cse_id.clone()),
        text(CSE_BASE, node.cse_base.clone()),
        text(ROLES, node.role_names().join(",")),
    ]
}

/// See the module.
pub(super) struct Nodes {
    topology: BTreeMap<NodeId, NodeView>,
    known: RwLock<BTreeMap<NodeId, NodeView>>,
}

impl Nodes {
    /// Those of the topology; more once the directory was looked at.
    pub(super) fn new(topology: &Topology) -> Self {
        let topology: BTreeMap<_, _> = topology.node.iter().map(|n| (NodeId(n.id), NodeView::of_topology(n))).collect();
        Self { known: RwLock::new(topology.clone()), topology }
    }

    /// Takes over what the directory says. A node that was removed is gone, whatever the topology says.
    pub(super) fn refresh(&self, directory: &Directory) {
        let mut known = self.topology.clone();
        for (id, entry) in directory.nodes() {
            // Its own word is newer than a file of another machine.
            known.extend(NodeView::of_info(id, &entry.info).map(|view| (id, view)));
        }
        known.retain(|id, _| !directory.was_removed(*id));
        *self.known.write() = known;
    }

    pub(super) fn all(&self) -> Vec<NodeView> {
        self.known.read().values().cloned().collect()
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        self.known.read().get(&node).map_or_else(|| node.to_string(), |n| n.name.clone())
    }

    pub(super) fn named(&self, name: &str) -> Option<NodeId> {
        self.known.read().values().find(|n| n.name == name).map(|n| n.id)
    }

    /// For messages.
    pub(super) fn names(&self) -> String {
        self.known.read().values().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// Follows the directory, and tells the CSE of the others. Ends with the directory.
pub(super) async fn follow(nodes: Arc<Nodes>, directory: DirectoryHandle, cse: Cse, domain: String) {
    let mut feed = directory.changes();
    let mut told: BTreeMap<NodeId, NodeView> = BTreeMap::new();
    loop {
        nodes.refresh(&directory.read());
        for node in nodes.all().into_iter().filter(|n| n.id != directory.me()) {
            if told.get(&node.id) != Some(&node) {
                cse.learn_peer(node.id, node.peer(&domain));
                told.insert(node.id, node);
            }
        }
        loop {
            match feed.next().await {
                None => return,
                Some(Change::Set(set)) if set.nodes.is_empty() => {}
                Some(_) => break,
            }
        }
    }
}
