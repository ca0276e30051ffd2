//! One move request with a reason, whoever asks for it (DESIGN.md section 5; TR-0077 7.2).

use std::fmt;
use std::str::FromStr;

use onemec_core::directory::Attachment;
use onemec_wire::{ContextId, GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// Contexts in one bundle.
pub const BUNDLE_MAX: usize = 256;

/// Who wants the move, and why (COVERAGE.md rows H01 to H05, S01 to S06).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MoveReason {
    /// An operator ordered it.
    #[default]
    Operator,
    /// The device came to the target or asked for it (H04, S04).
    Device,
    /// The network: mobility, signal, policy, or the serving CSE itself (H05, S06).
    Network,
    /// Its host is being emptied (H02).
    Drain,
    /// Its former host is back.
    Failback,
    /// Its label forbids its host (G15).
    Residency,
    /// Its host carries too much (S03).
    LoadBalance,
    /// Its host died (H03). Never an order: the directory promotes a replica; the reason serves records and figures.
    Failover,
}

impl MoveReason {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Operator,
        Self::Device,
        Self::Network,
        Self::Drain,
        Self::Failback,
        Self::Residency,
        Self::LoadBalance,
        Self::Failover,
    ];
    /// What somebody outside may give as the reason of an order; the others are the cluster's own findings.
    pub const OF_ORDERS: [Self; 3] = [Self::Operator, Self::Network, Self::LoadBalance];

    /// As in JSON, in metrics, and as the runtime's `reason`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Device => "device",
            Self::Network => "network",
            Self::Drain => "drain",
            Self::Failback => "failback",
            Self::Residency => "residency",
            Self::LoadBalance => "load_balance",
            Self::Failover => "failover",
        }
    }

    /// Somebody waits for it; it may use capacity that the cluster's own tidying may not.
    pub const fn is_pressing(self) -> bool {
        !matches!(self, Self::Failback | Self::LoadBalance)
    }
}

impl fmt::Display for MoveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reason for a move")]
pub struct NoReason;

impl FromStr for MoveReason {
    type Err = NoReason;
    fn from_str(text: &str) -> Result<Self, NoReason> {
        Self::ALL.into_iter().find(|r| r.as_str() == text).ok_or(NoReason)
    }
}

/// What is to move: always a whole group in the end (I6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A group.
    Group(GroupId),
    /// The group of this context.
    Context(ContextId),
}

/// A move that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveRequest {
    /// What.
    pub subject: Subject,
    /// Where to; `None`: the best candidate, then the alternates.
    pub target: Option<NodeId>,
    /// Why.
    pub reason: MoveReason,
    /// Contexts that must go along, or nothing goes (G13). The rest of their group goes in any case.
    pub bundle: Vec<ContextId>,
    /// The permission under which a device comes; it is used up by the move.
    pub attachment: Option<Attachment>,
}

impl MoveRequest {
    fn new(subject: Subject, target: Option<NodeId>, reason: MoveReason) -> Self {
        Self { subject, target, reason, bundle: Vec::new(), attachment: None }
    }
    /// `onemec handover AE [--to NODE]`.
    pub fn operator(context: ContextId, target: Option<NodeId>) -> Self {
        Self::new(Subject::Context(context), target, MoveReason::Operator)
    }
    /// A device re-registers at `target`.
    pub fn device(attachment: Attachment, target: NodeId) -> Self {
        let request = Self::new(Subject::Context(attachment.context), Some(target), MoveReason::Device);
        Self { attachment: Some(attachment), ..request }
    }
    /// The network side decided; the device only follows.
    pub fn network(context: ContextId, target: Option<NodeId>) -> Self {
        Self::new(Subject::Context(context), target, MoveReason::Network)
    }
    /// The group's host is being emptied.
    pub fn drain(group: GroupId, target: Option<NodeId>) -> Self {
        Self::new(Subject::Group(group), target, MoveReason::Drain)
    }
    /// The group's former host is back.
    pub fn failback(group: GroupId, target: NodeId) -> Self {
        Self::new(Subject::Group(group), Some(target), MoveReason::Failback)
    }
    /// The group's label forbids its host.
    pub fn residency(group: GroupId) -> Self {
        Self::new(Subject::Group(group), None, MoveReason::Residency)
    }
    /// The group's host carries too much.
    pub fn load_balance(group: GroupId, target: NodeId) -> Self {
        Self::new(Subject::Group(group), Some(target), MoveReason::LoadBalance)
    }
    /// With contexts that must go along.
    #[must_use]
    pub fn with_bundle(mut self, bundle: Vec<ContextId>) -> Self {
        self.bundle = bundle;
        self
    }

    /// The one group that is to move.
    pub fn group(&self, group_of: impl Fn(ContextId) -> Option<GroupId>) -> Result<GroupId, BundleError> {
        if self.bundle.len() > BUNDLE_MAX {
            return Err(BundleError::TooLarge);
        }
        let of = |context| group_of(context).ok_or(BundleError::Unknown(context));
        let group = match self.subject {
            Subject::Group(group) => group,
            Subject::Context(context) => of(context)?,
        };
        for &context in &self.bundle {
            let theirs = of(context)?;
            if theirs != group {
                return Err(BundleError::Split { context, theirs, group });
            }
        }
        Ok(group)
    }
}

/// Why a request names no single group. Nothing was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Too many contexts.
    #[error("a bundle has at most {BUNDLE_MAX} contexts")]
    TooLarge,
    /// There is no such context.
    #[error("no such context: {0}")]
    Unknown(ContextId),
    /// A context is in another group: regroup first, since groups move one at a time.
    #[error("context {context} is in group {theirs}, not in {group}: they cannot move together")]
    Split {
        /// Which.
        context: ContextId,
        /// Where it is.
        theirs: GroupId,
        /// The group that is to move.
        group: GroupId,
    },
}

impl BundleError {
    /// A short word for machines.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge => "bundle-too-large",
            Self::Unknown(_) => "no-context",
            Self::Split { .. } => "bundle-split",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_have_one_name() {
        for reason in MoveReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        assert_eq!("whim".parse::<MoveReason>(), Err(NoReason));
    }

    #[test]
    fn a_bundle_is_one_group_or_nothing() {
        let group_of = |c: ContextId| (c.index() < 10).then(|| GroupId::made(1, c.index() / 2, 0));
        let c = |n| ContextId::made(1, n, 0);
        let ask = |first, bundle: &[u64]| {
            let bundle = bundle.iter().map(|n| c(*n)).collect();
            MoveRequest::operator(c(first), None).with_bundle(bundle).group(group_of)
        };
        assert_eq!(ask(2, &[]), Ok(GroupId::made(1, 1, 0)));
        assert_eq!(ask(2, &[2, 3]), Ok(GroupId::made(1, 1, 0)));
        assert_eq!(ask(2, &[3, 4]).unwrap_err().code(), "bundle-split");
        assert_eq!(ask(2, &[99]).unwrap_err().code(), "no-context");
        assert_eq!(ask(99, &[]).unwrap_err().code(), "no-context");
        let many = vec![2; BUNDLE_MAX + 1];
        assert_eq!(ask(2, &many).unwrap_err().code(), "bundle-too-large");
    }
}
