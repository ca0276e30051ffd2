//! What a context is to the runtime: a deterministic machine behind a log, and what actors may ask of contexts.
//!
//! The runtime replicates *operations*. An operation is admitted at the primary against the committed state, gets a place
//! in its group's log and a log time, is replicated, and is applied once committed: on every replica, in log order, with
//! the same outcome. The answer to the client is what `apply` returned at the primary (rule 10: nothing is shown beyond
//! the commit point).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_wire::record::Record;
use onemec_wire::{ContextId, Epoch, GroupId, NodeId, Seq};

/// An operation as an actor hands it in: a control part that only the actor's code understands, and the client's bytes,
/// which nobody copies or re-encodes. It becomes head and body of a [`Record`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Op {
    /// Control part, made by the actor (bincode).
    pub head: Bytes,
    /// The client's bytes.
    pub body: Bytes,
}

/// An answer, opaque to the runtime like [`Op`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// Control part, made by the actor.
    pub head: Bytes,
    /// Payload, often the very bytes that a client once sent.
    pub body: Bytes,
}

/// Which program of the node gives a context its behaviour: one number per `MachineFactory`.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct ContextKind(pub u16);

impl ContextKind {
    /// The subtree of one registered AE.
    pub const AE: Self = Self(1);
    /// What hangs directly on a CSEBase.
    pub const CSE_BASE: Self = Self(2);
}

/// Something a context wants done outside itself: a notification, an announcement. It is state of the context until the
/// outbox delivered it; then the runtime logs that. Delivered at least once; receivers deduplicate by
/// `(context, seq, ordinal)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// Effects of one lane are delivered in order, one at a time; different lanes do not wait for each other.
    /// A subscription is a lane.
    pub lane: u64,
    /// The outbox is bounded: what does not fit is dropped, a required effect last (rule 13 depends on some). The actor sees
    /// to it that few of them wait.
    pub required: bool,
    /// What to do, for the actor's [`EffectHandler`].
    pub head: Bytes,
    /// Payload.
    pub body: Bytes,
}

/// What `apply` says beside its answer.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Effects in order.
    pub effects: Vec<Effect>,
    /// This record's body must stay readable through [`History`] until a later outcome names it in `released`.
    pub keep: bool,
    /// Kept records that are no longer needed (evicted, deleted).
    pub released: Vec<Seq>,
    /// The context has come to its end: this was its final operation (rule 13).
    pub finished: bool,
}

/// Kept records of one group by their place. Reads memory or a segment file; never waits for the network.
pub trait History: Send + Sync {
    /// The kept record at `seq`, or `None` if it was released or this replica does not hold it.
    fn record(&self, seq: Seq) -> Option<Record>;
}

/// Whether strong reads, acknowledgements and effects may leave this node for one group (rule 2). Cheap: two atomic reads
/// and a clock read.
pub trait Gate: Send + Sync {
    /// True while this node is primary, the gate is open, the lease is valid and the inherited log is complete.
    fn is_open(&self) -> bool;
    /// The epoch under which it is open.
    fn epoch(&self) -> Epoch;
}

/// What a machine is given when it comes to life on a node.
#[derive(Clone)]
pub struct Env {
    /// The group at that moment (a regroup may change it: the runtime then makes the machine anew from its snapshot).
    pub group: GroupId,
    /// The context.
    pub context: ContextId,
    /// Its kind.
    pub kind: ContextKind,
    /// Kept records.
    pub history: Arc<dyn History>,
    /// Says whether this replica may answer.
    pub gate: Arc<dyn Gate>,
}

/// A context's behaviour: deterministic, no clock, no random numbers, no I/O. Everything it needs is in the record: log
/// time, place and epoch included.
///
/// Legal order: `apply` and `run_timers` with rising `seq`; `admit` and `snapshot` at any time between them.
pub trait Machine: Send {
    /// Looks at an operation before it is logged, on the primary, against the committed state. An `Err` is sent to the
    /// client as it is and nothing is logged. `apply` decides again, since earlier operations may still be in flight.
    fn admit(&self, now_ms: u64, op: &Op) -> Result<(), Answer>;

    /// Applies a committed operation. `op` is what the actor handed in: its head is the actor's part of the record's head
    /// (the runtime puts its own part before it), its body is the record's body. Place, time and epoch are the record's.
    fn apply(&mut self, record: &Record, op: &Op, outcome: &mut Outcome) -> Answer;

    /// The log time (milliseconds since 1970) at which `run_timers` wants to be called next.
    fn next_timer(&self) -> Option<u64>;

    /// Runs what is due at `record.time_ms()`; a logged operation like any other, proposed by the primary.
    fn run_timers(&mut self, record: &Record, outcome: &mut Outcome);

    /// The whole state, except bodies of kept records.
    fn snapshot(&self) -> Bytes;

    /// The kept records that it refers to: those with `Outcome::keep` that were not released.
    fn kept(&self) -> Vec<Seq>;

    /// Bytes of memory that the state takes, roughly; asked every few dozen operations, so it must be cheap. A node whose
    /// contexts take too much lets the least recently used ones leave memory.
    fn memory_bytes(&self) -> usize {
        4096
    }

    /// The node begins (`true`) or stops (`false`) to serve this context as primary. Used to publish the context in the
    /// node's read index and to take it out again; must not change replicated state.
    fn serving(&mut self, primary: bool);
}

/// Makes machines of one kind.
pub trait MachineFactory: Send + Sync {
    /// A new context; the record that creates it is applied right after.
    fn create(&self, env: Env) -> Box<dyn Machine>;
    /// A context from its snapshot.
    fn restore(&self, env: Env, snapshot: &Bytes) -> Result<Box<dyn Machine>, BadSnapshot>;
}

/// A snapshot that its factory cannot read: damaged, or from a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("snapshot cannot be read: {0}")]
pub struct BadSnapshot(pub String);

/// Where an effect came from: receivers deduplicate by it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct EffectId {
    /// The context that wants it.
    pub context: ContextId,
    /// The record whose application made it.
    pub seq: Seq,
    /// Its number among that record's effects.
    pub ordinal: u32,
}

/// What became of an attempt to deliver an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Done, or refused for good: the lane goes on. If there is an operation, it is run on the context (a subscription
    /// counts its notifications, is deleted when its target says so).
    Done(Option<Op>),
    /// Try again after the runtime's backoff; no sooner than the receiver wants it, within the runtime's bound.
    Retry(Option<Duration>),
}

/// Delivers effects; asynchronous, does the I/O.
pub trait EffectHandler: Send + Sync {
    /// Tries once, within `deadline`.
    fn deliver(&self, id: EffectId, effect: Effect, deadline: Duration) -> BoxFuture<'_, Delivery>;
}

/// Answers reads of a context that other nodes forwarded to this one. Local reads never come here: the actor's own
/// front door reads its index directly.
pub trait ReadHandler: Send + Sync {
    /// Answers under an open gate; the runtime has checked it.
    fn read(&self, context: ContextId, op: Op) -> BoxFuture<'_, Answer>;
}

/// A boxed future that can be sent.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A unique name in the directory.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct Key {
    /// `None`: unique in the whole cluster. `Some(node)`: unique at that node's CSE; when the context moves, its home keys
    /// are swapped to the new home in the same directory entry, and the old ones stay as aliases (rule 17).
    pub home: Option<NodeId>,
    /// The name, for example `aei:C12` or `rn:sensor7`.
    pub name: String,
}

impl Key {
    /// A name that is unique in the cluster.
    pub fn global(name: impl Into<String>) -> Self {
        Self { home: None, name: name.into() }
    }
    /// A name that is unique at `node`.
    pub fn at(node: NodeId, name: impl Into<String>) -> Self {
        Self { home: Some(node), name: name.into() }
    }
}

/// How the directory sees a context at the moment (this node's applied state: may lag).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The context.
    pub context: ContextId,
    /// Its kind.
    pub kind: ContextKind,
    /// Its group.
    pub group: GroupId,
    /// The node whose CSE is the registrar (invariant I5: exactly one).
    pub home: NodeId,
    /// The node that serves it. Equal to `home` except while a failover found the home's names taken.
    pub primary: NodeId,
    /// The epoch of the group.
    pub epoch: Epoch,
    /// The key that was asked for is a former one (the context has moved since).
    pub alias: bool,
}

/// A repeatable request: the same answer is given again for the same key until it expires (rule 12).
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    bincode::Encode,
    bincode::Decode,
)]
pub struct RepeatKey {
    /// Who asks.
    pub originator: String,
    /// The originator's identifier of the request.
    pub request: String,
    /// Until when the answer is kept (milliseconds since 1970).
    pub expires_ms: u64,
}

/// How a call on a context is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallOptions {
    /// How long the caller waits.
    pub deadline: Duration,
    /// Set for repeatable requests.
    pub repeat: Option<RepeatKey>,
    /// How often it was forwarded so far (3 at most, rule 11).
    pub hops: u8,
}

/// Why a call on a context gave no answer (rule 11).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The operation was withdrawn before it was replicated or forwarded: it was not and never will be applied. Try again
    /// after the given time. HTTP 503.
    #[error("not applied, try again: {reason}")]
    NotApplied {
        /// Why, in words.
        reason: String,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// Nobody knows whether the operation was applied; it may still appear. HTTP 504.
    #[error("outcome unknown, it may still be applied: {reason}")]
    Unknown {
        /// Why, in words.
        reason: String,
    },
    /// There is no such context; decided by a linearisable look-up. HTTP 404.
    #[error("no such context")]
    NotFound,
    /// The context was deleted. HTTP 404.
    #[error("the context was deleted")]
    Deleted,
    /// The repeat mark cannot be honoured (its expiry lies outside the window). HTTP 400.
    #[error("repeat mark refused: expiry must lie within {window_ms} ms from now")]
    RepeatWindow {
        /// The widest expiry that is accepted.
        window_ms: u64,
    },
}

/// Why a context could not be created.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// One of the keys is taken; nothing was created (rows G05, I5).
    #[error("key {key:?} is taken by context {holder}")]
    KeyTaken {
        /// Which.
        key: Key,
        /// Who holds it.
        holder: ContextId,
    },
    /// The group that it was to join has as many contexts as a group may have; nothing was created (I8).
    #[error("a group has at most {contexts_max} contexts")]
    GroupFull {
        /// So many it may have.
        contexts_max: u32,
    },
    /// The call failed as other calls do.
    #[error(transparent)]
    Call(#[from] CallError),
}

/// A new context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContext {
    /// Its kind.
    pub kind: ContextKind,
    /// Its unique names; all are claimed or none.
    pub keys: Vec<Key>,
    /// The bundle that it belongs to: contexts of one bundle share a group and move together (a device's AEs, row G13).
    /// If that group is led elsewhere, the context begins in one of its own and joins soon.
    pub bundle: Option<String>,
    /// Its first operation, head and body of the `CreateContext` record.
    pub first: Op,
    /// May it be moved to another home? False for what hangs on a CSEBase.
    pub pinned: bool,
}

/// What the runtime offers to actors that serve contexts. Implemented by the node, and by an in-memory single node for
/// tests of actors.
pub trait Contexts: Send + Sync {
    /// This node.
    fn node(&self) -> NodeId;
    /// Wall clock in milliseconds since 1970; never goes back.
    fn now_ms(&self) -> u64;
    /// Whether this node may acknowledge anything at all at this moment (its lease is valid, rule 1).
    fn may_acknowledge(&self) -> bool {
        true
    }
    /// Local look-up by key; aliases are found as well.
    fn by_key(&self, key: &Key) -> Option<Place>;
    /// Local look-up by id.
    fn by_id(&self, context: ContextId) -> Option<Place>;
    /// Applies everything the directory had committed when the call began, then looks up (rule 11: before a 404).
    fn by_key_linearizable(&self, key: Key, deadline: Duration) -> BoxFuture<'_, Result<Option<Place>, CallError>>;
    /// All contexts of a kind whose home is `home`: directory order, at most `limit`, after `after`.
    fn at_home(&self, home: NodeId, kind: ContextKind, after: Option<ContextId>, limit: usize) -> Vec<Place>;
    /// Creates a context: keys first, then data (rule 13). Its first answer.
    fn create(&self, new: NewContext, options: CallOptions) -> BoxFuture<'_, Result<(Place, Answer), CreateError>>;
    /// Takes further names for a context and gives up others, all or nothing; a name that it has, or has not, already is
    /// no error.
    fn set_keys(
        &self,
        context: ContextId,
        claim: Vec<Key>,
        release: Vec<Key>,
    ) -> BoxFuture<'_, Result<(), CreateError>>;
    /// Runs an operation at the primary, wherever that is.
    fn write(&self, context: ContextId, op: Op, options: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>>;
    /// Says which bundle a context belongs to from now on; it joins or leaves the group soon.
    fn set_bundle(&self, context: ContextId, bundle: Option<String>) -> BoxFuture<'_, Result<(), CallError>>;
    /// Reads at the primary, wherever that is; for contexts that are not served here.
    fn read(&self, context: ContextId, op: Op, options: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>>;
    /// Brings a context that this node serves into memory, if it has left it; at once if it is there. Readers of an index
    /// call it when they miss a context whose primary is this node, and look again.
    fn activate(&self, _context: ContextId, _deadline: Duration) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
