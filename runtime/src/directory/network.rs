//! Raft's calls to other members.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use onemec_wire::NodeId;
use onemec_wire::service::ServiceId;
use openraft::OptionalSend;
use openraft::error::{
    Fatal, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;

use super::codec;
use super::message::{Request, Response, WireSnapshotMeta};
use super::net::{Net, NetError};
use super::types::{Peer, RaftId, TypeConfig, Vote};

/// Length of a piece of a snapshot: short enough not to delay what else is on the lane.
const PIECE_BYTES: usize = 128 << 10;
/// Longest message with entries; the transport takes twice as much.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Waits before an unreachable member is tried again.
const BACKOFF: [Duration; 4] =
    [Duration::from_millis(10), Duration::from_millis(25), Duration::from_millis(50), Duration::from_millis(100)];

type RpcError<E = openraft::error::Infallible> = RPCError<u64, Peer, RaftError<u64, E>>;

/// Makes clients.
pub(crate) struct Network {
    pub(crate) net: Arc<dyn Net>,
    pub(crate) me: RaftId,
    pub(crate) out_of_touch: Arc<AtomicBool>,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Client {
        Client {
            net: self.net.clone(),
            me: self.me,
            target: RaftId(target),
            node: node.node,
            out_of_touch: self.out_of_touch.clone(),
        }
    }
}

/// A client of one member.
pub(crate) struct Client {
    net: Arc<dyn Net>,
    me: RaftId,
    target: RaftId,
    node: NodeId,
    out_of_touch: Arc<AtomicBool>,
}

/// The answer was not one to the question, or the member has another store now.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadAnswer(String);

impl Client {
    async fn call(&self, request: &Request, deadline: Duration) -> Result<Response, NetError> {
        if self.out_of_touch.load(Ordering::Acquire) {
            // Those who hear this leader, and whom it does not hear, would wait for it.
            let reason = "this leader is out of touch".into();
            return Err(NetError::NotDelivered { to: self.node, reason });
        }
        ask(&*self.net, self.node, request, deadline).await
    }

    async fn rpc(&self, request: &Request, kind: RPCTypes, deadline: Duration) -> Result<Response, RpcError> {
        match self.call(request, deadline).await {
            Ok(Response::OtherStore) => {
                Err(Unreachable::new(&BadAnswer(format!("{} is no longer at {}", self.target, self.node))).into())
            }
            Ok(Response::Refused { reason, .. }) => Err(Unreachable::new(&BadAnswer(reason)).into()),
            Ok(response) => Ok(response),
            Err(e @ NetError::NotDelivered { .. }) => Err(Unreachable::new(&e).into()),
            Err(NetError::Unknown { .. }) => {
                Err(Timeout { action: kind, id: self.me.0, target: self.target.0, timeout: deadline }.into())
            }
        }
    }
}

fn odd(response: &Response) -> BadAnswer {
    BadAnswer(format!("an answer to something else: {response:?}"))
}

/// Asks a node on the Raft service.
pub(crate) async fn ask(
    net: &dyn Net,
    to: NodeId,
    request: &Request,
    deadline: Duration,
) -> Result<Response, NetError> {
    let body = codec::encode(request).map_err(|e| NetError::NotDelivered { to, reason: e.to_string() })?;
    let answer = net.ask(to, ServiceId::RAFT, body, deadline).await?;
    codec::decode(&answer).map_err(|e| NetError::Unknown { to, reason: e.to_string() })
}

impl RaftNetwork<TypeConfig> for Client {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RpcError> {
        let request = Request::append(self.target, &rpc);
        if rpc.entries.len() > 1 && codec::encoded_len(&request) > MESSAGE_BYTES_MAX {
            // openraft sends it again in smaller parts. One entry alone always fits.
            return Err(PayloadTooLarge::new_entries_hint((rpc.entries.len() as u64 / 2).max(1)).into());
        }
        match self.rpc(&request, RPCTypes::AppendEntries, option.hard_ttl()).await? {
            Response::Append(appended) => Ok(appended.into()),
            other => Err(Unreachable::new(&odd(&other)).into()),
        }
    }

    async fn vote(&mut self, rpc: VoteRequest<u64>, option: RPCOption) -> Result<VoteResponse<u64>, RpcError> {
        let request = Request::vote(self.target, &rpc);
        match self.rpc(&request, RPCTypes::Vote, option.hard_ttl()).await? {
            Response::Vote { vote, granted, last } => {
                Ok(VoteResponse { vote: vote.into(), vote_granted: granted, last_log_id: last.map(Into::into) })
            }
            other => Err(Unreachable::new(&odd(&other)).into()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        tokio::pin!(cancel);
        tokio::select! {
            biased;
            closed = &mut cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot, option.hard_ttl()) => sent,
        }
    }

    fn backoff(&self) -> Backoff {
        let last = *BACKOFF.last().unwrap_or(&Duration::from_millis(100));
        Backoff::new(BACKOFF.into_iter().chain(std::iter::repeat(last)))
    }
}

impl Client {
    /// Sends it piece by piece; each piece has the whole deadline for itself.
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        deadline: Duration,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let meta = WireSnapshotMeta::from(&snapshot.meta);
        let data: Bytes = snapshot.snapshot.0;
        let mut offset = 0;
        loop {
            let end = data.len().min(offset + PIECE_BYTES);
            let request = Request::Snapshot {
                to: self.target,
                vote: vote.into(),
                meta: meta.clone(),
                offset: offset as u64,
                total: data.len() as u64,
                piece: data.slice(offset..end).to_vec(),
            };
            match self.call(&request, deadline).await {
                Ok(Response::SnapshotDone(vote)) => return Ok(SnapshotResponse::new(vote.into())),
                Ok(Response::SnapshotPiece(got)) if got == end as u64 && end < data.len() => offset = end,
                Ok(other) => return Err(Unreachable::new(&odd(&other)).into()),
                // Unreachable, so that openraft waits before it begins anew: on a network error it would do so at once.
                Err(e) => return Err(Unreachable::new(&e).into()),
            }
        }
    }
}
