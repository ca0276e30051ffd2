//! A group gives contexts to another one, or takes them (rule 16): what the two actors do. Their order of events stands in
//! [`crate::exec::regroup`].

use std::sync::Arc;

use bytes::Bytes;
use onemec_core::context::History;
use onemec_core::contexts::JoinState;
use onemec_core::directory::Base;
use onemec_core::group::{Input, MoveFailure, MoveId, MoveOrder};
use onemec_core::time::Mono;
use onemec_wire::{ContextId, Record, RecordKind, Seq};
use tokio::sync::oneshot;

use super::GroupExec;

/// A context that is about to come is waited for so long; then what it left here is taken away.
const INCOMING_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// So many messages wait for machines that come into memory.
const EARLY_MAX: usize = 64;

/// What a group's actor is told about a regroup.
pub enum RegroupMsg {
    /// Where does your log end, and which kept records have these contexts?
    Survey(Vec<ContextId>, oneshot::Sender<(Seq, Vec<Kept>)>),
    /// Let the log end no earlier than here; answers when that is committed.
    Pad(Seq, oneshot::Sender<Result<(), MoveFailure>>),
    /// Log these kept records of contexts that are about to come; answers when they are committed.
    Adopt(Vec<Record>, oneshot::Sender<Result<(), MoveFailure>>),
    /// Seal the log, and give the contexts' states.
    Seal(MoveOrder, Vec<ContextId>, oneshot::Sender<Result<Departure, MoveFailure>>),
    /// The regroup failed: thaw.
    Unseal(MoveId),
    /// Log the states of the contexts, freeze, and propose the regroup; answers when the directory has decided.
    Join(MoveOrder, Vec<(ContextId, Bytes)>, oneshot::Sender<Result<(), MoveFailure>>),
    /// These contexts will not come.
    Abandon(Vec<ContextId>),
}

/// The kept records of a context by the names that its machine has for them.
pub struct Kept {
    /// The context.
    pub context: ContextId,
    /// The names, in no order.
    pub names: Vec<Seq>,
    /// Where they are read.
    pub history: Arc<dyn History>,
}

/// What a sealed group gives.
pub struct Departure {
    /// The group as the regroup must find it.
    pub base: Base,
    /// The end of its log.
    pub sealed: Seq,
    /// The contexts' states.
    pub contexts: Vec<(ContextId, JoinState)>,
}

/// The regroup that this group is part of.
pub(super) enum Regrouping {
    /// The log is being sealed.
    Sealing { id: MoveId, contexts: Vec<ContextId>, reply: oneshot::Sender<Result<Departure, MoveFailure>> },
    /// It is sealed; the other group's actor has the word.
    Sealed { id: MoveId },
    /// Contexts join.
    Joining { id: MoveId, reply: oneshot::Sender<Result<(), MoveFailure>> },
}

impl Regrouping {
    fn id(&self) -> MoveId {
        match self {
            Self::Sealing { id, .. } | Self::Sealed { id } | Self::Joining { id, .. } => *id,
        }
    }
}

impl GroupExec {
    pub(super) fn on_regroup(&mut self, now: Mono, message: RegroupMsg) {
        if self.contexts.is_none() {
            // The machines are out of memory: it waits for them. One too many is dropped, and its sender tries again.
            self.want_contexts();
            if self.early.len() < EARLY_MAX {
                self.early.push_back(message);
            }
            return;
        }
        match message {
            RegroupMsg::Survey(contexts, reply) => {
                let kept = |context| {
                    let (names, history) = self.contexts.as_ref()?.kept(context)?;
                    Some(Kept { context, names, history })
                };
                let kept = contexts.into_iter().filter_map(kept).collect();
                let _gone = reply.send((self.replica.log().last(), kept));
            }
            RegroupMsg::Pad(upto, reply) => self.pad(now, upto, reply),
            RegroupMsg::Adopt(records, reply) => self.adopt(now, records, reply),
            RegroupMsg::Seal(order, contexts, reply) => {
                if self.is_changing() {
                    let _gone = reply.send(Err(MoveFailure::Busy));
                    return;
                }
                self.regrouping = Some(Regrouping::Sealing { id: order.id, contexts, reply });
                self.step(now, Input::Move(order));
            }
            RegroupMsg::Unseal(id) => self.step(now, Input::CancelMove(id)),
            RegroupMsg::Join(order, states, reply) => self.join(now, order, states, reply),
            RegroupMsg::Abandon(contexts) => self.incoming.retain(|c, _| !contexts.contains(c)),
        }
    }

    pub(super) fn is_changing(&self) -> bool {
        self.moving.is_some() || self.regrouping.is_some()
    }

    fn adopt(&mut self, now: Mono, records: Vec<Record>, reply: oneshot::Sender<Result<(), MoveFailure>>) {
        let mut last = None;
        for old in records {
            self.incoming.insert(old.context(), now + INCOMING_MAX);
            last = self.log_own_body(now, RecordKind::Adopt, old.context(), old.bytes());
            if last.is_none() {
                break;
            }
        }
        self.answer_when_committed(last, reply);
    }

    /// A context's records rise by place: those that it gets here come after those that it had (I4).
    fn pad(&mut self, now: Mono, upto: Seq, reply: oneshot::Sender<Result<(), MoveFailure>>) {
        let mut last = Some(self.replica.log().last());
        while last.is_some_and(|last| last < upto) {
            last = self.log_own_body(now, RecordKind::Noop, ContextId::default(), &[]);
        }
        self.answer_when_committed(last, reply);
    }

    fn answer_when_committed(&mut self, last: Option<Seq>, reply: oneshot::Sender<Result<(), MoveFailure>>) {
        match last {
            Some(seq) if seq <= self.replica.commit() => drop(reply.send(Ok(()))),
            Some(seq) => self.adopting.push_back((seq, reply)),
            None => drop(reply.send(Err(MoveFailure::Busy))),
        }
    }

    /// Batches whose last record is applied are answered.
    pub(super) fn adopted_upto(&mut self, seq: Seq) {
        while self.adopting.front().is_some_and(|(last, _)| *last <= seq)
            && let Some((_, reply)) = self.adopting.pop_front()
        {
            let _gone = reply.send(Ok(()));
        }
    }

    fn join(
        &mut self,
        now: Mono,
        order: MoveOrder,
        states: Vec<(ContextId, Bytes)>,
        reply: oneshot::Sender<Result<(), MoveFailure>>,
    ) {
        if self.is_changing() {
            let _gone = reply.send(Err(MoveFailure::Busy));
            return;
        }
        let Some(contexts) = &self.contexts else {
            let _gone = reply.send(Err(MoveFailure::Busy));
            return;
        };
        for (context, body) in &states {
            if let Err(e) = contexts.check_join(*context, body) {
                tracing::warn!(group = %self.group, %context, "a context cannot join: {e}");
                let _gone = reply.send(Err(MoveFailure::Refused));
                return;
            }
        }
        for (context, body) in &states {
            self.incoming.insert(*context, now + INCOMING_MAX);
            if self.log_own_body(now, RecordKind::Join, *context, body).is_none() {
                let _gone = reply.send(Err(MoveFailure::Busy));
                return;
            }
        }
        self.regrouping = Some(Regrouping::Joining { id: order.id, reply });
        self.step(now, Input::Move(order));
    }

    /// The log is sealed and everything in it applied.
    pub(super) fn on_sealed(&mut self, id: MoveId, base: Base, sealed: Seq) {
        match self.regrouping.take() {
            Some(Regrouping::Sealing { id: mine, contexts, reply }) if mine == id => {
                let machines = self.contexts.as_ref();
                let given = contexts.iter().map(|c| Some((*c, machines?.departing(*c)?))).collect::<Option<_>>();
                let departure = given.map(|contexts| Departure { base, sealed, contexts });
                self.regrouping = Some(Regrouping::Sealed { id });
                let whole = departure.is_some() && machines.is_some_and(|m| m.applied().seq == sealed);
                let answer = departure.filter(|_| whole).ok_or(MoveFailure::Refused);
                // Nobody waits, or nothing can be given: the machine thaws.
                if !whole || reply.send(answer).is_err() {
                    self.env.mail.send(super::GroupMsg::Regroup(RegroupMsg::Unseal(id)));
                }
            }
            other => self.regrouping = other,
        }
    }

    /// The end of a freeze for a regroup; false if it was a move.
    pub(super) fn on_regroup_ended(&mut self, id: MoveId, result: Result<(), MoveFailure>) -> bool {
        let Some(ended) = self.regrouping.take_if(|r| r.id() == id) else { return false };
        match ended {
            Regrouping::Sealing { reply, .. } => {
                let _gone = reply.send(Err(result.err().unwrap_or(MoveFailure::Cancelled)));
            }
            Regrouping::Sealed { .. } => {}
            Regrouping::Joining { reply, .. } => {
                self.regrouped = result.is_ok();
                let _gone = reply.send(result);
            }
        }
        true
    }

    pub(super) fn on_context_left(&mut self, context: ContextId) {
        tracing::info!(group = %self.group, %context, "the context belongs to another group now");
        self.incoming.remove(&context);
        self.regrouped = true;
    }

    /// Takes away what the log holds of contexts that belong elsewhere: those that left, and those whose coming failed. A
    /// regroup that would bring them may still be on its way (rule 9), so that a version of our own comes first.
    pub(super) fn clear_strays(&mut self, now: Mono) {
        if self.is_changing() || self.leaving_in_log || !self.gate.allows() {
            return;
        }
        self.incoming.retain(|_, until| now < *until);
        let strays: Vec<ContextId> =
            self.contexts.iter().flat_map(|c| c.strays()).filter(|c| !self.incoming.contains_key(c)).collect();
        let Some(base) = self.replica.placement().map(|p| p.base(self.group)).filter(|_| !strays.is_empty()) else {
            self.settling = None;
            return;
        };
        match self.settling {
            Some(before) if (before.epoch, before.version) != (base.epoch, base.version) => {
                self.settling = None;
                for context in strays {
                    self.leaving_in_log |= self.log_own(now, RecordKind::Leave, context, &[]);
                }
            }
            Some(_) => self.step(now, Input::Settle),
            None => {
                self.settling = Some(base);
                self.step(now, Input::Settle);
            }
        }
    }
}
