//! How a node gets into the cluster: the first voters make it together, everybody else asks to be taken in.
//!
//! Making a cluster is safe whatever order nodes start in and however often: it happens once, by the lowest of the first
//! voters alone, and only after *all* of them have answered that their stores are empty. A voter whose store was lost
//! later finds that others know a cluster, and comes back as a learner (rule 14).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onemec_wire::NodeId;

use super::handle::Inner;
use super::members::is_initialised;
use super::message::{Request, Response};
use super::network::ask;
use super::types::{Peer, RaftId};
use crate::lease::boottime;

/// Between tries while this node is not in.
const TRY_EVERY: Duration = Duration::from_millis(100);
/// Between looks when all is well.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// For one question.
const ASK_MAX: Duration = Duration::from_secs(3);

/// Runs as long as the directory does.
pub(crate) async fn run(inner: Arc<Inner>) {
    loop {
        if is_well(&inner) {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        if !is_initialised(&inner) && inner.options.first_voters.first() == Some(&inner.me) {
            match make(&inner).await {
                Answer::Made => {}
                Answer::Wait => {}
                Answer::Exists => ask_to_join(&inner).await,
            }
        } else {
            ask_to_join(&inner).await;
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

/// A leader is heard, this store is a member, and no other store of this node is.
fn is_well(inner: &Inner) -> bool {
    let members = inner.members();
    let of_mine: Vec<&RaftId> = members.iter().filter(|(_, (p, _))| p.node == inner.me).map(|(id, _)| id).collect();
    let led = inner.leads() || inner.candidacy.lock().hears_a_leader(boottime());
    of_mine == [&inner.raft_id] && led
}

enum Answer {
    /// The cluster was made here, just now or before.
    Made,
    /// Somebody knows a cluster already.
    Exists,
    /// Not everybody has answered.
    Wait,
}

async fn make(inner: &Inner) -> Answer {
    let mut members = BTreeMap::from([(inner.raft_id.0, inner.me)]);
    let others = inner.options.first_voters.iter().filter(|v| **v != inner.me);
    let mut asked = tokio::task::JoinSet::new();
    for voter in others.copied() {
        let (net, from) = (inner.net.clone(), inner.raft_id);
        asked.spawn(async move { (voter, ask(&*net, voter, &Request::Hello { from }, ASK_MAX).await) });
    }
    let mut complete = true;
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok((_, Ok(Response::Hello { initialised: true, .. }))) => return Answer::Exists,
            Ok((voter, Ok(Response::Hello { raft, .. }))) => drop(members.insert(raft.0, voter)),
            _ => complete = false,
        }
    }
    if !complete || members.len() != inner.options.first_voters.len() {
        return Answer::Wait;
    }
    let generation = inner.options.generation;
    let members: BTreeMap<u64, Peer> =
        members.into_iter().map(|(raft, node)| (raft, Peer { node, generation })).collect();
    match inner.raft.initialize(members).await {
        Ok(()) => tracing::info!(me = %inner.me, generation, "a new cluster"),
        // Somebody was quicker: the log is no longer empty.
        Err(error) => tracing::debug!(%error, "initialise"),
    }
    Answer::Made
}

/// Asks everybody who might know the cluster, until one takes this node in.
async fn ask_to_join(inner: &Inner) {
    let mut whom: BTreeSet<NodeId> = inner.options.first_voters.union(&inner.options.seeds).copied().collect();
    whom.extend(inner.members().values().map(|(peer, _)| peer.node));
    whom.remove(&inner.me);
    let request = Request::Join { from: inner.raft_id };
    let mut queue: Vec<NodeId> = whom.into_iter().collect();
    let mut asked = BTreeSet::new();
    while let Some(node) = queue.pop() {
        if node == inner.me || !asked.insert(node) {
            continue;
        }
        match ask(&*inner.net, node, &request, ASK_MAX).await {
            Ok(Response::Done) => return,
            Ok(Response::Removed) => {
                tracing::error!(%node, "says that this node was removed for good");
                inner.removed.store(true, Ordering::Relaxed);
            }
            Ok(Response::Refused { leader, reason }) => {
                tracing::debug!(%node, %reason, "not taken in");
                queue.extend(leader);
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(%error, "not taken in"),
        }
    }
}
