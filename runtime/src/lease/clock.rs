//! The one clock that decides (rule 3).

use onemec_core::time::Mono;
use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_BOOTTIME`: goes on while the machine sleeps, and is set by nobody.
pub fn boottime() -> Mono {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    Mono(u64::try_from(now.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000).saturating_add(nanos))
}
