//! Reads that must not be stale: the leader confirms that it still leads and says how far a reader must have applied.
//! Callers that wait share one confirmation, which begins after all of them asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ReadError;
use super::handle::Inner;
use super::message::{Request, Response};
use super::network::ask;

/// Reads that share one confirmation, at most.
const SHARED_MAX: usize = 4_096;
/// One try to have a leadership confirmed.
const TRY: Duration = Duration::from_millis(250);
/// Pause between tries when the leader stays the same.
const PAUSE: Duration = Duration::from_millis(10);

/// A reader that waits for an index.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    forwarded: bool,
    reply: oneshot::Sender<Result<u64, ReadError>>,
}

/// Asks this node's queue once.
pub(crate) async fn index(inner: &Inner, forwarded: bool) -> Result<u64, ReadError> {
    let (reply, answer) = oneshot::channel();
    inner.reads.try_send(ReadRequest { forwarded, reply }).map_err(|e| match e {
        mpsc::error::TrySendError::Full(_) => ReadError::Overloaded,
        mpsc::error::TrySendError::Closed(_) => ReadError::Stopped,
    })?;
    answer.await.unwrap_or(Err(ReadError::Stopped))
}

/// Waits until this node has applied everything that was committed when this was called.
pub(crate) async fn linearizable(inner: &Inner, expires: Instant) -> Result<(), ReadError> {
    let mut last = ReadError::NoLeader("the time was over".into());
    let wanted = loop {
        let mut leader = inner.leader_watch();
        match timeout_at(expires, index(inner, false)).await {
            Ok(Ok(wanted)) => break wanted,
            Ok(Err(ReadError::Stopped)) => return Err(ReadError::Stopped),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last),
        }
        let pause = expires.min(Instant::now() + PAUSE);
        let _ = timeout_at(pause, leader.changed()).await;
        if Instant::now() >= expires {
            return Err(last);
        }
    };
    match timeout_at(expires, inner.applied(wanted)).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(ReadError::Stopped),
        Err(_) => Err(ReadError::Behind { applied: inner.shared.applied.borrow().index, wanted }),
    }
}

/// Answers what waits, round after round.
pub(crate) async fn run(inner: Arc<Inner>, mut queue: mpsc::Receiver<ReadRequest>) {
    let mut round = Vec::new();
    // Requests that come while a round is on its way wait for the next one: a confirmation must begin after the request.
    while queue.recv_many(&mut round, SHARED_MAX).await > 0 {
        if !inner.leads() {
            // Asked once, never in a circle.
            for asked in round.extract_if(.., |r| r.forwarded) {
                let _ = asked.reply.send(Err(ReadError::NoLeader("somebody else leads".into())));
            }
        }
        if round.is_empty() {
            continue;
        }
        let result = confirm(&inner).await;
        for request in round.drain(..) {
            let _ = request.reply.send(result.clone());
        }
    }
}

async fn confirm(inner: &Inner) -> Result<u64, ReadError> {
    let failed = |e: String| ReadError::NoLeader(e);
    if inner.leads() {
        let read = timeout(TRY, inner.raft.get_read_log_id()).await.map_err(|e| failed(e.to_string()))?;
        let (log_id, _) = read.map_err(|e| failed(e.to_string()))?;
        return Ok(log_id.map_or(0, |id| id.index));
    }
    let leader = inner.leader().ok_or_else(|| failed("no leader is known".into()))?;
    match ask(&*inner.net, leader, &Request::ReadIndex, TRY).await {
        Ok(Response::ReadIndex(index)) => Ok(index),
        Ok(Response::Refused { reason, .. }) => Err(failed(reason)),
        Ok(other) => Err(failed(format!("{leader} answered {other:?}"))),
        Err(error) => Err(failed(error.to_string())),
    }
}
