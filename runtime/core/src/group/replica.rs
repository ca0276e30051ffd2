//! The machine itself: inputs come in here; what a backup does stands here, what a primary does in `change` and `moves`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use onemec_wire::{ContextId, Epoch, Member, Seq, Version};

use super::log::{LogShape, Position};
use super::message::{GroupBody, GroupMessage};
use super::moves::{Goal, Move, MoveFailure, MoveState};
use super::planted::{Flaw, planted};
use super::primary::{Feed, Primary, Progress};
use super::{GroupTiming, Input, Live, Me, NotNow, Output};
use crate::directory::{Command, Durability, Placement};
use crate::time::Mono;

/// One group's replica on this node. See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub(super) me: Me,
    pub(super) timing: GroupTiming,
    pub(super) log: LogShape,
    /// How often the log was cut: tells a sync of what was cut from one of what came after.
    cuts: u64,
    /// The newest epoch seen; older ones are refused (rule 5).
    seen: Epoch,
    pub(super) commit: Seq,
    pub(super) placement: Option<Placement>,
    pub(super) live: Live,
    pub(super) primary: Option<Box<Primary>>,
    /// Whom this replica follows, and how much of its log is known to be theirs.
    following: Option<Following>,
    heard: Mono,
    /// What an earlier executor of this boot proposed for this state of the group, or for older ones, may still be applied.
    unsettled: Option<(Epoch, Version)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Following {
    primary: Member,
    epoch: Epoch,
    version: Version,
    /// The log is the primary's up to here.
    verified: Seq,
}

impl Replica {
    /// A replica with the log that the store holds. `committed`: what is known to be committed (the snapshot's place).
    pub fn new(me: Me, timing: GroupTiming, log: LogShape, seen: Epoch, now: Mono) -> Self {
        let commit = log.base().seq;
        let seen = seen.max(log.last_position().epoch);
        Self {
            me,
            timing,
            log,
            cuts: 0,
            seen,
            commit,
            placement: None,
            live: Live::default(),
            primary: None,
            following: None,
            heard: now,
            unsettled: None,
        }
    }

    /// An earlier executor of this boot crashed when the directory had the group in this state. Whatever it had proposed is
    /// not known any more and may still be applied: a transfer, a regroup, an addition to the set. A reign in this state is
    /// not opened before a version of its own makes all of that fail (rules 5 and 9).
    #[must_use]
    pub fn after_crash(mut self, at: (Epoch, Version)) -> Self {
        self.unsettled = Some(at);
        self
    }

    /// Whether proposals that nobody remembers may still be applied.
    pub(super) fn is_unsettled(&self) -> bool {
        let now = self.placement.as_ref().map(|p| (p.epoch, p.version));
        !planted(Flaw::OpenUnsettled) && self.unsettled.is_some_and(|at| now.is_none_or(|now| now <= at))
    }

    /// The shape of its log.
    pub fn log(&self) -> &LogShape {
        &self.log
    }
    /// Everything up to here is known to be committed.
    pub fn commit(&self) -> Seq {
        self.commit
    }
    /// How often the log was cut; goes with every `Synced`.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }
    /// Is this node primary, and under which epoch?
    pub fn leads(&self) -> Option<Epoch> {
        self.primary.as_ref().map(|p| p.epoch)
    }
    /// Is the gate open?
    pub fn is_open(&self) -> bool {
        self.primary.as_ref().is_some_and(|p| p.open)
    }
    /// The directory's latest word.
    pub fn placement(&self) -> Option<&Placement> {
        self.placement.as_ref()
    }
    /// The newest epoch seen.
    pub fn seen(&self) -> Epoch {
        self.seen
    }
    /// Replicas that are fed: who, how far, acknowledged and synced.
    pub fn peers(&self) -> impl Iterator<Item = (Member, Seq, Seq)> + '_ {
        self.primary.iter().flat_map(|p| p.peers.iter().map(|(m, g)| (*m, g.held, g.synced)))
    }

    /// Whether a history with this base is wanted; the executor asks before it replaces what the store holds. A history
    /// that comes late or twice must not replace records that were acknowledged since.
    pub fn wants_history(&self, base: Position, epoch: Epoch) -> bool {
        epoch >= self.seen
            && self.primary.as_ref().is_none_or(|p| p.epoch < epoch)
            && !self.log.matches(base)
            && base.seq > self.commit
    }

    /// When `Tick` is wanted; `None` while nothing is owed by anyone.
    pub fn next_tick(&self, now: Mono) -> Option<Mono> {
        const SOON: Duration = Duration::from_millis(10);
        const LATER: Duration = Duration::from_millis(100);
        const COPY: Duration = Duration::from_secs(5);
        let Some(p) = &self.primary else {
            return (!self.is_counted()).then(|| now + COPY);
        };
        if p.moving.is_some() || !p.open || p.pending.is_some() || !p.counting.is_empty() {
            return Some(now + SOON);
        }
        if p.peers.values().any(|g| g.feed != Feed::Streaming || g.held < self.log.last() || g.told < self.commit) {
            return Some(now + SOON);
        }
        let set = self.placement.as_ref().map_or(0, |pl| pl.in_sync.len());
        let wanted = self.placement.as_ref().map_or(0, super::change::members_wanted);
        (set != wanted || p.repairing.is_some() || self.log.last() == Seq(0)).then(|| now + LATER)
    }

    /// Nobody owes anybody anything: until the next input of substance nothing will be sent, stored or proposed. The
    /// executor may put the machine away as it is and step it again whenever something comes; ticks, and connections that
    /// come up, may be left out meanwhile.
    pub fn is_quiet(&self, now: Mono) -> bool {
        let last = self.log.last();
        if last == Seq(0) || self.log.synced() < last {
            return false;
        }
        let Some(p) = &self.primary else { return self.is_counted() };
        let settled = now.since(p.set_since) >= 2 * self.timing.settle_after;
        let idle = p.moving.is_none() && p.pending.is_none() && p.counting.is_empty() && p.finished.is_empty();
        let fed = |g: &Progress| g.feed == Feed::Streaming && g.held >= last && g.told >= self.commit;
        let surplus = self.placement.as_ref().is_none_or(|pl| pl.in_sync.len() > super::change::members_wanted(pl));
        p.open
            && idle
            && p.repairing.is_none()
            && self.commit == last
            && p.peers.values().all(fed)
            && settled
            && !surplus
    }

    /// As primary: do acknowledgements wait for this node's disk?
    pub fn must_sync(&self) -> bool {
        let mine = (self.me.member.node, self.me.store);
        self.placement.as_ref().is_some_and(|p| p.durability == Durability::Disk && p.synced.contains(&mine))
    }

    /// A primary whose set is too small for want of nodes: it is to hear of every node that comes.
    pub fn is_short(&self) -> bool {
        let short = |pl: &Placement| pl.in_sync.len() < super::change::members_wanted(pl);
        self.primary.is_some() && self.placement.as_ref().is_none_or(short)
    }

    /// Is this copy one that the directory counts on?
    fn is_counted(&self) -> bool {
        self.placement.as_ref().is_some_and(|p| {
            p.in_sync.contains(&self.me.member) || p.synced.contains(&(self.me.member.node, self.me.store))
        })
    }

    /// The place for the next operation, if there may be one now.
    pub fn next_place(&self) -> Result<Position, NotNow> {
        let Some(p) = &self.primary else { return Err(NotNow::NotPrimary) };
        if !p.open {
            return Err(NotNow::Closed);
        }
        // Rule 5: the minimum counts members that are in the committed and in every proposed set.
        let (have, need) = self.members_that_count(p);
        if have < need {
            return Err(NotNow::TooFewMembers { have, need });
        }
        if self.log.last().0 - self.commit.0 >= self.timing.window_max {
            return Err(NotNow::Full);
        }
        Ok(Position { epoch: p.epoch, seq: self.log.last().next() })
    }

    /// Takes an input; appends what is to be done to `out`.
    pub fn step(&mut self, now: Mono, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Placement { placement, live } => self.on_placement(now, placement, live, out),
            Input::Peer { from, message, records } => self.on_peer(now, from, message, &records, out),
            Input::Connected(member) => self.on_connected(now, member, out),
            Input::Appended => self.on_appended(now),
            Input::Synced { cuts, upto } => self.on_synced(cuts, upto, out),
            Input::HistorySent { to, held } => self.on_history_sent(now, to, held),
            Input::Installed { base, epoch, from, synced } => self.on_installed(now, base, epoch, from, synced, out),
            Input::Rebased(seq) => self.log.rebase(seq.min(self.commit)),
            Input::Move(order) => self.on_move(now, order, out),
            Input::CancelMove(id) => self.on_cancel(now, id, out),
            Input::Finished(context) => {
                if let Some(p) = &mut self.primary {
                    p.finished.insert(context);
                }
            }
            Input::Settle => {
                let base = self.placement.as_ref().map(|p| p.base(self.me.group));
                let free = self.primary.as_ref().is_some_and(|p| p.pending.is_none() && p.moving.is_none());
                if let Some(base) = base.filter(|_| free) {
                    self.propose(now, Command::Abort { base }, out);
                }
            }
            Input::Refused(base) => self.on_refused(now, base, out),
            Input::Tick => self.on_tick(now, out),
        }
        self.drive(now, out);
    }

    // ---- directory -------------------------------------------------------------------------------------------------

    fn on_placement(&mut self, now: Mono, placement: Option<Placement>, live: Live, out: &mut Vec<Output>) {
        self.live = live;
        let Some(new) = placement else {
            let gone = self.placement.take();
            if self.primary.is_some() {
                for context in gone.into_iter().flat_map(|p| p.contexts) {
                    self.lose(context, out);
                }
                self.step_down(None, out);
            }
            out.push(Output::Forget);
            return;
        };
        if self.placement.as_ref().is_some_and(|old| (new.epoch, new.version) < (old.epoch, old.version)) {
            return;
        }
        let old = self.placement.replace(new.clone());
        if new.epoch > self.seen {
            self.see(new.epoch, out);
        }
        match &self.primary {
            Some(p) if p.epoch == new.epoch && new.primary == self.me.member => {
                self.on_own_change(now, old.as_ref(), &new, out);
            }
            Some(_) => {
                self.step_down(Some(new.primary), out);
            }
            None => {}
        }
        if self.primary.is_none() && new.primary == self.me.member && new.epoch == self.seen {
            self.take_over(now, &new, out);
        }
    }

    fn see(&mut self, epoch: Epoch, out: &mut Vec<Output>) {
        self.seen = epoch;
        out.push(Output::NoteEpoch(epoch));
    }

    fn take_over(&mut self, now: Mono, placement: &Placement, out: &mut Vec<Output>) {
        // An executor that was made anew goes on with its own reign: beyond the seal stands what it logged itself.
        let resumed = self.log.last_position().epoch == placement.epoch;
        let sealed = placement.sealed.filter(|_| !resumed);
        if let Some(sealed) = sealed {
            if self.log.last() < sealed {
                // Rule 8 promises that the target holds N. If it does not, serving would lose what is missing: stay
                // closed; the operator sees a group without an open gate.
                return;
            }
            self.cut(sealed, out);
            self.commit_to(sealed, out);
        }
        let start = self.log.last();
        let mut peers = BTreeMap::new();
        for member in placement.in_sync.iter().filter(|m| **m != self.me.member) {
            let mut progress = Progress::probing(now);
            if let Some(sealed) = sealed {
                // The source saw all of the set hold, and the synced ones sync, everything up to `sealed` (rule 8).
                progress = Progress {
                    feed: Feed::Streaming,
                    next: sealed.next(),
                    held: sealed,
                    synced: sealed,
                    told: sealed,
                    ..progress
                };
            }
            peers.insert(*member, progress);
        }
        self.following = None;
        self.primary = Some(Box::new(Primary {
            epoch: placement.epoch,
            start,
            peers,
            counting: BTreeSet::new(),
            repairing: None,
            shunned: BTreeSet::new(),
            pending: None,
            moving: None,
            finished: BTreeSet::new(),
            open: false,
            set_since: now,
        }));
        out.push(Output::Leading { primary: true, forward_to: None });
        self.probe_all(now, out);
    }

    pub(super) fn step_down(&mut self, new_primary: Option<Member>, out: &mut Vec<Output>) {
        let Some(p) = self.primary.take() else { return };
        self.following = None;
        out.push(Output::Gate { epoch: p.epoch, open: false });
        let mut forward_to = None;
        if let Some(m) = p.moving {
            let proposed = matches!(m.state, MoveState::Transferring { .. } | MoveState::Aborting);
            let now = self.placement.as_ref();
            let moved = match &m.order.goal {
                Goal::Hand(target) => proposed && new_primary == Some(*target),
                Goal::Regroup { contexts, .. } => {
                    proposed && now.is_some_and(|now| contexts.iter().all(|c| now.contexts.contains(c)))
                }
                Goal::Seal => now.is_none(),
            };
            forward_to = new_primary.filter(|_| moved);
            let result = if moved { Ok(()) } else { Err(MoveFailure::NotPrimary) };
            out.push(Output::MoveEnded { id: m.order.id, result });
        }
        out.push(Output::Leading { primary: false, forward_to });
    }

    fn on_own_change(&mut self, now: Mono, old: Option<&Placement>, new: &Placement, out: &mut Vec<Output>) {
        let Some(p) = &mut self.primary else { return };
        if p.pending.as_ref().is_some_and(|pending| pending.base.version < new.version) {
            p.pending = None; // decided, one way or the other
        }
        if old.is_none_or(|o| o.in_sync != new.in_sync) {
            p.set_since = now;
            p.counting.retain(|m| !new.in_sync.contains(m));
            if p.repairing.is_some_and(|m| new.in_sync.contains(&m)) {
                p.repairing = None;
            }
            for member in &new.in_sync {
                if *member != self.me.member {
                    p.peers.entry(*member).or_insert_with(|| Progress::probing(now));
                }
            }
        }
        let target = p.moving.as_ref().and_then(|m| m.order.target());
        let (counting, repairing) = (p.counting.clone(), p.repairing);
        p.peers.retain(|m, _| {
            new.in_sync.contains(m) || counting.contains(m) || Some(*m) == repairing || Some(*m) == target
        });
        if let Some(o) = old {
            for context in o.contexts.iter().filter(|c| !new.contexts.contains(c)) {
                self.lose(*context, out);
            }
        }
        // Rule 9: a version of our own that is not the transfer makes the transfer fail; the freeze may end.
        // A word on who is alive that leaves the version as it was decides nothing: the transfer may still be applied.
        let decided = old.is_none_or(|o| o.version < new.version);
        if let Some(m) = self.moving()
            && decided
            && matches!(m.state, MoveState::Transferring { .. } | MoveState::Sealed | MoveState::Aborting)
        {
            let gave =
                m.order.goal == Goal::Seal && old.is_some_and(|o| o.contexts.iter().any(|c| !new.contexts.contains(c)));
            self.end_move(if gave { Ok(()) } else { Err(m.failure) }, out);
        }
    }

    /// The directory counts a context to this group no longer: it has ended, or belongs to another group.
    fn lose(&mut self, context: ContextId, out: &mut Vec<Output>) {
        let ended = self.primary.as_mut().is_some_and(|p| p.finished.remove(&context));
        out.push(if ended { Output::ContextGone(context) } else { Output::ContextLeft(context) });
    }

    // ---- peers -----------------------------------------------------------------------------------------------------

    fn on_peer(&mut self, now: Mono, from: Member, message: GroupMessage, records: &[Position], out: &mut Vec<Output>) {
        match message.body {
            GroupBody::Append { version, start, prev, commit, sync } => {
                let epoch = message.epoch;
                if epoch < self.seen && !planted(Flaw::StaleEpoch) {
                    // Rule 5: a replica refuses epochs lower than the highest it saw.
                    out.push(self.to(from, epoch, GroupBody::Stale { seen: self.seen }));
                    return;
                }
                if self.primary.as_ref().is_some_and(|p| p.epoch == epoch) {
                    return; // two primaries of one epoch cannot be; whatever this is, it is not obeyed
                }
                self.heard = now;
                self.follow(from, epoch, version, out);
                self.on_append(from, epoch, (start, prev, commit, sync), records, out);
            }
            GroupBody::Ack { held, synced } => self.on_ack(now, from, message.epoch, held, synced),
            GroupBody::Mismatch { nearest } => self.on_mismatch(now, from, message.epoch, nearest, out),
            GroupBody::Stale { seen } => {
                if self.primary.as_ref().is_some_and(|p| p.epoch < seen) {
                    // Remembered, else the next word of a directory that lags would begin the same epoch again.
                    self.see(seen, out);
                    self.step_down(None, out);
                }
            }
        }
    }

    fn follow(&mut self, primary: Member, epoch: Epoch, version: Version, out: &mut Vec<Output>) {
        if self.primary.is_some() {
            self.step_down(Some(primary), out);
        }
        if epoch > self.seen {
            self.see(epoch, out);
        }
        match &mut self.following {
            Some(f) if f.epoch == epoch => f.version = f.version.max(version),
            _ => self.following = Some(Following { primary, epoch, version, verified: Seq(0) }),
        }
    }

    fn on_append(
        &mut self,
        from: Member,
        epoch: Epoch,
        (start, prev, commit, sync): (Seq, Position, Seq, bool),
        records: &[Position],
        out: &mut Vec<Output>,
    ) {
        // The new primary's log is authoritative: what an older epoch put beyond its inherited end never counted.
        if self.log.last() > start && self.log.epoch_at(start.next()).is_some_and(|e| e < epoch) {
            self.cut(start, out);
        }
        if !self.log.matches(prev) {
            let base = self.log.base();
            let nearest = if prev.seq < base.seq { base } else { self.log.at_or_before(prev) };
            out.push(self.to(from, epoch, GroupBody::Mismatch { nearest }));
            return;
        }
        let mut before = prev;
        for record in records {
            if record.seq != before.seq.next() || record.epoch < before.epoch || record.epoch > epoch {
                return; // not a run of records of this log: drop it all; the primary will ask again
            }
            before = *record;
        }
        let mut store_from = None;
        for record in records {
            if record.seq <= self.log.last() {
                if self.log.epoch_at(record.seq) == Some(record.epoch) {
                    continue;
                }
                if !self.cut(Seq(record.seq.0 - 1), out) {
                    return;
                }
            }
            self.log.append(*record);
            store_from.get_or_insert(record.seq);
        }
        if let Some(from) = store_from {
            out.push(Output::Store { from, sync });
        }
        let reached = Seq(prev.seq.0 + records.len() as u64);
        let last = self.log.last();
        let Some(f) = &mut self.following else { return };
        f.verified = f.verified.max(reached);
        if f.verified >= start {
            // Beyond the inherited end there is only what this primary itself sent, in order.
            f.verified = last;
        }
        let verified = f.verified;
        self.commit_to(commit.min(verified), out);
        out.push(self.ack(from, epoch, verified));
    }

    fn ack(&self, to: Member, epoch: Epoch, verified: Seq) -> Output {
        self.to(to, epoch, GroupBody::Ack { held: verified, synced: self.log.synced().min(verified) })
    }

    pub(super) fn to(&self, to: Member, epoch: Epoch, body: GroupBody) -> Output {
        Output::Send { to, message: GroupMessage { group: self.me.group, epoch, body } }
    }

    /// Removes what lies beyond `seq`. What is committed is never cut: then nothing is done, and `false` is returned.
    fn cut(&mut self, seq: Seq, out: &mut Vec<Output>) -> bool {
        if seq >= self.log.last() {
            return true;
        }
        if seq < self.commit || seq < self.log.base().seq {
            return false;
        }
        self.log.truncate(seq);
        self.cuts += 1;
        out.push(Output::Truncate(seq));
        true
    }

    pub(super) fn commit_to(&mut self, seq: Seq, out: &mut Vec<Output>) {
        if seq > self.commit {
            self.commit = seq;
            out.push(Output::Committed(seq));
        }
    }

    // ---- store -----------------------------------------------------------------------------------------------------

    fn on_appended(&mut self, now: Mono) {
        if let Some(p) = &mut self.primary {
            // Who held everything owes an answer from now on, however long it had nothing to say.
            for g in p.peers.values_mut().filter(|g| g.feed == Feed::Streaming && g.held >= self.log.last()) {
                g.heard = now;
            }
            self.log.append(Position { epoch: p.epoch, seq: self.log.last().next() });
        }
    }

    fn on_synced(&mut self, cuts: u64, upto: Seq, out: &mut Vec<Output>) {
        if cuts != self.cuts {
            return; // of a log that has been cut since: a later sync covers what came after
        }
        let before = self.log.synced();
        self.log.note_synced(upto);
        if let Some(f) = self.following
            && self.log.synced() > before
        {
            out.push(self.ack(f.primary, f.epoch, f.verified));
        }
    }

    fn on_installed(
        &mut self,
        now: Mono,
        base: Position,
        epoch: Epoch,
        from: Member,
        synced: bool,
        out: &mut Vec<Output>,
    ) {
        self.heard = now;
        self.log = LogShape::recovered(base, [], synced);
        self.cuts += 1;
        self.commit = base.seq;
        if epoch >= self.seen {
            self.follow(from, epoch, Version(0), out);
            if let Some(f) = &mut self.following {
                f.verified = base.seq;
            }
            out.push(self.ack(from, epoch, base.seq));
        }
    }

    fn on_tick(&mut self, now: Mono, out: &mut Vec<Output>) {
        if self.primary.is_some() || self.is_counted() || now.since(self.heard) < self.timing.keep_copy {
            return;
        }
        // Rule 8: a copy that acknowledged, or counts, is kept until a later version of the group leaves it out.
        let learned = self.following.map_or(Version(0), |f| f.version);
        if self.placement.as_ref().is_some_and(|p| p.version > learned) {
            out.push(Output::Forget);
        }
    }

    pub(super) fn end_move(&mut self, result: Result<(), MoveFailure>, out: &mut Vec<Output>) {
        let Some(p) = &mut self.primary else { return };
        let Some(m) = p.moving.take() else { return };
        if let Some(target) = m.order.target() {
            let in_set = self.placement.as_ref().is_some_and(|pl| pl.in_sync.contains(&target));
            if !in_set && p.repairing != Some(target) && !p.counting.contains(&target) {
                p.peers.remove(&target);
            }
        }
        out.push(Output::MoveEnded { id: m.order.id, result });
        if !matches!(m.state, MoveState::CatchUp) {
            p.open = true;
            out.push(Output::Gate { epoch: p.epoch, open: true });
            out.push(Output::Unpark);
        }
    }

    /// The command for the present state of the group.
    pub(super) fn propose(&mut self, now: Mono, command: Command, out: &mut Vec<Output>) {
        let (Some(p), Some(placement)) = (&mut self.primary, &self.placement) else { return };
        let base = placement.base(self.me.group);
        p.pending = Some(super::primary::Pending { command: command.clone(), base, proposed: now });
        out.push(Output::Propose(command));
    }

    pub(super) fn moving(&self) -> Option<Move> {
        self.primary.as_ref().and_then(|p| p.moving.clone())
    }
}
