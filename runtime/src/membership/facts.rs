//! What nodes say about themselves.

use std::collections::BTreeSet;
use std::time::Duration;

use onemec_core::time::Mono;
use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};

/// Where electricity comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Energy {
    /// It did not say.
    #[default]
    Unknown,
    /// From the grid.
    Grid,
    /// Renewable.
    Renewable,
    /// A battery: use it with care.
    Battery,
}

/// A place on the earth.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Location {
    /// Degrees north.
    pub latitude_deg: f64,
    /// Degrees east.
    pub longitude_deg: f64,
}

impl Location {
    /// The distance on the sphere, in kilometres.
    pub fn km_to(self, other: Self) -> f64 {
        const EARTH_KM: f64 = 6371.0;
        let (a, b) = (self.latitude_deg.to_radians(), other.latitude_deg.to_radians());
        let north = b - a;
        let east = (other.longitude_deg - self.longitude_deg).to_radians();
        let h = (north / 2.0).sin().powi(2) + a.cos() * b.cos() * (east / 2.0).sin().powi(2);
        2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin()
    }
}

/// What a node is able to do. Changes seldom.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// What it is: `cse`, `mec-host`, `swarm-agent`, `fl-client` ...
    pub roles: BTreeSet<String>,
    /// The domain that runs it.
    pub domain: String,
    /// Where it stands.
    pub location: Option<Location>,
    /// Processor cores.
    pub cpu_cores: u32,
    /// Memory.
    pub memory_bytes: u64,
    /// Graphics processors.
    pub gpus: u32,
    /// Disk space.
    pub storage_bytes: u64,
    /// Where its electricity comes from.
    pub energy: Energy,
    /// The APIs that it serves.
    pub apis: BTreeSet<String>,
    /// What others vouch for.
    pub trust: BTreeSet<String>,
    /// Its typical round trip to its devices.
    pub latency_ms: Option<f64>,
}

/// How busy a node is. Changes all the time.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Load {
    /// Share of the processors in use, 0 to 1.
    pub cpu: f64,
    /// Share of the memory in use, 0 to 1.
    pub memory: f64,
    /// Contexts that it serves.
    pub contexts: u64,
    /// What is left in its battery, 0 to 1.
    pub battery: Option<f64>,
}

/// What a node says, with the time at which it said so.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeFacts {
    /// What it is able to do.
    pub capabilities: Capabilities,
    /// How busy it is.
    pub load: Load,
    /// By the node's own clock, milliseconds since 1970: for people.
    pub stamped_ms: u64,
    /// For how long it holds, from the moment at which it was said.
    pub valid_ms: u64,
}

/// Facts as they were heard here.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// Who.
    pub node: NodeId,
    /// What.
    pub facts: NodeFacts,
    /// When this version was heard first, by this node's clock: other nodes' clocks decide nothing here.
    pub heard: Mono,
}

impl Heard {
    /// It still holds.
    pub fn is_fresh(&self, now: Mono) -> bool {
        now.since(self.heard) < Duration::from_millis(self.facts.valid_ms)
    }
}
