//! One context of the in-memory cluster: its machine, its log and its kept records.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use onemec_core::context::{Answer, Effect, EffectId, Env, Gate, History, Machine, MachineFactory, Op, Outcome};
use onemec_wire::record::{Record, RecordKind, RecordMeta};
use onemec_wire::{ContextId, Epoch, Seq};
use parking_lot::{Mutex, RwLock};

#[derive(Debug)]
pub(super) struct OpenGate {
    open: AtomicBool,
    epoch: AtomicU64,
}

impl Default for OpenGate {
    fn default() -> Self {
        Self { open: AtomicBool::new(true), epoch: AtomicU64::new(1) }
    }
}

impl Gate for OpenGate {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }
    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}

/// Kept records.
#[derive(Default)]
pub(super) struct MemoryHistory(RwLock<HashMap<Seq, Record>>);

impl History for MemoryHistory {
    fn record(&self, seq: Seq) -> Option<Record> {
        self.0.read().get(&seq).cloned()
    }
}

/// What applying a record brought.
#[derive(Default)]
pub(super) struct Applied {
    pub(super) answer: Answer,
    pub(super) effects: Vec<(EffectId, Effect)>,
    pub(super) finished: bool,
}

struct State {
    env: Env,
    machine: Box<dyn Machine>,
    gate: Arc<OpenGate>,
    seq: Seq,
    time_ms: u64,
    log: Vec<Record>,
    answers: HashMap<(String, String), (u64, Answer)>,
    finished: bool,
}

pub(super) struct Slot {
    context: ContextId,
    history: Arc<MemoryHistory>,
    state: Mutex<State>,
    pub(super) lanes: super::outbox::Lanes,
}

impl Slot {
    pub(super) fn new(env: Env, machine: Box<dyn Machine>, gate: Arc<OpenGate>, history: Arc<MemoryHistory>) -> Self {
        let context = env.context;
        let state = State {
            env,
            machine,
            gate,
            seq: Seq(0),
            time_ms: 0,
            log: Vec::new(),
            answers: HashMap::new(),
            finished: false,
        };
        Self { context, history, state: Mutex::new(state), lanes: super::outbox::Lanes::default() }
    }

    pub(super) fn context(&self) -> ContextId {
        self.context
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        self.state.lock().machine.next_timer()
    }

    pub(super) fn serve(&self, primary: bool) {
        self.state.lock().machine.serving(primary);
    }

    /// Admits and applies one operation; `None` if the context has ended.
    pub(super) fn write(
        &self,
        kind: RecordKind,
        now_ms: u64,
        op: &Op,
        repeat: Option<&onemec_core::context::RepeatKey>,
    ) -> Option<Applied> {
        let mut state = self.state.lock();
        if state.finished {
            return None;
        }
        if let Some(r) = repeat
            && let Some((_, answer)) = state.answers.get(&(r.originator.clone(), r.request.clone()))
        {
            return Some(Applied { answer: answer.clone(), ..Applied::default() });
        }
        if kind == RecordKind::Operation
            && let Err(answer) = state.machine.admit(now_ms, op)
        {
            return Some(Applied { answer, ..Applied::default() });
        }
        let applied = self.apply(&mut state, kind, now_ms, op)?;
        if let Some(r) = repeat {
            state.answers.insert((r.originator.clone(), r.request.clone()), (r.expires_ms, applied.answer.clone()));
        }
        Some(applied)
    }

    pub(super) fn run_timers(&self, now_ms: u64) -> Applied {
        let mut state = self.state.lock();
        if state.finished {
            return Applied::default();
        }
        self.apply(&mut state, RecordKind::Timers, now_ms, &Op::default()).unwrap_or_default()
    }

    fn apply(&self, state: &mut State, kind: RecordKind, now_ms: u64, op: &Op) -> Option<Applied> {
        state.seq = state.seq.next();
        state.time_ms = state.time_ms.max(now_ms);
        let meta = RecordMeta {
            kind,
            group: state.env.group,
            context: self.context,
            epoch: state.gate.epoch(),
            seq: state.seq,
            time_ms: state.time_ms,
        };
        let record = Record::build(meta, &op.head, &op.body).ok()?;
        state.log.push(record.clone());
        let mut outcome = Outcome::default();
        // As in the runtime, the record is readable before the machine publishes what points to it.
        self.history.0.write().insert(record.seq(), record.clone());
        let answer = if kind == RecordKind::Timers {
            state.machine.run_timers(&record, &mut outcome);
            Answer::default()
        } else {
            state.machine.apply(&record, op, &mut outcome)
        };
        let mut kept = self.history.0.write();
        if !outcome.keep {
            kept.remove(&record.seq());
        }
        for seq in &outcome.released {
            kept.remove(seq);
        }
        drop(kept);
        state.finished = outcome.finished;
        if outcome.finished {
            state.machine.serving(false);
        }
        let effects = outcome
            .effects
            .into_iter()
            .zip(0u32..)
            .map(|(e, ordinal)| (EffectId { context: self.context, seq: record.seq(), ordinal }, e))
            .collect();
        Some(Applied { answer, effects, finished: outcome.finished })
    }

    /// Replaces the machine by one restored from its snapshot at another node.
    pub(super) fn transfer(&self, factory: &dyn MachineFactory) -> Result<(), String> {
        let mut state = self.state.lock();
        state.machine.serving(false);
        state.gate.open.store(false, Ordering::Release);
        let snapshot = state.machine.snapshot();
        let gate = Arc::new(OpenGate::default());
        gate.epoch.store(state.gate.epoch.load(Ordering::Acquire) + 1, Ordering::Release);
        let mut env = state.env.clone();
        env.gate = gate.clone();
        let machine = factory.restore(env.clone(), &snapshot).map_err(|e| e.to_string())?;
        (state.env, state.machine, state.gate) = (env, machine, gate);
        state.machine.serving(true);
        Ok(())
    }

    pub(super) fn dump(&self) -> (Bytes, Vec<Record>) {
        let state = self.state.lock();
        (state.machine.snapshot(), state.log.clone())
    }

    pub(super) fn forget_log(&self) {
        self.state.lock().log = Vec::new();
    }

    /// Kept records, for memory figures.
    pub(super) fn kept(&self) -> usize {
        self.history.0.read().len()
    }
}
