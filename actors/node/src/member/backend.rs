//! The admin API of a running node.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use onemec_cse::Cse;
use onemec_cse::http::HttpFigures;
use onemec_mobility::candidates::Location;
use onemec_mobility::residency::Residency;
use onemec_mobility::strategy::{MoveReason, MoveRequest};
use onemec_runtime::audit::Audit;
use onemec_runtime::exec::Runtime;
use onemec_runtime::host::Host;
use onemec_runtime::lease::LeaseHandle;
use onemec_runtime::membership::MembershipHandle;
use onemec_runtime::supervise::Tree;
use onemec_wire::{ContextId, NodeId};
use parking_lot::{Mutex, RwLock};

use super::ca::Certificates;
use super::journal::Journal;
use super::mover::Mover;
use super::network::Network;
use super::nodes::Nodes;
use super::residency::{self, Rules};
use super::{daytwo, drains, metrics, views};
use crate::admin::server::{AdminBackend, AdminError, Answer};
use crate::admin::types::{
    Ae, AePage, Alarm, AuditPage, Candidates, CapabilityFile, Deaths, DeathsOrder, Directory, Drain, DrainOrder,
    ForceOrder, Forced, Handover, HandoverPage, Health, LabelOrder, Measurement, MeasurementRefused, Measurements,
    MeasurementsTaken, MoveOrder, MoveResult, NodeOrder, NodeRemoved, Status, VoterOrder, Voters,
};
use crate::node::Member;
use crate::topology::{Node, Topology};

/// Results of orders that are remembered.
const RESULTS_MAX: usize = 16_384;
/// Boots that ended badly which are remembered, and for how long they are an alarm.
const ESCALATIONS_KEPT: usize = 8;
const ALARM_MS: u64 = 3_600_000;
/// Measurements in one message, and refusals of them that are listed.
const MEASUREMENTS_MAX: usize = 1_000;
const REFUSED_LISTED_MAX: usize = 100;

/// What a serving node is asked through.
pub(super) struct Live {
    pub(super) runtime: Runtime,
    pub(super) lease: LeaseHandle,
    pub(super) gossip: MembershipHandle,
    pub(super) audit: Option<Arc<Audit>>,
    pub(super) cse: Cse,
    pub(super) doors: Arc<HttpFigures>,
    pub(super) mover: Mover,
    pub(super) network: Arc<Network>,
    pub(super) rules: Arc<Rules>,
}

/// See the module.
pub(super) struct Backend {
    pub(super) topology: Topology,
    pub(super) node: Node,
    pub(super) nodes: Arc<Nodes>,
    pub(super) began: Instant,
    pub(super) live: RwLock<Option<Arc<Live>>>,
    pub(super) journal: Arc<Journal>,
    /// What outlives the boots of the node.
    pub(super) tree: Arc<Tree>,
    /// Why boots were ended by a part that could not go on, and when: the last ones.
    escalations: Mutex<VecDeque<(u64, String)>>,
    pub(super) certificates: RwLock<Option<Arc<Certificates>>>,
    waiting_for: Mutex<String>,
    next: AtomicU64,
    results: Mutex<BTreeMap<u64, MoveResult>>,
}

impl Backend {
    pub(super) fn new(member: &Member, nodes: Arc<Nodes>, journal: Arc<Journal>, tree: Arc<Tree>) -> Self {
        Self {
            topology: member.topology.clone(),
            node: member.node.clone(),
            nodes,
            began: Instant::now(),
            live: RwLock::new(None),
            journal,
            tree,
            escalations: Mutex::default(),
            certificates: RwLock::new(None),
            waiting_for: Mutex::new("the start".into()),
            next: AtomicU64::new(1),
            results: Mutex::default(),
        }
    }

    /// A boot was ended by a part that could not go on.
    pub(super) fn escalated(&self, why: String) {
        let mut last = self.escalations.lock();
        if last.len() == ESCALATIONS_KEPT {
            last.pop_front();
        }
        last.push_back((wall_ms(), why));
    }

    /// The alarms about that: they stay on for an hour.
    pub(super) fn crash_loops(&self) -> Vec<Alarm> {
        let recent = wall_ms().saturating_sub(ALARM_MS);
        let last = self.escalations.lock();
        let alarm = |(since_ms, why): &(u64, String)| Alarm {
            code: "crash-loop".into(),
            text: format!("the node began anew because of {why}"),
            since_ms: *since_ms,
        };
        last.iter().filter(|(at, _)| *at >= recent).map(alarm).collect()
    }

    /// What the node waits for; empty when it serves.
    pub(super) fn waits_for(&self, what: &str) {
        *self.waiting_for.lock() = what.to_owned();
    }

    pub(super) fn attach(
        &self,
        host: &Host,
        cse: Cse,
        mover: Mover,
        network: Arc<Network>,
        rules: Arc<Rules>,
        doors: Arc<HttpFigures>,
    ) {
        let live = Live {
            runtime: host.runtime.clone(),
            lease: host.lease.clone(),
            gossip: host.membership(),
            audit: host.audit.clone(),
            cse,
            doors,
            mover,
            network,
            rules,
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
        self.nodes.name_of(node)
    }

    pub(super) fn node_named(&self, name: &str) -> Answer<NodeId> {
        self.nodes.named(name).ok_or_else(|| {
            let names = self.nodes.names();
            AdminError::new(
                404,
                "no-such-node",
                format!("there is no node `{name}`"),
                format!("its nodes are: {names}"),
            )
        })
    }

    async fn run_move(&self, live: &Live, order: &MoveOrder) -> Answer<MoveResult> {
        if !MoveReason::OF_ORDERS.contains(&order.reason) {
            let may = MoveReason::OF_ORDERS.map(MoveReason::as_str).join(", ");
            let text = format!("`{}` is no reason of an order, nothing was moved", order.reason);
            return Err(AdminError::new(400, "admin-bad-body", text, format!("give one of {may}, or leave it out")));
        }
        let found = views::find_ae(live, &order.ae)?;
        let target = order.to.as_deref().map(|name| self.node_named(name)).transpose()?;
        let request = MoveRequest { reason: order.reason, ..MoveRequest::operator(found.context, target) };
        let within = (order.deadline_ms > 0).then(|| Duration::from_millis(order.deadline_ms));
        let begun_ms = live.runtime.clock().wall_ms();
        let ended = live.mover.carry_out(&request, within).await;
        let unmoved = |to: Option<NodeId>| Handover {
            aes: views::aes_of(live, found.group),
            group: found.group.to_string(),
            reason: order.reason,
            from: self.name_of(found.primary),
            to: to.map(|n| self.name_of(n)).unwrap_or_default(),
            epoch: live.runtime.directory().read().group(found.group).map_or(0, |p| p.epoch.0),
            begun_ms,
            ..Handover::default()
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let result = match ended {
            Ok(moved) => {
                let handover = match &moved.record {
                    Some(record) => self.journal.shown(&live.runtime, record),
                    // Somebody was quicker: what was ordered is so.
                    None => Handover { outcome: "done".into(), ..unmoved(Some(moved.target)) },
                };
                MoveResult { id, state: "done".into(), handover, ..MoveResult::default() }
            }
            Err(e) => MoveResult {
                id,
                state: if e.code == "unknown" { "unknown" } else { "refused" }.into(),
                handover: Handover { outcome: e.code.clone(), text: e.text.clone(), ..unmoved(target) },
                code: e.code,
                text: e.text,
            },
        };
        let mut results = self.results.lock();
        if results.len() == RESULTS_MAX {
            results.pop_first();
        }
        results.insert(id, result.clone());
        Ok(result)
    }

    fn take(&self, live: &Live, m: &Measurement) -> Result<(), String> {
        let device: ContextId = views::find_ae(live, &m.ae).map_err(|e| e.body.message)?.context;
        match (&m.node, m.dbm, m.lat, m.lon) {
            (Some(node), Some(dbm), None, None) => {
                let node = self.node_named(node).map_err(|e| e.body.message)?;
                live.network.signal(device, node, dbm)
            }
            (None, None, Some(lat), Some(lon)) => live.network.place(device, Location { lat, lon }),
            _ => Err("a measurement has either `node` and `dbm` or `lat` and `lon`".into()),
        }
    }
}

/// For people.
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}

/// The directory did not take it.
fn not_taken(e: String) -> AdminError {
    AdminError::new(503, "directory", e, "try again in a moment")
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
        Ok(views::aes(self, &live, home, after.as_deref(), limit).await)
    }

    async fn ae(&self, ae: String) -> Answer<Ae> {
        let live = self.live()?;
        let found = views::find_ae(&live, &ae)?;
        Ok(views::ae_whole(self, &live, &found).await)
    }

    async fn candidates(&self, ae: String, n: usize) -> Answer<Candidates> {
        let live = self.live()?;
        let found = views::find_ae(&live, &ae)?;
        Ok(views::candidates(&live, &found, n).await)
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
        let (handovers, more) = self.journal.page(after, limit);
        let next = handovers.last().map(|h| h.id).filter(|_| more);
        Ok(HandoverPage { handovers, next })
    }

    async fn drain(&self, order: DrainOrder) -> Answer<Drain> {
        let live = self.live()?;
        let node = self.node_named(&order.node)?;
        let only = order.to.as_deref().map(|n| self.node_named(n)).transpose()?;
        if only == Some(node) {
            let text = format!("{} cannot be emptied to itself", order.node);
            return Err(AdminError::new(400, "admin-bad-body", text, "leave `--to` out, or name another node"));
        }
        let drain = drains::begin(&live.runtime, node, &order.node, only).await.map_err(not_taken)?;
        if let Err(e) = live.runtime.told(node).await {
            // It is so in the directory; the host learns it from there.
            tracing::info!(node = order.node, "has not confirmed that it is to be emptied: {e}");
        }
        Ok(drain)
    }

    async fn drain_progress(&self, id: u64) -> Answer<Drain> {
        let known = drains::all(&self.live()?.runtime).into_iter().find(|d| d.id == id);
        known.ok_or_else(|| {
            AdminError::new(
                404,
                "no-such-drain",
                format!("no drain {id} is known: of each node only the last one is"),
                "`onemec drain NODE` starts one",
            )
        })
    }

    async fn undrain(&self, order: DrainOrder) -> Answer<Drain> {
        let live = self.live()?;
        let node = self.node_named(&order.node)?;
        drains::end(&live.runtime, node).await.map_err(not_taken)?;
        let up = live.runtime.directory().read().node(node).is_some_and(|n| n.up);
        if up && let Err(e) = live.runtime.told(node).await {
            let text = format!("{} has not confirmed it yet: {e}", order.node);
            return Err(AdminError::new(504, &e.code, text, "it holds as soon as the node hears of it: try again"));
        }
        Ok(Drain { node: order.node, state: "done".into(), ..Drain::default() })
    }

    async fn label(&self, ae: String, order: LabelOrder) -> Answer<LabelOrder> {
        let live = self.live()?;
        if let Some(text) = &order.label {
            let label = Residency::parse(text).map_err(|e| {
                AdminError::new(400, "admin-bad-body", e.to_string(), "docs/operations.md shows the JSON")
            })?;
            // A name that is mistyped would leave the data without a place.
            for host in label.hosts() {
                self.node_named(host)?;
            }
        }
        // The AE-ID of a registered AE; otherwise what it will be.
        let ae = views::find_ae(&live, &ae).map_or(ae, |found| found.ae_id);
        views::set_fact(&live, &residency::fact_of(&ae), order.label.clone()).await?;
        Ok(order)
    }

    async fn measure(&self, measurements: Measurements) -> Answer<MeasurementsTaken> {
        let live = self.live()?;
        if measurements.measurements.len() > MEASUREMENTS_MAX {
            let text = format!("{} measurements, {MEASUREMENTS_MAX} at most", measurements.measurements.len());
            return Err(AdminError::new(413, "admin-bad-body", text, "send them in several messages"));
        }
        let mut end = MeasurementsTaken::default();
        for m in &measurements.measurements {
            match self.take(&live, m) {
                Ok(()) => end.taken += 1,
                Err(text) if end.refused.len() < REFUSED_LISTED_MAX => {
                    end.refused.push(MeasurementRefused { ae: m.ae.clone(), text });
                }
                Err(_) => {}
            }
        }
        Ok(end)
    }

    async fn voters(&self) -> Answer<Voters> {
        Ok(daytwo::voters(self, &*self.live()?))
    }

    async fn change_voters(&self, order: VoterOrder) -> Answer<Voters> {
        let live = self.live()?;
        daytwo::change_voters(self, &live, &order).await
    }

    async fn remove_node(&self, order: NodeOrder) -> Answer<NodeRemoved> {
        let live = self.live()?;
        daytwo::remove_node(self, &live, &order).await
    }

    async fn force(&self, group: String, order: ForceOrder) -> Answer<Forced> {
        let live = self.live()?;
        daytwo::force(self, &live, &group, &order).await
    }

    async fn confirm_deaths(&self, order: DeathsOrder) -> Answer<Deaths> {
        let live = self.live()?;
        daytwo::confirm_deaths(self, &live, &order).await
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
        Ok(views::capabilities(self, &*self.live()?))
    }

    async fn metrics(&self) -> String {
        let live = self.live.read().clone();
        metrics::render(self, live.as_deref()).await
    }
}
