//! Configuration of the directory.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use onemec_core::lease::LeaseTiming;
use onemec_wire::NodeId;
use openraft::{Config, SnapshotPolicy};

use super::error::StartError;
use super::types::RaftId;
use crate::supervise::Tree;

/// How the directory runs on one node.
#[derive(Debug, Clone)]
pub struct DirectoryOptions {
    /// The voters of a new cluster, the same on every node that may make it. Without effect once there is a cluster.
    pub first_voters: BTreeSet<NodeId>,
    /// Other nodes to ask for admission; the first voters are asked too.
    pub seeds: BTreeSet<NodeId>,
    /// The generation of a new cluster, if this node makes it: never one that was used before. At least 1. Seconds since
    /// 1970 do.
    pub generation: u32,
    /// Raft's id of this node's store, if the store is new: random.
    pub fresh_raft: RaftId,
    /// How long leases are; Raft's times are scaled with it.
    pub lease: LeaseTiming,
    /// A snapshot is made every so many entries.
    pub snapshot_entries: u64,
    /// So many entries stay in the log behind a snapshot, for members that are a little late.
    pub log_entries_kept: u64,
    /// Proposals that may wait on this node.
    pub proposals_max: usize,
    /// Reads that may wait on this node.
    pub reads_max: usize,
    /// Changes that a reader of the feed may be behind.
    pub changes_max: usize,
    /// How long `propose` tries.
    pub propose_within: Duration,
    /// The supervision tree that its tasks belong to.
    pub tree: Arc<Tree>,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            first_voters: BTreeSet::new(),
            seeds: BTreeSet::new(),
            generation: 1,
            fresh_raft: RaftId(RandomState::new().hash_one(std::process::id())),
            lease: LeaseTiming::ONE_SITE,
            snapshot_entries: 5_000,
            log_entries_kept: 1_000,
            proposals_max: 4_096,
            reads_max: 4_096,
            changes_max: 1_024,
            propose_within: Duration::from_secs(3),
            tree: Arc::default(),
        }
    }
}

/// Entries in one message between members; each has at most [`super::propose::ENTRY_BYTES_MAX`].
const ENTRIES_PER_MESSAGE_MAX: u64 = 32;
/// For one piece of a snapshot.
const SNAPSHOT_PIECE_MS_MAX: u64 = 3_000;

impl DirectoryOptions {
    /// Raft's time unit. With L = 300 ms: heartbeats each 50 ms, voters keep to a leader for 300 ms, elections after a
    /// leader's silence of 450 to 600 ms (`onemec_core::election`).
    fn election_ms(&self) -> u64 {
        (self.lease.lease.as_millis() / 2).try_into().unwrap_or(u64::MAX / 4)
    }

    pub(crate) fn raft_config(&self) -> Result<Config, StartError> {
        if self.generation == 0 {
            return Err(StartError::Options("generation must be at least 1".into()));
        }
        let election = self.election_ms();
        let config = Config {
            cluster_name: "onemec".into(),
            heartbeat_interval: election / 3,
            election_timeout_min: election,
            election_timeout_max: election * 2,
            install_snapshot_timeout: SNAPSHOT_PIECE_MS_MAX,
            // `elections` begins them, after asking around.
            enable_elect: false,
            max_payload_entries: ENTRIES_PER_MESSAGE_MAX,
            replication_lag_threshold: self.snapshot_entries.saturating_add(self.log_entries_kept),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_entries),
            max_in_snapshot_log_to_keep: self.log_entries_kept,
            purge_batch_size: 64,
            ..Config::default()
        };
        config.validate().map_err(|e| StartError::Options(e.to_string()))
    }
}
