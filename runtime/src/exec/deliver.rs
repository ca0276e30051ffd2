//! Effects leave the node here.

use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::{Delivery, Effect, EffectId};
use onemec_core::contexts::Lane;

use super::group::GroupMsg;
use super::{Deliverer, Runtime};

/// One attempt may take so long.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);

struct Out {
    runtime: Runtime,
}

impl Runtime {
    pub(super) fn deliverer(&self) -> Arc<dyn Deliverer> {
        Arc::new(Out { runtime: self.clone() })
    }
}

impl Deliverer for Out {
    fn deliver(&self, id: EffectId, lane: Lane, effect: Effect, group: Arc<dyn Fn(GroupMsg) + Send + Sync>) {
        let runtime = self.runtime.clone();
        tokio::spawn(async move {
            let kind = runtime.inner.parts.directory.read().context(id.context).map(|c| c.kind);
            let handler = kind.and_then(|k| runtime.actors()?.effects.get(&k).cloned());
            let delivery = match handler {
                Some(h) => tokio::time::timeout(ATTEMPT_MAX, h.deliver(id, effect, ATTEMPT_MAX))
                    .await
                    .unwrap_or(Delivery::Retry(None)),
                // Nobody here delivers for this kind: it would wait for ever.
                None => Delivery::Done(None),
            };
            group(match delivery {
                Delivery::Done(op) => GroupMsg::Delivered(id, lane, op),
                Delivery::Retry(after) => GroupMsg::Undelivered(lane, after),
            });
        });
    }
}
