//! Moves of groups (DESIGN.md section 5): the order finds the primary, the target admits, the machine moves, the record of
//! it stays (row H10).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use onemec_core::context::ContextKind;
use onemec_core::group::{MoveFailure, MoveId, MoveOrder};
use onemec_wire::{ContextId, GroupId, NodeId, ServiceId, codec};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::oneshot;

use super::Runtime;
use super::body::{MoveBody, MoveReply, MoveTimes};
use super::group::GroupMsg;
use super::net::lane_of;
use crate::transport::{Lane, Message};

/// Records of moves that a node keeps.
const RECORDS_MAX: usize = 16_384;
/// The target's answer to "would you take it?".
pub(super) const ADMIT_MAX: Duration = Duration::from_secs(2);
/// A move that came at a bad moment is tried so often.
const TRIES_MAX: u32 = 5;
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Freeze, transfer and an abort, beyond catching up.
const SWITCH_MAX: Duration = Duration::from_secs(5);

/// A move as operators see it.
#[derive(Debug, Clone, Serialize)]
pub struct MoveRecord {
    /// Number at the source node.
    pub id: u64,
    /// The group.
    pub group: String,
    /// Its contexts.
    pub contexts: Vec<String>,
    /// Source node.
    pub from: u64,
    /// Target node.
    pub to: u64,
    /// Why it was ordered.
    pub reason: String,
    /// When (milliseconds since 1970).
    pub at_ms: u64,
    /// `moved`, or the failure's code.
    pub result: String,
    /// How long its states took.
    pub times: MoveTimes,
}

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

#[derive(Default)]
pub(super) struct Moves {
    next: AtomicU64,
    records: Mutex<VecDeque<MoveRecord>>,
}

impl Runtime {
    /// Moves a group's primary to `target`, wherever it is now. Returns when the target is primary.
    pub async fn move_group(
        &self,
        group: GroupId,
        target: NodeId,
        reason: &str,
        catch_up: Duration,
    ) -> Result<MoveTimes, MoveError> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_move(group, target, reason, catch_up).await {
                // Another move, or a failover, was quicker, or the moment was bad: nothing has changed here.
                Err(e) if tries < TRIES_MAX && ["not-primary", "busy", "freeze-timeout"].contains(&e.code.as_str()) => {
                    tokio::time::sleep(TRY_AGAIN * tries).await;
                }
                ended => return ended,
            }
        }
    }

    async fn try_move(
        &self,
        group: GroupId,
        target: NodeId,
        reason: &str,
        catch_up: Duration,
    ) -> Result<MoveTimes, MoveError> {
        let placement = self.inner.parts.directory.read().group(group).cloned();
        let p = placement.ok_or_else(|| MoveError::new("no-group", "no such group"))?;
        if p.primary.node == target {
            return Err(MoveFailure::AlreadyThere.into());
        }
        if p.primary.node == self.inner.parts.member.node {
            return self.move_from_here(group, target, reason, catch_up).await;
        }
        let body = MoveBody::Order {
            group,
            target,
            reason: reason.into(),
            catch_up_ms: u32::try_from(catch_up.as_millis()).unwrap_or(u32::MAX),
        };
        match self.ask_move(p.primary.node, group, &body, catch_up + SWITCH_MAX + ADMIT_MAX).await? {
            MoveReply::Moved(times) => Ok(times),
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
            MoveBody::Order { group, target, reason, catch_up_ms } => {
                let catch_up = Duration::from_millis(u64::from(catch_up_ms));
                match self.move_from_here(group, target, &reason, catch_up).await {
                    Ok(times) => MoveReply::Moved(times),
                    Err(e) => refused(e),
                }
            }
            MoveBody::Manifest { group } => MoveReply::Manifest(self.manifest(group)),
            MoveBody::Admit { contexts, history_bytes, reason, .. } => {
                let Some(actors) = self.actors() else {
                    return refused(MoveError::new("starting", "the node is starting"));
                };
                match actors.admission.admit(&contexts, history_bytes, &reason) {
                    Ok(()) => MoveReply::Admitted,
                    Err((code, reason)) => MoveReply::Refused { code, reason },
                }
            }
        }
    }

    async fn move_from_here(
        &self,
        group: GroupId,
        target: NodeId,
        reason: &str,
        catch_up: Duration,
    ) -> Result<MoveTimes, MoveError> {
        let (contexts, member) = {
            let directory = self.inner.parts.directory.read();
            let p = directory.group(group).ok_or_else(|| MoveError::new("no-group", "no such group"))?;
            let contexts: Vec<(ContextId, ContextKind)> =
                p.contexts.iter().filter_map(|c| Some((*c, directory.context(*c)?.kind))).collect();
            let pinned = p.contexts.iter().any(|c| directory.context(*c).is_some_and(|e| e.pinned && e.home != target));
            if pinned {
                return Err(MoveError::new("pinned", "what hangs on a CSEBase moves only back to its home"));
            }
            let member = directory.node(target).filter(|n| n.up).map(|n| n.member);
            (contexts, member)
        };
        let member = member.ok_or_else(|| MoveError::from(MoveFailure::TargetDead))?;
        let at_ms = self.inner.parts.clock.wall_ms();
        let id = self.inner.moves.next.fetch_add(1, Ordering::Relaxed) + 1;
        let result = self.run_move(id, group, &contexts, member, reason, catch_up).await;
        let record = MoveRecord {
            id,
            group: group.to_string(),
            contexts: contexts.iter().map(|(c, _)| c.to_string()).collect(),
            from: self.inner.parts.member.node.0,
            to: target.0,
            reason: reason.into(),
            at_ms,
            result: result.as_ref().map_or_else(|e| e.code.clone(), |_| "moved".into()),
            times: result.as_ref().copied().unwrap_or_default(),
        };
        let mut records = self.inner.moves.records.lock();
        if records.len() == RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(record);
        drop(records);
        result
    }

    async fn run_move(
        &self,
        id: u64,
        group: GroupId,
        contexts: &[(ContextId, ContextKind)],
        target: onemec_wire::Member,
        reason: &str,
        catch_up: Duration,
    ) -> Result<MoveTimes, MoveError> {
        let body = MoveBody::Admit { group, contexts: contexts.to_vec(), history_bytes: 0, reason: reason.into() };
        match self.ask_move(target.node, group, &body, ADMIT_MAX).await? {
            MoveReply::Admitted => {}
            MoveReply::Refused { code, reason } => return Err(MoveError { code, reason }),
            _ => return Err(MoveError::new("protocol", "an answer that makes no sense")),
        }
        let (reply, end) = oneshot::channel();
        let order = MoveOrder { id: MoveId(id), target, catch_up_until: self.inner.parts.clock.mono() + catch_up };
        self.tell_group(group, GroupMsg::Move(order, reply));
        match tokio::time::timeout(catch_up + SWITCH_MAX, end).await {
            Ok(Ok(Ok(times))) => Ok(times),
            Ok(Ok(Err(failure))) => Err(failure.into()),
            Ok(Err(_)) => Err(MoveError::new("not-primary", "the group's actor ended")),
            Err(_) => Err(MoveError::new("unknown", "the end of the move is not known: look at the directory")),
        }
    }

    /// The moves that began at this node, oldest first.
    pub fn moves(&self) -> Vec<MoveRecord> {
        self.inner.moves.records.lock().iter().cloned().collect()
    }
}
