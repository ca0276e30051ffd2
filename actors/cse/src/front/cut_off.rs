//! While the node is cut off (DESIGN.md section 4, local buffering): a new contentInstance of a device of this CSE is taken
//! into the local buffer and answered ACCEPTED, HTTP 202: accepted, not committed. After the heal it is appended as any
//! client would do it, trying again until the end is known, wherever its context is served by then.
//!
//! - Only what was not handed to the runtime is buffered, so nothing is done twice; what is appended twice is recognised by
//!   its key ([`crate::op::TreeOp::Append`]).
//! - A request that is marked as repeatable is not buffered: its sender repeats it, perhaps elsewhere.
//! - While something waits for a context, new writes of this door to it wait behind that, so their order stays.
//! - The originator's privilege is checked against what this node last knew, and again when it is appended.

use std::time::Duration;

use onemec_core::buffer::{BufferError, BufferFill, BufferKey, Left};
use onemec_core::context::{ContextKind, Op, Place};
use onemec_onem2m::{Refusal, Rsc, Ty};
use onemec_wire::ContextId;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::exec::Trouble;
use super::{Cse, Handled, Inner, Job};
use crate::access::Stop;
use crate::op::{Action, TreeOp, Write};

/// Contexts that get what waits for them at the same time.
const APPENDS_MAX: usize = 32;
/// Pause after an attempt that failed, and between looks at the lease.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a write looks whether what waits before it is gone.
const LOOK: Duration = Duration::from_millis(5);
/// When to come back to a full buffer, or to one that is being emptied.
const FULL_RETRY_MS: u64 = 1_000;
const BUSY_RETRY_MS: u64 = 100;

impl Cse {
    /// How full the local buffer is; `None` if the node has none.
    pub fn buffer_fill(&self) -> Option<BufferFill> {
        self.inner.buffer.as_ref().map(|b| b.fill())
    }

    /// Appends what lies in the local buffer whenever the node may act. Never ends.
    pub async fn append_buffered(&self) {
        let Some(buffer) = &self.inner.buffer else { return std::future::pending().await };
        loop {
            let waiting = buffer.contexts(APPENDS_MAX);
            if waiting.is_empty() {
                self.inner.buffered.notified().await;
                continue;
            }
            if !self.inner.contexts.may_acknowledge() {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            let mut appending = JoinSet::new();
            for context in waiting {
                let cse = self.clone();
                appending.spawn(async move { cse.inner.append_all(context).await });
            }
            let all = appending.join_all().await.into_iter().all(|done| done);
            if !all {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Inner {
    /// Takes a write into the local buffer if this is the moment for it; `None`: it goes the ordinary way.
    pub(super) async fn accept(&self, job: &Job<'_>, place: &Place, write: &Write) -> Result<Option<Handled>, Trouble> {
        let Some(buffer) = &self.buffer else { return Ok(None) };
        let cut_off = !self.contexts.may_acknowledge();
        if !cut_off && !buffer.holds(place.context) {
            return Ok(None);
        }
        if !cut_off {
            return self.wait_behind(job, place).await.map(|()| None);
        }
        let of_own_device = place.kind == ContextKind::AE && place.home == self.contexts.node();
        let append_only = write.action == Action::Create(Ty::CONTENT_INSTANCE.0);
        if !of_own_device || !append_only || job.call.repeat.is_some() {
            return Ok(None);
        }
        let body = job.request.pc.clone().unwrap_or_default();
        // It may have left memory; whether it may be served does not matter here.
        drop(self.served(place, &job.call).await);
        self.check_as_known(place, write, &body)?;
        let op = TreeOp::Write(Box::new(write.clone())).op(body);
        let key = buffer.put(place.context, op).await.map_err(|error| {
            let retry_ms = if error == BufferError::Full { FULL_RETRY_MS } else { BUSY_RETRY_MS };
            Trouble::NotApplied { reason: format!("this node is cut off and {error}"), retry_ms }
        })?;
        self.buffered.notify_one();
        let mut handled = Handled::from(self.done(job.request, Rsc::ACCEPTED.0, bytes::Bytes::new()));
        handled.buffered = Some(key);
        Ok(Some(handled))
    }

    /// Lets what was accepted before go first.
    async fn wait_behind(&self, job: &Job<'_>, place: &Place) -> Result<(), Trouble> {
        let until = Instant::now() + job.call.deadline / 2;
        while self.buffer.as_ref().is_some_and(|b| b.holds(place.context)) {
            if Instant::now() > until {
                let reason = "what was accepted before, while this node was cut off, is not appended yet".into();
                return Err(Trouble::NotApplied { reason, retry_ms: BUSY_RETRY_MS });
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// All checks of the write against what this node last knew. What it would have to ask others for is not known.
    fn check_as_known(&self, place: &Place, write: &Write, body: &bytes::Bytes) -> Result<(), Trouble> {
        let unknown = |reason: &str| Trouble::NotApplied { reason: reason.into(), retry_ms: FULL_RETRY_MS };
        let served = self.index.last_known(place.context);
        let served = served.ok_or_else(|| unknown("this node is cut off and does not serve the resource"))?;
        let tree = served.tree.read();
        match crate::machine::plan(&tree, &*served.history, self.contexts.now_ms(), write, body) {
            Ok(()) => Ok(()),
            Err(Stop::Refused(refusal)) => Err(refusal.into()),
            Err(Stop::Needs(_)) => Err(unknown("this node is cut off and cannot decide on access")),
        }
    }

    /// Appends what waits for a context, in order. False if something was not appended and has to be tried again.
    async fn append_all(&self, context: ContextId) -> bool {
        let Some(buffer) = &self.buffer else { return true };
        while let Some((key, op)) = buffer.first(context) {
            let how = match self.append(context, key, op).await {
                Ok(()) => Left::Appended,
                Err(Trouble::Refused(refusal)) => {
                    tracing::warn!(%context, %key, rsc = %refusal.rsc, "what was buffered is refused: {}", refusal.debug);
                    Left::Refused
                }
                Err(trouble) => {
                    let reason = trouble.refusal().debug;
                    tracing::debug!(%context, %key, reason, "what was buffered will be tried again");
                    return false;
                }
            };
            buffer.left(context, key, how);
        }
        true
    }

    async fn append(&self, context: ContextId, key: BufferKey, op: Op) -> Result<(), Trouble> {
        let unreadable = || Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "it cannot be read");
        let Some(TreeOp::Write(mut write)) = TreeOp::read(&op.head) else { return Err(unreadable().into()) };
        let Some(place) = self.contexts.by_id(context) else {
            // Perhaps our view of the directory is old: the call itself finds out.
            return self.write_as(context, *write, Some(key), op.body, &self.internal_call()).await.map(drop);
        };
        // Where it is at home by now; and an originator whose own AE is gone has no say any more.
        write.home = self.home_of(&place).await?;
        if write.who.context.is_some_and(|c| self.contexts.by_id(c).is_none()) {
            let gone = Refusal::new(Rsc::ORIGINATOR_NOT_AUTHENTICATED, "the originator is gone");
            return Err(gone.into());
        }
        self.write_as(context, *write, Some(key), op.body, &self.internal_call()).await.map(drop)
    }
}
