//! What replicas of one group say to each other. Records travel as raw attachments of `Append`, in the form in which they
//! are stored.

use bincode::{Decode, Encode};
use onemec_wire::{Epoch, GroupId, Seq, Version};

use super::log::Position;

/// A message about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct GroupMessage {
    /// The group.
    pub group: GroupId,
    /// The epoch under which it was said.
    pub epoch: Epoch,
    /// What.
    pub body: GroupBody,
}

/// The body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum GroupBody {
    /// Primary to replica: records that follow `prev` (perhaps none).
    Append {
        /// The placement's version as the primary knows it.
        version: Version,
        /// The end of the log that the primary inherited when its epoch began: older records beyond it never counted.
        start: Seq,
        /// The records follow this position.
        prev: Position,
        /// Everything up to here is committed.
        commit: Seq,
        /// The replica guarantees synced data: it is to say when it has synced.
        sync: bool,
    },
    /// Replica to primary: my log is yours up to `held`, and on my disk up to `synced`.
    Ack {
        /// In memory.
        held: Seq,
        /// On disk.
        synced: Seq,
    },
    /// Replica to primary: I do not have `prev`; this is the nearest that I have.
    Mismatch {
        /// See `LogShape::at_or_before`.
        nearest: Position,
    },
    /// Anybody to a primary: there is a newer one.
    Stale {
        /// The newest epoch that was seen.
        seen: Epoch,
    },
}
