//! Drains (row H02): the order and its progress lie in the directory, so that every node can answer, and whoever ordered
//! may go. The node that is being emptied moves its groups itself; when it comes back it goes on.

use std::time::Duration;

use onemec_core::context::ContextKind;
use onemec_core::directory::Command;
use onemec_mobility::drain::{DrainGroup, DrainOptions, DrainPlan, DrainProgress, DrainState, Drainer};
use onemec_runtime::exec::Runtime;
use onemec_wire::NodeId;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::mover::Mover;
use crate::admin::types::{Drain, Excluded};

/// Moves of one drain that are under way at once, at most: each freezes a group and takes a directory command.
const PARALLEL_MAX: usize = 16;
/// How often a node looks whether it is to be emptied, and tells how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// Groups that could not be moved, or came meanwhile, are tried again after this time.
const AGAIN: Duration = Duration::from_secs(5);
const FACT_MAX: Duration = Duration::from_secs(3);
/// Beyond a move's own deadline: the runtime ends every move by itself.
const SLACK: Duration = Duration::from_secs(10);
const PROGRESS: &str = "drain/";

/// Name of the fact that says that a node is being emptied; its value is the order.
pub(super) fn fact_of(node: NodeId) -> String {
    format!("draining/{}", node.0)
}

fn progress_of(node: NodeId) -> String {
    format!("{PROGRESS}{}", node.0)
}

/// What is ordered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) id: u64,
    /// The only target, if there is one.
    pub(super) to: Option<u64>,
}

/// Orders that `node`, called `name`, is emptied. The directory holds it when this returns.
///
/// # Errors
/// In words, if the directory does not take it.
pub(super) async fn begin(runtime: &Runtime, node: NodeId, name: &str, to: Option<NodeId>) -> Result<Drain, String> {
    let id = runtime.clock().wall_ms();
    let (total, up) = {
        let directory = runtime.directory().read();
        let total = groups_led(&directory, node, |_| 0).iter().filter(|g| !g.pinned).count();
        (total as u64, directory.node(node).is_some_and(|n| n.up))
    };
    // A dead node leads nothing: it stays empty when it comes back.
    let state = if up { "running" } else { "done" };
    let drain = Drain { id, node: name.into(), state: state.into(), total, waiting: total, ..Drain::default() };
    say(runtime, node, &drain).await?;
    let order = Order { id, to: to.map(|n| n.0) };
    let value = serde_json::to_string(&order).map_err(|e| e.to_string())?;
    set(runtime, fact_of(node), Some(value)).await?;
    Ok(drain)
}

/// The node takes groups again.
///
/// # Errors
/// In words, if the directory does not take it.
pub(super) async fn end(runtime: &Runtime, node: NodeId) -> Result<(), String> {
    set(runtime, fact_of(node), None).await
}

/// The latest drain of each node.
pub(super) fn all(runtime: &Runtime) -> Vec<Drain> {
    let directory = runtime.directory().read();
    directory.facts(PROGRESS).filter_map(|(_, value)| serde_json::from_str(value).ok()).collect()
}

async fn set(runtime: &Runtime, name: String, value: Option<String>) -> Result<(), String> {
    let command = Command::SetFact { name, value };
    runtime.directory().propose_within(command, FACT_MAX).await.map(drop).map_err(|e| e.to_string())
}

async fn say(runtime: &Runtime, node: NodeId, drain: &Drain) -> Result<(), String> {
    let value = serde_json::to_string(drain).map_err(|e| e.to_string())?;
    set(runtime, progress_of(node), Some(value)).await
}

fn groups_led(
    directory: &onemec_core::directory::Directory,
    node: NodeId,
    bytes: impl Fn(onemec_wire::GroupId) -> u64,
) -> Vec<DrainGroup> {
    let led = directory.groups().filter(|(_, p)| p.primary.node == node);
    led.map(|(group, p)| {
        let pinned = p.contexts.iter().any(|c| directory.context(*c).is_some_and(|e| e.pinned));
        DrainGroup { group, priority: 0, bytes: bytes(group), pinned }
    })
    .collect()
}

/// Empties this node whenever it is ordered. Never ends by itself.
pub(super) async fn run(mover: Mover, name: String, moves_max: u32) {
    let runtime = mover.runtime.clone();
    let me = runtime.member().node;
    let options = DrainOptions { moves_max: (moves_max as usize).clamp(1, PARALLEL_MAX), ..DrainOptions::default() };
    let mut not_before = tokio::time::Instant::now();
    loop {
        tokio::time::sleep(LOOK).await;
        let (order, known) = {
            let directory = runtime.directory().read();
            let order = directory.fact(&fact_of(me)).and_then(|v| serde_json::from_str::<Order>(v).ok());
            let known = directory.fact(&progress_of(me)).and_then(|v| serde_json::from_str::<Drain>(v).ok());
            (order, known)
        };
        let Some(order) = order else {
            not_before = tokio::time::Instant::now();
            continue;
        };
        let before = known.filter(|d| d.id == order.id).unwrap_or_default();
        let fresh = before.state == "running";
        if !fresh && tokio::time::Instant::now() < not_before {
            continue;
        }
        let groups = {
            let directory = runtime.directory().read();
            groups_led(&directory, me, |g| runtime.history_bytes(g))
        };
        if !fresh && groups.iter().all(|g| g.pinned) {
            continue;
        }
        // A boot before this one, or a round before this one, has moved some already.
        let done_before = if before.id == order.id { before.moved } else { 0 };
        let shown = |p: &DrainProgress| drain_of(order.id, &name, done_before, p);
        let plan = DrainPlan::new(&groups, order.to.map(NodeId), options);
        let end = one_round(&mover, me, plan, shown).await;
        tracing::info!(moved = end.moved, failed = end.failed, "drain round ended");
        not_before = tokio::time::Instant::now() + AGAIN;
    }
}

async fn one_round(
    mover: &Mover,
    me: NodeId,
    plan: DrainPlan,
    shown: impl Fn(&DrainProgress) -> Drain,
) -> DrainProgress {
    let runtime = &mover.runtime;
    let (cancel, cancelled) = watch::channel(false);
    let (drainer, told) = Drainer::new(mover.move_max + SLACK, cancelled);
    let moving = drainer.run(plan, |request| {
        let mover = mover.clone();
        async move { mover.carry_out(&request, None).await.map(drop).map_err(|e| (e.code, e.text)) }
    });
    tokio::pin!(moving);
    let mut ticks = tokio::time::interval(LOOK);
    let mut said = None;
    let end = loop {
        tokio::select! {
            end = &mut moving => break end,
            _ = ticks.tick() => {
                if runtime.directory().read().fact(&fact_of(me)).is_none() {
                    cancel.send_replace(true);
                }
                let now = told.borrow().clone();
                if now.total > 0 && said.as_ref() != Some(&now) {
                    // Progress that the directory does not take now is said with the next look.
                    if say(runtime, me, &shown(&now)).await.is_ok() {
                        said = Some(now);
                    }
                }
            }
        }
    };
    if let Err(e) = say(runtime, me, &shown(&end)).await {
        tracing::warn!("the end of the drain could not be said: {e}");
    }
    end
}

fn drain_of(id: u64, name: &str, done_before: u64, p: &DrainProgress) -> Drain {
    let state = match p.state {
        DrainState::Running => "running",
        DrainState::Done => "done",
        DrainState::Failed => "failed",
    };
    let failed =
        p.failures.iter().map(|f| Excluded { node: f.group.clone(), code: f.code.clone(), text: f.text.clone() });
    Drain {
        id,
        node: name.into(),
        state: state.into(),
        total: done_before + p.total,
        moved: done_before + p.moved,
        running: p.running,
        waiting: p.waiting,
        pinned: p.pinned,
        failed: failed.collect(),
    }
}

/// How many AEs are at home on a node.
pub(super) fn aes_at(runtime: &Runtime, node: NodeId) -> u64 {
    runtime.directory().read().count_at_home(node, ContextKind::AE) as u64
}
