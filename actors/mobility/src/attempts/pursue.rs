//! Runs a request's attempts with the caller's means.

use std::future::Future;
use std::time::Duration;

use onemec_wire::NodeId;
use tokio::time::sleep;

use super::{Attempts, GaveUp, Next};

/// Pause between two look-ups that failed.
const LOOK_UP_PAUSE: Duration = Duration::from_millis(50);

/// Tells the time in milliseconds, on the clock of [`Attempts`]' deadline.
pub trait PursueClock {
    /// Now.
    fn now_ms(&self) -> u64;
}

impl<F: Fn() -> u64> PursueClock for F {
    fn now_ms(&self) -> u64 {
        self()
    }
}

/// Tries until an end is reached. `try_move` ends by itself (the runtime's move has deadlines); its error is code and
/// sentence. `look_up` gives the group's primary with a look-up that is not stale.
pub async fn pursue<M, MF, L, LF>(
    attempts: &mut Attempts,
    clock: &impl PursueClock,
    mut try_move: M,
    mut look_up: L,
) -> Result<NodeId, GaveUp>
where
    M: FnMut(NodeId) -> MF,
    MF: Future<Output = Result<(), (String, String)>>,
    L: FnMut() -> LF,
    LF: Future<Output = Option<NodeId>>,
{
    loop {
        match attempts.next(clock.now_ms()) {
            Next::Try(target) => match try_move(target).await {
                Ok(()) => attempts.moved(),
                Err((code, text)) => attempts.failed(clock.now_ms(), &code, &text),
            },
            Next::Wait { until_ms } => {
                sleep(Duration::from_millis(until_ms.saturating_sub(clock.now_ms()).max(1))).await;
            }
            Next::LookUp => {
                let primary = look_up().await;
                attempts.placed(clock.now_ms(), primary);
                if primary.is_none() {
                    sleep(LOOK_UP_PAUSE).await;
                }
            }
            Next::Moved(target) => return Ok(target),
            Next::GaveUp(end) => return Err(end),
        }
    }
}
