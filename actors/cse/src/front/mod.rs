//! The front door: takes request primitives from any binding, finds the context that is meant, reads it in the index or
//! writes it through the runtime, wherever it is served (DESIGN.md section 6).

mod base;
mod cut_off;
mod discovery;
mod exec;
mod facts;
mod fanout;
mod gather;
mod hooks;
mod locate;
mod names;
mod notify;
mod options;
mod originator;
mod outside;
mod peers;
mod rates;
mod register;
mod serve;

use std::sync::Arc;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use onemec_core::buffer::Buffer;
use onemec_core::context::{BoxFuture, CallOptions, Contexts, RepeatKey};
use onemec_onem2m::{CseIdentity, Operation, Refusal, Request, Response, ResponseType, Rsc, Ty};
use onemec_wire::NodeId;

pub use hooks::{AttachError, Caller, Failure, Handled, Mobility, Proof, Tokens};
pub use options::{AuthMode, CseOptions};
pub use peers::PeerCse;

use crate::index::CseIndex;
use crate::notify::Sender;
use crate::op::Who;
use exec::Trouble;

/// A CSE of this node. Cheap to clone.
#[derive(Clone)]
pub struct Cse {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    options: CseOptions,
    me: CseIdentity,
    contexts: Arc<dyn Contexts>,
    index: CseIndex,
    sender: Arc<Sender>,
    mobility: Option<Arc<dyn Mobility>>,
    tokens: Option<Arc<dyn Tokens>>,
    peers: DashMap<NodeId, Arc<PeerCse>>,
    stems: register::Stems,
    fan_outs: fanout::Seen,
    rates: rates::Rates,
    buffer: Option<Arc<dyn Buffer>>,
    /// Rung when something was put into the buffer.
    buffered: tokio::sync::Notify,
}

/// What a [`Cse`] is made of.
pub struct CseParts {
    /// Configuration.
    pub options: CseOptions,
    /// The runtime.
    pub contexts: Arc<dyn Contexts>,
    /// The index that the node's [`crate::machine::TreeFactory`] fills.
    pub index: CseIndex,
    /// Sends requests to other entities.
    pub sender: Arc<Sender>,
    /// Brings AEs here; without it, re-registration with a token is refused.
    pub mobility: Option<Arc<dyn Mobility>>,
    /// Makes handover tokens; without it, none are given out.
    pub tokens: Option<Arc<dyn Tokens>>,
    /// Keeps what devices write while the node is cut off; without it, they get 503 then.
    pub buffer: Option<Arc<dyn Buffer>>,
}

/// One request on its way through the front door.
pub(crate) struct Job<'a> {
    request: &'a Request,
    caller: &'a Caller,
    who: Who,
    /// Where the originator's AE is served, if it is one of ours.
    origin: Option<onemec_core::context::Place>,
    call: CallOptions,
    /// Fan-outs that led here.
    depth: u8,
}

impl Cse {
    /// A CSE. Its CSEBase must be made with [`Cse::ensure_base`] before it serves.
    pub fn new(parts: CseParts) -> Self {
        let (me, rate) = (parts.options.identity(), parts.options.requests_per_s_max);
        Self {
            inner: Arc::new(Inner {
                options: parts.options,
                me,
                rates: rates::Rates::new(rate),
                contexts: parts.contexts,
                index: parts.index,
                sender: parts.sender,
                mobility: parts.mobility,
                tokens: parts.tokens,
                peers: DashMap::new(),
                stems: register::Stems,
                fan_outs: fanout::Seen::default(),
                buffer: parts.buffer,
                buffered: tokio::sync::Notify::new(),
            }),
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &CseIdentity {
        &self.inner.me
    }

    /// Its configuration.
    pub fn options(&self) -> &CseOptions {
        &self.inner.options
    }

    /// Milliseconds since 1970, as the runtime sees it.
    pub fn now_ms(&self) -> u64 {
        self.inner.contexts.now_ms()
    }

    /// Answers a request primitive.
    pub async fn handle(&self, request: Request, caller: Caller) -> Handled {
        self.handle_at(request, caller, 0).await
    }

    /// Boxed: a member of a group may be a group's fan-out point again.
    fn handle_member(self, request: Request, caller: Caller, depth: u8) -> BoxFuture<'static, Handled> {
        Box::pin(async move { self.handle_at(request, caller, depth).await })
    }

    async fn handle_at(&self, request: Request, caller: Caller, depth: u8) -> Handled {
        let mut handled = match self.inner.run(self, &request, &caller, depth).await {
            Ok(handled) => handled,
            Err(trouble) => trouble.answer(&request),
        };
        if request.rt == Some(ResponseType::NoResponse) {
            handled.response.pc = None;
        }
        handled
    }
}

impl Inner {
    async fn run(&self, cse: &Cse, request: &Request, caller: &Caller, depth: u8) -> Result<Handled, Trouble> {
        let (began, now_ms) = (Instant::now(), self.contexts.now_ms());
        request.check(now_ms)?;
        match request.rt {
            None | Some(ResponseType::Blocking | ResponseType::FlexBlocking | ResponseType::NoResponse) => {}
            Some(ResponseType::NonBlockingSynch) => {
                let refusal = Refusal::new(Rsc::NON_BLOCKING_SYNCH_REQUEST_NOT_SUPPORTED, "rt 1 is not supported");
                return Err(refusal.into());
            }
            Some(ResponseType::NonBlockingAsynch) => {
                return Err(Refusal::not_implemented("rt 2 is not supported").into());
            }
        }
        if request.oet.is_some() {
            return Err(Refusal::not_implemented("oet is not supported").into());
        }
        let call = CallOptions {
            deadline: self.deadline(request, now_ms),
            repeat: caller.repeat_until_ms.map(|expires_ms| RepeatKey {
                originator: request.fr.clone().unwrap_or_default(),
                request: request.rqi.clone(),
                expires_ms,
            }),
            hops: 0,
        };
        if request.op == Operation::Create && request.ty == Some(Ty::AE) {
            // Who registers may have no name yet: its address stands for it.
            let from = caller.ip.map(|ip| ip.to_string()).unwrap_or_default();
            self.admit(&from, now_ms)?;
            return self.register(request, caller, call).await;
        }
        let origin = self.originator(request, caller)?;
        // The members of a fan-out were paid for with the request that led to them.
        if depth == 0 && !origin.who.trusted {
            self.admit(&origin.who.id, now_ms)?;
        }
        let job = Job { request, caller, who: origin.who, origin: origin.place, call, depth };
        let timeout = job.call.deadline + DEADLINE_SLACK;
        match tokio::time::timeout(timeout, self.serve(cse, &job)).await {
            Ok(done) => done.map(|handled| self.steer(&job, handled, began.elapsed())),
            // Whoever holds the operation may still apply it.
            Err(_) => Err(Trouble::Unknown("the deadline passed".into())),
        }
    }

    fn admit(&self, originator: &str, now_ms: u64) -> Result<(), Trouble> {
        self.rates.admit(originator, now_ms).map_err(|retry_ms| Trouble::TooMany { retry_ms })
    }

    /// Tells an originator that its AE has another home than the CSE that it asked (DESIGN.md section 5, clients).
    fn steer(&self, job: &Job<'_>, mut handled: Handled, took: Duration) -> Handled {
        if let (Some(place), Some(mobility)) = (&job.origin, &self.mobility)
            && place.home == self.contexts.node()
        {
            mobility.came(place.context, took);
        }
        if let Some(place) = &job.origin
            && place.home != self.contexts.node()
            && let Some(peer) = self.peers.get(&place.home)
            && let Some(poa) = peer.poa.first()
        {
            handled.home = Some((poa.clone(), place.epoch.0));
        }
        handled
    }

    fn deadline(&self, request: &Request, now_ms: u64) -> Duration {
        let default = self.options.request_ms_max;
        let ms = request.rqet.map_or(default, |t| t.at_ms(now_ms).saturating_sub(now_ms).min(default));
        Duration::from_millis(ms)
    }

    fn done(&self, request: &Request, rsc: u16, body: bytes::Bytes) -> Response {
        let mut response = Response::to(request, Rsc(rsc));
        response.pc = (!body.is_empty()).then_some(body);
        response
    }
}

/// The runtime keeps the deadline; this only ends what it forgot.
const DEADLINE_SLACK: Duration = Duration::from_millis(500);
