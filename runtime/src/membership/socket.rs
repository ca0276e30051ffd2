//! chitchat's socket over our datagrams. Its addresses are invented: each stands for a node id.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use onemec_wire::NodeId;
use onemec_wire::service::ServiceId;
use tokio::sync::{Semaphore, mpsc};

use crate::directory::net::BoxFuture;
use crate::directory::{AskHandler, DatagramHandler, Net};

/// Messages that wait; more are dropped: the next round brings them again.
const INBOX_MAX: usize = 256;
/// What surely fits into a datagram on every network; longer messages travel as asks without an answer worth waiting for.
const DATAGRAM_BYTES_SURE: usize = 1_000;
/// Long messages under way at once; more are dropped.
const LONG_MAX: usize = 32;
/// For one long message.
const LONG_TIME: Duration = Duration::from_secs(2);
/// Prefix of the invented addresses (unique local, "onemec").
const PREFIX: u64 = 0xfd6f_6e65_6d65_6300;
const PORT: u16 = 7;

/// The invented address of a node.
pub(super) fn address_of(node: NodeId) -> SocketAddr {
    let ip = Ipv6Addr::from((u128::from(PREFIX) << 64) | u128::from(node.0));
    SocketAddr::new(IpAddr::V6(ip), PORT)
}

/// The node of an invented address.
pub(super) fn node_of(address: SocketAddr) -> Option<NodeId> {
    let IpAddr::V6(ip) = address.ip() else { return None };
    let bits = u128::from(ip);
    (bits >> 64 == u128::from(PREFIX) && address.port() == PORT).then_some(NodeId(bits as u64))
}

pub(super) struct GossipTransport(pub(super) Arc<dyn Net>);

#[async_trait]
impl Transport for GossipTransport {
    async fn open(&self, _listen: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX_MAX);
        self.0.on_datagram(ServiceId::GOSSIP, Arc::new(Inbox(sender.clone())));
        self.0.on_ask(ServiceId::GOSSIP, Arc::new(Inbox(sender)));
        Ok(Box::new(GossipSocket { net: self.0.clone(), inbox, long: Arc::new(Semaphore::new(LONG_MAX)) }))
    }
}

struct Inbox(mpsc::Sender<(NodeId, Bytes)>);

impl DatagramHandler for Inbox {
    fn datagram(&self, from: NodeId, body: Bytes) {
        // A full inbox loses it, as a datagram may be lost.
        let _ = self.0.try_send((from, body));
    }
}

impl AskHandler for Inbox {
    fn ask(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        self.datagram(from, body);
        Box::pin(std::future::ready(Some(Bytes::new())))
    }
}

struct GossipSocket {
    net: Arc<dyn Net>,
    inbox: mpsc::Receiver<(NodeId, Bytes)>,
    long: Arc<Semaphore>,
}

impl GossipSocket {
    fn send_long(&self, node: NodeId, body: Bytes) {
        let Ok(permit) = self.long.clone().try_acquire_owned() else { return };
        let answer = self.net.ask(node, ServiceId::GOSSIP, body, LONG_TIME);
        drop(tokio::spawn(async move {
            drop(answer.await);
            drop(permit);
        }));
    }
}

#[async_trait]
impl Socket for GossipSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if let Some(node) = node_of(to) {
            let body = Bytes::from(message.serialize_to_vec());
            if body.len() <= DATAGRAM_BYTES_SURE {
                self.net.datagram(node, ServiceId::GOSSIP, body);
            } else {
                self.send_long(node, body);
            }
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (from, body) = self.inbox.recv().await.ok_or_else(|| anyhow::anyhow!("the network has stopped"))?;
            match ChitchatMessage::deserialize(&mut &body[..]) {
                Ok(message) => return Ok((address_of(from), message)),
                Err(error) => tracing::debug!(%from, %error, "gossip is not readable"),
            }
        }
    }
}
