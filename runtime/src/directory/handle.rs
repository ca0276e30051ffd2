//! The handle: look-ups, proposals, reads, changes and members, from any node. Cheap to clone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use onemec_core::directory::{Command, CommandOutcome, Directory};
use onemec_core::election::Candidacy;
use onemec_core::lease::{LeaderView, Term};
use onemec_wire::NodeId;
use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::Instant;

use super::changes::ChangeFeed;
use super::error::{ChangeError, ProposeError, ReadError};
use super::log::{LogStore, SharedVoteCell};
use super::machine::{Applied, Shared};
use super::message::MemberChange;
use super::net::Net;
use super::options::DirectoryOptions;
use super::propose::Proposal;
use super::read::ReadRequest;
use super::types::{Metrics, OnlyIn, Peer, Raft, RaftId};
use super::{members, propose, read, view};
use crate::meter::{Counted, Histogram};

pub(crate) type ServerMetrics = openraft::metrics::RaftServerMetrics<u64, Peer>;

/// What the parts of the directory share.
pub(crate) struct Inner {
    pub(crate) me: NodeId,
    pub(crate) raft_id: RaftId,
    pub(crate) net: Arc<dyn Net>,
    pub(crate) raft: Raft,
    pub(crate) metrics: watch::Receiver<Metrics>,
    pub(crate) server: watch::Receiver<ServerMetrics>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) options: DirectoryOptions,
    pub(crate) proposals: mpsc::Sender<Proposal>,
    pub(crate) reads: mpsc::Sender<ReadRequest>,
    pub(crate) log: LogStore,
    /// When this voter stands for election.
    pub(crate) candidacy: parking_lot::Mutex<Candidacy>,
    /// This node leads and has lost touch with the voters: it says nothing, so that they choose another one.
    pub(crate) out_of_touch: Arc<AtomicBool>,
    /// Rule 14: one change of membership at a time.
    pub(crate) changing: Mutex<()>,
    /// From a proposal to its application here.
    pub(crate) commits: Histogram,
    /// Somebody said that this node was taken out for good.
    pub(crate) removed: AtomicBool,
}

impl Inner {
    pub(crate) fn leads(&self) -> bool {
        self.server.borrow().state.is_leader()
    }
    /// Who leads, as far as is known here.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        let server = self.server.borrow();
        let raft = server.current_leader?;
        server.membership_config.membership().get_node(&raft).map(|peer| peer.node)
    }
    /// Wakes when the leadership or the members change after this call.
    pub(crate) fn leader_watch(&self) -> watch::Receiver<ServerMetrics> {
        let mut watch = self.server.clone();
        watch.mark_unchanged();
        watch
    }
    /// Waits until this node has applied `index`; false if that cannot happen any more.
    pub(crate) async fn applied(&self, index: u64) -> bool {
        self.shared.applied.subscribe().wait_for(|a| a.index >= index).await.is_ok()
    }
    pub(crate) fn members(&self) -> BTreeMap<RaftId, (Peer, bool)> {
        let server = self.server.borrow();
        let membership = server.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        membership.nodes().map(|(id, peer)| (RaftId(*id), (*peer, voters.contains(id)))).collect()
    }
}

/// A member of the directory's Raft group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberState {
    /// Its store.
    pub raft: RaftId,
    /// Its node.
    pub node: NodeId,
    /// It votes; else it learns.
    pub voter: bool,
}

/// How the Raft group is, for `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryStatus {
    /// This node's store.
    pub raft: RaftId,
    /// The term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// How far this node has applied.
    pub applied: u64,
    /// How long its log is.
    pub last_log: u64,
    /// All members.
    pub members: Vec<MemberState>,
}

/// Access to the directory from this node.
#[derive(Clone)]
pub struct DirectoryHandle {
    pub(crate) inner: Arc<Inner>,
}

impl DirectoryHandle {
    /// This node.
    pub fn me(&self) -> NodeId {
        self.inner.me
    }

    /// Looks up locally: what this node has applied. Hold the guard briefly and never across an await.
    pub fn read(&self) -> RwLockReadGuard<'_, Directory> {
        self.inner.shared.directory.read()
    }

    /// The directory itself, for those who look up on hot paths.
    pub fn shared(&self) -> Arc<RwLock<Directory>> {
        self.inner.shared.directory.clone()
    }

    /// How far this node has applied, and every step from now on.
    pub fn applied(&self) -> watch::Receiver<Applied> {
        self.inner.shared.applied.subscribe()
    }

    /// Proposes a command and waits until it is applied, also on this node. Tries again by itself as long as it was
    /// certainly not proposed, for [`DirectoryOptions::propose_within`].
    pub async fn propose(&self, command: Command) -> Result<CommandOutcome, ProposeError> {
        self.propose_within(command, self.inner.options.propose_within).await
    }

    /// As [`Self::propose`], with a time of its own.
    pub async fn propose_within(&self, command: Command, time: Duration) -> Result<CommandOutcome, ProposeError> {
        let mut outcomes = self.propose_all(vec![command], time).await?;
        outcomes.pop().ok_or_else(|| ProposeError::Unknown("no outcome came".into()))
    }

    /// Several commands that go into one entry, in order. Each has its own outcome.
    pub async fn propose_all(
        &self,
        commands: Vec<Command>,
        time: Duration,
    ) -> Result<Vec<CommandOutcome>, ProposeError> {
        propose::until(&self.inner, commands, Instant::now() + time).await
    }

    /// Waits until this node has applied everything that was committed when this was called: a look-up after it is not
    /// stale.
    pub async fn linearizable(&self, time: Duration) -> Result<(), ReadError> {
        read::linearizable(&self.inner, Instant::now() + time).await
    }

    /// What changes from now on. Look at everything once *after* calling this.
    pub fn changes(&self) -> ChangeFeed {
        self.inner.shared.announcer.subscribe()
    }

    /// Who leads, as far as is known here.
    pub fn leader(&self) -> Option<NodeId> {
        self.inner.leader()
    }

    /// This node leads, as far as is known here. Decides nothing: a newer leader may exist.
    pub fn leads(&self) -> bool {
        self.inner.leads()
    }

    /// Waits until a leader is known here.
    pub async fn wait_leader(&self, time: Duration) -> Option<NodeId> {
        let mut server = self.inner.server.clone();
        let known = server.wait_for(|s| s.current_leader.is_some());
        drop(tokio::time::timeout(time, known).await);
        self.leader()
    }

    /// Ends when Raft has stopped by itself (the disk failed): the node must exit then.
    pub async fn failed(&self) -> String {
        let mut metrics = self.inner.metrics.clone();
        match metrics.wait_for(|m| m.running_state.is_err()).await {
            Ok(m) => m.running_state.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            Err(_) => "stopped".into(),
        }
    }

    /// How long proposals of this node took until they were applied here.
    pub fn commits(&self) -> Counted {
        self.inner.commits.counted()
    }

    /// The members of the Raft group as this node knows them.
    pub fn members(&self) -> Vec<MemberState> {
        let members = self.inner.members().into_iter();
        members.map(|(raft, (peer, voter))| MemberState { raft, node: peer.node, voter }).collect()
    }

    /// How the Raft group is.
    pub fn status(&self) -> DirectoryStatus {
        let (term, last_log) = {
            let metrics = self.inner.metrics.borrow();
            (metrics.current_term, metrics.last_log_index.unwrap_or(0))
        };
        DirectoryStatus {
            raft: self.inner.raft_id,
            term,
            leader: self.leader(),
            applied: self.inner.shared.applied.borrow().index,
            last_log,
            members: self.members(),
        }
    }

    /// Changes the membership by one step, from any node (rule 14).
    pub async fn change_members(&self, change: MemberChange, time: Duration) -> Result<(), ChangeError> {
        members::change(&self.inner, change, Instant::now() + time).await
    }

    /// Takes a node out for good: it must lead nothing and be in no set. If it votes, it stops voting first.
    pub async fn remove_node(&self, node: NodeId, time: Duration) -> Result<(), ChangeError> {
        members::remove_node(self, node, Instant::now() + time).await
    }

    /// What the lease machines must know while this node leads.
    pub(crate) fn leader_view(&self) -> Option<LeaderView> {
        view::leader_view(&self.inner.metrics.borrow(), *self.inner.shared.applied.borrow())
    }
    /// Whether this node leads and its leadership is no longer confirmed by the voters.
    pub(crate) fn out_of_touch(&self, is: bool) {
        if self.inner.out_of_touch.swap(is, Ordering::AcqRel) != is {
            tracing::info!(me = %self.inner.me, is, "leads without a quorum of voters that hear and are heard");
        }
    }
    /// Raft's id of this node's store, and its vote cell.
    pub(crate) fn vote_cell(&self) -> (RaftId, SharedVoteCell) {
        (self.inner.raft_id, self.inner.log.votes())
    }
    /// See [`propose::write_only_in`].
    pub(crate) async fn propose_only_in(
        &self,
        commands: Vec<Command>,
        reign: Term,
        time: Duration,
    ) -> Result<Vec<CommandOutcome>, ProposeError> {
        let reign = OnlyIn { term: reign.term, leader: reign.leader };
        propose::write_only_in(&self.inner, commands, reign, time).await
    }
    pub(crate) fn metrics(&self) -> watch::Receiver<Metrics> {
        self.inner.metrics.clone()
    }
}
