//! The supervision tree of a node as `onemec status` shows it: what runs, the backoff of restarts, and escalation.
//!
//! Groups are ractor's actors; its registries are process-wide, so names live here, one tree per boot of a node. All other
//! long-lived tasks of a node run under [`Tree::keep`] (made anew after a crash) or [`Tree::vital`] (cannot be made anew).
//!
//! Escalation: a task that crashes in a loop, and a vital one that ends at all, ends the boot ([`Tree::escalated`]): the
//! node gives its groups up and begins anew. What boots that end like that lead to is decided by who runs them.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

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
#[derive(Debug)]
pub struct Tree {
    branches: Mutex<BTreeMap<String, Branch>>,
    escalated: watch::Sender<Option<String>>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { branches: Mutex::default(), escalated: watch::channel(None).0 }
    }
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

    /// Runs a task that `make` makes, and makes it anew when it panics or fails, after a pause that doubles. `Ok`: it is
    /// done and leaves the tree. A crash loop escalates. Dropping the future ends the task.
    pub async fn keep<F>(self: Arc<Self>, path: &str, mut make: impl FnMut() -> F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let mut health = Health::default();
        loop {
            self.started(path);
            let Err(error) = run(path, make()).await else { return self.stopped(path) };
            let pause = health.crashed();
            tracing::error!(path, ?pause, "a task of this node failed: {error}");
            self.crashed(path, &error, &health);
            if health.is_loop() {
                self.escalate(path, &error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Runs a task that cannot be made anew: its end escalates at once. Dropping the future ends the task.
    pub async fn vital(self: Arc<Self>, path: &str, task: impl Future<Output = ()> + Send + 'static) {
        self.started(path);
        let task = async {
            task.await;
            Ok(())
        };
        let error = match run(path, task).await {
            Ok(()) => "it ended".to_owned(),
            Err(error) => error,
        };
        tracing::error!(path, "a vital task of this node failed: {error}");
        let mut health = Health::default();
        health.crashed();
        self.crashed(path, &error, &health);
        self.escalate(path, &error);
    }

    /// Ends the boot for the sake of a part that cannot go on.
    pub fn escalate(&self, path: &str, error: &str) {
        // The first reason counts.
        self.escalated.send_if_modified(|why| {
            let first = why.is_none();
            why.get_or_insert_with(|| format!("{path}: {error}"));
            first
        });
    }

    /// Waits until a part cannot go on: which, and why.
    pub async fn escalated(&self) -> String {
        let mut watch = self.escalated.subscribe();
        let why = watch.wait_for(Option::is_some).await.ok().and_then(|why| why.clone());
        match why {
            Some(why) => why,
            // The sender is ours: this does not happen.
            None => std::future::pending().await,
        }
    }
}

/// Runs a task to its end; a panic is an error. Dropping it ends the task.
async fn run(path: &str, task: impl Future<Output = Result<(), String>> + Send + 'static) -> Result<(), String> {
    let mut one = JoinSet::new();
    let path = path.to_owned();
    one.spawn(async move {
        tokio::select! {
            end = task => end,
            () = crash::ordered(&path) => Err("a test wanted it".into()),
        }
    });
    match one.join_next().await {
        Some(Ok(end)) => end,
        Some(Err(error)) => Err(text_of(error)),
        None => Ok(()),
    }
}

fn text_of(error: JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "it was cancelled".into() };
    let text = panic.downcast_ref::<&str>().map(|t| (*t).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it panicked".into())
}

/// Crashes on a test's order. Builds without debug assertions, so every release, hold nothing of it.
mod crash {
    /// Ends when the file that `ONEMEC_CRASH_FILE` names holds `path` (then the file is removed), or `path always`.
    #[cfg(debug_assertions)]
    pub(super) async fn ordered(path: &str) {
        const LOOK: std::time::Duration = std::time::Duration::from_millis(20);
        let Some(file) = std::env::var_os("ONEMEC_CRASH_FILE") else { return std::future::pending().await };
        loop {
            let wanted = std::fs::read_to_string(&file).unwrap_or_default();
            match wanted.trim().strip_prefix(path) {
                Some("") if std::fs::remove_file(&file).is_ok() => return,
                Some(" always") => return,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Never: see the module.
    #[cfg(not(debug_assertions))]
    pub(super) async fn ordered(_: &str) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_made_anew_and_a_loop_escalates() {
        let (tree, runs) = (Arc::new(Tree::default()), Arc::new(AtomicU32::new(0)));
        let counted = runs.clone();
        let kept = tree.clone().keep("part/task", move || {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            async move { if n < 2 { panic!("crash {n}") } else { std::future::pending().await } }
        });
        let kept = tokio::spawn(kept);
        let is = |branch: &Branch| branch.restarts == 2 && branch.state == "running";
        while !tree.branches().first().is_some_and(is) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let branch = tree.branches().remove(0);
        assert_eq!(runs.load(Ordering::Relaxed), 3);
        assert_eq!((branch.state, branch.restarts), ("running", 2));
        assert_eq!(branch.last_error.as_deref(), Some("crash 1"));
        assert!(tree.escalated.borrow().is_none(), "two are no loop");
        kept.abort();

        let tree = Arc::new(Tree::default());
        let looping = tokio::spawn(tree.clone().keep("part/task", || async { Err("again".into()) }));
        assert_eq!(tree.escalated().await, "part/task: again");
        assert_eq!(tree.branches()[0].state, "crash-loop");
        looping.abort();
    }

    #[tokio::test]
    async fn what_is_done_leaves_the_tree_and_what_is_vital_escalates_by_ending() {
        let tree = Arc::new(Tree::default());
        tree.clone().keep("once", || async { Ok(()) }).await;
        assert!(tree.branches().is_empty());
        tree.clone().vital("heart", async {}).await;
        assert_eq!(tree.escalated().await, "heart: it ended");
    }
}
