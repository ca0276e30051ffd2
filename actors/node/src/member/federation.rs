//! Federation groups (row O03) and roles by capability (row O04): computed from what live nodes say of themselves, by the
//! node that leads the directory, and kept there as facts. Whoever leads next goes on: a role's holder keeps it unless it
//! dies, is emptied, or somebody is clearly fitter.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use onemec_core::directory::{Command, Directory};
use onemec_runtime::directory::DirectoryHandle;
use onemec_runtime::membership::{
    AssignedRole, Assignment, Energy, FEDERATION_PREFIX, FederationGroup, Location, MembershipHandle, Near, NodeFacts,
    Predicate, ROLE_PREFIX, assign,
};
use onemec_wire::NodeId;

use super::drains;
use super::nodes::Nodes;
use crate::admin::types;
use crate::topology::{Circle, FederationRule, Roles, Topology};

/// Time between two looks: so long after a death its roles are others'.
const LOOK: Duration = Duration::from_millis(500);
const FACT_MAX: Duration = Duration::from_secs(3);

/// What the topology asks for.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    groups: BTreeMap<String, Predicate>,
    roles: Roles,
}

impl Rules {
    pub(super) fn new(topology: &Topology) -> Self {
        let groups = topology.federation_group.iter().map(|rule| (rule.name.clone(), predicate(rule))).collect();
        Self { groups, roles: topology.federation_roles.clone() }
    }

    /// The commands that make the directory's facts what they should be. Pure.
    fn due(&self, directory: &Directory, said: &BTreeMap<NodeId, NodeFacts>) -> Vec<Command> {
        let live: BTreeSet<NodeId> = directory.live().map(|m| m.node).collect();
        let here: BTreeMap<NodeId, NodeFacts> =
            said.iter().filter(|(node, _)| live.contains(node)).map(|(n, f)| (*n, f.clone())).collect();
        let mut due = Vec::new();
        for (name, predicate) in &self.groups {
            let (group, _) = FederationGroup::evaluate(predicate.clone(), &here);
            let known = directory.fact(&format!("{FEDERATION_PREFIX}{name}"));
            if known.and_then(|v| FederationGroup::read(v).ok()).as_ref() != Some(&group) {
                due.extend(group.command(name).ok());
            }
        }
        let unwanted = |fact: &str| fact.strip_prefix(FEDERATION_PREFIX).is_some_and(|n| !self.groups.contains_key(n));
        let gone = directory.facts(FEDERATION_PREFIX).map(|(fact, _)| fact).filter(|fact| unwanted(fact));
        due.extend(gone.map(|fact| Command::SetFact { name: fact.to_owned(), value: None }));
        // Who is being emptied has its place in groups, and takes no role.
        let free: BTreeMap<NodeId, NodeFacts> =
            here.into_iter().filter(|(n, _)| directory.fact(&drains::fact_of(*n)).is_none()).collect();
        for role in AssignedRole::ALL {
            let known = directory.fact(&format!("{ROLE_PREFIX}{}", role.name()));
            let holders = known.and_then(|v| Assignment::read(v).ok()).unwrap_or_default();
            let assignment = assign(role, &Predicate::default(), self.wanted(role), &free, &holders);
            let now: BTreeSet<NodeId> = assignment.nodes.iter().map(|(n, _)| *n).collect();
            if known.is_none() || now != holders {
                due.extend(assignment.command(role).ok());
            }
        }
        due
    }

    fn wanted(&self, role: AssignedRole) -> usize {
        let wanted = match role {
            AssignedRole::HandoverAnchor => self.roles.handover_anchors,
            AssignedRole::SwarmWorker => self.roles.swarm_workers,
            AssignedRole::LearningParticipant => self.roles.learning_participants,
        };
        wanted as usize
    }
}

fn predicate(rule: &FederationRule) -> Predicate {
    let set = |words: &[String]| words.iter().cloned().collect();
    let near = |c: &Circle| Near { centre: Location { latitude_deg: c.lat, longitude_deg: c.lon }, radius_km: c.km };
    Predicate {
        domains: set(&rule.domains),
        near: rule.near.iter().map(near).collect(),
        roles: set(&rule.roles),
        apis: set(&rule.apis),
        trust: set(&rule.trust),
        energy: rule.energy.iter().filter_map(|word| energy(word)).collect(),
        cpu_cores_min: rule.cpu_cores_min,
        memory_bytes_min: rule.memory_mib_min << 20,
        storage_bytes_min: rule.storage_gib_min << 30,
        gpus_min: rule.gpus_min,
        cpu_load_max: rule.cpu_load_max,
        ..Predicate::default()
    }
}

/// The words of `energy` in a topology that a predicate may ask for.
pub(crate) fn energy(word: &str) -> Option<Energy> {
    match word {
        "mains" => Some(Energy::Grid),
        "solar" => Some(Energy::Renewable),
        "battery" => Some(Energy::Battery),
        _ => None,
    }
}

/// Runs on every node; the one that leads the directory acts. Never ends.
pub(super) async fn run(rules: Rules, directory: DirectoryHandle, gossip: MembershipHandle) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !directory.leads() {
            continue;
        }
        let due = rules.due(&directory.read(), &gossip.all());
        if due.is_empty() {
            continue;
        }
        // Facts are what is to be: writing one twice does no harm, and what was not written is due again.
        if let Err(e) = directory.propose_all(due, FACT_MAX).await {
            tracing::debug!("federation groups and roles: {e}");
        }
    }
}

/// What the directory says, by name.
pub(super) fn view(directory: &Directory, nodes: &Nodes) -> types::Federation {
    let names = |ids: &BTreeSet<NodeId>| ids.iter().map(|n| nodes.name_of(*n)).collect::<Vec<_>>();
    let groups = directory.facts(FEDERATION_PREFIX).filter_map(|(fact, value)| {
        let group = FederationGroup::read(value).ok()?;
        Some(types::FederationGroup {
            name: fact.strip_prefix(FEDERATION_PREFIX)?.to_owned(),
            members: names(&group.members),
        })
    });
    let roles = directory.facts(ROLE_PREFIX).filter_map(|(fact, value)| {
        let holders = Assignment::read(value).ok()?;
        Some(types::FederationRole { role: fact.strip_prefix(ROLE_PREFIX)?.to_owned(), holders: names(&holders) })
    });
    types::Federation { groups: groups.collect(), roles: roles.collect() }
}
