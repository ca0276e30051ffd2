//! The course of the demo. It talks to the cluster as anybody would: oneM2M over HTTP, the admin API, signals.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_device::DeviceError;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::DemoError;
use super::checker::{self, Evidence, History};
use super::evidence;
use super::fleet::{self, Fleet, FleetOptions, Member, Stopped, Totals, endpoint};
use super::mobility::{self, Waypoints};
use super::report::{Felt, Problem, Report, failures, rows};
use crate::admin::types::{AuditLine, Directory, DrainOrder, MoveOrder, MoveReason};
use crate::admin::{AdminClient, AdminFailure};
use crate::topology::{Location, Node, Topology, UnmodifiedSteering};
use crate::up::UpError;

/// One move in so many may fail.
const FAILED_MOVES_DIVISOR: u64 = 10;
/// Moves under way at once.
const MOVES_AT_ONCE: usize = 4;
/// A device writes without pause from so long before its move to so long after.
const BEFORE: Duration = Duration::from_millis(80);
const AFTER: Duration = Duration::from_millis(250);
/// "Without pause": the sleep of a sampler's loop.
const NO_PAUSE: Duration = Duration::from_millis(1);
/// The pause when all devices of a host move at once.
const LITTLE_PAUSE: Duration = Duration::from_millis(5);
/// A device must write again so long after its host was killed.
const BACK_MAX: Duration = Duration::from_secs(15);
/// A drain may take so long.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// A killed host must be ready again so long after its start.
const RETURN_MAX: Duration = Duration::from_secs(20);
/// Pause between two views of the directory, and how many are kept.
const VIEW: Duration = Duration::from_millis(100);
const VIEWS_MAX: usize = 5000;
/// So many seconds of the devices' ways are shown, however long that takes.
const WANDER_S: f64 = 900.0;
/// Containers that are read back at once.
const READERS: usize = 8;

/// The processes that the demo may kill and start again.
pub trait Hosts: Send {
    /// What runs.
    fn topology(&self) -> &Topology;
    /// SIGKILL.
    fn kill(&mut self, name: &str) -> impl Future<Output = Result<(), UpError>> + Send;
    /// Starts it again and waits until it is ready.
    fn restart(&mut self, name: &str, within: Duration) -> impl Future<Output = Result<(), UpError>> + Send;
    /// Where it keeps its audit log.
    fn audit_file(&self, name: &str) -> Option<PathBuf>;
}

/// How the demo is to run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Devices.
    pub devices: usize,
    /// Time in which devices write.
    pub duration: Duration,
    /// Seed.
    pub seed: u64,
    /// Pause between readings of a device that is not being measured.
    pub pace: Duration,
}

/// Hears what goes on: part of the whole (0 to 1000) and words.
pub type Progress<'a> = &'a (dyn Fn(u64, &str) + Send + Sync);

/// Runs the demo on a running cluster.
///
/// # Errors
/// If it cannot be carried out. Broken invariants are no error but part of the report.
pub async fn run<H: Hosts>(hosts: &mut H, settings: &Settings, progress: Progress<'_>) -> Result<Report, DemoError> {
    let topology = hosts.topology().clone();
    let mut stage = Stage::set(&topology, settings).await?;
    progress(30, "devices register and write");
    stage.fleet_writes().await?;
    tokio::time::sleep(stage.share(8)).await;

    progress(100, "devices wander: the network orders their moves");
    stage.wander(stage.share(25)).await;
    progress(300, "an operator orders moves");
    stage.operator_moves(stage.share(14)).await;
    progress(430, "devices move by their own choice");
    stage.own_moves(stage.share(14)).await;
    let (drained, killed) = stage.two_edges()?;
    progress(560, &format!("{drained} is drained for maintenance"));
    stage.drain(&drained).await?;
    tokio::time::sleep(stage.share(4)).await;
    progress(680, &format!("{killed} is killed (SIGKILL)"));
    stage.failover(hosts, &killed).await?;
    tokio::time::sleep(stage.share(4)).await;
    progress(780, &format!("{killed} returns"));
    hosts.restart(&killed, RETURN_MAX).await?;
    stage.operator_moves(stage.share(10)).await;
    tokio::time::sleep(stage.share(4)).await;

    progress(880, "every acknowledged reading is read back through the IN-CSE");
    stage.finish(hosts, 1, progress).await
}

struct Stage<'a> {
    settings: &'a Settings,
    topology: &'a Topology,
    admin: AdminClient,
    edges: Vec<&'a Node>,
    fleet: Arc<Fleet>,
    homes: BTreeMap<String, String>,
    felt: Vec<Felt>,
    problems: Vec<String>,
    random: fastrand::Rng,
    places: Vec<Location>,
    views: Option<(watch::Sender<bool>, JoinHandle<Vec<Directory>>)>,
}

impl<'a> Stage<'a> {
    async fn set(topology: &'a Topology, settings: &'a Settings) -> Result<Self, DemoError> {
        let wrong = |text: &str| DemoError::Topology(text.to_owned());
        let in_cse = topology.in_cse().ok_or_else(|| wrong("no node has the role in-cse"))?;
        let edges: Vec<&Node> = topology.edges().collect();
        let places: Vec<Location> = edges.iter().filter_map(|n| n.capabilities.location).collect();
        if places.len() < 2 || places.len() != edges.len() {
            return Err(wrong("fewer than two mn-cse nodes, or one without `location`"));
        }
        let a = in_cse.admin_listen;
        let at = onemec_device::Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
        let admin = AdminClient::new(at, Duration::from_secs(30)).patient();
        let start =
            mobility::trace(&Waypoints { seed: settings.seed, ..Waypoints::default() }, &places, settings.devices, 0);
        let place = |device: usize| edges.get(*start.start.get(carrier(device))?).copied();
        let homes: Vec<&Node> = (0..settings.devices).filter_map(place).collect();
        let options = FleetOptions {
            devices: settings.devices,
            pace: settings.pace,
            seed: settings.seed,
            origin: Instant::now(),
        };
        let fleet = Arc::new(Fleet::start(topology, &homes, &options).await?);
        let views = Some(watch_directory(admin.clone()));
        let homes = fleet.members.iter().zip(&homes).map(|(m, h)| (m.ae_id.clone(), h.name.clone())).collect();
        let random = fastrand::Rng::with_seed(settings.seed);
        let (felt, problems) = (Vec::new(), Vec::new());
        Ok(Self { settings, topology, admin, edges, fleet, homes, felt, problems, random, places, views })
    }

    fn share(&self, percent: u32) -> Duration {
        self.settings.duration * percent / 100
    }

    async fn fleet_writes(&self) -> Result<(), DemoError> {
        let until = Instant::now() + BACK_MAX;
        while !self.fleet.members.iter().all(|m| m.wrote_since(0)) {
            if Instant::now() >= until {
                let silent = self.fleet.members.iter().find(|m| !m.wrote_since(0)).map_or("", |m| m.name.as_str());
                return Err(DemoError::Late(format!("{silent} has written nothing within {} s", BACK_MAX.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Moves by the mobility model: the network notices who is nearer to another host.
    async fn wander(&mut self, duration: Duration) {
        let speed_up = WANDER_S / duration.as_secs_f64().max(0.1);
        let model = Waypoints { seed: self.settings.seed, speed_up, ..Waypoints::default() };
        let length_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let trace = mobility::trace(&model, &self.places, self.settings.devices, length_ms);
        let begun = Instant::now();
        let mut moves = Moves::new();
        for crossing in trace.crossings.into_iter().filter(|c| carrier(c.device) == c.device) {
            let due = begun + Duration::from_millis(crossing.at_ms);
            tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
            let Some(to) = self.edges.get(crossing.to).map(|n| n.name.clone()) else { continue };
            self.order(&mut moves, crossing.device, to, MoveReason::Network).await;
        }
        tokio::time::sleep((begun + duration).saturating_duration_since(Instant::now())).await;
        self.collect(moves).await;
    }

    async fn operator_moves(&mut self, duration: Duration) {
        self.random_moves(duration, MoveReason::Operator).await;
    }

    async fn own_moves(&mut self, duration: Duration) {
        self.random_moves(duration, MoveReason::Device).await;
    }

    async fn random_moves(&mut self, duration: Duration, reason: MoveReason) {
        let begun = Instant::now();
        let mut moves = Moves::new();
        while begun.elapsed() < duration {
            let device = self.random.usize(0..self.fleet.members.len().max(1));
            let Some(to) = self.other_edge(device) else { break };
            self.order(&mut moves, device, to, reason).await;
            moves.reap(&mut self.felt, &mut self.homes);
        }
        self.collect(moves).await;
    }

    /// An edge host other than the device's home.
    fn other_edge(&mut self, device: usize) -> Option<String> {
        let home = self.fleet.members.get(device).and_then(|m| self.homes.get(&m.ae_id));
        let others: Vec<&str> =
            self.edges.iter().map(|n| n.name.as_str()).filter(|n| home.is_none_or(|h| h != n)).collect();
        let pick = self.random.usize(0..others.len().max(1));
        others.get(pick).map(|n| (*n).to_owned())
    }

    /// Starts a move as soon as fewer than [`MOVES_AT_ONCE`] are under way; passes over a device that is moving.
    async fn order(&mut self, moves: &mut Moves, device: usize, to: String, reason: MoveReason) {
        let Ok(permit) = moves.permits.clone().acquire_owned().await else { return };
        let fleet = self.fleet.clone();
        let Some(member) = fleet.members.get(device) else { return };
        let Ok(guard) = member.moving.clone().try_lock_owned() else { return };
        if reason == MoveReason::Device && member.device().is_none() {
            return;
        }
        let order = Order {
            admin: self.admin.clone(),
            poa: self.topology.node(&to).map(Node::poa).unwrap_or_default(),
            to,
            reason,
            usual: self.settings.pace,
        };
        let fleet = self.fleet.clone();
        moves.tasks.spawn(async move {
            let _held = (permit, guard);
            one_move(&fleet, device, order).await
        });
    }

    async fn collect(&mut self, mut moves: Moves) {
        while let Some(ended) = moves.tasks.join_next().await {
            note(ended.ok(), &mut self.felt, &mut self.homes);
        }
    }

    /// The edge to drain, and the one to kill: the first two.
    fn two_edges(&self) -> Result<(String, String), DemoError> {
        match self.edges.as_slice() {
            [a, b, ..] => Ok((a.name.clone(), b.name.clone())),
            _ => Err(DemoError::Topology("fewer than two edge hosts".into())),
        }
    }

    async fn at_home(&self, node: &str) -> Result<Vec<usize>, DemoError> {
        let aes = self.admin.aes(Some(node)).await.map_err(DemoError::admin("list of devices"))?;
        let is_there = |m: &Member| aes.iter().any(|a| a.ae_id == m.ae_id);
        Ok(self.fleet.members.iter().enumerate().filter(|(_, m)| is_there(m)).map(|(i, _)| i).collect())
    }

    fn pace(&self, devices: &[usize], pause: Duration) {
        for member in devices.iter().filter_map(|i| self.fleet.members.get(*i)) {
            member.pace.set(pause);
        }
    }

    async fn drain(&mut self, node: &str) -> Result<(), DemoError> {
        let devices = self.at_home(node).await?;
        self.pace(&devices, LITTLE_PAUSE);
        tokio::time::sleep(BEFORE).await;
        let from_us = self.fleet.now_us();
        let order = DrainOrder { node: node.to_owned(), to: None };
        let mut drain = self.admin.drain(&order).await.map_err(DemoError::admin("drain"))?;
        let until = Instant::now() + DRAIN_MAX;
        while drain.state == "running" && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drain = self.admin.drain_progress(drain.id).await.map_err(DemoError::admin("drain"))?;
        }
        let done = drain.state == "done";
        if !done {
            let first = drain.failed.first().map(|f| format!("; {}: {}", f.aes.join(", "), f.text)).unwrap_or_default();
            self.problems.push(format!("drain of {node}: {}, {} of {}{first}", drain.state, drain.moved, drain.total));
        }
        tokio::time::sleep(AFTER).await;
        let to_us = self.fleet.now_us();
        self.pace(&devices, self.settings.pace);
        let problem = (!done).then(|| Problem::new("drain", "the drain did not end well"));
        self.feel(&devices, MoveReason::Drain, from_us, to_us, problem.as_ref());
        self.admin.undrain(&order).await.map_err(DemoError::admin("end of the drain"))?;
        Ok(())
    }

    async fn failover<H: Hosts>(&mut self, hosts: &mut H, node: &str) -> Result<(), DemoError> {
        let devices = self.at_home(node).await?;
        self.pace(&devices, LITTLE_PAUSE);
        tokio::time::sleep(BEFORE).await;
        let from_us = self.fleet.now_us();
        hosts.kill(node).await?;
        let until = Instant::now() + BACK_MAX;
        let killed_us = self.fleet.now_us();
        let back = |i: &usize| self.fleet.members.get(*i).is_some_and(|m| m.wrote_since(killed_us));
        while !devices.iter().all(back) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(AFTER).await;
        let silent: Vec<usize> = devices.iter().filter(|i| !back(i)).copied().collect();
        let served: Vec<usize> = devices.iter().filter(|i| back(i)).copied().collect();
        let to_us = self.fleet.now_us();
        self.pace(&devices, self.settings.pace);
        self.feel(&served, MoveReason::Failover, from_us, to_us, None);
        let problem = Problem::new("not-served", format!("not served again within {} s", BACK_MAX.as_secs()));
        self.feel(&silent, MoveReason::Failover, from_us, to_us, Some(&problem));
        self.locate().await;
        Ok(())
    }

    /// Where the devices are after something that the demo did not order one by one.
    async fn locate(&mut self) {
        match self.admin.aes(None).await {
            Ok(aes) => self.homes.extend(aes.into_iter().map(|a| (a.ae_id, a.home))),
            Err(e) => self.problems.push(format!("list of devices: {e}")),
        }
    }

    fn feel(&mut self, devices: &[usize], kind: MoveReason, from_us: u64, to_us: u64, problem: Option<&Problem>) {
        for member in devices.iter().filter_map(|i| self.fleet.members.get(*i)) {
            let (gap_us, errors) = member.gap(from_us, to_us);
            let (device, done, problem) = (member.name.clone(), problem.is_none(), problem.cloned());
            self.felt.push(Felt { device, client: member.client, kind, done, gap_us, errors, problem });
        }
    }

    async fn finish<H: Hosts>(mut self, hosts: &H, kills: u64, progress: Progress<'_>) -> Result<Report, DemoError> {
        let wrote_ms = self.fleet.now_us() / 1000;
        let (sources, members) = (self.fleet.sources, self.fleet.members.len());
        let bundles = self.fleet.bundles();
        let unmodified = self.fleet.members.iter().filter(|m| m.device().is_none()).count();
        let fleet = Arc::into_inner(self.fleet).ok_or_else(|| DemoError::Late("a move has not ended".into()))?;
        let (stopped, totals) = fleet.stop().await;
        if stopped.len() != members {
            self.problems.push(format!("{} devices ended badly", members - stopped.len()));
        }
        let problem_of = |s: &Stopped| s.problem.as_ref().map(|p| format!("{}: {p}", s.name));
        self.problems.extend(stopped.iter().filter_map(problem_of));
        let histories = read_all(self.topology, &stopped, &mut self.problems).await?;
        progress(960, "the nodes' logs are checked");
        let views = match self.views.take() {
            Some((stop, task)) => {
                stop.send_replace(true);
                task.await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut evidence = Evidence { histories, views, bundles, torn_lines_allowed: kills, ..Evidence::default() };
        gather_logs(hosts, self.topology, &mut evidence, &mut self.problems).await;
        let verdict = checker::check(&evidence);
        if verdict.bundles == 0 || verdict.bundle_moves == 0 {
            let (bundles, moves) = (verdict.bundles, verdict.bundle_moves);
            self.problems.push(format!("{bundles} bundles, {moves} moves of one: I6 had nothing to check"));
        }
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let failures = failures(&self.felt);
        let failed: u64 = failures.iter().map(|f| f.count).sum();
        // A move that is refused leaves its device served where it was: the table shows it. Many of them are a problem.
        if let Some(first) = failures.first().filter(|_| failed * FAILED_MOVES_DIVISOR > count(self.felt.len())) {
            let (n, all, reason) = (failed, self.felt.len(), &first.code);
            self.problems.push(format!("{n} of {all} moves of devices failed, more than one in ten; mostly {reason}"));
        }
        let rows = rows(&self.felt);
        for kind in
            [MoveReason::Operator, MoveReason::Device, MoveReason::Network, MoveReason::Drain, MoveReason::Failover]
        {
            if !rows.iter().any(|r| r.kind == kind && r.moves > r.failed) {
                self.problems.push(format!("no move by {kind:?} succeeded: nothing was shown"));
            }
        }
        let read_back = evidence.histories.iter().map(|h| h.read_back.len()).sum();
        let Totals { retried, dropped, unsent } = totals;
        Ok(Report {
            ok: verdict.is_clean() && self.problems.is_empty(),
            seed: self.settings.seed,
            nodes: self.topology.node.iter().map(|n| n.name.clone()).collect(),
            devices_library: count(members - unmodified),
            devices_unmodified: count(unmodified),
            sources: count(sources),
            mobility: "random waypoint (Johnson and Maltz 1996), a quarter of an hour in fast motion".into(),
            steering: match self.topology.steering.unmodified {
                UnmodifiedSteering::Dns => "our DNS",
                UnmodifiedSteering::SecondAddress => "a second address",
                UnmodifiedSteering::AddressTakeover => "address take-over",
            }
            .into(),
            wrote_ms,
            rows,
            failures,
            read_back: count(read_back),
            retried,
            dropped,
            unsent,
            verdict,
            problems: self.problems,
            dir: None,
        })
    }
}

struct Moves {
    tasks: JoinSet<Moved>,
    permits: Arc<Semaphore>,
}

impl Moves {
    fn new() -> Self {
        Self { tasks: JoinSet::new(), permits: Arc::new(Semaphore::new(MOVES_AT_ONCE)) }
    }
    fn reap(&mut self, felt: &mut Vec<Felt>, homes: &mut BTreeMap<String, String>) {
        while let Some(ended) = self.tasks.try_join_next() {
            note(ended.ok(), felt, homes);
        }
    }
}

/// What one move came to, for each device that it carried.
#[derive(Default)]
struct Moved {
    felt: Vec<Felt>,
    aes: Vec<String>,
    to: String,
}

fn note(ended: Option<Moved>, felt: &mut Vec<Felt>, homes: &mut BTreeMap<String, String>) {
    let Some(moved) = ended else { return };
    if moved.felt.iter().all(|f| f.done) {
        homes.extend(moved.aes.into_iter().map(|ae| (ae, moved.to.clone())));
    }
    felt.extend(moved.felt);
}

/// The one of a pair whose way both go: they are one thing at one place.
fn carrier(device: usize) -> usize {
    fleet::mate(device).map_or(device, |mate| mate.min(device))
}

/// One move that was decided.
struct Order {
    admin: AdminClient,
    to: String,
    /// Point of access of `to`.
    poa: String,
    reason: MoveReason,
    /// The pause of a device that is not being measured.
    usual: Duration,
}

/// One device and whoever moves with it: without pause before, through and after the move.
async fn one_move(fleet: &Fleet, device: usize, order: Order) -> Moved {
    let Some(ordered) = fleet.members.get(device) else { return Moved::default() };
    let carried: Vec<&Member> = fleet.together(device).into_iter().filter_map(|i| fleet.members.get(i)).collect();
    for member in &carried {
        member.pace.set(NO_PAUSE);
    }
    tokio::time::sleep(BEFORE).await;
    let from_us = fleet.now_us();
    let problem = order.carry_out(ordered).await;
    tokio::time::sleep(AFTER).await;
    let to_us = fleet.now_us();
    let mut moved = Moved { to: order.to, ..Moved::default() };
    for member in carried {
        member.pace.set(order.usual);
        let (gap_us, errors) = member.gap(from_us, to_us);
        let (device, done, problem) = (member.name.clone(), problem.is_none(), problem.clone());
        moved.felt.push(Felt { device, client: member.client, kind: order.reason, done, gap_us, errors, problem });
        moved.aes.push(member.ae_id.clone());
    }
    moved
}

impl Order {
    /// Why it failed; `None` if it is done.
    async fn carry_out(&self, member: &Member) -> Option<Problem> {
        if self.reason == MoveReason::Device {
            return match (member.device(), endpoint(&self.poa)) {
                (Some(device), Ok(target)) => device.move_to(target).await.err().map(|e| of_device(&e)),
                _ => Some(Problem::new("no-address", "it has no address to move to")),
            };
        }
        let (ae, to, reason) = (member.ae_id.clone(), Some(self.to.clone()), self.reason);
        match self.admin.order_move(&MoveOrder { ae, to, reason, deadline_ms: 10_000 }).await {
            Ok(r) if r.state == "done" => None,
            Ok(r) => Some(Problem::new(if r.code.is_empty() { &r.state } else { &r.code }, r.text)),
            Err(e) => Some(of_admin(&e)),
        }
    }
}

fn of_device(error: &DeviceError) -> Problem {
    let code = match error {
        DeviceError::Refused { rsc, .. } => format!("rsc-{rsc}"),
        DeviceError::Unknown { .. } => "no-answer".into(),
        DeviceError::Http(_) => "connection".into(),
        DeviceError::BadAnswer { .. } => "bad-answer".into(),
        DeviceError::NotReady(_) => "no-token".into(),
        DeviceError::Stopped => "stopped".into(),
    };
    Problem::new(code, error.to_string())
}

fn of_admin(error: &AdminFailure) -> Problem {
    match error {
        AdminFailure::Refused { body, .. } => Problem::new(&body.code, &body.message),
        AdminFailure::Http { source } => Problem::new("connection", source.to_string()),
        AdminFailure::Foreign { detail, .. } => Problem::new("bad-answer", detail),
    }
}

fn watch_directory(admin: AdminClient) -> (watch::Sender<bool>, JoinHandle<Vec<Directory>>) {
    let (stop, mut stopped) = watch::channel(false);
    let task = tokio::spawn(async move {
        let mut views = Vec::new();
        while !*stopped.borrow() && views.len() < VIEWS_MAX {
            if let Ok(view) = admin.directory().await {
                views.push(view);
            }
            tokio::select! {
                _ = stopped.changed() => {}
                () = tokio::time::sleep(VIEW) => {}
            }
        }
        views
    });
    (stop, task)
}

async fn read_all(
    topology: &Topology,
    stopped: &[Stopped],
    problems: &mut Vec<String>,
) -> Result<Vec<History>, DemoError> {
    let poa = topology.in_cse().map(Node::poa).unwrap_or_default();
    let at = endpoint(&poa).map_err(|source| DemoError::Device { device: "reader".into(), source })?;
    let permits = Arc::new(Semaphore::new(READERS));
    let mut tasks = JoinSet::new();
    for device in stopped.iter().cloned() {
        let (permits, at) = (permits.clone(), at.clone());
        tasks.spawn(async move {
            let _permit = permits.acquire_owned().await;
            let read = evidence::read_back(&at, &device).await;
            (device, read)
        });
    }
    let mut histories = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        let Ok((device, read)) = ended else { continue };
        let read_back = read.unwrap_or_else(|e| {
            problems.push(format!("cannot be read back: {e}"));
            Vec::new()
        });
        histories.push(History { device: device.name, events: device.events, read_back });
    }
    Ok(histories)
}

async fn gather_logs<H: Hosts>(hosts: &H, t: &Topology, evidence: &mut Evidence, problems: &mut Vec<String>) {
    for node in &t.node {
        evidence.nodes.push(node.name.clone());
        let a = node.admin_listen;
        let at = onemec_device::Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
        let admin = AdminClient::new(at, Duration::from_secs(30)).patient();
        let lines: Result<Vec<AuditLine>, String> = match hosts.audit_file(&node.name) {
            Some(path) => evidence::audit_file(&path)
                .map(|(lines, damaged)| {
                    evidence.torn_lines += damaged;
                    lines
                })
                .map_err(|e| format!("{}: {e}", path.display())),
            None => admin.audit().await.map_err(|e| e.to_string()),
        };
        match lines {
            Ok(lines) => evidence.logs.extend(lines),
            Err(e) => problems.push(format!("audit log of {}: {e}", node.name)),
        }
        match admin.aes(Some(&node.name)).await {
            Ok(aes) => {
                evidence.registrars.insert(node.name.clone(), aes.into_iter().map(|a| a.ae_id).collect());
            }
            Err(e) => problems.push(format!("devices at home on {}: {e}", node.name)),
        }
    }
}
