//! The admin API of a running node.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use onemec_core::context::ContextKind;
use onemec_core::context::Contexts as _;
use onemec_cse::Cse;
use onemec_runtime::audit::Audit;
use onemec_runtime::exec::Runtime;
use onemec_runtime::host::Host;
use onemec_runtime::lease::LeaseHandle;
use onemec_runtime::membership::MembershipHandle;
use onemec_wire::{GroupId, NodeId};
use parking_lot::{Mutex, RwLock};

use super::glue::draining_fact;
use super::views;
use crate::admin::server::{AdminBackend, AdminError, Answer};
use crate::admin::types::{
    Ae, AePage, AuditPage, Candidates, CapabilityFile, Directory, Drain, DrainOrder, Excluded, Handover, HandoverPage,
    Health, MoveOrder, MoveReason, MoveResult, Status,
};
use crate::topology::{Node, Topology};

/// Drains that are remembered.
const DRAINS_MAX: usize = 256;
/// Moves of one drain that are under way at once, at most.
const DRAIN_PARALLEL_MAX: usize = 16;
/// Failed moves of a drain that are listed.
const FAILED_LISTED_MAX: usize = 100;

/// What a serving node is asked through.
pub(super) struct Live {
    pub(super) runtime: Runtime,
    pub(super) lease: LeaseHandle,
    pub(super) gossip: MembershipHandle,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) cse: Cse,
}

/// See the module.
pub(super) struct Backend {
    pub(super) topology: Topology,
    pub(super) node: Node,
    pub(super) began: Instant,
    pub(super) live: RwLock<Option<Arc<Live>>>,
    waiting_for: Mutex<String>,
    drains: Arc<Mutex<BTreeMap<u64, Drain>>>,
    next: AtomicU64,
    results: Mutex<BTreeMap<u64, MoveResult>>,
}

impl Backend {
    pub(super) fn new(topology: Topology, node: Node) -> Self {
        Self {
            topology,
            node,
            began: Instant::now(),
            live: RwLock::new(None),
            waiting_for: Mutex::new("the start".into()),
            drains: Arc::default(),
            next: AtomicU64::new(1),
            results: Mutex::default(),
        }
    }

    /// What the node waits for; empty when it serves.
    pub(super) fn waits_for(&self, what: &str) {
        *self.waiting_for.lock() = what.to_owned();
    }

    pub(super) fn attach(&self, host: &Host, cse: Cse) {
        let live = Live {
            runtime: host.runtime.clone(),
            lease: host.lease.clone(),
            gossip: host.membership(),
            audit: host.audit.clone(),
            cse,
        };
        *self.live.write() = Some(Arc::new(live));
    }

    pub(super) fn detach(&self) {
        *self.live.write() = None;
    }

    pub(super) fn live(&self) -> Answer<Arc<Live>> {
        self.live.read().clone().ok_or_else(|| {
            let what = self.waiting_for.lock().clone();
            AdminError::new(503, "node-starting", format!("the node waits for {what}"), "try again in a moment")
        })
    }

    pub(super) fn name_of(&self, node: NodeId) -> String {
        self.topology.node.iter().find(|n| n.id == node.0).map_or_else(|| node.to_string(), |n| n.name.clone())
    }

    fn node_named(&self, name: &str) -> Answer<NodeId> {
        self.topology.node.iter().find(|n| n.name == name).map(|n| NodeId(n.id)).ok_or_else(|| {
            let names = self.topology.names();
            AdminError::new(
                404,
                "no-such-node",
                format!("there is no node `{name}`"),
                format!("its nodes are: {names}"),
            )
        })
    }

    fn targets(&self, live: &Live, current: NodeId, home: NodeId, group: Option<GroupId>) -> views::Targets {
        views::targets(self, live, current, home, group)
    }

    async fn run_move(&self, live: &Live, order: &MoveOrder) -> Answer<MoveResult> {
        let found = views::find_ae(live, &order.ae)?;
        let targets: Vec<NodeId> = match &order.to {
            Some(name) => vec![self.node_named(name)?],
            // The fallback order (row G07): the best candidate, then the next ones.
            None => self.targets(live, found.primary, found.home, Some(found.group)).best.iter().map(|c| c.0).collect(),
        };
        if targets.is_empty() {
            let text = "no node can take it";
            return Err(AdminError::new(409, "no-candidate", text, "`onemec candidates AE` says why each is out"));
        }
        let catch_up = Duration::from_millis(match order.deadline_ms {
            0 => self.topology.timing.move_ms_max,
            ms => ms,
        });
        let reason = reason_word(order.reason);
        let begun_ms = live.runtime.clock().wall_ms();
        let mut last = None;
        for target in targets {
            let moved = live.runtime.move_group(found.group, target, reason, catch_up).await;
            // Somebody was quicker: what was ordered is so.
            let moved = match moved {
                Err(e) if e.code == "already-there" => Ok(onemec_runtime::exec::body::MoveTimes::default()),
                moved => moved,
            };
            let result =
                self.move_result_of(live, found.group, order.reason, (found.primary, target), begun_ms, &moved);
            if moved.is_ok() {
                return Ok(result);
            }
            last = Some(result);
        }
        last.ok_or_else(|| {
            AdminError::new(409, "no-candidate", "no node can take it", "look at `onemec candidates AE`")
        })
    }

    fn move_result_of(
        &self,
        live: &Live,
        group: GroupId,
        reason: MoveReason,
        (from, to): (NodeId, NodeId),
        begun_ms: u64,
        moved: &Result<onemec_runtime::exec::body::MoveTimes, onemec_runtime::exec::MoveError>,
    ) -> MoveResult {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let times = moved.as_ref().copied().unwrap_or_default();
        let handover = Handover {
            id,
            aes: views::aes_of(live, group),
            group: group.to_string(),
            reason,
            from: self.name_of(from),
            to: self.name_of(to),
            epoch: live.runtime.directory().read().group(group).map_or(0, |p| p.epoch.0),
            begun_ms,
            outcome: moved.as_ref().map_or_else(|e| e.code.clone(), |_| "done".into()),
            prepare_us: times.prepare_us,
            interruption_us: times.freeze_us,
            commit_us: times.commit_us,
            parked: u64::from(times.parked),
            bytes: 0,
            mode: "replication".into(),
            ..Handover::default()
        };
        let result = MoveResult {
            id,
            state: if moved.is_ok() { "done" } else { "refused" }.into(),
            code: moved.as_ref().err().map(|e| e.code.clone()).unwrap_or_default(),
            text: moved.as_ref().err().map(|e| e.reason.clone()).unwrap_or_default(),
            handover,
        };
        let mut results = self.results.lock();
        if results.len() > 16_384 {
            results.pop_first();
        }
        results.insert(id, result.clone());
        result
    }
}

pub(super) fn reason_word(reason: MoveReason) -> &'static str {
    match reason {
        MoveReason::Operator => "operator",
        MoveReason::Device => "device",
        MoveReason::Network => "network",
        MoveReason::Drain => "drain",
        MoveReason::Failover => "failover",
    }
}

fn reason_of(word: &str) -> MoveReason {
    match word {
        "device" => MoveReason::Device,
        "network" => MoveReason::Network,
        "drain" => MoveReason::Drain,
        "failover" => MoveReason::Failover,
        _ => MoveReason::Operator,
    }
}

impl AdminBackend for Backend {
    fn health(&self) -> Health {
        let reason = self.waiting_for.lock().clone();
        let live = self.live.read().clone();
        let leased = live.as_ref().is_some_and(|l| l.lease.is_valid());
        Health {
            node: self.node.name.clone(),
            ready: reason.is_empty() && leased,
            reason: if reason.is_empty() && !leased { "a lease".into() } else { reason },
            incarnation: live.map_or(0, |l| l.runtime.member().incarnation.0),
        }
    }

    async fn status(&self) -> Answer<Status> {
        Ok(views::status(self, &*self.live()?).await)
    }

    async fn directory(&self) -> Answer<Directory> {
        Ok(views::directory(self, &*self.live()?))
    }

    async fn aes(&self, home: Option<String>, after: Option<String>, limit: usize) -> Answer<AePage> {
        let live = self.live()?;
        let home = home.map(|h| self.node_named(&h)).transpose()?;
        Ok(views::aes(self, &live, home, after.as_deref(), limit))
    }

    async fn ae(&self, ae: String) -> Answer<Ae> {
        let live = self.live()?;
        let found = views::find_ae(&live, &ae)?;
        Ok(views::ae(self, &live, found.context))
    }

    async fn candidates(&self, ae: String, n: usize) -> Answer<Candidates> {
        let live = self.live()?;
        let found = views::find_ae(&live, &ae)?;
        let targets = self.targets(&live, found.primary, found.home, Some(found.group));
        Ok(Candidates {
            ae_id: found.ae_id,
            policy: targets.policy,
            candidates: targets.best.into_iter().map(|(_, c)| c).take(n).collect(),
            excluded: targets.excluded,
        })
    }

    async fn order_move(&self, order: MoveOrder) -> Answer<MoveResult> {
        let live = self.live()?;
        self.run_move(&live, &order).await
    }

    async fn move_result(&self, id: u64) -> Answer<MoveResult> {
        self.results.lock().get(&id).cloned().ok_or_else(|| {
            AdminError::new(
                404,
                "no-such-move",
                format!("no move {id} was ordered here"),
                "`onemec handovers` lists moves",
            )
        })
    }

    async fn handovers(&self, after: u64, limit: usize) -> Answer<HandoverPage> {
        let live = self.live()?;
        let all = live.runtime.moves();
        let page: Vec<Handover> = all
            .iter()
            .filter(|m| m.id > after)
            .take(limit)
            .map(|m| Handover {
                id: m.id,
                aes: m.group.parse().map(|g| views::aes_of(&live, g)).unwrap_or_default(),
                group: m.group.clone(),
                reason: reason_of(&m.reason),
                from: self.name_of(NodeId(m.from)),
                to: self.name_of(NodeId(m.to)),
                begun_ms: m.at_ms,
                outcome: if m.result == "moved" { "done".into() } else { m.result.clone() },
                prepare_us: m.times.prepare_us,
                interruption_us: m.times.freeze_us,
                commit_us: m.times.commit_us,
                parked: u64::from(m.times.parked),
                mode: "replication".into(),
                ..Handover::default()
            })
            .collect();
        let next = page.last().map(|h| h.id).filter(|last| all.last().is_some_and(|m| m.id > *last));
        Ok(HandoverPage { handovers: page, next })
    }

    async fn drain(&self, order: DrainOrder) -> Answer<Drain> {
        let live = self.live()?;
        let node = self.node_named(&order.node)?;
        let only = order.to.as_deref().map(|n| self.node_named(n)).transpose()?;
        views::set_fact(&live, &draining_fact(node), Some("1".into())).await?;
        let groups: Vec<GroupId> = views::groups_led(&live, node);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let drain =
            Drain { id, node: order.node, state: "running".into(), total: groups.len() as u64, ..Drain::default() };
        {
            let mut drains = self.drains.lock();
            if drains.len() == DRAINS_MAX {
                drains.pop_first();
            }
            drains.insert(id, drain.clone());
        }
        let plan = groups
            .into_iter()
            .map(|g| (g, only.map_or_else(|| self.targets(&live, node, node, Some(g)).spread(g), |t| vec![t])))
            .collect();
        let catch_up = Duration::from_millis(self.topology.timing.move_ms_max);
        let parallel = (self.topology.limits.moves_max as usize).clamp(1, DRAIN_PARALLEL_MAX);
        tokio::spawn(run_drain(live, id, plan, self.drains.clone(), catch_up, parallel));
        Ok(drain)
    }

    async fn drain_progress(&self, id: u64) -> Answer<Drain> {
        self.drains.lock().get(&id).cloned().ok_or_else(|| {
            AdminError::new(
                404,
                "no-such-drain",
                format!("no drain {id} was ordered here"),
                "`onemec drain NODE` starts one",
            )
        })
    }

    async fn undrain(&self, order: DrainOrder) -> Answer<Drain> {
        let live = self.live()?;
        let node = self.node_named(&order.node)?;
        views::set_fact(&live, &draining_fact(node), None).await?;
        Ok(Drain { node: order.node, state: "done".into(), ..Drain::default() })
    }

    async fn audit(&self, after: u64, limit: usize) -> Answer<AuditPage> {
        let live = self.live()?;
        let Some(audit) = &live.audit else {
            let next = "set `audit = true` under [observability]";
            return Err(AdminError::new(404, "no-audit", "this node keeps no audit log", next));
        };
        let lines = audit.after(after, limit);
        let next = (lines.len() == limit).then(|| lines.last().map(|l| l.n)).flatten();
        Ok(AuditPage { lines, next })
    }

    async fn capabilities(&self) -> Answer<CapabilityFile> {
        Ok(views::capabilities(&*self.live()?))
    }

    fn metrics(&self) -> String {
        self.live.read().clone().map_or_else(String::new, |live| views::metrics(self, &live))
    }
}

async fn run_drain(
    live: Arc<Live>,
    id: u64,
    plan: Vec<(GroupId, Vec<NodeId>)>,
    drains: Arc<Mutex<BTreeMap<u64, Drain>>>,
    catch_up: Duration,
    parallel: usize,
) {
    let permits = Arc::new(tokio::sync::Semaphore::new(parallel));
    let mut moves = tokio::task::JoinSet::new();
    for (group, targets) in plan {
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let (live, drains) = (live.clone(), drains.clone());
        moves.spawn(async move {
            let mut why = "no node can take it".to_owned();
            let mut moved = false;
            for target in targets {
                match live.runtime.move_group(group, target, "drain", catch_up).await {
                    Ok(_) => {
                        moved = true;
                        break;
                    }
                    Err(e) => why = e.reason,
                }
            }
            drop(permit);
            if let Some(drain) = drains.lock().get_mut(&id) {
                if moved {
                    drain.moved += 1;
                } else if drain.failed.len() < FAILED_LISTED_MAX {
                    drain.failed.push(Excluded { node: group.to_string(), code: "not-moved".into(), text: why });
                }
            }
        });
    }
    while moves.join_next().await.is_some() {}
    if let Some(drain) = drains.lock().get_mut(&id) {
        drain.state = if drain.moved == drain.total { "done" } else { "failed" }.into();
    }
}

/// How many AEs are at home on a node.
pub(super) fn aes_at(live: &Live, node: NodeId) -> u64 {
    live.runtime.at_home(node, ContextKind::AE, None, usize::MAX).len() as u64
}
