//! What a group's executor says to others: small, so that tests run executors without sockets.

use bytes::Bytes;
use onemec_core::directory::Command;
use onemec_core::group::GroupMessage;
use onemec_wire::{Epoch, GroupId, Member};

/// The network and the directory as one group sees them. Nothing here blocks.
pub trait GroupNet: Send + Sync {
    /// Sends a message with records. May be lost.
    fn send(&self, to: Member, message: GroupMessage, records: Vec<Bytes>);
    /// Sends the last checkpoint with its history in the background, and reports how that ended to the group.
    fn send_history(&self, to: Member, epoch: Epoch);
    /// Proposes to the directory in the background; a refusal is reported to the group.
    fn propose(&self, group: GroupId, command: Command);
    /// Deletes the group from this node's store in the background.
    fn forget(&self, group: GroupId);
}
