//! Contexts come from and go to other groups (rule 16). What travels: kept records one by one (`Adopt`), then per context
//! one `Join` with everything else. Until the directory says that a context belongs here it is not served, has no timers and
//! sends nothing; if it never does, a `Leave` takes it away again. All of it is ordinary log, so every replica does the same.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::codec::{self, Decode, Encode};
use onemec_wire::{ContextId, Record, Seq};

use super::adopted::Adopted;
use super::outbox::ContextOutbox;
use super::repeat::Repeats;
use super::{Applied, GroupContexts, Slot};
use crate::context::{BadSnapshot, ContextKind, History};

const JOIN_VERSION: u16 = 2;

/// A context as it leaves a sealed group: the body of a `Join` record.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct JoinState {
    version: u16,
    kind: ContextKind,
    machine: Vec<u8>,
    /// The kept records that the machine refers to, by its names.
    kept: Vec<Seq>,
    /// Its group's first answers: a repetition finds them in the new group (I3).
    repeats: Repeats,
    /// Effects that wait.
    outbox: ContextOutbox,
    ended: bool,
    time_ms: u64,
}

impl JoinState {
    /// The body for the record.
    pub fn encode(&self) -> Result<Bytes, codec::CodecError> {
        codec::encode_state(self)
    }

    /// The kept records that the context refers to, by its names.
    pub fn kept(&self) -> &[Seq] {
        &self.kept
    }

    fn decode(bytes: &[u8]) -> Result<Self, BadSnapshot> {
        let state: Self = codec::decode_state(bytes).map_err(|e| BadSnapshot(e.to_string()))?;
        if state.version == JOIN_VERSION { Ok(state) } else { Err(BadSnapshot("a version not known here".into())) }
    }
}

impl GroupContexts {
    /// Which contexts belong to the group, by the directory: others that the log holds are on their way in or out.
    pub fn set_members(&mut self, members: impl IntoIterator<Item = ContextId>) {
        self.members = Some(members.into_iter().collect());
        self.show();
    }

    pub(super) fn is_member(&self, context: ContextId) -> bool {
        self.members.as_ref().is_none_or(|m| m.contains(&context))
    }

    /// Tells every machine whether it is served.
    pub(super) fn show(&mut self) {
        let (serving, members) = (self.serving, &self.members);
        for (context, slot) in &mut self.slots {
            let shown = serving && members.as_ref().is_none_or(|m| m.contains(context));
            if shown != slot.shown {
                slot.shown = shown;
                slot.machine.serving(shown);
            }
        }
    }

    /// Contexts that the log holds and the directory counts elsewhere, or nowhere.
    pub fn strays(&self) -> Vec<ContextId> {
        let adopted = self.adopted.keys().filter(|c| !self.slots.contains_key(c));
        let held = self.slots.keys().chain(adopted).copied();
        held.filter(|c| !self.is_member(*c) && !self.ended.contains(c)).collect()
    }

    /// What a context refers to in the history, by its own names, and the history that knows them.
    pub fn kept(&self, context: ContextId) -> Option<(Vec<Seq>, Arc<dyn History>)> {
        let slot = self.slots.get(&context)?;
        Some((slot.machine.kept(), self.history_of(context)))
    }

    pub(super) fn history_of(&self, context: ContextId) -> Arc<dyn History> {
        match self.adopted.get(&context) {
            Some(adopted) => adopted.history(self.history.clone()),
            None => self.history.clone(),
        }
    }

    /// A context of a sealed group, for another one.
    pub fn departing(&self, context: ContextId) -> Option<JoinState> {
        let slot = self.slots.get(&context)?;
        Some(JoinState {
            version: JOIN_VERSION,
            kind: slot.kind,
            machine: slot.machine.snapshot().to_vec(),
            kept: slot.machine.kept(),
            repeats: self.repeats.clone(),
            outbox: self.outbox.of(context),
            ended: self.ended.contains(&context),
            time_ms: self.time_ms,
        })
    }

    /// Would the context be whole here? Asked before its `Join` is logged: what is in the log must be applied.
    pub fn check_join(&self, context: ContextId, body: &Bytes) -> Result<(), BadSnapshot> {
        let state = JoinState::decode(body)?;
        let here = |old: &Seq| self.adopted.get(&context).is_some_and(|a| a.contains(*old));
        if !state.kept.iter().all(here) {
            return Err(BadSnapshot("not all kept records are here".into()));
        }
        let factory = self.factories.get(&state.kind).ok_or_else(|| BadSnapshot("no factory".into()))?;
        factory.restore(self.env(context, state.kind), &Bytes::from(state.machine)).map(drop)
    }

    pub(super) fn apply_adopt(&mut self, record: &Record, applied: &mut Applied) {
        let Ok((old, _)) = Record::parse(&record.body()) else { return };
        let adopted = self.adopted.entry(record.context()).or_default();
        applied.released.extend(adopted.insert(old.seq(), record.seq()));
        applied.keep = true;
    }

    pub(super) fn apply_join(&mut self, record: &Record, applied: &mut Applied) {
        let context = record.context();
        // The primary has checked it (`check_join`).
        let Ok(state) = JoinState::decode(&record.body()) else { return };
        let Some(factory) = self.factories.get(&state.kind).cloned() else { return };
        let kept: BTreeSet<Seq> = state.kept.into_iter().collect();
        let places = self.adopted.remove(&context).map(|a| a.places()).unwrap_or_default();
        let (kept, released): (Vec<_>, Vec<_>) = places.into_iter().partition(|(old, _)| kept.contains(old));
        self.adopted.insert(context, Adopted::new(record.seq(), kept));
        let Ok(machine) = factory.restore(self.env(context, state.kind), &Bytes::from(state.machine)) else { return };
        applied.released.extend(released.into_iter().map(|(_, here)| here));
        self.slots.insert(context, Slot { kind: state.kind, machine, shown: false });
        self.time_ms = self.time_ms.max(state.time_ms);
        self.repeats.merge(state.repeats);
        self.outbox.put(context, state.outbox);
        if state.ended {
            self.ended.insert(context);
        }
        self.show();
    }

    pub(super) fn apply_leave(&mut self, record: &Record, applied: &mut Applied) {
        let context = record.context();
        let adopted = self.adopted.remove(&context);
        let joined = adopted.as_ref().map_or(Seq(0), |a| a.joined);
        applied.released.extend(adopted.into_iter().flat_map(|a| a.places()).map(|(_, here)| here));
        if let Some(mut slot) = self.slots.remove(&context) {
            applied.released.extend(slot.machine.kept().into_iter().filter(|s| *s > joined));
            slot.machine.serving(false);
        }
        self.outbox.drop_lanes_of(context);
        self.ended.remove(&context);
    }
}
