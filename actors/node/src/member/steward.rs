//! What a node looks after by itself: groups that belong home return home, data that may not be here leaves, links and load
//! move devices, drains go on, and audit log and journal learn who is registrar.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_core::context::BoxFuture;
use onemec_core::context::ContextKind;
use onemec_core::directory::Directory;
use onemec_mobility::failback::{self, Displaced, FailbackOptions, Returned};
use onemec_mobility::strategy::{MoveRequest, Subject};
use onemec_runtime::audit::Audit;
use onemec_runtime::directory::Change;
use onemec_runtime::exec::Runtime;
use onemec_runtime::membership::{Load, MembershipHandle};
use onemec_runtime::supervise::Tree;
use onemec_wire::{ContextId, Epoch, GroupId, Incarnation, Member, NodeId};
use tokio::task::JoinSet;

use super::drains;
use super::journal::{Journal, micros};
use super::mover::Mover;
use super::network::Network;
use super::residency::Rules;

/// A node that has just come back may go again: its CSEBase returns after this time.
const HOME_AFTER_MS: u64 = 2_000;
const LOOK: Duration = Duration::from_millis(500);
const LINKS: Duration = Duration::from_millis(200);
/// Load is said this often; what was said holds for ten seconds.
const SAY: Duration = Duration::from_secs(2);
/// A move of the steward's own that failed is ordered again after this time.
const AGAIN: Duration = Duration::from_secs(2);

/// Prefix of the key by which an AE is known at its registrar.
pub(crate) const AE_KEY: &str = "aei:";

/// What the steward works with.
pub(super) struct Steward {
    pub(super) mover: Mover,
    pub(super) gossip: MembershipHandle,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) journal: Arc<Journal>,
    pub(super) network: Arc<Network>,
    pub(super) rules: Arc<Rules>,
    /// Name of the node.
    pub(super) name: String,
    pub(super) moves_max: u32,
}

/// Starts it under supervision; dropping the set ends it.
pub(super) fn start(tasks: &mut JoinSet<()>, tree: &Arc<Tree>, steward: Steward) {
    let steward = Arc::new(steward);
    let mut keep = |path: &'static str, task: fn(Arc<Steward>) -> BoxFuture<'static, ()>| {
        let steward = steward.clone();
        tasks.spawn(tree.clone().keep(path, move || {
            let run = task(steward.clone());
            async move {
                run.await;
                Err("it ended".into())
            }
        }));
    };
    keep("steward/drains", |s| Box::pin(drains::run(s.mover.clone(), s.name.clone(), s.moves_max)));
    keep("steward/load", |s| Box::pin(say_load(s.mover.runtime.clone(), s.gossip.clone())));
    keep("steward/registrars", |s| Box::pin(follow(s)));
    keep("steward/moves", |s| Box::pin(look(s)));
}

// ---- load ----------------------------------------------------------------------------------------------------------

async fn say_load(runtime: Runtime, gossip: MembershipHandle) {
    let mut say = tokio::time::interval(SAY);
    loop {
        say.tick().await;
        gossip.set_load(load(&runtime)).await;
    }
}

/// How busy this machine and this node are.
fn load(runtime: &Runtime) -> Load {
    let cores = std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64);
    let busy = std::fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|t| t.split_whitespace().next()?.parse::<f64>().ok())
        .map_or(0.0, |l| (l / cores).clamp(0.0, 1.0));
    let memory = std::fs::read_to_string("/proc/meminfo").ok().and_then(|t| memory_in_use(&t)).unwrap_or(0.0);
    let contexts = drains::aes_at(runtime, runtime.member().node);
    Load { cpu: busy, memory, contexts, battery: super::probe::battery() }
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

// ---- what the directory tells --------------------------------------------------------------------------------------

/// Who led a group and was the home of its contexts when it was looked at last.
#[derive(Default)]
struct Known {
    groups: HashMap<GroupId, (Member, Epoch)>,
    homes: HashMap<ContextId, NodeId>,
}

async fn follow(steward: Arc<Steward>) {
    let runtime = &steward.mover.runtime;
    let mut feed = runtime.directory().changes();
    let mut known = Known::default();
    let all = |d: &Directory| d.groups().map(|(id, _)| id).collect::<Vec<_>>();
    let groups = all(&runtime.directory().read());
    notice(&steward, &mut known, &groups);
    while let Some(change) = feed.next().await {
        let groups = match change {
            Change::Set(set) => set.groups.iter().copied().collect(),
            Change::Rescan => {
                let directory = runtime.directory().read();
                known.homes.retain(|c, _| directory.context(*c).is_some());
                let mut groups = all(&directory);
                groups.extend(known.groups.keys().filter(|g| directory.group(**g).is_none()));
                groups
            }
        };
        notice(&steward, &mut known, &groups);
    }
}

/// Writes a line for every AE whose home this node has become, and a record for every group that fell to it.
fn notice(steward: &Steward, known: &mut Known, groups: &[GroupId]) {
    let runtime = &steward.mover.runtime;
    let me = runtime.member();
    let mut fallen = Vec::new();
    {
        let directory = runtime.directory().read();
        for group in groups {
            let Some(p) = directory.group(*group) else {
                known.groups.remove(group);
                continue;
            };
            let before = known.groups.insert(*group, (p.primary, p.epoch));
            if let Some((from, epoch)) = before.filter(|(from, _)| from.node != p.primary.node) {
                steward.network.moved(*group);
                // Only a failover leaves the end of the log open.
                if p.primary == me && p.sealed.is_none() && p.epoch > epoch {
                    // Nothing is known of one that was never heard here.
                    let silent = runtime.silence_of(from.node).map_or(0, micros);
                    fallen.push((*group, p.contexts.clone(), from, silent));
                }
            }
            for (context, entry) in p.contexts.iter().filter_map(|c| Some((*c, directory.context(*c)?))) {
                if entry.kind != ContextKind::AE {
                    continue;
                }
                let before = known.homes.insert(context, entry.home);
                if entry.home == me.node
                    && before != Some(me.node)
                    && let Some(audit) = &steward.audit
                {
                    let ae = entry.keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY)).unwrap_or_default();
                    audit.registrar(ae, context, p.epoch);
                }
            }
        }
    }
    if !fallen.is_empty() {
        let (runtime, journal, began) = (runtime.clone(), steward.journal.clone(), Instant::now());
        tokio::spawn(async move {
            for (group, contexts, from, silent_us) in fallen {
                runtime.serving(group).await;
                let us = micros(began.elapsed());
                journal.failed_over(&runtime, (group, &contexts), from, (silent_us, us));
            }
        });
    }
}

// ---- moves of the node's own ---------------------------------------------------------------------------------------

/// Moves under way that nobody outside ordered, one per group.
#[derive(Default)]
struct Orders {
    moves: JoinSet<(GroupId, bool)>,
    running: HashSet<GroupId>,
    not_before: HashMap<GroupId, Instant>,
}

impl Orders {
    fn reap(&mut self) {
        while let Some(Ok((group, moved))) = self.moves.try_join_next() {
            self.running.remove(&group);
            if !moved {
                self.not_before.insert(group, Instant::now() + AGAIN);
            }
        }
        let now = Instant::now();
        self.not_before.retain(|_, at| *at > now);
    }

    fn begin(&mut self, mover: &Mover, request: MoveRequest, moves_max: u32) {
        use onemec_core::context::Contexts as _;
        let group = match request.subject {
            Subject::Group(group) => Some(group),
            Subject::Context(context) => mover.runtime.by_id(context).map(|p| p.group),
        };
        let Some(group) = group.filter(|g| !self.not_before.contains_key(g)) else { return };
        if self.running.len() >= moves_max as usize || !self.running.insert(group) {
            return;
        }
        let mover = mover.clone();
        self.moves.spawn(async move {
            let ended = mover.carry_out(&request, None).await;
            match &ended {
                Ok(moved) => tracing::info!(%group, to = %moved.target, reason = %request.reason, "moved"),
                Err(e) => tracing::info!(%group, reason = %request.reason, "not moved: {} {e}", e.code),
            }
            (group, ended.is_ok())
        });
    }
}

async fn look(steward: Arc<Steward>) {
    let (mut look, mut links) = (tokio::time::interval(LOOK), tokio::time::interval(LINKS));
    let mut orders = Orders::default();
    let mut up = Up::default();
    let mut labels = None;
    loop {
        tokio::select! {
            _ = look.tick() => {
                orders.reap();
                let runtime = &steward.mover.runtime;
                let version = Rules::version(&runtime.directory().read());
                if labels.replace(version).is_some_and(|before| before != version) {
                    runtime.reconsider();
                }
                let requests = homewards(&steward, &mut up, orders.running.len())
                    .into_iter()
                    .chain(misplaced(&steward))
                    .chain(steward.network.balance_moves());
                for request in requests {
                    orders.begin(&steward.mover, request, steward.moves_max);
                }
            }
            _ = links.tick() => {
                orders.reap();
                for request in steward.network.link_moves() {
                    orders.begin(&steward.mover, request, steward.moves_max);
                }
            }
        }
    }
}

/// Since when each node has been up.
#[derive(Default)]
struct Up(HashMap<NodeId, (Incarnation, Instant)>);

impl Up {
    fn look(&mut self, directory: &Directory) -> BTreeMap<NodeId, Returned> {
        let live: Vec<Member> = directory.live().collect();
        self.0.retain(|node, _| live.iter().any(|m| m.node == *node));
        let mut hosts = BTreeMap::new();
        for m in live {
            let known = self.0.entry(m.node).or_insert_with(|| (m.incarnation, Instant::now()));
            if known.0 != m.incarnation {
                *known = (m.incarnation, Instant::now());
            }
            let up_ms = u64::try_from(known.1.elapsed().as_millis()).unwrap_or(u64::MAX);
            // What hangs on a CSEBase serves only that CSE: neither a drain nor load keeps it away.
            hosts.insert(m.node, Returned { up_ms, draining: false, load: 0.0 });
        }
        hosts
    }
}

/// What hangs on another node's CSEBase is served here only while that node is away.
fn homewards(steward: &Steward, up: &mut Up, under_way: usize) -> Vec<MoveRequest> {
    let directory = steward.mover.runtime.directory().read();
    let hosts = up.look(&directory);
    let me = steward.mover.runtime.member().node;
    let bases = directory.nodes().flat_map(|(node, _)| directory.at_home(node, ContextKind::CSE_BASE, None));
    let displaced: Vec<Displaced> = bases
        .filter(|(_, base)| base.pinned && base.home != me)
        .filter_map(|(_, base)| {
            let p = directory.group(base.group).filter(|p| p.primary.node == me)?;
            let has_replica = p.in_sync.iter().any(|m| m.node == base.home);
            Some(Displaced { group: base.group, primary: me, belongs: base.home, has_replica })
        })
        .collect();
    let moves_max = steward.moves_max as usize;
    let options = FailbackOptions { stable_ms_min: HOME_AFTER_MS, load_max: 1.0, moves_max };
    failback::plan(&displaced, &hosts, under_way, options)
}

/// Groups that are served here although their label does not permit it (any more): row G15.
fn misplaced(steward: &Steward) -> Vec<MoveRequest> {
    let runtime = &steward.mover.runtime;
    let me = runtime.member().node;
    let directory = runtime.directory().read();
    if !steward.rules.any(&directory) {
        return Vec::new();
    }
    let mut groups: Vec<GroupId> = directory
        .at_home(me, ContextKind::AE, None)
        .filter(|(_, ae)| !steward.rules.permits(&directory, &ae.keys, ae.home, me))
        .map(|(_, ae)| ae.group)
        .filter(|g| directory.group(*g).is_some_and(|p| p.primary.node == me))
        .collect();
    groups.dedup();
    groups.into_iter().map(MoveRequest::residency).collect()
}
