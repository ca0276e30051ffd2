//! Assignment of roles by capability (row O04). Pure: facts in, an assignment with reasons out; the result is written into
//! the directory as facts.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::directory::Command;
use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};

use super::facts::{Energy, NodeFacts};
use super::select::{Predicate, Unmet};

/// A role that the cluster gives to nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AssignedRole {
    /// Takes devices over that lose their host.
    HandoverAnchor,
    /// Computes tasks of swarm jobs.
    SwarmWorker,
    /// Trains models.
    LearningParticipant,
}

impl AssignedRole {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::HandoverAnchor, Self::SwarmWorker, Self::LearningParticipant];

    /// Its name in facts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandoverAnchor => "handover-anchor",
            Self::SwarmWorker => "swarm-worker",
            Self::LearningParticipant => "learning-participant",
        }
    }

    /// How fit a node is, 0 to 1: what the role needs, weighted. Comparable within a role only.
    pub fn fitness(self, facts: &NodeFacts) -> f64 {
        let (can, load) = (&facts.capabilities, &facts.load);
        let cpu = share(f64::from(can.cpu_cores), 16.0) * (1.0 - load.cpu.clamp(0.0, 1.0));
        let memory = share(can.memory_bytes as f64, 64e9) * (1.0 - load.memory.clamp(0.0, 1.0));
        let near = can.latency_ms.map_or(0.5, |l| 1.0 / (1.0 + l.max(0.0) / 10.0));
        let lasting = match can.energy {
            Energy::Battery => load.battery.unwrap_or(0.3).clamp(0.0, 1.0) * 0.6,
            Energy::Unknown => 0.7,
            Energy::Grid => 0.9,
            Energy::Renewable => 1.0,
        };
        let gpu = if can.gpus > 0 { 1.0 } else { 0.0 };
        match self {
            Self::HandoverAnchor => 0.4 * near + 0.3 * lasting + 0.15 * cpu + 0.15 * memory,
            Self::SwarmWorker => 0.6 * cpu + 0.2 * memory + 0.2 * lasting,
            Self::LearningParticipant => 0.35 * cpu + 0.25 * memory + 0.25 * gpu + 0.15 * lasting,
        }
    }
}

fn share(value: f64, much: f64) -> f64 {
    (value / much).clamp(0.0, 1.0)
}

/// Who else is taken only if it is fitter by so much than who has the role: roles do not wander with every load report.
const STICKINESS: f64 = 0.1;

/// Why a node did not get a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Excluded {
    /// It does not satisfy the predicate.
    Unmet(Vec<Unmet>),
    /// Others are fitter.
    Enough,
}

/// Who has a role.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Assignment {
    /// The nodes, fittest first, with their fitness in thousandths.
    pub nodes: Vec<(NodeId, u32)>,
    /// All others, and why.
    pub excluded: BTreeMap<NodeId, Excluded>,
}

/// Prefix of the names of assignments among the directory's facts.
pub const ROLE_PREFIX: &str = "role/";

/// Gives a role to the `wanted` fittest of the nodes that satisfy the predicate. Who has it keeps it unless somebody is
/// clearly fitter; ties go to the lower id, so that everybody computes the same.
pub fn assign(
    role: AssignedRole,
    predicate: &Predicate,
    wanted: usize,
    facts: &BTreeMap<NodeId, NodeFacts>,
    holders: &BTreeSet<NodeId>,
) -> Assignment {
    let mut assignment = Assignment::default();
    let mut ranked = Vec::new();
    for (node, facts) in facts {
        let unmet = predicate.unmet(facts);
        if unmet.is_empty() {
            let fitness = role.fitness(facts);
            let rank = if holders.contains(node) { fitness + STICKINESS } else { fitness };
            ranked.push((*node, thousandths(rank), thousandths(fitness)));
        } else {
            assignment.excluded.insert(*node, Excluded::Unmet(unmet));
        }
    }
    ranked.sort_by_key(|(node, rank, _)| (std::cmp::Reverse(*rank), *node));
    for (place, (node, _, fitness)) in ranked.into_iter().enumerate() {
        if place < wanted {
            assignment.nodes.push((node, fitness));
        } else {
            assignment.excluded.insert(node, Excluded::Enough);
        }
    }
    assignment
}

fn thousandths(fitness: f64) -> u32 {
    // Saturates; not-a-number becomes 0.
    (fitness * 1000.0).round() as u32
}

impl Assignment {
    /// The command that writes it into the directory.
    pub fn command(&self, role: AssignedRole) -> Result<Command, serde_json::Error> {
        Ok(Command::SetFact {
            name: format!("{ROLE_PREFIX}{}", role.name()),
            value: Some(serde_json::to_string(&self.nodes)?),
        })
    }

    /// Reads who has a role from a fact of the directory.
    pub fn read(value: &str) -> Result<BTreeSet<NodeId>, serde_json::Error> {
        let nodes: Vec<(NodeId, u32)> = serde_json::from_str(value)?;
        Ok(nodes.into_iter().map(|(node, _)| node).collect())
    }
}
