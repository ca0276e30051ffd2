//! Operations on a context and what it answers: the control parts of records and answers (bincode, in field order; a new
//! field goes to the end of a new variant).
//!
//! A machine may not look beyond its own context. Where a decision needs something from outside (a policy that lies in
//! another context, whether a notification target agreed), it answers [`Reply::Needs`]; the front door fetches that,
//! puts it into the operation as [`Facts`] and asks again. So the facts lie in the record, and every replica decides alike.

use bytes::Bytes;
use onemec_core::buffer::BufferKey;
use onemec_core::context::{Answer, Op};
use onemec_onem2m::result::{Branch, Reference, Room};
use onemec_onem2m::{CseIdentity, Refusal, Rsc, Ty};
use onemec_wire::{ContextId, Seq};

use crate::tree::Target;

/// An operation; the record's body holds the client's bytes.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub enum TreeOp {
    /// First operation of an AE's context. Body: the representation as the client sent it.
    BeginAe(BeginAe),
    /// First operation of the context of a CSEBase. Body: encoded attributes.
    BeginBase(Home),
    /// New attributes of a CSEBase (points of access). Body: encoded attributes.
    SetBase(Home),
    /// A request primitive.
    Write(Box<Write>),
    /// A notification of this subscription was delivered: counts down `exc`.
    Notified(Seq),
    /// A request primitive that lay in the local buffer of a node under this key. It is applied once, however often it
    /// comes: the keys of one node rise.
    Append(Box<Write>, BufferKey),
}

/// Registration of an AE.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub struct BeginAe {
    /// AE-ID stem: `ri` and `aei`.
    pub stem: String,
    /// `rn`.
    pub name: String,
    /// The registrar.
    pub home: Home,
    /// Result content.
    pub rcn: u8,
}

/// The CSE where a context is at home when an operation is made.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Home {
    /// `csi`, with its slash.
    pub cse_id: String,
    /// `rn` of the CSEBase.
    pub base_name: String,
    /// The service provider's FQDN.
    pub sp_id: String,
}

impl Home {
    /// As the protocol crate wants it.
    pub fn identity(&self) -> CseIdentity {
        CseIdentity {
            base_name: self.base_name.as_str().into(),
            cse_id: self.cse_id.as_str().into(),
            sp_id: self.sp_id.as_str().into(),
        }
    }
}

impl From<&CseIdentity> for Home {
    fn from(me: &CseIdentity) -> Self {
        Self { cse_id: me.cse_id.to_string(), base_name: me.base_name.to_string(), sp_id: me.sp_id.to_string() }
    }
}

/// What a write does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Action {
    /// CREATE of a resource of this type below the target.
    Create(u16),
    /// UPDATE of the target.
    Update,
    /// DELETE of the target.
    Delete,
}

/// CREATE, UPDATE or DELETE.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub struct Write {
    /// What to do.
    pub action: Action,
    /// To which resource.
    pub target: Target,
    /// Who asks.
    pub who: Who,
    /// Where the context is at home.
    pub home: Home,
    /// Result content.
    pub rcn: u8,
    /// `fc` as JSON.
    pub filter: Option<String>,
    /// Unstructured addresses in the result (`drt` 2).
    pub unstructured: bool,
    /// `rn` for a new resource whose representation has none.
    pub name: Option<String>,
    /// What the machine asked for.
    pub facts: Facts,
}

/// An originator.
#[derive(Debug, Clone, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Who {
    /// Its identifier in normal form (SP-relative in our domain).
    pub id: String,
    /// Other forms by which it is known: SP-relative identifiers from former registrars.
    pub also: Vec<String>,
    /// The context of the AE that it is.
    pub context: Option<ContextId>,
    /// It is registered with a CSE of this cluster.
    pub registered: bool,
    /// It proved who it is.
    pub authenticated: bool,
    /// The CSE itself, or an administrator: no access control.
    pub trusted: bool,
    /// Its address.
    pub ip: Option<String>,
}

impl Who {
    /// The CSE itself.
    pub fn cse(me: &CseIdentity) -> Self {
        Self { id: me.cse_id.to_string(), registered: true, authenticated: true, trusted: true, ..Self::default() }
    }

    /// All forms of its identifier.
    pub fn forms(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.id.as_str()).chain(self.also.iter().map(String::as_str))
    }
}

/// RETRIEVE or discovery, forwarded to where the context is served. The body is empty.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub struct Read {
    /// What to read.
    pub target: Target,
    /// Who asks.
    pub who: Who,
    /// Where the context is at home.
    pub home: Home,
    /// Result content.
    pub rcn: u8,
    /// `fc` as JSON.
    pub filter: Option<String>,
    /// Unstructured addresses in the result (`drt` 2).
    pub unstructured: bool,
    /// Partial retrieve: only these attributes.
    pub attributes: Vec<String>,
    /// What the reader asked for.
    pub facts: Facts,
}

/// What a read asks for.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub enum ReadOp {
    /// A request primitive.
    Retrieve(Box<Read>),
    /// Rules of an access control policy, for a decision in another context.
    Policy(Target),
    /// Type, members and points of access of a resource, for groups and notifications.
    Facts(Target),
    /// Where this resource leads requests to, if `who` may use it for these operations.
    Way(Box<Read>, u8),
    /// A discovery in this context alone.
    Discover(Box<Read>),
    /// Points of access of the remoteCSE below this CSEBase that leads to a CSE-ID.
    Route(String),
    /// A discovery over this CSEBase, or a retrieve that shows its children, within so many milliseconds.
    Gather(Box<Read>, u32),
    /// What this AE adds to such a result.
    Part(Box<Read>, Part),
}

/// What one AE adds to a result over its CSEBase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub enum Part {
    /// References to what matches.
    References,
    /// Itself with what is below it, if there is room.
    Branch {
        /// For so many resources.
        resources: u32,
        /// And so many bytes.
        bytes: u32,
    },
}

/// A [`Branch`] without its JSON, which is the answer's body.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct BranchHead {
    root: String,
    resources: u64,
    bytes: u64,
    cut: bool,
}

impl BranchHead {
    /// A branch in its two parts.
    pub fn of(branch: Branch) -> (Self, Vec<u8>) {
        let Branch { root, json, taken, cut } = branch;
        (Self { root, resources: taken.resources as u64, bytes: taken.bytes as u64, cut }, json)
    }

    /// The branch again.
    pub fn with(self, json: Vec<u8>) -> Branch {
        let size = |n| usize::try_from(n).unwrap_or(usize::MAX);
        let taken = Room { resources: size(self.resources), bytes: size(self.bytes) };
        Branch { root: self.root, json, taken, cut: self.cut }
    }
}

/// References as the body of an answer: they may be too many for its control part.
pub fn references_as_bytes(references: Vec<Reference>) -> Bytes {
    crate::codec::encode(&references.into_iter().map(|r| (r.name, r.ty.0, r.address)).collect::<Vec<_>>())
}

/// The references again; `None` if they are damaged.
pub fn read_references(bytes: &[u8]) -> Option<Vec<Reference>> {
    let all: Vec<(String, u16, String)> = crate::codec::decode_body(bytes)?;
    Some(all.into_iter().map(|(name, ty, address)| Reference { name, ty: Ty(ty), address }).collect())
}

/// Facts from outside a context.
#[derive(Debug, Clone, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Facts {
    /// Access control policies by the address that was asked for.
    pub policies: Vec<(String, Option<Policy>)>,
    /// Whether the originator is in these groups.
    pub groups: Vec<(String, bool)>,
    /// Notification targets that agreed to their subscription.
    pub verified: Vec<String>,
    /// Types of these resources; `None`: cannot be reached.
    pub types: Vec<(String, Option<u16>)>,
}

/// An access control policy as another context sees it.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Policy {
    /// Its unstructured resource id.
    pub rid: String,
    /// `pv` as JSON.
    pub pv: String,
    /// `pvs` as JSON.
    pub pvs: String,
}

/// What a context needs to know before it can decide.
#[derive(Debug, Clone, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Needs {
    /// Access control policies by address.
    pub policies: Vec<String>,
    /// Groups: is the originator in them?
    pub groups: Vec<String>,
    /// Notification targets to be verified.
    pub verify: Vec<String>,
    /// The subscription that they are to be verified for: names below the CSEBase.
    pub subscription: Vec<String>,
    /// Resources whose types are needed.
    pub types: Vec<String>,
}

impl Needs {
    /// Nothing.
    pub fn is_empty(&self) -> bool {
        self.policies.is_empty() && self.groups.is_empty() && self.verify.is_empty() && self.types.is_empty()
    }
}

/// The control part of an answer.
#[derive(Debug, Clone, PartialEq, bincode::Encode, bincode::Decode)]
pub enum Reply {
    /// Done; the content is the answer's body (empty: none).
    Done {
        /// Status.
        rsc: u16,
        /// CSE-relative structured address of what was created.
        created: Option<String>,
        /// `cnot` of a partial result.
        next_offset: Option<u32>,
    },
    /// Refused; nothing was changed.
    Refused {
        /// Status.
        rsc: u16,
        /// For the person who debugs the client.
        debug: String,
    },
    /// Ask again with these facts; nothing was changed.
    Needs(Needs),
    /// What [`ReadOp::Policy`] asked for.
    Policy(Option<Policy>),
    /// What [`ReadOp::Facts`] asked for.
    Facts(Option<ResourceFacts>),
    /// What [`ReadOp::Way`] asked for.
    Way(Way),
    /// What [`ReadOp::Discover`] or [`Part::References`] asked for lies in the body; where to go on if there are more.
    References(Option<u32>),
    /// What [`ReadOp::Gather`] asked for lies in the body.
    Gathered {
        /// `cnot` of a partial result.
        next_offset: Option<u32>,
        /// AEs that gave no answer in time.
        missing: u32,
    },
    /// What [`Part::Branch`] asked for, its JSON in the body; `None`: the AE does not match or is not shown.
    Branch(Option<BranchHead>),
}

/// A resource as other contexts need to know it.
#[derive(Debug, Clone, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct ResourceFacts {
    /// Unstructured resource id.
    pub rid: String,
    /// Type.
    pub ty: u16,
    /// `rn`.
    pub name: String,
    /// `poa` of an AE or CSE.
    pub poa: Vec<String>,
    /// `rr`.
    pub reachable: bool,
    /// `mid` of a group.
    pub members: Vec<String>,
    /// `csi` of a CSE.
    pub csi: Option<String>,
    /// `cst` of a CSE.
    pub cst: Option<u8>,
}

/// Where a fan-out point or an AE leads requests to.
#[derive(Debug, Clone, Default, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub struct Way {
    /// Unstructured resource id of the group or AE.
    pub rid: String,
    /// `mid` of the group, `poa` of the AE.
    pub to: Vec<String>,
}

impl Reply {
    /// An answer with this control part.
    pub fn answer(&self, body: impl Into<Bytes>) -> Answer {
        Answer { head: crate::codec::encode(self), body: body.into() }
    }

    /// A refusal.
    pub fn refused(refusal: &Refusal) -> Self {
        Self::Refused { rsc: refusal.rsc.0, debug: refusal.debug.clone() }
    }

    /// The control part of an answer; a damaged one is an internal error.
    pub fn read(answer: &Answer) -> Self {
        crate::codec::decode(&answer.head).unwrap_or_else(|| Self::Refused {
            rsc: Rsc::INTERNAL_SERVER_ERROR.0,
            debug: "the answer of the context cannot be read".into(),
        })
    }
}

impl TreeOp {
    /// As the runtime takes it.
    pub fn op(&self, body: Bytes) -> Op {
        Op { head: crate::codec::encode(self), body }
    }

    /// From a record's head.
    pub fn read(head: &[u8]) -> Option<Self> {
        crate::codec::decode(head)
    }
}

impl ReadOp {
    /// As the runtime takes it.
    pub fn op(&self) -> Op {
        Op { head: crate::codec::encode(self), body: Bytes::new() }
    }
}
