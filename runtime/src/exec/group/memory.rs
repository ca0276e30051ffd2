//! A group's machines come into memory and leave it (`exec/passive.rs` has the picture).

use onemec_core::contexts::GroupContexts;
use onemec_core::group::Input;
use onemec_core::time::Mono;
use onemec_wire::Epoch;

use super::{GroupExec, GroupMsg};
use crate::exec::passive::{Asleep, Passive};

/// A timer that is due so soon is not worth leaving for.
const TIMER_SOON_MS: u64 = 1_000;
/// The size is looked at after so many records, at first sooner.
const MEASURE_RECORDS: u64 = 64;

impl GroupExec {
    /// The executor of a group that comes back from a passive life; it goes on where it was.
    pub fn resume(&mut self, passive: Passive) {
        let Passive { replica, checkpoint, last_time_ms, asleep, .. } = passive;
        self.snapshot_at = checkpoint;
        self.last_time_ms = last_time_ms;
        self.asleep = asleep;
        if replica.is_open() {
            // The gate is open as far as anybody else knows: this is no new reign.
            self.gate_due = replica.leads().map(|epoch| (epoch, false));
        }
        self.replica = replica;
    }

    /// The machines are wanted: reads them in the background.
    pub(super) fn want_contexts(&mut self) {
        if self.contexts.is_none() && !self.loading {
            self.loading = true;
            (self.env.load)(&self.env.fresh);
        }
    }

    /// The machines are wanted, unless they have nothing to do before somebody asks.
    pub(super) fn want_contexts_for_work(&mut self) {
        let applied = self.replica.commit() <= self.snapshot_at.seq;
        if !applied || self.asleep.is_none_or(|a| a.has_work) {
            self.want_contexts();
        }
    }

    pub(super) fn on_loaded(&mut self, now: Mono, loaded: Result<Box<GroupContexts>, String>) {
        self.loading = false;
        if self.contexts.is_some() {
            return; // a history came meanwhile: newer
        }
        match loaded {
            Ok(contexts) => self.take_in(now, *contexts),
            Err(e) => {
                tracing::error!(group = %self.group, "the checkpoint cannot be read: {e}");
                self.failed = true;
            }
        }
    }

    /// The machines are here: what was committed meanwhile is applied, and the gate opens if it is to be open.
    pub(super) fn take_in(&mut self, now: Mono, mut contexts: GroupContexts) {
        if let Some(p) = self.replica.placement() {
            contexts.set_members(p.contexts.iter().copied());
        }
        let leads = self.replica.leads().is_some();
        contexts.serve(leads);
        if leads {
            self.deferred.extend(contexts.ended().map(Input::Finished));
        }
        self.contexts = Some(contexts);
        self.asleep = None;
        self.apply_upto(self.replica.commit());
        self.step_deferred(now);
        if let Some((epoch, new)) = self.gate_due.take() {
            self.open_gate(epoch, new);
        }
        self.gate.set_loaded();
        for message in std::mem::take(&mut self.early) {
            self.on_regroup(now, message);
        }
    }

    pub(super) fn on_gate(&mut self, epoch: Epoch, open: bool) {
        if open && self.contexts.is_none() {
            self.gate_due = Some((epoch, true));
            self.want_contexts_for_work();
            return;
        }
        self.gate_due = None;
        if open {
            self.open_gate(epoch, true);
        } else {
            self.gate.set(epoch, false);
            self.audit_gate(epoch, false);
        }
    }

    fn open_gate(&mut self, epoch: Epoch, new: bool) {
        self.gate.set(epoch, true);
        if new {
            self.audit_gate(epoch, true);
        }
    }

    fn audit_gate(&mut self, epoch: Epoch, open: bool) {
        let regrouped = open && std::mem::take(&mut self.regrouped);
        if let Some(audit) = &self.env.audit {
            let contexts = || self.contexts.iter().flat_map(|c| c.contexts().map(|(c, _)| c));
            if regrouped {
                audit.regrouped(self.group, epoch, contexts());
            }
            audit.gate(self.group, epoch, open, contexts());
        }
    }

    /// Notes use and size for the sweep.
    pub(super) fn note_use(&mut self, now: Mono, message: &GroupMsg) {
        let used = match message {
            GroupMsg::Peer(_, _, records) => !records.is_empty(),
            GroupMsg::Write(_)
            | GroupMsg::Regroup(_)
            | GroupMsg::Wake
            | GroupMsg::Loaded(_)
            | GroupMsg::Installed { .. }
            | GroupMsg::WantsHistory(..)
            | GroupMsg::HistorySent { .. }
            | GroupMsg::Move(..)
            | GroupMsg::Delivered(..)
            | GroupMsg::Undelivered(..) => true,
            GroupMsg::Placement(..)
            | GroupMsg::Connected(_)
            | GroupMsg::Synced { .. }
            | GroupMsg::SnapshotSaved(_)
            | GroupMsg::Refused(_)
            | GroupMsg::Tick
            | GroupMsg::Rest
            | GroupMsg::Status(_) => false,
        };
        if used {
            self.env.meter.used(now);
            self.wants_rest = false;
        }
    }

    pub(super) fn measure(&mut self) {
        let Some(contexts) = &self.contexts else { return };
        let at = contexts.applied().seq.0;
        // A group grows fastest at its beginning.
        let next = |before: u64| before + before.clamp(1, MEASURE_RECORDS);
        if self.measured_at.is_none_or(|before| at >= next(before) || at < before) {
            self.measured_at = Some(at);
            self.env.meter.set_bytes(contexts.memory_bytes() + self.env.store.positions().tail_bytes);
        }
    }

    /// What is known of the contexts if they leave memory now.
    fn facts(&self) -> Option<Asleep> {
        match &self.contexts {
            Some(c) => {
                let has_work = !c.outbox_is_empty() || c.ended().next().is_some();
                Some(Asleep { next_timer: c.next_timer().map(|(at, _)| at), has_work })
            }
            None => self.asleep,
        }
    }

    /// Nothing is under way, and nothing will be soon.
    pub(super) fn can_rest(&self, now: Mono) -> bool {
        let busy = self.saving
            || self.loading
            || self.failed
            || self.forgotten
            || self.is_changing()
            || self.leaving_in_log
            || self.settling.is_some()
            || !(self.adopting.is_empty() && self.incoming.is_empty() && self.early.is_empty())
            || self.timer_in_log
            || !(self.waiting.is_empty() && self.parked.is_empty() && self.held.is_empty())
            || !(self.sending.is_empty() && self.delivering.is_empty() && self.backoff.is_empty())
            || !(self.delivered.is_empty() && self.delivered_in_log.is_empty())
            || !(self.dangling.is_empty() && self.abandoned.is_empty());
        if busy || !self.replica.is_quiet(now) {
            return false;
        }
        let leads = self.replica.leads().is_some();
        let soon = self.env.clock.wall_ms() + TIMER_SOON_MS;
        match self.facts() {
            Some(facts) => !leads || !facts.has_work && facts.next_timer.is_none_or(|at| at > soon),
            // A replica whose machines were not wanted since the node came up.
            None => !leads,
        }
    }

    /// Leaves memory, once everything that was applied is in the checkpoint.
    pub(super) fn try_to_rest(&mut self, now: Mono) {
        if !self.wants_rest || self.saving {
            return;
        }
        let saved = self.contexts.as_ref().is_none_or(|c| c.applied().seq == self.snapshot_at.seq);
        if !saved || !self.can_rest(now) {
            self.wants_rest = false;
            return;
        }
        let open = self.replica.leads().filter(|_| self.replica.is_open() && self.contexts.is_some());
        // A reader that still holds the old machine must not see it beside the new one.
        self.gate.set(Epoch(0), false);
        let passive = Passive::new(self.replica.clone(), self.snapshot_at, self.last_time_ms, self.facts());
        self.rested = (self.env.rest)(passive);
        if !self.rested {
            self.wants_rest = false;
            if let Some(epoch) = open {
                self.gate.set(epoch, true);
            }
        }
    }
}
