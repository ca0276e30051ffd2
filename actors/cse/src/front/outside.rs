//! What notifications and other nodes need of a CSE.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::context::{Answer, BoxFuture, CallError, Op, ReadHandler};
use onemec_onem2m::access::Operations;
use onemec_onem2m::{AttrId, CseIdentity, Refusal, Rsc};
use onemec_wire::ContextId;

use super::Cse;
use super::exec::Done;
use crate::access::{Asker, Stop};
use crate::notify::{Answered, Sender};
use crate::op::{self, ReadOp, Reply, ResourceFacts};
use crate::view::View;

impl Cse {
    pub(crate) fn sender(&self) -> &Arc<Sender> {
        &self.inner.sender
    }

    /// Notifications that receivers refused, and that were tried for too long, since the start.
    pub fn notifications_dropped(&self) -> (u64, u64) {
        self.inner.sender.dropped.read()
    }

    /// Tells the directory which node (device) an AE belongs to.
    pub(crate) async fn set_bundle(&self, context: ContextId, node_link: Option<&str>) -> Result<(), CallError> {
        let home = self.home_identity(context).await;
        let bundle = node_link.map(|nl| super::register::bundle_of(nl, &home));
        self.inner.contexts.set_bundle(context, bundle).await
    }

    /// The CSE where a context is at home; this one if that is not known.
    pub(crate) async fn home_identity(&self, context: ContextId) -> CseIdentity {
        match self.inner.contexts.by_id(context) {
            Some(place) => match self.inner.identity_of(place.home).await {
                Ok(identity) => identity.into_owned(),
                Err(_) => self.inner.me.clone(),
            },
            None => self.inner.me.clone(),
        }
    }

    /// The AE-ID of an AE that is served here.
    pub(crate) fn ae_id(&self, context: ContextId) -> Option<String> {
        let served = self.inner.index.open(context)?;
        let tree = served.tree.read();
        tree.root()?.fixed_id.clone()
    }

    pub(crate) async fn notify_target(
        &self,
        target: &str,
        body: Bytes,
        rqi: String,
        from: &CseIdentity,
    ) -> Result<Answered, Refusal> {
        self.inner.notify_target(target, body, rqi, from).await
    }

    async fn answer_read(&self, context: ContextId, op: &Op) -> Answer {
        let refused = |rsc, text: &str| Reply::refused(&Refusal::new(rsc, text)).answer(Bytes::new());
        let Some(op) = crate::codec::decode::<ReadOp>(&op.head) else {
            return refused(Rsc::BAD_REQUEST, "the read cannot be read");
        };
        let (Some(served), Some(place)) = (self.inner.index.open(context), self.inner.contexts.by_id(context)) else {
            return refused(Rsc::TARGET_NOT_REACHABLE, "the context is not served here");
        };
        let now_ms = self.now_ms();
        match op {
            ReadOp::Gather(read, ms) => {
                let deadline = Duration::from_millis(ms.into());
                match self.inner.gather_here(&place, *read, deadline).await {
                    Ok(Done { next_offset, missing, body, .. }) => {
                        Reply::Gathered { next_offset, missing }.answer(body)
                    }
                    Err(trouble) => Reply::refused(&trouble.refusal()).answer(Bytes::new()),
                }
            }
            ReadOp::Part(read, part) => {
                let (reply, body) = self.inner.part(&place, &read, part);
                reply.answer(body)
            }
            ReadOp::Retrieve(read) => match self.inner.retrieve_here(&served, &read) {
                Some(done) => crate::machine::answer(done),
                None => refused(Rsc::TARGET_NOT_REACHABLE, "the context is not served here any more"),
            },
            ReadOp::Discover(read) => match self.inner.discover_here(&served, &read) {
                Ok(found) => Reply::References(found.next_offset).answer(op::references_as_bytes(found.references)),
                Err(stop) => crate::machine::answer(Err(stop)),
            },
            ReadOp::Policy(target) => {
                let tree = served.tree.read();
                Reply::Policy(crate::access::policy_at(&tree, tree.find(&target))).answer(Bytes::new())
            }
            ReadOp::Facts(target) => {
                let tree = served.tree.read();
                let view = View { tree: &tree, history: &*served.history, home: &self.inner.me };
                Reply::Facts(crate::read::facts(&view, &target)).answer(Bytes::new())
            }
            ReadOp::Route(cse_id) => {
                let tree = served.tree.read();
                let facts = super::notify::remote_cse_in(&tree, &cse_id).map(|n| ResourceFacts {
                    rid: tree.rid(n.seq),
                    ty: n.ty.0,
                    poa: n.texts(AttrId::POA).map(str::to_owned).collect(),
                    ..ResourceFacts::default()
                });
                Reply::Facts(facts).answer(Bytes::new())
            }
            ReadOp::Way(read, operations) => {
                let home = read.home.identity();
                let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms };
                let tree = served.tree.read();
                match crate::read::way(&tree, &read.target, Operations(operations), &asker) {
                    Ok(way) => Reply::Way(way).answer(Bytes::new()),
                    Err(Stop::Refused(refusal)) => Reply::refused(&refusal).answer(Bytes::new()),
                    Err(Stop::Needs(needs)) => Reply::Needs(needs).answer(Bytes::new()),
                }
            }
        }
    }
}

impl ReadHandler for Cse {
    fn read(&self, context: ContextId, op: Op) -> BoxFuture<'_, Answer> {
        Box::pin(async move { self.answer_read(context, &op).await })
    }
}
