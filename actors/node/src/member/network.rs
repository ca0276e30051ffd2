//! The network's own reasons to move a device (rows H01, H05, S02, S03, S06): measurements of links from outside, and too
//! much load on this node.

use std::collections::BTreeMap;
use std::time::Instant;

use onemec_core::context::{ContextKind, Contexts as _};
use onemec_mobility::balance::{BalanceOptions, Balancer, GroupLoad, NodeLoad};
use onemec_mobility::candidates::Location;
use onemec_mobility::link::{LinkOptions, LinkWatch, expected_dbm};
use onemec_mobility::strategy::MoveRequest;
use onemec_wire::{ContextId, GroupId, NodeId};
use parking_lot::Mutex;

use super::drains;
use super::mover::Mover;
use super::targets::{age_ms, share};
use crate::topology::{Balance, Mobility};

/// See the module.
pub(super) struct Network {
    mover: Mover,
    options: Mobility,
    began: Instant,
    links: Mutex<LinkWatch>,
    balancer: Mutex<Balancer>,
}

impl Network {
    pub(super) fn new(mover: Mover, options: Mobility) -> Self {
        let links = LinkOptions {
            hysteresis_db: options.link_hysteresis_db,
            trigger_ms: options.link_trigger_ms,
            valid_ms: options.link_valid_ms,
            rest_ms: options.rest_ms,
            moves_per_s_max: options.moves_per_s_max as usize,
        };
        let balance = BalanceOptions {
            hot: options.balance_hot,
            calm: options.balance_calm,
            trigger_ms: options.balance_trigger_ms,
            round_ms: options.balance_round_ms,
            ..BalanceOptions::default()
        };
        Self {
            mover,
            options,
            began: Instant::now(),
            links: Mutex::new(LinkWatch::new(links)),
            balancer: Mutex::new(Balancer::new(balance)),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// A device's signal at a node.
    ///
    /// # Errors
    /// In words, if it cannot be.
    pub(super) fn signal(&self, device: ContextId, node: NodeId, dbm: f64) -> Result<(), String> {
        self.links.lock().report(self.now_ms(), device, node, dbm).map_err(|e| e.to_string())
    }

    /// A device's place: as if each node whose place is known had measured what it should receive from there.
    ///
    /// # Errors
    /// In words, if there is no such place, or no node's place is known.
    pub(super) fn place(&self, device: ContextId, at: Location) -> Result<(), String> {
        let nodes = self.mover.targets.gossip.all().into_iter();
        let known = nodes.filter_map(|(node, facts)| Some((node, facts.capabilities.location?)));
        let mut measured = 0;
        for (node, l) in known {
            let km = at
                .distance_km(Location { lat: l.latitude_deg, lon: l.longitude_deg })
                .ok_or("there is no such place")?;
            self.signal(device, node, expected_dbm(km))?;
            measured += 1;
        }
        self.mover.targets.placed(device, at);
        if measured == 0 { Err("no node's place is known".into()) } else { Ok(()) }
    }

    /// A group has moved, for whatever reason.
    pub(super) fn moved(&self, group: GroupId) {
        self.balancer.lock().moved(self.now_ms(), group);
    }

    /// Moves that the links ask for now.
    pub(super) fn link_moves(&self) -> Vec<MoveRequest> {
        let runtime = &self.mover.runtime;
        let mut links = self.links.lock();
        if links.is_empty() {
            return Vec::new();
        }
        let serving = |device| runtime.by_id(device).map(|place| place.primary);
        links.plan(self.now_ms(), serving, |device, node| {
            runtime.by_id(device).is_some_and(|place| self.may(place.group, node))
        })
    }

    /// Moves that this node's load asks for now: it gives groups of its own away (row S06).
    pub(super) fn balance_moves(&self) -> Vec<MoveRequest> {
        if self.options.balance == Balance::Off {
            return Vec::new();
        }
        let nodes = self.loads();
        let groups = self.own_groups(&nodes);
        let mut balancer = self.balancer.lock();
        balancer.plan(self.now_ms(), &nodes, &groups, |group, node| self.may(group, node))
    }

    fn loads(&self) -> Vec<NodeLoad> {
        let targets = &self.mover.targets;
        let most = u64::from(targets.topology.limits.aes_max);
        let heard: BTreeMap<NodeId, _> = targets.gossip.heard().into_iter().map(|h| (h.node, h)).collect();
        let runtime = &self.mover.runtime;
        let directory = runtime.directory().read();
        let up: Vec<NodeId> = directory.live().map(|m| m.node).collect();
        let mut loads = Vec::new();
        for node in up {
            let receives = directory.fact(&drains::fact_of(node)).is_none();
            let (load, age_ms, valid_ms) = match self.options.balance {
                Balance::Aes => (share(directory.count_at_home(node, ContextKind::AE) as u64, most), 0, 1),
                _ => match heard.get(&node) {
                    Some(h) => (h.facts.load.cpu, age_ms(h), h.facts.valid_ms),
                    None => continue,
                },
            };
            loads.push(NodeLoad { node, load, age_ms, valid_ms, receives });
        }
        loads
    }

    /// The groups of AEs that this node leads, each with its part of the node's load.
    fn own_groups(&self, nodes: &[NodeLoad]) -> Vec<GroupLoad> {
        let runtime = &self.mover.runtime;
        let me = runtime.member().node;
        let load = nodes.iter().find(|n| n.node == me).map_or(0.0, |n| n.load);
        let directory = runtime.directory().read();
        let mut aes: BTreeMap<GroupId, u64> = BTreeMap::new();
        for (_, entry) in directory.at_home(me, ContextKind::AE, None) {
            if directory.group(entry.group).is_some_and(|p| p.primary.node == me) {
                *aes.entry(entry.group).or_default() += 1;
            }
        }
        let total: u64 = aes.values().sum();
        aes.into_iter().map(|(group, n)| GroupLoad { group, primary: me, load: load * share(n, total) }).collect()
    }

    /// Up, not being emptied, permitted by the labels, names free.
    fn may(&self, group: GroupId, node: NodeId) -> bool {
        let targets = &self.mover.targets;
        let directory = self.mover.runtime.directory().read();
        let Some(p) = directory.group(group) else { return false };
        directory.node(node).is_some_and(|n| n.up)
            && directory.fact(&drains::fact_of(node)).is_none()
            && directory.clash_at(group, node).is_none()
            && p.contexts
                .iter()
                .filter_map(|c| directory.context(*c))
                .all(|c| !c.pinned && targets.rules.permits(&directory, &c.keys, c.home, node))
    }
}
