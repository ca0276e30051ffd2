//! What a node keeps for contexts while it may not acknowledge anything (DESIGN.md section 4, local buffering while cut
//! off): a bounded queue on its disk. What lies in it is accepted, not committed; its keeper appends it later as an
//! ordinary client that tries again until it knows the end.

use onemec_wire::{ContextId, Incarnation, NodeId};

use crate::context::{BoxFuture, Op};

/// The key of a buffered operation. Those of one node rise: by its boot, then by their number.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct BufferKey {
    /// Who accepted it.
    pub node: NodeId,
    /// In which boot.
    pub incarnation: Incarnation,
    /// Its number in the buffer.
    pub n: u64,
}

impl std::fmt::Display for BufferKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}-{}", self.node.0, self.incarnation.0, self.n)
    }
}

/// How full a buffer is, and what became of what lay in it since the node's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct BufferFill {
    /// Operations that wait.
    pub waiting: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The limit.
    pub bytes_max: u64,
    /// Accepted.
    pub accepted: u64,
    /// Not accepted because it was full or the disk was.
    pub overflowed: u64,
    /// Appended to their contexts.
    pub appended: u64,
    /// Refused by their contexts when they were to be appended: given up.
    pub refused: u64,
}

/// Why an operation was not accepted. It is not in the buffer and never will be: the client may try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BufferError {
    /// No room.
    #[error("the local buffer is full")]
    Full,
    /// The disk has no room, or has failed: in the latter case the node ends by itself.
    #[error("the local buffer cannot be written: {0}")]
    Disk(String),
}

/// How an operation left the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Its context has it.
    Appended,
    /// Its context refused it for good, or is gone.
    Refused,
}

/// A node's buffer. Operations of one context leave it in the order in which they came.
pub trait Buffer: Send + Sync {
    /// Keeps an operation; returns when it would survive a power cut.
    fn put(&self, context: ContextId, op: Op) -> BoxFuture<'_, Result<BufferKey, BufferError>>;
    /// Whether something waits for a context.
    fn holds(&self, context: ContextId) -> bool;
    /// Up to `limit` contexts for which something waits.
    fn contexts(&self, limit: usize) -> Vec<ContextId>;
    /// What a context is to get next.
    fn first(&self, context: ContextId) -> Option<(BufferKey, Op)>;
    /// The operation is no longer needed.
    fn left(&self, context: ContextId, key: BufferKey, how: Left);
    /// How full it is.
    fn fill(&self) -> BufferFill;
}
