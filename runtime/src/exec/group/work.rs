//! What a group does by itself: deadlines, timers, deliveries, snapshots.

use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::{EffectId, Op};
use onemec_core::contexts::{GroupContexts, Lane};
use onemec_core::group::Position;
use onemec_core::time::Mono;
use onemec_wire::{RecordKind, Seq, codec};
use tokio::sync::oneshot;

use super::commit::WriteReply;
use super::dangling::DANGLING_LOOK;
use super::{GroupExec, GroupMsg, Write};
use crate::causes::with_causes;

const DELIVERY_BACKOFF_MIN: Duration = Duration::from_millis(50);
const DELIVERY_BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A receiver may ask for no longer a pause.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);
/// A replica that lags is waited for until the log is so many times longer than usual.
const CATCH_UP_FACTOR: u64 = 4;
/// A checkpoint that failed is tried again after this time: a full disk is not complained of with every record.
pub(super) const SNAPSHOT_AGAIN: Duration = Duration::from_secs(1);
const OWN_OPERATION_MAX: Duration = Duration::from_secs(10);

impl GroupExec {
    /// After every message.
    pub(super) fn housekeeping(&mut self, now: Mono) {
        self.drop_overdue(now);
        self.release_held(now);
        if !self.parked.is_empty() && self.replica.is_open() && self.gate.allows() {
            self.unpark(now);
        }
        if self.gate.allows() {
            self.run_timers(now);
            self.pump_outbox(now);
            self.clear_strays(now);
            self.find_dangling(now);
        } else if self.timer_asleep().is_some_and(|due| due <= self.env.clock.wall_ms()) {
            self.want_contexts();
        }
        self.maybe_snapshot(now);
    }

    fn drop_overdue(&mut self, now: Mono) {
        let retry = self.env.limits.retry_after;
        let (overdue, parked): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.parked).into_iter().partition(|(until, _)| now >= *until);
        self.parked = parked.into();
        for (_, write) in overdue {
            drop(write.reply.send(WriteReply::not_applied("not served within the parking time", retry)));
        }
        // What waits for its commitment is in order of sequence, not of deadline; the caller keeps its own time as well.
        while self.waiting.front().is_some_and(|w| now >= w.deadline) {
            if let Some(w) = self.waiting.pop_front() {
                drop(w.reply.send(WriteReply::unknown("not committed within the deadline")));
            }
        }
    }

    /// The next timer of a group that is led here while its machines are away.
    fn timer_asleep(&self) -> Option<u64> {
        self.replica.leads().filter(|_| self.contexts.is_none()).and(self.asleep?.next_timer)
    }

    fn run_timers(&mut self, now: Mono) {
        if self.timer_in_log {
            return;
        }
        let Some((due, context)) = self.contexts.as_ref().and_then(GroupContexts::next_timer) else { return };
        if due <= self.env.clock.wall_ms() {
            self.timer_in_log = self.log_own(now, RecordKind::Timers, context, &[]);
        }
    }

    fn pump_outbox(&mut self, now: Mono) {
        let Some(contexts) = &self.contexts else { return };
        if !contexts.outbox_is_empty() {
            let room = self.env.limits.deliveries_max.saturating_sub(self.delivering.len());
            let start: Vec<_> = contexts
                .outbox_heads()
                .filter(|(lane, id, _)| {
                    !self.delivering.contains_key(lane)
                        && !self.delivered.contains(id)
                        && !self.delivered_in_log.contains(id)
                        && self.backoff.get(lane).is_none_or(|(_, at)| now >= *at)
                })
                .take(room)
                .collect();
            for (lane, id, effect) in start {
                self.delivering.insert(lane, id);
                let mail = self.env.mail.clone();
                self.env.deliverer.deliver(id, lane, effect, Arc::new(move |m| mail.send(m)));
            }
        }
        // Cursors are logged together: as soon as none is on its way.
        if !self.delivered.is_empty() && self.delivered_in_log.is_empty() {
            let context = self.delivered.first().map(|id| id.context).unwrap_or_default();
            if let Ok(head) = codec::encode(&self.delivered)
                && self.log_own(now, RecordKind::OutboxCursor, context, &head)
            {
                self.delivered_in_log = std::mem::take(&mut self.delivered);
            }
        }
    }

    pub(super) fn on_delivered(&mut self, now: Mono, id: EffectId, lane: Lane, op: Option<Op>) {
        if self.delivering.get(&lane) != Some(&id) {
            return; // of an earlier reign
        }
        self.delivering.remove(&lane);
        self.backoff.remove(&lane);
        self.delivered.push(id);
        if let Some(op) = op {
            let (reply, _) = oneshot::channel();
            let deadline = now + OWN_OPERATION_MAX;
            self.on_write(
                now,
                Write {
                    context: id.context,
                    create: None,
                    op,
                    repeat: None,
                    received: now,
                    deadline,
                    reply,
                    permit: None,
                },
            );
        }
    }

    pub(super) fn on_undelivered(&mut self, now: Mono, lane: Lane, after: Option<Duration>) {
        self.delivering.remove(&lane);
        let tries = self.backoff.get(&lane).map_or(0, |(n, _)| *n) + 1;
        let wait = DELIVERY_BACKOFF_MIN.saturating_mul(1 << tries.min(16)).min(DELIVERY_BACKOFF_MAX);
        let wait = wait.max(after.unwrap_or_default().min(RETRY_AFTER_MAX));
        self.backoff.insert(lane, (tries, now + wait));
    }

    /// A snapshot from time to time, so that the log stays short; off the actor's thread.
    fn maybe_snapshot(&mut self, now: Mono) {
        let Some(contexts) = &self.contexts else { return };
        let applied = contexts.applied();
        let since = applied.seq.0 - self.snapshot_at.seq.0;
        let due = since >= self.env.limits.snapshot_records
            || (since > 0 && (self.wants_rest || self.env.store.wants_checkpoint()));
        if self.saving || self.forgotten || !due || now < self.snapshot_not_before {
            return;
        }
        // Replicas that still catch up from the log are waited for, within bounds.
        let floor = self
            .replica
            .peers()
            .map(|(_, held, _)| held)
            .chain(self.sending.values().copied())
            .min()
            .unwrap_or(applied.seq);
        if floor < applied.seq && since < CATCH_UP_FACTOR * self.env.limits.snapshot_records {
            return;
        }
        let snapshot = match contexts.snapshot() {
            Ok(snapshot) => snapshot,
            Err(e) => {
                tracing::error!(group = %self.group, "snapshot: {e}");
                return;
            }
        };
        let group = self.group;
        let job = match self.env.store.prepare(applied.seq, snapshot) {
            Ok(job) => job,
            Err(e) => {
                tracing::error!(%group, "checkpoint: {}", with_causes(e));
                self.snapshot_not_before = now + SNAPSHOT_AGAIN;
                return;
            }
        };
        self.saving = true;
        let mail = self.env.mail.clone();
        tokio::task::spawn_blocking(move || {
            let saved: Option<Position> = match job.run() {
                Ok(_) => Some(applied),
                Err(e) => {
                    tracing::error!(%group, "checkpoint: {}; the log is kept, and it is tried again", with_causes(e));
                    None
                }
            };
            mail.send(GroupMsg::SnapshotSaved(saved));
        });
    }

    /// After how long a tick is wanted, unless one is on its way.
    pub(super) fn want_tick(&mut self, now: Mono) -> Option<Duration> {
        let mut at = self.replica.next_tick(now);
        let mut earlier = |t: Mono| at = Some(at.map_or(t, |a| a.min(t)));
        let soon = now + Duration::from_millis(10);
        if !self.held.is_empty() || !self.parked.is_empty() || !self.delivered.is_empty() {
            earlier(soon);
        }
        if let Some(w) = self.waiting.front() {
            earlier(w.deadline.max(soon));
        }
        if self.replica.leads().is_some() {
            if let Some(until) = self.incoming.values().min() {
                earlier((*until).max(soon));
            }
            let next = self.contexts.as_ref().and_then(GroupContexts::next_timer).map(|(due, _)| due);
            if let Some(due) = next.or(self.timer_asleep()) {
                let in_ms = due.saturating_sub(self.env.clock.wall_ms()).clamp(1, 60_000);
                earlier(now + Duration::from_millis(in_ms));
            }
            if let Some(next) = self.backoff.values().map(|(_, t)| *t).min() {
                earlier(next.max(soon));
            }
            if !self.dangling.is_empty() {
                earlier(now + DANGLING_LOOK);
            }
            let outbox = self.contexts.as_ref().is_some_and(|c| !c.outbox_is_empty());
            if outbox && self.delivering.is_empty() && self.backoff.is_empty() {
                earlier(soon);
            }
        }
        let at = at?;
        if self.tick_at.is_some_and(|t| t <= at && t > now) {
            return None;
        }
        self.tick_at = Some(at);
        Some(at.since(now))
    }

    /// The log's end, for tests and figures.
    pub fn last(&self) -> Seq {
        self.replica.log().last()
    }
}
