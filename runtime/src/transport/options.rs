//! What can be set, with defaults that suit a cluster on one site.

use std::net::SocketAddr;
use std::time::Duration;

use onemec_wire::limits::{CREDIT_WINDOW_BYTES_MAX, CREDIT_WINDOW_BYTES_MIN, MESSAGE_LANES_MAX};
use onemec_wire::{Cluster, Incarnation};

/// The kind of network between the nodes: decides packet size, segmentation offload and the first congestion window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// One machine: packets of 65,000 B without segmentation offload, large first window.
    Loopback,
    /// A path that carries jumbo frames from end to end: packets of 6,550 B with segmentation offload.
    Lan,
    /// Any network: packets of 1,452 B at most, path probed, with segmentation offload.
    #[default]
    Wan,
}

/// Limits and times of the transport. Every queue is bounded by one of these.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tuning {
    /// The kind of network.
    pub profile: Profile,
    /// A connection on which nothing came for so long is dead.
    pub idle_timeout_ms: u32,
    /// Something is sent at least this often.
    pub keep_alive_ms: u32,
    /// From the first packet to the Welcome.
    pub handshake_timeout_ms: u32,
    /// First pause between two dials; doubles, with jitter.
    pub dial_backoff_min_ms: u32,
    /// Longest pause between two dials.
    pub dial_backoff_max_ms: u32,
    /// Pause after a refusal that only a changed configuration can end.
    pub dial_backoff_lasting_ms: u32,
    /// Message lanes that this node opens to each peer.
    pub message_lanes: u8,
    /// Credit for message lanes that each peer gets, in bytes: what of its messages may lie here unanswered.
    pub credit_bytes: u64,
    /// Bytes that wait in one lane of one peer; beyond, the caller gets `QueueFull`.
    pub lane_queue_bytes_max: usize,
    /// Answers that wait in one lane of one peer; beyond, that connection is closed as overloaded.
    pub lane_answer_bytes_max: usize,
    /// Asks without an answer, per lane and peer; beyond, the caller gets `QueueFull`.
    pub asks_pending_max: usize,
    /// Calls that one peer may have under way here.
    pub calls_concurrent_max: u32,
    /// Bytes of incoming calls that lie here unanswered, all peers together.
    pub call_bytes_max: u32,
    /// Transfers that one peer may have under way here.
    pub transfers_concurrent_max: u32,
    /// Flow-control window of one stream, in bytes: rate times round trip.
    pub stream_window_bytes: u32,
    /// Flow-control window of a whole lanes connection.
    pub lanes_window_bytes: u32,
    /// Flow-control window of a whole transfers connection: below `transfers_concurrent_max` stream windows, slow
    /// transfers can hold up others.
    pub transfers_window_bytes: u32,
    /// Sent and unacknowledged bytes per connection.
    pub send_window_bytes: u32,
    /// Socket buffers, each direction.
    pub socket_buffer_bytes: u32,
    /// Connections, both directions together.
    pub connections_max: usize,
    /// Incoming handshakes under way; half as many, and addresses are validated first.
    pub handshakes_max: usize,
    /// Breaches of the protocol by one node within `breach_window_ms` after which it is refused for the rest of it.
    pub breaches_max: u32,
    /// See `breaches_max`.
    pub breach_window_ms: u32,
    /// Events that a slow subscriber may be behind.
    pub events_max: usize,
    /// How long `shutdown` waits for queued messages to leave.
    pub shutdown_grace_ms: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            profile: Profile::default(),
            idle_timeout_ms: 3_000,
            keep_alive_ms: 500,
            handshake_timeout_ms: 3_000,
            dial_backoff_min_ms: 50,
            dial_backoff_max_ms: 2_000,
            dial_backoff_lasting_ms: 10_000,
            message_lanes: 2,
            credit_bytes: 32 << 20,
            lane_queue_bytes_max: 32 << 20,
            lane_answer_bytes_max: 64 << 20,
            asks_pending_max: 65_536,
            calls_concurrent_max: 64,
            call_bytes_max: 256 << 20,
            transfers_concurrent_max: 32,
            stream_window_bytes: 4 << 20,
            lanes_window_bytes: 8 << 20,
            transfers_window_bytes: 128 << 20,
            send_window_bytes: 16 << 20,
            socket_buffer_bytes: 4 << 20,
            connections_max: 1_024,
            handshakes_max: 128,
            breaches_max: 5,
            breach_window_ms: 60_000,
            events_max: 1_024,
            shutdown_grace_ms: 500,
        }
    }
}

impl Tuning {
    /// Brings values that others rely on into their legal ranges.
    pub(super) fn clamped(mut self) -> Self {
        self.message_lanes = self.message_lanes.clamp(1, MESSAGE_LANES_MAX);
        self.credit_bytes = self.credit_bytes.clamp(CREDIT_WINDOW_BYTES_MIN, CREDIT_WINDOW_BYTES_MAX);
        self.dial_backoff_min_ms = self.dial_backoff_min_ms.max(1);
        self.dial_backoff_max_ms = self.dial_backoff_max_ms.max(self.dial_backoff_min_ms);
        self.events_max = self.events_max.max(1);
        self.connections_max = self.connections_max.max(2);
        self.handshakes_max = self.handshakes_max.max(2);
        self
    }
    pub(super) fn handshake_timeout(&self) -> Duration {
        Duration::from_millis(self.handshake_timeout_ms.into())
    }
}

/// What a transport is started with.
#[derive(Debug, Clone)]
pub struct Options {
    /// Own address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// This boot of the node.
    pub incarnation: Incarnation,
    /// The cluster, compared in the handshake.
    pub cluster: Cluster,
    /// Where the endpoint and all its tasks run: best a current-thread runtime on a thread of its own.
    pub runtime: tokio::runtime::Handle,
    /// Limits and times.
    pub tuning: Tuning,
    /// Feature bits that this node has.
    pub features: u64,
    /// Feature bits that a peer must have.
    pub features_required: u64,
    /// Key for stateless resets: the same over restarts of a node, so that peers notice a restart with their first
    /// packet. Random if `None`.
    pub reset_key: Option<[u8; 64]>,
    /// Seed of all randomness of the transport, for simulation. Random if `None`.
    pub seed: Option<[u8; 32]>,
}

impl Options {
    /// Defaults for the rest.
    pub fn new(
        listen: SocketAddr,
        incarnation: Incarnation,
        cluster: Cluster,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let tuning = Tuning::default();
        Self {
            listen,
            incarnation,
            cluster,
            runtime,
            tuning,
            features: 0,
            features_required: 0,
            reset_key: None,
            seed: None,
        }
    }
}
