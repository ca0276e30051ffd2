//! What travels on the Raft service, and openraft's types in a form of our own: independent of openraft's releases.

use std::collections::{BTreeMap, BTreeSet};

use bincode::{Decode, Encode};
use onemec_core::directory::{Command, CommandOutcome};
use onemec_wire::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest, VoteResponse};
use openraft::{CommittedLeaderId, EntryPayload};

use super::types::{
    LogId, Logged, Membership, Peer, RaftEntry, RaftId, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WireLogId {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) index: u64,
}

impl From<LogId> for WireLogId {
    fn from(id: LogId) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}
impl From<WireLogId> for LogId {
    fn from(id: WireLogId) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.leader), id.index)
    }
}

/// A vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WireVote {
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) committed: bool,
}

impl From<Vote> for WireVote {
    fn from(v: Vote) -> Self {
        Self { term: v.leader_id.term, leader: v.leader_id.node_id, committed: v.committed }
    }
}
impl From<WireVote> for Vote {
    fn from(v: WireVote) -> Self {
        if v.committed { Self::new_committed(v.term, v.leader) } else { Self::new(v.term, v.leader) }
    }
}

/// A configuration of members.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct WireMembership {
    configurations: Vec<BTreeSet<u64>>,
    members: BTreeMap<u64, Peer>,
}

impl From<&Membership> for WireMembership {
    fn from(m: &Membership) -> Self {
        Self {
            configurations: m.get_joint_config().clone(),
            members: m.nodes().map(|(id, peer)| (*id, *peer)).collect(),
        }
    }
}
impl From<WireMembership> for Membership {
    fn from(m: WireMembership) -> Self {
        Self::new(m.configurations, m.members)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum WirePayload {
    Blank,
    Normal(Logged),
    Membership(WireMembership),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct WireEntry {
    pub(crate) id: WireLogId,
    pub(crate) payload: WirePayload,
}

impl From<&RaftEntry> for WireEntry {
    fn from(e: &RaftEntry) -> Self {
        let payload = match &e.payload {
            EntryPayload::Blank => WirePayload::Blank,
            EntryPayload::Normal(entry) => WirePayload::Normal(entry.clone()),
            EntryPayload::Membership(m) => WirePayload::Membership(m.into()),
        };
        Self { id: e.log_id.into(), payload }
    }
}
impl From<WireEntry> for RaftEntry {
    fn from(e: WireEntry) -> Self {
        let payload = match e.payload {
            WirePayload::Blank => EntryPayload::Blank,
            WirePayload::Normal(entry) => EntryPayload::Normal(entry),
            WirePayload::Membership(m) => EntryPayload::Membership(m.into()),
        };
        Self { log_id: e.id.into(), payload }
    }
}

/// What a snapshot contains up to where.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct WireSnapshotMeta {
    last: Option<WireLogId>,
    membership_at: Option<WireLogId>,
    membership: WireMembership,
    id: String,
}

impl From<&SnapshotMeta> for WireSnapshotMeta {
    fn from(m: &SnapshotMeta) -> Self {
        Self {
            last: m.last_log_id.map(Into::into),
            membership_at: m.last_membership.log_id().map(Into::into),
            membership: m.last_membership.membership().into(),
            id: m.snapshot_id.clone(),
        }
    }
}
impl From<WireSnapshotMeta> for SnapshotMeta {
    fn from(m: WireSnapshotMeta) -> Self {
        Self {
            last_log_id: m.last.map(Into::into),
            last_membership: StoredMembership::new(m.membership_at.map(Into::into), m.membership.into()),
            snapshot_id: m.id,
        }
    }
}

/// A request on the Raft service.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Request {
    /// Raft's own, for one store: whoever has another one refuses it (rule 14).
    Append {
        to: RaftId,
        vote: WireVote,
        previous: Option<WireLogId>,
        entries: Vec<WireEntry>,
        commit: Option<WireLogId>,
    },
    /// Raft's own.
    Vote { to: RaftId, vote: WireVote, last: Option<WireLogId> },
    /// A piece of a snapshot; the last one installs it.
    Snapshot { to: RaftId, vote: WireVote, meta: WireSnapshotMeta, offset: u64, total: u64, piece: Vec<u8> },
    /// Commands for the leader. Never forwarded again.
    Propose { commands: Vec<Command>, deadline_ms: u32 },
    /// Where a reader must have applied to, for a read that is not stale.
    ReadIndex,
    /// Who are you, and do you belong to a cluster already?
    Hello { from: RaftId },
    /// Take me in as a learner.
    Join { from: RaftId },
    /// A change of the membership, for the leader.
    Change(MemberChange),
    /// Would you vote for this store, whose log ends there? Changes nothing.
    WouldVote { to: RaftId, last: Option<WireLogId> },
}

/// One change of Raft's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum MemberChange {
    /// A store becomes a learner: it gets the log and counts for nothing.
    AddLearner {
        /// The store.
        raft: RaftId,
        /// Its node.
        node: NodeId,
    },
    /// A learner becomes a voter.
    AddVoter {
        /// The store.
        raft: RaftId,
    },
    /// A voter leaves; its place is taken by a learner in the same step.
    ReplaceVoter {
        /// Who leaves.
        old: RaftId,
        /// Who comes.
        new: RaftId,
    },
    /// A voter becomes a learner.
    RemoveVoter {
        /// The store.
        raft: RaftId,
    },
    /// A learner leaves for good.
    RemoveLearner {
        /// The store.
        raft: RaftId,
    },
}

/// An answer on the Raft service.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Response {
    /// To `Append`.
    Append(WireAppended),
    /// To `Vote`.
    Vote { vote: WireVote, granted: bool, last: Option<WireLogId> },
    /// To each piece of a snapshot but the last: the length received so far.
    SnapshotPiece(u64),
    /// To the last one: the receiver's vote.
    SnapshotDone(WireVote),
    /// To `Propose`: in order.
    Proposed { index: u64, outcomes: Vec<CommandOutcome> },
    /// To `Propose`: the commands may be, or become, applied.
    ProposedUnknown(String),
    /// To `ReadIndex`.
    ReadIndex(u64),
    /// To `Hello`.
    Hello { raft: RaftId, initialised: bool },
    /// Done: to `Join` and `Change`.
    Done,
    /// Not done, nothing was changed. Perhaps somebody else leads.
    Refused { leader: Option<NodeId>, reason: String },
    /// The request is for a store that this node does not have (any more).
    OtherStore,
    /// To `WouldVote`.
    WouldVote(bool),
    /// To `Join`: the node was taken out for good.
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) enum WireAppended {
    Success,
    Partial(Option<WireLogId>),
    Conflict,
    HigherVote(WireVote),
}

impl From<AppendEntriesResponse<u64>> for WireAppended {
    fn from(r: AppendEntriesResponse<u64>) -> Self {
        match r {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::Partial(id.map(Into::into)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(v) => Self::HigherVote(v.into()),
        }
    }
}
impl From<WireAppended> for AppendEntriesResponse<u64> {
    fn from(r: WireAppended) -> Self {
        match r {
            WireAppended::Success => Self::Success,
            WireAppended::Partial(id) => Self::PartialSuccess(id.map(Into::into)),
            WireAppended::Conflict => Self::Conflict,
            WireAppended::HigherVote(v) => Self::HigherVote(v.into()),
        }
    }
}

impl Request {
    pub(crate) fn append(to: RaftId, rpc: &AppendEntriesRequest<TypeConfig>) -> Self {
        Self::Append {
            to,
            vote: rpc.vote.into(),
            previous: rpc.prev_log_id.map(Into::into),
            entries: rpc.entries.iter().map(Into::into).collect(),
            commit: rpc.leader_commit.map(Into::into),
        }
    }

    pub(crate) fn vote(to: RaftId, rpc: &VoteRequest<u64>) -> Self {
        Self::Vote { to, vote: rpc.vote.into(), last: rpc.last_log_id.map(Into::into) }
    }
}

impl From<VoteResponse<u64>> for Response {
    fn from(r: VoteResponse<u64>) -> Self {
        Self::Vote { vote: r.vote.into(), granted: r.vote_granted, last: r.last_log_id.map(Into::into) }
    }
}
