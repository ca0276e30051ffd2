//! Runs a drain with the caller's means of moving.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use onemec_wire::GroupId;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{DrainPlan, DrainProgress};
use crate::strategy::{MoveRequest, Subject};

/// How a move ended: the error is code and sentence.
pub type MoveEnd = Result<(), (String, String)>;

/// Executes a [`DrainPlan`]. Dropping the future ends the moves that wait for their answer; what the runtime has begun
/// ends there.
#[derive(Debug)]
pub struct Drainer {
    progress: watch::Sender<DrainProgress>,
    cancel: watch::Receiver<bool>,
    move_max: Duration,
}

impl Drainer {
    /// `move_max`: a move without an end after this time counts as failed (`timeout`). `cancel`: set it to true to stop.
    /// The receiver tells the progress.
    pub fn new(move_max: Duration, cancel: watch::Receiver<bool>) -> (Self, watch::Receiver<DrainProgress>) {
        let (progress, told) = watch::channel(DrainProgress::default());
        (Self { progress, cancel, move_max }, told)
    }

    /// Runs the plan to its end. `mover` moves one group, with its own fallback ([`crate::attempts::pursue`]). A mover
    /// that panics fails its own group only (`crashed`).
    pub async fn run<M, F>(mut self, mut plan: DrainPlan, mover: M) -> DrainProgress
    where
        M: Fn(MoveRequest) -> F,
        F: Future<Output = MoveEnd> + Send + 'static,
    {
        let begun = Instant::now();
        let mut moves = JoinSet::new();
        let mut groups: HashMap<Id, GroupId> = HashMap::new();
        let mut may_cancel = true;
        loop {
            let now_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
            for request in plan.start(now_ms) {
                let Subject::Group(group) = request.subject else { continue };
                let moving = timeout(self.move_max, mover(request));
                groups.insert(moves.spawn(moving).id(), group);
            }
            self.progress.send_replace(plan.progress());
            if plan.is_over() {
                return plan.progress();
            }
            let next = plan.next_start_ms().map(|ms| begun + Duration::from_millis(ms));
            tokio::select! {
                Some(joined) = moves.join_next_with_id() => {
                    let (id, end) = match joined {
                        Ok((id, Ok(end))) => (id, end),
                        Ok((id, Err(_))) => (id, Err(("timeout".into(), "the move had no end in time".into()))),
                        Err(e) => (e.id(), Err(("crashed".into(), e.to_string()))),
                    };
                    if let Some(group) = groups.remove(&id) {
                        plan.ended(group, end);
                    }
                }
                () = sleep_until(next.unwrap_or(begun)), if next.is_some() => {}
                changed = self.cancel.wait_for(|c| *c), if may_cancel => {
                    // Once only; without a sender nobody can cancel.
                    if changed.is_ok() {
                        plan.cancel();
                    }
                    may_cancel = false;
                }
            }
        }
    }
}
