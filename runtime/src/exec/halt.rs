//! Points at which a test stops this process, to kill, cut off or overtake it in exactly that state of a move.
//!
//! Builds without debug assertions, so every release, hold nothing of it: neither the check nor the file's name.

/// The states of a move (DESIGN.md section 5) as this node passes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Point {
    /// Source: the order is accepted, the target begins to catch up.
    Prepare,
    /// Target: what it needs to be ready has come; it is stored next.
    Ready,
    /// Source: the gate is closed, operations are parked.
    Freeze,
    /// Source: target and set hold the sealed log; the transfer is proposed next.
    Transfer,
    /// Target: its gate opens next.
    Activate,
    /// Source: it has learnt that another node leads; parked operations are forwarded next.
    Settle,
}

/// Says that a point is reached. If the file that `ONEMEC_HALT_FILE` names holds the point's name, the file is removed
/// and the process stops itself (SIGSTOP) until somebody continues or kills it.
#[cfg(debug_assertions)]
pub(super) fn reached(point: Point) {
    use std::path::PathBuf;
    use std::sync::OnceLock;
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let Some(file) = FILE.get_or_init(|| std::env::var_os("ONEMEC_HALT_FILE").map(PathBuf::from)) else { return };
    let wanted = std::fs::read_to_string(file).unwrap_or_default();
    if wanted.trim() != format!("{point:?}").to_lowercase() || std::fs::remove_file(file).is_err() {
        return;
    }
    tracing::warn!("{point:?} is reached: this process stops itself for a test");
    if rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).is_ok() {
        // The signal stops all threads a moment after it was sent; this one is not to run on meanwhile.
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Nothing: see the module.
#[cfg(not(debug_assertions))]
pub(super) fn reached(_: Point) {}
