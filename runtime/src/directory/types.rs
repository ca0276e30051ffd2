//! openraft's types as the directory uses them.

use std::fmt;

use bincode::{Decode, Encode};
use bytes::Bytes;
use onemec_core::directory::{CommandOutcome, Entry};
use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};

/// Raft's id of a node's store. Made at random with the store, so that a voter that lost its store has another one
/// (rule 14: it has forgotten its votes and must never pass for the voter that it was).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
pub struct RaftId(pub u64);

impl fmt::Display for RaftId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{:x}", self.0)
    }
}

/// What Raft's membership says of each member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize, Deserialize)]
pub struct Peer {
    /// The node.
    pub node: NodeId,
    /// The cluster's generation, the same in all members: decided once, when the cluster is made.
    pub generation: u32,
}

/// A leadership, as [`onemec_core::lease::Term`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct OnlyIn {
    /// The term.
    pub term: u64,
    /// The store that leads.
    pub leader: u64,
}

/// What Raft logs: an entry of the directory, perhaps one that counts only under the leadership that decided it.
///
/// Rule 1: a leader declares a boot dead because *it* has granted nothing for longer than a lease. Should it lose its
/// leadership and win it again before the entry is logged, another leader may have granted a lease meanwhile: then the
/// entry must do nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Logged {
    /// The only leadership under which it may take effect.
    pub only_in: Option<OnlyIn>,
    /// The commands.
    pub entry: Entry,
}

/// A snapshot in the form in which it is stored and travels.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotBytes(pub Bytes);

openraft::declare_raft_types!(
    /// openraft's parameters.
    pub TypeConfig:
        D = Logged,
        R = Vec<CommandOutcome>,
        NodeId = u64,
        Node = Peer,
        Entry = openraft::Entry<TypeConfig>,
        SnapshotData = SnapshotBytes,
);

pub(crate) type Raft = openraft::Raft<TypeConfig>;
pub(crate) type LogId = openraft::LogId<u64>;
pub(crate) type Vote = openraft::Vote<u64>;
pub(crate) type RaftEntry = openraft::Entry<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = openraft::StoredMembership<u64, Peer>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<u64, Peer>;
pub(crate) type StorageError = openraft::StorageError<u64>;
pub(crate) type Metrics = openraft::RaftMetrics<u64, Peer>;
