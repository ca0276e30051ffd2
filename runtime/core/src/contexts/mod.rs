//! The contexts of one group on one node: applies committed records to their machines, keeps what the runtime promises
//! beside them (first answers of repeatable requests, the outbox), takes and reads snapshots. Pure and deterministic: the
//! same records give the same state on every replica.

mod adopted;
mod head;
mod outbox;
mod regroup;
mod repeat;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::codec::{self, Decode, Encode};
use onemec_wire::{ContextId, GroupId, Record, RecordKind, Seq};

use self::adopted::Adopted;
pub use self::head::OpHead;
use self::outbox::Outbox;
pub use self::outbox::{CONTEXT_BYTES_MAX as OUTBOX_BYTES_MAX, Lane};
pub use self::regroup::JoinState;
pub use self::repeat::REPEATS_MAX;
use self::repeat::Repeats;
use crate::context::{
    Answer, BadSnapshot, ContextKind, Effect, EffectId, Env, Gate, History, Machine, MachineFactory, Op, Outcome,
    RepeatKey,
};
use crate::group::Position;

/// The factories of a node by kind.
pub type Factories = BTreeMap<ContextKind, Arc<dyn MachineFactory>>;

/// What became of a record.
#[derive(Debug, Default)]
pub struct Applied {
    /// The answer for the client that waits for this record.
    pub answer: Option<Answer>,
    /// The record's body stays readable.
    pub keep: bool,
    /// Kept records that may go.
    pub released: Vec<Seq>,
    /// The context has come to its end (rule 13).
    pub finished: Option<ContextId>,
    /// Effects that found no room in the outbox, or had to give it up (I8): they will never be delivered.
    pub dropped_effects: u32,
}

/// Why an operation is not logged.
#[derive(Debug)]
pub enum Admission {
    /// The machine refuses it; the answer goes to the client.
    Refused(Answer),
    /// A repeatable request that was answered before: the first answer again.
    Repeated(Answer),
    /// The mark's expiry lies outside the window, or too many answers are kept.
    RepeatWindow,
    /// The group has no such context here.
    NoContext,
}

struct Slot {
    kind: ContextKind,
    machine: Box<dyn Machine>,
    /// The machine was told that it is served.
    shown: bool,
}

/// See the module's documentation. Legal order: `apply` with rising sequence numbers; anything else between.
pub struct GroupContexts {
    group: GroupId,
    factories: Arc<Factories>,
    history: Arc<dyn History>,
    gate: Arc<dyn Gate>,
    slots: BTreeMap<ContextId, Slot>,
    /// Kept records of contexts that came, or are coming, from another group.
    adopted: BTreeMap<ContextId, Adopted>,
    /// The contexts that belong to the group by the directory; not replicated.
    members: Option<BTreeSet<ContextId>>,
    applied: Position,
    time_ms: u64,
    repeats: Repeats,
    outbox: Outbox,
    /// Contexts whose final record was applied and that the directory has not removed yet (rule 13).
    ended: BTreeSet<ContextId>,
    serving: bool,
}

#[derive(Default, Encode, Decode)]
struct Snapshot {
    version: u16,
    applied: Position,
    time_ms: u64,
    contexts: Vec<(ContextId, ContextKind, Vec<u8>)>,
    repeats: Repeats,
    outbox: Outbox,
    ended: BTreeSet<ContextId>,
    /// Context, where it joined, and where its adopted records lie.
    adopted: Vec<(ContextId, Seq, Places)>,
}

/// Places of records in a giving group's log and in the taking group's own.
type Places = Vec<(Seq, Seq)>;

const SNAPSHOT_VERSION: u16 = 3;

impl GroupContexts {
    /// A group without contexts and without history.
    pub fn new(group: GroupId, factories: Arc<Factories>, history: Arc<dyn History>, gate: Arc<dyn Gate>) -> Self {
        Self {
            group,
            factories,
            history,
            gate,
            slots: BTreeMap::new(),
            adopted: BTreeMap::new(),
            members: None,
            applied: Position::default(),
            time_ms: 0,
            repeats: Repeats::default(),
            outbox: Outbox::default(),
            ended: BTreeSet::new(),
            serving: false,
        }
    }

    /// The snapshot of a group without contexts whose log begins after `at`.
    pub fn empty_at(at: Position) -> Result<Bytes, codec::CodecError> {
        codec::encode_state(&Snapshot { version: SNAPSHOT_VERSION, applied: at, ..Snapshot::default() })
    }

    /// Replaces the whole state by a snapshot's; on error nothing was changed.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), BadSnapshot> {
        let bad = |e: String| BadSnapshot(e);
        let snapshot: Snapshot = codec::decode_state(bytes).map_err(|e| bad(e.to_string()))?;
        if snapshot.version != SNAPSHOT_VERSION {
            return Err(bad(format!("version {} is not known here", snapshot.version)));
        }
        let adopted = snapshot.adopted.into_iter().map(|(c, joined, places)| (c, Adopted::new(joined, places)));
        let before = std::mem::replace(&mut self.adopted, adopted.collect());
        let mut slots = BTreeMap::new();
        for (context, kind, state) in snapshot.contexts {
            let restored = match self.factories.get(&kind) {
                Some(factory) => factory.restore(self.env(context, kind), &Bytes::from(state)),
                None => Err(bad(format!("no factory for {kind:?}"))),
            };
            match restored {
                Ok(machine) => drop(slots.insert(context, Slot { kind, machine, shown: false })),
                Err(e) => {
                    self.adopted = before;
                    return Err(e);
                }
            }
        }
        for slot in self.slots.values_mut() {
            slot.machine.serving(false);
        }
        self.slots = slots;
        self.applied = snapshot.applied;
        self.time_ms = snapshot.time_ms;
        self.repeats = snapshot.repeats;
        self.outbox = snapshot.outbox;
        self.ended = snapshot.ended;
        self.show();
        Ok(())
    }

    /// The whole state but for bodies of kept records.
    pub fn snapshot(&self) -> Result<Bytes, codec::CodecError> {
        let contexts = self.slots.iter().map(|(id, s)| (*id, s.kind, s.machine.snapshot().to_vec())).collect();
        codec::encode_state(&Snapshot {
            version: SNAPSHOT_VERSION,
            applied: self.applied,
            time_ms: self.time_ms,
            contexts,
            repeats: self.repeats.clone(),
            outbox: self.outbox.clone(),
            ended: self.ended.clone(),
            adopted: self.adopted.iter().map(|(c, a)| (*c, a.joined, a.places())).collect(),
        })
    }

    fn env(&self, context: ContextId, kind: ContextKind) -> Env {
        Env { group: self.group, context, kind, history: self.history_of(context), gate: self.gate.clone() }
    }

    /// The last applied record's position.
    pub fn applied(&self) -> Position {
        self.applied
    }
    /// The log's own time: the largest of any applied record.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }
    /// Bytes of memory that the machines take, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.slots.values().map(|s| s.machine.memory_bytes()).sum::<usize>()
            + 256 * self.repeats.len()
            + self.outbox.bytes()
    }
    /// Is the context here?
    pub fn contains(&self, context: ContextId) -> bool {
        self.slots.contains_key(&context)
    }
    /// The contexts that belong to the group, and their kinds.
    pub fn contexts(&self) -> impl Iterator<Item = (ContextId, ContextKind)> + '_ {
        self.slots.iter().filter(|(id, _)| self.is_member(**id)).map(|(id, s)| (*id, s.kind))
    }
    /// Contexts whose end the directory does not know yet: a new primary proposes again (rule 13).
    pub fn ended(&self) -> impl Iterator<Item = ContextId> + '_ {
        self.ended.iter().copied()
    }
    /// Effects that wait.
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }
    /// Bytes that they take; at most [`OUTBOX_BYTES_MAX`] per context, or twice that if required ones wait.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.bytes()
    }
    /// First effects of every lane.
    pub fn outbox_heads(&self) -> impl Iterator<Item = (Lane, EffectId, Effect)> + '_ {
        self.outbox.heads().filter(|((context, _), _, _)| self.is_member(*context) || self.ended_here(*context))
    }
    /// Does anything wait for delivery?
    pub fn outbox_is_empty(&self) -> bool {
        self.outbox_heads().next().is_none()
    }

    /// What a context that has ended still wanted to say is said; what one that is on its way in or out wants is not.
    fn ended_here(&self, context: ContextId) -> bool {
        !self.slots.contains_key(&context) && !self.adopted.contains_key(&context)
    }

    /// The node begins or stops to serve the group.
    pub fn serve(&mut self, primary: bool) {
        if self.serving != primary {
            self.serving = primary;
            self.show();
        }
    }

    /// Looks at an operation before it gets a place in the log. `window_ms`: a repeat mark may expire no later than this
    /// from now.
    pub fn admit(
        &self,
        context: ContextId,
        now_ms: u64,
        op: &Op,
        repeat: Option<&RepeatKey>,
        window_ms: u64,
    ) -> Result<(), Admission> {
        let slot = self.slots.get(&context).filter(|_| self.is_member(context)).ok_or(Admission::NoContext)?;
        if let Some(key) = repeat {
            if let Some(answer) = self.repeats.answer(key) {
                return Err(Admission::Repeated(answer));
            }
            let now = now_ms.max(self.time_ms);
            let window = now..=now.saturating_add(window_ms);
            if !window.contains(&key.expires_ms) || self.repeats.len() >= REPEATS_MAX {
                return Err(Admission::RepeatWindow);
            }
        }
        slot.machine.admit(now_ms, op).map_err(Admission::Refused)
    }

    /// When the next timer of any context is due, in log time, and whose it is.
    pub fn next_timer(&self) -> Option<(u64, ContextId)> {
        let ours = self.slots.iter().filter(|(id, _)| self.is_member(**id));
        ours.filter_map(|(id, s)| Some((s.machine.next_timer()?, *id))).min()
    }

    /// Applies the next committed record.
    pub fn apply(&mut self, record: &Record) -> Applied {
        assert!(record.seq() == self.applied.seq.next(), "records are applied in order, each once");
        self.applied = Position { epoch: record.epoch(), seq: record.seq() };
        self.time_ms = self.time_ms.max(record.time_ms());
        let mut applied = Applied::default();
        match record.kind() {
            RecordKind::Noop | RecordKind::DeleteContext => {}
            RecordKind::OutboxCursor => {
                // A cursor that cannot be read moves nothing: effects are then delivered again, which is allowed.
                let ids: Vec<EffectId> = codec::decode(&record.head()).unwrap_or_default();
                ids.into_iter().for_each(|id| self.outbox.delivered(id));
            }
            RecordKind::Timers => {
                let mut outcome = Outcome::default();
                if let Some(slot) = self.slots.get_mut(&record.context()) {
                    slot.machine.run_timers(record, &mut outcome);
                }
                self.repeats.expire(self.time_ms);
                self.absorb(record, outcome, &mut applied);
            }
            RecordKind::CreateContext | RecordKind::Operation => self.apply_operation(record, &mut applied),
            RecordKind::Adopt => self.apply_adopt(record, &mut applied),
            RecordKind::Join => self.apply_join(record, &mut applied),
            RecordKind::Leave => self.apply_leave(record, &mut applied),
        }
        applied
    }

    fn apply_operation(&mut self, record: &Record, applied: &mut Applied) {
        let creates = record.kind() == RecordKind::CreateContext;
        // The primary built the head; one that cannot be read was never acknowledged by anybody.
        let Ok(head) = OpHead::decode(&record.head(), creates) else { return };
        let context = record.context();
        if let Some(kind) = head.create
            && !self.slots.contains_key(&context)
            && let Some(factory) = self.factories.get(&kind)
        {
            let machine = factory.create(self.env(context, kind));
            self.slots.insert(context, Slot { kind, machine, shown: false });
            self.show();
        }
        if let Some(answer) = head.repeat.as_ref().and_then(|key| self.repeats.answer(key)) {
            // I3: the same repeatable request got into the log twice (two hosts, a retry in flight): applied once.
            applied.answer = Some(answer);
            return;
        }
        let Some(slot) = self.slots.get_mut(&context) else { return };
        let mut outcome = Outcome::default();
        let answer = slot.machine.apply(record, &Op { head: head.head, body: record.body() }, &mut outcome);
        if let Some(key) = head.repeat {
            self.repeats.expire(self.time_ms);
            self.repeats.insert(key, &answer);
        }
        applied.answer = Some(answer);
        self.absorb(record, outcome, applied);
    }

    fn absorb(&mut self, record: &Record, outcome: Outcome, applied: &mut Applied) {
        applied.dropped_effects = self.outbox.push(record.context(), record.seq(), &outcome.effects);
        applied.keep = outcome.keep;
        applied.released = match self.adopted.get(&record.context()) {
            Some(adopted) => outcome.released.into_iter().filter_map(|s| adopted.release(s)).collect(),
            None => outcome.released,
        };
        if outcome.finished {
            self.ended.insert(record.context());
            applied.finished = Some(record.context());
        }
    }

    /// The directory has removed a context: its machine goes. Returns whether effects of it still wait.
    pub fn remove(&mut self, context: ContextId) -> bool {
        if let Some(mut slot) = self.slots.remove(&context) {
            slot.machine.serving(false);
        }
        self.ended.remove(&context);
        self.adopted.remove(&context);
        self.outbox.lanes_of(context) > 0
    }
}
