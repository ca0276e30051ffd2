//! Access control (TS-0001 9.6.2, TS-0004 7.3.3.15, TS-0003 7.1).

use std::net::IpAddr;

use crate::id::CseIdentity;
use crate::operation::Operation;
use crate::rsc::Refusal;
use crate::tables::Ty;

/// Operations as a sum of bits (`acop`): C 1, R 2, U 4, D 8, N 16, discovery 32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operations(pub u8);

impl Operations {
    /// DISCOVERY
    pub const DISCOVERY: Self = Self(32);
    /// All six.
    pub const ALL: Self = Self(63);
    /// Whether every bit of `other` is in it.
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl From<Operation> for Operations {
    fn from(op: Operation) -> Self {
        Self(1 << (op as u8 - 1))
    }
}

/// One thing that somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// `fr`, in any form.
    pub originator: &'a str,
    /// The operation.
    pub operation: Operations,
    /// Type of the target; of its parent for a CREATE.
    pub target: Ty,
    /// What a CREATE would make.
    pub child: Option<Ty>,
    /// Whether the originator was authenticated (`acaf`).
    pub authenticated: bool,
    /// Its address, if known (`acip`).
    pub ip: Option<IpAddr>,
    /// Its roles (`Role-ID` in `acor`).
    pub roles: &'a [String],
    /// Now.
    pub now_ms: u64,
}

/// Resolves groups that `acor` names.
pub trait Groups {
    /// Whether the originator (in normal form) is a member of the group at this address; `None` if that is no group or
    /// cannot be reached, which grants nothing.
    fn contains(&self, group: &str, originator: &str) -> Option<bool>;
}

/// Where there are no groups.
impl Groups for () {
    fn contains(&self, _: &str, _: &str) -> Option<bool> {
        None
    }
}

/// A set of access control rules (`pv`, `pvs`): m2m:setOfAcrs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules(Vec<Rule>);

/// One access control rule. A list that is `None` sets no condition.
#[derive(Debug, Clone, PartialEq)]
struct Rule {}

impl Rules {
    /// Reads the JSON of `pv` or `pvs` (`{"acr":[...]}`).
    pub fn from_json(_text: &str) -> Result<Self, Refusal> {
        unimplemented!()
    }
    /// Whether there is none: `pvs` must have one (TS-0004 7.4.2.2).
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether any rule grants the attempt.
    pub fn grant(&self, _attempt: &Attempt<'_>, _me: &CseIdentity, _groups: &dyn Groups) -> bool {
        unimplemented!()
    }
}

/// Who has access to a resource whose type has `acpi` but that has none (TS-0001 9.6.1.3.2): its custodian, if it has one,
/// else its creator.
pub fn owner_grants(originator: &str, creator: Option<&str>, custodian: Option<&str>, me: &CseIdentity) -> bool {
    custodian.or(creator).is_some_and(|owner| me.normal_id(owner) == me.normal_id(originator))
}
