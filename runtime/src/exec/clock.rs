//! The node's clocks. `CLOCK_BOOTTIME` decides, wall time is for people and log time (rule 3).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use onemec_core::time::Mono;

/// `CLOCK_BOOTTIME` now.
pub fn boottime() -> Mono {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Mono((t.tv_sec as u64) * 1_000_000_000 + t.tv_nsec as u64)
}

/// Reads both clocks. Cheap to clone; clones share the guard against wall time that goes back.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    latest_ms: Arc<AtomicU64>,
}

impl Clock {
    /// `CLOCK_BOOTTIME`.
    pub fn mono(&self) -> Mono {
        boottime()
    }

    /// Milliseconds since 1970; never goes back within a boot.
    pub fn wall_ms(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
        self.latest_ms.fetch_max(now, Ordering::AcqRel).max(now)
    }
}
