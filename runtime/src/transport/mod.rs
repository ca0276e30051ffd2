//! Nodes talk to nodes: messages, questions, calls, transfers and datagrams over QUIC (DESIGN.md section 3).
//!
//! ```text
//!  callers (any thread)          transport thread                      peer
//!  tell/ask --> LaneQueue --> lane writer --> QUIC stream --> lane reader --> Service
//!               (encoded, coalesced, bounded)     (credit for message lanes comes back when messages are dropped)
//! ```
//! Two connections per peer: lanes (control stream, lanes, calls, datagrams) and transfers. Whoever can dials, for ever;
//! of two that cross, the one dialled by the lower id stays. Messages arrive at most once and, on one lane, in order; when
//! a connection breaks, everyone who waits gets a typed error, and what was queued is lost.

mod backoff;
mod call;
mod conn;
mod dial;
mod endpoint;
mod error;
mod handshake;
mod lane;
mod message;
mod options;
mod peer;
mod run;
mod service;
mod shared;
mod stats;
mod transfer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use onemec_wire::greeting;
use onemec_wire::{CloseCode, Cluster, Kind, Member, NodeId, Purpose, ServiceId, datagram};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{broadcast, oneshot};

pub use error::{AskError, DownReason, SendError, StartError, TransferError};
pub use message::{Lane, Message};
pub use options::{Options, Profile, Tuning};
pub use peer::Event;
pub use service::{Replier, Service};
pub use stats::{PeerStats, TransportStats};
pub use transfer::{TransferSink, TransferSource};

use crate::pki::Pki;
use conn::Conn;
use peer::Peer;
use service::Way;
use shared::{Shared, count};

/// A running transport; cheap to clone. Ends with [`Transport::shutdown`].
#[derive(Clone, Debug)]
pub struct Transport {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    domain: String,
    cluster: Cluster,
    features: u64,
    features_required: u64,
    endpoint: quinn::Endpoint,
    client: quinn::ClientConfig,
    runtime: tokio::runtime::Handle,
    /// Read on the hot path.
    peers: ArcSwap<FxHashMap<NodeId, Arc<Peer>>>,
    /// Held while `peers` is changed. Lock order: this one, then a slot's, then a lane's.
    changes: Mutex<()>,
    events: broadcast::Sender<Event>,
}

impl Transport {
    /// Opens the socket and begins to accept. Node id and domain are those of the certificate.
    pub fn start(mut options: Options, pki: &Pki) -> Result<Self, StartError> {
        options.tuning = options.tuning.clamped();
        let endpoint = endpoint::open(&options, pki)?;
        let client = endpoint::client(&options.tuning, pki)?;
        let me = Member { node: pki.node(), incarnation: options.incarnation };
        let (events, _) = broadcast::channel(options.tuning.events_max);
        let inner = Arc::new(Inner {
            shared: Arc::new(Shared::new(me, options.tuning)),
            domain: pki.domain().to_owned(),
            cluster: options.cluster,
            features: options.features,
            features_required: options.features_required,
            endpoint,
            client,
            runtime: options.runtime,
            peers: ArcSwap::default(),
            changes: Mutex::new(()),
            events,
        });
        inner.runtime.spawn(inner.clone().accept());
        Ok(Self { inner })
    }

    /// This boot of this node.
    pub fn me(&self) -> Member {
        self.inner.shared.me
    }

    /// The address on which it listens.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.inner.endpoint.local_addr()
    }

    /// Sets the handler of a service; an old one is replaced.
    pub fn register(&self, service: ServiceId, handler: Arc<dyn Service>) {
        self.inner.shared.services.rcu(|old| {
            let mut new = FxHashMap::clone(old);
            new.insert(service, handler.clone());
            new
        });
    }

    /// Takes a service's handler out: its messages get `NoHandler` from now on.
    pub fn unregister(&self, service: ServiceId) {
        self.inner.shared.services.rcu(|old| {
            let mut new = FxHashMap::clone(old);
            new.remove(&service);
            new
        });
    }

    /// Configures a peer of our own domain, or changes its addresses (tried in their order). Without an address it is
    /// not dialled but may dial us.
    pub fn set_peer(&self, node: NodeId, addresses: Vec<SocketAddr>) {
        self.inner.set_peer(node, &self.inner.domain, addresses);
    }

    /// Configures a peer of another domain: only the federation service can be used with it. Its domain's CA must be
    /// trusted ([`crate::pki::Trust::set`]), its node id differ from those of our own domain.
    pub fn set_foreign_peer(&self, domain: &str, node: NodeId, addresses: Vec<SocketAddr>) {
        self.inner.set_peer(node, domain, addresses);
    }

    /// Forgets a peer and closes its connections.
    pub fn remove_peer(&self, node: NodeId) {
        let _changes = self.inner.changes.lock();
        if let Some(peer) = self.inner.drop_peer(node) {
            peer.close(CloseCode::PeerRemoved);
        }
    }

    /// Messages can be sent to this peer at the moment.
    pub fn connected(&self, peer: NodeId) -> bool {
        self.member(peer).is_some()
    }

    /// The boot of this peer that is connected.
    pub fn member(&self, peer: NodeId) -> Option<Member> {
        if peer == self.me().node {
            return Some(self.me());
        }
        self.inner.peers.load().get(&peer).and_then(|p| p.lanes.current.load().as_ref().map(|c| c.peer))
    }

    /// Ups and downs from now on. Who lags too far behind (`RecvError::Lagged`) looks at [`Transport::member`] again.
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.inner.events.subscribe()
    }

    /// Sends a message that wants no answer; never waits. `Ok` means queued: it arrives at most once.
    pub fn tell(&self, peer: NodeId, lane: Lane, message: Message) -> Result<(), SendError> {
        let shared = &self.inner.shared;
        if peer == shared.me.node {
            if !shared.with_service(message.service, |s| s.tell(shared.me, message)) {
                count(&shared.counters.messages_dropped);
            }
            return Ok(());
        }
        self.with_lanes(peer, |conn| {
            let frame = message.into_frame(Kind::Tell);
            let (number, queue) = conn.lane_for(lane, &frame)?;
            let cost = conn.take_credit(number, &frame)?;
            queue.tell(&frame).inspect_err(|_| conn.put_credit(cost))
        })
    }

    /// Sends a question and waits for its answer. Dropping the future gives the answer up, not the question.
    pub async fn ask(
        &self,
        peer: NodeId,
        lane: Lane,
        message: Message,
        deadline: Duration,
    ) -> Result<Message, AskError> {
        if peer == self.me().node {
            return self.ask_here(message, deadline).await;
        }
        let (conn, correlation, answer) = self.with_lanes(peer, |conn| {
            let mut frame = message.into_frame(Kind::Ask);
            frame.deadline_ms = deadline_ms(deadline);
            let (number, queue) = conn.lane_for(lane, &frame)?;
            let cost = conn.take_credit(number, &frame)?;
            let (correlation, answer) = queue.ask(frame).inspect_err(|_| conn.put_credit(cost))?;
            Ok((conn.clone(), correlation, answer))
        })?;
        let mut waiting = Waiting { conn, correlation, over: false };
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => {
                waiting.over = true;
                answer.unwrap_or(Err(AskError::Disconnected { maybe_delivered: true }))
            }
            Err(_) => Err(AskError::Timeout),
        }
    }

    /// Like `ask`, on a stream of its own: for large bodies and answers (up to
    /// [`onemec_wire::limits::CALL_FRAME_BYTES_MAX`]), which would hold up a lane. No order among calls.
    pub async fn call(&self, peer: NodeId, message: Message, deadline: Duration) -> Result<Message, AskError> {
        if peer == self.me().node {
            return self.ask_here(message, deadline).await;
        }
        let conn = self.with_lanes(peer, |conn| Ok(conn.clone()))?;
        conn.check(message.service)?;
        let call = call::call(&conn, message, deadline_ms(deadline));
        tokio::time::timeout(deadline, call).await.unwrap_or(Err(AskError::Timeout))
    }

    /// Begins a transfer on the transfers connection: `header` is the service's own, then raw bytes follow.
    pub async fn open_transfer(
        &self,
        peer: NodeId,
        service: ServiceId,
        target: u64,
        header: Bytes,
    ) -> Result<TransferSink, TransferError> {
        let shared = &self.inner.shared;
        if peer == shared.me.node {
            let (sink, source) = transfer::local(service, target, header);
            shared.with_service(service, |s| s.transfer(shared.me, source));
            return Ok(sink);
        }
        let conn = self.inner.peers.load().get(&peer).and_then(|p| p.transfers.current.load_full());
        transfer::open(conn.ok_or(SendError::NotConnected)?, service, target, header).await
    }

    /// The transfers connection to this peer stands.
    pub fn transfers_connected(&self, peer: NodeId) -> bool {
        peer == self.me().node || self.inner.peers.load().get(&peer).is_some_and(|p| p.transfers.is_up())
    }

    /// Sends a datagram: may be lost, doubled or overtaken. The oldest waiting one is dropped when there are too many.
    pub fn datagram(&self, peer: NodeId, service: ServiceId, body: Bytes) -> Result<(), SendError> {
        let shared = &self.inner.shared;
        if peer == shared.me.node {
            shared.with_service(service, |s| s.datagram(shared.me, body));
            return Ok(());
        }
        self.with_lanes(peer, |conn| {
            conn.check(service)?;
            let len = body.len();
            let limit = conn.quic.max_datagram_size().unwrap_or(0);
            let limit = limit.min(onemec_wire::limits::DATAGRAM_BYTES_MAX);
            let limit = limit.saturating_sub(onemec_wire::limits::DATAGRAM_HEADER_BYTES);
            let too_long = SendError::TooLong { len, limit };
            if len > limit {
                return Err(too_long);
            }
            let bytes = datagram::encode(service, &body).map_err(|_| too_long.clone())?;
            conn.quic.send_datagram(bytes).map_err(|e| match e {
                quinn::SendDatagramError::ConnectionLost(_) => SendError::NotConnected,
                _ => too_long,
            })
        })
    }

    /// Says good-bye, waits a moment for what is queued, closes everything. Other clones can send nothing after it.
    pub async fn shutdown(&self) {
        let shared = &self.inner.shared;
        let grace = Duration::from_millis(shared.tuning.shutdown_grace_ms.into());
        let peers = {
            let _changes = self.inner.changes.lock();
            self.inner.peers.swap(Arc::default())
        };
        let conns: Vec<_> = peers.values().flat_map(|p| p.conns()).collect();
        for conn in &conns {
            let _gone = conn.control.tell(&greeting::go_away(CloseCode::Shutdown, "the node stops"));
        }
        let flushed = async {
            while conns.iter().any(|c| c.quic.close_reason().is_none() && c.lanes().any(|(_, l)| !l.is_empty())) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            // What QUIC holds needs one more trip.
            let trip = conns.iter().map(|c| c.quic.rtt()).max().unwrap_or_default();
            tokio::time::sleep(trip * 2).await;
        };
        let _cut_off = tokio::time::timeout(grace, flushed).await;
        for peer in peers.values() {
            peer.close(CloseCode::Shutdown);
        }
        self.inner.endpoint.close(CloseCode::Shutdown.number().into(), b"");
        // Services may hold repliers, which hold connections, which know the services: cut the circle.
        shared.services.store(Arc::default());
        let _cut_off = tokio::time::timeout(grace, self.inner.endpoint.wait_idle()).await;
        self.free_address();
    }

    /// Whoever still holds a handle of this transport holds its socket, and a node that begins anew in the same process needs
    /// the address: the endpoint gets other sockets. Twice, since it keeps the last but one.
    fn free_address(&self) {
        for _ in 0..2 {
            let other = std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0));
            if let Err(e) = other.and_then(|socket| self.inner.endpoint.rebind(socket)) {
                tracing::warn!("the address is not free yet: {e}");
            }
        }
    }

    async fn ask_here(&self, message: Message, deadline: Duration) -> Result<Message, AskError> {
        let (asker, answer) = oneshot::channel();
        let shared = &self.inner.shared;
        let until = tokio::time::Instant::now() + deadline;
        let reply = Replier::new(Way::Local(asker), message.service, message.target, Some(until));
        if !shared.with_service(message.service, |s| s.ask(shared.me, message, reply)) {
            return Err(AskError::NoHandler);
        }
        match tokio::time::timeout_at(until, answer).await {
            Ok(answer) => answer.unwrap_or(Err(AskError::Disconnected { maybe_delivered: true })),
            Err(_) => Err(AskError::Timeout),
        }
    }

    fn with_lanes<T>(&self, peer: NodeId, f: impl FnOnce(&Arc<Conn>) -> Result<T, SendError>) -> Result<T, SendError> {
        let peers = self.inner.peers.load();
        let current = peers.get(&peer).ok_or(SendError::NotConnected)?.lanes.current.load();
        f(current.as_ref().ok_or(SendError::NotConnected)?)
    }
}

impl Inner {
    fn set_peer(self: &Arc<Self>, node: NodeId, domain: &str, addresses: Vec<SocketAddr>) {
        if node == self.shared.me.node {
            return;
        }
        let _changes = self.changes.lock();
        let known = self.peers.load().get(&node).filter(|p| *p.domain == *domain).cloned();
        let peer = known.unwrap_or_else(|| {
            let peer = Arc::new(Peer::new(node, domain, true, &self.events));
            self.put_peer(peer.clone());
            peer
        });
        peer.addresses.send_replace(addresses);
        if peer.configured.swap(true, Ordering::Relaxed) && !peer.diallers.lock().is_empty() {
            return;
        }
        for purpose in [Purpose::Lanes, Purpose::Transfers] {
            let task = self.runtime.spawn(self.clone().keep_dialling(peer.clone(), purpose));
            peer.diallers.lock().push(task.abort_handle());
        }
    }

    fn put_peer(&self, peer: Arc<Peer>) {
        let mut peers = FxHashMap::clone(&self.peers.load());
        if let Some(old) = peers.insert(peer.node, peer) {
            old.close(CloseCode::Replaced);
        }
        self.peers.store(Arc::new(peers));
    }

    fn drop_peer(&self, node: NodeId) -> Option<Arc<Peer>> {
        let mut peers = FxHashMap::clone(&self.peers.load());
        let old = peers.remove(&node);
        self.peers.store(Arc::new(peers));
        old
    }
}

/// An asker that waits; given up, it is forgotten.
struct Waiting {
    conn: Arc<Conn>,
    correlation: u64,
    over: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.over {
            self.conn.answered(self.correlation);
        }
    }
}

/// The deadline as it travels; 0 means none, so the shortest is 1.
fn deadline_ms(deadline: Duration) -> u32 {
    u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX).max(1)
}
