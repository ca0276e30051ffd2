//! Delivery of effects: one task per lane while the lane has work, in order, with a short backoff.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use onemec_core::context::{Delivery, Effect, EffectId};
use onemec_wire::RecordKind;

use super::node::MemoryNode;
use super::slot::Slot;

const DEADLINE: Duration = Duration::from_secs(5);
const BACKOFF: Duration = Duration::from_millis(20);

/// Effects that wait, by lane. A lane that is present has a running task.
#[derive(Default)]
pub(super) struct Lanes(DashMap<u64, VecDeque<(EffectId, Effect)>>);

impl Lanes {
    /// Nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

pub(super) fn enqueue(node: &Arc<MemoryNode>, slot: &Arc<Slot>, effects: Vec<(EffectId, Effect)>) {
    if node.effect_handler().is_none() {
        return;
    }
    for (id, effect) in effects {
        let lane = effect.lane;
        let mut start = false;
        slot.lanes
            .0
            .entry(lane)
            .or_insert_with(|| {
                start = true;
                VecDeque::new()
            })
            .push_back((id, effect));
        if start && let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(run_lane(Arc::clone(node), Arc::clone(slot), lane));
        }
    }
}

async fn run_lane(node: Arc<MemoryNode>, slot: Arc<Slot>, lane: u64) {
    let Some(handler) = node.effect_handler() else { return };
    loop {
        let Some((id, effect)) = slot.lanes.0.get(&lane).and_then(|q| q.front().cloned()) else {
            // Removed only if still empty: `remove_if` decides under the shard's lock.
            if slot.lanes.0.remove_if(&lane, |_, q| q.is_empty()).is_some() {
                return;
            }
            continue;
        };
        match handler.deliver(id, effect, DEADLINE).await {
            Delivery::Retry(_) => tokio::time::sleep(BACKOFF).await,
            Delivery::Done(op) => {
                if let Some(mut q) = slot.lanes.0.get_mut(&lane) {
                    q.pop_front();
                }
                if let Some(op) = op {
                    let cluster = node.cluster();
                    if let Some(applied) = slot.write(RecordKind::Operation, cluster.now_ms(), &op, None) {
                        cluster.after(&slot, applied);
                    }
                }
            }
        }
    }
}
