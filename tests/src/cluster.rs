//! A cluster of child processes on free ports of the loopback interface.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use onemec_device::{Connector, Endpoint};
use onemec_node::admin::AdminClient;
use onemec_node::admin::types::{Ae, Directory, MoveOrder, MoveReason, MoveResult, Placement};
use onemec_node::node::AUDIT_FILE;
use onemec_node::steering::dns::client::StubResolver;
use onemec_node::topology::{self, PortBase, ServiceAddress, Topology, UnmodifiedSteering, with_ports};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::client::{Ask, Client};
use crate::disk::SmallDisk;
use crate::net::{Family, Net, PORTS_INSIDE};
use crate::wait::until;

/// Lines of each log that are shown when a test fails.
const TAIL_LINES: usize = 12;
/// A busy port makes a node end at its start: then other ports are tried.
const STARTS_MAX: u32 = 5;
/// Ports below those that the kernel gives to outgoing connections, so that a killed node finds its own free again.
const PORTS: std::ops::Range<u16> = 10_000..31_000;
/// Ports of one node and of one cluster (as `with_ports` counts them).
const PORTS_PER_NODE: usize = 10;

/// Running nodes. Dropping it kills them; if the test failed, the run folder stays and the ends of the logs are shown.
pub struct Cluster {
    topology: Topology,
    file: PathBuf,
    /// Of nodes that joined later: each has its own.
    files: BTreeMap<String, PathBuf>,
    dir: Option<TempDir>,
    children: BTreeMap<String, Child>,
    kills: u64,
    net: Option<Arc<Net>>,
    disk: Option<SmallDisk>,
    log_level: Option<&'static str>,
    /// Zero of all times of the history.
    pub origin: Instant,
    _turn: OwnedMutexGuard<()>,
}

/// Clusters of one test program run one after another: three nodes and their writers are enough for a small machine.
fn turn() -> Arc<Mutex<()>> {
    static TURN: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
    TURN.get_or_init(Arc::default).clone()
}

/// The program: `ONEMEC_BIN`, or the one that cargo builds beside this test.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(given) = std::env::var_os("ONEMEC_BIN") {
            return given.into();
        }
        let me = std::env::current_exe().unwrap();
        let profile = me.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "onemec-node", "--bin", "onemec"]);
        build.args(["--target-dir"]).arg(profile.parent().unwrap());
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the program `onemec` does not build");
        profile.join("onemec")
    })
}

impl Cluster {
    /// One cloud node and two edge hosts, ready.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Nodes that log at this level (`RUST_LOG`).
    pub async fn start_logging(level: &'static str, change: impl Fn(&mut Topology)) -> Self {
        Self::start_with_log(include_str!("../../cluster-configs/local-3.toml"), None, Some(level), change).await
    }

    /// The same with a topology that `change` has changed.
    pub async fn start_with(change: impl Fn(&mut Topology)) -> Self {
        Self::start_sample(include_str!("../../cluster-configs/local-3.toml"), None, change).await
    }

    /// One cloud node and four edge hosts, three replicas of everything.
    pub async fn start_five() -> Self {
        Self::start_five_with(|_| {}).await
    }

    /// The same with a topology that `change` has changed.
    pub async fn start_five_with(change: impl Fn(&mut Topology)) -> Self {
        Self::start_sample(include_str!("../../cluster-configs/local-5.toml"), None, change).await
    }

    /// One cloud node and two edge hosts, each in a network namespace of its own.
    pub async fn start_in(net: Net) -> Self {
        Self::start_in_with(Some(net), |_| {}).await
    }

    /// The same with a changed topology; without namespaces: on loopback.
    pub async fn start_in_with(net: Option<Net>, change: impl Fn(&mut Topology)) -> Self {
        Self::start_sample(include_str!("../../cluster-configs/local-3.toml"), net, change).await
    }

    /// One cloud node and two edge hosts on addresses of their own, found through their DNS servers.
    pub async fn start_dns(change: impl Fn(&mut Topology)) -> Self {
        Self::start_sample(include_str!("../../cluster-configs/local-dns-3.toml"), None, change).await
    }

    /// One cloud node and two edge hosts in namespaces, each with an address for clients that the others take over.
    pub async fn start_takeover(net: Net, family: Family) -> Self {
        let addresses: BTreeMap<String, std::net::IpAddr> =
            net.names().iter().map(|n| (n.clone(), net.service_address(n, family))).collect();
        let change = move |topology: &mut Topology| {
            topology.steering.unmodified = UnmodifiedSteering::AddressTakeover;
            for node in &mut topology.node {
                let (ip, bits) = (addresses[&node.name], family.bits());
                node.http_listen.set_ip(family.any());
                node.service_address =
                    Some(ServiceAddress { interface: "eth0".into(), address: format!("{ip}/{bits}") });
            }
        };
        Self::start_sample(include_str!("../../cluster-configs/local-3.toml"), Some(net), change).await
    }

    /// One cloud node and two edge hosts, one of which has a disk of so many MiB. `None` where that is not possible.
    pub async fn start_with_small_disk(node: &str, mib: u32) -> Option<Self> {
        // Mounted before the first start: the nodes are put to rest for it.
        let mut cluster = Self::start().await;
        for name in cluster.names() {
            cluster.end(&name);
        }
        let folder = cluster.path().join(node);
        std::fs::remove_dir_all(&folder).unwrap();
        for other in cluster.names() {
            // Nobody has seen a disk that is gone.
            let _ = std::fs::remove_dir_all(cluster.path().join(other));
        }
        cluster.disk = Some(SmallDisk::new(&folder, mib)?);
        // The evidence is not to suffer from the fault.
        let audit = cluster.path().join(format!("{node}.{AUDIT_FILE}"));
        std::os::unix::fs::symlink(audit, folder.join(AUDIT_FILE)).unwrap();
        for name in cluster.names() {
            cluster.spawn(&name);
        }
        for name in cluster.names() {
            cluster.ready(&name).await;
        }
        Some(cluster)
    }

    /// The small disk.
    pub fn disk(&mut self) -> &mut SmallDisk {
        self.disk.as_mut().expect("a cluster with a small disk")
    }

    async fn start_sample(sample: &str, net: Option<Net>, change: impl Fn(&mut Topology)) -> Self {
        Self::start_with_log(sample, net, None, change).await
    }

    async fn start_with_log(
        sample: &str,
        net: Option<Net>,
        log: Option<&'static str>,
        change: impl Fn(&mut Topology),
    ) -> Self {
        let turn = turn().lock_owned().await;
        let mut sample = topology::parse(sample).unwrap();
        sample.observability.audit = true;
        if let Some(net) = &net {
            for node in &mut sample.node {
                let ip = net.address(&node.name);
                for address in [&mut node.cluster_listen, &mut node.http_listen, &mut node.admin_listen] {
                    address.set_ip(ip);
                }
            }
        }
        change(&mut sample);
        let mut cluster = Self {
            topology: sample.clone(),
            file: PathBuf::new(),
            files: BTreeMap::new(),
            dir: None,
            children: BTreeMap::new(),
            kills: 0,
            net: net.map(Arc::new),
            disk: None,
            log_level: log,
            origin: Instant::now(),
            _turn: turn,
        };
        for _ in 0..STARTS_MAX {
            let ports = if cluster.net.is_some() { PORTS_INSIDE } else { free_ports(sample.node.len()) };
            cluster.topology = with_ports(sample.clone(), PortBase::From(ports)).unwrap();
            let dir = tempfile::Builder::new().prefix("onemec-tests-").tempdir().unwrap();
            cluster.file = dir.path().join("topology.toml");
            std::fs::write(&cluster.file, toml::to_string(&cluster.topology).unwrap()).unwrap();
            cluster.dir = Some(dir);
            for name in cluster.names() {
                cluster.spawn(&name);
            }
            let mut taken = false;
            for name in cluster.names() {
                taken |= !cluster.is_ready(&name).await;
            }
            if !taken {
                return cluster;
            }
            for name in cluster.names() {
                cluster.end(&name);
            }
        }
        panic!("no cluster after {STARTS_MAX} attempts; the last logs:\n{}", cluster.tails());
    }

    /// The topology that runs.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// How many nodes were killed.
    pub fn kills(&self) -> u64 {
        self.kills
    }

    /// Names of the nodes.
    pub fn names(&self) -> Vec<String> {
        self.topology.node.iter().map(|n| n.name.clone()).collect()
    }

    /// The door of a node.
    pub fn door(&self, name: &str) -> Endpoint {
        self.topology.node(name).unwrap().poa().parse().unwrap()
    }

    /// The doors of all nodes, the given one first.
    pub fn doors(&self, first: &str) -> Vec<Endpoint> {
        let others = self.topology.node.iter().filter(|n| n.name != first).map(|n| self.door(&n.name));
        std::iter::once(self.door(first)).chain(others).collect()
    }

    /// The admin API of a node.
    pub fn admin(&self, name: &str) -> AdminClient {
        self.admin_within(name, Duration::from_secs(30))
    }

    /// The text that the admin door gives for a path.
    pub async fn get_admin(&self, name: &str, path: &str) -> String {
        let endpoint = self.admin(name).endpoint().clone();
        let mut connection = Connector::default().connect(&endpoint, Duration::from_secs(5)).await.unwrap();
        let request = http::Request::get(path).body(http_body_util::Full::new(bytes::Bytes::new())).unwrap();
        let answer = connection.send(request, Duration::from_secs(5)).await.unwrap();
        String::from_utf8(answer.body.to_vec()).unwrap()
    }

    fn admin_within(&self, name: &str, timeout: Duration) -> AdminClient {
        let a = self.topology.node(name).unwrap().admin_listen;
        AdminClient::new(Endpoint { tls: false, host: a.ip().to_string(), port: a.port() }, timeout)
    }

    /// What the program prints when a user gives it this command at a node's admin API. It must succeed.
    pub fn command(&self, node: &str, arguments: &[&str]) -> String {
        let admin = format!("http://{}", self.topology.node(node).unwrap().admin_listen);
        let done = Command::new(program()).args(arguments).args(["--admin", &admin]).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "onemec {}: {err}{out}", arguments.join(" "));
        out.into_owned()
    }

    /// `/metrics` of a node.
    pub async fn metrics(&self, name: &str) -> String {
        let a = self.topology.node(name).unwrap().admin_listen;
        let door = Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
        let answer = Client::new(door, "Cmetrics").ask(&Ask::retrieve("/metrics")).await;
        assert!(answer.status.is_success(), "{}", answer.excerpt());
        String::from_utf8_lossy(&answer.body).into_owned()
    }

    /// The data folder of a node.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The audit log of a node.
    pub fn audit_file(&self, name: &str) -> PathBuf {
        self.path().join(name).join(AUDIT_FILE)
    }

    fn path(&self) -> &Path {
        self.dir.as_ref().unwrap().path()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.log"))
    }

    /// A node that no other node's topology names joins and is ready: what an operator does with one file on the new box.
    pub async fn join(&mut self, name: &str) {
        let mut node = self.topology.node("edge1").unwrap().clone();
        let port = free_ports(1);
        let id = self.topology.node.iter().map(|n| n.id).max().unwrap() + 1;
        (node.name, node.id, node.roles) = (name.into(), id, vec![topology::Role::MnCse]);
        (node.cse_id, node.cse_base) = (format!("/{name}"), format!("{name}-base"));
        for (address, offset) in
            [(&mut node.http_listen, 0), (&mut node.admin_listen, 1), (&mut node.cluster_listen, 2)]
        {
            address.set_port(port + offset);
        }
        self.topology.node.push(node);
        let file = self.path().join(format!("{name}.toml"));
        std::fs::write(&file, toml::to_string(&self.topology).unwrap()).unwrap();
        self.files.insert(name.into(), file);
        self.spawn(name);
        self.ready(name).await;
    }

    /// A node that was taken out for good is not counted any more.
    pub fn forget(&mut self, name: &str) {
        self.topology.node.retain(|n| n.name != name);
    }

    /// Everything on a node's disk is gone; it must not run.
    pub fn lose_disk(&self, name: &str) {
        assert!(!self.children.contains_key(name), "{name} runs");
        let folder = self.path().join(name);
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            // The evidence is not the node's.
            if entry.file_name() == AUDIT_FILE {
                continue;
            }
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
        }
    }

    /// Starts a node that does not run, with the data that it has. Its process ends with this thread.
    pub fn spawn(&mut self, name: &str) {
        let open = || File::options().create(true).append(true).open(self.log(name)).unwrap();
        let mut command = match &self.net {
            Some(net) => net.command(name, program()),
            None => Command::new(program()),
        };
        if let Some(level) = self.log_level {
            command.env("RUST_LOG", level);
        }
        let child = command
            .env("ONEMEC_HALT_FILE", self.halt_file(name))
            .env("ONEMEC_CRASH_FILE", self.crash_file(name))
            .arg("node")
            .arg(self.files.get(name).unwrap_or(&self.file))
            .args(["--name", name, "--dir"])
            .arg(self.path())
            .args(["--die-with", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program().display()));
        assert!(self.children.insert(name.into(), child).is_none(), "{name} runs already");
    }

    /// Waits for a node. False if its process ended.
    async fn is_ready(&mut self, name: &str) -> bool {
        let admin = self.admin_within(name, Duration::from_secs(2));
        let child = self.children.get_mut(name).unwrap();
        until(&format!("{name} is ready"), async || {
            if child.try_wait().unwrap().is_some() {
                return Some(false);
            }
            admin.health().await.ok().filter(|h| h.ready).map(|_| true)
        })
        .await
    }

    /// Waits until a node serves.
    pub async fn ready(&mut self, name: &str) {
        assert!(self.is_ready(name).await, "{name} has ended by itself");
    }

    /// SIGKILL; returns once the process is gone.
    pub fn kill(&mut self, name: &str) {
        self.kills += 1;
        self.end(name);
    }

    fn end(&mut self, name: &str) {
        if let Some(mut child) = self.children.remove(name) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGKILL to all before the first of them is waited for.
    pub fn kill_all(&mut self) {
        for child in self.children.values_mut() {
            child.kill().unwrap();
        }
        for name in self.names() {
            self.kill(&name);
        }
    }

    /// Starts a killed node again and waits for it.
    pub async fn restart(&mut self, name: &str) {
        self.spawn(name);
        self.ready(name).await;
    }

    /// SIGSTOP: the process exists, holds its sockets, and does nothing.
    pub fn stop(&self, name: &str) {
        self.signal(name, Signal::STOP);
    }

    /// SIGCONT.
    pub fn cont(&self, name: &str) {
        self.signal(name, Signal::CONT);
    }

    fn signal(&self, name: &str, signal: Signal) {
        let pid = Pid::from_child(&self.children[name]);
        kill_process(pid, signal).unwrap();
    }

    fn halt_file(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.halt"))
    }

    fn crash_file(&self, name: &str) -> PathBuf {
        self.path().join(format!("{name}.crash"))
    }

    /// The task at this place of the node's supervision tree crashes: once, or (`always`) each time it is made anew.
    pub fn crash(&self, name: &str, path: &str, always: bool) {
        let text = if always { format!("{path} always") } else { path.to_owned() };
        // Never half of it: the node looks all the time.
        let written = self.path().join(format!("{name}.crash.new"));
        std::fs::write(&written, text).unwrap();
        std::fs::rename(written, self.crash_file(name)).unwrap();
    }

    /// Takes an order to crash always back.
    pub fn crash_nothing(&self, name: &str) {
        let _ = std::fs::remove_file(self.crash_file(name));
    }

    /// The node stops itself (as of SIGSTOP) when a move is in this state the next time; see `runtime/src/exec/halt.rs`.
    pub fn halt_at(&self, name: &str, state: &str) {
        std::fs::write(self.halt_file(name), state).unwrap();
    }

    /// Takes [`Self::halt_at`] back.
    pub fn halt_nowhere(&self, name: &str) {
        // It is gone if the state was reached.
        let _ = std::fs::remove_file(self.halt_file(name));
    }

    /// True once the node stands where [`Self::halt_at`] wants it.
    pub fn is_halted(&self, name: &str) -> bool {
        let pid = self.children[name].id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // PID (NAME) STATE ...; the name may hold anything.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Process id of a node.
    pub fn pid(&self, name: &str) -> u32 {
        self.children[name].id()
    }

    /// Waits until a node has ended by itself; its exit code.
    pub async fn ended(&mut self, name: &str) -> Option<i32> {
        let child = self.children.get_mut(name).unwrap();
        let status = until(&format!("{name} ends"), async || child.try_wait().unwrap()).await;
        self.children.remove(name);
        status.code()
    }

    /// False if the process of a node has ended by itself; then it may be started again.
    pub fn runs(&mut self, name: &str) -> bool {
        let ended = self.children.get_mut(name).unwrap().try_wait().unwrap().is_some();
        if ended {
            self.children.remove(name);
        }
        !ended
    }

    /// What a node has logged so far.
    pub fn logged(&self, name: &str) -> String {
        std::fs::read_to_string(self.log(name)).unwrap_or_default()
    }

    /// The network namespaces, if the nodes have their own.
    pub fn net(&self) -> &Net {
        self.net.as_ref().expect("a cluster in network namespaces")
    }

    /// The same, for a thread that looks on.
    pub fn shared_net(&self) -> Arc<Net> {
        self.net.clone().expect("a cluster in network namespaces")
    }

    /// How clients connect: with trust in the cluster's authority where doors speak TLS, by our DNS where there is one.
    pub fn connector(&self) -> Connector {
        let secure = self.topology.node.iter().any(|n| n.security.tls);
        let ca = || std::fs::read(self.ca_dir().join("ca.pem")).unwrap();
        let tls = secure.then(|| onemec_device::tls::client_config(&ca(), None).unwrap());
        // As the system's resolver would, were our servers known to it.
        let servers = self.topology.dns_servers();
        let resolver = (!servers.is_empty()).then(|| Arc::new(StubResolver::new(servers)) as Arc<_>);
        Connector { tls, resolver, ..Connector::default() }
    }

    /// Folder of the cluster's certificate authority.
    pub fn ca_dir(&self) -> PathBuf {
        self.path().join("ca")
    }

    /// A client at the door of a node, with the originator's bearer token if the node has one for it.
    pub fn client(&self, name: &str, originator: &str) -> Client {
        self.client_of(self.door(name), originator)
    }

    /// The same at any door of the cluster.
    pub fn client_of(&self, door: Endpoint, originator: &str) -> Client {
        let mut client = Client::new(door, originator);
        client.connector = self.connector();
        client.bearer = self.topology.node.iter().find_map(|n| n.security.tokens.get(originator).cloned());
        client
    }

    /// No process has ended by itself.
    pub fn assert_all_run(&mut self) {
        for (name, child) in &mut self.children {
            assert!(child.try_wait().unwrap().is_none(), "{name} has ended by itself");
        }
    }

    /// The directory as the node sees it, `None` if it does not answer.
    pub async fn directory(&self, at: &str) -> Option<Directory> {
        self.admin_within(at, Duration::from_secs(2)).directory().await.ok()
    }

    /// The directory's leader, as a majority of all nodes sees it.
    pub async fn directory_leader(&self) -> String {
        until("a leader of the directory", async || {
            let mut votes: BTreeMap<String, usize> = BTreeMap::new();
            for name in self.names() {
                let status = self.admin_within(&name, Duration::from_secs(2)).status().await;
                if let Some(leader) = status.ok().and_then(|s| s.directory_leader) {
                    *votes.entry(leader).or_default() += 1;
                }
            }
            votes.into_iter().find(|(_, n)| *n > self.topology.node.len() / 2).map(|(leader, _)| leader)
        })
        .await
    }

    /// Where the group of an AE is, as `at` sees it.
    pub async fn placement(&self, at: &str, ae: &str) -> Option<Placement> {
        self.directory(at).await?.groups.into_iter().find(|g| g.aes.iter().any(|a| a == ae))
    }

    /// Waits until the group of an AE is as it should be.
    pub async fn placed(&self, at: &str, ae: &str, what: &str, is: impl Fn(&Placement) -> bool) -> Placement {
        until(&format!("{ae}: {what}"), async || self.placement(at, ae).await.filter(&is)).await
    }

    /// Waits until an AE has at least two replicas in sync, so that it may lose one.
    pub async fn replicated(&self, at: &str, ae: &str) -> Placement {
        self.placed(at, ae, "two replicas in sync", |p| p.in_sync.len() >= 2 && p.primary.is_some()).await
    }

    /// One AE as `at` sees it.
    pub async fn ae(&self, at: &str, ae: &str) -> Ae {
        self.admin(at).ae(ae).await.unwrap()
    }

    /// Moves an AE. An order that comes right after another move may find a node that has not heard of that one yet: it is
    /// given again.
    pub async fn move_to(&self, at: &str, ae: &str, to: &str) -> MoveResult {
        until(&format!("move of {ae} to {to}"), async || {
            let result = self.admin(at).order_move(&order(ae, to)).await;
            let result = result.unwrap_or_else(|e| panic!("move of {ae} to {to}: {e}"));
            // On a busy machine one commit of the directory takes longer than a move may freeze.
            if matches!(result.code.as_str(), "not-primary" | "freeze-timeout") {
                println!("move of {ae} to {to}: {} {}: {}", result.state, result.code, result.text);
                return None;
            }
            assert_eq!(result.state, "done", "move of {ae} to {to}: {} {}", result.code, result.text);
            Some(result)
        })
        .await
    }

    fn tails(&self) -> String {
        let mut out = String::new();
        for name in self.names() {
            let text = std::fs::read_to_string(self.log(&name)).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n");
            out.push_str(&format!("--- {name}\n{tail}\n"));
        }
        out
    }
}

/// An operator's order.
pub fn order(ae: &str, to: &str) -> MoveOrder {
    MoveOrder { ae: ae.into(), to: Some(to.into()), reason: MoveReason::Operator, deadline_ms: 10_000 }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.children.values_mut() {
            // A stopped process dies of SIGKILL as well.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() && self.dir.is_some() {
            eprintln!("{}", self.tails());
            if let Some(dir) = self.dir.take() {
                eprintln!("run folder kept: {}", dir.keep().display());
            }
        }
    }
}

/// The first of so many ports that are free now.
fn free_ports(nodes: usize) -> u16 {
    let span = u16::try_from(nodes * PORTS_PER_NODE).unwrap();
    let spread = u32::try_from(PORTS.len()).unwrap() / u32::from(span);
    // Test programs beside this one begin elsewhere.
    let mut slot = std::process::id().wrapping_mul(7919) % spread;
    loop {
        slot = (slot + 1) % spread;
        let base = PORTS.start + u16::try_from(slot).unwrap() * span;
        let free = |port: u16| {
            std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
                && std::net::UdpSocket::bind(("127.0.0.1", port)).is_ok()
        };
        if (0..span).all(|i| free(base + i)) {
            return base;
        }
    }
}
