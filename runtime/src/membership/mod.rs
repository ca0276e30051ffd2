//! Membership: what nodes say about themselves, spread by gossip (chitchat over our datagrams).
//!
//! Gossip is for choosing and for looking at. It never decides a placement and never declares a node dead: there is one
//! failure detector, the lease. What follows from it (federation groups, roles) is computed by pure functions and written
//! into the directory as facts.

mod facts;
mod roles;
mod select;
mod socket;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chitchat::{ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, spawn_chitchat};
use onemec_core::time::Mono;
use onemec_wire::service::ServiceId;
use onemec_wire::{Member, NodeId};
use parking_lot::RwLock;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

pub use self::facts::{Capabilities, Energy, Heard, Load, Location, NodeFacts};
pub use self::roles::{AssignedRole, Assignment, Excluded, ROLE_PREFIX, assign};
pub use self::select::{FEDERATION_PREFIX, FederationGroup, Near, Predicate, Unmet};

use crate::directory::{DirectoryHandle, Net};
use crate::lease::boottime;
use crate::supervise::Tree;

const KEY_CAPABILITIES: &str = "capabilities";
const KEY_LOAD: &str = "load";
const KEY_STAMP: &str = "stamp";
/// Nodes that are kept; more cannot be in a cluster.
const NODES_MAX: usize = 10_000;
/// Longest text that is taken from another node.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// How gossip runs.
#[derive(Debug, Clone)]
pub struct MembershipOptions {
    /// Name of the cluster: others are not listened to.
    pub cluster: String,
    /// Nodes to begin with; those that the directory knows are talked to as well.
    pub seeds: BTreeSet<NodeId>,
    /// A round of gossip is begun this often.
    pub every: Duration,
    /// For how long what is said here holds.
    pub valid: Duration,
    /// The supervision tree that it belongs to.
    pub tree: Arc<Tree>,
}

impl MembershipOptions {
    /// Rounds each 500 ms; what is said holds for 10 s.
    pub fn new(cluster: impl Into<String>, seeds: BTreeSet<NodeId>) -> Self {
        let (every, valid) = (Duration::from_millis(500), Duration::from_secs(10));
        Self { cluster: cluster.into(), seeds, every, valid, tree: Arc::default() }
    }
}

/// Gossip did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
#[error("gossip did not start: {0}")]
pub struct MembershipError(String);

type Known = Arc<RwLock<BTreeMap<NodeId, Heard>>>;

/// What is known of the nodes. Cheap to clone; look-ups are local.
#[derive(Clone)]
pub struct MembershipHandle {
    me: NodeId,
    known: Known,
    own: Arc<Mutex<NodeFacts>>,
    gossip: Arc<ChitchatHandle>,
    valid: Duration,
}

impl MembershipHandle {
    /// What a node last said of itself, if that still holds.
    pub fn capabilities(&self, node: NodeId) -> Option<NodeFacts> {
        let now = boottime();
        self.known.read().get(&node).filter(|h| h.is_fresh(now)).map(|h| h.facts.clone())
    }

    /// What all nodes said that still holds.
    pub fn all(&self) -> BTreeMap<NodeId, NodeFacts> {
        let now = boottime();
        self.known.read().iter().filter(|(_, h)| h.is_fresh(now)).map(|(n, h)| (*n, h.facts.clone())).collect()
    }

    /// What was heard and when, also what no longer holds: for `status`.
    pub fn heard(&self) -> Vec<Heard> {
        self.known.read().values().cloned().collect()
    }

    /// Says anew what this node is able to do.
    pub async fn set_capabilities(&self, capabilities: Capabilities) {
        self.say(|facts| facts.capabilities = capabilities).await;
    }

    /// Says anew how busy this node is. Call it at least every third of the validity: it also renews the rest.
    pub async fn set_load(&self, load: Load) {
        self.say(|facts| facts.load = load).await;
    }

    async fn say(&self, change: impl FnOnce(&mut NodeFacts)) {
        let mut own = self.own.lock().await;
        change(&mut own);
        own.stamped_ms = wall_ms();
        own.valid_ms = u64::try_from(self.valid.as_millis()).unwrap_or(u64::MAX);
        let texts = texts_of(&own);
        self.known.write().insert(self.me, Heard { node: self.me, facts: own.clone(), heard: boottime() });
        let chitchat = self.gossip.chitchat();
        let mut chitchat = chitchat.lock().await;
        let state = chitchat.self_node_state();
        for (key, text) in texts {
            if state.get(key) != Some(text.as_str()) {
                state.set(key, text);
            }
        }
    }
}

/// Running gossip. Dropping it ends it.
pub struct MembershipService {
    handle: MembershipHandle,
    net: Arc<dyn Net>,
    listener: AbortHandle,
}

impl MembershipService {
    /// Begins to gossip as `member`.
    pub async fn start(
        net: Arc<dyn Net>,
        directory: Option<DirectoryHandle>,
        member: Member,
        capabilities: Capabilities,
        options: MembershipOptions,
    ) -> Result<Self, MembershipError> {
        let address = socket::address_of(member.node);
        let valid_ms = u64::try_from(options.valid.as_millis()).unwrap_or(u64::MAX);
        let facts = NodeFacts { capabilities, load: Load::default(), stamped_ms: wall_ms(), valid_ms };
        let config = ChitchatConfig {
            chitchat_id: ChitchatId::new(member.node.0.to_string(), member.incarnation.0, address),
            cluster_id: options.cluster,
            gossip_interval: options.every,
            listen_addr: address,
            seed_nodes: options.seeds.iter().map(|n| socket::address_of(*n).to_string()).collect(),
            // Only for whom to gossip with: the lease alone finds the dead.
            failure_detector_config: FailureDetectorConfig {
                dead_node_grace_period: Duration::from_secs(600),
                initial_interval: options.every,
                ..FailureDetectorConfig::default()
            },
            marked_for_deletion_grace_period: Duration::from_secs(600),
            catchup_callback: None,
            extra_liveness_predicate: None,
        };
        let texts = texts_of(&facts).into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let transport = socket::GossipTransport(net.clone());
        let gossip = spawn_chitchat(config, texts, &transport).await.map_err(|e| MembershipError(e.to_string()))?;
        let known = Known::default();
        known.write().insert(member.node, Heard { node: member.node, facts: facts.clone(), heard: boottime() });
        let handle = MembershipHandle {
            me: member.node,
            known,
            own: Arc::new(Mutex::new(facts)),
            gossip: Arc::new(gossip),
            valid: options.valid,
        };
        let (heard, every) = (handle.clone(), options.every);
        let listener = tokio::spawn(options.tree.keep("network/gossip", move || {
            let run = listen(heard.clone(), directory.clone(), every);
            async move {
                run.await;
                Ok(())
            }
        }))
        .abort_handle();
        Ok(Self { handle, net, listener })
    }

    /// Access to what is known.
    pub fn handle(&self) -> MembershipHandle {
        self.handle.clone()
    }
}

impl Drop for MembershipService {
    fn drop(&mut self) {
        self.net.off(ServiceId::GOSSIP);
        self.listener.abort();
        self.handle.gossip.abort();
    }
}

/// Takes over what gossip brought, and talks to nodes that the directory knows and gossip does not.
async fn listen(handle: MembershipHandle, directory: Option<DirectoryHandle>, every: Duration) {
    let mut versions: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    let mut ticks = tokio::time::interval(every / 2);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let news = news(&handle, &mut versions).await;
        if !news.is_empty() {
            let now = boottime();
            let mut known = handle.known.write();
            for (node, facts) in news {
                known.insert(node, Heard { node, facts, heard: now });
            }
            forget(&mut known, now);
        }
        if let Some(directory) = &directory {
            let live: Vec<NodeId> = directory.read().live().map(|m| m.node).collect();
            for node in live.into_iter().filter(|n| *n != handle.me && !versions.contains_key(n)) {
                let _ = handle.gossip.gossip(socket::address_of(node));
            }
        }
    }
}

/// What nodes said anew: the stamp is written last and makes a new version.
async fn news(handle: &MembershipHandle, versions: &mut BTreeMap<NodeId, (u64, u64)>) -> Vec<(NodeId, NodeFacts)> {
    let chitchat = handle.gossip.chitchat();
    let chitchat = chitchat.lock().await;
    let mut news = Vec::new();
    for (id, state) in chitchat.node_states() {
        let Some(node) = socket::node_of(id.gossip_advertise_addr).filter(|n| *n != handle.me) else { continue };
        let version = (id.generation_id, state.max_version());
        if versions.get(&node).is_some_and(|known| *known >= version) {
            continue;
        }
        let text = |key: &str| state.get(key).filter(|t| t.len() <= TEXT_BYTES_MAX);
        let Some(facts) = facts_of(text(KEY_CAPABILITIES), text(KEY_LOAD), text(KEY_STAMP)) else { continue };
        if versions.len() < NODES_MAX {
            versions.insert(node, version);
            news.push((node, facts));
        }
    }
    news
}

/// What has not held for long is forgotten.
fn forget(known: &mut BTreeMap<NodeId, Heard>, now: Mono) {
    const KEPT: Duration = Duration::from_secs(3600);
    known.retain(|_, h| now.since(h.heard) < KEPT);
}

fn texts_of(facts: &NodeFacts) -> Vec<(&'static str, String)> {
    // These types have no value that JSON cannot express, but for numbers that are not finite, which become null.
    let json = |r: serde_json::Result<String>| r.unwrap_or_default();
    vec![
        (KEY_CAPABILITIES, json(serde_json::to_string(&facts.capabilities))),
        (KEY_LOAD, json(serde_json::to_string(&facts.load))),
        (KEY_STAMP, format!("{} {}", facts.stamped_ms, facts.valid_ms)),
    ]
}

fn facts_of(capabilities: Option<&str>, load: Option<&str>, stamp: Option<&str>) -> Option<NodeFacts> {
    let (stamped, valid) = stamp?.split_once(' ')?;
    Some(NodeFacts {
        capabilities: serde_json::from_str(capabilities?).ok()?,
        load: serde_json::from_str(load?).ok()?,
        stamped_ms: stamped.parse().ok()?,
        valid_ms: valid.parse().ok()?,
    })
}

/// For people.
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
