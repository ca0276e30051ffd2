//! The directory: who serves what. A deterministic state machine fed by Raft; every node applies the same entries in the
//! same order and looks up locally.
//!
//! Before: entries come with rising indexes. After each: the outcome per command and the set of groups that changed.
//! Nothing here knows a clock; time comes with the entries.

mod apply;
mod attachment;
pub mod bundles;
mod command;
mod keys;
mod nodes;
mod secret;

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, Seq, Version};

pub use self::attachment::{Attached, Attachment, Standing};
pub use self::command::{
    Base, Command, CommandOutcome, ContextSpec, Durability, Entry, Nonce, Refusal, StoreId, Synced,
};
use crate::context::{ContextKind, Key, Place};
pub use secret::Secret;

/// How many creations are remembered against double execution.
pub const NONCES_MAX: usize = 65_536;
/// For how long, in the directory's own time.
pub const NONCE_MS_MAX: u64 = 600_000;
/// How many contexts a group may have (I8); one more is refused.
pub const CONTEXTS_PER_GROUP_MAX: usize = 64;
/// How many aliases (names at former homes) all contexts of a group keep together; the oldest of the context that has most
/// go first (rule 17). A context has three names or so: full groups remember their last home, small ones their last ten.
pub const ALIASES_PER_GROUP_MAX: usize = 4 * CONTEXTS_PER_GROUP_MAX;
/// Share of nodes, in percent, that may be dead before an operator must confirm more (rule 15); one may always die.
pub const DEAD_SHARE_PERCENT_MAX: u32 = 50;

/// A node as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct NodeEntry {
    /// Its latest boot.
    pub member: Member,
    /// Its data folder.
    pub store: StoreId,
    /// That boot is up: it may hold a lease.
    pub up: bool,
    /// Addresses, roles, names.
    pub info: BTreeMap<String, String>,
}

/// Where a group is and who guarantees what.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Placement {
    /// Grows with every change of primary.
    pub epoch: Epoch,
    /// Grows with every change of anything.
    pub version: Version,
    /// The boot that serves the group. It may be dead: then the group is unavailable.
    pub primary: Member,
    /// Boots that hold the whole log in memory; the primary is one.
    pub in_sync: BTreeSet<Member>,
    /// Who guarantees synced data.
    pub synced: Synced,
    /// The end of the log at the beginning of this epoch, if it came from a transfer: then every member of the set was
    /// seen to hold it. `None` after a failover: the new primary must find out (rule 10).
    pub sealed: Option<Seq>,
    /// When operations are acknowledged.
    pub durability: Durability,
    /// How many members the set should have.
    pub replicas_wanted: u8,
    /// The contexts, in order of creation.
    pub contexts: Vec<ContextId>,
}

impl Placement {
    /// The base for a command that is to apply to this very state.
    pub fn base(&self, group: GroupId) -> Base {
        Base { group, epoch: self.epoch, version: self.version }
    }
}

/// A context as the directory knows it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ContextEntry {
    /// Its kind.
    pub kind: ContextKind,
    /// Its group.
    pub group: GroupId,
    /// The node whose CSE is its registrar (I5: exactly one).
    pub home: NodeId,
    /// Keeps its home whatever node serves it.
    pub pinned: bool,
    /// Its present names.
    pub keys: Vec<Key>,
    /// Its former names, oldest first.
    pub aliases: Vec<Key>,
    /// Contexts of one bundle should share a group (row G13).
    pub bundle: Option<String>,
    /// Its re-attachments so far.
    pub attached: Attached,
}

/// Who a key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct KeyEntry {
    context: ContextId,
    alias: bool,
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Directory {
    generation: u32,
    index: u64,
    time_ms: u64,
    nodes: BTreeMap<NodeId, NodeEntry>,
    groups: BTreeMap<GroupId, Placement>,
    contexts: BTreeMap<ContextId, ContextEntry>,
    /// Contexts by bundle.
    bundles: BTreeMap<String, BTreeSet<ContextId>>,
    /// Contexts by home and kind: what `contexts` says, for look-ups that must not walk all of them.
    homes: BTreeMap<(NodeId, ContextKind), BTreeSet<ContextId>>,
    keys: BTreeMap<Key, KeyEntry>,
    facts: BTreeMap<String, Secret>,
    nonces: BTreeMap<Nonce, (u64, GroupId, Vec<ContextId>)>,
}

/// What an entry did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EntryOutcome {
    /// One per command.
    pub outcomes: Vec<CommandOutcome>,
    /// Groups that were created, changed or deleted.
    pub groups: BTreeSet<GroupId>,
    /// Nodes that came, changed or died.
    pub nodes: BTreeSet<NodeId>,
}

impl Directory {
    /// An empty directory of a cluster generation. A generation is never used twice: it protects against a restored old
    /// backup, since ids made by it are then unknown.
    pub fn new(generation: u32) -> Self {
        Self { generation, ..Self::default() }
    }

    /// The cluster's generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    /// The index of the last entry that was applied.
    pub fn index(&self) -> u64 {
        self.index
    }
    /// The largest time of any entry (milliseconds since 1970).
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }
    /// A node.
    pub fn node(&self, node: NodeId) -> Option<&NodeEntry> {
        self.nodes.get(&node)
    }
    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &NodeEntry)> {
        self.nodes.iter().map(|(id, n)| (*id, n))
    }
    /// The boots that are up.
    pub fn live(&self) -> impl Iterator<Item = Member> + '_ {
        self.nodes.values().filter(|n| n.up).map(|n| n.member)
    }
    /// Is this very boot up?
    pub fn is_live(&self, member: Member) -> bool {
        self.nodes.get(&member.node).is_some_and(|n| n.up && n.member == member)
    }
    /// Where a group is.
    pub fn group(&self, group: GroupId) -> Option<&Placement> {
        self.groups.get(&group)
    }
    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &Placement)> {
        self.groups.iter().map(|(id, p)| (*id, p))
    }
    /// A context.
    pub fn context(&self, context: ContextId) -> Option<&ContextEntry> {
        self.contexts.get(&context)
    }
    /// All contexts after `after`, in order of creation.
    pub fn contexts_after(&self, after: Option<ContextId>) -> impl Iterator<Item = (ContextId, &ContextEntry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.contexts.range((from, Unbounded)).map(|(id, c)| (*id, c))
    }
    /// The contexts of a kind whose home is a node, after `after`, in order of creation.
    pub fn at_home(
        &self,
        home: NodeId,
        kind: ContextKind,
        after: Option<ContextId>,
    ) -> impl Iterator<Item = (ContextId, &ContextEntry)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let ids = self.homes.get(&(home, kind)).into_iter().flat_map(move |ids| ids.range((from, Unbounded)));
        ids.filter_map(|id| Some((*id, self.contexts.get(id)?)))
    }
    /// How many contexts of a kind have their home at a node.
    pub fn count_at_home(&self, home: NodeId, kind: ContextKind) -> usize {
        self.homes.get(&(home, kind)).map_or(0, BTreeSet::len)
    }
    /// Why a group could not have its home at a node: a name of it is taken there (rule 17).
    pub fn clash_at(&self, group: GroupId, home: NodeId) -> Option<Refusal> {
        self.check_home(group, home).err()
    }
    /// A named fact.
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(Secret::expose)
    }
    /// All facts whose name begins with `prefix`.
    pub fn facts<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.facts
            .range(prefix.to_owned()..)
            .take_while(move |(name, _)| name.starts_with(prefix))
            .map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// Whether an id that is not here was here once (rule 13): made in this generation by an entry that was applied.
    pub fn was_deleted(&self, group: GroupId) -> bool {
        group.generation() == self.generation && group.index() <= self.index && !self.groups.contains_key(&group)
    }

    /// The place of a context.
    pub fn place(&self, context: ContextId) -> Option<Place> {
        self.place_as(context, false)
    }
    /// The place of the context that holds a key, now or formerly.
    pub fn place_by_key(&self, key: &Key) -> Option<Place> {
        let entry = self.keys.get(key)?;
        self.place_as(entry.context, entry.alias)
    }

    fn place_as(&self, context: ContextId, alias: bool) -> Option<Place> {
        let c = self.contexts.get(&context)?;
        let g = self.groups.get(&c.group)?;
        Some(Place {
            context,
            kind: c.kind,
            group: c.group,
            home: c.home,
            primary: g.primary.node,
            epoch: g.epoch,
            alias,
        })
    }
}
