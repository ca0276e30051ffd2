//! What openraft's metrics say about this node's leadership, for the lease machines.

use std::collections::BTreeSet;

use onemec_core::lease::{LeaderView, Term, VoterId};

use super::log::term_of;
use super::machine::Applied;
use super::types::Metrics;

/// The view of the leader that this node is, or `None`.
///
/// The metrics may be one step behind: that is harmless. While it lasts, the configuration that they show and the one in
/// force have a quorum in common, since changes go through joint configurations (both need a quorum) and the next one is
/// begun only after the last one was reported; and what voters confirm is that their own newest vote is this leader's.
pub(crate) fn leader_view(metrics: &Metrics, applied: Applied) -> Option<LeaderView> {
    if !metrics.state.is_leader() || metrics.running_state.is_err() || !metrics.vote.is_committed() {
        return None;
    }
    let term = term_of(&metrics.vote);
    if term.leader != metrics.id {
        return None;
    }
    let membership = metrics.membership_config.membership();
    let configurations: Vec<BTreeSet<VoterId>> =
        membership.get_joint_config().iter().map(|c| c.iter().copied().map(VoterId).collect()).collect();
    if configurations.is_empty() {
        return None;
    }
    // Rule 1: nothing is granted before the first entry of the own term is applied; what is applied carries its term.
    Some(LeaderView { term, configurations, ready: is_ready(term, applied) })
}

fn is_ready(term: Term, applied: Applied) -> bool {
    applied.term == term
}
