//! What can be asked of the directory. Several commands travel in one Raft entry; each is a compare-and-set.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, Seq, Version};
use serde::{Deserialize, Serialize};

use super::attachment::Attachment;
use super::secret::Secret;
use crate::context::{ContextKind, Key};

/// One Raft entry: what several proposers wanted at the same moment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Entry {
    /// The proposing leader's wall clock (milliseconds since 1970); the directory's time is the largest seen.
    pub time_ms: u64,
    /// In order.
    pub commands: Vec<Command>,
}

/// A data folder. Made at random when the folder is: a node that comes back with another one has lost its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
pub struct StoreId(pub u64);

/// What guarantees synced data: a node together with the data folder that it had.
pub type Synced = BTreeSet<(NodeId, StoreId)>;

/// A random number that a proposer gives its command, so that a proposal repeated after an unknown outcome is not
/// executed twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode, Serialize, Deserialize)]
pub struct Nonce(pub u128);

/// When an operation of a context is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// In the memory of the in-sync set, of which one member is enough.
    Memory,
    /// In the memory of all of the in-sync set, which has at least two members.
    Replicated,
    /// In the memory of all of the in-sync set and synced at all synced members, of which there is at least one.
    #[default]
    Disk,
}

impl Durability {
    /// The fewest members of the in-sync set with which writes are accepted (rule 5).
    pub const fn members_min(self) -> usize {
        match self {
            Self::Memory | Self::Disk => 1,
            Self::Replicated => 2,
        }
    }
}

/// A context to be created.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct ContextSpec {
    /// Its kind.
    pub kind: ContextKind,
    /// Its unique names.
    pub keys: Vec<Key>,
    /// It keeps its home whatever node serves it (what hangs on a CSEBase).
    pub pinned: bool,
    /// Contexts of one bundle should share a group (row G13).
    pub bundle: Option<String>,
}

/// The state of a group that a command was made for. A command whose base is not the present state changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
pub struct Base {
    /// The group.
    pub group: GroupId,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its version.
    pub version: Version,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Command {
    /// A node has started (rule 4). First applies `NodeDead` of its former incarnation. Proposed only after that one's
    /// lease has run out, unless it was released or the lock on its data folder was taken over.
    NodeUp {
        /// Which boot.
        member: Member,
        /// Its data folder.
        store: StoreId,
        /// What others should know of it: addresses, roles, names.
        info: BTreeMap<String, String>,
    },
    /// A boot's lease has run out: one entry promotes a replica of every group that it led (rule 15).
    NodeDead {
        /// Which boot.
        member: Member,
        /// An operator decided: the brake on mass deaths does not hold it up.
        forced: bool,
    },
    /// A node leaves for good: it must lead nothing and be in no set.
    NodeRemove {
        /// Which.
        node: NodeId,
    },
    /// Creates a group with its contexts and claims their keys, all or nothing.
    CreateGroup {
        /// Against double execution.
        nonce: Nonce,
        /// Who will serve it.
        primary: Member,
        /// The in-sync set, `primary` included; an empty log is complete everywhere.
        in_sync: BTreeSet<Member>,
        /// When its operations are acknowledged.
        durability: Durability,
        /// How many members the in-sync set should have.
        replicas_wanted: u8,
        /// At least one.
        contexts: Vec<ContextSpec>,
    },
    /// Adds a context to a group; proposed by its primary (rule 16).
    AddContext {
        /// The group.
        base: Base,
        /// Against double execution.
        nonce: Nonce,
        /// The context.
        spec: ContextSpec,
    },
    /// Removes a context whose final record is committed (rule 13); with its last context the group goes.
    DeleteContext {
        /// The group.
        base: Base,
        /// The context.
        context: ContextId,
    },
    /// Changes the in-sync set; proposed by the primary alone (rule 5).
    SetInSync {
        /// The group.
        base: Base,
        /// The new set, the primary included.
        in_sync: BTreeSet<Member>,
    },
    /// Changes who guarantees synced data; proposed by the primary alone (rule 6).
    SetSynced {
        /// The group.
        base: Base,
        /// The new set.
        synced: Synced,
    },
    /// Makes `target` primary (rule 8).
    Transfer {
        /// The group.
        base: Base,
        /// The end of the log, held by the target and all of the in-sync set.
        sealed: Seq,
        /// The boot that takes over.
        target: Member,
        /// The transfer is this re-attachment: applies only if it is the context's next one, and counts it.
        attachment: Option<Attachment>,
    },
    /// A client re-attached at the node that serves its context already: nothing moves, its permission is used up.
    Attach {
        /// Which; refused unless it is the next one.
        attachment: Attachment,
        /// The node, which must serve the context.
        node: NodeId,
    },
    /// Changes nothing but the version: whatever else was proposed for the same base fails (rule 9).
    Abort {
        /// The group.
        base: Base,
    },
    /// Moves contexts of `from` into `into`; both sealed, both led by the same boot (rule 16). The log of `into` holds
    /// their state. A group that has no contexts left ends.
    Regroup {
        /// The group that grows.
        into: Base,
        /// The group that gives.
        from: Base,
        /// The end of the log of `into`, held by all of its in-sync set.
        sealed: Seq,
        /// The contexts that move.
        contexts: Vec<ContextId>,
    },
    /// Says which contexts should share a group: those with the same bundle (a device's AEs, row G13).
    SetBundle {
        /// The context.
        context: ContextId,
        /// The bundle's name; `None`: the context goes by itself.
        bundle: Option<String>,
    },
    /// Creates a group without contexts, for contexts that are to leave another one: its log begins after `begin`, which
    /// lies beyond every record of theirs. The set is the primary alone, until it is repaired.
    CreateEmpty {
        /// Against double execution.
        nonce: Nonce,
        /// Who will serve it.
        primary: Member,
        /// When its operations are acknowledged.
        durability: Durability,
        /// How many members the in-sync set should have.
        replicas_wanted: u8,
        /// Its log begins after this place.
        begin: Seq,
    },
    /// Removes a group without contexts.
    DropEmpty {
        /// The group.
        base: Base,
    },
    /// An operator makes `primary` lead a group whose primary is dead and that has no live member; what was acknowledged
    /// and is not in its store is lost (rule 6).
    Force {
        /// The group.
        base: Base,
        /// The boot that takes over.
        primary: Member,
    },
    /// Sets a named fact unless it has a value: of several proposers one wins. Keys become facts in this way: they are
    /// never printed.
    AddFact {
        /// Its name.
        name: String,
        /// Its value.
        value: Secret,
    },
    /// Sets (or with `None` removes) a named fact that is no secret: federation groups (row O03), roles (row O04), voters, policies.
    SetFact {
        /// Its name, for example `federation/city-north`.
        name: String,
        /// Its value.
        value: Option<String>,
    },
    /// A context takes further names and gives up others, all or nothing (rule 17): a CSEBase those of its children.
    SetKeys {
        /// The context.
        context: ContextId,
        /// Names that it has from now on; one that it has already is no conflict.
        claim: Vec<Key>,
        /// Names that it gives up; one that it does not have is none either.
        release: Vec<Key>,
    },
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub enum CommandOutcome {
    /// Done.
    Done,
    /// A group was created (or had been, by the same nonce).
    Created {
        /// Its id.
        group: GroupId,
        /// Its contexts, in the order of the command.
        contexts: Vec<ContextId>,
    },
    /// Nothing was changed.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Encode, Decode, Serialize, Deserialize)]
pub enum Refusal {
    /// The group is not (or no longer) in the state that the command was made for.
    #[error("group is at {epoch} {version}, not where the command expected it")]
    Stale {
        /// Its epoch now.
        epoch: Epoch,
        /// Its version now.
        version: Version,
    },
    /// There is no such group.
    #[error("no such group")]
    NoGroup,
    /// There is no such context in the group.
    #[error("no such context in the group")]
    NoContext,
    /// A name is taken; nothing was created or moved.
    #[error("key {key:?} is taken by context {holder}")]
    KeyTaken {
        /// Which.
        key: Key,
        /// By whom.
        holder: ContextId,
    },
    /// The boot that the command names is not up.
    #[error("{0} is not up")]
    NotLive(Member),
    /// The in-sync set would lose its primary or be empty.
    #[error("a set without its primary")]
    BadSet,
    /// Too many nodes died: an operator decides (rule 15).
    #[error("{dead} of {nodes} nodes are dead: an operator must confirm more")]
    MassDeath {
        /// How many are.
        dead: u32,
        /// Of how many.
        nodes: u32,
    },
    /// The command would break a rule: the text says which.
    #[error("not allowed: {0}")]
    NotAllowed(String),
    /// The re-attachment was made already, or another one instead.
    #[error("the re-attachment was made already: there were {count}")]
    Attached {
        /// How many there were.
        count: u64,
    },
    /// The group has, or would have, too many contexts (I8).
    #[error("a group has at most {contexts_max} contexts")]
    GroupFull {
        /// So many it may have.
        contexts_max: u32,
    },
}
