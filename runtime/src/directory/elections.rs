//! Runs [`onemec_core::election`] around openraft, whose own timer for elections is off: it knows no round before the vote,
//! and a voter that is cut off in one direction would raise the term without end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onemec_core::election::{ElectionOutput, Electorate, LogEnd};
use onemec_core::lease::{Term, VoterId};
use tokio::task::JoinSet;

use super::handle::Inner;
use super::message::{Request, Response, WireLogId};
use super::network::ask;
use super::types::{LogId, RaftId};
use crate::lease::boottime;

/// How often the machine is asked.
const TICK: Duration = Duration::from_millis(10);
/// For one question: shorter than the pause between two rounds.
const ASK_MAX: Duration = Duration::from_millis(140);

/// Runs as long as the directory does.
pub(crate) async fn run(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut asked: JoinSet<(VoterId, u64, bool)> = JoinSet::new();
    loop {
        let mut out = Vec::new();
        tokio::select! {
            _ = ticks.tick() => {
                let electorate = electorate(&inner);
                inner.candidacy.lock().tick(boottime(), electorate.as_ref(), &mut out);
            }
            Some(answer) = asked.join_next() => {
                if let Ok((voter, round, yes)) = answer {
                    inner.candidacy.lock().answered(voter, round, yes, &mut out);
                }
            }
        }
        for output in out {
            match output {
                ElectionOutput::Ask(voter, round) => would_you_vote(&inner, &mut asked, voter, round),
                ElectionOutput::Stand => {
                    tracing::info!(me = %inner.me, "stands for election");
                    if let Err(error) = inner.raft.trigger().elect().await {
                        tracing::debug!(%error, "Raft has stopped");
                    }
                }
            }
        }
    }
}

/// Who elects, if this node votes and does not lead.
fn electorate(inner: &Inner) -> Option<Electorate> {
    if inner.leads() {
        return None;
    }
    let server = inner.server.borrow();
    let configurations: Vec<_> = server.membership_config.membership().get_joint_config().clone();
    let me = inner.raft_id.0;
    configurations.iter().any(|c| c.contains(&me)).then(|| Electorate {
        me: VoterId(me),
        configurations: configurations.into_iter().map(|c| c.into_iter().map(VoterId).collect()).collect(),
    })
}

fn would_you_vote(inner: &Arc<Inner>, asked: &mut JoinSet<(VoterId, u64, bool)>, voter: VoterId, round: u64) {
    let Some((peer, _)) = inner.members().get(&RaftId(voter.0)).copied() else { return };
    let request = Request::WouldVote { to: RaftId(voter.0), last: inner.log.end().map(Into::into) };
    let net = inner.net.clone();
    asked.spawn(async move {
        let answer = ask(&*net, peer.node, &request, ASK_MAX).await;
        (voter, round, matches!(answer, Ok(Response::WouldVote(true))))
    });
}

/// This voter's answer to another one.
pub(crate) fn would_vote(inner: &Inner, theirs: Option<WireLogId>) -> bool {
    let leads = inner.leads() && !inner.out_of_touch.load(Ordering::Acquire);
    let (mine, theirs) = (log_end(inner.log.end()), log_end(theirs.map(Into::into)));
    inner.candidacy.lock().would_vote(boottime(), leads, mine, theirs)
}

fn log_end(id: Option<LogId>) -> LogEnd {
    id.map(|id| LogEnd { term: Term { term: id.leader_id.term, leader: id.leader_id.node_id }, index: id.index })
        .unwrap_or_default()
}
