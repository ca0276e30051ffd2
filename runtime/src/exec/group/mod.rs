//! The executor of one group on this node: an actor around the pure [`Replica`] and [`GroupContexts`].
//!
//! Everything here is synchronous and bounded; whatever waits (disk, network, deliveries) is started and comes back as a
//! message. One message is handled at a time, so there are no locks.
//!
//! The machines may be away (`contexts` is `None`): the replica stores, acknowledges, takes over and moves without them;
//! operations are parked until they are here.

pub mod actor;
mod carry;
mod commit;
mod dangling;
mod memory;
pub mod regroup;
mod work;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use onemec_core::context::{Answer, ContextKind, EffectId, Op, RepeatKey};
use onemec_core::contexts::{Admission, GroupContexts, Lane, OpHead};
use onemec_core::directory::{Base, Placement};
use onemec_core::group::{
    Goal, GroupBody, GroupMessage, Input, Live, MoveFailure, MoveId, MoveOrder, NotNow, Position, Replica,
};
use onemec_core::time::Mono;
use onemec_wire::record::RecordMeta;
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, Record, RecordKind, Seq};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::body::MoveTimes;
use super::clock::Clock;
use super::gate::GroupGate;
use super::halt::{Point, reached};
use super::mailbox::Mailbox;
use super::passive::{Asleep, Meter, Passive};
use super::ports::GroupNet;
use super::{Deliverer, GroupLimits};
use crate::audit::Audit;
use crate::store::append::Fatal;
use crate::store::group::GroupStore;

pub use self::commit::WriteReply;

/// What a group's actor is told.
pub enum GroupMsg {
    /// The directory's word.
    Placement(Option<Placement>, Live),
    /// A peer's message, with the records that came along.
    Peer(Member, GroupMessage, Vec<Record>),
    /// A connection came up.
    Connected(Member),
    /// An operation.
    Write(Write),
    /// The disk holds the log up to here.
    Synced {
        /// `Replica::cuts` when the sync was asked for.
        cuts: u64,
        /// The last record at that moment.
        upto: Seq,
    },
    /// A history was sent, or not.
    HistorySent {
        /// To whom.
        to: Member,
        /// What it holds now.
        held: Option<Position>,
        /// Bytes that were sent.
        bytes: u64,
    },
    /// A history was received and is stored.
    Installed {
        /// Its place.
        base: Position,
        /// The sender's epoch.
        epoch: Epoch,
        /// The sender.
        from: Member,
        /// The machines' state.
        snapshot: bytes::Bytes,
    },
    /// Would a history of this place and epoch be taken? Asked before anything is replaced.
    WantsHistory(Position, Epoch, oneshot::Sender<bool>),
    /// A snapshot is on disk.
    SnapshotSaved(Option<Position>),
    /// The directory refused a proposal.
    Refused(Base),
    /// Time has passed.
    Tick,
    /// Move the group. The span is the parent of those of its states.
    Move(MoveOrder, tracing::Span, oneshot::Sender<Result<MoveTimes, MoveFailure>>),
    /// Part of a regroup (rule 16).
    Regroup(regroup::RegroupMsg),
    /// An effect was delivered; perhaps the context is to hear of it.
    Delivered(EffectId, Lane, Option<Op>),
    /// An effect could not be delivered, and when the receiver wants it again.
    Undelivered(Lane, Option<Duration>),
    /// What state are you in?
    Status(oneshot::Sender<GroupStatus>),
    /// Somebody wants to read: the machines are to come into memory.
    Wake,
    /// The machines as the checkpoint has them.
    Loaded(Result<Box<GroupContexts>, String>),
    /// Nobody used the group for long, or memory is short: leave it if nothing is under way.
    Rest,
}

/// An operation on its way into the log.
pub struct Write {
    /// The context.
    pub context: ContextId,
    /// Set for the operation that creates the context.
    pub create: Option<ContextKind>,
    /// The operation.
    pub op: Op,
    /// Set for repeatable requests.
    pub repeat: Option<RepeatKey>,
    /// It came in at this node at this moment.
    pub received: Mono,
    /// The caller waits until then.
    pub deadline: Mono,
    /// Where the answer goes.
    pub reply: oneshot::Sender<WriteReply>,
    /// The byte permit taken at the front door travels with the operation to its acknowledgement (I8).
    pub permit: Option<OwnedSemaphorePermit>,
}

/// A group for people.
#[derive(Debug, Clone, serde::Serialize)]
pub struct GroupStatus {
    /// Its id.
    pub group: String,
    /// `primary` or `replica`.
    pub role: &'static str,
    /// `active`: in memory; `waking`: without its machines, which come when they are wanted; `passive`: out of memory.
    pub memory: &'static str,
    /// Epoch of the reign, or the newest seen.
    pub epoch: u64,
    /// Gate open, lease valid.
    pub serving: bool,
    /// Last record, committed, synced here.
    pub last: u64,
    /// Committed up to here.
    pub committed: u64,
    /// On this node's disk up to here.
    pub synced: u64,
    /// Operations that wait for their commitment.
    pub waiting: usize,
    /// Operations that are parked.
    pub parked: usize,
    /// Effects that wait for delivery.
    pub outbox: usize,
    /// Bytes that they take.
    pub outbox_bytes: usize,
    /// Replicas: node, held, synced.
    pub replicas: Vec<(u64, u64, u64)>,
    /// Contexts.
    pub contexts: Vec<String>,
    /// A move is under way.
    pub moving: bool,
}

impl GroupStatus {
    /// What the replication machine says: all that is known of a passive group.
    pub fn of_machine(group: GroupId, replica: &Replica, contexts: Vec<String>) -> Self {
        let log = replica.log();
        Self {
            group: group.to_string(),
            role: if replica.leads().is_some() { "primary" } else { "replica" },
            memory: "passive",
            epoch: replica.leads().unwrap_or(replica.seen()).0,
            serving: replica.is_open(),
            last: log.last().0,
            committed: replica.commit().0,
            synced: log.synced().0,
            waiting: 0,
            parked: 0,
            outbox: 0,
            outbox_bytes: 0,
            replicas: replica.peers().map(|(m, h, s)| (m.node.0, h.0, s.0)).collect(),
            contexts,
            moving: false,
        }
    }
}

/// An operation that has its place and waits for the commit point.
struct Waiting {
    seq: Seq,
    context: ContextId,
    received: Mono,
    deadline: Mono,
    reply: oneshot::Sender<WriteReply>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// An answer that may not leave: the lease has run out, or the context's end is not in the directory yet.
struct Held {
    answer: Answer,
    deadline: Mono,
    /// Waits for the directory to remove this context.
    until_gone: Option<ContextId>,
    epoch: Epoch,
    seq: Seq,
    context: ContextId,
    received: Mono,
    reply: oneshot::Sender<WriteReply>,
}

struct MoveWatch {
    id: MoveId,
    ordered: Mono,
    frozen: Option<Mono>,
    proposed: Option<Mono>,
    parked: u32,
    target: Option<Member>,
    bytes: u64,
    parent: tracing::Span,
    /// Of the state that it is in.
    _span: tracing::Span,
    reply: oneshot::Sender<Result<MoveTimes, MoveFailure>>,
}

/// Makes a group without contexts and history.
pub type Fresh = Arc<dyn Fn() -> GroupContexts + Send + Sync>;

/// What the node gives every group.
#[derive(Clone)]
pub struct GroupEnv {
    /// This boot.
    pub member: Member,
    /// Log, checkpoints and kept records.
    pub store: Arc<GroupStore>,
    /// The network.
    pub net: Arc<dyn GroupNet>,
    /// Delivers effects.
    pub deliverer: Arc<dyn Deliverer>,
    /// Clocks.
    pub clock: Clock,
    /// Bounds.
    pub limits: GroupLimits,
    /// Where every acknowledgement is noted, if asked for.
    pub audit: Option<Arc<Audit>>,
    /// A way to reach the actor itself from threads and tasks.
    pub mail: Mailbox,
    /// A group without contexts and history.
    pub fresh: Fresh,
    /// Reads the checkpoint into such a group in the background; `Loaded` follows.
    pub load: Arc<dyn Fn(&Fresh) + Send + Sync>,
    /// Takes over what is left when the group leaves memory; `false`: somebody wants it after all, it stays.
    pub rest: Arc<dyn Fn(Passive) -> bool + Send + Sync>,
    /// Use and size, for the sweep.
    pub meter: Arc<Meter>,
    /// Effects of groups led here that found no room in the outbox: of the whole node.
    pub effects_dropped: Arc<AtomicU64>,
    /// Forwards operations to the new primary, in order.
    pub forward: Arc<dyn Fn(NodeId, Epoch, Vec<Write>) + Send + Sync>,
}

/// The actor's state.
pub struct GroupExec {
    group: GroupId,
    env: GroupEnv,
    gate: Arc<GroupGate>,
    replica: Replica,
    /// The machines, while they are in memory.
    contexts: Option<GroupContexts>,
    loading: bool,
    /// What is known of them while they are not.
    asleep: Option<Asleep>,
    /// The gate is to open for this epoch once they are here; `true`: a new reign.
    gate_due: Option<(Epoch, bool)>,
    wants_rest: bool,
    rested: bool,
    measured_at: Option<u64>,
    /// Dropped effects that no line of the log has told yet, and when the next may.
    dropped_unsaid: u64,
    dropped_say_at: Mono,
    /// Contexts that the directory has and that have no first record: since when.
    dangling: BTreeMap<ContextId, Mono>,
    /// Those of them that are given up: nobody may begin them any more.
    abandoned: BTreeSet<ContextId>,
    /// The contexts that the group had when this reign began: who was to begin them may be gone.
    inherited: BTreeSet<ContextId>,
    waiting: VecDeque<Waiting>,
    parked: VecDeque<(Mono, Write)>,
    held: Vec<Held>,
    moving: Option<MoveWatch>,
    regrouping: Option<regroup::Regrouping>,
    /// About a regroup, until the machines are in memory.
    early: VecDeque<regroup::RegroupMsg>,
    /// Batches of kept records that wait for their commitment.
    adopting: VecDeque<(Seq, oneshot::Sender<Result<(), MoveFailure>>)>,
    /// Contexts that are about to join, and how long they are waited for.
    incoming: BTreeMap<ContextId, Mono>,
    /// The state in which the directory was asked for a version bump, before strays are taken away.
    settling: Option<Base>,
    leaving_in_log: bool,
    /// The next opening of the gate is that of a group with other contexts.
    regrouped: bool,
    /// Records of the message at hand, until they are stored.
    arrived: Vec<Record>,
    /// Effects on their way, by lane; and lanes that wait before the next try.
    delivering: BTreeMap<Lane, EffectId>,
    backoff: BTreeMap<Lane, (u32, Mono)>,
    delivered: Vec<EffectId>,
    delivered_in_log: Vec<EffectId>,
    timer_in_log: bool,
    snapshot_at: Position,
    /// The next snapshot is begun no earlier.
    snapshot_not_before: Mono,
    saving: bool,
    /// Snapshots on their way to replicas: the log is kept from there on.
    sending: BTreeMap<Member, Seq>,
    last_time_ms: u64,
    tick_at: Option<Mono>,
    deferred: VecDeque<Input>,
    forgotten: bool,
    /// The store refused something that this replica counts on: the actor ends and is made anew from the store.
    failed: bool,
}

impl GroupExec {
    /// An executor around what the store holds. `contexts`: the machines, if there is no checkpoint to be read for them.
    pub fn new(
        group: GroupId,
        env: GroupEnv,
        gate: Arc<GroupGate>,
        replica: Replica,
        contexts: Option<GroupContexts>,
    ) -> Self {
        let snapshot_at = replica.log().base();
        if contexts.is_some() {
            gate.set_loaded();
        }
        Self {
            group,
            env,
            gate,
            replica,
            contexts,
            loading: false,
            asleep: None,
            gate_due: None,
            wants_rest: false,
            rested: false,
            measured_at: None,
            dropped_unsaid: 0,
            dropped_say_at: Mono::default(),
            dangling: BTreeMap::new(),
            abandoned: BTreeSet::new(),
            inherited: BTreeSet::new(),
            waiting: VecDeque::new(),
            parked: VecDeque::new(),
            held: Vec::new(),
            moving: None,
            regrouping: None,
            early: VecDeque::new(),
            adopting: VecDeque::new(),
            incoming: BTreeMap::new(),
            settling: None,
            leaving_in_log: false,
            regrouped: false,
            arrived: Vec::new(),
            delivering: BTreeMap::new(),
            backoff: BTreeMap::new(),
            delivered: Vec::new(),
            delivered_in_log: Vec::new(),
            timer_in_log: false,
            snapshot_at,
            snapshot_not_before: Mono(0),
            saving: false,
            sending: BTreeMap::new(),
            last_time_ms: 0,
            tick_at: None,
            deferred: VecDeque::new(),
            forgotten: false,
            failed: false,
        }
    }

    /// Has the group been deleted from this node? Then the actor stops.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Has it left memory? Then the actor stops; what is left is kept elsewhere.
    pub fn has_rested(&self) -> bool {
        self.rested
    }

    /// Can it not go on? Then the supervisor makes it anew from the store.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Handles one message; returns after how long a `Tick` is wanted, if none is on its way.
    pub fn handle(&mut self, message: GroupMsg) -> Option<Duration> {
        let now = self.env.clock.mono();
        if !matches!(message, GroupMsg::Tick) {
            self.env.mail.taken();
        }
        self.note_use(now, &message);
        match message {
            GroupMsg::Placement(placement, live) => self.on_placement(now, placement, live),
            GroupMsg::Peer(from, message, records) => self.on_peer(now, from, message, records),
            GroupMsg::Connected(member) => self.step(now, Input::Connected(member)),
            GroupMsg::Write(write) => self.on_write(now, write),
            GroupMsg::Synced { cuts, upto } => self.step(now, Input::Synced { cuts, upto }),
            GroupMsg::HistorySent { to, held, bytes } => {
                self.count_sent(to, bytes);
                self.sending.remove(&to);
                self.step(now, Input::HistorySent { to, held });
            }
            GroupMsg::Installed { base, epoch, from, snapshot } => self.on_installed(now, base, epoch, from, &snapshot),
            GroupMsg::WantsHistory(base, epoch, reply) => {
                let _gone = reply.send(self.replica.wants_history(base, epoch));
            }
            GroupMsg::SnapshotSaved(base) => self.on_snapshot_saved(now, base),
            GroupMsg::Refused(base) => self.step(now, Input::Refused(base)),
            GroupMsg::Tick => {
                self.tick_at = None;
                self.step(now, Input::Tick);
            }
            GroupMsg::Move(order, parent, reply) => {
                if self.is_changing() {
                    let _gone = reply.send(Err(MoveFailure::Busy));
                } else {
                    let target = match order.goal {
                        Goal::Hand(target) => Some(target),
                        Goal::Seal | Goal::Regroup { .. } => None,
                    };
                    self.moving = Some(MoveWatch {
                        id: order.id,
                        ordered: now,
                        frozen: None,
                        proposed: None,
                        parked: 0,
                        target,
                        bytes: 0,
                        _span: tracing::info_span!(parent: &parent, "prepare"),
                        parent,
                        reply,
                    });
                    self.step(now, Input::Move(order));
                    reached(Point::Prepare);
                }
            }
            GroupMsg::Regroup(message) => self.on_regroup(now, message),
            GroupMsg::Delivered(id, lane, op) => self.on_delivered(now, id, lane, op),
            GroupMsg::Undelivered(lane, after) => self.on_undelivered(now, lane, after),
            GroupMsg::Status(reply) => drop(reply.send(self.status())),
            GroupMsg::Wake => self.want_contexts(),
            GroupMsg::Loaded(loaded) => self.on_loaded(now, loaded),
            GroupMsg::Rest => self.wants_rest = self.can_rest(now),
        }
        self.housekeeping(now);
        self.measure();
        self.try_to_rest(now);
        if self.rested { None } else { self.want_tick(now) }
    }

    fn step(&mut self, now: Mono, input: Input) {
        let mut out = Vec::new();
        self.replica.step(now, input, &mut out);
        self.carry_out(now, out);
        self.step_deferred(now);
    }

    /// What applying asked for comes after everything that a step decided.
    fn step_deferred(&mut self, now: Mono) {
        while let Some(input) = self.deferred.pop_front() {
            let mut out = Vec::new();
            self.replica.step(now, input, &mut out);
            self.carry_out(now, out);
        }
    }

    fn on_placement(&mut self, now: Mono, placement: Option<Placement>, live: Live) {
        if let Some(new) = &placement {
            let at = |p: &Placement| (p.epoch, p.version);
            if self.replica.placement().is_none_or(|old| at(old) <= at(new))
                && let Some(contexts) = &mut self.contexts
            {
                contexts.set_members(new.contexts.iter().copied());
            }
        }
        self.step(now, Input::Placement { placement, live });
    }

    fn on_peer(&mut self, now: Mono, from: Member, message: GroupMessage, records: Vec<Record>) {
        let positions = records.iter().map(|r| Position { epoch: r.epoch(), seq: r.seq() }).collect();
        if matches!(message.body, GroupBody::Append { .. }) {
            self.arrived = records;
            let member = self.replica.placement().is_some_and(|p| p.in_sync.contains(&self.env.member));
            if !member && !self.arrived.is_empty() {
                reached(Point::Ready);
            }
        }
        self.step(now, Input::Peer { from, message, records: positions });
        self.arrived.clear();
    }

    // ---- operations ------------------------------------------------------------------------------------------------

    fn on_write(&mut self, now: Mono, write: Write) {
        if now >= write.deadline {
            // It waited in the mailbox of a group that was not in memory; its caller may have been told so already.
            drop(write.reply.send(WriteReply::not_applied("its deadline has passed", self.env.limits.retry_after)));
            return;
        }
        match self.replica.next_place() {
            Ok(place) if self.gate.allows() => self.log_operation(now, place, write),
            // Without a lease nothing is logged: another node may be primary already.
            Ok(_) | Err(NotNow::Closed) => self.park(now, write),
            Err(NotNow::NotPrimary) => self.not_here(write),
            Err(e @ (NotNow::TooFewMembers { .. } | NotNow::Full)) => {
                drop(write.reply.send(WriteReply::not_applied(e.to_string(), self.env.limits.retry_after)));
            }
        }
    }

    fn not_here(&mut self, write: Write) {
        let known = self.replica.placement().map(|p| (p.primary.node, p.epoch));
        let reply = match known {
            Some((primary, epoch)) => WriteReply::NotHere { primary, epoch },
            None => WriteReply::NotFound,
        };
        drop(write.reply.send(reply));
    }

    fn park(&mut self, now: Mono, write: Write) {
        if self.parked.len() >= self.env.limits.parked_max {
            drop(write.reply.send(WriteReply::not_applied("too many parked operations", self.env.limits.retry_after)));
            return;
        }
        self.want_contexts();
        let until = write.deadline.min(now + self.env.limits.park_max);
        self.parked.push_back((until, write));
        if let Some(m) = &mut self.moving
            && m.frozen.is_some()
        {
            m.parked += 1;
        }
    }

    fn log_operation(&mut self, now: Mono, place: Position, write: Write) {
        // An open gate says that the machines are here.
        let Some(contexts) = &self.contexts else { return self.park(now, write) };
        let Write { context, create, op, repeat, received, deadline, reply, permit } = write;
        if create.is_some() {
            if let Err(refusal) = self.may_begin(context) {
                drop(reply.send(refusal));
                return;
            }
        } else {
            // A repeat of an operation that still waits for its commitment is recognised when it is applied (I3).
            let (wall_ms, window_ms) = (self.env.clock.wall_ms(), self.env.limits.repeat_window_ms);
            if let Err(refusal) = contexts.admit(context, wall_ms, &op, repeat.as_ref(), window_ms) {
                let answer = match refusal {
                    Admission::Refused(answer) | Admission::Repeated(answer) => WriteReply::Answer(answer),
                    Admission::RepeatWindow => WriteReply::RepeatWindow,
                    Admission::NoContext => self.no_context(context),
                };
                drop(reply.send(answer));
                return;
            }
        }
        let kind = if create.is_some() { RecordKind::CreateContext } else { RecordKind::Operation };
        let logged = OpHead { create, repeat, head: op.head }
            .encode()
            .map_err(|e| e.to_string())
            .and_then(|head| self.build(place, kind, context, &head, &op.body))
            .and_then(|record| self.log(record));
        match logged {
            Ok(seq) => {
                self.waiting.push_back(Waiting { seq, context, received, deadline, reply, _permit: permit });
                self.step(now, Input::Appended);
            }
            Err(reason) => drop(reply.send(WriteReply::not_applied(reason, self.env.limits.retry_after))),
        }
    }

    fn no_context(&self, context: ContextId) -> WriteReply {
        let known = self.replica.placement().is_some_and(|p| p.contexts.contains(&context));
        // Known to the directory, but its first record is not here yet: it is being created.
        if known {
            WriteReply::not_applied("the context is being created", self.env.limits.retry_after)
        } else {
            WriteReply::NotFound
        }
    }

    fn build(
        &mut self,
        place: Position,
        kind: RecordKind,
        context: ContextId,
        head: &[u8],
        body: &[u8],
    ) -> Result<Record, String> {
        let applied_ms = self.contexts.as_ref().map_or(0, GroupContexts::time_ms);
        let time_ms = self.env.clock.wall_ms().max(applied_ms).max(self.last_time_ms);
        self.last_time_ms = time_ms;
        let meta = RecordMeta { kind, group: self.group, context, epoch: place.epoch, seq: place.seq, time_ms };
        Record::build(meta, head, body).map_err(|e| e.to_string())
    }

    /// Hands a record to the store; the caller steps with `Appended` next.
    fn log(&mut self, record: Record) -> Result<Seq, String> {
        let seq = record.seq();
        let sync = self.replica.must_sync();
        self.env.store.append(vec![record], sync, self.sync_done(seq)).map_err(|e| e.to_string())?;
        Ok(seq)
    }

    /// Tells this actor that the disk holds the log up to `upto`. A failed sync is not told: the process ends.
    fn sync_done(&self, upto: Seq) -> impl FnOnce(Result<(), Fatal>) + Send + 'static {
        let (cuts, mail) = (self.replica.cuts(), self.env.mail.clone());
        move |done| {
            if done.is_ok() {
                mail.send(GroupMsg::Synced { cuts, upto });
            }
        }
    }

    /// Logs a record of the runtime's own; false if that is not possible now.
    fn log_own(&mut self, now: Mono, kind: RecordKind, context: ContextId, head: &[u8]) -> bool {
        self.log_own_record(now, kind, context, head, &[]).is_some()
    }

    fn log_own_body(&mut self, now: Mono, kind: RecordKind, context: ContextId, body: &[u8]) -> Option<Seq> {
        self.log_own_record(now, kind, context, &[], body)
    }

    fn log_own_record(
        &mut self,
        now: Mono,
        kind: RecordKind,
        context: ContextId,
        head: &[u8],
        body: &[u8],
    ) -> Option<Seq> {
        let place = self.replica.next_place().ok()?;
        if !self.gate.allows() {
            return None;
        }
        let seq = self.build(place, kind, context, head, body).and_then(|r| self.log(r)).ok()?;
        self.step(now, Input::Appended);
        Some(seq)
    }

    fn on_installed(&mut self, now: Mono, base: Position, epoch: Epoch, from: Member, snapshot: &[u8]) {
        let mut contexts = self.contexts.take().unwrap_or_else(|| (self.env.fresh)());
        if let Err(e) = contexts.restore(snapshot) {
            tracing::error!(group = %self.group, "received snapshot: {e}");
            self.failed = true;
            return;
        }
        self.snapshot_at = base;
        self.contexts = Some(contexts);
        self.asleep = None;
        self.step(now, Input::Installed { base, epoch, from, synced: true });
        self.gate.set_loaded();
    }

    fn status(&self) -> GroupStatus {
        let listed = self.replica.placement().map(|p| p.contexts.iter().map(|c| c.to_string()).collect());
        let here = self.contexts.as_ref().map(|all| all.contexts().map(|(c, _)| c.to_string()).collect());
        let contexts = here.or(listed).unwrap_or_default();
        GroupStatus {
            memory: if self.contexts.is_some() { "active" } else { "waking" },
            serving: self.replica.is_open() && self.gate.lease_is_valid(),
            waiting: self.waiting.len(),
            parked: self.parked.len(),
            outbox: self.contexts.as_ref().map_or(0, GroupContexts::outbox_len),
            outbox_bytes: self.contexts.as_ref().map_or(0, GroupContexts::outbox_bytes),
            moving: self.moving.is_some(),
            ..GroupStatus::of_machine(self.group, &self.replica, contexts)
        }
    }
}
