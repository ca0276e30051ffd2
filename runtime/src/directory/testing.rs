//! A network in memory, and clusters in one process, for the tests of directory, leases and membership.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::lease::LeaseTiming;
use onemec_wire::NodeId;
use onemec_wire::service::ServiceId;
use parking_lot::Mutex;

use super::net::{AskHandler, BoxFuture, DatagramHandler, Net, NetError};
use super::{DirectoryHandle, DirectoryOptions, DirectoryService, DiskStorage, RaftId};
use crate::port::Port;
use crate::store::append::Drive;
use crate::store::disk::{Disk, RealDisk};

type Asks = HashMap<(NodeId, ServiceId), Arc<dyn AskHandler>>;
type Datagrams = HashMap<(NodeId, ServiceId), Arc<dyn DatagramHandler>>;

/// A switch that joins nodes in one process and can be cut.
#[derive(Default)]
pub(crate) struct Switch {
    asks: Mutex<Asks>,
    datagrams: Mutex<Datagrams>,
    /// Pairs (from, to) between which nothing passes.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

impl Switch {
    pub(crate) fn port(self: &Arc<Self>, me: u64) -> Arc<SwitchPort> {
        Arc::new(SwitchPort { me: NodeId(me), switch: self.clone() })
    }
    /// Nothing passes between `node` and all others, both ways.
    pub(crate) fn isolate(&self, node: u64, others: impl IntoIterator<Item = u64>) {
        let mut cut = self.cut.lock();
        for other in others {
            cut.insert((NodeId(node), NodeId(other)));
            cut.insert((NodeId(other), NodeId(node)));
        }
    }
    /// What `from` sends to `to` is lost; the other direction is as it was.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.cut.lock().insert((NodeId(from), NodeId(to)));
    }
    pub(crate) fn heal(&self) {
        self.cut.lock().clear();
    }
    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.lock().contains(&(from, to))
    }
}

/// One node's port.
pub(crate) struct SwitchPort {
    me: NodeId,
    switch: Arc<Switch>,
}

impl Net for SwitchPort {
    fn me(&self) -> NodeId {
        self.me
    }

    fn ask(
        &self,
        to: NodeId,
        service: ServiceId,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetError>> {
        let (switch, me) = (self.switch.clone(), self.me);
        Box::pin(async move {
            let handler = switch.asks.lock().get(&(to, service)).cloned();
            let Some(handler) = handler.filter(|_| !switch.is_cut(me, to)) else {
                return Err(NetError::NotDelivered { to, reason: "not connected".into() });
            };
            // As over a network: the other side goes on when this side gives up.
            let answer = tokio::spawn(handler.ask(me, body));
            let unknown = |reason: &str| NetError::Unknown { to, reason: reason.into() };
            match tokio::time::timeout(deadline, answer).await {
                Ok(Ok(Some(answer))) if !switch.is_cut(to, me) => Ok(answer),
                Ok(_) => Err(unknown("no answer")),
                Err(_) => Err(unknown("no answer in time")),
            }
        })
    }

    fn datagram(&self, to: NodeId, service: ServiceId, body: Bytes) {
        let handler = self.switch.datagrams.lock().get(&(to, service)).cloned();
        if let Some(handler) = handler.filter(|_| !self.switch.is_cut(self.me, to)) {
            handler.datagram(self.me, body);
        }
    }

    fn on_ask(&self, service: ServiceId, handler: Arc<dyn AskHandler>) {
        self.switch.asks.lock().insert((self.me, service), handler);
    }
    fn on_datagram(&self, service: ServiceId, handler: Arc<dyn DatagramHandler>) {
        self.switch.datagrams.lock().insert((self.me, service), handler);
    }
    fn off(&self, service: ServiceId) {
        self.switch.asks.lock().remove(&(self.me, service));
        self.switch.datagrams.lock().remove(&(self.me, service));
    }
}

/// Directories of several nodes in one process, on real files.
pub(crate) struct TestCluster {
    pub(crate) switch: Arc<Switch>,
    pub(crate) disk: Arc<dyn Disk>,
    folder: tempfile::TempDir,
    stores: BTreeMap<u64, u32>,
    voters: BTreeSet<NodeId>,
    pub(crate) nodes: BTreeMap<u64, DirectoryService>,
    /// Real transports, which outlive the directories, in place of the switch.
    quic: BTreeMap<u64, Arc<Port>>,
    pub(crate) tune: fn(&mut DirectoryOptions),
}

/// As long as any condition is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

impl TestCluster {
    pub(crate) fn new(voters: u64) -> Self {
        Self {
            switch: Arc::default(),
            disk: Arc::new(RealDisk),
            folder: tempfile::tempdir().unwrap(),
            stores: BTreeMap::new(),
            voters: (1..=voters).map(NodeId).collect(),
            nodes: BTreeMap::new(),
            quic: BTreeMap::new(),
            tune: |_| {},
        }
    }

    /// All voters, and a leader.
    pub(crate) async fn started(voters: u64) -> Self {
        let mut cluster = Self::new(voters);
        for node in 1..=voters {
            cluster.start(node).await;
        }
        cluster.leader().await;
        cluster
    }

    /// Nodes 1 to `nodes` talk over QUIC on loopback.
    pub(crate) async fn over_quic(mut self, nodes: u64) -> Self {
        let transports = quic::mesh(nodes).await;
        self.quic = transports.into_iter().map(|t| (t.me().node.0, Port::new(t))).collect();
        self
    }

    /// A node's network.
    pub(crate) fn net(&self, node: u64) -> Arc<dyn Net> {
        match self.quic.get(&node) {
            Some(port) => port.clone(),
            None => self.switch.port(node),
        }
    }

    pub(crate) fn options(&self) -> DirectoryOptions {
        let mut options = DirectoryOptions {
            first_voters: self.voters.clone(),
            generation: 7,
            lease: LeaseTiming::ONE_SITE,
            propose_within: Duration::from_secs(10),
            ..DirectoryOptions::default()
        };
        (self.tune)(&mut options);
        options
    }

    fn folder_of(&self, node: u64) -> PathBuf {
        let store = self.stores.get(&node).copied().unwrap_or(0);
        self.folder.path().join(format!("node-{node}-{store}"))
    }

    pub(crate) async fn start(&mut self, node: u64) -> DirectoryHandle {
        let net = self.net(node);
        let (_, opened) = DiskStorage::open(self.disk.clone(), &self.folder_of(node), Drive::Thread).unwrap();
        let service = DirectoryService::start(net, opened, self.options()).await.unwrap();
        let handle = service.handle();
        self.nodes.insert(node, service);
        handle
    }

    /// Stops a node as a crash would as far as others can see: it no longer answers.
    pub(crate) async fn kill(&mut self, node: u64) {
        if let Some(service) = self.nodes.remove(&node) {
            service.stop().await;
        }
    }

    /// The node's next start finds an empty folder.
    pub(crate) fn lose_store(&mut self, node: u64) {
        *self.stores.entry(node).or_default() += 1;
    }

    pub(crate) fn handle(&self, node: u64) -> DirectoryHandle {
        self.nodes[&node].handle()
    }
    pub(crate) fn handles(&self) -> Vec<DirectoryHandle> {
        self.nodes.values().map(DirectoryService::handle).collect()
    }
    pub(crate) fn raft_of(&self, node: u64) -> RaftId {
        self.handle(node).status().raft
    }

    /// Waits until one running node leads and all others know it.
    pub(crate) async fn leader(&self) -> u64 {
        until("one leader that everybody knows", || {
            let handles = self.handles();
            let leaders: Vec<u64> = handles.iter().filter(|h| h.leads()).map(|h| h.me().0).collect();
            let [leader] = leaders[..] else { return None };
            handles.iter().all(|h| h.leader() == Some(NodeId(leader))).then_some(leader)
        })
        .await
    }
}

/// Polls a condition with a deadline.
pub(crate) async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Transports of several nodes, connected with each other.
mod quic {
    use std::net::Ipv4Addr;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use onemec_wire::{Cluster, Incarnation, NodeId};

    use crate::pki::{CaAuthority, Credentials, Pki, Trust, Validity};
    use crate::transport::{Options, Profile, Transport};

    pub(super) async fn mesh(nodes: u64) -> Vec<Transport> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let validity = Validity::starting(now, Duration::from_secs(3600));
        let ca = CaAuthority::create("edge.test", validity).unwrap();
        // As on a node: the transport has a thread of its own. It ends with the process.
        let start = |node| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
            let issued = ca.issue_node(NodeId(node), validity).unwrap();
            let credentials = Credentials::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
            let trust = Trust::new(ca.domain(), ca.certificate_pem()).unwrap();
            let pki = Pki::new(Arc::new(credentials), Arc::new(trust)).unwrap();
            let cluster = Cluster { id: [7; 16], generation: 1 };
            let mut options = Options::new((Ipv4Addr::LOCALHOST, 0).into(), Incarnation(1), cluster, handle);
            options.tuning.profile = Profile::Loopback;
            Transport::start(options, &pki).unwrap()
        };
        let all: Vec<Transport> = (1..=nodes).map(start).collect();
        let connections = || all.iter().flat_map(|a| all.iter().map(move |b| (a, b.me().node)));
        for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
            a.set_peer(b.me().node, vec![b.local_addr().unwrap()]);
        }
        super::until("all connections", || connections().all(|(a, b)| a.connected(b)).then_some(())).await;
        all
    }
}
