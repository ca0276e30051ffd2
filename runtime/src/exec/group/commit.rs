//! The commit point moves: records are applied and answers leave.

use std::sync::atomic::Ordering;
use std::time::Duration;

use onemec_core::context::Answer;
use onemec_core::group::Input;
use onemec_core::time::Mono;
use onemec_wire::{ContextId, Epoch, NodeId, Seq};

use super::{GroupExec, Held, Waiting};

/// The end of an operation, as its caller sees it (rule 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteReply {
    /// Applied, or refused by the context.
    Answer(Answer),
    /// Withdrawn before it was replicated or forwarded.
    NotApplied {
        /// Why.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// It may still be applied.
    Unknown {
        /// Why.
        reason: String,
    },
    /// This node does not serve the group; it knows of this primary.
    NotHere {
        /// The primary.
        primary: NodeId,
        /// Its epoch.
        epoch: Epoch,
    },
    /// No such context.
    NotFound,
    /// The context was deleted.
    Deleted,
    /// The repeat mark cannot be honoured.
    RepeatWindow,
}

impl WriteReply {
    pub(crate) fn not_applied(reason: impl Into<String>, retry_after: Duration) -> Self {
        Self::NotApplied { reason: reason.into(), retry_after }
    }
    pub(crate) fn unknown(reason: impl Into<String>) -> Self {
        Self::Unknown { reason: reason.into() }
    }
}

/// Dropped effects are complained of no more often.
const DROPPED_SAY_EVERY: Duration = Duration::from_secs(10);

impl GroupExec {
    /// Rule 10: only what is committed is applied, and only what is applied is shown.
    pub(super) fn apply_upto(&mut self, upto: Seq) {
        loop {
            let Some(contexts) = &mut self.contexts else { return self.want_contexts() };
            if contexts.applied().seq >= upto {
                return;
            }
            let seq = contexts.applied().seq.next();
            let Some(record) = self.env.store.records(seq, 0).pop() else {
                tracing::error!(group = %self.group, seq = seq.0, "a committed record is not in the store");
                self.failed = true;
                return;
            };
            let applied = contexts.apply(&record);
            self.env.store.mark(seq, applied.keep, &applied.released);
            match record.kind() {
                onemec_wire::RecordKind::Timers => self.timer_in_log = false,
                onemec_wire::RecordKind::Leave => self.leaving_in_log = false,
                onemec_wire::RecordKind::OutboxCursor => self.delivered_in_log.clear(),
                _ => {}
            }
            self.adopted_upto(seq);
            self.note_dropped(record.context(), applied.dropped_effects);
            if let Some(context) = applied.finished {
                self.deferred.push_back(Input::Finished(context));
            }
            if self.waiting.front().is_some_and(|w| w.seq == seq)
                && let Some(w) = self.waiting.pop_front()
            {
                let answer = applied.answer.unwrap_or_default();
                self.answer(record.epoch(), w, answer, applied.finished);
            }
        }
    }

    /// Effects found no room: said by the primary alone, and not once for each.
    fn note_dropped(&mut self, context: ContextId, dropped: u32) {
        if dropped == 0 || self.replica.leads().is_none() {
            return;
        }
        self.env.effects_dropped.fetch_add(dropped.into(), Ordering::Relaxed);
        self.dropped_unsaid += u64::from(dropped);
        let now = self.env.clock.mono();
        if now >= self.dropped_say_at {
            let effects = std::mem::take(&mut self.dropped_unsaid);
            self.dropped_say_at = now + DROPPED_SAY_EVERY;
            tracing::warn!(
                group = %self.group, %context, effects,
                "notifications dropped: too much waits for receivers that take nothing"
            );
        }
    }

    fn answer(&mut self, epoch: Epoch, w: Waiting, answer: Answer, finished: Option<ContextId>) {
        let held = Held {
            answer,
            deadline: w.deadline,
            until_gone: finished,
            epoch,
            seq: w.seq,
            context: w.context,
            received: w.received,
            reply: w.reply,
        };
        // Rule 2: an acknowledgement checks the lease; rule 13: a deletion waits for its tombstone.
        if held.until_gone.is_none() && self.gate.lease_is_valid() {
            self.acknowledge(held);
        } else {
            self.held.push(held);
        }
    }

    fn acknowledge(&mut self, h: Held) {
        if let Some(audit) = &self.env.audit {
            audit.acknowledged(self.group, h.context, h.epoch, h.seq, h.received);
        }
        drop(h.reply.send(WriteReply::Answer(h.answer)));
    }

    /// Answers that waited for the lease.
    pub(super) fn release_held(&mut self, now: Mono) {
        if self.held.is_empty() {
            return;
        }
        let valid = self.gate.lease_is_valid();
        for h in std::mem::take(&mut self.held) {
            if h.until_gone.is_none() && valid {
                self.acknowledge(h);
            } else if now >= h.deadline {
                drop(h.reply.send(WriteReply::unknown("the node lost its lease before it could answer")));
            } else {
                self.held.push(h);
            }
        }
    }
}
