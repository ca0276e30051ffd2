//! What the nodes of an in-memory cluster share: the directory and the contexts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use dashmap::DashMap;
use onemec_core::context::{ContextKind, Env, Key, MachineFactory, Place};
use onemec_wire::{ContextId, Epoch, GroupId, NodeId};
use parking_lot::{Mutex, RwLock};

use super::node::MemoryNode;
use super::slot::{OpenGate, Slot};

/// Time as the in-memory cluster sees it.
#[derive(Debug)]
pub enum Clock {
    /// The machine's clock.
    Real,
    /// Moved by hand with [`MemoryCluster::advance`]; milliseconds since 1970.
    Manual(AtomicU64),
}

impl Clock {
    /// A clock that stands at `ms` until it is moved.
    pub fn manual(ms: u64) -> Self {
        Self::Manual(AtomicU64::new(ms))
    }

    pub(super) fn now_ms(&self) -> u64 {
        match self {
            Self::Real => {
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(0))
            }
            Self::Manual(ms) => ms.load(Ordering::Relaxed),
        }
    }
}

/// A name's holder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) context: ContextId,
    pub(super) alias: bool,
}

#[derive(Default)]
pub(super) struct Directory {
    pub(super) keys: std::collections::HashMap<Key, Holder>,
    /// Contexts in the order of their creation.
    pub(super) places: std::collections::BTreeMap<ContextId, Place>,
    next_index: u64,
    bundles: std::collections::BTreeMap<String, GroupId>,
}

/// The shared part.
pub struct MemoryCluster {
    pub(super) clock: Clock,
    pub(super) directory: RwLock<Directory>,
    pub(super) slots: DashMap<ContextId, Arc<Slot>>,
    pub(super) factories: DashMap<(NodeId, ContextKind), Arc<dyn MachineFactory>>,
    pub(super) nodes: DashMap<NodeId, Arc<MemoryNode>>,
    /// Nodes at which no context may be read locally: their reads go through `Contexts::read`.
    pub(super) moves: Mutex<()>,
    pub(super) failures: AtomicU32,
}

impl MemoryCluster {
    /// A cluster without nodes.
    pub fn new(clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            clock,
            directory: RwLock::default(),
            slots: DashMap::new(),
            factories: DashMap::new(),
            nodes: DashMap::new(),
            moves: Mutex::new(()),
            failures: AtomicU32::new(0),
        })
    }

    /// Adds a node.
    pub fn add_node(self: &Arc<Self>, node: NodeId) -> Arc<MemoryNode> {
        let made = Arc::new(MemoryNode::new(node, Arc::clone(self)));
        self.nodes.insert(node, Arc::clone(&made));
        made
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Moves a manual clock and runs all timers that become due, in order of time.
    pub fn advance(&self, by_ms: u64) {
        let Clock::Manual(ms) = &self.clock else { return };
        let end = ms.load(Ordering::Relaxed) + by_ms;
        loop {
            let due = self.slots.iter().filter_map(|s| s.next_timer()).min();
            match due {
                Some(at) if at <= end => {
                    ms.fetch_max(at, Ordering::Relaxed);
                    self.run_due_timers();
                }
                _ => break,
            }
        }
        ms.fetch_max(end, Ordering::Relaxed);
    }

    /// Runs the timers of all contexts that are due now.
    pub fn run_due_timers(&self) {
        let now = self.now_ms();
        let slots: Vec<Arc<Slot>> = self.slots.iter().map(|s| Arc::clone(&s)).collect();
        for slot in slots {
            if slot.next_timer().is_some_and(|at| at <= now) {
                self.after(&slot, slot.run_timers(now));
            }
        }
    }

    /// The next `count` writes fail as not applied.
    pub fn fail_writes(&self, count: u32) {
        self.failures.store(count, Ordering::Relaxed);
    }

    /// Moves a context: restores it at `to` from its snapshot, swaps its home keys, keeps the old ones as aliases.
    pub fn move_context(&self, context: ContextId, to: NodeId) -> Result<(), String> {
        let _one_at_a_time = self.moves.lock();
        let place = self.directory.read().places.get(&context).cloned().ok_or("no such context")?;
        let slot = self.slots.get(&context).map(|s| Arc::clone(&s)).ok_or("no such context")?;
        let factory = self.factories.get(&(to, place.kind)).map(|f| Arc::clone(&f)).ok_or("no factory there")?;
        let mut directory = self.directory.write();
        let own: Vec<Key> = directory
            .keys
            .iter()
            .filter(|(k, h)| h.context == context && k.home == Some(place.home) && !h.alias)
            .map(|(k, _)| k.clone())
            .collect();
        for key in &own {
            if let Some(h) = directory.keys.get(&Key::at(to, key.name.clone()))
                && h.context != context
            {
                return Err(format!("{} is taken there", key.name));
            }
        }
        slot.transfer(factory.as_ref())?;
        for key in own {
            directory.keys.insert(key.clone(), Holder { context, alias: true });
            directory.keys.insert(Key::at(to, key.name), Holder { context, alias: false });
        }
        if let Some(p) = directory.places.get_mut(&context) {
            (p.home, p.primary, p.epoch) = (to, to, p.epoch.next());
        }
        Ok(())
    }

    /// Lets another node serve a context whose home stays where it is (a failover that found its names taken).
    pub fn serve_at(&self, context: ContextId, node: NodeId) -> Result<(), String> {
        let kind = self.directory.read().places.get(&context).map(|p| p.kind).ok_or("no such context")?;
        let slot = self.slots.get(&context).map(|s| Arc::clone(&s)).ok_or("no such context")?;
        let factory = self.factories.get(&(node, kind)).map(|f| Arc::clone(&f)).ok_or("no factory there")?;
        slot.transfer(factory.as_ref())?;
        if let Some(p) = self.directory.write().places.get_mut(&context) {
            (p.primary, p.epoch) = (node, p.epoch.next());
        }
        Ok(())
    }

    /// The snapshot of a context and its log, to be replayed elsewhere.
    pub fn dump(&self, context: ContextId) -> Option<(bytes::Bytes, Vec<onemec_wire::Record>)> {
        Some(self.slots.get(&context)?.dump())
    }

    /// Gives up the logs, which only [`MemoryCluster::dump`] needs (for figures of memory).
    pub fn forget_logs(&self) {
        self.slots.iter().for_each(|s| s.forget_log());
    }

    /// How many contexts there are.
    pub fn contexts(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn claim(
        &self,
        node: NodeId,
        new: &onemec_core::context::NewContext,
    ) -> Result<Place, (Key, ContextId)> {
        let mut directory = self.directory.write();
        for key in &new.keys {
            if let Some(h) = directory.keys.get(key) {
                return Err((key.clone(), h.context));
            }
        }
        directory.next_index += 1;
        let context = ContextId::made(1, directory.next_index, 0);
        let bundle = new.bundle.as_ref().and_then(|b| directory.bundles.get(b).copied());
        let group = bundle.unwrap_or(GroupId::made(1, directory.next_index, 0));
        if let Some(bundle) = &new.bundle {
            directory.bundles.insert(bundle.clone(), group);
        }
        let place = Place { context, kind: new.kind, group, home: node, primary: node, epoch: Epoch(1), alias: false };
        for key in &new.keys {
            directory.keys.insert(key.clone(), Holder { context, alias: false });
        }
        directory.places.insert(context, place.clone());
        Ok(place)
    }

    pub(super) fn set_keys(&self, context: ContextId, claim: &[Key], release: &[Key]) -> Result<(), (Key, ContextId)> {
        let mut directory = self.directory.write();
        for key in claim {
            if let Some(h) = directory.keys.get(key).filter(|h| h.context != context) {
                return Err((key.clone(), h.context));
            }
        }
        directory.keys.retain(|k, h| h.context != context || h.alias || !release.contains(k));
        for key in claim {
            directory.keys.insert(key.clone(), Holder { context, alias: false });
        }
        Ok(())
    }

    /// The context joins the group of its bundle, or one of its own.
    pub(super) fn set_bundle(&self, context: ContextId, bundle: Option<String>) {
        let mut directory = self.directory.write();
        let own = GroupId::made(1, context.index(), 0);
        let group = bundle.map_or(own, |b| *directory.bundles.entry(b).or_insert(own));
        if let Some(place) = directory.places.get_mut(&context) {
            place.group = group;
        }
    }

    pub(super) fn make_slot(&self, place: &Place) -> Option<Arc<Slot>> {
        let factory = self.factories.get(&(place.home, place.kind)).map(|f| Arc::clone(&f))?;
        let gate = Arc::new(OpenGate::default());
        let history = Arc::new(super::slot::MemoryHistory::default());
        let env = Env {
            group: place.group,
            context: place.context,
            kind: place.kind,
            history: history.clone(),
            gate: gate.clone(),
        };
        let slot = Arc::new(Slot::new(env.clone(), factory.create(env), gate, history));
        self.slots.insert(place.context, Arc::clone(&slot));
        Some(slot)
    }

    pub(super) fn forget(&self, context: ContextId) {
        self.slots.remove(&context);
        let mut directory = self.directory.write();
        directory.places.remove(&context);
        directory.keys.retain(|_, h| h.context != context);
    }

    /// What follows an applied record: effects go out, a finished context goes away.
    pub(super) fn after(&self, slot: &Arc<Slot>, applied: super::slot::Applied) {
        if !applied.effects.is_empty() {
            let home = self.directory.read().places.get(&slot.context()).map(|p| p.primary);
            if let Some(node) = home.and_then(|h| self.nodes.get(&h).map(|n| Arc::clone(&n))) {
                super::outbox::enqueue(&node, slot, applied.effects);
            }
        }
        if applied.finished {
            self.forget(slot.context());
        }
    }
}
