//! Access control (TS-0001 9.6.2, TS-0004 7.3.3.15, TS-0003 7.1).

use std::net::IpAddr;

use crate::id::CseIdentity;
use crate::operation::Operation;
use crate::tables::Ty;

mod ip;
mod parse;
mod rules;

pub use rules::Rules;

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

/// Who has access to a resource whose type has `acpi` but that has none (TS-0001 9.6.1.3.2): its custodian, if it has one,
/// else its creator.
pub fn owner_grants(originator: &str, creator: Option<&str>, custodian: Option<&str>, me: &CseIdentity) -> bool {
    custodian.or(creator).is_some_and(|owner| me.normal_id(owner) == me.normal_id(originator))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ts0001_9_6_1_3_2_without_acpi_the_creator_or_the_custodian_has_access() {
        let me = CseIdentity { base_name: "b".into(), cse_id: "/cse-1".into(), sp_id: "sp".into() };
        assert!(owner_grants("C1", Some("/cse-1/C1"), None, &me));
        assert!(!owner_grants("C2", Some("C1"), None, &me));
        assert!(!owner_grants("C1", None, None, &me));
        assert!(owner_grants("C2", Some("C1"), Some("C2"), &me));
        assert!(!owner_grants("C1", Some("C1"), Some("C2"), &me));
    }

    #[test]
    fn ts0004_6_3_4_2_29_operation_bits() {
        let bits: Vec<u8> = (1..=5).map(|n| Operations::from(Operation::from_u8(n).unwrap()).0).collect();
        assert_eq!(bits, [1, 2, 4, 8, 16]);
        assert!(Operations::ALL.contains(Operations::DISCOVERY));
        assert!(!Operations(31).contains(Operations::DISCOVERY));
    }
}
