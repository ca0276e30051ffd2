//! What candidates are judged by.

use std::collections::{BTreeMap, BTreeSet};

use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};

use crate::residency::Residency;

/// A place on the earth, WGS 84 degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Location {
    /// Latitude, -90 to 90.
    pub lat: f64,
    /// Longitude, -180 to 180.
    pub lon: f64,
}

impl Location {
    /// Great-circle distance in kilometres; `None` if one of the two is no place.
    pub fn distance_km(self, other: Self) -> Option<f64> {
        const EARTH_KM: f64 = 6_371.008_8;
        if !self.is_place() || !other.is_place() {
            return None;
        }
        let (a, b) = (self.lat.to_radians(), other.lat.to_radians());
        let (dlat, dlon) = (b - a, (other.lon - self.lon).to_radians());
        let h = (dlat / 2.0).sin().powi(2) + a.cos() * b.cos() * (dlon / 2.0).sin().powi(2);
        Some(2.0 * EARTH_KM * h.clamp(0.0, 1.0).sqrt().asin())
    }

    fn is_place(self) -> bool {
        (-90.0..=90.0).contains(&self.lat) && (-180.0..=180.0).contains(&self.lon)
    }
}

/// What is known about a node: directory and gossip.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetFacts {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The directory has it as up.
    pub up: bool,
    /// It is being emptied.
    pub draining: bool,
    /// Roles as in the topology, for example `mn-cse`.
    pub roles: BTreeSet<String>,
    /// APIs that it offers.
    pub apis: BTreeSet<String>,
    /// Capabilities by name with the unit in the name, for example `cpu_cores`, `memory_mib`.
    pub capabilities: BTreeMap<String, f64>,
    /// Load, 0 to 1 (what is outside is taken as the nearer end).
    pub load: f64,
    /// Where it stands.
    pub location: Option<Location>,
    /// Trust words.
    pub trust: BTreeSet<String>,
    /// Its domain.
    pub domain: String,
    /// The region that it stands in; empty: not known.
    pub region: String,
    /// Age of what gossip said.
    pub age_ms: u64,
    /// For how long that is valid; 0: not at all.
    pub valid_ms: u64,
    /// It has a complete in-sync replica of the group.
    pub has_replica: bool,
    /// AEs at home there.
    pub aes: u64,
    /// How many may be; `u64::MAX` if it has no limit.
    pub aes_max: u64,
}

/// What a move needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// The node that serves the group now.
    pub primary: Option<NodeId>,
    /// The node whose CSE is its registrar; the same except after some failovers.
    pub home: Option<NodeId>,
    /// Where the device is.
    pub device_at: Option<Location>,
    /// Share of the target's capacity that must be free, 0 to 1.
    pub free_load_min: f64,
    /// Trust words that the target must have.
    pub trust: BTreeSet<String>,
    /// Domains that will do; empty: any.
    pub domains: BTreeSet<String>,
    /// Labels of the group's contexts; all must permit the target.
    pub residency: Vec<Residency>,
    /// Roles that the target must have.
    pub roles: BTreeSet<String>,
    /// APIs that it must offer.
    pub apis: BTreeSet<String>,
    /// Capabilities that it must have, at least so much of each.
    pub capabilities_min: BTreeMap<String, f64>,
    /// How many AEs come.
    pub aes: u64,
    /// Nodes that are out for another reason (tried already, forbidden by the client).
    pub not: BTreeSet<NodeId>,
    /// How many candidates are wanted, 1 to [`super::CANDIDATES_MAX`].
    pub count: usize,
}

impl Default for Wanted {
    /// Any node that is up, for one AE; three candidates.
    fn default() -> Self {
        Self {
            primary: None,
            home: None,
            device_at: None,
            free_load_min: 0.0,
            trust: BTreeSet::new(),
            domains: BTreeSet::new(),
            residency: Vec::new(),
            roles: BTreeSet::new(),
            apis: BTreeSet::new(),
            capabilities_min: BTreeMap::new(),
            aes: 1,
            not: BTreeSet::new(),
            count: 3,
        }
    }
}

/// How much each term counts, relative to the others. Negative and non-finite weights count as 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Weights {
    /// Free capacity.
    pub load: f64,
    /// Nearness to the device; left out where the device's place is unknown.
    pub distance: f64,
    /// A complete replica is there already.
    pub replica: f64,
    /// Freshness of the data.
    pub freshness: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self { load: 0.4, distance: 0.3, replica: 0.2, freshness: 0.1 }
    }
}

/// An explicit policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Its name, shown with the result.
    pub name: String,
    /// Weights of the terms.
    pub weights: Weights,
    /// The distance at which nearness is one half.
    pub half_km: f64,
}

impl Default for Policy {
    fn default() -> Self {
        Self { name: "balanced".into(), weights: Weights::default(), half_km: 5.0 }
    }
}
