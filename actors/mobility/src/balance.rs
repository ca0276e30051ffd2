//! Load balancing (COVERAGE.md rows S03, O10): from loads to a short list of moves.
//!
//! Why it does not swing: a node must be hot for [`BalanceOptions::trigger_ms`] before anything leaves it and gives until
//! it is calm (two thresholds); a move is planned only if the target stays calm and, even with the group, carries less
//! than the source without it (each move narrows the spread); a group that moved rests for
//! [`BalanceOptions::rest_ms`]; and after a round nothing is planned until reports are newer than it.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use onemec_wire::{GroupId, NodeId};

use crate::strategy::MoveRequest;

/// Groups whose rest is remembered; beyond it the one that has rested longest is forgotten.
pub const RESTING_MAX: usize = 65_536;

/// Thresholds and pace. Loads are 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BalanceOptions {
    /// A node above it is hot.
    pub hot: f64,
    /// A hot node gives until it is below this; a target stays below it. Less than `hot`.
    pub calm: f64,
    /// What the target must carry less than the source, after the move.
    pub margin: f64,
    /// A node must be hot for so long.
    pub trigger_ms: u64,
    /// Time between two rounds.
    pub round_ms: u64,
    /// A group that moved stays for so long.
    pub rest_ms: u64,
    /// Moves in one round.
    pub moves_max: usize,
}

impl Default for BalanceOptions {
    fn default() -> Self {
        Self { hot: 0.8, calm: 0.65, margin: 0.05, trigger_ms: 5_000, round_ms: 10_000, rest_ms: 120_000, moves_max: 8 }
    }
}

/// A node's report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NodeLoad {
    /// The node.
    pub node: NodeId,
    /// Its load.
    pub load: f64,
    /// Age of the report.
    pub age_ms: u64,
    /// For how long it is valid.
    pub valid_ms: u64,
    /// It is up and not being emptied: it may receive.
    pub receives: bool,
}

/// A group that may be moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupLoad {
    /// The group.
    pub group: GroupId,
    /// Who serves it.
    pub primary: NodeId,
    /// Its part of the load of that node; taken as the same anywhere.
    pub load: f64,
}

/// The planner with what it must remember.
#[derive(Debug)]
pub struct Balancer {
    options: BalanceOptions,
    /// Nodes above `hot`, and since when. Some are between `calm` and `hot` by now.
    hot: BTreeMap<NodeId, u64>,
    resting: BTreeMap<GroupId, u64>,
    round_at: Option<u64>,
}

impl Balancer {
    /// Thresholds in the wrong order are put right: `calm` is at most `hot`.
    pub fn new(options: BalanceOptions) -> Self {
        let options = BalanceOptions { calm: options.calm.min(options.hot), ..options };
        Self { options, hot: BTreeMap::new(), resting: BTreeMap::new(), round_at: None }
    }

    /// A group has moved, for whatever reason: it rests.
    pub fn moved(&mut self, now_ms: u64, group: GroupId) {
        if self.resting.len() >= RESTING_MAX && !self.resting.contains_key(&group) {
            self.forget_rested(now_ms);
            if self.resting.len() >= RESTING_MAX
                && let Some(oldest) = self.resting.iter().min_by_key(|(_, at)| **at).map(|(g, _)| *g)
            {
                self.resting.remove(&oldest);
            }
        }
        self.resting.insert(group, now_ms);
    }

    fn forget_rested(&mut self, now_ms: u64) {
        let rest_ms = self.options.rest_ms;
        self.resting.retain(|_, at| now_ms.saturating_sub(*at) < rest_ms);
    }

    /// Plans a round. Call it at any pace. `may` says whether a group may go to a node (residency, roles, room).
    pub fn plan(
        &mut self,
        now_ms: u64,
        nodes: &[NodeLoad],
        groups: &[GroupLoad],
        may: impl Fn(GroupId, NodeId) -> bool,
    ) -> Vec<MoveRequest> {
        // Reports that are valid and newer than the last round: older ones do not show what it did.
        let since_round = self.round_at.map_or(u64::MAX, |at| now_ms.saturating_sub(at));
        let mut loads: BTreeMap<NodeId, f64> = BTreeMap::new();
        let mut receivers = BTreeSet::new();
        for n in nodes {
            if n.load.is_finite() && n.age_ms < n.valid_ms && n.age_ms < since_round {
                loads.insert(n.node, n.load.clamp(0.0, 1.0));
                if n.receives {
                    receivers.insert(n.node);
                }
            }
        }
        self.watch(now_ms, &loads);
        if since_round < self.options.round_ms {
            return Vec::new();
        }
        self.forget_rested(now_ms);
        let plan = self.round(now_ms, loads, &receivers, groups, may);
        if !plan.is_empty() {
            self.round_at = Some(now_ms);
        }
        plan
    }

    fn watch(&mut self, now_ms: u64, loads: &BTreeMap<NodeId, f64>) {
        let BalanceOptions { hot, calm, .. } = self.options;
        // Who does not report is not known to be hot.
        self.hot.retain(|node, _| loads.get(node).is_some_and(|load| *load >= calm));
        for (node, _) in loads.iter().filter(|(_, load)| **load > hot) {
            self.hot.entry(*node).or_insert(now_ms);
        }
    }

    fn round(
        &self,
        now_ms: u64,
        mut loads: BTreeMap<NodeId, f64>,
        receivers: &BTreeSet<NodeId>,
        groups: &[GroupLoad],
        may: impl Fn(GroupId, NodeId) -> bool,
    ) -> Vec<MoveRequest> {
        let o = self.options;
        let mut sources: Vec<(NodeId, f64)> = self
            .hot
            .iter()
            .filter(|(_, since)| now_ms.saturating_sub(**since) >= o.trigger_ms)
            .filter_map(|(node, _)| loads.get(node).map(|load| (*node, *load)))
            .collect();
        sources.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let mut plan = Vec::new();
        let mut planned = BTreeSet::new();
        for (source, mut load) in sources {
            let mut theirs: Vec<&GroupLoad> = groups
                .iter()
                .filter(|g| g.primary == source && g.load.is_finite() && g.load > 0.0)
                .filter(|g| !self.resting.contains_key(&g.group))
                .collect();
            // The largest first: few moves.
            theirs.sort_by(|a, b| b.load.total_cmp(&a.load).then(a.group.cmp(&b.group)));
            for g in theirs {
                if plan.len() >= o.moves_max || load < o.calm {
                    break;
                }
                let left = load - g.load;
                let Some(target) = coolest(&loads, receivers, |node, with| {
                    node != source && with + g.load < o.calm && with + g.load + o.margin <= left && may(g.group, node)
                }) else {
                    continue;
                };
                if !planned.insert(g.group) {
                    continue;
                }
                load = left;
                loads.insert(source, left);
                *loads.entry(target).or_default() += g.load;
                plan.push(MoveRequest::load_balance(g.group, target));
            }
        }
        plan
    }
}

fn coolest(
    loads: &BTreeMap<NodeId, f64>,
    receivers: &BTreeSet<NodeId>,
    fits: impl Fn(NodeId, f64) -> bool,
) -> Option<NodeId> {
    receivers
        .iter()
        .filter_map(|node| loads.get(node).map(|load| (*node, *load)))
        .filter(|(node, load)| fits(*node, *load))
        .min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)))
        .map(|(node, _)| node)
}
