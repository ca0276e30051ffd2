//! What a primary keeps about its reign.

use std::collections::{BTreeMap, BTreeSet};

use onemec_wire::{ContextId, Epoch, Member, Seq};

use super::moves::Move;
use crate::directory::{Base, Command};
use crate::time::Mono;

/// How a replica is being fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    /// Its position is not known; a probe was sent.
    Probing,
    /// Records follow each other.
    Streaming,
    /// It gets a snapshot with history.
    History,
}

/// What the primary knows of one replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) feed: Feed,
    /// The next record to send.
    pub(crate) next: Seq,
    /// It holds the log up to here.
    pub(crate) held: Seq,
    /// Its disk does.
    pub(crate) synced: Seq,
    /// When it last answered, or began to owe an answer.
    pub(crate) heard: Mono,
    /// When something was last sent.
    pub(crate) sent: Mono,
    /// The commit point that it was told.
    pub(crate) told: Seq,
}

impl Progress {
    pub(crate) fn probing(now: Mono) -> Self {
        Self { feed: Feed::Probing, next: Seq(1), held: Seq(0), synced: Seq(0), heard: now, sent: now, told: Seq(0) }
    }
}

/// A change that was proposed and is not decided. Changes are serial per group (rule 8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) command: Command,
    pub(crate) base: Base,
    pub(crate) proposed: Mono,
}

/// A reign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Primary {
    pub(crate) epoch: Epoch,
    /// The end of the inherited log.
    pub(crate) start: Seq,
    /// Everybody who is fed: the set, additions, the target of a move.
    pub(crate) peers: BTreeMap<Member, Progress>,
    /// Replicas outside the set that count for every acknowledgement already (rule 5).
    pub(crate) counting: BTreeSet<Member>,
    /// A replica that is to be added to repair the set.
    pub(crate) repairing: Option<Member>,
    /// Boots that did not answer when they were to be added: others are tried first.
    pub(crate) shunned: BTreeSet<Member>,
    pub(crate) pending: Option<Pending>,
    pub(crate) moving: Option<Move>,
    /// Contexts whose final record was applied (rule 13).
    pub(crate) finished: BTreeSet<ContextId>,
    /// Strong reads, answers and effects may leave (rule 2).
    pub(crate) open: bool,
    /// When the set last became what it is.
    pub(crate) set_since: Mono,
}
