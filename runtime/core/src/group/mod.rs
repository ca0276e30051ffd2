//! One group on one node: replication, in-sync set, failover and moves, as one pure machine.
//!
//! ```text
//!            Placement names me primary                     Placement names another, or a newer epoch is seen
//!   Backup ------------------------------> Primary(closed) ------------------------------------------> Backup
//!                                             |   ^
//!          whole inherited log held by all of |   | freeze (move)
//!          the set, and synced as promised    v   |
//!                                          Primary(open)
//! ```
//!
//! Legal order of calls: `step` with anything at any time. A client's operation: ask [`Replica::next_place`], build and
//! store the record, then step with [`Input::Appended`] before anything else. After each step the executor carries out the
//! outputs in order. `Committed` is the one permission to apply and to answer, and answers leave only while the lease is
//! valid (rule 2).

mod change;
mod log;
mod message;
mod moves;
mod planted;
mod primary;
mod replica;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use onemec_wire::{ContextId, Epoch, GroupId, Member, Seq};

pub use self::log::{LogShape, Position};
pub use self::message::{GroupBody, GroupMessage};
pub use self::moves::{Goal, MoveFailure, MoveId, MoveOrder};
#[cfg(feature = "planted")]
pub use self::planted::plant;
pub use self::planted::{Flaw, planted};
pub use self::replica::Replica;
use crate::directory::{Base, Command, Placement, StoreId};

/// Bounds in time and number for the machine of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupTiming {
    /// Operations are parked no longer than this during a move (DESIGN.md section 5).
    pub freeze_max: Duration,
    /// A proposal whose outcome is unknown is repeated after this time.
    pub propose_again: Duration,
    /// A member that owes an acknowledgement for this long leaves the set.
    pub ack_patience: Duration,
    /// A replica that owes an answer is asked again after this time.
    pub probe_again: Duration,
    /// A set that is too small is repaired after this time, one that is too large shrinks after it.
    pub settle_after: Duration,
    /// A commit point that no record carried along is told after this time.
    pub tell_commit_after: Duration,
    /// A move is frozen when its target lags by no more than this many records.
    pub ready_lag_max: u64,
    /// So many records may be on their way to a replica.
    pub window_max: u64,
    /// A copy that is in no set is dropped after this time without news.
    pub keep_copy: Duration,
}

impl Default for GroupTiming {
    fn default() -> Self {
        Self {
            freeze_max: Duration::from_millis(50),
            propose_again: Duration::from_millis(250),
            ack_patience: Duration::from_millis(350),
            probe_again: Duration::from_millis(100),
            settle_after: Duration::from_millis(500),
            tell_commit_after: Duration::from_millis(10),
            ready_lag_max: 64,
            window_max: 8_192,
            keep_copy: Duration::from_secs(30),
        }
    }
}

/// What happens to a replica.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// The directory's word on the group and on who is alive. `None`: the group is gone.
    Placement {
        /// Its placement.
        placement: Option<Placement>,
        /// Boots that are up, with their data folders.
        live: Live,
    },
    /// A peer said something. For `Append`, the positions of the records that came with it; the executor has checked
    /// their checksums and that they follow each other.
    Peer {
        /// Who: the transport has verified it.
        from: Member,
        /// What.
        message: GroupMessage,
        /// Positions of the attached records.
        records: Vec<Position>,
    },
    /// A connection to a node came up: what was said before may be lost.
    Connected(Member),
    /// The record for the place that `next_place` gave is in the store's memory.
    Appended,
    /// The disk holds the log up to here.
    Synced {
        /// `Replica::cuts` at the moment when the sync was asked for.
        cuts: u64,
        /// The last record that was stored at that moment.
        upto: Seq,
    },
    /// A snapshot with its history was sent to, and installed by, a replica (or not).
    HistorySent {
        /// To whom.
        to: Member,
        /// What it holds now.
        held: Option<Position>,
    },
    /// A snapshot with its history was received and stored; it replaced whatever was here.
    Installed {
        /// Its position.
        base: Position,
        /// The epoch of the primary that sent it.
        epoch: Epoch,
        /// That primary.
        from: Member,
        /// It is on this node's disk.
        synced: bool,
    },
    /// A snapshot was taken at this place: earlier records are not streamed any more.
    Rebased(Seq),
    /// Freeze the group, to move its primary or to regroup.
    Move(MoveOrder),
    /// Give the move up, if it has not been proposed.
    CancelMove(MoveId),
    /// The log holds the state of contexts that the directory does not know here: make sure that no regroup which would
    /// bring them is on its way. A version bump answers.
    Settle,
    /// The final record of a context was applied (rule 13).
    Finished(ContextId),
    /// The directory refused what was proposed for this base.
    Refused(Base),
    /// Time has passed.
    Tick,
}

/// Who is up, as the directory says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Live {
    /// All groups of a node share it.
    members: Arc<BTreeMap<Member, StoreId>>,
}

impl Live {
    /// From pairs of boot and data folder.
    pub fn new(members: impl IntoIterator<Item = (Member, StoreId)>) -> Self {
        Self { members: Arc::new(members.into_iter().collect()) }
    }
    /// Is this boot up?
    pub fn contains(&self, member: Member) -> bool {
        self.members.contains_key(&member)
    }
    /// Its data folder.
    pub fn store(&self, member: Member) -> Option<StoreId> {
        self.members.get(&member).copied()
    }
    /// All of them.
    pub fn members(&self) -> BTreeSet<Member> {
        self.members.keys().copied().collect()
    }
    /// The boot that is up with this data folder on this node.
    pub(crate) fn with_store(&self, node: onemec_wire::NodeId, store: StoreId) -> Option<Member> {
        self.members.iter().find(|(m, s)| m.node == node && **s == store).map(|(m, _)| *m)
    }
}

/// What the executor is to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a message without records.
    Send {
        /// To whom.
        to: Member,
        /// What.
        message: GroupMessage,
    },
    /// Send an `Append` with the records `from..=upto` attached.
    SendRecords {
        /// To whom.
        to: Member,
        /// The message; `prev` is the position before `from`.
        message: GroupMessage,
        /// First record.
        from: Seq,
        /// Last record.
        upto: Seq,
    },
    /// Send a snapshot with its history over a transfer stream, then step with `HistorySent`.
    SendHistory {
        /// To whom.
        to: Member,
        /// The epoch under which it is sent.
        epoch: Epoch,
    },
    /// Remove records after this place: they never counted.
    Truncate(Seq),
    /// Store the records that came with the message at hand, from this place on; then step with `Synced` when they are on
    /// disk.
    Store {
        /// First record to be stored; earlier ones are known.
        from: Seq,
        /// The primary counts on this node's disk: sync at once. Otherwise whenever it suits.
        sync: bool,
    },
    /// Persist the newest epoch seen, before anything that follows.
    NoteEpoch(Epoch),
    /// Everything up to here is committed: apply it; a primary answers its clients.
    Committed(Seq),
    /// Open or close the gate of this epoch (rule 2).
    Gate {
        /// The epoch.
        epoch: Epoch,
        /// Open?
        open: bool,
    },
    /// Propose to the directory; a refusal comes back as `Refused`, an applied change as `Placement`.
    Propose(Command),
    /// This node became (`true`) or ceased to be primary. On `false` whatever waits for an answer is answered "unknown";
    /// parked operations go to `forward_to`.
    Leading {
        /// Primary?
        primary: bool,
        /// The new primary, after a move.
        forward_to: Option<Member>,
    },
    /// Operations that were parked may be tried again here.
    Unpark,
    /// A move ended.
    MoveEnded {
        /// Which.
        id: MoveId,
        /// How.
        result: Result<(), MoveFailure>,
    },
    /// A move entered the state that clients feel.
    MoveFrozen {
        /// Which.
        id: MoveId,
    },
    /// The log is sealed for a regroup: the machines' states are what the other group takes over.
    Sealed {
        /// By which order.
        id: MoveId,
        /// The group as the regroup must find it.
        base: Base,
        /// The end of the log.
        sealed: Seq,
    },
    /// The directory has removed the context (rule 13).
    ContextGone(ContextId),
    /// The context belongs to another group now (rule 16).
    ContextLeft(ContextId),
    /// Delete this copy of the group.
    Forget,
}

/// Why an operation cannot get a place in the log at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotNow {
    /// This node does not serve the group.
    #[error("not the primary")]
    NotPrimary,
    /// The group is being moved or has just been taken over: park the operation.
    #[error("closed for a moment")]
    Closed,
    /// Fewer members than the durability asks for (rule 5).
    #[error("{have} in-sync members where {need} are needed")]
    TooFewMembers {
        /// So many there are.
        have: usize,
        /// So many there must be.
        need: usize,
    },
    /// Too much is on its way already (I8).
    #[error("too many operations in flight")]
    Full,
}

/// An identity of this replica that never changes during a boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Me {
    /// The group.
    pub group: GroupId,
    /// This boot.
    pub member: Member,
    /// Its data folder.
    pub store: StoreId,
}
