//! How good a candidate is.

use super::Candidate;
use super::facts::{Policy, TargetFacts, Wanted};

/// Larger weights count as this.
const WEIGHT_MAX: f64 = 1e6;

/// Scores a node that was not excluded. Each term is 0 to 1; the score is their weighted mean. A term that cannot be known
/// for any node (nobody knows where the device is) is left out; one that is unknown for this node alone counts as 0.
pub(super) fn score(t: &TargetFacts, w: &Wanted, policy: &Policy) -> Candidate {
    let distance_km = w.device_at.zip(t.location).and_then(|(device, node)| device.distance_km(node));
    let load = 1.0 - t.load.clamp(0.0, 1.0);
    let replica = if t.has_replica { 1.0 } else { 0.0 };
    let freshness = 1.0 - ratio(t.age_ms, t.valid_ms);
    let mut terms = vec![
        ("load", policy.weights.load, load),
        ("replica", policy.weights.replica, replica),
        ("freshness", policy.weights.freshness, freshness),
    ];
    if w.device_at.is_some() {
        terms.push(("distance", policy.weights.distance, distance_km.map_or(0.0, |km| nearness(km, policy.half_km))));
    }
    let total: f64 = terms.iter().map(|(_, weight, _)| weight_of(*weight)).sum();
    let terms: Vec<(&'static str, f64)> = terms
        .into_iter()
        .map(|(name, weight, value)| (name, if total > 0.0 { weight_of(weight) / total * value } else { 0.0 }))
        .collect();
    // Rounded: trigonometry differs in the last bits between machines, and the order must not.
    let score = (terms.iter().map(|(_, v)| v).sum::<f64>() * 1e6).round() / 1e6;
    Candidate {
        node: t.node,
        name: t.name.clone(),
        score: score.clamp(0.0, 1.0),
        terms,
        has_replica: t.has_replica,
        age_ms: t.age_ms,
        distance_km,
    }
}

fn weight_of(weight: f64) -> f64 {
    if weight.is_nan() { 0.0 } else { weight.clamp(0.0, WEIGHT_MAX) }
}

/// 1 at the device, one half at `half_km`, towards 0 far away.
fn nearness(km: f64, half_km: f64) -> f64 {
    let half = if half_km.is_finite() && half_km > 0.0 { half_km } else { 1.0 };
    half / (half + km)
}

#[expect(clippy::cast_precision_loss, reason = "ages are small, and a score is rounded anyway")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 1.0 } else { (part as f64 / whole as f64).clamp(0.0, 1.0) }
}
