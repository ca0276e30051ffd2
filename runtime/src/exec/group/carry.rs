//! Carries out what the machine decided, in order.

use onemec_core::directory::Command;
use onemec_core::group::{Input, MoveFailure, Output};
use onemec_core::time::Mono;
use onemec_wire::{Epoch, Member, Seq};

use super::GroupExec;
use super::commit::WriteReply;
use crate::exec::body::MoveTimes;
use crate::exec::halt::{Point, reached};

/// Bytes of records that are taken from the store at once.
const RUN_BYTES: usize = 1 << 20;

impl GroupExec {
    pub(super) fn carry_out(&mut self, now: Mono, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, message } => self.env.net.send(to, message, Vec::new()),
                Output::SendRecords { to, message, from, upto } => self.send_records(to, message, from, upto),
                Output::SendHistory { to, epoch } => self.send_history(to, epoch),
                Output::Truncate(seq) => self.truncate(seq),
                Output::Store { from, sync } => self.store(from, sync),
                Output::NoteEpoch(epoch) => {
                    if let Err(e) = self.env.store.note_epoch(epoch, Box::new(|_| {})) {
                        tracing::error!(group = %self.group, "note epoch: {e}");
                    }
                }
                Output::Committed(upto) => self.apply_upto(upto),
                Output::Gate { epoch, open } => self.on_gate(epoch, open),
                // Rule 5, with rule 1: who has no lease hears nobody, and takes that for the silence of its replicas. It would
                // let them go and then die with the only copy. The machine proposes again when nothing is heard of it.
                Output::Propose(Command::SetInSync { .. }) if !self.gate.lease_is_valid() => {}
                Output::Propose(command) => {
                    if let (Command::Transfer { .. }, Some(m)) = (&command, &mut self.moving) {
                        if m.proposed.replace(m.proposed.unwrap_or(now)).is_none() {
                            m._span = tracing::info_span!(parent: &m.parent, "transfer");
                        }
                        reached(Point::Transfer);
                    }
                    self.env.net.propose(self.group, command);
                }
                Output::Leading { primary, forward_to } => self.on_leading(now, primary, forward_to),
                // Housekeeping does it after this step's outputs, so that records leave in order.
                Output::Unpark => {}
                Output::MoveEnded { id, result } => {
                    if !self.on_regroup_ended(id, result) {
                        self.on_move_ended(now, id, result);
                    }
                }
                Output::Sealed { id, base, sealed } => self.on_sealed(id, base, sealed),
                Output::ContextLeft(context) => self.on_context_left(context),
                Output::MoveFrozen { id } => {
                    if let Some(m) = self.moving.as_mut().filter(|m| m.id == id) {
                        m.frozen = Some(now);
                        m._span = tracing::info_span!(parent: &m.parent, "freeze");
                        reached(Point::Freeze);
                    }
                }
                Output::ContextGone(context) => self.on_context_gone(context),
                Output::Forget => self.forget(),
            }
        }
    }

    fn send_records(&mut self, to: Member, message: onemec_core::group::GroupMessage, from: Seq, upto: Seq) {
        // Records that are gone (a checkpoint overtook this replica) end the run: the machine will ask again.
        let wanted = (upto.0 - from.0 + 1) as usize;
        let mut records = Vec::with_capacity(wanted);
        while records.len() < wanted {
            let more = self.env.store.records(Seq(from.0 + records.len() as u64), RUN_BYTES);
            if more.is_empty() {
                break;
            }
            records.extend(more.iter().take(wanted - records.len()).map(|r| r.bytes().clone()));
        }
        self.count_sent(to, records.iter().map(|r| r.len() as u64).sum());
        self.env.net.send(to, message, records);
    }

    /// Bytes that a move costs (row H10).
    pub(super) fn count_sent(&mut self, to: Member, bytes: u64) {
        if let Some(m) = self.moving.as_mut().filter(|m| m.target == Some(to)) {
            m.bytes += bytes;
        }
    }

    fn send_history(&mut self, to: Member, epoch: Epoch) {
        self.sending.insert(to, self.snapshot_at.seq);
        self.env.net.send_history(to, epoch);
    }

    fn truncate(&mut self, after: Seq) {
        let upto = self.replica.log().last();
        let done = self.sync_done(upto.min(after));
        if let Err(e) = self.env.store.truncate(after, Box::new(done)) {
            tracing::error!(group = %self.group, "truncate: {e}");
        }
    }

    fn store(&mut self, from: Seq, sync: bool) {
        let new: Vec<_> = self.arrived.iter().filter(|r| r.seq() >= from).cloned().collect();
        let upto = new.last().map_or(from, |r| r.seq());
        if let Err(e) = self.env.store.append(new, sync, self.sync_done(upto)) {
            // The machine believes that it holds them: a replica that cannot store must not acknowledge.
            tracing::error!(group = %self.group, "store: {e}");
            self.failed = true;
        }
    }

    fn on_leading(&mut self, now: Mono, primary: bool, forward_to: Option<Member>) {
        reached(if primary { Point::Activate } else { Point::Settle });
        if let Some(contexts) = &mut self.contexts {
            contexts.serve(primary);
        }
        self.dangling.clear();
        self.abandoned.clear();
        let inherited = self.replica.placement().filter(|p| p.epoch > Epoch(1));
        self.inherited = inherited.map(|p| p.contexts.iter().copied().collect()).unwrap_or_default();
        self.delivering.clear();
        self.backoff.clear();
        self.delivered.clear();
        self.delivered_in_log.clear();
        self.timer_in_log = false;
        self.leaving_in_log = false;
        self.settling = None;
        if primary {
            match &self.contexts {
                Some(contexts) => self.deferred.extend(contexts.ended().map(Input::Finished)),
                None => self.want_contexts_for_work(),
            }
            return;
        }
        for (_, reply) in self.adopting.drain(..) {
            let _gone = reply.send(Err(MoveFailure::NotPrimary));
        }
        if forward_to == Some(self.env.member) {
            return; // a regroup: the reign goes on under another epoch, and what is parked is served here
        }
        // Rule 11: what is in the log may still be applied; what was parked was never replicated.
        for w in self.waiting.drain(..) {
            drop(w.reply.send(WriteReply::unknown("the group has another primary now")));
        }
        for h in self.held.drain(..) {
            drop(h.reply.send(WriteReply::unknown("the group has another primary now")));
        }
        let epoch = self.replica.placement().map_or(Epoch(0), |p| p.epoch);
        let parked = self.parked.drain(..).map(|(_, write)| write);
        match forward_to {
            Some(target) => {
                let parked: Vec<_> = parked.filter(|w| now < w.deadline).collect();
                if !parked.is_empty() {
                    (self.env.forward)(target.node, epoch, parked);
                }
            }
            None => {
                let retry = self.env.limits.retry_after;
                for write in parked {
                    drop(write.reply.send(WriteReply::not_applied("the group has another primary now", retry)));
                }
            }
        }
    }

    pub(super) fn unpark(&mut self, now: Mono) {
        for (_, write) in std::mem::take(&mut self.parked) {
            self.on_write(now, write);
        }
    }

    fn on_move_ended(&mut self, now: Mono, id: onemec_core::group::MoveId, result: Result<(), MoveFailure>) {
        let Some(m) = self.moving.take_if(|m| m.id == id) else { return };
        let micros = |from: Mono, to: Mono| to.since(from).as_micros() as u64;
        let times = MoveTimes {
            prepare_us: micros(m.ordered, m.frozen.unwrap_or(now)),
            freeze_us: m.frozen.map_or(0, |f| micros(f, now)),
            commit_us: m.proposed.map_or(0, |p| micros(p, now)),
            activate_us: 0,
            parked: m.parked,
            bytes: m.bytes,
        };
        let _gone = m.reply.send(result.map(|()| times));
    }

    fn on_context_gone(&mut self, context: onemec_wire::ContextId) {
        if let Some(contexts) = &mut self.contexts {
            contexts.remove(context);
        }
        self.dangling.remove(&context);
        self.abandoned.remove(&context);
        for h in self.held.extract_if(.., |h| h.until_gone == Some(context)) {
            drop(h.reply.send(WriteReply::Answer(h.answer)));
        }
    }

    /// The actor ends: nobody may be served from here any more.
    pub fn close(&mut self) {
        if let Some(contexts) = &mut self.contexts {
            contexts.serve(false);
        }
        self.gate.set(Epoch(0), false);
    }

    fn forget(&mut self) {
        if let Some(contexts) = &mut self.contexts {
            contexts.serve(false);
        }
        let all: Vec<_> = self.contexts.iter().flat_map(|c| c.contexts().map(|(c, _)| c)).collect();
        for context in all {
            self.on_context_gone(context);
        }
        self.env.net.forget(self.group);
        self.forgotten = true;
    }

    pub(super) fn on_snapshot_saved(&mut self, now: Mono, base: Option<onemec_core::group::Position>) {
        self.saving = false;
        if let Some(base) = base {
            self.snapshot_at = base;
            self.step(now, Input::Rebased(base.seq));
        } else {
            self.snapshot_not_before = now + super::work::SNAPSHOT_AGAIN;
        }
    }
}
