//! Passivation (DESIGN.md section 4): what nobody uses leaves memory, and comes back with the first message.
//!
//! ```text
//!            idle, or over the memory bound: checkpoint, then the actor ends
//!   active ------------------------------------------------------------------> passive
//!   (actor: machine, tail)                                    (replication machine as it was, next timer)
//!          <------------------------------------------------------------------
//!            a message, a read, a timer, news that ask for something
//! ```
//! The replication machine of a passive group is kept as it is: its reign goes on, no other node notices. An active group
//! acknowledges and moves without its context machines; these are read from the checkpoint, a few groups at a time, when a
//! client, a timer, an effect or a committed record wants them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::Entry as Slot;
use onemec_core::directory::Placement;
use onemec_core::group::{Input, Live, Position, Replica};
use onemec_core::time::Mono;
use onemec_wire::GroupId;
use parking_lot::Mutex;
use ractor::ActorId;
use tokio::sync::Semaphore;

use super::gate::GroupGate;
use super::group::{Fresh, GroupMsg, GroupStatus};
use super::{GroupRef, Inner, Runtime};

/// Idle groups are looked for so often; a timer of a passive group may be late by as much.
const SWEEP: Duration = Duration::from_millis(250);
/// So many groups are asked to leave in one sweep: each writes a checkpoint.
const LEAVE_MAX: usize = 64;

/// An actor says its state within this time.
const STATUS_MAX: Duration = Duration::from_secs(1);

/// When groups leave memory.
#[derive(Debug, Clone, Copy)]
pub struct MemoryOptions {
    /// A group that nobody used for so long leaves.
    pub passive_after: Duration,
    /// Contexts and tails in memory, roughly; beyond it the least recently used groups leave.
    pub bytes_max: usize,
    /// Groups that are read back at the same time.
    pub activations_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self { passive_after: Duration::from_secs(60), bytes_max: 512 << 20, activations_max: 16 }
    }
}

/// How many groups are where, for figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryFigures {
    /// Groups with an actor.
    pub active: usize,
    /// Groups that have left memory.
    pub passive: usize,
    /// Bytes of contexts and tails in memory, roughly.
    pub bytes: usize,
    /// Groups that came back since the start.
    pub activations: u64,
    /// Groups that left since the start.
    pub passivations: u64,
    /// Effects of groups led here that found no room in the outbox, since the start.
    pub effects_dropped: u64,
}

/// Use and size of an active group: written by its actor, read by the sweep.
#[derive(Debug, Default)]
pub struct Meter {
    used_ns: AtomicU64,
    bytes: AtomicUsize,
}

impl Meter {
    /// It was used.
    pub fn used(&self, now: Mono) {
        self.used_ns.store(now.0, Ordering::Relaxed);
    }
    /// Its size.
    pub fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// What must be known of contexts that are not in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asleep {
    /// Log time (milliseconds since 1970) of the next timer.
    pub next_timer: Option<u64>,
    /// Effects wait for delivery, or a context that has ended for the directory: a primary needs the machines at once.
    pub has_work: bool,
}

/// A group that has left memory.
#[derive(Clone)]
pub struct Passive {
    /// The replication machine as it was.
    pub replica: Replica,
    /// The checkpoint: all that was applied.
    pub checkpoint: Position,
    /// Latest log time that was given.
    pub last_time_ms: u64,
    /// Of its contexts.
    pub asleep: Option<Asleep>,
    /// The placement that it was told last.
    told: (u64, u64),
}

impl Passive {
    /// What an executor leaves behind.
    pub fn new(replica: Replica, checkpoint: Position, last_time_ms: u64, asleep: Option<Asleep>) -> Self {
        Self { replica, checkpoint, last_time_ms, asleep, told: (0, 0) }
    }

    /// Takes news that ask for nothing; `false`: they do, and nothing was changed.
    fn hears(&mut self, now: Mono, placement: Option<Placement>, live: Live) -> bool {
        let (mut replica, mut out) = (self.replica.clone(), Vec::new());
        replica.step(now, Input::Placement { placement, live }, &mut out);
        let quiet = out.is_empty() && replica.is_quiet(now);
        if quiet {
            self.replica = replica;
        }
        quiet
    }

    fn due(&self) -> Option<u64> {
        self.replica.leads().and(self.asleep?.next_timer)
    }

    fn status(&self, group: GroupId) -> GroupStatus {
        let contexts = self.replica.placement().map(|p| p.contexts.iter().map(|c| c.to_string()).collect());
        GroupStatus::of_machine(group, &self.replica, contexts.unwrap_or_default())
    }
}

/// A group on this node.
pub(super) enum Entry {
    Active(GroupRef),
    Passive(Box<Passive>),
}

impl Entry {
    pub(super) fn is_run_by(&self, actor: ActorId) -> bool {
        matches!(self, Self::Active(g) if g.mail.actor().get_id() == actor)
    }
}

/// The node's side of passivation.
pub(super) struct Memory {
    options: MemoryOptions,
    loads: Arc<Semaphore>,
    /// When which passive group has something to do. Changed under the group's entry.
    timers: Mutex<BTreeSet<(u64, GroupId)>>,
    activations: AtomicU64,
    passivations: AtomicU64,
    pub(super) effects_dropped: Arc<AtomicU64>,
}

impl Memory {
    pub(super) fn new(options: MemoryOptions) -> Self {
        Self {
            options,
            loads: Arc::new(Semaphore::new(options.activations_max.max(1))),
            timers: Mutex::default(),
            activations: AtomicU64::new(0),
            passivations: AtomicU64::new(0),
            effects_dropped: Arc::default(),
        }
    }
}

impl Runtime {
    /// Sends to a group's actor, bringing the group to life if need be. Nobody can put it to rest between the look and
    /// the sending.
    pub(super) fn tell_group(&self, group: GroupId, message: GroupMsg) {
        if let Some(entry) = self.inner.groups.get(&group)
            && let Entry::Active(g) = entry.value()
        {
            g.mail.send(message);
            return;
        }
        match self.wake(group) {
            Ok(g) => g.mail.send(message),
            Err(e) => self.cannot_start(group, &e),
        }
    }

    pub(super) fn cannot_start(&self, group: GroupId, error: &str) {
        // While the node stops, that is how it should be.
        if self.inner.stopped.load(Ordering::Acquire) {
            tracing::debug!(%group, "not started: {error}");
        } else {
            tracing::error!(%group, "cannot start: {error}");
        }
    }

    /// The actor of a group, started if need be.
    pub(super) fn wake(&self, group: GroupId) -> Result<GroupRef, String> {
        if self.inner.stopped.load(Ordering::Acquire) {
            return Err("the node is stopping".into());
        }
        let (placement, live) = self.news_of(group);
        match self.inner.groups.entry(group) {
            Slot::Occupied(mut slot) => match slot.get() {
                Entry::Active(g) => Ok(g.clone()),
                Entry::Passive(passive) => {
                    let passive = passive.as_ref().clone();
                    let (told, due) = (passive.told, passive.due());
                    let g = self.spawn_group(group, Some(passive))?;
                    slot.insert(Entry::Active(g.clone()));
                    let memory = &self.inner.memory;
                    if let Some(due) = due {
                        memory.timers.lock().remove(&(due, group));
                    }
                    memory.activations.fetch_add(1, Ordering::Relaxed);
                    *g.told.lock() = told;
                    // It missed who came and went; everything else it was told.
                    if let Some(placement) = placement {
                        g.tell_placement(Some(placement), live);
                    }
                    Ok(g)
                }
            },
            Slot::Vacant(slot) => {
                let g = self.spawn_group(group, None)?;
                slot.insert(Entry::Active(g.clone()));
                Ok(g)
            }
        }
    }

    pub(super) fn news_of(&self, group: GroupId) -> (Option<Placement>, Live) {
        let directory = self.inner.parts.directory.read();
        let placement = directory.group(group).cloned();
        let live = self.live(&directory, placement.as_ref());
        (placement, live)
    }

    /// Tells a group what the directory says of it. What changes nothing for a passive group does not wake it.
    pub(super) fn tell_placement(&self, group: GroupId, placement: Option<Placement>, live: Live) {
        if let Some(mut entry) = self.inner.groups.get_mut(&group)
            && let Entry::Passive(passive) = entry.value_mut()
            && passive.hears(self.inner.parts.clock.mono(), placement.clone(), live.clone())
        {
            passive.told = passive.told.max(version_of(placement.as_ref()));
            return;
        }
        match self.wake(group) {
            Ok(g) => g.tell_placement(placement, live),
            Err(e) => self.cannot_start(group, &e),
        }
    }

    /// Whether a group here is concerned when nodes come and go, although its placement is as it was.
    pub(super) fn is_concerned_by_nodes(&self, group: GroupId) -> bool {
        self.inner.groups.get(&group).is_some_and(|entry| match entry.value() {
            Entry::Active(_) => true,
            Entry::Passive(passive) => passive.replica.is_short(),
        })
    }

    /// The placement that a group was told last.
    pub(super) fn told_version(&self, group: GroupId) -> Option<(u64, u64)> {
        self.inner.groups.get(&group).map(|entry| match entry.value() {
            Entry::Active(g) => *g.told.lock(),
            Entry::Passive(passive) => passive.told,
        })
    }

    /// An idle group leaves: `false` if somebody wants something of it after all.
    pub(super) fn put_to_rest(&self, group: GroupId, actor: ActorId, mut passive: Passive) -> bool {
        let Slot::Occupied(mut slot) = self.inner.groups.entry(group) else { return false };
        let Entry::Active(g) = slot.get() else { return false };
        if g.mail.actor().get_id() != actor || !g.mail.is_empty() || g.gate.take_touched() {
            return false;
        }
        passive.told = *g.told.lock();
        let memory = &self.inner.memory;
        if let Some(due) = passive.due() {
            memory.timers.lock().insert((due, group));
        }
        memory.passivations.fetch_add(1, Ordering::Relaxed);
        slot.insert(Entry::Passive(Box::new(passive)));
        true
    }

    /// Waits until the machines of a group that is led here are in memory; `None`: not in time, or not led here.
    pub(super) async fn in_memory(&self, group: GroupId, deadline: Mono) -> Option<Arc<GroupGate>> {
        let active = || match self.inner.groups.get(&group).as_deref() {
            Some(Entry::Active(g)) => Some(g.gate.clone()),
            _ => None,
        };
        let gate = match active() {
            Some(gate) if gate.is_loaded() => return Some(gate),
            _ => {
                self.tell_group(group, GroupMsg::Wake);
                active()?
            }
        };
        let left = deadline.since(self.inner.parts.clock.mono());
        tokio::time::timeout(left, gate.loaded()).await.ok().map(|()| gate)
    }

    /// Reads the machines of a group from its checkpoint, as soon as fewer than the allowed number do so.
    pub(super) fn load(&self, group: GroupId, fresh: &Fresh) {
        let (runtime, fresh) = (self.clone(), fresh.clone());
        tokio::spawn(async move {
            let _permit = runtime.inner.memory.loads.clone().acquire_owned().await;
            let Some(store) = runtime.inner.parts.store.group(group) else { return };
            let read = tokio::task::spawn_blocking(move || {
                let mut contexts = fresh();
                if let Some((_, _, snapshot)) = store.snapshot().map_err(|e| e.to_string())? {
                    contexts.restore(&snapshot).map_err(|e| e.to_string())?;
                }
                Ok(Box::new(contexts))
            });
            let read = read.await.map_err(|e| e.to_string()).flatten();
            if let Some(entry) = runtime.inner.groups.get(&group)
                && let Entry::Active(g) = entry.value()
            {
                g.mail.send(GroupMsg::Loaded(read));
            }
        });
    }

    /// How many groups are where.
    pub fn memory(&self) -> MemoryFigures {
        let memory = &self.inner.memory;
        let mut figures = MemoryFigures {
            activations: memory.activations.load(Ordering::Relaxed),
            passivations: memory.passivations.load(Ordering::Relaxed),
            effects_dropped: memory.effects_dropped.load(Ordering::Relaxed),
            ..MemoryFigures::default()
        };
        for entry in &self.inner.groups {
            match entry.value() {
                Entry::Active(g) => {
                    figures.active += 1;
                    figures.bytes += g.meter.bytes.load(Ordering::Relaxed);
                }
                Entry::Passive(_) => figures.passive += 1,
            }
        }
        figures
    }

    /// The state of every group on this node. Wakes nobody.
    pub async fn status(&self) -> Vec<GroupStatus> {
        let groups: Vec<GroupId> = self.inner.groups.iter().map(|entry| *entry.key()).collect();
        let mut all = Vec::with_capacity(groups.len());
        for group in groups {
            all.extend(self.status_of(group, STATUS_MAX).await);
        }
        all
    }

    /// The state of a group, if it is here and its actor says so in time. Does not wake it.
    pub(super) async fn status_of(&self, group: GroupId, wait: Duration) -> Option<GroupStatus> {
        let mail = match self.inner.groups.get(&group)?.value() {
            Entry::Active(g) => g.mail.clone(),
            Entry::Passive(passive) => return Some(passive.status(group)),
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        mail.send(GroupMsg::Status(reply));
        tokio::time::timeout(wait, answer).await.ok()?.ok()
    }

    /// Looks for idle groups and for timers of passive ones, as long as the node runs.
    pub(super) fn start_sweeping(&self) {
        let weak = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = weak.upgrade() else { return };
                Self { inner }.sweep();
            }
        });
    }

    fn sweep(&self) {
        let Inner { memory, groups, parts, .. } = &*self.inner;
        let (now, wall_ms) = (parts.clock.mono(), parts.clock.wall_ms());
        let due: Vec<GroupId> =
            memory.timers.lock().range(..(wall_ms + 1, GroupId::default())).map(|(_, g)| *g).collect();
        for group in due {
            self.tell_group(group, GroupMsg::Wake);
        }
        let mut active = Vec::new();
        for entry in groups {
            let Entry::Active(g) = entry.value() else { continue };
            if g.gate.take_touched() {
                g.meter.used(now);
            }
            let used = Mono(g.meter.used_ns.load(Ordering::Relaxed));
            active.push((used, g.meter.bytes.load(Ordering::Relaxed), *entry.key()));
        }
        active.sort_unstable();
        let mut bytes: usize = active.iter().map(|(_, bytes, _)| bytes).sum();
        let mut leave = Vec::new();
        {
            let directory = parts.directory.read();
            for (used, size, group) in active {
                if leave.len() == LEAVE_MAX
                    || (now.since(used) < memory.options.passive_after && bytes <= memory.options.bytes_max)
                {
                    break;
                }
                // What hangs on a CSEBase is asked for by every registration: it stays.
                let stays = directory
                    .group(group)
                    .is_none_or(|p| p.contexts.iter().any(|c| directory.context(*c).is_none_or(|entry| entry.pinned)));
                if !stays {
                    bytes = bytes.saturating_sub(size);
                    leave.push(group);
                }
            }
        }
        for group in leave {
            if let Some(entry) = groups.get(&group)
                && let Entry::Active(g) = entry.value()
            {
                // Asked again after as long, if it cannot leave now.
                g.meter.used(now);
                g.mail.send(GroupMsg::Rest);
            }
        }
    }
}

pub(super) fn version_of(placement: Option<&Placement>) -> (u64, u64) {
    placement.map_or((u64::MAX, u64::MAX), |p| (p.epoch.0, p.version.0))
}
