//! Brings groups to what their bundles want (row G13, rule 16). The leader of the group that gives does it:
//!
//! ```text
//! 1 copy    kept records go into the log of the group that takes, while both serve; so often that few are left
//! 2 seal    the giving group freezes; its log ends at N, and is held by its whole set
//! 3 join    the rest of the kept records, no-ops up to N, and the contexts' states go into the taking group's log
//! 4 freeze  the taking group freezes too; when its set holds all of it, its machine proposes Regroup
//! 5 switch  one entry: the contexts belong to the taking group, under an epoch beyond both; what was parked is served
//! ```
//! Whatever fails before 5 leaves both groups as they were; what was copied is taken away again. A regroup that was
//! proposed and whose fate is unknown is decided by an abort (rule 9), in either group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use onemec_core::contexts::{GroupContexts, JoinState};
use onemec_core::directory::bundles::Step;
use onemec_core::directory::{Command, CommandOutcome, Refusal};
use onemec_core::group::{Goal, MoveFailure, MoveId, MoveOrder, Position};
use onemec_core::time::Mono;
use onemec_wire::{ContextId, Epoch, GroupId, Record, Seq};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::Runtime;
use super::group::GroupMsg;
use super::group::regroup::{Kept, RegroupMsg};
use crate::store::seqset::SeqSet;

/// Steps that a node takes at once.
const STEPS_MAX: usize = 4;
/// A step that failed is tried again after this time, then after longer ones.
const AGAIN_MIN: Duration = Duration::from_millis(100);
const AGAIN_MAX: Duration = Duration::from_secs(300);
/// The directory is looked at no more often.
const LOOK_MIN: Duration = Duration::from_millis(20);
/// A group that follows its bundle to another node catches up within this time.
const FOLLOW_MAX: Duration = Duration::from_secs(30);
/// An actor answers within this time.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// A sealed group thaws by itself after this time.
const SEALED_MAX: Duration = Duration::from_secs(3);
/// A group of its own has its replicas within this time.
const REPLICAS_MAX: Duration = Duration::from_secs(10);
/// Kept records of one batch, and how many may be left for the time of the freeze.
const BATCH: usize = 128;
const ROUNDS_MAX: usize = 8;
/// So many places the log of the taking group may lag behind that of the giving one: it is filled up with no-ops.
const PAD_MAX: u64 = 4_096;
/// A new group's log begins so far beyond the present end of the log that its contexts come from.
const HEADROOM: u64 = 1 << 20;

type Failed = String;

impl Runtime {
    pub(super) fn follow_bundles(&self) {
        let weak = Arc::downgrade(&self.inner);
        let mut feed = self.inner.parts.directory.changes();
        tokio::spawn(async move {
            let mut busy: BTreeSet<GroupId> = BTreeSet::new();
            let mut later: BTreeMap<GroupId, (u32, Mono)> = BTreeMap::new();
            let mut steps: JoinSet<(Step, Result<(), Failed>)> = JoinSet::new();
            loop {
                tokio::select! {
                    change = feed.next() => if change.is_none() { return },
                    Some(ended) = steps.join_next() => {
                        let Some(inner) = weak.upgrade() else { return };
                        let now = inner.parts.clock.mono();
                        match ended {
                            Ok((step, result)) => {
                                groups_of(&step).for_each(|g| {
                                    busy.remove(&g);
                                });
                                note(step.group(), result, &mut later, now);
                            }
                            Err(e) => {
                                tracing::error!("a step of a regroup failed: {e}");
                                busy.clear();
                            }
                        }
                    }
                    () = tokio::time::sleep(AGAIN_MIN), if !later.is_empty() => {}
                }
                tokio::time::sleep(LOOK_MIN).await;
                let Some(inner) = weak.upgrade() else { return };
                let runtime = Self { inner };
                let now = runtime.inner.parts.clock.mono();
                let wanted = runtime.inner.parts.directory.read().bundle_steps(runtime.member());
                later.retain(|group, _| wanted.iter().any(|s| s.group() == *group));
                for step in wanted {
                    // A group without contexts may be the one that a step under way has just made.
                    let wanted = !matches!(step, Step::Drop(_)) || steps.is_empty();
                    let free = wanted && groups_of(&step).all(|g| !busy.contains(&g));
                    let due = later.get(&step.group()).is_none_or(|(_, at)| now >= *at);
                    if steps.len() < STEPS_MAX && free && due {
                        busy.extend(groups_of(&step));
                        let runtime = runtime.clone();
                        steps.spawn(async move {
                            let result = runtime.take_step(&step).await;
                            (step, result)
                        });
                    }
                }
            }
        });
    }

    async fn take_step(&self, step: &Step) -> Result<(), Failed> {
        match step {
            Step::Follow { group, to } => {
                self.move_group(*group, *to, "bundle", None, FOLLOW_MAX).await.map(drop).map_err(|e| e.to_string())
            }
            Step::Join { from, into, contexts } => self.regroup(*from, *into, contexts).await,
            Step::Part { from, contexts } => self.part(*from, contexts).await,
            Step::Drop(group) => self.drop_empty(*group).await,
        }
    }

    /// `contexts` of `from` join `into`; both are led here.
    async fn regroup(&self, from: GroupId, into: GroupId, contexts: &[ContextId]) -> Result<(), Failed> {
        let (end_from, _) = self.survey(from, &[]).await?;
        let (end_into, _) = self.survey(into, &[]).await?;
        let all =
            |group| self.inner.parts.directory.read().group(group).map(|p| p.contexts.clone()).unwrap_or_default();
        if end_from.0 > end_into.0 + PAD_MAX {
            // The longer log takes, if the other may end: which id the group has afterwards matters to nobody.
            if all(from) != contexts {
                return self.part(from, contexts).await; // then they are alone in a group, which takes the others
            }
            let contexts = all(into);
            return self.hand_over(into, from, &contexts).await;
        }
        self.hand_over(from, into, contexts).await
    }

    async fn hand_over(&self, from: GroupId, into: GroupId, contexts: &[ContextId]) -> Result<(), Failed> {
        let id = MoveId(1 << 63 | self.nonce().0 as u64);
        let mut copied = BTreeSet::new();
        let result = self.try_hand_over(id, from, into, contexts, &mut copied).await;
        match &result {
            Ok(()) => tracing::info!(%from, %into, contexts = contexts.len(), records = copied.len(), "regrouped"),
            Err(_) => {
                self.tell_group(from, GroupMsg::Regroup(RegroupMsg::Unseal(id)));
                self.tell_group(into, GroupMsg::Regroup(RegroupMsg::Abandon(contexts.to_vec())));
            }
        }
        result
    }

    async fn try_hand_over(
        &self,
        id: MoveId,
        from: GroupId,
        into: GroupId,
        contexts: &[ContextId],
        copied: &mut BTreeSet<(ContextId, Seq)>,
    ) -> Result<(), Failed> {
        for _ in 0..ROUNDS_MAX {
            let (_, kept) = self.survey(from, contexts).await?;
            if self.copy(into, &kept, copied).await? <= BATCH {
                break;
            }
        }
        let (_, kept) = self.survey(from, contexts).await?;
        let (end, _) = self.survey(into, &[]).await?;
        let (end_from, _) = self.survey(from, &[]).await?;
        self.pad(into, end_from.max(end)).await?;

        let now = self.inner.parts.clock.mono();
        let order = MoveOrder { id, goal: Goal::Seal, attachment: None, until: now + SEALED_MAX };
        let sealed =
            self.ask_group(from, |reply| RegroupMsg::Seal(order, contexts.to_vec(), reply)).await?.map_err(said)?;
        // The machines name what they keep; what came after the last copy is few.
        let rest = kept.iter().filter_map(|k| {
            let (_, state) = sealed.contexts.iter().find(|(c, _)| *c == k.context)?;
            Some(Kept { context: k.context, names: state.kept().to_vec(), history: k.history.clone() })
        });
        self.copy(into, &rest.collect::<Vec<_>>(), copied).await?;
        self.pad(into, sealed.sealed).await?;
        let encoded = |(c, state): &(ContextId, JoinState)| Ok((*c, state.encode().map_err(|e| e.to_string())?));
        let states = sealed.contexts.iter().map(encoded).collect::<Result<Vec<_>, Failed>>()?;
        let goal = Goal::Regroup { from: sealed.base, contexts: contexts.to_vec() };
        let order = MoveOrder { id, goal, attachment: None, until: self.inner.parts.clock.mono() + SEALED_MAX };
        self.ask_group(into, |reply| RegroupMsg::Join(order, states, reply)).await?.map_err(said)
    }

    /// Copies what is not copied yet; says how much that was.
    async fn copy(
        &self,
        into: GroupId,
        kept: &[Kept],
        copied: &mut BTreeSet<(ContextId, Seq)>,
    ) -> Result<usize, Failed> {
        let mut number = 0;
        for Kept { context, names, history } in kept {
            let new: Vec<Seq> = names.iter().copied().filter(|s| !copied.contains(&(*context, *s))).collect();
            number += new.len();
            for batch in new.chunks(BATCH) {
                let (history, names) = (history.clone(), batch.to_vec());
                let read = move || names.into_iter().filter_map(|s| history.record(s)).collect::<Vec<Record>>();
                // What is missing has been released meanwhile; if not, the group that takes will say so.
                let records = tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())?;
                self.ask_group(into, |reply| RegroupMsg::Adopt(records, reply)).await?.map_err(said)?;
                copied.extend(batch.iter().map(|s| (*context, *s)));
            }
        }
        Ok(number)
    }

    async fn pad(&self, into: GroupId, upto: Seq) -> Result<(), Failed> {
        let (end, _) = self.survey(into, &[]).await?;
        if upto.0 > end.0 + PAD_MAX {
            return Err(format!("the log of {into} is too short"));
        }
        self.ask_group(into, |reply| RegroupMsg::Pad(upto, reply)).await?.map_err(said)
    }

    async fn survey(&self, group: GroupId, contexts: &[ContextId]) -> Result<(Seq, Vec<Kept>), Failed> {
        self.ask_group(group, |reply| RegroupMsg::Survey(contexts.to_vec(), reply)).await
    }

    async fn ask_group<T>(
        &self,
        group: GroupId,
        message: impl FnOnce(oneshot::Sender<T>) -> RegroupMsg,
    ) -> Result<T, Failed> {
        let (reply, answer) = oneshot::channel();
        self.tell_group(group, GroupMsg::Regroup(message(reply)));
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err("the group's actor ended".into()),
            Err(_) => Err("the group's actor does not answer".into()),
        }
    }

    /// `contexts` leave `from` for a group of their own.
    async fn part(&self, from: GroupId, contexts: &[ContextId]) -> Result<(), Failed> {
        let p = self.inner.parts.directory.read().group(from).cloned().ok_or("the group is gone")?;
        let (end, _) = self.survey(from, &[]).await?;
        let begin = Seq(end.0 + HEADROOM);
        let command = Command::CreateEmpty {
            nonce: self.nonce(),
            primary: self.member(),
            durability: p.durability,
            replicas_wanted: p.replicas_wanted,
            begin,
        };
        let group = match self.propose(command).await {
            Ok(CommandOutcome::Created { group, .. }) => group,
            Ok(other) => return Err(format!("{other:?}")),
            Err(e) => return Err(e.to_string()),
        };
        let parted = self.part_into(from, group, begin, contexts, p.in_sync.len()).await;
        if parted.is_err() {
            self.drop_empty(group).await.ok();
        }
        parted
    }

    async fn part_into(
        &self,
        from: GroupId,
        group: GroupId,
        begin: Seq,
        contexts: &[ContextId],
        members: usize,
    ) -> Result<(), Failed> {
        let base = Position { epoch: Epoch(0), seq: begin };
        let snapshot = GroupContexts::empty_at(base).map_err(|e| e.to_string())?;
        let (store, bytes) = (self.inner.parts.store.group_or_new(group), snapshot.clone());
        let install = move || store.begin_install().commit(base.seq, base.epoch, SeqSet::default(), &bytes);
        tokio::task::spawn_blocking(install).await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        self.tell_group(group, GroupMsg::Installed { base, epoch: Epoch(1), from: self.member(), snapshot });
        // What was told before the log had its beginning is told again.
        self.look_at(std::iter::once(group));
        let until = self.inner.parts.clock.mono() + REPLICAS_MAX;
        while self.inner.parts.directory.read().group(group).is_none_or(|p| p.in_sync.len() < members) {
            if self.inner.parts.clock.mono() >= until {
                return Err("the new group found no replicas".into());
            }
            tokio::time::sleep(LOOK_MIN).await;
        }
        self.hand_over(from, group, contexts).await
    }

    async fn drop_empty(&self, group: GroupId) -> Result<(), Failed> {
        let base = self.inner.parts.directory.read().group(group).map(|p| p.base(group));
        let Some(base) = base else { return Ok(()) };
        match self.propose(Command::DropEmpty { base }).await {
            Ok(CommandOutcome::Refused(Refusal::NoGroup)) => Ok(()),
            Ok(CommandOutcome::Refused(refusal)) => Err(refusal.to_string()),
            Ok(_) => Ok(()),
            Err(e) => Err(e.to_string()),
        }
    }
}

fn said(failure: MoveFailure) -> Failed {
    failure.to_string()
}

fn groups_of(step: &Step) -> impl Iterator<Item = GroupId> + '_ {
    let other = match step {
        Step::Join { into, .. } => Some(*into),
        _ => None,
    };
    std::iter::once(step.group()).chain(other)
}

fn note(group: GroupId, result: Result<(), Failed>, later: &mut BTreeMap<GroupId, (u32, Mono)>, now: Mono) {
    match result {
        Ok(()) => drop(later.remove(&group)),
        Err(e) => {
            let tries = later.get(&group).map_or(0, |(n, _)| *n) + 1;
            let pause = AGAIN_MIN.saturating_mul(1 << tries.min(12)).min(AGAIN_MAX);
            tracing::info!(%group, tries, "bundle: {e}; tried again in {} ms", pause.as_millis());
            later.insert(group, (tries, now + pause));
        }
    }
}
