//! Moves of groups (DESIGN.md section 5): the order finds the primary, the target admits, the machine moves, both ends hear
//! what became of it (row H10).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onemec_core::context::ContextKind;
use onemec_core::directory::{Attachment, Standing};
use onemec_core::group::{Goal, MoveFailure, MoveId, MoveOrder};
use onemec_wire::{ContextId, GroupId, Member, NodeId, ServiceId, codec};
use tokio::sync::oneshot;
use tracing::Instrument as _;

use super::body::{FIGURES_MAX, GroupView, LogEnd, MoveBody, MoveRecord, MoveReply, MoveTimes};
use super::group::GroupMsg;
use super::net::lane_of;
use super::{Incoming, Runtime};
use crate::trace::TraceContext;
use crate::transport::{Lane, Message};

/// The target's answer to "would you take it?".
pub(super) const ADMIT_MAX: Duration = Duration::from_secs(2);
/// How a record says that a move succeeded.
pub const MOVED: &str = "moved";
/// The code of a re-attachment that was made already.
pub const TOKEN_USED: &str = "token-used";
/// The target's gate opens within this time, or later without being waited for.
const SERVING_MAX: Duration = Duration::from_secs(2);
/// A look at a group takes no longer.
const VIEW_MAX: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// Freeze, transfer and an abort, beyond catching up.
const SWITCH_MAX: Duration = Duration::from_secs(5);

/// Why a move did not happen; the group is served as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct MoveError {
    /// A short word for machines.
    pub code: String,
    /// A sentence for people.
    pub reason: String,
}

impl MoveError {
    fn new(code: &str, reason: impl Into<String>) -> Self {
        Self { code: code.into(), reason: reason.into() }
    }
}

impl From<MoveFailure> for MoveError {
    fn from(f: MoveFailure) -> Self {
        let code = match f {
            MoveFailure::NotPrimary => "not-primary",
            MoveFailure::AlreadyThere => "already-there",
            MoveFailure::Busy => "busy",
            MoveFailure::TargetDead => "target-dead",
            MoveFailure::CatchUpTimeout => "catch-up-timeout",
            MoveFailure::FreezeTimeout => "freeze-timeout",
            MoveFailure::Refused => "refused",
            MoveFailure::Cancelled => "cancelled",
        };
        Self::new(code, f.to_string())
    }
}

/// What the primary is to do.
struct Order<'a> {
    group: GroupId,
    target: NodeId,
    reason: &'a str,
    attachment: Option<Attachment>,
    catch_up: Duration,
}

#[derive(Default)]
pub(super) struct Moves {
    next: AtomicU64,
}

impl Runtime {
    /// Moves a group's primary to `target`, wherever it is now: one attempt. Returns when the target serves. With an
    /// `attachment` the move is that re-attachment of a client, and is refused (`token-used`) if it was made already.
    ///
    /// # Errors
    /// Why not, by a code. The group is served as before, except with `unknown` and `unreachable`: look at the directory.
    pub async fn move_group(
        &self,
        group: GroupId,
        target: NodeId,
        reason: &str,
        attachment: Option<Attachment>,
        catch_up: Duration,
    ) -> Result<MoveRecord, MoveError> {
        let placement = self.inner.parts.directory.read().group(group).cloned();
        let p = placement.ok_or_else(|| MoveError::new("no-group", "no such group"))?;
        if p.primary.node == target {
            return Err(MoveFailure::AlreadyThere.into());
        }
        // The trace begins with the order, wherever that is given.
        let trace = TraceContext::begin();
        let span = tracing::info_span!("order", trace_self = %trace, %group, to = %target, reason);
        if p.primary.node == self.inner.parts.member.node {
            let order = Order { group, target, reason, attachment, catch_up };
            return self.move_from_here(order, trace).instrument(span).await;
        }
        let body = MoveBody::Order {
            group,
            target,
            reason: reason.into(),
            attachment,
            catch_up_ms: u32::try_from(catch_up.as_millis()).unwrap_or(u32::MAX),
            trace,
        };
        let ordered = self.ask_move(p.primary.node, group, &body, catch_up + SWITCH_MAX + ADMIT_MAX);
        match ordered.instrument(span).await? {
            MoveReply::Moved(record) => Ok(record),
            MoveReply::Refused { code, reason } => Err(MoveError { code, reason }),
            _ => Err(MoveError::new("protocol", "an answer that makes no sense")),
        }
    }

    pub(super) async fn ask_move(
        &self,
        node: NodeId,
        group: GroupId,
        body: &MoveBody,
        deadline: Duration,
    ) -> Result<MoveReply, MoveError> {
        let bytes = codec::encode(body).map_err(|e| MoveError::new("protocol", e.to_string()))?;
        let message = Message::new(ServiceId::MOVE, lane_of(group), bytes);
        let answer = self
            .inner
            .parts
            .transport
            .ask(node, Lane::Move, message, deadline)
            .await
            .map_err(|e| MoveError::new("unreachable", format!("node {node}: {e}")))?;
        codec::decode(&answer.body).map_err(|e| MoveError::new("protocol", e.to_string()))
    }

    pub(super) async fn serve_move(&self, body: MoveBody) -> MoveReply {
        let refused = |e: MoveError| MoveReply::Refused { code: e.code, reason: e.reason };
        match body {
            MoveBody::Order { group, target, reason, attachment, catch_up_ms, trace } => {
                let catch_up = Duration::from_millis(u64::from(catch_up_ms));
                let order = Order { group, target, reason: &reason, attachment, catch_up };
                match self.move_from_here(order, trace).await {
                    Ok(record) => MoveReply::Moved(record),
                    Err(e) => refused(e),
                }
            }
            MoveBody::Manifest { group } => MoveReply::Manifest(self.manifest(group)),
            MoveBody::Admit { group, contexts, history_bytes, reason, reserve, trace } => {
                let _span = tracing::info_span!("admit", trace_parent = %trace, %group, reason).entered();
                let Some(actors) = self.actors() else {
                    return refused(MoveError::new("starting", "the node is starting"));
                };
                let incoming = Incoming { group, contexts: &contexts, history_bytes, reason: &reason, reserve };
                match actors.hosting.admit(&incoming) {
                    Ok(()) => MoveReply::Admitted,
                    Err((code, reason)) => MoveReply::Refused { code, reason },
                }
            }
            MoveBody::Ended(record) => {
                if record.result == MOVED {
                    let span = tracing::info_span!("serve", trace_parent = %record.trace, group = %record.group);
                    self.serving(record.group).instrument(span).await;
                }
                self.settle(&record);
                MoveReply::Noted
            }
            MoveBody::Timed(record) => {
                if let Some(actors) = self.actors() {
                    actors.hosting.ended(&record);
                }
                MoveReply::Noted
            }
            MoveBody::Reach { index } => {
                self.applied(index).await;
                MoveReply::Noted
            }
            MoveBody::View { group } => MoveReply::View(self.view_here(group).await),
            MoveBody::Figures { groups } => {
                let views = groups.iter().take(FIGURES_MAX).map(|group| self.figures_here(*group));
                MoveReply::Figures(futures_util::future::join_all(views).await)
            }
        }
    }

    /// Waits until this node's gate of a group is open, or a bound is over.
    pub async fn serving(&self, group: GroupId) {
        let until = self.inner.parts.clock.mono() + SERVING_MAX;
        let open = async {
            while !self.in_memory(group, until).await.is_some_and(|gate| gate.allows()) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        drop(tokio::time::timeout(SERVING_MAX, open).await);
    }

    /// Waits until this node has applied the directory up to `index`, or a bound is over.
    async fn applied(&self, index: u64) {
        let reached = async {
            while self.inner.parts.directory.read().index() < index {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        drop(tokio::time::timeout(SERVING_MAX, reached).await);
    }

    /// Waits until `node` knows everything that this node's directory holds now (a policy, a drain).
    ///
    /// # Errors
    /// If the node does not answer in time; what was decided holds nevertheless.
    pub async fn told(&self, node: NodeId) -> Result<(), MoveError> {
        if node == self.inner.parts.member.node {
            return Ok(());
        }
        let index = self.inner.parts.directory.read().index();
        let body = MoveBody::Reach { index };
        self.ask_move(node, GroupId::default(), &body, SERVING_MAX + ADMIT_MAX).await.map(drop)
    }

    /// Asks whether a node would take a group now, without keeping room for it.
    ///
    /// # Errors
    /// Its refusal, or that it does not answer.
    pub async fn would_take(&self, group: GroupId, node: NodeId, reason: &str) -> Result<(), MoveError> {
        let contexts = self.contexts_of(group).ok_or_else(|| MoveError::new("no-group", "no such group"))?;
        let history_bytes = self.history_bytes(group);
        let (reason, trace) = (reason.into(), TraceContext::begin());
        let body = MoveBody::Admit { group, contexts, history_bytes, reason, reserve: false, trace };
        self.ask_admission(node, group, &body).await
    }

    async fn ask_admission(&self, node: NodeId, group: GroupId, body: &MoveBody) -> Result<(), MoveError> {
        match self.ask_move(node, group, body, ADMIT_MAX).await? {
            MoveReply::Admitted => Ok(()),
            MoveReply::Refused { code, reason } => Err(MoveError { code, reason }),
            _ => Err(MoveError::new("protocol", "an answer that makes no sense")),
        }
    }

    fn contexts_of(&self, group: GroupId) -> Option<Vec<(ContextId, ContextKind)>> {
        let directory = self.inner.parts.directory.read();
        let p = directory.group(group)?;
        Some(p.contexts.iter().filter_map(|c| Some((*c, directory.context(*c)?.kind))).collect())
    }

    /// Bytes of a group's history as they lie here; 0 if this node has no copy.
    pub fn history_bytes(&self, group: GroupId) -> u64 {
        self.inner.parts.store.group(group).map_or(0, |s| s.bytes())
    }

    /// What the primary has of a group.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn view(&self, group: GroupId) -> Result<GroupView, MoveError> {
        let primary = self.inner.parts.directory.read().group(group).map(|p| p.primary.node);
        let primary = primary.ok_or_else(|| MoveError::new("no-group", "no such group"))?;
        if primary == self.inner.parts.member.node {
            return Ok(self.view_here(group).await);
        }
        match self.ask_move(primary, group, &MoveBody::View { group }, VIEW_MAX).await? {
            MoveReply::View(view) => Ok(view),
            _ => Err(MoveError::new("protocol", "an answer that makes no sense")),
        }
    }

    /// What a node has of groups, as they are there: its own, or at their primary. Wakes none of them.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn group_figures(
        &self,
        node: NodeId,
        groups: Vec<GroupId>,
    ) -> Result<BTreeMap<GroupId, GroupView>, MoveError> {
        let asked = groups.clone();
        let views = match node == self.inner.parts.member.node {
            true => futures_util::future::join_all(groups.iter().map(|group| self.figures_here(*group))).await,
            false => match self.ask_move(node, GroupId::default(), &MoveBody::Figures { groups }, VIEW_MAX).await? {
                MoveReply::Figures(views) => views,
                _ => return Err(MoveError::new("protocol", "an answer that makes no sense")),
            },
        };
        Ok(asked.into_iter().zip(views).collect())
    }

    async fn view_here(&self, group: GroupId) -> GroupView {
        // Without it the view only says less.
        self.in_memory(group, self.inner.parts.clock.mono() + VIEW_MAX / 2).await;
        self.figures_here(group).await
    }

    async fn figures_here(&self, group: GroupId) -> GroupView {
        let mut view = GroupView { bytes: self.history_bytes(group), ..GroupView::default() };
        view.end = self.inner.parts.store.group(group).map(|store| {
            let at = store.positions();
            let at_ms = store.records(at.last, 1).first().map(|record| record.time_ms());
            LogEnd { seq: at.last.0, epoch: at.last_epoch.0, at_ms }
        });
        if let Some(actors) = self.actors() {
            let contexts = self.contexts_of(group).unwrap_or_default();
            view.held = contexts.iter().filter_map(|(c, _)| Some((*c, actors.hosting.held(*c)?))).collect();
        }
        if let Some(status) = self.status_of(group, VIEW_MAX).await {
            (view.committed, view.moving) = (status.committed, status.moving);
        }
        view
    }

    async fn move_from_here(&self, order: Order<'_>, parent: TraceContext) -> Result<MoveRecord, MoveError> {
        let Order { group, target, reason, attachment, catch_up } = order;
        let contexts = self.contexts_of(group).ok_or_else(|| MoveError::new("no-group", "no such group"))?;
        let member = {
            let directory = self.inner.parts.directory.read();
            let stays = |c: &ContextId| directory.context(*c).is_some_and(|e| e.pinned && e.home != target);
            if contexts.iter().any(|(c, _)| stays(c)) {
                return Err(MoveError::new("pinned", "what hangs on a CSEBase moves only back to its home"));
            }
            // The directory decides; what it will refuse need not freeze the group first.
            let stands = attachment.and_then(|a| directory.standing(a, target));
            if matches!(stands, Some(Standing::Spent | Standing::Done)) {
                return Err(MoveError::new(TOKEN_USED, "the AE was moved with this handover token already"));
            }
            directory.node(target).filter(|n| n.up).map(|n| n.member)
        };
        let member = member.ok_or_else(|| MoveError::from(MoveFailure::TargetDead))?;
        let id = self.inner.moves.next.fetch_add(1, Ordering::Relaxed) + 1;
        let mut record = MoveRecord {
            id,
            source: self.inner.parts.member,
            target,
            group,
            contexts: contexts.iter().map(|(c, _)| *c).collect(),
            epoch: onemec_wire::Epoch(0),
            reason: reason.into(),
            at_ms: self.inner.parts.clock.wall_ms(),
            result: MOVED.into(),
            text: String::new(),
            times: MoveTimes::default(),
            trace: parent.child(),
        };
        let span = tracing::info_span!(
            "move", trace_self = %record.trace, trace_parent = %parent, %group, from = %record.source.node, to = %target,
            reason, result = tracing::field::Empty
        );
        let moved = self.run_move(&mut record, contexts, (member, attachment), catch_up).instrument(span.clone()).await;
        if let Err(e) = &moved {
            (record.result, record.text) = (e.code.clone(), e.reason.clone());
        }
        record.epoch = self.inner.parts.directory.read().group(group).map_or(record.epoch, |p| p.epoch);
        span.record("result", record.result.as_str());
        self.settle(&record);
        moved.map(|()| record)
    }

    async fn run_move(
        &self,
        record: &mut MoveRecord,
        contexts: Vec<(ContextId, ContextKind)>,
        (target, attachment): (Member, Option<Attachment>),
        catch_up: Duration,
    ) -> Result<(), MoveError> {
        let group = record.group;
        let began = self.inner.parts.clock.mono();
        let (history_bytes, reason) = (self.history_bytes(group), record.reason.clone());
        let trace = record.trace.child();
        let body = MoveBody::Admit { group, contexts, history_bytes, reason, reserve: true, trace };
        let span = tracing::info_span!("admission", trace_self = %trace);
        self.ask_admission(target.node, group, &body).instrument(span).await?;
        let admitted_us = self.since_us(began);
        let (reply, end) = oneshot::channel();
        let until = self.inner.parts.clock.mono() + catch_up;
        let order = MoveOrder { id: MoveId(record.id), goal: Goal::Hand(target), attachment, until };
        self.tell_group(group, GroupMsg::Move(order, tracing::Span::current(), reply));
        let switched = match tokio::time::timeout(catch_up + SWITCH_MAX, end).await {
            Ok(Ok(Ok(times))) => Ok(times),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Err(_)) => Err(MoveError::new("not-primary", "the group's actor ended")),
            Err(_) => Err(MoveError::new("unknown", "the end of the move is not known: look at the directory")),
        };
        let switched_at = self.inner.parts.clock.mono();
        match &switched {
            Ok(times) => record.times = MoveTimes { prepare_us: times.prepare_us + admitted_us, ..*times },
            Err(e) => (record.result, record.text) = (e.code.clone(), e.reason.clone()),
        }
        record.epoch = self.inner.parts.directory.read().group(group).map_or(record.epoch, |p| p.epoch);
        // The target keeps no room any more, and says when it serves. What it does not hear it finds out by itself.
        let ended = MoveBody::Ended(record.clone());
        let told = self.ask_move(target.node, group, &ended, SERVING_MAX + ADMIT_MAX);
        let told = told.instrument(tracing::info_span!("activate")).await;
        if told.is_ok() && switched.is_ok() {
            record.times.activate_us = self.since_us(switched_at);
            // Both ends are to show the same gap. The move does not wait for it.
            let (runtime, timed) = (self.clone(), MoveBody::Timed(record.clone()));
            tokio::spawn(async move { runtime.ask_move(target.node, group, &timed, ADMIT_MAX).await });
        }
        switched.map(drop)
    }

    /// Both ends note what became of a move; steering follows the directory by itself.
    fn settle(&self, record: &MoveRecord) {
        let _span =
            tracing::info_span!("settle", trace_parent = %record.trace, group = %record.group, result = record.result)
                .entered();
        if let Some(actors) = self.actors() {
            actors.hosting.ended(record);
        }
    }

    fn since_us(&self, from: onemec_core::time::Mono) -> u64 {
        u64::try_from(self.inner.parts.clock.mono().since(from).as_micros()).unwrap_or(u64::MAX)
    }
}
