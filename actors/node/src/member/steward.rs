//! What a node looks after by itself: groups that belong home return home, and the audit log learns who is registrar.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::ContextKind;
use onemec_runtime::audit::Audit;
use onemec_runtime::directory::Change;
use onemec_runtime::exec::Runtime;
use onemec_runtime::membership::{Load, MembershipHandle};
use onemec_wire::{ContextId, GroupId, NodeId};

/// A node that has just come back may go again: its CSEBase returns after this time.
const HOME_AFTER: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(500);
/// Load is said this often; what was said holds for ten seconds.
const SAY: Duration = Duration::from_secs(2);
const CATCH_UP: Duration = Duration::from_secs(20);

/// Prefix of the key by which an AE is known at its registrar.
pub(super) const AE_KEY: &str = "aei:";

/// Starts it.
pub(super) fn start(
    runtime: Runtime,
    gossip: MembershipHandle,
    audit: Option<Arc<Audit>>,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let mut feed = runtime.directory().changes();
        let mut registrar = HashMap::new();
        let mut strangers: HashMap<GroupId, std::time::Instant> = HashMap::new();
        note_registrar(&runtime, audit.as_deref(), &mut registrar);
        let mut look = tokio::time::interval(LOOK);
        let mut say = tokio::time::interval(SAY);
        loop {
            tokio::select! {
                change = feed.next() => match change {
                    None => return,
                    Some(Change::Set(_) | Change::Rescan) => {
                        note_registrar(&runtime, audit.as_deref(), &mut registrar);
                    }
                },
                _ = look.tick() => send_home(&runtime, &mut strangers).await,
                _ = say.tick() => gossip.set_load(load(&runtime)).await,
            }
        }
    })
}

/// How busy this machine and this node are.
fn load(runtime: &Runtime) -> Load {
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let busy = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|t| t.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |l| (l / cores).clamp(0.0, 1.0));
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| memory_in_use(&t)).unwrap_or(0.0);
    let me = runtime.member().node;
    let contexts = {
        let directory = runtime.directory().read();
        directory.groups().filter(|(_, p)| p.primary.node == me).map(|(_, p)| p.contexts.len() as u64).sum()
    };
    Load { cpu: busy, memory, contexts, battery: None }
}

/// Share of the memory in use, from /proc/meminfo.
fn memory_in_use(text: &str) -> Option<f64> {
    let of = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<f64>().ok()
    };
    let (total, free) = (of("MemTotal:")?, of("MemAvailable:")?);
    (total > 0.0).then(|| ((total - free) / total).clamp(0.0, 1.0))
}

/// Writes a line for every AE whose home this node has become.
fn note_registrar(runtime: &Runtime, audit: Option<&Audit>, known: &mut HashMap<ContextId, NodeId>) {
    let Some(audit) = audit else { return };
    let me = runtime.member().node;
    let directory = runtime.directory().read();
    known.retain(|c, _| directory.context(*c).is_some());
    for (context, entry) in directory.contexts_after(None).filter(|(_, c)| c.kind == ContextKind::AE) {
        let before = known.insert(context, entry.home);
        if entry.home != me || before == Some(me) {
            continue;
        }
        let ae = entry.keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY)).unwrap_or_default();
        let epoch = directory.group(entry.group).map(|g| g.epoch).unwrap_or_default();
        audit.registrar(ae, context, epoch);
    }
}

/// What hangs on another node's CSEBase is served here only while that node is away.
async fn send_home(runtime: &Runtime, strangers: &mut HashMap<GroupId, std::time::Instant>) {
    let me = runtime.member().node;
    let away: Vec<(GroupId, NodeId)> = {
        let directory = runtime.directory().read();
        directory
            .groups()
            .filter(|(_, p)| p.primary.node == me)
            .filter_map(|(id, p)| {
                let home = p.contexts.iter().filter_map(|c| directory.context(*c)).find(|c| c.pinned)?.home;
                (home != me && directory.node(home).is_some_and(|n| n.up)).then_some((id, home))
            })
            .collect()
    };
    strangers.retain(|g, _| away.iter().any(|(a, _)| a == g));
    for (group, home) in away {
        let since = *strangers.entry(group).or_insert_with(std::time::Instant::now);
        if since.elapsed() < HOME_AFTER {
            continue;
        }
        match runtime.move_group(group, home, "failback", CATCH_UP).await {
            Ok(_) => tracing::info!(%group, %home, "returned home"),
            Err(e) => {
                tracing::info!(%group, %home, "did not return home yet: {e}");
                strangers.insert(group, std::time::Instant::now());
            }
        }
    }
}
