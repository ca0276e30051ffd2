//! Carries out move requests, whoever asks: the best candidate, then the alternates, with pauses and look-ups where an end
//! is not known (rows G07, H10).

use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::Contexts as _;
use onemec_mobility::attempts::{AttemptOptions, Attempts, GaveUp, pursue};
use onemec_mobility::candidates::ExclusionCode;
use onemec_mobility::strategy::{MoveReason, MoveRequest};
use onemec_runtime::exec::{MoveRecord, Runtime};
use onemec_wire::{GroupId, NodeId};
use parking_lot::Mutex;

use super::targets::Targets;

/// A look-up that is not stale takes no longer.
const LOOK_UP_MAX: Duration = Duration::from_secs(2);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Mover {
    pub(super) runtime: Runtime,
    pub(super) targets: Arc<Targets>,
    /// Default of a move's time.
    pub(super) move_max: Duration,
}

/// How a request ended well.
pub(super) struct Moved {
    pub(super) target: NodeId,
    /// The move that did it; `None` if somebody else had moved it there.
    pub(super) record: Option<MoveRecord>,
}

impl Mover {
    /// Moves what the request names. `within`: of all attempts together; left out: the topology's.
    pub(super) async fn carry_out(&self, request: &MoveRequest, within: Option<Duration>) -> Result<Moved, GaveUp> {
        let gave_up = |code: &str, text: String| GaveUp { code: code.into(), text };
        let of = |context| self.runtime.by_id(context).map(|place| place.group);
        let group = request.group(of).map_err(|e| gave_up(e.code(), e.to_string()))?;
        let Some(primary) = self.primary(group) else {
            return Err(gave_up("no-group", "there is no such group".into()));
        };
        if request.target == Some(primary) {
            return Ok(Moved { target: primary, record: None });
        }
        let order = match request.target {
            Some(target) => vec![target],
            None => self.targets.order(group, request.reason == MoveReason::Drain),
        };
        if order.is_empty()
            && let Some(text) = self.targets.forbidden(group)
        {
            return Err(gave_up(ExclusionCode::Residency.as_str(), text));
        }
        let within = within.unwrap_or(self.move_max);
        let begun = tokio::time::Instant::now();
        let clock = move || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let deadline_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let mut attempts = Attempts::new(order, AttemptOptions::default(), deadline_ms, group.index());
        let record = Mutex::new(None);
        let try_move = |target: NodeId| {
            let record = &record;
            async move {
                let left = within.saturating_sub(begun.elapsed());
                let moved =
                    self.runtime.move_group(group, target, request.reason.as_str(), request.attachment, left).await;
                moved.map(|done| *record.lock() = Some(done)).map_err(|e| (e.code, e.reason))
            }
        };
        let look_up = || async {
            self.runtime.directory().linearizable(LOOK_UP_MAX).await.ok()?;
            self.primary(group)
        };
        let target = pursue(&mut attempts, &clock, try_move, look_up).await?;
        Ok(Moved { target, record: record.into_inner() })
    }

    pub(super) fn primary(&self, group: GroupId) -> Option<NodeId> {
        self.runtime.directory().read().group(group).map(|p| p.primary.node)
    }
}
