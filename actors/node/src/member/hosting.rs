//! What the executor asks about hosting groups: admission at this node with what is on its way counted, and where data may
//! be.

use std::path::PathBuf;
use std::sync::Arc;

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::{Directory, Refusal};
use onemec_cse::CseIndex;
use onemec_mobility::admission::{AdmissionLimits, HostState, Incoming as Asked, Ledger};
use onemec_mobility::strategy::MoveReason;
use onemec_runtime::exec::{Hosting, Incoming, MoveRecord, Runtime};
use onemec_runtime::lease::LeaseHandle;
use onemec_runtime::membership::MembershipHandle;
use onemec_wire::{ContextId, GroupId, NodeId};
use parking_lot::Mutex;

use super::journal::Journal;
use super::residency::Rules;
use super::steward::AE_KEY;
use crate::topology::{Auth, Node, Topology};

/// Disk space that is never given away.
const RESERVE_BYTES: u64 = 64 << 20;

/// See the module.
pub(super) struct Host {
    pub(super) runtime: Runtime,
    pub(super) lease: LeaseHandle,
    pub(super) gossip: MembershipHandle,
    pub(super) index: CseIndex,
    pub(super) journal: Arc<Journal>,
    pub(super) rules: Arc<Rules>,
    pub(super) topology: Topology,
    pub(super) node: Node,
    pub(super) data_dir: PathBuf,
    pub(super) ledger: Mutex<Ledger>,
}

impl Host {
    fn limits(&self) -> AdmissionLimits {
        let limits = &self.topology.limits;
        AdmissionLimits {
            aes_max: u64::from(limits.aes_max),
            moves_max: limits.moves_max,
            load_max: limits.load_max,
            hold_ms: self.topology.timing.move_ms_max,
            ..AdmissionLimits::default()
        }
    }

    fn free_bytes(&self) -> u64 {
        // A disk that cannot be asked is full.
        let bytes = rustix::fs::statvfs(&self.data_dir).map_or(0, |s| s.f_bavail.saturating_mul(s.f_frsize));
        bytes.saturating_sub(RESERVE_BYTES)
    }
}

/// The credential that a device would need at `target`, having come from `from`: why it has none there.
fn credentials(topology: &Topology, from: NodeId, target: &Node, aes: &[String]) -> Option<String> {
    let source = topology.node.iter().find(|n| n.id == from.0);
    if source.is_some_and(|s| s.security.tls) && !target.security.tls {
        return Some(format!("{} serves devices without TLS, its present host with it", target.name));
    }
    if target.security.auth != Auth::Required || target.security.tls {
        // With TLS, a device shows the certificate that it has of the cluster's authority.
        return None;
    }
    let stranger = aes.iter().find(|ae| !target.security.tokens.contains_key(*ae))?;
    Some(format!("{} knows no token of {stranger}", target.name))
}

/// Why a name of the group is taken at a node, in words.
pub(super) fn name_taken(directory: &Directory, group: GroupId, node: NodeId) -> Option<String> {
    match directory.clash_at(group, node)? {
        Refusal::KeyTaken { key, .. } => {
            let name = key.name.split_once(':').map_or(key.name.as_str(), |(_, name)| name);
            Some(format!("the name {name} is taken there"))
        }
        other => Some(other.to_string()),
    }
}

impl Hosting for Host {
    fn admit(&self, incoming: &Incoming<'_>) -> Result<(), (String, String)> {
        let me = self.runtime.member().node;
        let load = self.gossip.capabilities(me).map_or(0.0, |f| f.load.cpu);
        let no_words = std::collections::BTreeSet::new();
        let trust = self.node.capabilities.trust.iter().cloned().collect();
        let directory = self.runtime.directory().read();
        let contexts: Vec<_> = incoming.contexts.iter().filter_map(|(c, _)| directory.context(*c)).collect();
        let aes: Vec<String> = contexts
            .iter()
            .filter_map(|c| c.keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY)))
            .map(str::to_owned)
            .collect();
        let from = directory.group(incoming.group).map_or(me, |p| p.primary.node);
        let labels = self.rules.labels_of(&directory, incoming.group);
        let taken = name_taken(&directory, incoming.group, me);
        let credentials = credentials(&self.topology, from, &self.node, &aes);
        let host = HostState {
            name: &self.node.name,
            domain: &self.topology.cluster.domain,
            region: &self.node.capabilities.region,
            trust: &trust,
            ready: self.lease.is_valid(),
            draining: directory.fact(&super::drains::fact_of(me)).is_some(),
            aes: directory.count_at_home(me, ContextKind::AE) as u64,
            moves: 0,
            load,
            free_bytes: self.free_bytes(),
        };
        let group = Asked {
            contexts: incoming.contexts,
            history_bytes: incoming.history_bytes,
            reason: incoming.reason.parse().unwrap_or(MoveReason::Network),
            residency: &labels,
            trust: &no_words,
            is_home: !contexts.is_empty() && contexts.iter().all(|c| c.home == me),
            name_taken: taken.as_deref(),
            credentials: credentials.as_deref(),
        };
        let (now_ms, limits) = (self.runtime.clock().wall_ms(), self.limits());
        let mut ledger = self.ledger.lock();
        let decision = match incoming.reserve {
            true => ledger.admit(now_ms, &limits, &host, &group),
            false => ledger.ask(now_ms, &limits, &host, &group),
        };
        decision.into_result()
    }

    fn ended(&self, record: &MoveRecord) {
        if record.target == self.runtime.member().node {
            self.ledger.lock().settled(record.contexts.iter().copied());
        }
        self.journal.ended(&self.runtime, record);
    }

    fn permits(&self, directory: &Directory, keys: &[Key], home: NodeId, node: NodeId) -> bool {
        self.rules.permits(directory, keys, home, node)
    }

    fn held(&self, context: ContextId) -> Option<u64> {
        self.index.instances(context)
    }
}
