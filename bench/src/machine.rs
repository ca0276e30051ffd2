//! What ran the measurement: who reads a table must be able to judge how quiet the machine was.

use serde::Serialize;

/// The machine at one moment.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    /// Processors that this process may use.
    pub(crate) cpus: usize,
    /// Load averages over 1, 5 and 15 minutes, as the kernel writes them.
    pub(crate) load: String,
    /// Kernel release.
    pub(crate) kernel: String,
    /// Milliseconds since 1970.
    pub(crate) at_ms: u64,
    /// `release` or `debug`: only the former says anything.
    pub(crate) profile: &'static str,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            load: read("/proc/loadavg").split(' ').take(3).collect::<Vec<_>>().join(" "),
            kernel: read("/proc/sys/kernel/osrelease"),
            at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX),
            profile: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}
