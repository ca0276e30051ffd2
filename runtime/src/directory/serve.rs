//! Answers what other nodes ask on the Raft service.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::directory::Directory;
use onemec_wire::NodeId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::Snapshot;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::codec;
use super::error::{ChangeError, ProposeError};
use super::handle::Inner;
use super::message::{Request, Response, WireSnapshotMeta, WireVote};
use super::net::{AskHandler, BoxFuture};
use super::types::{RaftId, SnapshotBytes};
use super::{elections, members, propose, read};
use crate::lease::boottime;

/// Longest snapshot that is accepted.
const SNAPSHOT_BYTES_MAX: u64 = 512 << 20;
/// A forwarded proposal is not waited for longer than this, whatever it says.
const PROPOSE_MAX: Duration = Duration::from_secs(30);
/// For a change of membership on behalf of another node.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// A snapshot on its way in. One at a time: a new one takes the place of the old one.
struct Incoming {
    from: NodeId,
    meta: WireSnapshotMeta,
    total: u64,
    data: Vec<u8>,
}

/// The handler.
pub(crate) struct Server {
    inner: Arc<Inner>,
    incoming: Arc<Mutex<Option<Incoming>>>,
}

impl Server {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner, incoming: Arc::default() }
    }
}

impl AskHandler for Server {
    fn ask(&self, from: NodeId, body: Bytes) -> BoxFuture<'static, Option<Bytes>> {
        let (inner, incoming) = (self.inner.clone(), self.incoming.clone());
        Box::pin(async move {
            let request = codec::decode(&body)
                .inspect_err(|error| tracing::warn!(%from, %error, "request of the directory is not readable"))
                .ok()?;
            let response = answer(&inner, &incoming, from, request).await;
            codec::encode(&response).ok()
        })
    }
}

fn refused(inner: &Inner, reason: impl ToString) -> Response {
    Response::Refused { leader: inner.leader(), reason: reason.to_string() }
}

async fn answer(inner: &Arc<Inner>, incoming: &Mutex<Option<Incoming>>, from: NodeId, request: Request) -> Response {
    // Rule 14: what is meant for a store that this node has lost must not reach the one that it has now.
    let mine = |to: RaftId| to == inner.raft_id;
    match request {
        Request::Append { to, .. }
        | Request::Vote { to, .. }
        | Request::Snapshot { to, .. }
        | Request::WouldVote { to, .. }
            if !mine(to) =>
        {
            Response::OtherStore
        }
        Request::Append { vote, previous, entries, commit, .. } => {
            let rpc = AppendEntriesRequest {
                vote: vote.into(),
                prev_log_id: previous.map(Into::into),
                entries: entries.into_iter().map(Into::into).collect(),
                leader_commit: commit.map(Into::into),
            };
            match inner.raft.append_entries(rpc).await {
                Ok(appended) => {
                    if !matches!(appended, AppendEntriesResponse::HigherVote(_)) {
                        inner.candidacy.lock().heard(boottime());
                    }
                    Response::Append(appended.into())
                }
                Err(error) => refused(inner, error),
            }
        }
        Request::Vote { vote, last, .. } => {
            let rpc = VoteRequest { vote: vote.into(), last_log_id: last.map(Into::into) };
            match inner.raft.vote(rpc).await {
                Ok(response) => {
                    if response.vote_granted {
                        inner.candidacy.lock().voted(boottime());
                    }
                    response.into()
                }
                Err(error) => refused(inner, error),
            }
        }
        Request::WouldVote { last, .. } => Response::WouldVote(elections::would_vote(inner, last)),
        Request::Snapshot { vote, meta, offset, total, piece, .. } => {
            match collect(incoming, from, &meta, (offset, total), &piece) {
                Ok(None) => {
                    inner.candidacy.lock().heard(boottime());
                    Response::SnapshotPiece(offset + piece.len() as u64)
                }
                Ok(Some(data)) => install(inner, vote, meta, data).await,
                Err(reason) => refused(inner, reason),
            }
        }
        Request::Propose { commands, deadline_ms } => {
            let expires = Instant::now() + Duration::from_millis(deadline_ms.into()).min(PROPOSE_MAX);
            match propose::once(inner, commands, true, expires).await {
                Ok(done) => Response::Proposed { index: done.index, outcomes: done.outcomes },
                Err(ProposeError::NotProposed(reason)) => refused(inner, reason),
                Err(ProposeError::Unknown(reason)) => Response::ProposedUnknown(reason),
            }
        }
        Request::ReadIndex => match read::index(inner, true).await {
            Ok(index) => Response::ReadIndex(index),
            Err(error) => refused(inner, error),
        },
        Request::Hello { .. } => Response::Hello { raft: inner.raft_id, initialised: members::is_initialised(inner) },
        Request::Join { .. } if inner.shared.directory.read().was_removed(from) => Response::Removed,
        Request::Join { from: raft } => changed(inner, members::join(inner, raft, from).await),
        Request::Change(change) => {
            let result = members::change_here(inner, change, Instant::now() + CHANGE_MAX).await;
            changed(inner, result)
        }
    }
}

fn changed(inner: &Inner, result: Result<(), ChangeError>) -> Response {
    match result {
        Ok(()) => Response::Done,
        Err(ChangeError::Refused { leader, reason }) => Response::Refused { leader, reason },
        Err(ChangeError::Unknown(reason)) => {
            tracing::debug!(%reason, me = %inner.me, "change of membership");
            Response::ProposedUnknown(reason)
        }
    }
}

/// Puts a piece where it belongs; gives the whole when it was the last one.
fn collect(
    incoming: &Mutex<Option<Incoming>>,
    from: NodeId,
    meta: &WireSnapshotMeta,
    (offset, total): (u64, u64),
    piece: &[u8],
) -> Result<Option<Vec<u8>>, String> {
    if total > SNAPSHOT_BYTES_MAX || offset.saturating_add(piece.len() as u64) > total {
        return Err(format!("a snapshot of {total} bytes, piece at {offset}"));
    }
    let mut slot = incoming.lock();
    if offset == 0 {
        *slot = Some(Incoming { from, meta: meta.clone(), total, data: Vec::new() });
    }
    let fits = |i: &Incoming| i.from == from && i.total == total && i.meta == *meta && i.data.len() as u64 == offset;
    let Some(current) = slot.as_mut().filter(|i| fits(i)) else {
        return Err("a piece that does not follow: begin anew".into());
    };
    current.data.extend_from_slice(piece);
    if (current.data.len() as u64) < total {
        return Ok(None);
    }
    Ok(slot.take().map(|i| i.data))
}

async fn install(inner: &Inner, vote: WireVote, meta: WireSnapshotMeta, data: Vec<u8>) -> Response {
    // Raft stops for good on a snapshot that cannot be installed: look first.
    let data = Bytes::from(data);
    if let Err(error) = codec::decode::<Directory>(&data) {
        return refused(inner, error);
    }
    let snapshot = Snapshot { meta: meta.into(), snapshot: Box::new(SnapshotBytes(data)) };
    match inner.raft.install_full_snapshot(vote.into(), snapshot).await {
        Ok(done) => Response::SnapshotDone(done.vote.into()),
        Err(error) => refused(inner, error),
    }
}
