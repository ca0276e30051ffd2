//! Freezes of a group: the move of its primary, from its source's point of view (DESIGN.md section 5), and both sides of a
//! regroup (rule 16).
//!
//! ```text
//! Hand:    CatchUp -> Frozen -> Transferring -> the directory's word | Aborting -> thaw
//! Regroup:            Frozen -> Transferring -> the directory's word | Aborting -> thaw   (the group that grows)
//! Seal:    CatchUp -> Frozen -> Sealed       -> the directory's word | Aborting -> thaw   (the group that gives)
//! ```

use std::collections::btree_map::Entry;
use std::time::Duration;

use onemec_wire::{ContextId, Member, Seq};

use super::Output;
use super::planted::{Flaw, planted};
use super::primary::{Feed, Progress};
use super::replica::Replica;
use crate::directory::{Attachment, Base, Command};
use crate::time::Mono;

/// A number for a move, given by who ordered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u64);

/// An order to freeze the group for a change that only the directory decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveOrder {
    /// Its number.
    pub id: MoveId,
    /// What the freeze is for.
    pub goal: Goal,
    /// The move is this re-attachment of a client: the directory refuses it if that was made already.
    pub attachment: Option<Attachment>,
    /// What comes before the freeze (a target that catches up, a change under way) may take until then; a group that is
    /// sealed for a regroup thaws by itself after it.
    pub until: Mono,
}

/// What a freeze is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The primary is handed to this boot, which has admitted the group.
    Hand(Member),
    /// Contexts of this group are about to join another one: the log is sealed, and stays so until the directory changed
    /// this group (rule 16).
    Seal,
    /// Contexts of another group, which is sealed, join this one; their state is in this group's log already.
    Regroup {
        /// The other group, as it was when it was sealed.
        from: Base,
        /// The contexts.
        contexts: Vec<ContextId>,
    },
}

impl MoveOrder {
    /// Who takes over, in a move of the primary.
    pub(crate) fn target(&self) -> Option<Member> {
        match self.goal {
            Goal::Hand(target) => Some(target),
            Goal::Seal | Goal::Regroup { .. } => None,
        }
    }
}

/// Why a move did not happen; the source serves on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveFailure {
    /// This node is not the primary (any more).
    #[error("this node does not serve the group")]
    NotPrimary,
    /// The target is the primary already.
    #[error("the target serves the group already")]
    AlreadyThere,
    /// Another move of the group is under way.
    #[error("another move is under way")]
    Busy,
    /// The target is not up, or died.
    #[error("the target is not up")]
    TargetDead,
    /// The target did not catch up in time.
    #[error("the target did not catch up in time")]
    CatchUpTimeout,
    /// The log could not be sealed within the freeze time.
    #[error("the freeze took too long")]
    FreezeTimeout,
    /// The directory refused the transfer (a name is taken at the target, a re-attachment was made already).
    #[error("the directory refused the transfer")]
    Refused,
    /// The order was withdrawn.
    #[error("cancelled")]
    Cancelled,
}

/// A regroup may freeze so many times as long as a move.
const REGROUP_FREEZES: u32 = 8;

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoveState {
    /// The target gets the history and the tail; the source serves on.
    CatchUp,
    /// New operations are parked; the log ends at `sealed`.
    Frozen { since: Mono, sealed: Seq },
    /// The transfer (or regroup) was proposed: only the directory's word ends this state (rule 9).
    Transferring { since: Mono },
    /// Sealed for a regroup that the other group's primary proposes: only the directory's word ends this state.
    Sealed,
    /// The transfer's fate is unknown and the freeze time is over: an abort for the same base was proposed; one of the two
    /// wins.
    Aborting,
}

/// A move under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Move {
    pub(crate) order: MoveOrder,
    pub(crate) state: MoveState,
    /// Why it ends, should the abort win.
    pub(crate) failure: MoveFailure,
}

impl Replica {
    pub(super) fn on_move(&mut self, now: Mono, order: MoveOrder, out: &mut Vec<Output>) {
        let refusal = match &self.primary {
            None => Some(MoveFailure::NotPrimary),
            Some(_) if order.target() == Some(self.me.member) => Some(MoveFailure::AlreadyThere),
            Some(p) if p.moving.is_some() => Some(MoveFailure::Busy),
            Some(_) if order.target().is_some_and(|t| !self.live.contains(t)) => Some(MoveFailure::TargetDead),
            Some(_) => None,
        };
        if let Some(failure) = refusal {
            out.push(Output::MoveEnded { id: order.id, result: Err(failure) });
            return;
        }
        let Some(p) = &mut self.primary else { return };
        let target = order.target();
        p.moving = Some(Move { order, state: MoveState::CatchUp, failure: MoveFailure::FreezeTimeout });
        if let Some(target) = target
            && let Entry::Vacant(new) = p.peers.entry(target)
        {
            new.insert(Progress::probing(now));
            self.probe(now, target, None, out);
        }
    }

    pub(super) fn on_cancel(&mut self, now: Mono, id: MoveId, out: &mut Vec<Output>) {
        let Some(m) = self.moving().filter(|m| m.order.id == id) else { return };
        match m.state {
            MoveState::CatchUp | MoveState::Frozen { .. } => self.end_move(Err(MoveFailure::Cancelled), out),
            // Rule 9: the regroup may be on its way; a version of our own makes it fail, then the freeze ends.
            MoveState::Sealed => self.abort(now, MoveFailure::Cancelled, out),
            MoveState::Transferring { .. } | MoveState::Aborting => {}
        }
    }

    pub(super) fn drive_move(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(m) = self.moving() else { return };
        match m.state {
            MoveState::CatchUp => self.drive_catch_up(now, m, out),
            MoveState::Frozen { since, sealed } => self.drive_frozen(now, m, since, sealed, out),
            MoveState::Transferring { since } => {
                // Rule 9: the freeze deadline ends the parking, not the freeze. An abort for the same base decides.
                if now.since(since) > self.freeze_max(&m.order.goal) {
                    if planted(Flaw::ThawUnknown) {
                        return self.end_move(Err(MoveFailure::FreezeTimeout), out);
                    }
                    self.abort(now, MoveFailure::FreezeTimeout, out);
                }
            }
            MoveState::Sealed => {
                if planted(Flaw::ThawSealed) && now >= m.order.until {
                    return self.end_move(Err(MoveFailure::FreezeTimeout), out);
                }
                if now >= m.order.until {
                    self.abort(now, MoveFailure::FreezeTimeout, out);
                }
            }
            MoveState::Aborting => {}
        }
    }

    /// A regroup is rare, and one that fails copies everything again: on a busy machine, where one commit of the directory
    /// takes longer than a move may freeze, a split or a join was tried in vain for half a minute.
    fn freeze_max(&self, goal: &Goal) -> Duration {
        match goal {
            Goal::Hand(_) => self.timing.freeze_max,
            Goal::Seal | Goal::Regroup { .. } => self.timing.freeze_max * REGROUP_FREEZES,
        }
    }

    fn drive_catch_up(&mut self, now: Mono, m: Move, out: &mut Vec<Output>) {
        if m.order.target().is_some_and(|t| !self.live.contains(t)) {
            return self.end_move(Err(MoveFailure::TargetDead), out);
        }
        if now >= m.order.until {
            return self.end_move(Err(MoveFailure::CatchUpTimeout), out);
        }
        let last = self.log.last();
        let lag_max = self.timing.ready_lag_max;
        let Some(p) = &mut self.primary else { return };
        // Rule 7: ready means complete but for a small lag. A regroup has no target: the set holds what there is.
        let ready = m.order.target().is_none_or(|target| {
            p.peers
                .get(&target)
                .is_some_and(|g| g.feed == Feed::Streaming && last.0.saturating_sub(g.held.0) <= lag_max)
        });
        if ready && p.open && p.pending.is_none() {
            p.open = false;
            let id = m.order.id;
            let frozen = Move { state: MoveState::Frozen { since: now, sealed: last }, ..m };
            p.moving = Some(frozen.clone());
            // Rule 2: the gate closes before the transfer is proposed.
            out.push(Output::Gate { epoch: p.epoch, open: false });
            out.push(Output::MoveFrozen { id });
            self.drive_frozen(now, frozen, now, last, out);
        }
    }

    fn drive_frozen(&mut self, now: Mono, m: Move, since: Mono, sealed: Seq, out: &mut Vec<Output>) {
        if m.order.target().is_some_and(|t| !self.live.contains(t)) {
            return self.end_move(Err(MoveFailure::TargetDead), out);
        }
        if now.since(since) > self.freeze_max(&m.order.goal) {
            return self.end_move(Err(MoveFailure::FreezeTimeout), out);
        }
        let (Some(p), Some(placement)) = (&mut self.primary, &self.placement) else { return };
        // Rule 8: the target and all in-sync replicas hold N; with `disk`, commit = N says that it is synced as well.
        let holds = |x: &Member| p.peers.get(x).is_some_and(|g| g.held >= sealed);
        let all = placement.in_sync.iter().filter(|x| **x != self.me.member).all(holds);
        let arrived = m.order.target().is_none_or(|t| holds(&t));
        let flaw = match m.order.goal {
            Goal::Hand(_) => Flaw::TransferUnheld,
            Goal::Seal | Goal::Regroup { .. } => Flaw::RegroupUnheld,
        };
        let held = planted(flaw) || (self.commit == sealed && all && arrived);
        if p.pending.is_some() || !held {
            return;
        }
        let base = placement.base(self.me.group);
        let command = match &m.order.goal {
            Goal::Hand(target) => Command::Transfer { base, sealed, target: *target, attachment: m.order.attachment },
            Goal::Regroup { from, contexts } => {
                Command::Regroup { into: base, from: *from, sealed, contexts: contexts.clone() }
            }
            Goal::Seal => {
                out.push(Output::Sealed { id: m.order.id, base, sealed });
                p.moving = Some(Move { state: MoveState::Sealed, ..m });
                return;
            }
        };
        p.moving = Some(Move { state: MoveState::Transferring { since }, ..m });
        self.propose(now, command, out);
    }

    /// A version of our own makes whatever was proposed for the present one fail.
    fn abort(&mut self, now: Mono, failure: MoveFailure, out: &mut Vec<Output>) {
        let (Some(p), Some(placement)) = (&mut self.primary, &self.placement) else { return };
        let base = p.pending.as_ref().map_or_else(|| placement.base(self.me.group), |x| x.base);
        if let Some(m) = &mut p.moving {
            m.state = MoveState::Aborting;
            m.failure = failure;
        }
        self.propose(now, Command::Abort { base }, out);
    }
}
