//! The supervision tree of a node as `onemec status` shows it, and the backoff of restarts.
//!
//! ractor supervises; its registries are process-wide, so names live here, one tree per node.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

/// Crashes within this time belong together.
const LOOP_WINDOW: Duration = Duration::from_secs(30);
/// So many of them are a crash loop: it is escalated.
const LOOP_CRASHES: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// How often something crashed of late.
#[derive(Debug, Clone, Default)]
pub struct Health {
    crashes: u32,
    last: Option<Instant>,
}

impl Health {
    /// Notes a crash; returns the pause before the next start. It doubles within a loop.
    pub fn crashed(&mut self) -> Duration {
        let now = Instant::now();
        if self.last.is_none_or(|l| now.duration_since(l) > LOOP_WINDOW) {
            self.crashes = 0;
        }
        self.last = Some(now);
        self.crashes += 1;
        PAUSE_MIN.saturating_mul(1 << self.crashes.min(12)).min(PAUSE_MAX)
    }

    /// Is it a loop?
    pub fn is_loop(&self) -> bool {
        self.crashes >= LOOP_CRASHES
    }
}

/// One actor or task of the tree.
#[derive(Debug, Clone, Serialize, Default)]
pub struct Branch {
    /// Its path from the node's root, for example `cse/http`.
    pub path: String,
    /// `running`, `restarting`, `crash-loop`, `stopped`.
    pub state: &'static str,
    /// Restarts since the node's start.
    pub restarts: u32,
    /// The last failure.
    pub last_error: Option<String>,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Tree {
    branches: Mutex<BTreeMap<String, Branch>>,
}

impl Tree {
    /// Something has started.
    pub fn started(&self, path: &str) {
        let mut branches = self.branches.lock();
        let branch = branches.entry(path.to_owned()).or_default();
        branch.path = path.to_owned();
        branch.state = "running";
    }

    /// Something ended as it should.
    pub fn stopped(&self, path: &str) {
        self.branches.lock().remove(path);
    }

    /// Something crashed.
    pub fn crashed(&self, path: &str, error: &str, health: &Health) {
        let mut branches = self.branches.lock();
        let branch = branches.entry(path.to_owned()).or_default();
        branch.path = path.to_owned();
        branch.state = if health.is_loop() { "crash-loop" } else { "restarting" };
        branch.restarts += 1;
        branch.last_error = Some(error.to_owned());
    }

    /// The tree in order of paths.
    pub fn branches(&self) -> Vec<Branch> {
        self.branches.lock().values().cloned().collect()
    }
}
