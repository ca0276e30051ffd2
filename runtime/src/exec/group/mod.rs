//! The executor of one group on this node: an actor around the pure [`Replica`] and [`GroupContexts`].
//!
//! Everything here is synchronous and bounded; whatever waits (disk, network, deliveries) is started and comes back as a
//! message. One message is handled at a time, so there are no locks.

pub mod actor;
mod carry;
mod commit;
pub mod regroup;
mod work;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::{Answer, ContextKind, EffectId, Gate, Op, RepeatKey};
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
    /// An effect could not be delivered.
    Undelivered(Lane),
    /// What state are you in?
    Status(oneshot::Sender<GroupStatus>),
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
    /// Replicas: node, held, synced.
    pub replicas: Vec<(u64, u64, u64)>,
    /// Contexts.
    pub contexts: Vec<String>,
    /// A move is under way.
    pub moving: bool,
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
    pub myself: Arc<dyn Fn(GroupMsg) + Send + Sync>,
    /// Forwards operations to the new primary, in order.
    pub forward: Arc<dyn Fn(NodeId, Epoch, Vec<Write>) + Send + Sync>,
}

/// The actor's state.
pub struct GroupExec {
    group: GroupId,
    env: GroupEnv,
    gate: Arc<GroupGate>,
    replica: Replica,
    contexts: GroupContexts,
    waiting: VecDeque<Waiting>,
    parked: VecDeque<(Mono, Write)>,
    held: Vec<Held>,
    moving: Option<MoveWatch>,
    regrouping: Option<regroup::Regrouping>,
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
    /// An executor around what the store holds.
    pub fn new(group: GroupId, env: GroupEnv, gate: Arc<GroupGate>, replica: Replica, contexts: GroupContexts) -> Self {
        let snapshot_at = replica.log().base();
        Self {
            group,
            env,
            gate,
            replica,
            contexts,
            waiting: VecDeque::new(),
            parked: VecDeque::new(),
            held: Vec::new(),
            moving: None,
            regrouping: None,
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

    /// Can it not go on? Then the supervisor makes it anew from the store.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Handles one message; returns after how long a `Tick` is wanted, if none is on its way.
    pub fn handle(&mut self, message: GroupMsg) -> Option<Duration> {
        let now = self.env.clock.mono();
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
            GroupMsg::Undelivered(lane) => self.on_undelivered(now, lane),
            GroupMsg::Status(reply) => drop(reply.send(self.status())),
        }
        self.housekeeping(now);
        self.want_tick(now)
    }

    fn step(&mut self, now: Mono, input: Input) {
        let mut out = Vec::new();
        self.replica.step(now, input, &mut out);
        self.carry_out(now, out);
        // What applying asked for comes after everything that this step decided.
        while let Some(input) = self.deferred.pop_front() {
            let mut out = Vec::new();
            self.replica.step(now, input, &mut out);
            self.carry_out(now, out);
        }
    }

    fn on_placement(&mut self, now: Mono, placement: Option<Placement>, live: Live) {
        if let Some(new) = &placement {
            let at = |p: &Placement| (p.epoch, p.version);
            if self.replica.placement().is_none_or(|old| at(old) <= at(new)) {
                self.contexts.set_members(new.contexts.iter().copied());
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
        match self.replica.next_place() {
            Ok(place) if self.gate.is_open() => self.log_operation(now, place, write),
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
        let until = write.deadline.min(now + self.env.limits.park_max);
        self.parked.push_back((until, write));
        if let Some(m) = &mut self.moving
            && m.frozen.is_some()
        {
            m.parked += 1;
        }
    }

    fn log_operation(&mut self, now: Mono, place: Position, write: Write) {
        let Write { context, create, op, repeat, received, deadline, reply, permit } = write;
        if create.is_none() {
            // A repeat of an operation that still waits for its commitment is recognised when it is applied (I3).
            let admitted = self.contexts.admit(context, self.env.clock.wall_ms(), &op, repeat.as_ref());
            if let Err(refusal) = admitted {
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
        let time_ms = self.env.clock.wall_ms().max(self.contexts.time_ms()).max(self.last_time_ms);
        self.last_time_ms = time_ms;
        let meta = RecordMeta { kind, group: self.group, context, epoch: place.epoch, seq: place.seq, time_ms };
        Record::build(meta, head, body).map_err(|e| e.to_string())
    }

    /// Hands a record to the store; the caller steps with `Appended` next.
    fn log(&mut self, record: Record) -> Result<Seq, String> {
        let seq = record.seq();
        self.env.store.append(vec![record], self.sync_done(seq)).map_err(|e| e.to_string())?;
        Ok(seq)
    }

    /// Tells this actor that the disk holds the log up to `upto`. A failed sync is not told: the process ends.
    fn sync_done(&self, upto: Seq) -> impl FnOnce(Result<(), Fatal>) + Send + 'static {
        let (cuts, myself) = (self.replica.cuts(), self.env.myself.clone());
        move |done| {
            if done.is_ok() {
                myself(GroupMsg::Synced { cuts, upto });
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
        if !self.gate.is_open() {
            return None;
        }
        let seq = self.build(place, kind, context, head, body).and_then(|r| self.log(r)).ok()?;
        self.step(now, Input::Appended);
        Some(seq)
    }

    fn on_installed(&mut self, now: Mono, base: Position, epoch: Epoch, from: Member, snapshot: &[u8]) {
        if let Err(e) = self.contexts.restore(snapshot) {
            tracing::error!(group = %self.group, "received snapshot: {e}");
            return;
        }
        self.snapshot_at = base;
        self.step(now, Input::Installed { base, epoch, from, synced: true });
    }

    fn status(&self) -> GroupStatus {
        let log = self.replica.log();
        GroupStatus {
            group: self.group.to_string(),
            role: if self.replica.leads().is_some() { "primary" } else { "replica" },
            epoch: self.replica.leads().unwrap_or(self.replica.seen()).0,
            serving: self.gate.is_open(),
            last: log.last().0,
            committed: self.replica.commit().0,
            synced: log.synced().0,
            waiting: self.waiting.len(),
            parked: self.parked.len(),
            outbox: self.contexts.outbox_len(),
            replicas: self.replica.peers().map(|(m, h, s)| (m.node.0, h.0, s.0)).collect(),
            contexts: self.contexts.contexts().map(|(c, _)| c.to_string()).collect(),
            moving: self.moving.is_some(),
        }
    }
}
