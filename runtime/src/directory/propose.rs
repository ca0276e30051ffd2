//! Proposals: what many callers want at the same moment becomes one entry of the log.
//!
//! Each node has one queue. While a write is in flight at the leader, what comes meanwhile waits and becomes the next
//! entry; on other nodes the same queue is sent to the leader in one message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use onemec_core::directory::{Command, CommandOutcome, Entry};
use onemec_wire::NodeId;
use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::codec;
use super::error::{NotProposed, ProposeError};
use super::handle::Inner;
use super::message::{Request, Response};
use super::net::NetError;
use super::network::ask;
use super::types::{Logged, OnlyIn};

/// Most bytes of commands in one entry.
pub(super) const ENTRY_BYTES_MAX: usize = 256 << 10;
/// Most commands in one entry.
pub(super) const ENTRY_COMMANDS_MAX: usize = 512;
/// Entries that wait for their commit at the same time.
const WRITES_MAX: usize = 1;
/// Messages to the leader that wait for their answer at the same time.
const FORWARDS_MAX: usize = 4;
/// A pause before the next try, when nothing tells that the leader has changed.
const PAUSE: Duration = Duration::from_millis(10);

/// What became of a proposal.
#[derive(Debug)]
pub(crate) struct Proposed {
    pub(crate) index: u64,
    pub(crate) outcomes: Vec<CommandOutcome>,
}

type Outcome = Result<Proposed, ProposeError>;

const WAITS: u8 = 0;
const TAKEN: u8 = 1;
const GIVEN_UP: u8 = 2;

/// Decides between the caller, whose time is over, and the batch that takes the proposal: exactly one of them wins.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

impl Ticket {
    fn change(&self, to: u8) -> bool {
        self.0.compare_exchange(WAITS, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Commands of one caller.
#[derive(Debug)]
pub(crate) struct Proposal {
    commands: Vec<Command>,
    bytes: usize,
    forwarded: bool,
    expires: Instant,
    ticket: Arc<Ticket>,
    reply: oneshot::Sender<Outcome>,
}

/// Gives commands to this node's queue, once.
pub(crate) async fn once(inner: &Inner, commands: Vec<Command>, forwarded: bool, expires: Instant) -> Outcome {
    let bytes = codec::encoded_len(&commands);
    if bytes > ENTRY_BYTES_MAX || commands.len() > ENTRY_COMMANDS_MAX {
        return Err(NotProposed::TooLarge { bytes }.into());
    }
    let (reply, answer) = oneshot::channel();
    let ticket = Arc::new(Ticket::default());
    let proposal = Proposal { commands, bytes, forwarded, expires, ticket: ticket.clone(), reply };
    inner.proposals.try_send(proposal).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) => NotProposed::Overloaded,
        mpsc::error::TrySendError::Closed(_) => NotProposed::Stopped,
    })?;
    match timeout_at(expires, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) if ticket.change(GIVEN_UP) => Err(NotProposed::Stopped.into()),
        Ok(Err(_)) => Err(ProposeError::Unknown("the directory has stopped".into())),
        Err(_) if ticket.change(GIVEN_UP) => Err(NotProposed::Deadline.into()),
        Err(_) => Err(ProposeError::Unknown("no outcome in time".into())),
    }
}

/// Gives commands to the queue, and again as long as they were certainly not proposed; then waits until this node has
/// applied them.
pub(crate) async fn until(
    inner: &Inner,
    commands: Vec<Command>,
    expires: Instant,
) -> Result<Vec<CommandOutcome>, ProposeError> {
    let began = Instant::now();
    loop {
        let mut leader = inner.leader_watch();
        match once(inner, commands.clone(), false, expires).await {
            Ok(proposed) => {
                // Read your writes: whoever looks here next finds what was decided. The outcome stands in any case.
                let _ = timeout_at(expires, inner.applied(proposed.index)).await;
                inner.commits.note(began.elapsed());
                return Ok(proposed.outcomes);
            }
            Err(ProposeError::NotProposed(reason)) if reason.is_passing() && Instant::now() + PAUSE < expires => {
                let _ = tokio::time::timeout(PAUSE, leader.changed()).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Takes what waits, batch after batch.
pub(crate) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<Proposal>) {
    let writes = Arc::new(Semaphore::new(WRITES_MAX));
    let forwards = Arc::new(Semaphore::new(FORWARDS_MAX));
    let mut in_flight = JoinSet::new();
    let mut next = None;
    loop {
        let first = match next.take() {
            Some(first) => first,
            None => match queue.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        let permits = if inner.leads() { &writes } else { &forwards };
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let mut batch = vec![first];
        let (mut bytes, mut commands) = (batch[0].bytes, batch[0].commands.len());
        while let Ok(more) = queue.try_recv() {
            (bytes, commands) = (bytes + more.bytes, commands + more.commands.len());
            if bytes > ENTRY_BYTES_MAX || commands > ENTRY_COMMANDS_MAX {
                next = Some(more);
                break;
            }
            batch.push(more);
        }
        while in_flight.try_join_next().is_some() {}
        let inner = inner.clone();
        in_flight.spawn(async move {
            send(&inner, batch).await;
            drop(permit);
        });
    }
}

async fn send(inner: &Inner, batch: Vec<Proposal>) {
    let now = Instant::now();
    let batch: Vec<Proposal> = batch.into_iter().filter(|p| p.expires > now && p.ticket.change(TAKEN)).collect();
    if batch.is_empty() {
        return;
    }
    if inner.leads() {
        return write(inner, batch).await;
    }
    let leader = inner.leader();
    // A proposal is forwarded once: two nodes that take each other for the leader must not play ball with it.
    let (stay, go): (Vec<_>, Vec<_>) = batch.into_iter().partition(|p| p.forwarded || leader.is_none());
    for proposal in stay {
        let reason = leader.map_or(NotProposed::NoLeader, |l| NotProposed::LeaderChanged(Some(l)));
        let _ = proposal.reply.send(Err(reason.into()));
    }
    if let Some(leader) = leader.filter(|_| !go.is_empty()) {
        forward(inner, leader, go).await;
    }
}

/// At the leader: one entry.
async fn write(inner: &Inner, mut batch: Vec<Proposal>) {
    let mut entry = Entry { time_ms: wall_ms(), commands: Vec::new() };
    let counts: Vec<usize> = batch.iter().map(|p| p.commands.len()).collect();
    for proposal in &mut batch {
        entry.commands.append(&mut proposal.commands);
    }
    let before = inner.log.own_entries();
    let result = match inner.raft.client_write(Logged { only_in: None, entry }).await {
        Ok(written) => Ok((written.log_id.index, written.data)),
        // openraft says the same when it was not leader and when a later leader removed the entry from this log; in the
        // second case another member may still have it. The log knows whether it ever got it.
        Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) if inner.log.own_entries() == before => {
            Err(NotProposed::LeaderChanged(to.leader_node.map(|n| n.node)).into())
        }
        Err(error) => Err(ProposeError::Unknown(error.to_string())),
    };
    answer(batch, &counts, result);
}

/// At the leader: what it decided under `reign` and what nobody else may do in its place. Not queued, not forwarded.
pub(crate) async fn write_only_in(
    inner: &Inner,
    commands: Vec<Command>,
    reign: OnlyIn,
    time: Duration,
) -> Result<Vec<CommandOutcome>, ProposeError> {
    let logged = Logged { only_in: Some(reign), entry: Entry { time_ms: wall_ms(), commands } };
    match tokio::time::timeout(time, inner.raft.client_write(logged)).await {
        Ok(Ok(written)) => Ok(written.data),
        Ok(Err(error)) => Err(ProposeError::Unknown(error.to_string())),
        Err(_) => Err(ProposeError::Unknown("no outcome in time".into())),
    }
}

/// At another node: one message to the leader.
async fn forward(inner: &Inner, leader: NodeId, mut batch: Vec<Proposal>) {
    let counts: Vec<usize> = batch.iter().map(|p| p.commands.len()).collect();
    let mut commands = Vec::with_capacity(counts.iter().sum());
    for proposal in &mut batch {
        commands.append(&mut proposal.commands);
    }
    let expires = batch.iter().map(|p| p.expires).max().unwrap_or_else(Instant::now);
    let left = expires.saturating_duration_since(Instant::now());
    let deadline_ms = u32::try_from(left.as_millis()).unwrap_or(u32::MAX);
    let result = match ask(&*inner.net, leader, &Request::Propose { commands, deadline_ms }, left).await {
        Ok(Response::Proposed { index, outcomes }) => Ok((index, outcomes)),
        Ok(Response::ProposedUnknown(reason)) => Err(ProposeError::Unknown(reason)),
        Ok(Response::Refused { leader, .. }) => Err(NotProposed::LeaderChanged(leader).into()),
        Ok(other) => Err(ProposeError::Unknown(format!("{leader} answered {other:?}"))),
        Err(NetError::NotDelivered { reason, .. }) => Err(NotProposed::Unreachable(leader, reason).into()),
        Err(NetError::Unknown { reason, .. }) => Err(ProposeError::Unknown(reason)),
    };
    answer(batch, &counts, result);
}

fn answer(batch: Vec<Proposal>, counts: &[usize], result: Result<(u64, Vec<CommandOutcome>), ProposeError>) {
    let mut outcomes = match &result {
        Ok((_, outcomes)) => outcomes.iter().cloned(),
        Err(_) => [].iter().cloned(),
    };
    for (proposal, count) in batch.into_iter().zip(counts) {
        let one = match &result {
            Ok((index, _)) => {
                let outcomes: Vec<_> = outcomes.by_ref().take(*count).collect();
                if outcomes.len() == *count {
                    Ok(Proposed { index: *index, outcomes })
                } else {
                    Err(ProposeError::Unknown("fewer outcomes than commands".into()))
                }
            }
            Err(error) => Err(error.clone()),
        };
        // Fails only when the caller no longer waits.
        let _ = proposal.reply.send(one);
    }
}

/// For people and for remembering creations; decides nothing (rule 3).
fn wall_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
}
