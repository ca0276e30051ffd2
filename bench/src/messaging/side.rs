//! What both sides can do.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::latency::Latency;

/// Length of a question and of its answer, without any header.
pub(super) const ASK_BYTES: usize = 64;
/// Bytes of one-way messages between two looks at the clock, after which the transport gets its turn.
pub(super) const BURST_BYTES: usize = 64 << 10;
/// Length of a piece of bulk.
pub(super) const PIECE_BYTES: usize = 64 << 10;
/// Pieces that are handed over at once.
pub(super) const PIECES: usize = 16;

/// What [`Side::asks`] measured.
#[derive(Debug)]
pub(crate) struct Outstanding {
    /// Answers per second.
    pub(crate) rate: f64,
    /// From question to answer.
    pub(crate) latency: Latency,
}

/// How long something goes on.
#[derive(Debug, Clone)]
pub(crate) struct Pace(Arc<AtomicBool>);

impl Pace {
    pub(crate) fn begin() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }
    pub(crate) fn end(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub(super) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bulk under way, beside which the side can be used further.
pub(crate) type Bulk = Pin<Box<dyn Future<Output = anyhow::Result<f64>>>>;

/// One of the two programs that are compared. Everything runs on the current thread.
pub(crate) trait Side {
    /// Asks with so many questions outstanding.
    async fn asks(&mut self, outstanding: usize, time: Duration) -> anyhow::Result<Outstanding>;

    /// Sends messages of so many bytes that want no answer, as fast as they go; those per second that have arrived.
    async fn tells(&mut self, bytes: usize, time: Duration) -> anyhow::Result<f64>;

    /// Moves bytes from memory to memory on the other connection until the pace is over; bytes per second, counted when the
    /// far end has confirmed them.
    fn bulk(&self, pace: Pace) -> Bulk;
}

pub(super) fn per_second(count: u64, begun: Instant) -> f64 {
    #[allow(clippy::cast_precision_loss)] // nobody counts to 2^53 here
    let count = count as f64;
    count / begun.elapsed().as_secs_f64()
}
