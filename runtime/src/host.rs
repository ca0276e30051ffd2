//! One node, put together: store, transport, directory, lease, executor. What actors do stands above.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use onemec_core::directory::{Command, StoreId};
use onemec_core::lease::LeaseTiming;
use onemec_wire::{Cluster, Incarnation, Member, NodeId};
use tokio::task::JoinSet;

use crate::audit::Audit;
use crate::causes::with_causes;
use crate::directory::{Boot, DirectoryHandle, DirectoryOptions, DirectoryService, DiskStorage, NodeUpError};
use crate::exec::clock::Clock;
use crate::exec::{ExecOptions, Parts, Runtime};
use crate::lease::{LeaseHandle, LeaseService};
use crate::membership::{Capabilities, MembershipHandle, MembershipOptions, MembershipService};
use crate::peers;
use crate::pki::Pki;
use crate::port::Port;
use crate::store::append::{Drive, Fatal};
use crate::store::buffer::DiskBuffer;
use crate::store::disk::RealDisk;
use crate::store::{Before, Store, StoreOptions};
use crate::supervise::Tree;
use crate::transport::{Options, Profile, Transport};

/// Folder of the local buffer in the data folder.
const BUFFER_DIR: &str = "buffer";
const STORE_ID: &str = "store-id";
/// A node that is not up after this time says why and gives up.
const UP_MAX: Duration = Duration::from_secs(60);
/// Good-byes of a clean stop.
const BYE_MAX: Duration = Duration::from_secs(2);

/// What a node is told.
pub struct HostOptions {
    /// Its number; that of its certificate.
    pub node: NodeId,
    /// Its name, for logs and the audit log.
    pub name: String,
    /// Its data folder.
    pub data_dir: PathBuf,
    /// Where it listens for other nodes (UDP).
    pub listen: SocketAddr,
    /// The other nodes and their addresses.
    pub peers: BTreeMap<NodeId, Vec<SocketAddr>>,
    /// The voters of a new cluster.
    pub voters: BTreeSet<NodeId>,
    /// The cluster; its generation guards against restored backups.
    pub cluster: Cluster,
    /// Length of leases.
    pub lease: LeaseTiming,
    /// Kind of network between the nodes.
    pub profile: Profile,
    /// Of the executor.
    pub exec: ExecOptions,
    /// Usual size of a segment of history, and the length of a log's tail that is sealed into one.
    pub segment_bytes: usize,
    /// Keep an audit log in this file.
    pub audit: Option<PathBuf>,
    /// What others should know of it.
    pub info: BTreeMap<String, String>,
    /// What it can do, for the live half of the federation registry.
    pub capabilities: Capabilities,
    /// Certificate and trust.
    pub pki: Pki,
}

/// Why a node did not start. Nothing is served; what is on its disk is as it was.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The data folder cannot be used.
    #[error("data folder {0}: {1}")]
    Store(PathBuf, String),
    /// The network cannot be used.
    #[error("transport: {0}")]
    Transport(#[from] crate::transport::StartError),
    /// The directory did not start.
    #[error("directory: {0}")]
    Directory(String),
    /// The lease's thread did not start.
    #[error("lease: {0}")]
    Lease(#[from] crate::lease::LeaseStartError),
    /// The cluster did not take it up.
    #[error("not up: {0}\n    -> {hint}", hint = hint(.0))]
    NotUp(#[from] NodeUpError),
    /// Another part.
    #[error("{0}")]
    Other(String),
}

/// What to look at.
fn hint(e: &NodeUpError) -> &'static str {
    match e {
        NodeUpError::Refused(_) => {
            "a node that was removed comes back under a new id; a clock that went back has to be set"
        }
        NodeUpError::Late(_) => {
            "are most of the voters running, do their addresses fit the topology, and do they take this node's certificate?"
        }
    }
}

/// A running node.
pub struct Host {
    /// The executor.
    pub runtime: Runtime,
    /// The network.
    pub transport: Transport,
    /// This boot.
    pub member: Member,
    /// The lease.
    pub lease: LeaseHandle,
    /// The audit log.
    pub audit: Option<Arc<Audit>>,
    data_dir: PathBuf,
    leases: LeaseService,
    membership: MembershipService,
    directory: DirectoryService,
    store: Arc<Store>,
    io: NetRuntime,
    _tasks: JoinSet<()>,
}

/// The network's runtime. It ends in the background: tokio lets no runtime be dropped inside another one, and a start that
/// fails half-way is to say why.
struct NetRuntime(Option<tokio::runtime::Runtime>);

impl Drop for NetRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Host {
    /// Starts everything and reports the node as up. Nothing is served before [`Runtime::begin`].
    pub async fn start(options: HostOptions) -> Result<Self, HostError> {
        let HostOptions {
            node,
            name,
            data_dir,
            listen,
            peers,
            voters,
            cluster,
            lease,
            profile,
            exec,
            segment_bytes,
            audit,
            info,
            capabilities,
            pki,
        } = options;
        let (store, member, store_id, former_is_gone) =
            open_store(&data_dir, node, cluster.generation, segment_bytes).await?;
        let clock = Clock::default();
        let audit = audit
            .map(|file| Audit::new(&name, member.incarnation, clock.wall_ms() * 1_000_000, Some(&file)).map(Arc::new))
            .transpose()
            .map_err(|e| HostError::Other(format!("audit log: {e}")))?;
        // A runtime of one thread for the network: the multi-thread one costs 14 to 34 % (TRANSPORT.md).
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("onemec-net")
            .enable_all()
            .build()
            .map_err(|e| HostError::Other(e.to_string()))?;
        let handle = io.handle().clone();
        let io = NetRuntime(Some(io));
        let mut net_options = Options::new(listen, member.incarnation, cluster, handle.clone());
        net_options.tuning.profile = profile;
        let transport = {
            let _io = handle.enter();
            Transport::start(net_options, &pki)?
        };
        for (peer, addresses) in &peers {
            transport.set_peer(*peer, addresses.clone());
        }
        let seeds: BTreeSet<NodeId> = peers.keys().copied().collect();
        let tree = Arc::new(Tree::default());
        let mut tasks = JoinSet::new();
        let port = Port::new(transport.clone());
        let raft_dir = data_dir.join("raft");
        let (_, opened) =
            tokio::task::spawn_blocking(move || DiskStorage::open(RealDisk::shared(), &raft_dir, Drive::Thread))
                .await
                .map_err(|e| HostError::Directory(e.to_string()))?
                .map_err(|e| HostError::Directory(e.to_string()))?;
        let directory_options = DirectoryOptions {
            first_voters: voters,
            seeds: seeds.clone(),
            tree: tree.clone(),
            generation: cluster.generation,
            lease,
            ..DirectoryOptions::default()
        };
        let directory = DirectoryService::start(port.clone(), opened, directory_options)
            .await
            .map_err(|e| HostError::Directory(e.to_string()))?;
        let handle = directory.handle();
        tasks.spawn(tree.clone().keep("network/peers", {
            let (transport, handle) = (transport.clone(), handle.clone());
            move || {
                let follow = peers::follow(transport.clone(), handle.clone(), peers.clone());
                async move {
                    follow.await;
                    Ok(())
                }
            }
        }));
        let leases = LeaseService::start(port.clone(), handle.clone(), member, lease, tree.clone())?;
        let cluster_name = cluster.id.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let gossip = MembershipOptions { tree: tree.clone(), ..MembershipOptions::new(cluster_name, seeds) };
        let membership = MembershipService::start(port, Some(handle.clone()), member, capabilities, gossip)
            .await
            .map_err(|e| HostError::Other(e.to_string()))?;
        let boot = Boot { member, store: store_id, info, former_is_gone };
        handle.node_up(&boot, UP_MAX).await?;
        let parts = Parts {
            member,
            store_id,
            transport: transport.clone(),
            directory: handle,
            lease: leases.handle(),
            store: store.clone(),
            tree,
            audit: audit.clone(),
            clock,
        };
        let runtime = Runtime::new(parts, exec).await.map_err(HostError::Other)?;
        let lease = leases.handle();
        Ok(Self {
            runtime,
            transport,
            member,
            lease,
            audit,
            data_dir,
            leases,
            membership,
            directory,
            store,
            io,
            _tasks: tasks,
        })
    }

    /// Opens the node's local buffer in its data folder: at most so many bytes wait in it. Close it before the host ends.
    ///
    /// # Errors
    /// If the disk cannot be used; what lies there is as it was.
    pub async fn open_buffer(&self, bytes_max: u64) -> Result<DiskBuffer, HostError> {
        let (dir, member) = (self.data_dir.join(BUFFER_DIR), self.member);
        let failed = |e: String| HostError::Store(self.data_dir.join(BUFFER_DIR), e);
        tokio::task::spawn_blocking(move || {
            DiskBuffer::open(RealDisk::shared(), &dir, member, bytes_max, Drive::Thread, Arc::new(disk_failed))
                .map_err(with_causes)
        })
        .await
        .map_err(|e| failed(e.to_string()))?
        .map_err(failed)
    }

    /// The directory.
    pub fn directory(&self) -> DirectoryHandle {
        self.directory.handle()
    }

    /// What is known about all nodes by gossip.
    pub fn membership(&self) -> MembershipHandle {
        self.membership.handle()
    }

    /// Ends when the directory has declared this boot dead: the node must begin anew.
    pub async fn declared_dead(&self) {
        self.directory.handle().declared_dead(self.member).await;
    }

    /// Ends when the directory has stopped by itself: the disk has failed, the process must end.
    pub async fn failed(&self) -> String {
        self.directory.handle().failed().await
    }

    /// Stops cleanly: gives the lease up, and tells the others, so that what was served here is served elsewhere at once.
    pub async fn stop(mut self) {
        self.runtime.stop();
        if self.lease.release().await.is_ok() {
            let dead = Command::NodeDead { member: self.member, forced: true };
            drop(self.directory.handle().propose_within(dead, BYE_MAX).await);
        }
        self.tear_down().await;
    }

    /// Ends at once, without a word to the directory, so that the process can begin anew.
    pub async fn abandon(mut self) {
        self.runtime.stop();
        self.tear_down().await;
    }

    async fn tear_down(&mut self) {
        self.transport.shutdown().await;
        let store = self.store.clone();
        if let Ok(Err(e)) = tokio::task::spawn_blocking(move || store.close()).await {
            tracing::error!("store: {e}");
        }
        if let Some(io) = self.io.0.take() {
            io.shutdown_background();
        }
        let _ = &self.leases;
    }
}

/// A failed sync is never retried: what is on the disk is not known any more. The node comes back and looks.
fn disk_failed(fatal: &Fatal) {
    tracing::error!("the disk failed: {fatal}; this node ends");
    std::process::exit(74);
}

async fn open_store(
    data_dir: &std::path::Path,
    node: NodeId,
    generation: u32,
    segment_bytes: usize,
) -> Result<(Arc<Store>, Member, StoreId, bool), HostError> {
    let dir = data_dir.to_owned();
    let failed = |e: String| HostError::Store(data_dir.to_owned(), e);
    // A node that lost its disk knows nothing of its former boots. Each of them took longer than a millisecond, so that the
    // time is higher than their numbers (rule 4); should a clock have gone back, the directory refuses the boot, and says so.
    let now_ms = Clock::default().wall_ms();
    let options = StoreOptions {
        first_incarnation: Incarnation(now_ms.max(1)),
        on_fatal: Arc::new(disk_failed),
        on_damage: Arc::new(|damage| tracing::error!("damage: {damage:?}")),
        tail_bytes_max: segment_bytes,
        segment_bytes,
        ..StoreOptions::default()
    };
    let opened = tokio::task::spawn_blocking(move || {
        let (store, recovery) =
            Store::open(RealDisk::shared(), &dir, node, generation, options).map_err(with_causes)?;
        let known = store.meta().get(STORE_ID).map_err(with_causes)?;
        let id = match known.and_then(|b| Some(u64::from_le_bytes(b[..].try_into().ok()?))) {
            Some(id) => id,
            None => {
                let id = RandomState::new().hash_one((node.0, std::process::id()));
                store.meta().put(STORE_ID, &id.to_le_bytes()).map_err(with_causes)?;
                id
            }
        };
        Ok::<_, String>((store, recovery, StoreId(id)))
    });
    let (store, recovery, id) = opened.await.map_err(|e| failed(e.to_string()))?.map_err(failed)?;
    for damage in &recovery.damage {
        tracing::error!("damage found at the start: {damage:?}");
    }
    let member = Member { node, incarnation: recovery.identity.incarnation };
    Ok((Arc::new(store), member, id, !matches!(recovery.before, Before::Nobody)))
}
