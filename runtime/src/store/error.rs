//! What can go wrong, and damage that was found.

use std::path::PathBuf;

use onemec_wire::{GroupId, Incarnation, NodeId, Seq};

use super::append::Lost;
use super::disk::DiskError;
use super::wal::{AppendError, GroupLoss};

/// Why the store did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The disk failed. If it is merely full ([`StoreError::is_no_space`]) nothing has changed: try again when there is
    /// space. A failed sync has also been reported to the fatal hook.
    #[error("disk")]
    Disk(#[from] DiskError),
    /// Bytes on the disk are not what was written. Nothing was changed; get the part from a peer.
    #[error("{} is damaged at byte {offset}: {what}", .file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What does not fit.
        what: &'static str,
    },
    /// The group's log refused; see there.
    #[error("group log")]
    Log(#[from] AppendError),
    /// The checkpoint's place is not between the last checkpoint and the last record: nothing was changed.
    #[error("no checkpoint at {seq}: it must lie between {base} and {last}")]
    Place {
        /// What was asked.
        seq: Seq,
        /// The last checkpoint.
        base: Seq,
        /// The last record.
        last: Seq,
    },
    /// Another checkpoint or installation came first: nothing was changed, prepare again.
    #[error("another checkpoint came first")]
    Superseded,
    /// What was received does not fit together: nothing was changed, ask again.
    #[error("received data refused: {0}")]
    Received(&'static str),
    /// The data folder belongs to another node or cluster generation: do not start on it.
    #[error("the data folder belongs to {found} of generation {found_generation}, not to {expected}")]
    OtherNode {
        /// Who should own it.
        expected: NodeId,
        /// Who does.
        found: NodeId,
        /// Of which cluster generation.
        found_generation: u32,
    },
    /// Both copies of the node's identity are damaged: its boot counter is lost, so the folder cannot be used (rule 14).
    #[error("the node's identity in {} cannot be read", .0.display())]
    IdentityLost(PathBuf),
    /// The name of a value has other characters than a-z, 0-9 and '-', or is too long.
    #[error("{0:?} is not a name of a value")]
    BadName(String),
    /// The value is too long: nothing was changed.
    #[error("a value of {bytes} bytes is over the limit of {bytes_max}")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
}

impl StoreError {
    /// The disk is full: nothing has changed, try again when there is space.
    pub fn is_no_space(&self) -> bool {
        use super::append::SubmitError;
        match self {
            Self::Disk(error) => error.is_no_space(),
            Self::Log(AppendError::Log(error)) => matches!(error, SubmitError::NoSpace),
            _ => false,
        }
    }
}

/// Damage to what was stored. The undamaged rest is served; the part has to come from a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The group, if it concerns one.
    pub group: Option<GroupId>,
    /// What is damaged.
    pub what: DamageKind,
}

/// What is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DamageKind {
    /// Frames of the groups' log; the groups concerned are named apart.
    Log(Lost),
    /// The group's tail lost frames, or may have: do not count it as synced before it caught up with a peer.
    Tail(GroupLoss),
    /// The group's tail has a hole: what follows it was left out.
    TailHole {
        /// Last record before it.
        last: Seq,
        /// First record behind it.
        found: Seq,
    },
    /// The checkpoint cannot be read: the group has to be fetched anew.
    Checkpoint {
        /// The file.
        file: PathBuf,
    },
    /// A segment is missing or damaged.
    Segment {
        /// The file.
        file: PathBuf,
        /// First place that it covers.
        first: Seq,
        /// Last place that it covers.
        last: Seq,
        /// Where in the file.
        offset: u64,
    },
}

/// How the process that had the data folder before this one ended (rule 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// There was none.
    Nobody,
    /// It gave the folder back.
    Released(Incarnation),
    /// It died; its lock was taken over, so it runs no more on this machine.
    Died(Incarnation),
}
