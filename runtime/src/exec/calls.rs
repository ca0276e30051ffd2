//! Calls on contexts, wherever they are (rule 11), and their creation.

use std::collections::BTreeSet;
use std::time::Duration;

use onemec_core::context::{
    Answer, BoxFuture, CallError, CallOptions, ContextKind, Contexts, CreateError, Key, NewContext, Op, Place,
    RepeatKey,
};
use onemec_core::directory::{Command, CommandOutcome, ContextSpec, Refusal};
use onemec_core::place;
use onemec_core::time::Mono;
use onemec_wire::{ContextId, Epoch, GroupId, Member, NodeId, ServiceId, codec};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Runtime;
use super::body::{CallBody, CallReply};
use super::group::{GroupMsg, Write, WriteReply};
use super::net::lane_of;
use super::route::{self, Known, Next, Tried};
use crate::directory::ProposeError;
use crate::transport::{Lane, Message, Replier};

/// A node that knows nothing newer waits so long for the directory (rule 11).
const WAIT_APPLY: Duration = Duration::from_millis(20);
/// Operations up to this length travel on a lane; longer ones get a stream of their own.
const LANE_BYTES_MAX: usize = 64 << 10;
/// How often an operation that was withdrawn is tried again for its client.
const AGAIN_MAX: u32 = 8;
/// A command of the directory may take so long.
const PROPOSE_MAX: Duration = Duration::from_secs(3);

/// What is asked of a context.
#[derive(Clone)]
enum Ask {
    Write { op: Op, repeat: Option<RepeatKey> },
    Read { op: Op },
}

impl Runtime {
    fn deadline(&self, options: &CallOptions) -> Mono {
        self.inner.parts.clock.mono() + options.deadline
    }

    fn left(&self, deadline: Mono) -> Duration {
        deadline.since(self.inner.parts.clock.mono())
    }

    fn known(&self, context: ContextId) -> Option<(GroupId, Known)> {
        let directory = self.inner.parts.directory.read();
        let c = directory.context(context)?;
        let p = directory.group(c.group)?;
        Some((c.group, Known { primary: p.primary.node, epoch: p.epoch }))
    }

    /// Runs an ask to its end. `sent_at`: the epoch as the node that sent it here knows it; what this node knows of older
    /// ones is out of date (rule 11: only towards a higher epoch).
    async fn call(
        &self,
        context: ContextId,
        ask: Ask,
        options: CallOptions,
        sent_at: Option<Epoch>,
    ) -> Result<Answer, CallError> {
        let deadline = self.deadline(&options);
        let (Ask::Write { op, .. } | Ask::Read { op }) = &ask;
        let permit = self.permit(op)?;
        let mut permit = Some(permit);
        let mut again = 0;
        let refused_at = sent_at.and_then(|e| e.0.checked_sub(1)).map(Epoch);
        let mut tried = Tried { hops: options.hops, refused_at, ..Tried::default() };
        let repeatable = matches!(&ask, Ask::Write { repeat: Some(_), .. } | Ask::Read { .. });
        loop {
            if self.left(deadline).is_zero() {
                return Err(self.not_applied("the deadline has passed"));
            }
            let known = self.known(context);
            let next = route::next(self.inner.parts.member.node, known.map(|(_, k)| k), tried);
            let (reply, at) = match (next, known) {
                (Next::Here, Some((group, k))) => (self.ask_here(group, context, &ask, deadline, &mut permit).await, k),
                (Next::Forward(node), Some((group, k))) => {
                    tried.hops += 1;
                    let reply = self.ask_there(node, group, k.epoch, context, &ask, tried.hops, deadline).await;
                    (reply, k)
                }
                (Next::WaitApply, _) => {
                    tried.waited = true;
                    self.wait_apply(WAIT_APPLY.min(self.left(deadline))).await;
                    continue;
                }
                (Next::LeaderRead, _) => {
                    tried.read = true;
                    let read = self.inner.parts.directory.linearizable(self.left(deadline)).await;
                    if read.is_ok() && self.known(context).is_none() {
                        return Err(self.gone(context));
                    }
                    continue;
                }
                _ => return Err(self.not_applied("no node serves it at the moment")),
            };
            match reply {
                WriteReply::Answer(answer) => return Ok(answer),
                // It was not and never will be applied: the node that the client asked tries again a few times, so that a
                // client sees nothing of a group that changes its primary.
                WriteReply::NotApplied { retry_after, .. }
                    if options.hops == 0 && again < AGAIN_MAX && self.left(deadline) > retry_after * 2 =>
                {
                    again += 1;
                    self.wait_apply(retry_after).await;
                    tried = Tried { hops: options.hops, refused_at, ..Tried::default() };
                }
                WriteReply::NotApplied { reason, retry_after } => {
                    return Err(CallError::NotApplied { reason, retry_after });
                }
                WriteReply::Unknown { reason } if !repeatable => return Err(CallError::Unknown { reason }),
                // Marked as repeatable: the same mark finds the first answer, wherever it was given (I3).
                WriteReply::Unknown { reason } => {
                    if self.left(deadline) < WAIT_APPLY {
                        return Err(CallError::Unknown { reason });
                    }
                    self.wait_apply(WAIT_APPLY).await;
                    tried = Tried { hops: options.hops, refused_at, ..Tried::default() };
                }
                WriteReply::NotHere { epoch, .. } => {
                    // Either that node is ahead of us: then its epoch is the least that will do; or it has not heard of the
                    // reign that we sent it for: then only a later one will.
                    let below = if epoch > at.epoch { Epoch(epoch.0 - 1) } else { at.epoch };
                    tried.refused_at = Some(tried.refused_at.unwrap_or_default().max(below));
                }
                WriteReply::NotFound if tried.read => return Err(self.gone(context)),
                WriteReply::NotFound => tried.refused_at = Some(at.epoch),
                WriteReply::Deleted => return Err(CallError::Deleted),
                WriteReply::RepeatWindow => {
                    return Err(CallError::RepeatWindow { window_ms: self.inner.options.limits.repeat_window_ms });
                }
            }
        }
    }

    fn gone(&self, context: ContextId) -> CallError {
        let directory = self.inner.parts.directory.read();
        let was = context.generation() == directory.generation() && context.index() <= directory.index();
        if was { CallError::Deleted } else { CallError::NotFound }
    }

    fn not_applied(&self, reason: &str) -> CallError {
        CallError::NotApplied { reason: reason.into(), retry_after: self.inner.options.limits.retry_after }
    }

    /// I8: bytes on their way at this node are bounded; a permit travels with the operation to its acknowledgement.
    fn permit(&self, op: &Op) -> Result<OwnedSemaphorePermit, CallError> {
        let bytes = u32::try_from(op.head.len() + op.body.len() + 512).unwrap_or(u32::MAX);
        self.inner
            .permits
            .clone()
            .try_acquire_many_owned(bytes)
            .map_err(|_| self.not_applied("too many operations are on their way at this node"))
    }

    async fn wait_apply(&self, time: Duration) {
        let mut feed = self.inner.parts.directory.changes();
        // Whatever comes first: something new, or the end of the wait.
        drop(tokio::time::timeout(time, feed.next()).await);
    }

    async fn ask_here(
        &self,
        group: GroupId,
        context: ContextId,
        ask: &Ask,
        deadline: Mono,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> WriteReply {
        match ask {
            Ask::Read { op } => self.read_here(group, context, op.clone(), deadline).await,
            Ask::Write { op, repeat } => {
                let write = (context, None, op.clone(), repeat.clone());
                self.write_here(group, write, deadline, permit.take()).await
            }
        }
    }

    async fn read_here(&self, group: GroupId, context: ContextId, op: Op, deadline: Mono) -> WriteReply {
        let kind = self.inner.parts.directory.read().context(context).map(|c| c.kind);
        let handler = kind.and_then(|k| self.actors()?.readers.get(&k).cloned());
        let Some(handler) = handler else { return WriteReply::NotFound };
        match self.in_memory(group, deadline).await {
            Some(gate) if gate.allows() => WriteReply::Answer(handler.read(context, op).await),
            None => {
                let retry = self.inner.options.limits.retry_after;
                WriteReply::not_applied("the context did not come into memory in time", retry)
            }
            Some(_) => {
                // A takeover or a freeze: a moment later it is open here or elsewhere.
                WriteReply::Unknown { reason: "the group is closed for a moment".into() }
            }
        }
    }

    async fn write_here(
        &self,
        group: GroupId,
        (context, create, op, repeat): (ContextId, Option<ContextKind>, Op, Option<RepeatKey>),
        deadline: Mono,
        permit: Option<OwnedSemaphorePermit>,
    ) -> WriteReply {
        let (reply, answer) = oneshot::channel();
        let received = self.inner.parts.clock.mono();
        self.tell_news(group);
        self.tell_group(
            group,
            GroupMsg::Write(Write { context, create, op, repeat, received, deadline, reply, permit }),
        );
        // A little longer than the caller waits: what is parked until its deadline is answered "not applied" then.
        match tokio::time::timeout(self.left(deadline) + WAIT_APPLY, answer).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => WriteReply::unknown("the group's actor ended"),
            Err(_) => WriteReply::unknown("not committed within the deadline"),
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn ask_there(
        &self,
        node: NodeId,
        group: GroupId,
        epoch: Epoch,
        context: ContextId,
        ask: &Ask,
        hops: u8,
        deadline: Mono,
    ) -> WriteReply {
        let (body, op) = match ask {
            Ask::Write { op, repeat } => (CallBody::Write { context, epoch, hops, repeat: repeat.clone() }, op.clone()),
            Ask::Read { op } => (CallBody::Read { context, epoch, hops }, op.clone()),
        };
        self.send_call(node, group, &body, op, self.left(deadline)).await.0
    }

    async fn send_call(
        &self,
        node: NodeId,
        group: GroupId,
        body: &CallBody,
        op: Op,
        left: Duration,
    ) -> (WriteReply, Option<CallReply>) {
        let retry = self.inner.options.limits.retry_after;
        let Ok(encoded) = codec::encode(body) else {
            return (WriteReply::not_applied("the call cannot be encoded", retry), None);
        };
        let large = op.head.len() + op.body.len() > LANE_BYTES_MAX;
        let message = Message::new(ServiceId::CALL, lane_of(group), encoded).with(op.head).with(op.body);
        let transport = &self.inner.parts.transport;
        let directory = &self.inner.parts.directory;
        let boot = directory.read().node(node).map(|n| n.member).unwrap_or_default();
        let answer = async {
            if large {
                transport.call(node, message, left).await
            } else {
                transport.ask(node, Lane::Message, message, left).await
            }
        };
        // The directory knows of a death sooner than the connection does: whoever waits for the dead goes on at once.
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = directory.declared_dead(boot) => {
                return (WriteReply::unknown(format!("node {node} died")), None);
            }
        };
        match answer {
            Ok(message) => read_reply(message, retry),
            Err(e) if e.is_certainly_not_done() => {
                (WriteReply::not_applied(format!("node {node} cannot be reached: {e}"), retry), None)
            }
            Err(e) => (WriteReply::unknown(format!("node {node}: {e}")), None),
        }
    }

    /// Parked operations of a group that has moved go to its new primary: in order, since they share a lane and are
    /// polled (that is, queued) one after the other.
    pub(super) fn forward_parked(&self, node: NodeId, epoch: Epoch, writes: Vec<Write>) {
        let runtime = self.clone();
        tokio::spawn(async move {
            let forwards = writes.into_iter().map(|write| runtime.forward_one(node, epoch, write));
            futures_util::future::join_all(forwards).await;
        });
    }

    async fn forward_one(&self, node: NodeId, epoch: Epoch, write: Write) {
        let Write { context, op, repeat, deadline, reply, permit, .. } = write;
        let group = self.known(context).map_or_else(GroupId::default, |(g, _)| g);
        let body = CallBody::Write { context, epoch, hops: 1, repeat };
        let (end, _) = self.send_call(node, group, &body, op, self.left(deadline)).await;
        drop(permit);
        drop(reply.send(end));
    }

    /// A call from another node.
    pub(super) fn serve_call(&self, body: CallBody, op: Op, left: Duration, reply: Replier) {
        let deadline = self.inner.parts.clock.mono() + left;
        // A write to a group that is led here goes straight into its mailbox: the order of the lane is kept.
        if let CallBody::Write { context, repeat, .. } = &body
            && let Some((group, k)) = self.known(*context)
            && k.primary == self.inner.parts.member.node
        {
            // DESIGN.md section 4, back-pressure: fails rather than waits.
            let permit = match self.permit(&op) {
                Ok(permit) => permit,
                Err(e) => return send_reply(reply, from_result(Err(e))),
            };
            let (sender, answer) = oneshot::channel();
            let write = Write {
                context: *context,
                create: None,
                op,
                repeat: repeat.clone(),
                received: self.inner.parts.clock.mono(),
                deadline,
                reply: sender,
                permit: Some(permit),
            };
            self.tell_news(group);
            self.tell_group(group, GroupMsg::Write(write));
            tokio::spawn(async move {
                let end = answer.await.unwrap_or_else(|_| WriteReply::unknown("the group's actor ended"));
                send_reply(reply, end);
            });
            return;
        }
        let runtime = self.clone();
        tokio::spawn(async move {
            let end = match body {
                CallBody::Write { context, epoch, hops, repeat } => {
                    let options = CallOptions { deadline: left, repeat: repeat.clone(), hops };
                    from_result(runtime.call(context, Ask::Write { op, repeat }, options, Some(epoch)).await)
                }
                CallBody::Read { context, epoch, hops } => {
                    let options = CallOptions { deadline: left, repeat: None, hops };
                    from_result(runtime.call(context, Ask::Read { op }, options, Some(epoch)).await)
                }
                CallBody::CreateIn { group, spec, repeat } => {
                    let made = runtime.create_in(group, spec, op, repeat, deadline).await;
                    return send_created(reply, made);
                }
            };
            send_reply(reply, end);
        });
    }

    // ---- creation --------------------------------------------------------------------------------------------------

    pub(super) async fn propose(&self, command: Command) -> Result<CommandOutcome, CreateError> {
        match self.inner.parts.directory.propose_within(command, PROPOSE_MAX).await {
            Ok(CommandOutcome::Refused(Refusal::KeyTaken { key, holder })) => {
                Err(CreateError::KeyTaken { key, holder })
            }
            Ok(CommandOutcome::Refused(Refusal::GroupFull { contexts_max })) => {
                Err(CreateError::GroupFull { contexts_max })
            }
            Ok(outcome) => Ok(outcome),
            Err(ProposeError::NotProposed(e)) => Err(self.not_applied(&e.to_string()).into()),
            Err(ProposeError::Unknown(e)) => Err(CallError::Unknown { reason: e }.into()),
        }
    }

    async fn create_context(&self, new: NewContext, options: CallOptions) -> Result<(Place, Answer), CreateError> {
        let deadline = self.deadline(&options);
        let spec = ContextSpec { kind: new.kind, keys: new.keys, pinned: new.pinned, bundle: new.bundle };
        // Row G13: whoever belongs to a bundle that is served here begins in its group. One that is served elsewhere is
        // joined afterwards: this node is the registrar that the device chose.
        if let Some(group) = spec.bundle.as_deref().and_then(|b| self.bundle_led_here(b)) {
            let made = self.create_in(group, spec.clone(), new.first.clone(), options.repeat.clone(), deadline).await;
            match made {
                Err(CreateError::Call(CallError::NotApplied { .. } | CallError::NotFound)) => {}
                made => return made,
            }
        }
        let me = self.inner.parts.member;
        let nonce = self.nonce();
        let in_sync = self.first_set(me, &spec, nonce.0 as u64);
        let command = Command::CreateGroup {
            nonce,
            primary: me,
            in_sync,
            durability: self.inner.options.durability,
            replicas_wanted: self.inner.options.replicas_wanted,
            contexts: vec![spec.clone()],
        };
        match self.propose(command).await? {
            CommandOutcome::Created { group, contexts } => {
                let context = contexts.first().copied().unwrap_or_default();
                self.first_record(group, context, spec.kind, new.first, options.repeat, deadline).await
            }
            other => Err(self.not_applied(&format!("{other:?}")).into()),
        }
    }

    fn bundle_led_here(&self, bundle: &str) -> Option<GroupId> {
        let directory = self.inner.parts.directory.read();
        let group = directory.bundle_home(bundle)?;
        (directory.group(group)?.primary == self.inner.parts.member).then_some(group)
    }

    /// The members that a new group begins with: this node and the best others that are up and may have the data.
    fn first_set(&self, me: Member, spec: &ContextSpec, salt: u64) -> BTreeSet<Member> {
        let live: BTreeSet<Member> = {
            let directory = self.inner.parts.directory.read();
            let hosting = self.actors().map(|a| &a.hosting);
            let may =
                |m: &Member| spec.pinned || hosting.is_none_or(|h| h.permits(&directory, &spec.keys, me.node, m.node));
            directory.live().filter(may).collect()
        };
        let mut set = BTreeSet::from([me]);
        while set.len() < usize::from(self.inner.options.replicas_wanted) {
            let Some(next) = place::next_replica(GroupId::made(0, salt, 0), &set, &live) else { break };
            set.insert(next);
        }
        set
    }

    async fn create_in(
        &self,
        group: GroupId,
        spec: ContextSpec,
        first: Op,
        repeat: Option<RepeatKey>,
        deadline: Mono,
    ) -> Result<(Place, Answer), CreateError> {
        let placement = self.inner.parts.directory.read().group(group).cloned();
        let Some(p) = placement else { return Err(CallError::NotFound.into()) };
        if p.primary.node != self.inner.parts.member.node {
            let body = CallBody::CreateIn { group, spec, repeat };
            let (end, reply) = self.send_call(p.primary.node, group, &body, first, self.left(deadline)).await;
            return match (end, reply) {
                (WriteReply::Answer(answer), Some(CallReply::Created(context))) => {
                    self.inner.parts.directory.linearizable(self.left(deadline)).await.ok();
                    let place = self.inner.parts.directory.read().place(context).ok_or(CallError::Deleted)?;
                    Ok((place, answer))
                }
                (_, Some(CallReply::KeyTaken { key, holder })) => Err(CreateError::KeyTaken { key, holder }),
                (_, Some(CallReply::GroupFull { contexts_max })) => Err(CreateError::GroupFull { contexts_max }),
                (end, _) => Err(CreateError::Call(into_error(end, self.inner.options.limits.repeat_window_ms))),
            };
        }
        // Rule 16: creation inside a group goes through its primary. The version may move meanwhile: a few tries.
        let nonce = self.nonce();
        for _ in 0..8 {
            let base = self.inner.parts.directory.read().group(group).map(|p| p.base(group));
            let Some(base) = base else { return Err(CallError::NotFound.into()) };
            match self.propose(Command::AddContext { base, nonce, spec: spec.clone() }).await? {
                CommandOutcome::Created { group, contexts } => {
                    let context = contexts.first().copied().unwrap_or_default();
                    return self.first_record(group, context, spec.kind, first, repeat, deadline).await;
                }
                CommandOutcome::Refused(Refusal::Stale { .. }) => self.wait_apply(WAIT_APPLY).await,
                other => return Err(self.not_applied(&format!("{other:?}")).into()),
            }
        }
        Err(self.not_applied("the group is changing").into())
    }

    /// Rule 13: registration precedes data. The first record follows the directory's entry.
    async fn first_record(
        &self,
        group: GroupId,
        context: ContextId,
        kind: ContextKind,
        first: Op,
        repeat: Option<RepeatKey>,
        deadline: Mono,
    ) -> Result<(Place, Answer), CreateError> {
        while self.known(context).is_none() && !self.left(deadline).is_zero() {
            self.wait_apply(WAIT_APPLY.min(self.left(deadline))).await;
        }
        let reply = self.write_here(group, (context, Some(kind), first, repeat), deadline, None).await;
        match reply {
            WriteReply::Answer(answer) => {
                let place = self.inner.parts.directory.read().place(context).ok_or(CallError::Deleted)?;
                Ok((place, answer))
            }
            other => {
                let error = into_error(other, self.inner.options.limits.repeat_window_ms);
                if matches!(error, CallError::NotApplied { .. } | CallError::NotFound) {
                    // The first record was never logged: the names are free again at once.
                    self.take_back(group, context).await;
                }
                Err(CreateError::Call(error))
            }
        }
    }

    /// Removes a context that has no first record.
    async fn take_back(&self, group: GroupId, context: ContextId) {
        for _ in 0..8 {
            let base = self.inner.parts.directory.read().group(group).map(|p| p.base(group));
            let Some(base) = base else { return };
            match self.propose(Command::DeleteContext { base, context }).await {
                Ok(CommandOutcome::Refused(Refusal::Stale { .. })) => self.wait_apply(WAIT_APPLY).await,
                _ => return,
            }
        }
    }
}

fn into_error(end: WriteReply, window_ms: u64) -> CallError {
    match end {
        WriteReply::NotApplied { reason, retry_after } => CallError::NotApplied { reason, retry_after },
        WriteReply::Unknown { reason } => CallError::Unknown { reason },
        WriteReply::NotFound => CallError::NotFound,
        WriteReply::Deleted => CallError::Deleted,
        WriteReply::RepeatWindow => CallError::RepeatWindow { window_ms },
        WriteReply::NotHere { .. } | WriteReply::Answer(_) => {
            CallError::NotApplied { reason: "the group has another primary now".into(), retry_after: WAIT_APPLY }
        }
    }
}

fn from_result(result: Result<Answer, CallError>) -> WriteReply {
    match result {
        Ok(answer) => WriteReply::Answer(answer),
        Err(CallError::NotApplied { reason, retry_after }) => WriteReply::NotApplied { reason, retry_after },
        Err(CallError::Unknown { reason }) => WriteReply::Unknown { reason },
        Err(CallError::NotFound) => WriteReply::NotFound,
        Err(CallError::Deleted) => WriteReply::Deleted,
        Err(CallError::RepeatWindow { .. }) => WriteReply::RepeatWindow,
    }
}

fn read_reply(message: Message, retry: Duration) -> (WriteReply, Option<CallReply>) {
    let Ok(reply) = codec::decode::<CallReply>(&message.body) else {
        return (WriteReply::unknown("an answer that cannot be read"), None);
    };
    let mut parts = message.attachments.into_iter().map(|rope| rope.to_contiguous(&onemec_wire::CopyMeter::default()));
    let mut answer = || Answer { head: parts.next().unwrap_or_default(), body: parts.next().unwrap_or_default() };
    let end = match &reply {
        CallReply::Answer | CallReply::Created(_) => WriteReply::Answer(answer()),
        CallReply::KeyTaken { .. } => WriteReply::not_applied("a key is taken", retry),
        CallReply::GroupFull { .. } => WriteReply::not_applied("the group is full", retry),
        CallReply::NotApplied { reason, retry_ms } => {
            WriteReply::not_applied(reason.clone(), Duration::from_millis(u64::from(*retry_ms)))
        }
        CallReply::Unknown { reason } => WriteReply::unknown(reason.clone()),
        CallReply::NotHere { primary, epoch } => WriteReply::NotHere { primary: *primary, epoch: *epoch },
        CallReply::NotFound => WriteReply::NotFound,
        CallReply::Deleted => WriteReply::Deleted,
        CallReply::RepeatWindow => WriteReply::RepeatWindow,
    };
    (end, Some(reply))
}

fn send_reply(reply: Replier, end: WriteReply) {
    let mut payload = None;
    let body = match end {
        WriteReply::Answer(answer) => {
            payload = Some(answer);
            CallReply::Answer
        }
        WriteReply::NotApplied { reason, retry_after } => {
            CallReply::NotApplied { reason, retry_ms: retry_after.as_millis() as u32 }
        }
        WriteReply::Unknown { reason } => CallReply::Unknown { reason },
        WriteReply::NotHere { primary, epoch } => CallReply::NotHere { primary, epoch },
        WriteReply::NotFound => CallReply::NotFound,
        WriteReply::Deleted => CallReply::Deleted,
        WriteReply::RepeatWindow => CallReply::RepeatWindow,
    };
    send_body(reply, &body, payload);
}

fn send_created(reply: Replier, made: Result<(Place, Answer), CreateError>) {
    match made {
        Ok((place, answer)) => send_body(reply, &CallReply::Created(place.context), Some(answer)),
        Err(CreateError::KeyTaken { key, holder }) => send_body(reply, &CallReply::KeyTaken { key, holder }, None),
        Err(CreateError::GroupFull { contexts_max }) => {
            send_body(reply, &CallReply::GroupFull { contexts_max }, None);
        }
        Err(CreateError::Call(e)) => send_reply(reply, from_result(Err(e))),
    }
}

fn send_body(reply: Replier, body: &CallReply, answer: Option<Answer>) {
    match codec::encode(body) {
        Ok(bytes) => {
            let mut message = Message::answer(bytes);
            if let Some(a) = answer {
                message = message.with(a.head).with(a.body);
            }
            reply.reply(message);
        }
        Err(e) => reply.fail(onemec_wire::code::SERVICE_CODE_MIN, &e.to_string()),
    }
}

impl Contexts for Runtime {
    fn node(&self) -> NodeId {
        self.inner.parts.member.node
    }
    fn now_ms(&self) -> u64 {
        self.inner.parts.clock.wall_ms()
    }
    fn may_acknowledge(&self) -> bool {
        self.inner.parts.lease.is_valid()
    }
    fn by_key(&self, key: &Key) -> Option<Place> {
        self.inner.parts.directory.read().place_by_key(key)
    }
    fn by_id(&self, context: ContextId) -> Option<Place> {
        self.inner.parts.directory.read().place(context)
    }
    fn by_key_linearizable(&self, key: Key, deadline: Duration) -> BoxFuture<'_, Result<Option<Place>, CallError>> {
        Box::pin(async move {
            match self.inner.parts.directory.linearizable(deadline).await {
                Ok(_) => Ok(self.by_key(&key)),
                Err(e) => Err(self.not_applied(&e.to_string())),
            }
        })
    }
    fn at_home(&self, home: NodeId, kind: ContextKind, after: Option<ContextId>, limit: usize) -> Vec<Place> {
        let directory = self.inner.parts.directory.read();
        directory.at_home(home, kind, after).filter_map(|(id, _)| directory.place(id)).take(limit).collect()
    }
    fn create(&self, new: NewContext, options: CallOptions) -> BoxFuture<'_, Result<(Place, Answer), CreateError>> {
        Box::pin(self.create_context(new, options))
    }
    fn set_bundle(&self, context: ContextId, bundle: Option<String>) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            match self.propose(Command::SetBundle { context, bundle }).await {
                Ok(_) => Ok(()), // refused: the context is gone
                Err(CreateError::Call(e)) => Err(e),
                Err(CreateError::KeyTaken { .. } | CreateError::GroupFull { .. }) => {
                    Err(self.not_applied("the directory did not take it"))
                }
            }
        })
    }
    fn set_keys(
        &self,
        context: ContextId,
        claim: Vec<Key>,
        release: Vec<Key>,
    ) -> BoxFuture<'_, Result<(), CreateError>> {
        Box::pin(async move {
            match self.propose(Command::SetKeys { context, claim, release }).await? {
                CommandOutcome::Refused(Refusal::NoContext) => Err(CallError::NotFound.into()),
                CommandOutcome::Refused(refusal) => Err(self.not_applied(&refusal.to_string()).into()),
                _ => Ok(()),
            }
        })
    }
    fn write(&self, context: ContextId, op: Op, options: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>> {
        let repeat = options.repeat.clone();
        Box::pin(self.call(context, Ask::Write { op, repeat }, options, None))
    }
    fn read(&self, context: ContextId, op: Op, options: CallOptions) -> BoxFuture<'_, Result<Answer, CallError>> {
        Box::pin(self.call(context, Ask::Read { op }, options, None))
    }
    fn activate(&self, context: ContextId, deadline: Duration) -> BoxFuture<'_, Result<(), CallError>> {
        Box::pin(async move {
            let Some((group, known)) = self.known(context) else { return Err(self.gone(context)) };
            if known.primary != self.node() {
                return Err(self.not_applied("it is served by another node"));
            }
            let until = self.inner.parts.clock.mono() + deadline;
            let here = self.in_memory(group, until).await;
            here.map(drop).ok_or_else(|| self.not_applied("the context did not come into memory in time"))
        })
    }
}
