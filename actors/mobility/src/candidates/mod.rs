//! The N best targets of a move (COVERAGE.md row G07): all strategies get their candidates here.
//!
//! [`rank`] is a function of its arguments alone: the order of the facts does not matter, and equal scores are ordered by
//! node id. The list is the fallback order as well ([`crate::attempts`]).

mod facts;
mod filter;
mod score;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;

use onemec_wire::NodeId;
use serde::Serialize;

pub use self::facts::{Location, Policy, TargetFacts, Wanted, Weights};
pub use self::filter::ExclusionCode;

/// More candidates than this are never listed.
pub const CANDIDATES_MAX: usize = 64;

/// A possible target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// 0 to 1, higher is better: the sum of the terms, rounded to six digits.
    pub score: f64,
    /// What the score is made of: term and contribution.
    pub terms: Vec<(&'static str, f64)>,
    /// It has a complete replica already.
    pub has_replica: bool,
    /// Age of the data that the score rests on.
    pub age_ms: u64,
    /// From the device, if both places are known.
    pub distance_km: Option<f64>,
}

/// A node that is no target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excluded {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Why.
    pub code: ExclusionCode,
    /// In words.
    pub text: String,
}

/// All nodes, each either ranked or excluded.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Ranking {
    /// Name of the policy that scored.
    pub policy: String,
    /// Best first.
    pub candidates: Vec<Candidate>,
    /// Candidates that were too many for [`Wanted::count`].
    pub left_off: usize,
    /// By node id.
    pub excluded: Vec<Excluded>,
}

impl Ranking {
    /// The nodes in the order in which to try them.
    pub fn order(&self) -> Vec<NodeId> {
        self.candidates.iter().map(|c| c.node).collect()
    }
    /// The best one.
    pub fn best(&self) -> Option<&Candidate> {
        self.candidates.first()
    }
}

/// Ranks the nodes. If a node is reported twice, its newest report counts.
pub fn rank(facts: &[TargetFacts], wanted: &Wanted, policy: &Policy) -> Ranking {
    let mut ranking = Ranking { policy: policy.name.clone(), ..Ranking::default() };
    for target in newest_reports(facts) {
        match filter::exclusion(target, wanted) {
            Some((code, text)) => {
                ranking.excluded.push(Excluded { node: target.node, name: target.name.clone(), code, text });
            }
            None => ranking.candidates.push(score::score(target, wanted, policy)),
        }
    }
    ranking.candidates.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.cmp(&b.node)));
    let count = wanted.count.clamp(1, CANDIDATES_MAX);
    ranking.left_off = ranking.candidates.len().saturating_sub(count);
    ranking.candidates.truncate(count);
    ranking
}

/// One report per node, by node id.
fn newest_reports(facts: &[TargetFacts]) -> Vec<&TargetFacts> {
    let mut sorted: Vec<&TargetFacts> = facts.iter().collect();
    sorted.sort_by(|a, b| match (a.node, a.age_ms).cmp(&(b.node, b.age_ms)) {
        // Two reports of one age: any order will do that does not depend on the caller's.
        Ordering::Equal => format!("{a:?}").cmp(&format!("{b:?}")),
        order => order,
    });
    sorted.dedup_by_key(|t| t.node);
    sorted
}
