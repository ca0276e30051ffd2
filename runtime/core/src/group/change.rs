//! What a primary wants changed in the directory, the commit rule, and the feeding of replicas. Everything is derived from
//! the state at each step: there is no queue of intentions.

use std::collections::BTreeSet;

use onemec_wire::{Epoch, Member, Seq};

use super::Output;
use super::log::Position;
use super::message::{GroupBody, GroupMessage};
use super::moves::{MoveFailure, MoveState};
use super::planted::{Flaw, planted};
use super::primary::{Feed, Primary, Progress};
use super::replica::Replica;
use crate::directory::{Base, Command, Durability, Placement, Synced};
use crate::place;
use crate::time::Mono;

impl Replica {
    /// Everything that follows from the state: commit point, gate, move, proposals, sending.
    pub(super) fn drive(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.primary.is_none() || self.placement.is_none() {
            return;
        }
        let point = self.commit_point();
        self.commit_to(point, out);
        self.open_gate(out);
        self.drive_move(now, out);
        self.repair(now, out);
        self.propose_next(now, out);
        self.feed(now, out);
    }

    // ---- commit rule -----------------------------------------------------------------------------------------------

    /// How many members count towards the minimum, and the minimum (rule 5).
    pub(super) fn members_that_count(&self, p: &Primary) -> (usize, usize) {
        let Some(placement) = &self.placement else { return (0, 1) };
        let proposed = match p.pending.as_ref().map(|x| &x.command) {
            Some(Command::SetInSync { in_sync, .. }) => Some(in_sync),
            _ => None,
        };
        let have = placement.in_sync.iter().filter(|m| proposed.is_none_or(|s| s.contains(m))).count();
        (have, placement.durability.members_min())
    }

    /// Rule 5 and rule 6: held by the committed set and by everybody that counts already; synced by the committed and by
    /// the proposed synced members.
    fn commit_point(&self) -> Seq {
        let (Some(p), Some(placement)) = (&self.primary, &self.placement) else { return self.commit };
        let (have, need) = self.members_that_count(p);
        if have < need {
            return self.commit;
        }
        if planted(Flaw::AckBeforeHeld) {
            return self.log.last();
        }
        let held = |m: &Member| self.progress(p, *m).map_or(Seq(0), |(held, _)| held);
        let leaves = |m: &Member| match p.pending.as_ref().map(|x| &x.command) {
            Some(Command::SetInSync { in_sync, .. }) => planted(Flaw::ShrinkEarly) && !in_sync.contains(m),
            _ => false,
        };
        let counting = p.counting.iter().filter(|_| !planted(Flaw::AddEarly));
        let members = placement.in_sync.iter().filter(|m| !leaves(m)).chain(counting);
        let mut point = members.map(held).min().unwrap_or(Seq(0));
        if placement.durability == Durability::Disk && !planted(Flaw::IgnoreSynced) {
            let proposed = match p.pending.as_ref().map(|x| &x.command) {
                Some(Command::SetSynced { synced, .. }) => Some(synced),
                _ => None,
            };
            for (node, store) in placement.synced.iter().chain(proposed.into_iter().flatten()) {
                let member = self.live.with_store(*node, *store);
                let synced = member.and_then(|m| self.progress(p, m)).map_or(Seq(0), |(_, synced)| synced);
                point = point.min(synced);
            }
        }
        point.max(self.commit)
    }

    fn progress(&self, p: &Primary, member: Member) -> Option<(Seq, Seq)> {
        if member == self.me.member {
            return Some((self.log.last(), self.log.synced()));
        }
        p.peers.get(&member).map(|g| (g.held, g.synced))
    }

    /// Rule 10: after a promotion nothing is answered until every member of the set holds the whole inherited log.
    fn open_gate(&mut self, out: &mut Vec<Output>) {
        if self.is_unsettled() {
            return;
        }
        let Some(p) = &mut self.primary else { return };
        if !p.open && p.moving.is_none() && (self.commit >= p.start || planted(Flaw::OpenEarly)) {
            p.open = true;
            out.push(Output::Gate { epoch: p.epoch, open: true });
            out.push(Output::Unpark);
        }
    }

    // ---- proposals -------------------------------------------------------------------------------------------------

    fn propose_next(&mut self, now: Mono, out: &mut Vec<Output>) {
        let Some(p) = &mut self.primary else { return };
        if let Some(pending) = &mut p.pending {
            // The outcome is unknown for long: the same command again. It is a compare-and-set, twice does no harm.
            if now.since(pending.proposed) >= self.timing.propose_again {
                pending.proposed = now;
                out.push(Output::Propose(pending.command.clone()));
            }
            return;
        }
        if let Some(command) = self.next_change(now) {
            self.propose(now, command, out);
        }
    }

    /// The change that is wanted most.
    fn next_change(&self, now: Mono) -> Option<Command> {
        let (p, placement) = (self.primary.as_ref()?, self.placement.as_ref()?);
        let base = placement.base(self.me.group);
        if self.is_unsettled() {
            return Some(Command::Abort { base });
        }
        let frozen = p.moving.as_ref().is_some_and(|m| !matches!(m.state, MoveState::CatchUp));
        if let Some(in_sync) = self.wanted_set(now, p, placement, frozen) {
            return Some(Command::SetInSync { base, in_sync });
        }
        if frozen {
            return None;
        }
        if let Some(synced) = self.wanted_synced(placement) {
            return Some(Command::SetSynced { base, synced });
        }
        if let Some(context) = p.finished.iter().copied().find(|c| placement.contexts.contains(c)) {
            return Some(Command::DeleteContext { base, context });
        }
        let abandoned = placement.epoch > Epoch(1) || now.since(p.set_since) >= self.timing.keep_copy;
        if p.open && abandoned && self.log.last() == Seq(0) {
            // Rule 13: registration precedes data; a group without a first record releases its keys when it was promoted,
            // or when its creator did not come back.
            return placement.contexts.first().map(|context| Command::DeleteContext { base, context: *context });
        }
        None
    }

    /// The in-sync set as it should be, if that is not what it is.
    fn wanted_set(&self, now: Mono, p: &Primary, placement: &Placement, frozen: bool) -> Option<BTreeSet<Member>> {
        let me = self.me.member;
        let mut set: BTreeSet<Member> =
            placement.in_sync.iter().copied().filter(|m| *m == me || !self.is_bad(now, p, *m)).collect();
        if !frozen {
            // Rule 5: proposed only after it counts and has acknowledged everything before that point.
            let complete =
                |m: &Member| planted(Flaw::AddEarly) || p.peers.get(m).is_some_and(|g| g.held >= self.commit);
            set.extend(p.counting.iter().copied().filter(|m| self.live.contains(*m) && complete(m)));
        }
        let wanted = members_wanted(placement);
        let quiet = p.open && p.moving.is_none() && now.since(p.set_since) >= self.timing.settle_after;
        if set.len() > wanted && quiet {
            // Who guarantees synced data is not let go: the primary becomes the synced member first.
            let mut free = set.clone();
            free.retain(|m| !placement.synced.iter().any(|(n, _)| *n == m.node));
            free.insert(me);
            if let Some(surplus) = place::surplus_replica(self.me.group, &free, me) {
                set.remove(&surplus);
            }
        }
        (set != placement.in_sync).then_some(set)
    }

    /// Declared dead by the directory, or owing an acknowledgement for too long.
    fn is_bad(&self, now: Mono, p: &Primary, member: Member) -> bool {
        if !self.live.contains(member) {
            return true;
        }
        let owes = |g: &Progress| g.held < self.log.last() || g.feed == Feed::Probing;
        p.peers
            .get(&member)
            .is_some_and(|g| g.feed != Feed::History && owes(g) && now.since(g.heard) > self.timing.ack_patience)
    }

    /// Rule 6: the primary itself guarantees synced data, as soon as it has synced everything that was acknowledged.
    fn wanted_synced(&self, placement: &Placement) -> Option<Synced> {
        if placement.durability != Durability::Disk {
            return None;
        }
        let wanted = Synced::from([(self.me.member.node, self.me.store)]);
        let p = self.primary.as_ref()?;
        let done = self.log.synced() >= self.commit.max(p.start);
        (placement.synced != wanted && done).then_some(wanted)
    }

    /// The directory refused. A repeated proposal of the same command may still be on its way: an abort for the same base
    /// settles it, for every kind of command (rule 9).
    pub(super) fn on_refused(&mut self, now: Mono, base: Base, out: &mut Vec<Output>) {
        let Some(p) = &mut self.primary else { return };
        let Some(pending) = &mut p.pending else { return };
        if pending.base != base || matches!(pending.command, Command::Abort { .. }) {
            return;
        }
        if let Some(m) = &mut p.moving
            && matches!(m.state, MoveState::Transferring { .. })
        {
            m.state = MoveState::Aborting;
            m.failure = MoveFailure::Refused;
        }
        self.propose(now, Command::Abort { base }, out);
    }

    // ---- repair ----------------------------------------------------------------------------------------------------

    fn repair(&mut self, now: Mono, out: &mut Vec<Output>) {
        let (Some(p), Some(placement)) = (&self.primary, &self.placement) else { return };
        let mut drop_repair = None;
        let mut begin = None;
        let mut count = None;
        if let Some(m) = p.repairing {
            let progress = p.peers.get(&m);
            if progress.is_none() || self.is_bad(now, p, m) {
                drop_repair = Some(m);
            } else if p.moving.is_none()
                && (planted(Flaw::AddEarly)
                    || progress.is_some_and(|g| {
                        g.feed == Feed::Streaming && self.log.last().0 - g.held.0 <= self.timing.ready_lag_max
                    }))
            {
                count = Some(m);
            }
        } else if p.moving.is_none() && now.since(p.set_since) >= self.timing.settle_after {
            // A closed gate is no reason to wait: a set below its minimum cannot open before it is repaired.
            let healthy = placement.in_sync.iter().filter(|m| !self.is_bad(now, p, **m)).count();
            if healthy < members_wanted(placement) {
                let live = self.live.members();
                let mut better = live.clone();
                better.retain(|m| !p.shunned.contains(m));
                begin = place::next_replica(self.me.group, &placement.in_sync, &better)
                    .or_else(|| place::next_replica(self.me.group, &placement.in_sync, &live));
            }
        }
        let undecided = p.pending.is_some();
        let Some(p) = &mut self.primary else { return };
        if let Some(m) = drop_repair
            && !undecided
        {
            // While an addition is undecided the member goes on counting.
            p.repairing = None;
            p.counting.remove(&m);
            if p.moving.as_ref().is_none_or(|x| x.order.target() != Some(m)) && !placement.in_sync.contains(&m) {
                p.peers.remove(&m);
            }
            // Alive, but not for us: another one is tried first.
            p.shunned.insert(m);
        }
        if let Some(m) = count {
            p.counting.insert(m);
        }
        if let Some(m) = begin {
            if !p.shunned.is_empty() && p.shunned.contains(&m) {
                p.shunned.clear();
            }
            p.repairing = Some(m);
            p.peers.entry(m).or_insert_with(|| Progress::probing(now));
            self.probe(now, m, None, out);
        }
    }

    // ---- feeding ---------------------------------------------------------------------------------------------------

    fn append_message(&self, member: Member, prev: Position) -> Option<GroupMessage> {
        let (p, placement) = (self.primary.as_ref()?, self.placement.as_ref()?);
        let sync = placement.synced.iter().any(|(n, _)| *n == member.node);
        let body = GroupBody::Append { version: placement.version, start: p.start, prev, commit: self.commit, sync };
        Some(GroupMessage { group: self.me.group, epoch: p.epoch, body })
    }

    /// Asks a replica where it is: an `Append` without records after our last (or the given) position.
    pub(super) fn probe(&mut self, now: Mono, member: Member, prev: Option<Position>, out: &mut Vec<Output>) {
        let prev = prev.unwrap_or_else(|| self.log.last_position());
        let Some(message) = self.append_message(member, prev) else { return };
        let commit = self.commit;
        let last = self.log.last();
        if let Some(g) = self.primary.as_mut().and_then(|p| p.peers.get_mut(&member)) {
            if g.feed == Feed::Streaming && g.held >= last {
                g.heard = now; // it owes from now on
            }
            g.feed = Feed::Probing;
            g.sent = now;
            g.told = commit;
            out.push(Output::Send { to: member, message });
        }
    }

    pub(super) fn probe_all(&mut self, now: Mono, out: &mut Vec<Output>) {
        let probing: Vec<Member> = self
            .primary
            .iter()
            .flat_map(|p| p.peers.iter().filter(|(_, g)| g.feed == Feed::Probing).map(|(m, _)| *m))
            .collect();
        for member in probing {
            self.probe(now, member, None, out);
        }
    }

    pub(super) fn on_connected(&mut self, now: Mono, member: Member, out: &mut Vec<Output>) {
        // Records, the commit point that it was told, its word on what it synced: anything may have been lost.
        let known = self.primary.as_ref().and_then(|p| p.peers.get(&member));
        if known.is_some_and(|g| g.feed != Feed::History) {
            self.probe(now, member, None, out);
        }
    }

    pub(super) fn on_ack(&mut self, now: Mono, from: Member, epoch: Epoch, held: Seq, synced: Seq) {
        let last = self.log.last();
        let Some(p) = &mut self.primary else { return };
        if p.epoch != epoch || held > last {
            return;
        }
        let Some(g) = p.peers.get_mut(&from) else { return };
        g.heard = now;
        g.held = g.held.max(held);
        g.synced = g.synced.max(synced.min(held));
        if g.feed == Feed::Probing {
            g.feed = Feed::Streaming;
            g.next = g.held.next();
        }
        g.next = g.next.max(g.held.next());
    }

    pub(super) fn on_mismatch(
        &mut self,
        now: Mono,
        from: Member,
        epoch: Epoch,
        nearest: Position,
        out: &mut Vec<Output>,
    ) {
        let agrees = self.log.matches(nearest);
        let mine = if agrees { nearest } else { self.log.at_or_before(nearest) };
        let base = self.log.base();
        let Some(p) = &mut self.primary else { return };
        if p.epoch != epoch {
            return;
        }
        let Some(g) = p.peers.get_mut(&from) else { return };
        g.heard = now;
        if g.feed == Feed::History {
            return;
        }
        if mine.seq < base.seq {
            g.feed = Feed::History;
            g.sent = now;
            out.push(Output::SendHistory { to: from, epoch });
        } else if agrees {
            // Its log is ours up to there: the window counts from it.
            g.held = g.held.max(nearest.seq);
            g.feed = Feed::Streaming;
            g.next = nearest.seq.next();
            if g.next > self.log.last() {
                // It may hold more than we do: an empty append makes it cut that off.
                self.probe(now, from, Some(mine), out);
            }
        } else {
            self.probe(now, from, Some(mine), out);
        }
    }

    pub(super) fn on_history_sent(&mut self, now: Mono, to: Member, held: Option<Position>) {
        let good = held.filter(|h| self.log.matches(*h) || h.seq == self.log.base().seq);
        let Some(g) = self.primary.as_mut().and_then(|p| p.peers.get_mut(&to)) else { return };
        if g.feed != Feed::History {
            return;
        }
        g.heard = now;
        g.sent = now;
        match good {
            Some(h) => {
                g.feed = Feed::Streaming;
                g.held = g.held.max(h.seq);
                g.next = g.held.next();
            }
            None => g.feed = Feed::Probing,
        }
    }

    /// Sends what is due to everyone.
    fn feed(&mut self, now: Mono, out: &mut Vec<Output>) {
        let last = self.log.last();
        let members: Vec<Member> = self.primary.iter().flat_map(|p| p.peers.keys().copied()).collect();
        for member in members {
            let Some(g) = self.primary.as_ref().and_then(|p| p.peers.get(&member)).copied() else { continue };
            let silent = now.since(g.sent) >= self.timing.probe_again && now.since(g.heard) >= self.timing.probe_again;
            match g.feed {
                Feed::History => {}
                Feed::Probing => {
                    if silent {
                        self.probe(now, member, None, out);
                    }
                }
                Feed::Streaming if g.next <= last && g.next.0 <= g.held.0 + self.timing.window_max => {
                    self.send_records(now, member, g, out);
                }
                Feed::Streaming if g.held < last => {
                    // All that may be on its way is: an answer is due, or was lost.
                    if silent {
                        self.probe(now, member, None, out);
                    }
                }
                Feed::Streaming => {
                    if g.told < self.commit && now.since(g.sent) >= self.timing.tell_commit_after {
                        self.tell_commit(now, member, out);
                    }
                }
            }
        }
    }

    fn send_records(&mut self, now: Mono, member: Member, g: Progress, out: &mut Vec<Output>) {
        let upto = self.log.last().min(Seq(g.held.0 + self.timing.window_max));
        if g.next > upto {
            return;
        }
        let before = Seq(g.next.0 - 1);
        let Some(epoch) = self.log.epoch_at(before) else {
            // The log was rebased meanwhile: begin anew, with a snapshot if need be.
            self.probe(now, member, None, out);
            return;
        };
        let Some(message) = self.append_message(member, Position { epoch, seq: before }) else { return };
        let commit = self.commit;
        let Some(g) = self.primary.as_mut().and_then(|p| p.peers.get_mut(&member)) else { return };
        if g.held == before {
            g.heard = now; // it owes from now on
        }
        out.push(Output::SendRecords { to: member, message, from: g.next, upto });
        g.next = upto.next();
        g.sent = now;
        g.told = commit;
    }

    fn tell_commit(&mut self, now: Mono, member: Member, out: &mut Vec<Output>) {
        let Some(message) = self.append_message(member, self.log.last_position()) else { return };
        let commit = self.commit;
        if let Some(g) = self.primary.as_mut().and_then(|p| p.peers.get_mut(&member)) {
            g.sent = now;
            g.told = commit;
            out.push(Output::Send { to: member, message });
        }
    }
}

/// How many members the set should have: never fewer than the durability needs.
pub(super) fn members_wanted(placement: &Placement) -> usize {
    usize::from(placement.replicas_wanted).max(placement.durability.members_min())
}
