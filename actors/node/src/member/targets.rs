//! The one list of possible targets (row G07): facts of gossip and directory, ranked by `onemec_mobility::candidates`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_core::context::ContextKind;
use onemec_core::place;
use onemec_mobility::candidates::{
    CANDIDATES_MAX, ExclusionCode, Location, Policy, Ranking, TargetFacts, Wanted, rank,
};
use onemec_runtime::exec::Runtime;
use onemec_runtime::lease::boottime;
use onemec_runtime::membership::{Heard, MembershipHandle};
use onemec_wire::{ContextId, GroupId, NodeId};
use parking_lot::Mutex;

use super::drains;
use super::nodes::{NodeView, Nodes};
use super::residency::Rules;
use crate::topology::Topology;

/// Devices whose places are remembered, and for how long.
const PLACES_MAX: usize = 65_536;
const PLACE_HOLDS: Duration = Duration::from_secs(60);
/// Candidates whose scores differ by less count as equal when many groups are spread.
const NEAR: f64 = 0.1;

/// See the module.
pub(super) struct Targets {
    pub(super) runtime: Runtime,
    pub(super) gossip: MembershipHandle,
    pub(super) nodes: Arc<Nodes>,
    pub(super) topology: Topology,
    pub(super) rules: Arc<Rules>,
    /// Where devices said that they are, and when.
    pub(super) places: Mutex<HashMap<ContextId, (Instant, Location)>>,
}

impl Targets {
    /// A device is at a place.
    pub(super) fn placed(&self, device: ContextId, at: Location) {
        let mut places = self.places.lock();
        if places.len() >= PLACES_MAX {
            places.retain(|_, (heard, _)| heard.elapsed() < PLACE_HOLDS);
        }
        if places.len() < PLACES_MAX || places.contains_key(&device) {
            places.insert(device, (Instant::now(), at));
        }
    }

    fn place_of(&self, contexts: &[ContextId]) -> Option<Location> {
        let places = self.places.lock();
        let fresh = |c: &ContextId| places.get(c).filter(|(heard, _)| heard.elapsed() < PLACE_HOLDS);
        contexts.iter().find_map(fresh).map(|(_, at)| *at)
    }

    /// All nodes, ranked or excluded, for a group.
    pub(super) fn ranking(&self, group: GroupId) -> Ranking {
        let heard: BTreeMap<NodeId, Heard> = self.gossip.heard().into_iter().map(|h| (h.node, h)).collect();
        let facts: Vec<TargetFacts> = self
            .nodes
            .all()
            .into_iter()
            .map(|n| {
                let h = heard.get(&n.id);
                self.facts(n, h, group)
            })
            .collect();
        let directory = self.runtime.directory().read();
        let placement = directory.group(group);
        let contexts = placement.into_iter().flat_map(|p| &p.contexts).filter_map(|c| directory.context(*c));
        let (home, aes) = contexts
            .fold((None, 0), |(home, aes), c| (home.or(Some(c.home)), aes + u64::from(c.kind == ContextKind::AE)));
        let wanted = Wanted {
            primary: placement.map(|p| p.primary.node),
            home,
            aes: aes.max(1),
            device_at: self.place_of(placement.map_or(&[], |p| &p.contexts)),
            residency: self.rules.labels_of(&directory, group),
            count: CANDIDATES_MAX,
            ..Wanted::default()
        };
        drop(directory);
        rank(&facts, &wanted, &Policy::default())
    }

    /// In which order to try. `spread`: among near-equals groups take turns, so that a whole host's groups do not all go
    /// to the same one.
    pub(super) fn order(&self, group: GroupId, spread: bool) -> Vec<NodeId> {
        let ranking = self.ranking(group);
        if !spread {
            return ranking.order();
        }
        let best = ranking.best().map_or(0.0, |c| c.score);
        let mut candidates = ranking.candidates;
        let step = |score: f64| ((best - score) / NEAR).floor();
        candidates.sort_by(|a, b| {
            let turn = |n: NodeId| place::rank(group, n);
            step(a.score).total_cmp(&step(b.score)).then_with(|| turn(a.node).cmp(&turn(b.node)))
        });
        candidates.iter().map(|c| c.node).collect()
    }

    /// Why no node may have a group's data, if it is a label that leaves none (row G15).
    pub(super) fn forbidden(&self, group: GroupId) -> Option<String> {
        let ranking = self.ranking(group);
        let by_label = ranking.excluded.into_iter().find(|e| e.code == ExclusionCode::Residency)?;
        ranking.candidates.is_empty().then_some(by_label.text)
    }

    /// By gossip; a node that was not heard is too old to be a target.
    fn facts(&self, node: NodeView, heard: Option<&Heard>, group: GroupId) -> TargetFacts {
        let id = node.id;
        let most = u64::from(self.topology.limits.aes_max);
        let c = heard.map(|h| h.facts.capabilities.clone()).unwrap_or_default();
        let directory = self.runtime.directory().read();
        let aes = directory.count_at_home(id, ContextKind::AE) as u64;
        let in_sync = directory.group(group).is_some_and(|p| p.in_sync.iter().any(|m| m.node == id));
        let entry = directory.node(id);
        TargetFacts {
            node: id,
            name: node.name,
            up: entry.is_some_and(|n| n.up),
            draining: directory.fact(&drains::fact_of(id)).is_some(),
            roles: node.roles.into_iter().collect(),
            apis: c.apis,
            capabilities: BTreeMap::from([
                ("cpu_cores".to_owned(), f64::from(c.cpu_cores)),
                ("gpus".to_owned(), f64::from(c.gpus)),
                ("memory_mib".to_owned(), (c.memory_bytes >> 20) as f64),
                ("storage_gib".to_owned(), (c.storage_bytes >> 30) as f64),
            ]),
            load: share(aes, most).max(heard.map_or(0.0, |h| h.facts.load.cpu)),
            location: c.location.map(|l| Location { lat: l.latitude_deg, lon: l.longitude_deg }),
            trust: c.trust,
            domain: self.topology.cluster.domain.clone(),
            region: entry.and_then(|n| n.info.get("region").cloned()).unwrap_or_default(),
            age_ms: heard.map_or(u64::MAX, age_ms),
            valid_ms: heard.map_or(0, |h| h.facts.valid_ms),
            has_replica: in_sync,
            aes,
            aes_max: most,
        }
    }
}

/// How old what was heard is, in milliseconds.
pub(super) fn age_ms(heard: &Heard) -> u64 {
    u64::try_from(boottime().since(heard.heard).as_millis()).unwrap_or(u64::MAX)
}

/// A part of a whole, 0 to 1.
pub(super) fn share(part: u64, whole: u64) -> f64 {
    #[allow(clippy::cast_precision_loss)] // numbers of AEs are small, and a load is rounded anyway
    let share = part as f64 / whole.max(1) as f64;
    share.min(1.0)
}
