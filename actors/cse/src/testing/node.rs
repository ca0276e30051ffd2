//! One node of the in-memory cluster: the [`Contexts`] that an actor is given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use onemec_core::context::{
    Answer, BoxFuture, CallError, CallOptions, ContextKind, Contexts, CreateError, EffectHandler, Key, MachineFactory,
    NewContext, Op, Place, ReadHandler,
};
use onemec_wire::{ContextId, NodeId, RecordKind};
use parking_lot::RwLock;

use super::cluster::MemoryCluster;

/// A node. Contexts whose primary is another node are reached as over the network: through that node's handlers.
pub struct MemoryNode {
    node: NodeId,
    cluster: Arc<MemoryCluster>,
    effects: RwLock<Option<Arc<dyn EffectHandler>>>,
    reads: RwLock<Option<Arc<dyn ReadHandler>>>,
    writes: AtomicU64,
    cut_off: AtomicBool,
}

impl MemoryNode {
    pub(super) fn new(node: NodeId, cluster: Arc<MemoryCluster>) -> Self {
        Self {
            node,
            cluster,
            effects: RwLock::new(None),
            reads: RwLock::new(None),
            writes: AtomicU64::new(0),
            cut_off: AtomicBool::new(false),
        }
    }

    /// Registers the factory of a kind.
    pub fn set_factory(&self, kind: ContextKind, factory: Arc<dyn MachineFactory>) {
        self.cluster.factories.insert((self.node, kind), factory);
    }

    /// Registers who delivers effects; without one they are dropped.
    pub fn set_effect_handler(&self, handler: Arc<dyn EffectHandler>) {
        *self.effects.write() = Some(handler);
    }

    /// Registers who answers reads that other nodes forward here.
    pub fn set_read_handler(&self, handler: Arc<dyn ReadHandler>) {
        *self.reads.write() = Some(handler);
    }

    /// Takes the node's lease away, or gives it back.
    pub fn set_cut_off(&self, cut_off: bool) {
        self.cut_off.store(cut_off, Ordering::Relaxed);
    }

    /// How many writes were asked of this node.
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> Arc<MemoryCluster> {
        Arc::clone(&self.cluster)
    }

    /// Number of kept records of a context.
    pub fn kept(&self, context: ContextId) -> usize {
        self.cluster.slots.get(&context).map_or(0, |s| s.kept())
    }

    /// No effect of any context waits for its delivery.
    pub fn outbox_is_empty(&self) -> bool {
        self.cluster.slots.iter().all(|s| s.lanes.is_empty())
    }

    pub(super) fn effect_handler(&self) -> Option<Arc<dyn EffectHandler>> {
        self.effects.read().clone()
    }

    fn lookup(&self, key: &Key) -> Option<Place> {
        let directory = self.cluster.directory.read();
        let holder = *directory.keys.get(key)?;
        let mut place = directory.places.get(&holder.context)?.clone();
        place.alias = holder.alias;
        Some(place)
    }
}

impl Contexts for MemoryNode {
    fn node(&self) -> NodeId {
        self.node
    }

    fn now_ms(&self) -> u64 {
        self.cluster.now_ms()
    }

    fn may_acknowledge(&self) -> bool {
        !self.cut_off.load(Ordering::Relaxed)
    }

    fn by_key(&self, key: &Key) -> Option<Place> {
        self.lookup(key)
    }

    fn by_id(&self, context: ContextId) -> Option<Place> {
        self.cluster.directory.read().places.get(&context).cloned()
    }

    fn by_key_linearizable(&self, key: Key, _: Duration) -> BoxFuture<'_, Result<Option<Place>, CallError>> {
        Box::pin(async move { Ok(self.lookup(&key)) })
    }

    fn at_home(&self, home: NodeId, kind: ContextKind, after: Option<ContextId>, limit: usize) -> Vec<Place> {
        let directory = self.cluster.directory.read();
        directory
            .places
            .values()
            .filter(|p| p.home == home && p.kind == kind && after.is_none_or(|a| p.context > a))
            .take(limit)
            .cloned()
            .collect()
    }

    fn create(&self, new: NewContext, _: CallOptions) -> BoxFuture<'_, Result<(Place, Answer), CreateError>> {
        Box::pin(async move {
            let place =
                self.cluster.claim(self.node, &new).map_err(|(key, holder)| CreateError::KeyTaken { key, holder })?;
            let Some(slot) = self.cluster.make_slot(&place) else {
                self.cluster.forget(place.context);
                return Err(CallError::NotFound.into());
            };
            let now = self.cluster.now_ms();
            let applied = slot.write(RecordKind::CreateContext, now, &new.first, None).ok_or(CallError::Deleted)?;
            slot.serve(true);
            let answer = applied.answer.clone();
            self.cluster.after(&slot, applied);
            Ok((place, answer))
        })
    }

    fn set_bundle(&self, context: ContextId, bundle: Option<String>) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            self.cluster.set_bundle(context, bundle);
            Ok(())
        })
    }

    fn set_keys(
        &self,
        context: ContextId,
        claim: Vec<Key>,
        release: Vec<Key>,
    ) -> BoxFuture<'_, Result<(), CreateError>> {
        Box::pin(async move {
            let done = self.cluster.set_keys(context, &claim, &release);
            done.map_err(|(key, holder)| CreateError::KeyTaken { key, holder })
        })
    }

    fn write(&self, context: ContextId, op: Op, options: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>> {
        Box::pin(async move {
            self.writes.fetch_add(1, Ordering::Relaxed);
            if self.cluster.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                return Err(CallError::NotApplied {
                    reason: "told to fail".into(),
                    retry_after: Duration::from_millis(7),
                });
            }
            let slot = self.cluster.slots.get(&context).map(|s| Arc::clone(&s)).ok_or(CallError::NotFound)?;
            let applied = slot
                .write(RecordKind::Operation, self.cluster.now_ms(), &op, options.repeat.as_ref())
                .ok_or(CallError::Deleted)?;
            let answer = applied.answer.clone();
            self.cluster.after(&slot, applied);
            Ok(answer)
        })
    }

    fn read(&self, context: ContextId, op: Op, _: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>> {
        Box::pin(async move {
            let place = self.by_id(context).ok_or(CallError::NotFound)?;
            let node = self.cluster.nodes.get(&place.primary).map(|n| Arc::clone(&n)).ok_or(CallError::NotFound)?;
            let handler = node.reads.read().clone().ok_or(CallError::NotFound)?;
            Ok(handler.read(context, op).await)
        })
    }
}
