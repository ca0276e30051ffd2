//! The move of a group's primary, from its source's point of view (DESIGN.md section 5).

use std::collections::btree_map::Entry;

use onemec_wire::{Member, Seq};

use super::Output;
use super::planted::{Flaw, planted};
use super::primary::{Feed, Progress};
use super::replica::Replica;
use crate::directory::Command;
use crate::time::Mono;

/// A number for a move, given by who ordered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u64);

/// An order to move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveOrder {
    /// Its number.
    pub id: MoveId,
    /// The boot that takes over; it has admitted the group.
    pub target: Member,
    /// Catching up may take until then.
    pub catch_up_until: Mono,
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
    /// The directory refused the transfer (a name is taken at the target).
    #[error("the directory refused the transfer")]
    Refused,
    /// The order was withdrawn.
    #[error("cancelled")]
    Cancelled,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MoveState {
    /// The target gets the history and the tail; the source serves on.
    CatchUp,
    /// New operations are parked; the log ends at `sealed`.
    Frozen { since: Mono, sealed: Seq },
    /// The transfer was proposed: only the directory's word ends this state (rule 9).
    Transferring { since: Mono, sealed: Seq },
    /// The transfer's fate is unknown and the freeze time is over: an abort for the same base was proposed; one of the two
    /// wins.
    Aborting,
}

/// A move under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
            Some(_) if order.target == self.me.member => Some(MoveFailure::AlreadyThere),
            Some(p) if p.moving.is_some() => Some(MoveFailure::Busy),
            Some(_) if !self.live.contains(order.target) => Some(MoveFailure::TargetDead),
            Some(_) => None,
        };
        if let Some(failure) = refusal {
            out.push(Output::MoveEnded { id: order.id, result: Err(failure) });
            return;
        }
        let Some(p) = &mut self.primary else { return };
        p.moving = Some(Move { order, state: MoveState::CatchUp, failure: MoveFailure::FreezeTimeout });
        if let Entry::Vacant(new) = p.peers.entry(order.target) {
            new.insert(Progress::probing(now));
            self.probe(now, order.target, None, out);
        }
    }

    pub(super) fn on_cancel(&mut self, id: MoveId, out: &mut Vec<Output>) {
        let Some(m) = self.moving().filter(|m| m.order.id == id) else { return };
        if matches!(m.state, MoveState::CatchUp | MoveState::Frozen { .. }) {
            self.end_move(MoveFailure::Cancelled, out);
        }
    }

    pub(super) fn drive_move(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(m) = self.moving() else { return };
        match m.state {
            MoveState::CatchUp => self.drive_catch_up(now, m, out),
            MoveState::Frozen { since, sealed } => self.drive_frozen(now, m, since, sealed, out),
            MoveState::Transferring { since, .. } => {
                // Rule 9: the freeze deadline ends the parking, not the freeze. An abort for the same base decides.
                if now.since(since) > self.timing.freeze_max {
                    if planted(Flaw::ThawUnknown) {
                        return self.end_move(MoveFailure::FreezeTimeout, out);
                    }
                    self.abort_transfer(now, out);
                }
            }
            MoveState::Aborting => {}
        }
    }

    fn drive_catch_up(&mut self, now: Mono, m: Move, out: &mut Vec<Output>) {
        if !self.live.contains(m.order.target) {
            return self.end_move(MoveFailure::TargetDead, out);
        }
        if now >= m.order.catch_up_until {
            return self.end_move(MoveFailure::CatchUpTimeout, out);
        }
        let last = self.log.last();
        let lag_max = self.timing.ready_lag_max;
        let Some(p) = &mut self.primary else { return };
        // Rule 7: ready means complete but for a small lag.
        let ready = p
            .peers
            .get(&m.order.target)
            .is_some_and(|g| g.feed == Feed::Streaming && last.0.saturating_sub(g.held.0) <= lag_max);
        if ready && p.open && p.pending.is_none() {
            p.open = false;
            p.moving = Some(Move { state: MoveState::Frozen { since: now, sealed: last }, ..m });
            // Rule 2: the gate closes before the transfer is proposed.
            out.push(Output::Gate { epoch: p.epoch, open: false });
            out.push(Output::MoveFrozen { id: m.order.id });
            self.drive_frozen(now, m, now, last, out);
        }
    }

    fn drive_frozen(&mut self, now: Mono, m: Move, since: Mono, sealed: Seq, out: &mut Vec<Output>) {
        if !self.live.contains(m.order.target) {
            return self.end_move(MoveFailure::TargetDead, out);
        }
        if now.since(since) > self.timing.freeze_max {
            return self.end_move(MoveFailure::FreezeTimeout, out);
        }
        let (Some(p), Some(placement)) = (&mut self.primary, &self.placement) else { return };
        // Rule 8: the target and all in-sync replicas hold N; with `disk`, commit = N says that it is synced as well.
        let holds = |x: &Member| p.peers.get(x).is_some_and(|g| g.held >= sealed);
        let all = placement.in_sync.iter().filter(|x| **x != self.me.member).all(holds);
        let held = planted(Flaw::TransferUnheld) || (self.commit == sealed && all && holds(&m.order.target));
        if p.pending.is_none() && held {
            p.moving = Some(Move { state: MoveState::Transferring { since, sealed }, ..m });
            let command = Command::Transfer { base: placement.base(self.me.group), sealed, target: m.order.target };
            self.propose(now, command, out);
        }
    }

    fn abort_transfer(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(p) = &mut self.primary else { return };
        let Some(base) = p.pending.as_ref().map(|x| x.base) else { return };
        if let Some(m) = &mut p.moving {
            m.state = MoveState::Aborting;
            m.failure = MoveFailure::FreezeTimeout;
        }
        self.propose(now, Command::Abort { base }, out);
    }
}
