//! Who is out of the question, and why.

use serde::{Deserialize, Serialize};

use super::facts::{TargetFacts, Wanted};
use crate::residency::Site;

/// Why a node is no target. If several reasons hold, the first in this order is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExclusionCode {
    /// It serves the group already.
    IsCurrent,
    /// The caller does not want it.
    NotWanted,
    /// The directory does not have it as up.
    NotUp,
    /// It is being emptied.
    Draining,
    /// What is known about it is no longer valid.
    StaleData,
    /// What it reports makes no sense.
    BadData,
    /// It lacks a role.
    NoRole,
    /// It lacks an API.
    NoApi,
    /// It lacks a capability.
    NoCapability,
    /// It belongs to another domain.
    Domain,
    /// The data must not go there.
    Residency,
    /// It lacks a trust word.
    Trust,
    /// It has as many AEs as it may have.
    Full,
    /// It has too little free capacity.
    Overloaded,
}

impl ExclusionCode {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::IsCurrent,
        Self::NotWanted,
        Self::NotUp,
        Self::Draining,
        Self::StaleData,
        Self::BadData,
        Self::NoRole,
        Self::NoApi,
        Self::NoCapability,
        Self::Domain,
        Self::Residency,
        Self::Trust,
        Self::Full,
        Self::Overloaded,
    ];

    /// As in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IsCurrent => "is-current",
            Self::NotWanted => "not-wanted",
            Self::NotUp => "not-up",
            Self::Draining => "draining",
            Self::StaleData => "stale-data",
            Self::BadData => "bad-data",
            Self::NoRole => "no-role",
            Self::NoApi => "no-api",
            Self::NoCapability => "no-capability",
            Self::Domain => "domain",
            Self::Residency => "residency",
            Self::Trust => "trust",
            Self::Full => "full",
            Self::Overloaded => "overloaded",
        }
    }
}

/// Loads are compared with this tolerance: they come from divisions.
const EPSILON: f64 = 1e-9;

/// The first reason against a node.
pub(super) fn exclusion(t: &TargetFacts, w: &Wanted) -> Option<(ExclusionCode, String)> {
    standing(t, w).or_else(|| ability(t, w)).or_else(|| permission(t, w)).or_else(|| room(t, w))
}

/// Is it there at all?
fn standing(t: &TargetFacts, w: &Wanted) -> Option<(ExclusionCode, String)> {
    let name = &t.name;
    if w.primary == Some(t.node) {
        return Some((ExclusionCode::IsCurrent, format!("{name} serves it already")));
    }
    if w.not.contains(&t.node) {
        return Some((ExclusionCode::NotWanted, format!("{name} is excluded by the request")));
    }
    if !t.up {
        return Some((ExclusionCode::NotUp, format!("{name} is not up")));
    }
    if t.draining {
        return Some((ExclusionCode::Draining, format!("{name} is being emptied")));
    }
    if t.age_ms >= t.valid_ms {
        let text = format!("what is known about {name} is {} ms old and was valid for {} ms", t.age_ms, t.valid_ms);
        return Some((ExclusionCode::StaleData, text));
    }
    if !t.load.is_finite() {
        return Some((ExclusionCode::BadData, format!("{name} reports a load that is no number")));
    }
    None
}

/// Can it do what is needed?
fn ability(t: &TargetFacts, w: &Wanted) -> Option<(ExclusionCode, String)> {
    let name = &t.name;
    if let Some(role) = w.roles.difference(&t.roles).next() {
        return Some((ExclusionCode::NoRole, format!("{name} does not have the role {role}")));
    }
    if let Some(api) = w.apis.difference(&t.apis).next() {
        return Some((ExclusionCode::NoApi, format!("{name} does not offer the API {api}")));
    }
    for (what, min) in &w.capabilities_min {
        let has = t.capabilities.get(what).copied().unwrap_or(0.0);
        // Not a number satisfies nothing.
        if has.is_nan() || min.is_nan() || has < *min {
            return Some((ExclusionCode::NoCapability, format!("{name} has {what} {has}, {min} is needed")));
        }
    }
    None
}

/// May it?
fn permission(t: &TargetFacts, w: &Wanted) -> Option<(ExclusionCode, String)> {
    let name = &t.name;
    if !w.domains.is_empty() && !w.domains.contains(&t.domain) {
        return Some((ExclusionCode::Domain, format!("{name} belongs to the domain {}", t.domain)));
    }
    let site = Site { name, domain: &t.domain, region: &t.region, trust: &t.trust, is_home: w.home == Some(t.node) };
    if let Some(text) = w.residency.iter().find_map(|label| label.permits(site).err()) {
        return Some((ExclusionCode::Residency, text));
    }
    w.trust
        .difference(&t.trust)
        .next()
        .map(|word| (ExclusionCode::Trust, format!("{name} does not have the trust word {word}")))
}

/// Has it room?
fn room(t: &TargetFacts, w: &Wanted) -> Option<(ExclusionCode, String)> {
    let name = &t.name;
    // Who is at home there is counted already.
    let come = if w.home == Some(t.node) { 0 } else { w.aes };
    if t.aes.saturating_add(come) > t.aes_max {
        let text = format!("{name} has {} AEs, {come} would come, {} may be there", t.aes, t.aes_max);
        return Some((ExclusionCode::Full, text));
    }
    let (free, min) = (1.0 - t.load.clamp(0.0, 1.0), w.free_load_min);
    if min.is_nan() || free + EPSILON < min {
        let text = format!("{name} has {:.0} % of its capacity free, {:.0} % is needed", free * 100.0, min * 100.0);
        return Some((ExclusionCode::Overloaded, text));
    }
    None
}
