//! Figures for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use onemec_core::time::Mono;
use onemec_wire::{Member, NodeId};

use super::Transport;
use super::peer::Peer;

/// One peer, now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerStats {
    /// The node.
    pub node: NodeId,
    /// Its domain.
    pub domain: String,
    /// The boot that is connected, if one is.
    pub member: Option<Member>,
    /// The transfers connection stands as well.
    pub transfers_connected: bool,
    /// Smoothed round-trip time in microseconds; 0 when not connected.
    pub rtt_us: u64,
    /// Connections made since the start, both purposes.
    pub connections: u64,
    /// Frames handed to lanes.
    pub sent_messages: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Payload bytes that were copied on the way out (small ones, into coalescing buffers).
    pub sent_copied_bytes: u64,
    /// Frames that came on lanes.
    pub received_messages: u64,
    /// Bytes that came on lanes.
    pub received_bytes: u64,
    /// Bytes of bodies that were copied since they came in pieces.
    pub received_copied_bytes: u64,
    /// When its last message or datagram came, whichever boot sent it; `None` if none ever did.
    pub heard: Option<Mono>,
    /// Bytes that wait in each lane.
    pub queued_bytes: Vec<usize>,
    /// Asks that wait for an answer.
    pub asks_pending: usize,
    /// Credit left for message lanes, in bytes.
    pub credit_bytes: u64,
    /// QUIC packets that were declared lost on the present connections.
    pub lost_packets: u64,
}

/// The whole transport, since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransportStats {
    /// Connections closed since a peer broke the protocol.
    pub breaches: u64,
    /// Incoming handshakes that failed (wrong certificate, domain, cluster, silence ...).
    pub handshakes_failed: u64,
    /// Incoming connections that were refused since there were too many.
    pub handshakes_refused: u64,
    /// Panics of services.
    pub service_panics: u64,
    /// Messages for services that do not exist.
    pub messages_dropped: u64,
}

impl Transport {
    /// Counters of the whole transport.
    pub fn stats(&self) -> TransportStats {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let c = &self.inner.shared.counters;
        TransportStats {
            breaches: read(&c.breaches),
            handshakes_failed: read(&c.handshakes_failed),
            handshakes_refused: read(&c.handshakes_refused),
            service_panics: read(&c.service_panics),
            messages_dropped: read(&c.messages_dropped),
        }
    }

    /// All peers, connected or not, in the order of their ids.
    pub fn peers(&self) -> Vec<PeerStats> {
        let mut all: Vec<_> = self.inner.peers.load().values().map(|p| peer_stats(p)).collect();
        all.sort_unstable_by_key(|p| p.node);
        all
    }

    /// One peer.
    pub fn peer_stats(&self, peer: NodeId) -> Option<PeerStats> {
        self.inner.peers.load().get(&peer).map(|p| peer_stats(p))
    }
}

fn peer_stats(peer: &Peer) -> PeerStats {
    let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
    let totals = &peer.totals;
    let mut stats = PeerStats {
        node: peer.node,
        domain: peer.domain.to_string(),
        member: None,
        transfers_connected: peer.transfers.is_up(),
        rtt_us: 0,
        connections: read(&totals.connections),
        sent_messages: read(&totals.sent_messages),
        sent_bytes: read(&totals.sent_bytes),
        sent_copied_bytes: read(&totals.sent_copied_bytes),
        received_messages: read(&totals.received_messages),
        received_bytes: read(&totals.received_bytes),
        received_copied_bytes: read(&totals.received_copied_bytes),
        heard: Some(read(&totals.heard_ns)).filter(|ns| *ns > 0).map(Mono),
        queued_bytes: Vec::new(),
        asks_pending: 0,
        credit_bytes: 0,
        lost_packets: peer.conns().map(|c| c.quic.stats().path.lost_packets).sum(),
    };
    if let Some(conn) = &*peer.lanes.current.load() {
        stats.member = Some(conn.peer);
        stats.rtt_us = u64::try_from(conn.quic.rtt().as_micros()).unwrap_or(u64::MAX);
        stats.credit_bytes = conn.credit();
        for (_, lane) in conn.lanes() {
            let lane = lane.stats();
            stats.sent_messages += lane.messages;
            stats.sent_bytes += lane.bytes;
            stats.sent_copied_bytes += lane.copied_bytes;
            stats.asks_pending += lane.asks_pending;
            stats.queued_bytes.push(lane.queued_bytes);
        }
    }
    stats
}
