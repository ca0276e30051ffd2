//! The resource tree of one context: data and look-ups, no procedures. Times are milliseconds since 1970.
//!
//! Resources are found by the place of the record that created them ([`Seq`]); a container's contentInstances are not
//! nodes but a compact list of references into the history (DESIGN.md section 6: a body stays the bytes that came).

mod instances;
mod node;
mod path;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::buffer::BufferKey;
use onemec_onem2m::Ty;
use onemec_wire::{ContextId, Incarnation, NodeId, Seq};

pub use instances::{Extra, Instance, Instances};
pub use node::{Creator, Node};
pub use path::{Found, Start, Target, Virtual};

/// A context's resources.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    context: ContextId,
    root: Seq,
    nodes: BTreeMap<Seq, Node>,
    /// `(et, node, instance)`; the instance is `Seq(0)` for the node itself.
    timers: BTreeSet<(u64, Seq, Seq)>,
    /// Where the context was at home when it was last written to: what timers have to go by.
    pub(crate) home: Option<crate::op::Home>,
    /// The last operation from the local buffer of each node: earlier ones are here already. Nodes are few, and their
    /// numbers are never used again.
    appended: BTreeMap<NodeId, (Incarnation, u64)>,
}

impl Tree {
    /// A tree without a root.
    pub fn new(context: ContextId) -> Self {
        Self {
            context,
            root: Seq(0),
            nodes: BTreeMap::new(),
            timers: BTreeSet::new(),
            home: None,
            appended: BTreeMap::new(),
        }
    }

    /// Its context.
    pub fn context(&self) -> ContextId {
        self.context
    }

    /// The AE, or the CSEBase; `None` before the first operation.
    pub fn root(&self) -> Option<&Node> {
        self.nodes.get(&self.root)
    }

    /// One resource that is not a contentInstance.
    pub fn node(&self, seq: Seq) -> Option<&Node> {
        self.nodes.get(&seq)
    }

    /// All resources that are not contentInstances, in the order of their creation.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    pub(crate) fn node_mut(&mut self, seq: Seq) -> Option<&mut Node> {
        self.nodes.get_mut(&seq)
    }

    /// The unstructured resource id of a node: of the root of an AE's context its stem, else made of the place.
    pub fn rid(&self, seq: Seq) -> String {
        match self.nodes.get(&seq) {
            Some(n) if seq == self.root => n.fixed_id.clone().unwrap_or_else(|| crate::rid::text(self.context, seq)),
            _ => crate::rid::text(self.context, seq),
        }
    }

    /// Adds a resource; its parent must be there unless it is the first, which becomes the root.
    pub(crate) fn insert(&mut self, node: Node) {
        let seq = node.seq;
        if let Some(parent) = node.parent.and_then(|p| self.nodes.get_mut(&p)) {
            parent.children.insert(node.name.clone(), seq);
            if node.ty == Ty::SUBSCRIPTION {
                parent.subscriptions.push(seq);
            }
        } else {
            self.root = seq;
        }
        if let Some(et) = node.et {
            self.timers.insert((et, seq, Seq(0)));
        }
        self.nodes.insert(seq, node);
    }

    /// Takes a resource and everything below it out; the removed nodes, parents first.
    pub(crate) fn remove(&mut self, seq: Seq) -> Vec<Node> {
        let Some(node) = self.nodes.get(&seq) else { return Vec::new() };
        if let Some(parent) = node.parent {
            let name = node.name.clone();
            if let Some(p) = self.nodes.get_mut(&parent) {
                p.children.remove(&name);
                p.subscriptions.retain(|s| *s != seq);
            }
        }
        let mut removed = Vec::new();
        let mut queue = vec![seq];
        while let Some(next) = queue.pop() {
            let Some(node) = self.nodes.remove(&next) else { continue };
            if let Some(et) = node.et {
                self.timers.remove(&(et, next, Seq(0)));
            }
            if let Some(instances) = &node.instances {
                for i in instances.iter() {
                    self.timers.remove(&(i.et, next, i.seq));
                }
            }
            queue.extend(node.children.values().rev().copied());
            removed.push(node);
        }
        removed
    }

    /// Changes a resource's expiration time.
    pub(crate) fn set_expiration(&mut self, seq: Seq, et: u64) {
        let Some(node) = self.nodes.get_mut(&seq) else { return };
        let before = node.et.replace(et);
        if let Some(before) = before {
            self.timers.remove(&(before, seq, Seq(0)));
        }
        self.timers.insert((et, seq, Seq(0)));
        // Instances that were to go with their container have no timer of their own; now they may go earlier.
        if let (Some(before), Some(instances)) = (before, &node.instances)
            && et > before
        {
            self.timers.extend(instances.iter().filter(|i| i.et <= before).map(|i| (i.et, seq, i.seq)));
        }
    }

    /// Adds an instance to a container.
    pub(crate) fn push_instance(&mut self, container: Seq, instance: Instance) {
        let Some(node) = self.nodes.get_mut(&container) else { return };
        if node.et.is_none_or(|et| instance.et < et) {
            self.timers.insert((instance.et, container, instance.seq));
        }
        node.instances.get_or_insert_default().push(instance);
    }

    /// Lets no instance of a container live longer than `age_ms`.
    pub(crate) fn cap_ages(&mut self, container: Seq, age_ms: u64) {
        let Some(node) = self.nodes.get_mut(&container) else { return };
        let Some(instances) = &mut node.instances else { return };
        for (seq, before, after) in instances.cap_ages(age_ms) {
            self.timers.remove(&(before, container, seq));
            if node.et.is_none_or(|et| after < et) {
                self.timers.insert((after, container, seq));
            }
        }
    }

    /// Removes an instance from a container.
    pub(crate) fn remove_instance(&mut self, container: Seq, instance: Seq) -> Option<Instance> {
        let removed = self.nodes.get_mut(&container)?.instances.as_mut()?.remove(instance)?;
        self.timers.remove(&(removed.et, container, instance));
        Some(removed)
    }

    /// Whether an operation from a node's local buffer was applied before.
    pub(crate) fn has_appended(&self, key: BufferKey) -> bool {
        self.appended.get(&key.node).is_some_and(|last| *last >= (key.incarnation, key.n))
    }

    pub(crate) fn note_appended(&mut self, key: BufferKey) {
        self.appended.insert(key.node, (key.incarnation, key.n));
    }

    /// Bytes of memory that it takes, roughly. Cost: one look at every node.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.nodes().map(Node::memory_bytes).sum::<usize>()
    }

    /// When the next resource expires.
    pub fn next_expiration(&self) -> Option<u64> {
        self.timers.first().map(|t| t.0)
    }

    /// The first resource that has expired at `now_ms`: a node and, if it is one of its instances, which.
    pub(crate) fn expired(&self, now_ms: u64) -> Option<(Seq, Option<Seq>)> {
        let (et, node, instance) = *self.timers.first()?;
        (et <= now_ms).then_some((node, (instance != Seq(0)).then_some(instance)))
    }

    /// A child by its name: a node or an instance.
    pub fn child(&self, parent: Seq, name: &str) -> Option<Found> {
        let node = self.nodes.get(&parent)?;
        if let Some(child) = node.children.get(name) {
            return Some(Found::Node(*child));
        }
        let instance = node.instances.as_ref()?.by_name(name)?;
        Some(Found::Instance(parent, instance.seq))
    }

    /// The parents of a node up to the root, nearest first.
    pub fn ancestors(&self, seq: Seq) -> impl Iterator<Item = &Node> {
        let mut at = self.nodes.get(&seq).and_then(|n| n.parent);
        std::iter::from_fn(move || {
            let node = self.nodes.get(&at?)?;
            at = node.parent;
            Some(node)
        })
    }
}
