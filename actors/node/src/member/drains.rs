//! Drains (row H02): the order and its progress lie in the directory, so that every node can answer, and whoever ordered
//! may go. The node that is being emptied moves its groups itself; when it comes back it goes on. While it is dead the
//! directory's leader says what became of its drain.

use std::time::Duration;

use onemec_core::context::ContextKind;
use onemec_core::directory::{Command, Directory};
use onemec_mobility::drain::{
    Behind, DrainGroup, DrainOptions, DrainPlan, DrainProgress, DrainState, Drainer, FAILED_LISTED_MAX,
};
use onemec_mobility::strategy::Subject;
use onemec_runtime::exec::Runtime;
use onemec_wire::{GroupId, NodeId};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::mover::Mover;
use super::residency::aes_in;
use crate::admin::types::{Drain, NotMoved};

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
/// Of a drain whose node died during it.
const NODE_DIED: &str = "node-died";

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
    let drain = {
        let directory = runtime.directory().read();
        let total = left_at(&directory, node).len() as u64;
        let drain = Drain { id, node: name.into(), state: "running".into(), total, waiting: total, ..Drain::default() };
        match directory.node(node).is_some_and(|n| n.up) {
            true => drain,
            false => after_death(&directory, node, &drain),
        }
    };
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
    known(&runtime.directory().read()).map(|(_, drain)| drain).collect()
}

fn known(directory: &Directory) -> impl Iterator<Item = (NodeId, Drain)> {
    directory.facts(PROGRESS).filter_map(|(name, value)| {
        let node = name.strip_prefix(PROGRESS)?.parse().ok()?;
        Some((NodeId(node), serde_json::from_str(value).ok()?))
    })
}

fn order_of(directory: &Directory, node: NodeId) -> Option<Order> {
    directory.fact(&fact_of(node)).and_then(|v| serde_json::from_str(v).ok())
}

/// Groups that a drain of the node has not got away.
fn left_at(directory: &Directory, node: NodeId) -> Vec<GroupId> {
    groups_led(directory, node, |_| 0).into_iter().filter(|g| !g.pinned).map(|g| g.group).collect()
}

/// How a drain stands whose node is dead: most groups have failed over; what nobody else may lead waits for the node.
fn after_death(directory: &Directory, node: NodeId, drain: &Drain) -> Drain {
    let left = left_at(directory, node);
    let behind = behind(drain).after_death(left.len() as u64);
    let failed = left.iter().take(FAILED_LISTED_MAX).map(|group| NotMoved {
        aes: aes_in(directory, *group),
        group: group.to_string(),
        code: NODE_DIED.into(),
        text: format!(
            "{} died, and no other live node has all of it: it is served again when the node is back",
            drain.node
        ),
    });
    Drain {
        state: if left.is_empty() { "done" } else { "failed" }.into(),
        code: NODE_DIED.into(),
        total: behind.total,
        failed_over: behind.failed_over,
        running: 0,
        waiting: 0,
        failed: failed.collect(),
        ..drain.clone()
    }
}

fn behind(drain: &Drain) -> Behind {
    Behind { total: drain.total, moved: drain.moved, failed_over: drain.failed_over }
}

/// As the directory's leader: says of each drain whose node is dead what became of it.
async fn settle_dead(runtime: &Runtime) {
    if runtime.directory().leader() != Some(runtime.member().node) {
        return;
    }
    let settled: Vec<(NodeId, Drain)> = {
        let directory = runtime.directory().read();
        known(&directory)
            .filter(|(node, drain)| {
                let ordered = order_of(&directory, *node).is_some_and(|o| o.id == drain.id);
                let open = drain.state == "running" || (drain.state == "failed" && ordered);
                open && directory.node(*node).is_none_or(|n| !n.up)
            })
            .map(|(node, drain)| (node, after_death(&directory, node, &drain), drain))
            .filter(|(_, after, before)| after != before)
            .map(|(node, after, _)| (node, after))
            .collect()
    };
    for (node, drain) in settled {
        match say(runtime, node, &drain).await {
            Ok(()) => {
                tracing::info!(node = drain.node, failed_over = drain.failed_over, "its drain ended with its death")
            }
            Err(e) => tracing::warn!(node = drain.node, "what became of its drain could not be said: {e}"),
        }
    }
}

async fn set(runtime: &Runtime, name: String, value: Option<String>) -> Result<(), String> {
    let command = Command::SetFact { name, value };
    runtime.directory().propose_within(command, FACT_MAX).await.map(drop).map_err(|e| e.to_string())
}

async fn say(runtime: &Runtime, node: NodeId, drain: &Drain) -> Result<(), String> {
    let value = serde_json::to_string(drain).map_err(|e| e.to_string())?;
    set(runtime, progress_of(node), Some(value)).await
}

fn groups_led(directory: &Directory, node: NodeId, bytes: impl Fn(GroupId) -> u64) -> Vec<DrainGroup> {
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
    let mut is_first = true;
    loop {
        tokio::time::sleep(LOOK).await;
        settle_dead(&runtime).await;
        // What an earlier boot left undone and is no longer here has failed over.
        let is_boot = std::mem::take(&mut is_first);
        let (order, known) = {
            let directory = runtime.directory().read();
            let order = order_of(&directory, me);
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
        let mut before = Drain { id: order.id, node: name.clone(), ..before };
        if is_boot && fresh {
            before = after_death(&runtime.directory().read(), me, &before);
        }
        let shown = |p: &DrainProgress| drain_of(&runtime.directory().read(), &before, p);
        let plan = DrainPlan::new(&groups, order.to.map(NodeId), options).going_on(behind(&before));
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
        async move {
            let ended = mover.carry_out(&request, None).await;
            // It was deleted, or somebody else's order took it away: it is not here, and that was asked for.
            let gone = matches!(request.subject, Subject::Group(g) if mover.primary(g) != Some(me));
            if gone { Ok(()) } else { ended.map(drop).map_err(|e| (e.code, e.text)) }
        }
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

/// `before`: the drain as it stood when the round began.
fn drain_of(directory: &Directory, before: &Drain, p: &DrainProgress) -> Drain {
    let state = match p.state {
        DrainState::Running => "running",
        DrainState::Done => "done",
        DrainState::Failed => "failed",
    };
    let failed = p.failures.iter().map(|f| NotMoved {
        aes: aes_in(directory, f.group),
        group: f.group.to_string(),
        code: f.code.clone(),
        text: f.text.clone(),
    });
    Drain {
        id: before.id,
        node: before.node.clone(),
        state: state.into(),
        total: p.total,
        moved: p.moved,
        failed_over: p.failed_over,
        code: before.code.clone(),
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
