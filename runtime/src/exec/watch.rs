//! Follows the directory: every change of a placement reaches its group's actor; actors begin where a placement names this
//! node.

use std::sync::Arc;

use onemec_core::contexts::GroupContexts;
use onemec_core::directory::Placement;
use onemec_core::group::{Live, LogShape, Me, Position, Replica};
use onemec_wire::GroupId;
use ractor::{ActorRef, ActorRuntime};

use super::gate::GroupGate;
use super::group::actor::{GroupActor, MakeExec};
use super::group::{GroupEnv, GroupExec, GroupMsg};
use super::{GroupRef, Runtime};
use crate::directory::Change;

/// Bytes of the tail that are looked at at once.
const TAIL_BYTES: usize = 1 << 20;

impl Runtime {
    pub(super) fn follow_directory(&self) {
        let mut feed = self.inner.parts.directory.changes();
        let weak = Arc::downgrade(&self.inner);
        self.rescan();
        tokio::spawn(async move {
            while let Some(change) = feed.next().await {
                let Some(inner) = weak.upgrade() else { return };
                let runtime = Self { inner };
                match change {
                    Change::Rescan => runtime.rescan(),
                    Change::Set(set) if set.nodes.is_empty() => runtime.look_at(set.groups.iter().copied()),
                    // Who is alive concerns every group that is led here.
                    Change::Set(set) => {
                        let mut groups = set.groups.clone();
                        groups.extend(runtime.inner.groups.iter().map(|g| *g.key()));
                        runtime.look_at(groups.into_iter());
                    }
                }
            }
        });
    }

    fn rescan(&self) {
        let mut groups: std::collections::BTreeSet<GroupId> = self.inner.groups.iter().map(|g| *g.key()).collect();
        groups.extend(self.inner.parts.store.groups());
        groups.extend(self.inner.parts.directory.read().groups().map(|(id, _)| id));
        self.look_at(groups.into_iter());
    }

    pub(super) fn look_at(&self, groups: impl Iterator<Item = GroupId>) {
        for group in groups {
            let (placement, live) = {
                let directory = self.inner.parts.directory.read();
                let placement = directory.group(group).cloned();
                let live = self.live(&directory, placement.as_ref());
                (placement, live)
            };
            let here = self.inner.groups.contains_key(&group);
            let concerned = placement.as_ref().is_some_and(|p| self.concerns(p));
            let on_disk = !here && !concerned && self.inner.parts.store.groups().contains(&group);
            if !(here || concerned || on_disk) {
                continue;
            }
            if placement.is_none() && !self.inner.parts.directory.read().was_deleted(group) {
                continue; // newer than what is applied here: quarantined until it is (rule 13)
            }
            self.tell_placement(group, placement, live);
        }
    }

    fn tell_placement(&self, group: GroupId, placement: Option<Placement>, live: Live) {
        let at = placement.as_ref().map_or((u64::MAX, u64::MAX), |p| (p.epoch.0, p.version.0));
        match self.group(group) {
            Ok(g) => {
                // Under the lock, so that two callers tell in the order of versions.
                let mut told = g.told.lock();
                drop(g.actor.send_message(GroupMsg::Placement(placement, live)));
                *told = (*told).max(at);
            }
            Err(e) => tracing::error!(%group, "cannot start: {e}"),
        }
    }

    /// A call may come before the feed has told the group's actor what the directory says already.
    pub(super) fn tell_news(&self, group: GroupId) {
        let now = self.inner.parts.directory.read().group(group).map(|p| (p.epoch.0, p.version.0));
        let told = self.inner.groups.get(&group).map(|g| *g.told.lock());
        if now.is_some_and(|at| told.is_none_or(|t| t < at)) {
            self.look_at(std::iter::once(group));
        }
    }

    /// Sends to a group's actor, starting it if need be.
    pub(super) fn tell_group(&self, group: GroupId, message: GroupMsg) {
        match self.group(group) {
            Ok(g) => drop(g.actor.send_message(message)),
            Err(e) => tracing::error!(%group, "cannot start: {e}"),
        }
    }

    /// The actor of a group, started if need be.
    pub(super) fn group(&self, group: GroupId) -> Result<GroupRef, String> {
        if let Some(g) = self.inner.groups.get(&group) {
            return Ok(g.clone());
        }
        let entry = self.inner.groups.entry(group);
        if let dashmap::Entry::Occupied(g) = &entry {
            return Ok(g.get().clone());
        }
        let gate = Arc::new(GroupGate::new(self.inner.parts.lease.clone()));
        let actor = self.spawn_group(group, gate.clone())?;
        let known = GroupRef { actor, gate, told: Arc::default() };
        entry.insert(known.clone());
        Ok(known)
    }

    fn spawn_group(&self, group: GroupId, gate: Arc<GroupGate>) -> Result<ActorRef<GroupMsg>, String> {
        let weak = Arc::downgrade(&self.inner);
        let make: MakeExec = Arc::new(move |group, myself| {
            let inner = weak.upgrade().ok_or("the node is stopping")?;
            Self { inner }.make_exec(group, gate.clone(), myself)
        });
        let supervisor = self.inner.supervisor.get_cell();
        let mut ids = self.inner.ids.lock();
        let (actor, started) = ActorRuntime::spawn_linked_instant(None, GroupActor, (group, make), supervisor)
            .map_err(|e| e.to_string())?;
        ids.insert(actor.get_id(), group);
        drop(ids);
        let (runtime, id) = (self.clone(), actor.get_id());
        tokio::spawn(async move {
            if let Ok(Err(e)) = started.await {
                // It never came to life: no supervision event tells of it.
                tracing::error!(%group, "group actor did not start: {e}");
                runtime.inner.ids.lock().remove(&id);
                runtime.inner.groups.remove(&group);
            }
        });
        Ok(actor)
    }

    fn make_exec(&self, group: GroupId, gate: Arc<GroupGate>, myself: ActorRef<GroupMsg>) -> Result<GroupExec, String> {
        let inner = &self.inner;
        let factories = self.actors().map(|a| a.factories.clone()).ok_or("the node has not begun")?;
        let store = inner.parts.store.group_or_new(group);
        let mut contexts = GroupContexts::new(group, factories, store.history(), gate.clone());
        let mut base = Position::default();
        if let Some((seq, epoch, snapshot)) = store.snapshot().map_err(|e| e.to_string())? {
            contexts.restore(&snapshot).map_err(|e| e.to_string())?;
            base = Position { epoch, seq };
        }
        let mut tail = Vec::new();
        loop {
            let from = tail.last().map_or(base.seq, |p: &Position| p.seq).next();
            let records = store.records(from, TAIL_BYTES);
            if records.is_empty() {
                break;
            }
            tail.extend(records.iter().map(|r| Position { epoch: r.epoch(), seq: r.seq() }));
        }
        let at = store.positions();
        let mut log = LogShape::recovered(base, tail, false);
        log.note_synced(at.synced);
        let me = Me { group, member: inner.parts.member, store: inner.parts.store_id };
        let replica = Replica::new(me, inner.options.timing, log, at.epoch, inner.parts.clock.mono());
        let tell = myself.clone();
        let forward = self.clone();
        let env = GroupEnv {
            member: inner.parts.member,
            store,
            net: self.group_net(group, myself.clone()),
            deliverer: self.deliverer(),
            clock: inner.parts.clock.clone(),
            limits: inner.options.limits,
            audit: inner.parts.audit.clone(),
            myself: Arc::new(move |m| drop(tell.send_message(m))),
            forward: Arc::new(move |node, epoch, write| forward.forward_parked(node, epoch, write)),
        };
        Ok(GroupExec::new(group, env, gate, replica, contexts))
    }

    /// A group's actor has ended.
    pub(super) fn group_ended(&self, group: GroupId, again: bool) {
        if let Some((_, g)) = self.inner.groups.remove(&group) {
            g.gate.set(onemec_wire::Epoch(0), false);
        }
        if again {
            let (placement, live) = {
                let directory = self.inner.parts.directory.read();
                let placement = directory.group(group).cloned();
                let live = self.live(&directory, placement.as_ref());
                (placement, live)
            };
            if placement.is_some() {
                self.tell_placement(group, placement, live);
            }
        }
    }
}
