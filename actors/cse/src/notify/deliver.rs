//! Delivers the notifications that contexts want sent (TS-0004 7.5.1.2.2). At least once, in order for each subscription
//! and target; the request identifier is made of the effect's, so that a receiver recognises a repetition.

use std::time::Duration;

use onemec_core::context::{BoxFuture, Delivery, Effect, EffectHandler, EffectId};
use onemec_onem2m::Refusal;
use onemec_onem2m::notification::{Event, Notification, uri_representation};

use super::sender::Answered;
use super::verdict::{Verdict, verdict};
use crate::front::Cse;
use crate::machine::{BUNDLE_LANE, NAME_LANE, Notice, NoticeKind};
use crate::op::TreeOp;
use crate::tree::Creator;

/// Delivers the effects of AE and CSEBase contexts.
#[derive(Clone)]
pub struct NotifyHandler {
    cse: Cse,
}

impl NotifyHandler {
    /// A handler that sends in the name of a CSE.
    pub fn new(cse: Cse) -> Self {
        Self { cse }
    }

    async fn try_once(&self, id: EffectId, effect: &Effect, deadline: Duration) -> Delivery {
        if effect.lane == BUNDLE_LANE {
            return self.rebundle(id, effect).await;
        }
        if effect.lane == NAME_LANE {
            return self.give_up_name(id, effect).await;
        }
        let Some(notice) = crate::codec::decode::<Notice>(&effect.head) else {
            tracing::error!(context = %id.context, seq = %id.seq, "a notice cannot be read");
            return Delivery::Done(None);
        };
        let sent = tokio::time::timeout(deadline, self.send(id, &notice, effect)).await;
        let dropped = &self.cse.sender().dropped;
        let (failure, after) = match sent {
            Ok(Ok(answered)) => match verdict(&answered) {
                Verdict::Taken => {
                    let counted = notice.counts.then(|| TreeOp::Notified(notice.subscription).op(bytes::Bytes::new()));
                    return Delivery::Done(counted);
                }
                Verdict::Refused => {
                    dropped.refused();
                    let (status, rsc) = (answered.status.as_u16(), answered.response.rsc);
                    tracing::debug!(to = notice.to, status, %rsc, "a notification was refused");
                    return Delivery::Done(None);
                }
                Verdict::Again => (answered.response.rsc.to_string(), answered.retry_after),
            },
            Ok(Err(refusal)) => (refusal.debug, None),
            Err(_) => ("the deadline passed".to_owned(), None),
        };
        if self.cse.now_ms() > notice.at_ms.saturating_add(self.cse.sender().options().keep_ms) {
            dropped.expired();
            tracing::warn!(to = notice.to, failure, "a notification is given up");
            return Delivery::Done(None);
        }
        tracing::debug!(to = notice.to, failure, "a notification will be sent again");
        Delivery::Retry(after)
    }

    async fn rebundle(&self, id: EffectId, effect: &Effect) -> Delivery {
        let Some(node_link) = crate::codec::decode::<Option<String>>(&effect.head) else {
            tracing::error!(context = %id.context, seq = %id.seq, "a node link cannot be read");
            return Delivery::Done(None);
        };
        match self.cse.set_bundle(id.context, node_link.as_deref()).await {
            Ok(()) => Delivery::Done(None),
            Err(error) => {
                tracing::debug!(context = %id.context, %error, "the bundle will be told again");
                Delivery::Retry(None)
            }
        }
    }

    async fn give_up_name(&self, id: EffectId, effect: &Effect) -> Delivery {
        let Some(name) = crate::codec::decode::<String>(&effect.head) else {
            tracing::error!(context = %id.context, seq = %id.seq, "a name cannot be read");
            return Delivery::Done(None);
        };
        match self.cse.give_up_name(id.context, &name).await {
            Ok(()) => Delivery::Done(None),
            Err(refusal) => {
                tracing::debug!(context = %id.context, %refusal, "the name will be given up again");
                Delivery::Retry(None)
            }
        }
    }

    async fn send(&self, id: EffectId, notice: &Notice, effect: &Effect) -> Result<Answered, Refusal> {
        let home = self.cse.home_identity(id.context).await;
        let address = |path: &[String]| format!("{}/{}/{}", home.cse_id, home.base_name, path.join("/"));
        let mut body = Notification { sur: Some(address(&notice.path)), ..Notification::default() };
        body.cr = notice.creator.as_ref().map(|c| match c {
            Creator::Other(id) => id.to_string(),
            Creator::Cse => home.cse_id.to_string(),
            // The receiver may be anywhere: a stem leaves its registrar as an SP-relative identifier (TS-0001 7.2).
            Creator::Owner => home.normal_id(&self.cse.ae_id(id.context).unwrap_or_default()).into_owned(),
        });
        match &notice.kind {
            NoticeKind::Deleted => body.sud = true,
            NoticeKind::Event { net, address: subject } => {
                let rep = match subject {
                    Some(path) => uri_representation(&address(path)),
                    None => effect.body.clone(),
                };
                body.nev = Some(Event { rep: Some(rep), net: Some(*net), om: None });
            }
        }
        let rqi = format!("{}-{}", crate::rid::text(id.context, id.seq), id.ordinal);
        self.cse.notify_target(&notice.to, body.to_json().into(), rqi, &home).await
    }
}

impl EffectHandler for NotifyHandler {
    fn deliver(&self, id: EffectId, effect: Effect, deadline: Duration) -> BoxFuture<'_, Delivery> {
        Box::pin(async move { self.try_once(id, &effect, deadline).await })
    }
}
