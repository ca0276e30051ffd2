//! Follows the directory: every change of a placement reaches its group's actor; actors begin where a placement names this
//! node.

use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};

use onemec_core::contexts::GroupContexts;
use onemec_core::group::{LogShape, Me, Position, Replica};
use onemec_wire::GroupId;
use ractor::ActorRuntime;

use super::gate::GroupGate;
use super::group::actor::{End, GroupActor, MakeExec};
use super::group::{Fresh, GroupEnv, GroupExec};
use super::mailbox::Mailbox;
use super::passive::{Entry, Meter, Passive};
use super::{GroupRef, Inner, Runtime};
use crate::directory::{Change, ChangeFeed};
use crate::store::GroupStore;

/// Bytes of the tail that are looked at at once.
const TAIL_BYTES: usize = 1 << 20;

impl Runtime {
    pub(super) fn follow_directory(&self) {
        let mut first = Some(self.inner.parts.directory.changes());
        let weak = Arc::downgrade(&self.inner);
        self.rescan();
        tokio::spawn(self.inner.parts.tree.clone().keep("groups/placements", move || {
            let (feed, weak) = (first.take(), weak.clone());
            async move {
                Self::follow(feed, &weak).await;
                Ok(())
            }
        }));
    }

    /// Ends with the directory or the executor. Without a feed everything is looked at first.
    async fn follow(feed: Option<ChangeFeed>, weak: &Weak<Inner>) {
        let begun = |runtime: Self| {
            let feed = runtime.inner.parts.directory.changes();
            runtime.rescan();
            feed
        };
        let Some(mut feed) = feed.or_else(|| weak.upgrade().map(|inner| begun(Self { inner }))) else { return };
        while let Some(change) = feed.next().await {
            let Some(inner) = weak.upgrade() else { return };
            let runtime = Self { inner };
            match change {
                Change::Rescan => runtime.rescan(),
                Change::Set(set) if set.nodes.is_empty() => runtime.look_at(set.groups.iter().copied()),
                // Who is alive concerns every group that is led here; first those that lost somebody.
                Change::Set(set) => {
                    runtime.look_at(set.groups.iter().copied());
                    let others: Vec<GroupId> = runtime.inner.groups.iter().map(|g| *g.key()).collect();
                    let others = others.into_iter().filter(|g| !set.groups.contains(g));
                    runtime.look_at(others.filter(|g| runtime.is_concerned_by_nodes(*g)));
                }
            }
        }
    }

    fn rescan(&self) {
        let mut groups: std::collections::BTreeSet<GroupId> = self.inner.groups.iter().map(|g| *g.key()).collect();
        groups.extend(self.inner.parts.store.groups());
        groups.extend(self.inner.parts.directory.read().groups().map(|(id, _)| id));
        self.look_at(groups.into_iter());
    }

    pub(super) fn look_at(&self, groups: impl Iterator<Item = GroupId>) {
        for group in groups {
            let (placement, live) = self.news_of(group);
            let here = self.inner.groups.contains_key(&group);
            let concerned = placement.as_ref().is_some_and(|p| self.concerns(p));
            let on_disk = !here && !concerned && self.inner.parts.store.group(group).is_some();
            if !(here || concerned || on_disk) {
                continue;
            }
            if placement.is_none() && !self.inner.parts.directory.read().was_deleted(group) {
                continue; // newer than what is applied here: quarantined until it is (rule 13)
            }
            self.tell_placement(group, placement, live);
        }
    }

    /// A call may come before the feed has told the group's actor what the directory says already.
    pub(super) fn tell_news(&self, group: GroupId) {
        let now = self.inner.parts.directory.read().group(group).map(|p| (p.epoch.0, p.version.0));
        let told = self.told_version(group);
        if now.is_some_and(|at| told.is_none_or(|t| t < at)) {
            self.look_at(std::iter::once(group));
        }
    }

    /// Starts a group's actor: anew from the store, or where its passive life ended.
    pub(super) fn spawn_group(&self, group: GroupId, passive: Option<Passive>) -> Result<GroupRef, String> {
        let meter = Arc::new(Meter::default());
        meter.used(self.inner.parts.clock.mono());
        let gate = Arc::new(GroupGate::new(self.inner.parts.lease.clone()));
        let queued = Arc::new(AtomicUsize::new(0));
        let weak = Arc::downgrade(&self.inner);
        let seed = Seed { passive, gate: gate.clone(), meter: meter.clone() };
        let counter = queued.clone();
        let make: MakeExec = Arc::new(move |group, myself| {
            let inner = weak.upgrade().ok_or("the node is stopping")?;
            Self { inner }.make_exec(group, seed.clone(), Mailbox::new(myself, counter.clone()))
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
                runtime.cannot_start(group, &e.to_string());
                runtime.inner.ids.lock().remove(&id);
                runtime.inner.groups.remove_if(&group, |_, entry| entry.is_run_by(id));
            }
        });
        Ok(GroupRef { mail: Mailbox::new(actor, queued), gate, meter, told: Arc::default() })
    }

    fn make_exec(&self, group: GroupId, seed: Seed, mail: Mailbox) -> Result<GroupExec, String> {
        let inner = &self.inner;
        let factories = self.actors().map(|a| a.factories.clone()).ok_or("the node has not begun")?;
        let store = inner.parts.store.group_or_new(group);
        let Seed { passive, gate, meter } = seed;
        let (history, its_gate) = (store.history(), gate.clone());
        let fresh: Fresh =
            Arc::new(move || GroupContexts::new(group, factories.clone(), history.clone(), its_gate.clone()));
        let me = Me { group, member: inner.parts.member, store: inner.parts.store_id };
        let at = store.positions();
        let (replica, contexts) = match &passive {
            Some(passive) => (passive.replica.clone(), None),
            None => {
                let checkpoint = store.checkpoint();
                // Without a checkpoint the tail is all there is, and that is in memory.
                let contexts = checkpoint.is_none().then(|| fresh());
                let log = shape_of(&store, checkpoint.unwrap_or_default());
                let replica = Replica::new(me, inner.options.timing, log, at.epoch, inner.parts.clock.mono());
                // Rules 5 and 9: what its predecessor proposed is settled before its gate opens.
                match inner.crashed.lock().get(&group) {
                    Some(at) => (replica.after_crash(*at), contexts),
                    None => (replica, contexts),
                }
            }
        };
        let (forward, loader, resting) = (self.clone(), self.clone(), self.clone());
        let id = mail.actor().get_id();
        let env = GroupEnv {
            member: inner.parts.member,
            store,
            net: self.group_net(group, mail.clone()),
            deliverer: self.deliverer(),
            clock: inner.parts.clock.clone(),
            limits: inner.options.limits,
            audit: inner.parts.audit.clone(),
            mail,
            fresh,
            load: Arc::new(move |fresh| loader.load(group, fresh)),
            rest: Arc::new(move |passive| resting.put_to_rest(group, id, passive)),
            meter,
            effects_dropped: self.inner.memory.effects_dropped.clone(),
            forward: Arc::new(move |node, epoch, write| forward.forward_parked(node, epoch, write)),
        };
        let mut exec = GroupExec::new(group, env, gate, replica, contexts);
        if let Some(passive) = passive {
            exec.resume(passive);
        }
        Ok(exec)
    }

    /// A group's actor has ended.
    pub(super) fn group_ended(&self, group: GroupId, end: End) {
        let ended = |entry: &Entry| match end {
            // A passive group, or one that has come back since, is not the business of its former actor.
            End::Stopped(actor) => entry.is_run_by(actor),
            End::Failed => true,
        };
        if end == End::Failed
            && let (Some(placement), _) = self.news_of(group)
        {
            self.inner.crashed.lock().insert(group, (placement.epoch, placement.version));
        }
        if let Some((_, Entry::Active(g))) = self.inner.groups.remove_if(&group, |_, entry| ended(entry)) {
            g.gate.set(onemec_wire::Epoch(0), false);
        }
        if end == End::Failed {
            let (placement, live) = self.news_of(group);
            if placement.is_some() {
                self.tell_placement(group, placement, live);
            }
        }
    }
}

/// What an executor begins with, beside the store.
#[derive(Clone)]
struct Seed {
    passive: Option<Passive>,
    gate: Arc<GroupGate>,
    meter: Arc<Meter>,
}

/// The log as the store holds it.
fn shape_of(store: &GroupStore, base: Position) -> LogShape {
    let mut tail = Vec::new();
    loop {
        let from = tail.last().map_or(base.seq, |p: &Position| p.seq).next();
        let records = store.records(from, TAIL_BYTES);
        if records.is_empty() {
            break;
        }
        tail.extend(records.iter().map(|r| Position { epoch: r.epoch(), seq: r.seq() }));
    }
    let mut log = LogShape::recovered(base, tail, false);
    log.note_synced(store.positions().synced);
    log
}
