//! Federation groups (row O03): which nodes satisfy a predicate over place, domain and quality of service. Pure: facts in,
//! members and reasons out; the result is written into the directory as a fact.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::directory::Command;
use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};

use super::facts::{Energy, Location, NodeFacts};

/// A circle.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Near {
    /// Its centre.
    pub centre: Location,
    /// Its radius.
    pub radius_km: f64,
}

/// What a node must satisfy. What is empty or absent is satisfied by every node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Predicate {
    /// One of these domains.
    pub domains: BTreeSet<String>,
    /// Within one of these circles.
    pub near: Vec<Near>,
    /// All of these roles.
    pub roles: BTreeSet<String>,
    /// All of these APIs.
    pub apis: BTreeSet<String>,
    /// All of these trust tags.
    pub trust: BTreeSet<String>,
    /// One of these sources.
    pub energy: BTreeSet<Energy>,
    /// At least.
    pub cpu_cores_min: u32,
    /// At least.
    pub memory_bytes_min: u64,
    /// At least.
    pub storage_bytes_min: u64,
    /// At least.
    pub gpus_min: u32,
    /// At most, 0 to 1.
    pub cpu_load_max: Option<f64>,
    /// At most; a node that does not say fails.
    pub latency_ms_max: Option<f64>,
    /// At least, 0 to 1; a node without a battery passes.
    pub battery_min: Option<f64>,
}

/// What a node does not satisfy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Unmet {
    Domain,
    Place,
    Role,
    Api,
    Trust,
    Energy,
    Cpu,
    Memory,
    Storage,
    Gpu,
    Load,
    Latency,
    Battery,
}

impl Predicate {
    /// What a node does not satisfy: empty if it satisfies all.
    pub fn unmet(&self, facts: &NodeFacts) -> Vec<Unmet> {
        let (can, load) = (&facts.capabilities, &facts.load);
        let near = |l: Location| self.near.iter().any(|n| n.centre.km_to(l) <= n.radius_km);
        let checks = [
            (Unmet::Domain, self.domains.is_empty() || self.domains.contains(&can.domain)),
            (Unmet::Place, self.near.is_empty() || can.location.is_some_and(near)),
            (Unmet::Role, self.roles.is_subset(&can.roles)),
            (Unmet::Api, self.apis.is_subset(&can.apis)),
            (Unmet::Trust, self.trust.is_subset(&can.trust)),
            (Unmet::Energy, self.energy.is_empty() || self.energy.contains(&can.energy)),
            (Unmet::Cpu, can.cpu_cores >= self.cpu_cores_min),
            (Unmet::Memory, can.memory_bytes >= self.memory_bytes_min),
            (Unmet::Storage, can.storage_bytes >= self.storage_bytes_min),
            (Unmet::Gpu, can.gpus >= self.gpus_min),
            (Unmet::Load, self.cpu_load_max.is_none_or(|max| load.cpu <= max)),
            (Unmet::Latency, self.latency_ms_max.is_none_or(|max| can.latency_ms.is_some_and(|l| l <= max))),
            (Unmet::Battery, self.battery_min.is_none_or(|min| load.battery.is_none_or(|b| b >= min))),
        ];
        checks.into_iter().filter(|(_, met)| !met).map(|(unmet, _)| unmet).collect()
    }
}

/// A federation group: its predicate, and who satisfied it when it was last evaluated.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FederationGroup {
    /// Its rule.
    pub predicate: Predicate,
    /// Who satisfies it.
    pub members: BTreeSet<NodeId>,
}

/// Prefix of the names of federation groups among the directory's facts.
pub const FEDERATION_PREFIX: &str = "federation/";

impl FederationGroup {
    /// Evaluates a predicate over all nodes; says of each that fails why.
    pub fn evaluate(predicate: Predicate, facts: &BTreeMap<NodeId, NodeFacts>) -> (Self, BTreeMap<NodeId, Vec<Unmet>>) {
        let mut group = Self { predicate, members: BTreeSet::new() };
        let mut excluded = BTreeMap::new();
        for (node, facts) in facts {
            let unmet = group.predicate.unmet(facts);
            if unmet.is_empty() {
                group.members.insert(*node);
            } else {
                excluded.insert(*node, unmet);
            }
        }
        (group, excluded)
    }

    /// The command that writes it into the directory.
    pub fn command(&self, name: &str) -> Result<Command, serde_json::Error> {
        Ok(Command::SetFact { name: format!("{FEDERATION_PREFIX}{name}"), value: Some(serde_json::to_string(self)?) })
    }

    /// Reads it from a fact of the directory.
    pub fn read(value: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(value)
    }
}
