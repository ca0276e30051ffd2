//! The executor: runs the groups of this node. Pure machines decide (`onemec_core`), actors hold them, this module gives
//! them network, disk, directory and clock, and offers [`Contexts`](onemec_core::context::Contexts) to the actors above.

pub mod body;
mod calls;
pub mod clock;
mod deliver;
pub mod gate;
pub mod group;
mod halt;
mod history;
mod mailbox;
mod moves;
mod net;
mod passive;
pub mod ports;
mod regroup;
pub mod route;
mod serve;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use onemec_core::context::{ContextKind, Effect, EffectHandler, EffectId, Key, ReadHandler};
use onemec_core::contexts::{Factories, Lane};
use onemec_core::directory::{Directory, Durability, Nonce, Placement, StoreId};
use onemec_core::group::{GroupTiming, Live};
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, Version};
use parking_lot::Mutex;
use ractor::{ActorId, ActorRef};
use tokio::sync::Semaphore;

pub use self::body::{GroupView, MoveRecord};
use self::clock::Clock;
use self::gate::GroupGate;
use self::group::GroupMsg;
use self::group::actor::GroupsMsg;
use self::mailbox::Mailbox;
pub use self::moves::{MOVED, MoveError, TOKEN_USED};
use self::passive::{Entry, Memory, Meter, version_of};
pub use self::passive::{MemoryFigures, MemoryOptions};
use crate::audit::Audit;
use crate::directory::DirectoryHandle;
use crate::lease::{LeaseHandle, boottime};
use crate::meter::Counted;
use crate::store::node::Store;
use crate::supervise::Tree;
use crate::transport::Transport;
use crate::transport::{PeerStats, TransportStats};

/// Bounds of a node's executor.
#[derive(Debug, Clone, Copy)]
pub struct GroupLimits {
    /// Operations that a group parks.
    pub parked_max: usize,
    /// For how long: the freeze time of a move, and the time a takeover may need.
    pub park_max: Duration,
    /// What a 503 suggests.
    pub retry_after: Duration,
    /// Deliveries that a group has under way.
    pub deliveries_max: usize,
    /// A snapshot is taken after so many records.
    pub snapshot_records: u64,
    /// A repeatable request may ask for its answer to be kept no longer than this from now (rule 12).
    pub repeat_window_ms: u64,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            parked_max: 4_096,
            park_max: Duration::from_millis(500),
            retry_after: Duration::from_millis(50),
            deliveries_max: 64,
            snapshot_records: 4_096,
            repeat_window_ms: 60_000,
        }
    }
}

/// What can be set.
#[derive(Debug, Clone, Copy)]
pub struct ExecOptions {
    /// Times of the group machines.
    pub timing: GroupTiming,
    /// Bounds of the groups.
    pub limits: GroupLimits,
    /// Durability of new groups.
    pub durability: Durability,
    /// Members that the in-sync set of a new group should have.
    pub replicas_wanted: u8,
    /// Bytes of operations that may be on their way at this node.
    pub permit_bytes: usize,
    /// When groups leave memory.
    pub memory: MemoryOptions,
}

impl Default for ExecOptions {
    fn default() -> Self {
        Self {
            timing: GroupTiming::default(),
            limits: GroupLimits::default(),
            durability: Durability::Disk,
            replicas_wanted: 2,
            permit_bytes: 64 << 20,
            memory: MemoryOptions::default(),
        }
    }
}

/// Starts the delivery of an effect and reports its end to the group.
pub trait Deliverer: Send + Sync {
    /// Starts; never blocks.
    fn deliver(&self, id: EffectId, lane: Lane, effect: Effect, group: Arc<dyn Fn(GroupMsg) + Send + Sync>);
}

/// A group whose primary is to come to this node.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The group.
    pub group: GroupId,
    /// Its contexts and their kinds.
    pub contexts: &'a [(ContextId, ContextKind)],
    /// Bytes of its history.
    pub history_bytes: u64,
    /// Why it comes.
    pub reason: &'a str,
    /// Room is to be kept for it; otherwise somebody only asks.
    pub reserve: bool,
}

/// What the executor asks of the program around it before it gives groups to nodes (DESIGN.md section 5, prepare; row
/// G15), and what it tells about moves.
pub trait Hosting: Send + Sync {
    /// May the group come to this node? `Err` with a short code and a sentence.
    fn admit(&self, incoming: &Incoming<'_>) -> Result<(), (String, String)>;

    /// A move ended, told at its source and, if it was reached, at its target. Called often and must not block.
    fn ended(&self, record: &MoveRecord);

    /// May the data of a context with these names, at home at `home`, be on `node`? Limits replicas and targets. Called
    /// with the directory's read lock held.
    fn permits(&self, directory: &Directory, keys: &[Key], home: NodeId, node: NodeId) -> bool;

    /// Resources that a context holds, for `ae show`; `None` if this node does not serve it.
    fn held(&self, context: ContextId) -> Option<u64>;
}

/// What the actors above contribute.
pub struct Actors {
    /// Behaviour by kind.
    pub factories: Arc<Factories>,
    /// Delivery of effects by kind.
    pub effects: BTreeMap<ContextKind, Arc<dyn EffectHandler>>,
    /// Answers to forwarded reads by kind.
    pub readers: BTreeMap<ContextKind, Arc<dyn ReadHandler>>,
    /// Who may come here, and what becomes of moves.
    pub hosting: Arc<dyn Hosting>,
}

/// What the executor stands on.
pub struct Parts {
    /// This boot.
    pub member: Member,
    /// This data folder.
    pub store_id: StoreId,
    /// The network.
    pub transport: Transport,
    /// The directory.
    pub directory: DirectoryHandle,
    /// This node's lease.
    pub lease: LeaseHandle,
    /// The groups' logs.
    pub store: Arc<Store>,
    /// The supervision tree.
    pub tree: Arc<Tree>,
    /// The audit log.
    pub audit: Option<Arc<Audit>>,
    /// Clocks.
    pub clock: Clock,
}

/// A group with an actor.
#[derive(Clone)]
struct GroupRef {
    mail: Mailbox,
    gate: Arc<GroupGate>,
    meter: Arc<Meter>,
    /// The placement that the actor was told last: epoch and version.
    told: Arc<Mutex<(u64, u64)>>,
}

impl GroupRef {
    fn tell_placement(&self, placement: Option<Placement>, live: Live) {
        let at = version_of(placement.as_ref());
        // Under the lock, so that two callers tell in the order of versions.
        let mut told = self.told.lock();
        self.mail.send(GroupMsg::Placement(placement, live));
        *told = (*told).max(at);
    }
}

/// The executor of one node. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    options: ExecOptions,
    /// Groups and calls run here, not on the transport's thread, which calls in.
    main: tokio::runtime::Handle,
    actors: OnceLock<Actors>,
    groups: DashMap<GroupId, Entry>,
    /// Where the directory had a group when its actor last crashed: what that one had proposed may still be applied. Grows
    /// with the groups that crashed since the start, and no further.
    crashed: Mutex<BTreeMap<GroupId, (Epoch, Version)>>,
    memory: Memory,
    stopped: AtomicBool,
    ids: Arc<Mutex<HashMap<ActorId, GroupId>>>,
    supervisor: ActorRef<GroupsMsg>,
    permits: Arc<Semaphore>,
    nonces: AtomicU64,
    moves: moves::Moves,
}

/// See [`Runtime::figures`].
#[derive(Debug, Clone)]
pub struct Figures {
    /// Bytes of the log's files on disk, at full length.
    pub log_bytes: u64,
    /// Bytes of sealed history and checkpoints of all groups.
    pub history_bytes: u64,
    /// How long syncs of the log took.
    pub syncs: Counted,
    /// Bytes of operations under way (I8).
    pub request_bytes: usize,
    /// Beyond these operations are refused.
    pub request_bytes_max: usize,
    /// Connections to the other nodes.
    pub peers: Vec<PeerStats>,
    /// The whole transport.
    pub transport: TransportStats,
}

impl Runtime {
    /// Makes the executor. It already answers look-ups; groups run from [`Self::begin`] on.
    pub async fn new(parts: Parts, options: ExecOptions) -> Result<Self, String> {
        let ids = Arc::new(Mutex::new(HashMap::new()));
        let slot: Arc<OnceLock<std::sync::Weak<Inner>>> = Arc::default();
        let late = slot.clone();
        let ended: group::actor::Ended = Arc::new(move |group, end| {
            if let Some(inner) = late.get().and_then(std::sync::Weak::upgrade) {
                Self { inner }.group_ended(group, end);
            }
        });
        let supervisor = group::actor::GroupsSupervisor { tree: parts.tree.clone(), ids: ids.clone(), ended };
        let (supervisor, _) =
            ractor::Actor::spawn(None, supervisor, ()).await.map_err(|e| format!("groups' supervisor: {e}"))?;
        parts.tree.started("groups");
        let inner = Arc::new(Inner {
            main: tokio::runtime::Handle::current(),
            permits: Arc::new(Semaphore::new(options.permit_bytes)),
            parts,
            options,
            actors: OnceLock::new(),
            groups: DashMap::new(),
            crashed: Mutex::default(),
            memory: Memory::new(options.memory),
            stopped: AtomicBool::new(false),
            ids,
            supervisor,
            nonces: AtomicU64::new(0),
            moves: moves::Moves::default(),
        });
        drop(slot.set(Arc::downgrade(&inner)));
        Ok(Self { inner })
    }

    /// Takes the actors, registers the services, and follows the directory. Once.
    pub fn begin(&self, actors: Actors) {
        if self.inner.actors.set(actors).is_ok() {
            self.register_services();
            self.follow_directory();
            self.follow_bundles();
            self.start_sweeping();
        }
    }

    fn actors(&self) -> Option<&Actors> {
        self.inner.actors.get()
    }

    /// This boot.
    pub fn member(&self) -> Member {
        self.inner.parts.member
    }
    /// For how long nothing has come from a node, not even a beat; `None` if nothing ever did.
    pub fn silence_of(&self, node: NodeId) -> Option<Duration> {
        let heard = self.inner.parts.transport.peer_stats(node)?.heard?;
        Some(boottime().since(heard))
    }
    /// The directory.
    pub fn directory(&self) -> &DirectoryHandle {
        &self.inner.parts.directory
    }
    /// The supervision tree.
    pub fn tree(&self) -> &Arc<Tree> {
        &self.inner.parts.tree
    }
    /// The clocks.
    pub fn clock(&self) -> &Clock {
        &self.inner.parts.clock
    }

    fn nonce(&self) -> Nonce {
        // Unique: node, boot and a counter of the boot.
        let m = self.member();
        let n = self.inner.nonces.fetch_add(1, Ordering::Relaxed);
        let low_48 = |n: u64| u128::from(n & 0xffff_ffff_ffff);
        Nonce((u128::from(m.node.0) << 96) | (low_48(m.incarnation.0) << 48) | low_48(n))
    }

    /// The boots that count for a group: those that are up and may have its data (row G15). To its primary a node that may
    /// not is as good as dead: it is no target, gets no replica, and leaves the set.
    fn live(&self, directory: &Directory, group: Option<&Placement>) -> Live {
        let permitted = |node: NodeId| {
            let Some((p, actors)) = group.zip(self.actors()) else { return true };
            p.primary.node == node
                || p.contexts
                    .iter()
                    .filter_map(|c| directory.context(*c))
                    .all(|c| c.pinned || actors.hosting.permits(directory, &c.keys, c.home, node))
        };
        let up = directory.nodes().filter(|(id, n)| n.up && permitted(*id));
        Live::new(up.map(|(_, n)| (n.member, n.store)))
    }

    /// What this node has stored and how full it is, for metrics.
    pub fn figures(&self) -> Figures {
        let parts = &self.inner.parts;
        let history_bytes = parts.store.groups().into_iter().filter_map(|g| Some(parts.store.group(g)?.bytes())).sum();
        let free = self.inner.permits.available_permits();
        Figures {
            log_bytes: parts.store.usage().bytes,
            history_bytes,
            syncs: parts.store.syncs(),
            request_bytes: self.inner.options.permit_bytes.saturating_sub(free),
            request_bytes_max: self.inner.options.permit_bytes,
            peers: parts.transport.peers(),
            transport: parts.transport.stats(),
        }
    }

    /// Tells every group anew who counts for it, after a policy on where data may be has changed.
    pub fn reconsider(&self) {
        let groups: Vec<GroupId> = self.inner.groups.iter().map(|g| *g.key()).collect();
        self.look_at(groups.into_iter());
    }

    /// Does a placement concern this node?
    fn concerns(&self, p: &Placement) -> bool {
        let me = self.member();
        p.primary == me || p.in_sync.contains(&me) || p.synced.contains(&(me.node, self.inner.parts.store_id))
    }

    /// The node that runs a boot, for the transport.
    fn peer_of(member: Member) -> NodeId {
        member.node
    }

    /// Stops all groups: nothing is served from here any more.
    pub fn stop(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        for entry in &self.inner.groups {
            if let Entry::Active(g) = entry.value() {
                g.gate.set(onemec_wire::Epoch(0), false);
                g.mail.actor().stop(None);
            }
        }
        self.inner.supervisor.stop(None);
    }
}
