//! What can go wrong, what it did to the state, and whether to try again.

use onemec_wire::NodeId;

use super::log::LogError;
use super::machine::SnapshotError;

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It is in nobody's log and never will be: nothing was changed, it is safe to propose it again.
    #[error("not proposed: {0}")]
    NotProposed(#[from] NotProposed),
    /// It may have been applied, or may still be. Commands on a group are compare-and-set, so that proposing the same one
    /// again is harmless; creations carry a nonce. Others: look at the directory first.
    #[error("the outcome is not known: {0}")]
    Unknown(String),
}

/// Why a command was not proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotProposed {
    /// Too many proposals wait here: try later.
    #[error("too many proposals wait")]
    Overloaded,
    /// Nobody leads as far as is known here: try again, an election takes part of a second.
    #[error("no leader is known")]
    NoLeader,
    /// Somebody else leads, or nobody: try again.
    #[error("the leader has changed, now {0:?}")]
    LeaderChanged(Option<NodeId>),
    /// The leader could not be reached: try again.
    #[error("leader {0} cannot be reached: {1}")]
    Unreachable(NodeId, String),
    /// The time was over before it could be proposed.
    #[error("the time was over")]
    Deadline,
    /// The command is longer than an entry may be: trying again does not help.
    #[error("{bytes} bytes are more than an entry may have")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The directory of this node has stopped.
    #[error("the directory has stopped")]
    Stopped,
}

impl NotProposed {
    /// It may work a moment later.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Overloaded | Self::NoLeader | Self::LeaderChanged(_) | Self::Unreachable(..))
    }
}

/// Why a read that must not be stale was not possible. Nothing was changed; trying again is always safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed its leadership in time.
    #[error("no leader confirmed in time: {0}")]
    NoLeader(String),
    /// The leader answered, but this node has not applied up to there in time.
    #[error("this node is behind: it has applied {applied} of {wanted}")]
    Behind {
        /// How far it is.
        applied: u64,
        /// How far it should be.
        wanted: u64,
    },
    /// Too many reads wait here.
    #[error("too many reads wait")]
    Overloaded,
    /// The directory of this node has stopped.
    #[error("the directory has stopped")]
    Stopped,
}

/// Why the membership was not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was changed; try again when the reason is gone.
    #[error("membership was not changed: {reason}")]
    Refused {
        /// Who leads, if that is known.
        leader: Option<NodeId>,
        /// Why.
        reason: String,
    },
    /// It may have been changed, or may still be: look at the members. Doing it again is harmless.
    #[error("it is not known whether membership was changed: {0}")]
    Unknown(String),
}

/// Why the directory did not start. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The snapshot cannot be used.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The options contradict each other.
    #[error("options: {0}")]
    Options(String),
    /// Raft did not start.
    #[error("Raft did not start: {0}")]
    Raft(String),
}

/// Why a node is not up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeUpError {
    /// The directory refuses this boot for good: a later boot of the same node was up. Start with a higher incarnation.
    #[error("this boot is refused: {0}")]
    Refused(String),
    /// It was not up in time; whether the proposal is still on its way is not known. Try again with the same boot.
    #[error("not up in time: {0}")]
    Late(String),
}
