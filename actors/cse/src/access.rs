//! May an originator do this to that resource? (TS-0001 9.6.1.3.2, 9.6.2; TS-0004 7.3.3.15)
//!
//! Policies of the same context are read in place; others come as facts. A policy that does not exist or cannot be reached
//! grants nothing; a resource of whose `acpi` that is true throughout is its owner's, as if it had none (TS-0001 9.6.1.3.2).

use std::cell::RefCell;

use onemec_onem2m::access::{Attempt, Groups, Operations, Rules};
use onemec_onem2m::{AttrId, CseIdentity, Refusal, Rsc, Ty};

use crate::op::{Facts, Needs, Policy, Who};
use crate::tree::{Creator, Found, Node, Tree};

/// What a registered originator may do with a CSEBase that names no policies: create resources of its own below it, look
/// at it, and find what it may see. The standard leaves this to the CSE.
const ON_CSE_BASE: Operations = Operations(1 | 2 | 32);

/// Who asks, with what is known about the world.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    /// Originator.
    pub who: &'a Who,
    /// Facts from outside the context.
    pub facts: &'a Facts,
    /// The CSE where the context is at home: stems in policies are relative to it.
    pub home: &'a CseIdentity,
    /// Now.
    pub now_ms: u64,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Allowed.
    Granted,
    /// Not allowed.
    Denied,
    /// Cannot be decided without these.
    Needs(Needs),
}

/// Which set of rules of a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    /// `pv`
    Privileges,
    /// `pvs`
    SelfPrivileges,
}

impl Asker<'_> {
    /// Decides about an operation on what an address leads to; `child` is the type that a CREATE would make.
    pub fn may(&self, tree: &Tree, found: Found, operation: Operations, child: Option<Ty>) -> Access {
        if self.who.trusted {
            return Access::Granted;
        }
        // contentInstances and virtual resources have no `acpi`: their parent's decides.
        let seq = match found {
            Found::Node(seq) | Found::Instance(seq, _) | Found::Virtual(seq, _, _) => seq,
        };
        let Some(node) = tree.node(seq) else { return Access::Denied };
        let target = if matches!(found, Found::Instance(..)) { Ty::CONTENT_INSTANCE } else { node.ty };
        if node.ty == Ty::ACCESS_CONTROL_POLICY {
            return self.by_policies(
                [own_policy(tree, node)].into_iter(),
                Set::SelfPrivileges,
                operation,
                target,
                child,
            );
        }
        if let (Found::Virtual(..), Ty::GROUP) = (found, node.ty)
            && node.texts(AttrId::MACP).next().is_some()
        {
            let decided = self.by_addresses(tree, node.texts(AttrId::MACP), Set::Privileges, operation, target, child);
            return decided.unwrap_or(Access::Denied);
        }
        let policies = node.texts(AttrId::ACPI);
        if let Some(decided) = self.by_addresses(tree, policies, Set::Privileges, operation, target, child) {
            return decided;
        }
        if self.owns(tree, node) || (node.ty == Ty::CSE_BASE && self.who.registered && ON_CSE_BASE.contains(operation))
        {
            Access::Granted
        } else {
            Access::Denied
        }
    }

    /// Decides whether `acpi` of a resource may be changed: UPDATE in the self-privileges of a policy that is linked now;
    /// where there is none that can be reached, the owner may.
    pub fn may_change_acpi(&self, tree: &Tree, node: &Node) -> Access {
        if self.who.trusted {
            return Access::Granted;
        }
        let (policies, update) = (node.texts(AttrId::ACPI), Operations(4));
        match self.by_addresses(tree, policies, Set::SelfPrivileges, update, node.ty, None) {
            Some(decided) => decided,
            None if self.owns(tree, node) => Access::Granted,
            None => Access::Denied,
        }
    }

    /// What the policies at these addresses say; `None` if none of the addresses leads to a policy.
    fn by_addresses<'t>(
        &self,
        tree: &'t Tree,
        addresses: impl Iterator<Item = &'t str>,
        set: Set,
        operation: Operations,
        target: Ty,
        child: Option<Ty>,
    ) -> Option<Access> {
        let mut missing = Vec::new();
        let policies: Vec<Policy> = addresses
            .filter_map(|address| match self.policy(tree, address) {
                Ok(policy) => policy,
                Err(()) => {
                    missing.push(address.to_owned());
                    None
                }
            })
            .collect();
        if policies.is_empty() && missing.is_empty() {
            return None;
        }
        Some(match self.by_policies(policies.into_iter().map(Some), set, operation, target, child) {
            Access::Denied if !missing.is_empty() => Access::Needs(Needs { policies: missing, ..Needs::default() }),
            Access::Needs(mut needs) => {
                needs.policies = missing;
                Access::Needs(needs)
            }
            decided => decided,
        })
    }

    /// The policy at an address; `Err` if it has to be fetched.
    fn policy(&self, tree: &Tree, address: &str) -> Result<Option<Policy>, ()> {
        if let Some((context, seq)) = crate::rid::parse(address)
            && context == tree.context()
        {
            return Ok(tree.node(seq).and_then(|n| own_policy(tree, n)));
        }
        self.facts.policies.iter().find(|(a, _)| a == address).map(|(_, p)| p.clone()).ok_or(())
    }

    fn by_policies(
        &self,
        policies: impl Iterator<Item = Option<Policy>>,
        set: Set,
        operation: Operations,
        target: Ty,
        child: Option<Ty>,
    ) -> Access {
        let groups = KnownGroups { facts: self.facts, missing: RefCell::default() };
        for policy in policies.flatten() {
            let text = match set {
                Set::Privileges => &policy.pv,
                Set::SelfPrivileges => &policy.pvs,
            };
            let Ok(rules) = Rules::from_json(text) else { continue };
            let granted = self.who.forms().any(|originator| {
                let attempt = Attempt {
                    originator,
                    operation,
                    target,
                    child,
                    authenticated: self.who.authenticated,
                    ip: self.who.ip.as_deref().and_then(|ip| ip.parse().ok()),
                    roles: &[],
                    now_ms: self.now_ms,
                };
                rules.grant(&attempt, self.home, &groups)
            });
            if granted {
                return Access::Granted;
            }
        }
        let missing = groups.missing.into_inner();
        if missing.is_empty() { Access::Denied } else { Access::Needs(Needs { groups: missing, ..Needs::default() }) }
    }

    /// No policies: the custodian has access, else the creator.
    fn owns(&self, tree: &Tree, node: &Node) -> bool {
        if let Some(custodian) = node.text(AttrId::CSTN) {
            let custodian = self.home.normal_id(custodian);
            return self.who.forms().any(|f| *f == *custodian);
        }
        match &node.creator {
            Creator::Owner => self.who.context == Some(tree.context()),
            Creator::Cse => false,
            Creator::Other(id) => self.who.forms().any(|f| f == &**id),
        }
    }
}

fn own_policy(tree: &Tree, node: &Node) -> Option<Policy> {
    (node.ty == Ty::ACCESS_CONTROL_POLICY).then(|| Policy {
        rid: tree.rid(node.seq),
        pv: node.json(AttrId::PV).unwrap_or("{}").to_owned(),
        pvs: node.json(AttrId::PVS).unwrap_or("{}").to_owned(),
    })
}

/// The rules of the policy at a place.
pub fn policy_at(tree: &Tree, found: Option<Found>) -> Option<Policy> {
    match found? {
        Found::Node(seq) => own_policy(tree, tree.node(seq)?),
        _ => None,
    }
}

/// Groups as far as the facts tell; notes which are missing.
struct KnownGroups<'a> {
    facts: &'a Facts,
    missing: RefCell<Vec<String>>,
}

impl Groups for KnownGroups<'_> {
    fn contains(&self, group: &str, _originator: &str) -> Option<bool> {
        let known = self.facts.groups.iter().find(|(g, _)| g == group).map(|(_, is)| *is);
        if known.is_none() {
            let mut missing = self.missing.borrow_mut();
            if !missing.iter().any(|g| g == group) {
                missing.push(group.to_owned());
            }
        }
        known
    }
}

impl Access {
    /// Goes on only if it was granted.
    pub fn required(self) -> Result<(), Stop> {
        match self {
            Self::Granted => Ok(()),
            Self::Denied => Err(Stop::Refused(Refusal::new(
                Rsc::ORIGINATOR_HAS_NO_PRIVILEGE,
                "the originator has no privilege for this",
            ))),
            Self::Needs(needs) => Err(Stop::Needs(needs)),
        }
    }
}

/// Why a procedure goes no further. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Refused.
    Refused(Refusal),
    /// More must be known.
    Needs(Needs),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
