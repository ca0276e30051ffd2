//! Who votes and who learns: members come, are replaced and leave, one step at a time (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use onemec_core::directory::{Command, CommandOutcome};
use onemec_wire::NodeId;
use openraft::ChangeMembers;
use openraft::error::{ClientWriteError, RaftError};
use tokio::time::{Instant, timeout_at};

use super::error::{ChangeError, ProposeError};
use super::handle::{DirectoryHandle, Inner};
use super::message::{MemberChange, Request, Response};
use super::net::NetError;
use super::network::ask;
use super::types::{Peer, RaftId};

/// A learner may vote when it is behind by at most so many entries.
const LAG_ENTRIES_MAX: u64 = 100;
/// Pause between tries while the leader changes or a learner catches up.
const PAUSE: Duration = Duration::from_millis(20);
/// For taking in a node that asked.
const JOIN_MAX: Duration = Duration::from_secs(3);

/// This store knows a cluster: it must never be initialised again.
pub(crate) fn is_initialised(inner: &Inner) -> bool {
    // Not from Raft's metrics: they say "nothing" until Raft has started.
    inner.log.is_used() || inner.shared.applied.borrow().index > 0
}

/// Makes one change, from any node.
pub(crate) async fn change(inner: &Arc<Inner>, change: MemberChange, expires: Instant) -> Result<(), ChangeError> {
    loop {
        let left = expires.saturating_duration_since(Instant::now());
        let result = match inner.leader() {
            _ if inner.leads() => change_here(inner, change, expires).await,
            None => Err(ChangeError::Refused { leader: None, reason: "no leader is known".into() }),
            Some(leader) => match ask(&*inner.net, leader, &Request::Change(change), left).await {
                Ok(Response::Done) => Ok(()),
                Ok(Response::Refused { leader, reason }) => Err(ChangeError::Refused { leader, reason }),
                Ok(other) => Err(ChangeError::Unknown(format!("{leader} answered {other:?}"))),
                Err(NetError::NotDelivered { reason, .. }) => {
                    Err(ChangeError::Refused { leader: Some(leader), reason })
                }
                Err(NetError::Unknown { reason, .. }) => Err(ChangeError::Unknown(reason)),
            },
        };
        // Each change says what is to be, so that making it twice is harmless.
        if result.is_ok() || Instant::now() + PAUSE >= expires {
            return result;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Makes one change at the leader.
pub(crate) async fn change_here(inner: &Arc<Inner>, change: MemberChange, expires: Instant) -> Result<(), ChangeError> {
    let refused = |reason: String| ChangeError::Refused { leader: inner.leader(), reason };
    if !inner.leads() {
        return Err(refused("this node does not lead".into()));
    }
    let Ok(_one_at_a_time) = timeout_at(expires, inner.changing.lock()).await else {
        return Err(refused("another change takes too long".into()));
    };
    let members = inner.members();
    let voter = |id: RaftId| members.get(&id).map(|(_, voter)| *voter);
    let voters: BTreeSet<u64> = members.iter().filter(|(_, (_, v))| *v).map(|(id, _)| id.0).collect();
    let (steps, retain) = match change {
        MemberChange::AddLearner { raft, .. } if voter(raft).is_some() => return Ok(()),
        MemberChange::AddLearner { raft, node } => {
            let generation = members.values().next().map_or(inner.options.generation, |(p, _)| p.generation);
            (ChangeMembers::AddNodes(BTreeMap::from([(raft.0, Peer { node, generation })])), true)
        }
        MemberChange::AddVoter { raft } | MemberChange::ReplaceVoter { new: raft, .. } if voter(raft).is_none() => {
            return Err(refused(format!("{raft} is not a learner")));
        }
        MemberChange::AddVoter { raft } if voter(raft) == Some(true) => return Ok(()),
        MemberChange::AddVoter { raft } => {
            caught_up(inner, raft).map_err(refused)?;
            (ChangeMembers::AddVoterIds(BTreeSet::from([raft.0])), true)
        }
        MemberChange::ReplaceVoter { old, new } => {
            if voter(old) != Some(true) && voter(new) == Some(true) {
                return Ok(());
            }
            if voter(new) == Some(true) {
                return Err(refused(format!("{new} votes already: this would be one voter less")));
            }
            caught_up(inner, new).map_err(refused)?;
            let next = voters.iter().copied().filter(|v| *v != old.0).chain([new.0]).collect();
            // Rule 14: who is replaced does not stay, not even as a learner.
            (ChangeMembers::ReplaceAllVoters(next), false)
        }
        MemberChange::RemoveVoter { raft } if voter(raft) != Some(true) => return Ok(()),
        MemberChange::RemoveVoter { .. } if voters.len() == 1 => return Err(refused("the last voter stays".into())),
        MemberChange::RemoveVoter { raft } => (ChangeMembers::RemoveVoters(BTreeSet::from([raft.0])), true),
        MemberChange::RemoveLearner { raft } => match voter(raft) {
            None => return Ok(()),
            Some(true) => return Err(refused(format!("{raft} votes"))),
            Some(false) => (ChangeMembers::RemoveNodes(BTreeSet::from([raft.0])), true),
        },
    };
    match timeout_at(expires, inner.raft.change_membership(steps, retain)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e)))) => Err(refused(e.to_string())),
        Ok(Err(error)) => Err(ChangeError::Unknown(error.to_string())),
        Err(_) => Err(ChangeError::Unknown("not committed in time".into())),
    }
}

/// A voter that has no log yet would leave the others without a quorum when one of them dies.
fn caught_up(inner: &Inner, raft: RaftId) -> Result<(), String> {
    let metrics = inner.metrics.borrow();
    let last = metrics.last_log_index.unwrap_or(0);
    let matched = metrics.replication.as_ref().and_then(|r| r.get(&raft.0)).copied().flatten().map(|id| id.index);
    match matched {
        Some(index) if index + LAG_ENTRIES_MAX >= last => Ok(()),
        Some(index) => Err(format!("{raft} has {index} of {last} entries")),
        None => Err(format!("{raft} has nothing yet")),
    }
}

/// A node asks to be taken in with the store that it has now; one step per request, the node asks until all is well.
/// A former store of the same node is lost: the new one takes its place.
pub(crate) async fn join(inner: &Arc<Inner>, raft: RaftId, node: NodeId) -> Result<(), ChangeError> {
    let expires = Instant::now() + JOIN_MAX;
    let members = inner.members();
    if !members.contains_key(&raft) {
        return change_here(inner, MemberChange::AddLearner { raft, node }, expires).await;
    }
    let lost = members.iter().find(|(id, (peer, _))| peer.node == node && **id != raft);
    match lost {
        Some((old, (_, true))) => {
            change_here(inner, MemberChange::ReplaceVoter { old: *old, new: raft }, expires).await
        }
        Some((old, (_, false))) => change_here(inner, MemberChange::RemoveLearner { raft: *old }, expires).await,
        None => Ok(()),
    }
}

/// Takes a node out of the directory and out of Raft.
pub(crate) async fn remove_node(handle: &DirectoryHandle, node: NodeId, expires: Instant) -> Result<(), ChangeError> {
    let left = || expires.saturating_duration_since(Instant::now());
    match handle.propose_within(Command::NodeRemove { node }, left()).await {
        Ok(CommandOutcome::Refused(refusal)) => {
            return Err(ChangeError::Refused { leader: handle.leader(), reason: refusal.to_string() });
        }
        Ok(_) => {}
        Err(ProposeError::NotProposed(e)) => {
            return Err(ChangeError::Refused { leader: handle.leader(), reason: e.to_string() });
        }
        Err(ProposeError::Unknown(e)) => return Err(ChangeError::Unknown(e)),
    }
    for member in handle.members().into_iter().filter(|m| m.node == node) {
        if member.voter {
            handle.change_members(MemberChange::RemoveVoter { raft: member.raft }, left()).await?;
        }
        handle.change_members(MemberChange::RemoveLearner { raft: member.raft }, left()).await?;
    }
    Ok(())
}
