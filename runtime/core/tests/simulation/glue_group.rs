//! What the executor does around a replica: carry out its outputs in order, keep its store, run its machine.

use onemec_core::directory::Base;
use onemec_core::group::{GroupBody, GroupMessage, Input, MoveId, Output, Position};
use onemec_wire::{Epoch, GroupId, Member, Seq};

use super::front::Reply;
use super::net::Packet;
use super::node::{Snapshot, Waiting};
use super::toy::{Rec, Wish};
use super::world::{Event, MS, World, say};

/// More outputs of one step mean that something is not bounded (I8).
const OUTPUTS_MAX: usize = 200;

/// What the outputs of a step ask for once all of them are carried out.
#[derive(Default)]
struct Later {
    unpark: bool,
    finished: Vec<onemec_wire::ContextId>,
    sealed: Vec<(MoveId, Base)>,
    /// Regroups that failed: the other group is told.
    failed: Vec<MoveId>,
}

impl World {
    /// One input, then all its outputs in order; `attached` are the records that came with a message.
    pub(crate) fn step(&mut self, n: usize, group: GroupId, input: Input, attached: &[Rec]) {
        self.wake(n, group, &input);
        let now = self.clock(n);
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        let mut out = Vec::new();
        rep.machine.step(now, input, &mut out);
        rep.tick_at = rep.machine.next_tick(now).unwrap_or_default();
        self.steps += 1;
        self.trace(out.len() as u64);
        if out.len() > OUTPUTS_MAX {
            self.checker.fail(format!("I8: {} outputs of one step on n{}", out.len(), n + 1));
        }
        let mut later = Later::default();
        for output in out {
            self.carry_out(n, group, output, attached, &mut later);
        }
        self.checker.store_agrees(n, group, self.nodes[n].reps.get(&group));
        for context in later.finished {
            self.step(n, group, Input::Finished(context), &[]);
        }
        if later.unpark {
            self.unpark(n, group);
        }
        for (id, base) in later.sealed {
            self.sealed(n, group, id, base);
        }
        for id in later.failed {
            self.regroup_failed(n, id);
        }
    }

    fn carry_out(&mut self, n: usize, group: GroupId, output: Output, attached: &[Rec], later: &mut Later) {
        match output {
            Output::Send { to, message } => self.send_group(n, to, message, Vec::new()),
            Output::SendRecords { to, message, from, upto } => {
                let Some(rep) = self.nodes[n].reps.get(&group) else { return };
                let records: Vec<Rec> =
                    rep.mem.records.iter().filter(|r| r.at.seq >= from && r.at.seq <= upto).cloned().collect();
                assert_eq!(records.len() as u64, upto.0 + 1 - from.0, "the store holds what the machine sends");
                self.checker.in_flight(records.len(), self.plan.timing.window_max);
                self.send_group(n, to, message, records);
            }
            Output::SendHistory { to, epoch } => self.send_history(n, group, to, epoch),
            Output::Truncate(seq) => {
                say!(self, "n{} {group} truncates to {seq}", n + 1);
                let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
                self.checker.truncated(n, group, seq, &rep.mem);
                rep.mem.truncate(seq);
                rep.unsynced = true;
                self.want_sync(n, group);
            }
            Output::Store { from, sync: _ } => {
                let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
                rep.mem.records.extend(attached.iter().filter(|r| r.at.seq >= from).cloned());
                rep.unsynced = true;
                self.want_sync(n, group);
            }
            Output::NoteEpoch(epoch) => self.nodes[n].disk.entry(group).or_default().seen = epoch,
            Output::Committed(seq) => self.committed(n, group, seq, later),
            Output::Gate { epoch, open } => self.gate(n, group, epoch, open),
            Output::Propose(command) => {
                self.proposed(n, group, &command);
                self.propose(n, command);
            }
            Output::Leading { primary, forward_to } => self.leading(n, group, primary, forward_to, later),
            Output::Unpark => later.unpark = true,
            Output::MoveEnded { id, result } => {
                say!(self, "n{} {group} move {id:?} ends {result:?}", n + 1);
                self.count(if result.is_ok() { "moves done" } else { "moves failed" });
                if let Some(rep) = self.nodes[n].reps.get_mut(&group) {
                    rep.moves.remove(&id);
                }
                if result.is_err() {
                    later.failed.push(id);
                }
            }
            Output::MoveFrozen { .. } => self.count("moves frozen"),
            Output::ContextGone(context) => self.context_gone(n, group, context),
            Output::Sealed { id, base, .. } => later.sealed.push((id, base)),
            Output::ContextLeft(_) => self.count("contexts regrouped"),
            Output::Forget => {
                say!(self, "n{} forgets {group}", n + 1);
                self.count("copies forgotten");
                self.fail_group(n, group);
                self.nodes[n].reps.remove(&group);
                self.nodes[n].disk.remove(&group);
            }
        }
    }

    fn send_group(&mut self, n: usize, to: Member, message: GroupMessage, records: Vec<Rec>) {
        let at = self.index_of(to.node);
        // The greeting told who is at the other end: what is meant for a former boot goes nowhere.
        if self.nodes[at].member == to {
            self.send_lane(n, at, Packet::Group { message, records });
        }
    }

    pub(crate) fn on_group_message(&mut self, n: usize, from: Member, message: GroupMessage, records: Vec<Rec>) {
        let group = message.group;
        if !self.nodes[n].reps.contains_key(&group) {
            // Rule 13: only a group that the directory knows gets a copy here; a deleted or not yet known one does not.
            let append = matches!(message.body, GroupBody::Append { .. });
            if !append || self.nodes[n].dir.group(group).is_none() {
                return;
            }
            self.new_rep(n, group);
            self.deliver_placement(n, group);
        }
        let positions: Vec<Position> = records.iter().map(|r| r.at).collect();
        self.step(n, group, Input::Peer { from, message, records: positions }, &records);
    }

    fn committed(&mut self, n: usize, group: GroupId, upto: Seq, later: &mut Later) {
        let lease = self.lease_valid(n);
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        let mut answers: Vec<(Waiting, usize)> = Vec::new();
        while rep.toy.applied < upto {
            let seq = rep.toy.applied.next();
            let Some(rec) = rep.mem.get(seq).cloned() else {
                self.checker.fail(format!("n{} {group}: committed {seq} is not in the store", n + 1));
                return;
            };
            self.checker.committed(n, group, &rec);
            let applied = rep.toy.apply(&rec);
            let joined = matches!(&rec.wish, Wish::Join(state) if state.finished);
            if rec.wish == Wish::Finish || joined {
                later.finished.push(rec.context);
                self.checker.context_finished(rec.context);
            }
            if let Some(w) = rep.waiting.remove(&seq) {
                answers.push((w, applied.place));
            }
        }
        let leads = rep.machine.leads();
        for (w, place) in answers {
            if w.request.finish {
                // Rule 13: acknowledged when the directory has removed the context.
                if let Some(rep) = self.nodes[n].reps.get_mut(&group) {
                    rep.finishing.push((w.request.context, w.request));
                }
                continue;
            }
            // Rule 2: an acknowledgement leaves only under the lease, and under the epoch that gave the place.
            let lease = lease || onemec_core::group::planted(onemec_core::group::Flaw::NoLeaseCheck);
            let reply = if lease && leads == Some(w.epoch) {
                self.checker.answered(w.request.context, w.epoch, n, w.request.received, self.now);
                self.checker.acknowledged(w.request.context, w.request.op, place);
                Reply::Done { place }
            } else {
                Reply::Unknown
            };
            self.reply(n, &w.request, reply);
        }
    }

    fn context_gone(&mut self, n: usize, group: GroupId, context: onemec_wire::ContextId) {
        self.checker.context_gone(context);
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        let (gone, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut rep.finishing).into_iter().partition(|f| f.0 == context);
        rep.finishing = rest;
        for (_, request) in gone {
            self.reply(n, &request, Reply::Finished);
        }
    }

    fn gate(&mut self, n: usize, group: GroupId, epoch: Epoch, open: bool) {
        say!(self, "n{} {group} gate {epoch} {}", n + 1, if open { "open" } else { "closed" });
        // A node that applies late may open the gate of an epoch that is over: it has no lease, and answers nothing.
        let lease = self.lease_valid(n);
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        rep.gate = open.then_some(epoch);
        if open && lease {
            let contexts = rep.machine.placement().map(|p| p.contexts.clone()).unwrap_or_default();
            self.checker.opened(n, group, epoch, &rep.toy, &contexts);
        }
    }

    fn leading(&mut self, n: usize, group: GroupId, primary: bool, forward_to: Option<Member>, later: &mut Later) {
        say!(self, "n{} {group} leads: {primary}", n + 1);
        if primary {
            self.count("reigns");
            let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
            rep.unsynced = true;
            // Rule 13: a primary that finds a final record proposes again.
            later.finished.extend(rep.toy.finished());
            self.want_sync(n, group);
        } else {
            self.stop_serving(n, group, forward_to);
        }
    }

    // ---- store -----------------------------------------------------------------------------------------------------

    /// One sync at a time per group; what is stored meanwhile is covered by the next.
    pub(crate) fn want_sync(&mut self, n: usize, group: GroupId) {
        let slow = self.nodes[n].slow_disk_until > self.now;
        let delay = if slow { self.rng.between(50, 1_500) * MS } else { self.rng.between(100, 3_000) * 1_000 };
        let boot = self.nodes[n].boot;
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        if rep.syncing || !rep.unsynced {
            return;
        }
        rep.syncing = true;
        rep.unsynced = false;
        let event = Event::SyncDone {
            n,
            boot,
            group,
            life: rep.life,
            cuts: rep.machine.cuts(),
            upto: rep.mem.last(),
            image: rep.mem.clone(),
        };
        self.after(delay, event);
    }

    /// Now and then a snapshot is taken and earlier records go.
    pub(crate) fn maybe_rebase(&mut self, n: usize, group: GroupId) {
        if !self.rng.permille(3) {
            return;
        }
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        if rep.rests {
            return;
        }
        let seq = rep.toy.applied;
        let Some(epoch) = rep.machine.log().epoch_at(seq) else { return };
        if seq <= rep.mem.base.seq {
            return;
        }
        rep.mem = Snapshot {
            base: Position { epoch, seq },
            toy: rep.toy.clone(),
            records: rep.mem.records.iter().filter(|r| r.at.seq > seq).cloned().collect(),
        };
        rep.unsynced = true;
        self.count("snapshots");
        self.step(n, group, Input::Rebased(seq), &[]);
        self.want_sync(n, group);
    }

    fn send_history(&mut self, n: usize, group: GroupId, to: Member, epoch: Epoch) {
        self.count("histories sent");
        let at = self.index_of(to.node);
        let sender = self.nodes[n].member;
        let boot = self.nodes[n].boot;
        let connection = self.net.connection(n, at);
        let lazy = if self.healed.is_none() { self.rng.below(300) * MS } else { 0 };
        let delay = MS + self.rng.below(10) * MS + lazy;
        let Some(rep) = self.nodes[n].reps.get(&group) else { return };
        let Some(at_epoch) = rep.machine.log().epoch_at(rep.toy.applied) else { return };
        let image = Snapshot {
            base: Position { epoch: at_epoch, seq: rep.toy.applied },
            toy: rep.toy.clone(),
            records: Vec::new(),
        };
        match connection {
            Some(connection) if self.nodes[at].member == to => {
                let event = Event::HistoryArrives { from: n, to: at, connection, sender, group, epoch: epoch.0, image };
                self.after(delay, event);
                // The transfer has a deadline; an answer that is lost counts as failed.
                self.after(delay + 400 * MS, Event::HistoryEnds { n, boot, group, to, ok: None });
            }
            _ => self.after(20 * MS, Event::HistoryEnds { n, boot, group, to, ok: None }),
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn history_arrived(
        &mut self,
        from: usize,
        n: usize,
        connection: u64,
        sender: Member,
        group: GroupId,
        epoch: u64,
        image: Snapshot,
    ) {
        let base = image.base;
        let me = self.nodes[n].member;
        let twice = self.healed.is_none() && self.rng.permille(100);
        if self.net.connection(from, n) != Some(connection) && !twice {
            return;
        }
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        // A history that comes late must not replace what was acknowledged since: the machine says whether it is wanted.
        if rep.machine.wants_history(base, Epoch(epoch)) {
            self.checker.installed(n, group, &rep.mem, base);
            rep.toy = image.toy.clone();
            rep.mem = image;
            rep.unsynced = true;
            self.count("histories installed");
            let input = Input::Installed { base, epoch: Epoch(epoch), from: sender, synced: false };
            self.step(n, group, input, &[]);
            self.want_sync(n, group);
        }
        if self.lane_works(n, from) {
            let delay = MS;
            let boot = self.nodes[from].boot;
            let held = self.nodes[n].reps.get(&group).filter(|r| r.machine.log().matches(base)).map(|_| base);
            self.after(delay, Event::HistoryEnds { n: from, boot, group, to: me, ok: held });
        }
    }

    fn lane_works(&mut self, from: usize, to: usize) -> bool {
        self.net.connection(from, to).is_some() && !self.net.is_blocked(from, to)
    }

    pub(crate) fn history_ended(&mut self, n: usize, group: GroupId, to: Member, held: Option<Position>) {
        self.step(n, group, Input::HistorySent { to, held }, &[]);
    }
}
