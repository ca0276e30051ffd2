//! What a group's executor needs from the node around it: a log, the network, the directory. Small, so that tests run
//! executors without sockets and disks.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use onemec_core::directory::Command;
use onemec_core::group::{GroupMessage, Position};
use onemec_wire::{Epoch, GroupId, Member, Record, Seq};

/// Called once, from the store's committer thread, when what was handed in is on disk.
pub type SyncDone = Box<dyn FnOnce() + Send>;

/// The store cannot take it; nothing was stored. A failed sync is not reported here: the node exits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("store: {0}")]
pub struct LogError(pub String);

/// One group's log, snapshot and kept records on this node.
pub trait GroupLog: Send + Sync {
    /// Whose log it is.
    fn group(&self) -> GroupId;
    /// Takes records into memory at once and on to disk soon. With `synced`, they are synced without delay.
    fn append(&self, records: &[Record], synced: Option<SyncDone>) -> Result<(), LogError>;
    /// A record of the tail, or a kept one.
    fn record(&self, seq: Seq) -> Option<Record>;
    /// Removes everything after `seq`, durably before `synced` is called.
    fn truncate(&self, after: Seq, synced: SyncDone) -> Result<(), LogError>;
    /// Persists the newest epoch seen, in order with what follows.
    fn note_epoch(&self, epoch: Epoch) -> Result<(), LogError>;
    /// Writes a snapshot; blocks until it is on disk. Records up to `base` that are not in `kept` may go.
    fn save_snapshot(&self, base: Position, snapshot: &Bytes, kept: &BTreeSet<Seq>) -> Result<(), LogError>;
    /// Replaces everything by a received snapshot with its kept records; blocks until it is on disk.
    fn install(&self, base: Position, epoch: Epoch, snapshot: &Bytes, kept: &[Record]) -> Result<(), LogError>;
    /// Deletes the group from this node.
    fn forget(&self) -> Result<(), LogError>;
}

/// What a group's executor says to others.
pub trait GroupNet: Send + Sync {
    /// Sends a message with records. May be lost; never blocks.
    fn send(&self, to: Member, message: GroupMessage, records: Vec<Bytes>);
    /// Sends a snapshot with its history in the background, and reports how that ended to the group.
    fn send_history(&self, to: Member, epoch: Epoch, base: Position, snapshot: Bytes, kept: BTreeSet<Seq>, log: Arc<dyn GroupLog>);
    /// Proposes to the directory in the background; a refusal is reported to the group.
    fn propose(&self, group: GroupId, command: Command);
}
