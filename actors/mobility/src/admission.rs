//! Whether a group may come to this node: accept, defer, refuse (COVERAGE.md row H09; DESIGN.md section 5, prepare).
//!
//! [`decide`] is the decision on given facts. [`Ledger`] counts what was admitted and has not arrived yet, since many ask
//! at once. The runtime asks through its trait `Admission` and takes [`Decision::into_result`].

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::context::ContextKind;
use onemec_wire::ContextId;

use crate::residency::{Residency, Site};
use crate::strategy::MoveReason;

/// Limits of this node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdmissionLimits {
    /// AEs at home here.
    pub aes_max: u64,
    /// Moves towards this node at once.
    pub moves_max: u32,
    /// With more load nothing comes that nobody waits for ([`MoveReason::is_pressing`]); 0 to 1.
    pub load_max: f64,
    /// With more load nothing comes; 0 to 1. A load is at most 1: with 1 nobody who waits is turned away for it.
    pub load_pressing_max: f64,
    /// Largest history of a group, in bytes.
    pub history_bytes_max: u64,
    /// What a deferral suggests.
    pub retry_ms: u64,
    /// An admitted group that has not arrived after this time is no longer counted.
    pub hold_ms: u64,
}

impl Default for AdmissionLimits {
    fn default() -> Self {
        Self {
            aes_max: 100_000,
            moves_max: 32,
            load_max: 0.85,
            load_pressing_max: 1.0,
            history_bytes_max: u64::MAX,
            retry_ms: 200,
            hold_ms: 30_000,
        }
    }
}

/// This node as it is now.
#[derive(Debug, Clone)]
pub struct HostState<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its domain.
    pub domain: &'a str,
    /// The region that it stands in.
    pub region: &'a str,
    /// Its trust words.
    pub trust: &'a BTreeSet<String>,
    /// It serves (has its lease and has started).
    pub ready: bool,
    /// It is being emptied.
    pub draining: bool,
    /// AEs at home here.
    pub aes: u64,
    /// Moves towards this node that are under way.
    pub moves: u32,
    /// Load, 0 to 1.
    pub load: f64,
    /// Bytes that it may still store.
    pub free_bytes: u64,
}

/// The group that asks.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// Its contexts.
    pub contexts: &'a [(ContextId, ContextKind)],
    /// Bytes of its history; 0 if unknown.
    pub history_bytes: u64,
    /// Why it comes.
    pub reason: MoveReason,
    /// Labels of its contexts.
    pub residency: &'a [Residency],
    /// Trust words that it needs.
    pub trust: &'a BTreeSet<String>,
    /// This node is its home: a CSEBase that comes back.
    pub is_home: bool,
    /// A name of it that is taken here, with its holder, in words.
    pub name_taken: Option<&'a str>,
    /// Why its devices could not prove here who they are, or would lose the protection that they have, in words.
    pub credentials: Option<&'a str>,
}

impl Incoming<'_> {
    fn key(&self) -> Option<ContextId> {
        self.contexts.iter().map(|(context, _)| *context).min()
    }

    fn aes(&self) -> u64 {
        self.contexts.iter().filter(|(_, kind)| *kind == ContextKind::AE).count() as u64
    }
}

/// Why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdmissionCode {
    /// Deferred: the node has not started or has no lease.
    NotReady,
    /// Deferred: enough moves are under way.
    TooManyMoves,
    /// Deferred: too much load.
    Overloaded,
    /// Refused: it is being emptied.
    Draining,
    /// Refused: no more AEs fit.
    Full,
    /// Refused: its disk has no room.
    NoSpace,
    /// Refused: the group's history is larger than this node takes.
    TooLarge,
    /// Refused: the data must not come here.
    Residency,
    /// Refused: it lacks a trust word.
    Trust,
    /// Refused: its devices could not prove here who they are.
    Credentials,
    /// Refused: a name of it is taken here.
    NameTaken,
    /// Refused: a context of the group belongs to its CSEBase.
    Pinned,
    /// Refused: nothing to move.
    NoContext,
}

impl AdmissionCode {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::NotReady,
        Self::TooManyMoves,
        Self::Overloaded,
        Self::Draining,
        Self::Full,
        Self::NoSpace,
        Self::TooLarge,
        Self::Residency,
        Self::Trust,
        Self::Credentials,
        Self::NameTaken,
        Self::Pinned,
        Self::NoContext,
    ];

    /// A short word for machines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotReady => "not-ready",
            Self::TooManyMoves => "too-many-moves",
            Self::Overloaded => "overloaded",
            Self::Draining => "draining",
            Self::Full => "full",
            Self::NoSpace => "no-space",
            Self::TooLarge => "too-large",
            Self::Residency => "residency",
            Self::Trust => "trust",
            Self::Credentials => "credentials",
            Self::NameTaken => "name-taken",
            Self::Pinned => "pinned",
            Self::NoContext => "no-context",
        }
    }

    /// It passes by itself: the same target may be asked again.
    pub const fn passes(self) -> bool {
        matches!(self, Self::NotReady | Self::TooManyMoves | Self::Overloaded)
    }
}

/// What this node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Come.
    Accept,
    /// Not now.
    Defer {
        /// Why.
        code: AdmissionCode,
        /// In words.
        text: String,
        /// When asking again makes sense.
        retry_ms: u64,
    },
    /// No.
    Refuse {
        /// Why.
        code: AdmissionCode,
        /// In words.
        text: String,
    },
}

impl Decision {
    /// As the runtime's `Admission` answers: code and sentence. Callers tell deferrals by the code
    /// ([`AdmissionCode::passes`], [`crate::attempts::Failure::from_code`]).
    pub fn into_result(self) -> Result<(), (String, String)> {
        match self {
            Self::Accept => Ok(()),
            Self::Defer { code, text, retry_ms } => {
                Err((code.as_str().to_owned(), format!("{text}; try again in {retry_ms} ms")))
            }
            Self::Refuse { code, text } => Err((code.as_str().to_owned(), text)),
        }
    }
}

/// Decides. What lasts is told before what passes, so that nobody waits for nothing.
pub fn decide(limits: &AdmissionLimits, host: &HostState<'_>, group: &Incoming<'_>) -> Decision {
    let name = host.name;
    if let Some((code, text)) = lasting(limits, host, group) {
        return Decision::Refuse { code, text };
    }
    // What belongs here serves this node's own resources, however busy it is: anywhere else it costs more.
    let pressing = group.reason.is_pressing() || group.is_home;
    let load_max = if pressing { limits.load_pressing_max } else { limits.load_max };
    let defer = |code, text| Decision::Defer { code, text, retry_ms: limits.retry_ms };
    if !host.ready {
        return defer(AdmissionCode::NotReady, format!("{name} does not serve yet"));
    }
    if host.moves >= limits.moves_max {
        return defer(AdmissionCode::TooManyMoves, format!("{} moves to {name} are under way", host.moves));
    }
    // A load that is no number is not within the limit.
    if host.load.is_nan() || host.load > load_max {
        return defer(AdmissionCode::Overloaded, format!("{name} has a load of {:.2}", host.load));
    }
    Decision::Accept
}

fn lasting(limits: &AdmissionLimits, host: &HostState<'_>, group: &Incoming<'_>) -> Option<(AdmissionCode, String)> {
    let name = host.name;
    if group.contexts.is_empty() {
        return Some((AdmissionCode::NoContext, "the group has no context".into()));
    }
    if let Some((context, _)) = group.contexts.iter().find(|(_, kind)| *kind == ContextKind::CSE_BASE) {
        // It serves only this node's own resources: not even a drain keeps it away from home.
        let away = || (AdmissionCode::Pinned, format!("context {context} belongs to its CSEBase"));
        return (!group.is_home).then(away);
    }
    if host.draining {
        return Some((AdmissionCode::Draining, format!("{name} is being emptied")));
    }
    let site = Site { name, domain: host.domain, region: host.region, trust: host.trust, is_home: group.is_home };
    if let Some(text) = group.residency.iter().find_map(|label| label.permits(site).err()) {
        return Some((AdmissionCode::Residency, text));
    }
    if let Some(word) = group.trust.difference(host.trust).next() {
        return Some((AdmissionCode::Trust, format!("{name} does not have the trust word {word}")));
    }
    if let Some(text) = group.credentials {
        return Some((AdmissionCode::Credentials, text.to_owned()));
    }
    if let Some(text) = group.name_taken {
        return Some((AdmissionCode::NameTaken, text.to_owned()));
    }
    if group.history_bytes > limits.history_bytes_max {
        let text = format!("{} bytes of history, {name} takes {}", group.history_bytes, limits.history_bytes_max);
        return Some((AdmissionCode::TooLarge, text));
    }
    if group.history_bytes > host.free_bytes {
        let text = format!("{} bytes of history, {name} has room for {}", group.history_bytes, host.free_bytes);
        return Some((AdmissionCode::NoSpace, text));
    }
    if host.aes.saturating_add(group.aes()) > limits.aes_max {
        let text = format!("{name} has {} AEs, {} would come, {} may be there", host.aes, group.aes(), limits.aes_max);
        return Some((AdmissionCode::Full, text));
    }
    None
}

#[derive(Debug, Clone, Copy)]
struct Held {
    until_ms: u64,
    aes: u64,
    bytes: u64,
}

/// Groups that were admitted and are on their way. At most `moves_max` entries.
///
/// A group is known by its first context. Asking again for the same group replaces its entry. [`Self::settled`] when it
/// has arrived or the move has failed; without that an entry ends after `hold_ms`.
#[derive(Debug, Default)]
pub struct Ledger {
    held: BTreeMap<ContextId, Held>,
}

impl Ledger {
    /// Decides with everything counted that is on its way; remembers the group if it may come. `host.moves` are moves
    /// that this ledger does not know of.
    pub fn admit(
        &mut self,
        now_ms: u64,
        limits: &AdmissionLimits,
        host: &HostState<'_>,
        group: &Incoming<'_>,
    ) -> Decision {
        let decision = self.ask(now_ms, limits, host, group);
        if let (Decision::Accept, Some(key)) = (&decision, group.key()) {
            let until_ms = now_ms.saturating_add(limits.hold_ms);
            self.held.insert(key, Held { until_ms, aes: group.aes(), bytes: group.history_bytes });
        }
        decision
    }

    /// Decides like [`Self::admit`] and keeps no room: somebody only wants to know.
    pub fn ask(
        &mut self,
        now_ms: u64,
        limits: &AdmissionLimits,
        host: &HostState<'_>,
        group: &Incoming<'_>,
    ) -> Decision {
        let key = group.key();
        self.held.retain(|_, held| held.until_ms > now_ms);
        let mut host = host.clone();
        let others = self.held.iter().filter(|(context, _)| Some(**context) != key);
        for (_, held) in others {
            host.moves = host.moves.saturating_add(1);
            host.aes = host.aes.saturating_add(held.aes);
            host.free_bytes = host.free_bytes.saturating_sub(held.bytes);
        }
        decide(limits, &host, group)
    }

    /// The group of these contexts has arrived (its AEs are counted at home now) or will not come.
    pub fn settled(&mut self, contexts: impl IntoIterator<Item = ContextId>) {
        for context in contexts {
            self.held.remove(&context);
        }
    }

    /// Groups on their way.
    pub fn len(&self) -> usize {
        self.held.len()
    }
    /// None is.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests;
