//! What directory, leases and gossip need of the network: one small trait, so that they run over QUIC, inside the
//! simulation, or in memory alike.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_wire::NodeId;
use onemec_wire::service::ServiceId;

/// A boxed future, as object-safe traits need it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why an ask has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// The request did not leave, or the peer said that it did nothing. Safe to try again.
    #[error("not delivered to {to}: {reason}")]
    NotDelivered {
        /// Whom it was for.
        to: NodeId,
        /// What was in the way.
        reason: String,
    },
    /// The request left and no answer came. It may have been carried out, or still be.
    #[error("no answer from {to}: {reason}")]
    Unknown {
        /// Whom it was for.
        to: NodeId,
        /// What happened.
        reason: String,
    },
}

/// Answers asks of one service.
pub trait AskHandler: Send + Sync + 'static {
    /// Answers `body` from `from`; `None` when it cannot be read or nothing was done.
    fn ask(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Option<Bytes>>;
}

/// Takes datagrams of one service. Must not block.
pub trait DatagramHandler: Send + Sync + 'static {
    /// A datagram came.
    fn datagram(&self, from: NodeId, body: Bytes);
}

/// The network as seen by one node. An ask or a datagram to the node itself is handed to its own handler.
pub trait Net: Send + Sync + 'static {
    /// This node.
    fn me(&self) -> NodeId;
    /// Sends a request and waits for the answer, no longer than `deadline`.
    fn ask(
        &self,
        to: NodeId,
        service: ServiceId,
        body: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, NetError>>;
    /// Sends something whose loss does not matter.
    fn datagram(&self, to: NodeId, service: ServiceId, body: Bytes);
    /// Registers the handler of a service's asks, in place of a former one.
    fn on_ask(&self, service: ServiceId, handler: Arc<dyn AskHandler>);
    /// Registers the handler of a service's datagrams, in place of a former one.
    fn on_datagram(&self, service: ServiceId, handler: Arc<dyn DatagramHandler>);
    /// Forgets both handlers of a service: asks fail as not delivered, datagrams are dropped.
    fn off(&self, service: ServiceId);
}
