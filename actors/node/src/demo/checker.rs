//! The history checker: pure. It takes what the clients saw, what was read back, and what each node logged, and says
//! which of the invariants I1 to I6 (DESIGN.md section 1) were broken, with examples.
//!
//! Every invariant has a test that plants its violation: a check that cannot fail is a bug.

mod logs;
mod writes;

use std::collections::BTreeMap;
use std::fmt;

use onemec_device::Event;
use serde::{Deserialize, Serialize};

use crate::admin::types::{AuditLine, Directory};

/// So many examples are kept per invariant; all are counted.
const EXAMPLES_MAX: usize = 10;

/// The invariants that are checked here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Invariant {
    /// One primary.
    I1OnePrimary,
    /// No loss of what was acknowledged.
    I2NoLoss,
    /// Applied at most once.
    I3Once,
    /// One order.
    I4Order,
    /// One registrar.
    I5OneRegistrar,
    /// All or none of a group.
    I6AllOrNone,
    /// The evidence itself is missing or damaged: nothing was shown.
    Evidence,
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I1OnePrimary => "I1 one-primary",
            Self::I2NoLoss => "I2 no-loss",
            Self::I3Once => "I3 once",
            Self::I4Order => "I4 order",
            Self::I5OneRegistrar => "I5 one-registrar",
            Self::I6AllOrNone => "I6 all-or-none",
            Self::Evidence => "evidence",
        })
    }
}

/// What one device did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// The device.
    pub device: String,
    /// Its writes in the order in which it made them.
    pub events: Vec<Event>,
    /// Its readings as they were read back, in the container's order.
    pub read_back: Vec<ReadBack>,
}

/// One reading as it was read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBack {
    /// The number that its content says.
    pub number: u64,
    /// [`onemec_device::sink::digest`] of the whole content.
    pub digest: u64,
}

/// Everything that is known about a run.
#[derive(Debug, Clone, Default)]
pub struct Evidence {
    /// The devices.
    pub histories: Vec<History>,
    /// All nodes' audit logs.
    pub logs: Vec<AuditLine>,
    /// Names of the nodes whose logs must be there.
    pub nodes: Vec<String>,
    /// Lines that could not be read; a killed node may leave one torn line per boot.
    pub torn_lines: u64,
    /// How many torn lines the kills of the run explain.
    pub torn_lines_allowed: u64,
    /// Consistent views of the directory, in time order.
    pub views: Vec<Directory>,
    /// At the end: which node says that it is the registrar of which AEs.
    pub registrars: BTreeMap<String, Vec<String>>,
    /// AE-IDs that must move together.
    pub bundles: Vec<Vec<String>>,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Writes whose outcome the client does not know; they may be there or not.
    pub unknown: u64,
    /// Writes that were refused.
    pub refused: u64,
    /// Acknowledged and not read back.
    pub lost: u64,
    /// Read back more than once.
    pub doubled: u64,
    /// Read back before something that was acknowledged before it was even sent.
    pub out_of_order: u64,
    /// Read back, though refused or never written.
    pub phantom: u64,
    /// Read back with another content than the device wrote under this number.
    pub altered: u64,
    /// Bundles that the directory must not split.
    pub bundles: u64,
    /// How often a group of several contexts changed its primary, and it was checked that all of them followed.
    pub bundle_moves: u64,
    /// Audit lines that were checked.
    pub log_lines: u64,
    /// Broken invariants: how often, with examples.
    pub violations: BTreeMap<Invariant, Violations>,
}

/// How an invariant was broken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// How often.
    pub count: u64,
    /// Some of them in words.
    pub examples: Vec<String>,
}

impl Verdict {
    /// Nothing was broken.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Number of violations.
    pub fn violations(&self) -> u64 {
        self.violations.values().map(|v| v.count).sum()
    }

    fn broken(&mut self, invariant: Invariant, example: impl FnOnce() -> String) {
        let v = self.violations.entry(invariant).or_default();
        v.count += 1;
        if v.examples.len() < EXAMPLES_MAX {
            v.examples.push(example());
        }
    }
}

/// Checks a run.
pub fn check(evidence: &Evidence) -> Verdict {
    let mut verdict = Verdict::default();
    for history in &evidence.histories {
        writes::check(history, &mut verdict);
    }
    logs::check(evidence, &mut verdict);
    verdict
}

#[cfg(test)]
mod tests;
