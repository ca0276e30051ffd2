//! Running one operation at the context that owns the resource: read here or there, write, fetch what it asks for.

use std::time::Duration;

use bytes::Bytes;
use onemec_core::buffer::BufferKey;
use onemec_core::context::{Answer, CallError, CallOptions, Place};
use onemec_onem2m::{CseIdentity, Refusal, Request, Response, Rsc};
use onemec_wire::ContextId;

use super::{Failure, Handled, Inner};
use crate::access::{Asker, Stop};
use crate::index::Served;
use crate::op::{Home, Read, ReadOp, Reply, TreeOp, Who, Write};
use crate::view::View;

/// How often a context may ask for more facts before it is told that it cannot have them.
const ROUNDS_MAX: usize = 4;

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Refused; nothing was changed.
    Refused(Refusal),
    /// Withdrawn: not applied and never will be.
    NotApplied {
        /// Why.
        reason: String,
        /// When to try again.
        retry_ms: u64,
    },
    /// The originator asks too often: not applied.
    TooMany {
        /// When to try again.
        retry_ms: u64,
    },
    /// Nobody knows.
    Unknown(String),
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<CallError> for Trouble {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotApplied { reason, retry_after } => {
                Self::NotApplied { reason, retry_ms: u64::try_from(retry_after.as_millis()).unwrap_or(1000) }
            }
            CallError::Unknown { reason } => Self::Unknown(reason),
            gone @ (CallError::NotFound | CallError::Deleted) => Refusal::new(Rsc::NOT_FOUND, gone.to_string()).into(),
            CallError::RepeatWindow { .. } => Refusal::bad_request(error.to_string()).into(),
        }
    }
}

impl Trouble {
    /// The answer that says so.
    pub(super) fn answer(self, request: &Request) -> Handled {
        let (refusal, failure) = match self {
            Self::Refused(refusal) => (refusal, None),
            Self::NotApplied { reason, retry_ms } => (
                Refusal::new(Rsc::INTERNAL_SERVER_ERROR, format!("not applied, try again: {reason}")),
                Some(Failure::NotApplied { retry_ms }),
            ),
            // TS-0004 has no status for it: what was asked for is not acceptable now.
            Self::TooMany { retry_ms } => (too_many(), Some(Failure::TooMany { retry_ms })),
            Self::Unknown(reason) => {
                let text = format!("outcome unknown, it may still be applied: {reason}");
                (Refusal::new(Rsc::REQUEST_TIMEOUT, text), Some(Failure::Unknown))
            }
        };
        let mut handled = Handled::from(Response::refusing(request, &refusal));
        handled.failure = failure;
        handled
    }

    pub(crate) fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::NotApplied { reason, .. } => Refusal::new(Rsc::INTERNAL_SERVER_ERROR, reason),
            Self::TooMany { .. } => too_many(),
            Self::Unknown(reason) => Refusal::new(Rsc::REQUEST_TIMEOUT, reason),
        }
    }
}

fn too_many() -> Refusal {
    Refusal::new(Rsc::NOT_ACCEPTABLE, "not applied, try again: this originator asks too often")
}

/// An operation that was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) rsc: u16,
    pub(crate) created: Option<String>,
    pub(crate) next_offset: Option<u32>,
    /// AEs that are missing from the result since they gave no answer in time.
    pub(crate) missing: u32,
    pub(crate) body: Bytes,
}

impl Inner {
    /// Runs a write at the primary, fetching what the context needs to know.
    pub(super) async fn write(
        &self,
        place: &Place,
        write: Write,
        body: Bytes,
        call: &CallOptions,
    ) -> Result<Done, Trouble> {
        self.write_as(place.context, write, None, body, call).await
    }

    /// The same for an operation that lay in the local buffer under this key.
    pub(super) async fn write_as(
        &self,
        context: ContextId,
        write: Write,
        key: Option<BufferKey>,
        body: Bytes,
        call: &CallOptions,
    ) -> Result<Done, Trouble> {
        let mut write = Box::new(write);
        for _ in 0..ROUNDS_MAX {
            let op = match key {
                None => TreeOp::Write(write),
                Some(key) => TreeOp::Append(write, key),
            };
            let answer = self.contexts.write(context, op.op(body.clone()), call.clone()).await?;
            let (TreeOp::Write(again) | TreeOp::Append(again, _)) = op else { break };
            write = again;
            match Reply::read(&answer) {
                Reply::Needs(needs) => self.fetch(&needs, &write.who, &mut write.facts, call).await?,
                reply => match self.end(reply, answer.body) {
                    Err(Trouble::Refused(r))
                        if r.rsc == Rsc::ORIGINATOR_HAS_NO_PRIVILEGE && self.know_better(&mut write.who) => {}
                    end => return end,
                },
            }
        }
        Err(undecidable())
    }

    /// Runs a read: in the index if the context is served here, else at its primary.
    pub(super) async fn read(&self, place: &Place, mut read: Read, call: &CallOptions) -> Result<Done, Trouble> {
        for _ in 0..ROUNDS_MAX {
            let (reply, body) = match self.index.open(place.context) {
                Some(served) => match self.retrieve_here(&served, &read) {
                    Some(Ok((reply, body))) => (reply, Bytes::from(body)),
                    Some(Err(Stop::Refused(r))) => (Reply::refused(&r), Bytes::new()),
                    Some(Err(Stop::Needs(n))) => (Reply::Needs(n), Bytes::new()),
                    // The gate closed while we were looking: what we saw may be old.
                    None => self.read_there(place, &ReadOp::Retrieve(Box::new(read.clone())), call).await?,
                },
                None => self.read_there(place, &ReadOp::Retrieve(Box::new(read.clone())), call).await?,
            };
            match reply {
                Reply::Needs(needs) => self.fetch(&needs, &read.who, &mut read.facts, call).await?,
                reply => match self.end(reply, body) {
                    Err(Trouble::Refused(r))
                        if r.rsc == Rsc::ORIGINATOR_HAS_NO_PRIVILEGE && self.know_better(&mut read.who) => {}
                    end => return end,
                },
            }
        }
        Err(undecidable())
    }

    /// The context, if this node may answer for it; comes back into memory if it had left it.
    pub(super) async fn served(&self, place: &Place, call: &CallOptions) -> Option<Served> {
        if place.primary == self.contexts.node() && !self.index.holds(place.context) {
            self.contexts.activate(place.context, call.deadline).await.ok()?;
        }
        self.index.open(place.context)
    }

    pub(super) async fn read_there(
        &self,
        place: &Place,
        op: &ReadOp,
        call: &CallOptions,
    ) -> Result<(Reply, Bytes), Trouble> {
        let answer: Answer = self.contexts.read(place.context, op.op(), call.clone()).await?;
        Ok((Reply::read(&answer), answer.body))
    }

    /// `None` if the gate was not open any more after the look.
    pub(super) fn retrieve_here(&self, served: &Served, read: &Read) -> Option<Result<(Reply, Vec<u8>), Stop>> {
        let home = read.home.identity();
        let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms: self.contexts.now_ms() };
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home };
        let done = crate::read::retrieve(&view, read, &asker);
        served.gate.is_open().then_some(done)
    }

    fn end(&self, reply: Reply, body: Bytes) -> Result<Done, Trouble> {
        match reply {
            Reply::Done { rsc, created, next_offset } => Ok(Done { rsc, created, next_offset, missing: 0, body }),
            Reply::Refused { rsc, debug } => Err(Refusal::new(Rsc(rsc), debug).into()),
            _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "the context gave an unexpected answer").into()),
        }
    }

    /// The CSE where a context is at home, as far as it is known without asking.
    pub(super) async fn home_of(&self, place: &Place) -> Result<Home, Trouble> {
        Ok(Home::from(&*self.identity_of(place.home).await?))
    }

    pub(super) async fn identity_of(
        &self,
        node: onemec_wire::NodeId,
    ) -> Result<std::borrow::Cow<'_, CseIdentity>, Trouble> {
        if node == self.contexts.node() {
            return Ok(std::borrow::Cow::Borrowed(&self.me));
        }
        Ok(std::borrow::Cow::Owned(self.peer(node).await?.identity.clone()))
    }

    /// Looks for other names of the originator before it is refused: its SP-relative identifiers at former registrars,
    /// which policies may still name (rule 17). True if there are any that were not tried.
    fn know_better(&self, who: &mut Who) -> bool {
        let Some(context) = who.context.filter(|_| who.also.is_empty()) else { return false };
        let Some((_, stem)) = who.id.rsplit_once('/') else { return false };
        let key = format!("aei:{stem}");
        let others = self.peers.iter().map(|p| (*p.key(), p.identity.cse_id.clone()));
        let me = std::iter::once((self.contexts.node(), self.me.cse_id.clone()));
        for (node, cse_id) in others.chain(me) {
            let at = onemec_core::context::Key::at(node, key.as_str());
            let id = format!("{cse_id}/{stem}");
            if id != who.id && self.contexts.by_key(&at).is_some_and(|p| p.context == context) {
                who.also.push(id);
            }
        }
        !who.also.is_empty()
    }

    pub(super) fn internal_call(&self) -> CallOptions {
        CallOptions { deadline: Duration::from_millis(self.options.request_ms_max), repeat: None, hops: 0 }
    }
}

fn undecidable() -> Trouble {
    Trouble::NotApplied { reason: "what the request depends on keeps changing".into(), retry_ms: 50 }
}
