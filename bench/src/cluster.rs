//! Real nodes on the loopback interface: every node is this program again, as a process of its own.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser as _;
use onemec_device::Endpoint;
use onemec_node::admin::AdminClient;
use onemec_node::admin::types::{MoveOrder, MoveReason, MoveResult, Placement};
use onemec_node::topology::{self, PortBase};
use onemec_node::up::{Cluster, UpOptions};
use tempfile::TempDir;

use crate::cli::Plan;

/// First argument of a node's process (as [`Cluster`] starts it).
pub(crate) const ROLE: &str = "node";
const READY_MAX: Duration = Duration::from_secs(30);
const STOP_MAX: Duration = Duration::from_secs(5);
/// Pause between two looks.
const POLL: Duration = Duration::from_millis(20);
/// The cluster comes to any state that is waited for within this time.
const PATIENCE: Duration = Duration::from_secs(60);
/// A move may take so long.
const MOVE_MS_MAX: u64 = 20_000;

/// A node's process: what `onemec node` does.
pub(crate) fn run_node() -> anyhow::Result<()> {
    let cli = onemec_node::cli::Cli::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(onemec_node::cmd::run(cli))?;
    Ok(())
}

/// Three nodes that run: `cloud`, `edge1`, `edge2`, each of them a voter of the directory.
pub(crate) struct Nodes {
    cluster: Cluster,
    _dir: TempDir,
}

impl Nodes {
    /// Starts them with their data below the results' folder, and waits until they serve. On the main thread.
    pub(crate) async fn start(plan: &Plan) -> anyhow::Result<Self> {
        let sample = topology::parse(include_str!("../../cluster-configs/local-3.toml"))
            .map_err(|problems| anyhow::anyhow!("local-3.toml: {problems:?}"))?;
        let mut topology = topology::with_ports(sample, PortBase::from_option(Some(plan.port_base)))?;
        topology.observability.audit = false;
        let dir = tempfile::Builder::new().prefix("nodes-").tempdir_in(&plan.out)?;
        let exe = std::env::current_exe()?;
        let options = UpOptions { exe, dir: dir.path().to_owned(), ready: READY_MAX, stop: STOP_MAX };
        let mut cluster = Cluster::start(topology, options)?;
        cluster.wait_ready(|_| {}).await?;
        Ok(Self { cluster, _dir: dir })
    }

    /// Names of all nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        self.cluster.topology().node.iter().map(|n| n.name.clone()).collect()
    }

    /// The lease of each node.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.cluster.topology().timing.lease_ms)
    }

    /// The oneM2M door of a node.
    pub(crate) fn door(&self, name: &str) -> anyhow::Result<Endpoint> {
        let node = self.cluster.topology().node(name).with_context(|| format!("no node {name}"))?;
        Ok(node.poa().parse()?)
    }

    /// The CSE-ID of a node, with its slash.
    pub(crate) fn cse_id(&self, name: &str) -> String {
        self.cluster.topology().node(name).map(|n| n.cse_id.clone()).unwrap_or_default()
    }

    /// The admin API of a node.
    pub(crate) fn admin(&self, name: &str) -> anyhow::Result<AdminClient> {
        Ok(self.cluster.admin(name)?)
    }

    /// The directory's leader.
    pub(crate) async fn leader(&self) -> anyhow::Result<String> {
        self.until("a leader of the directory", async || {
            for name in self.names() {
                let leader = self.admin(&name).ok()?.status().await.ok()?.directory_leader;
                if leader.is_some() {
                    return leader;
                }
            }
            None
        })
        .await
    }

    /// Where an AE is, once that is as wanted.
    pub(crate) async fn placed(&self, ae: &str, is: impl Fn(&Placement) -> bool) -> anyhow::Result<Placement> {
        let names = self.names();
        self.until(&format!("the placement of {ae}"), async || {
            for name in &names {
                let Ok(directory) = self.admin(name).ok()?.directory().await else { continue };
                let found = directory.groups.into_iter().find(|g| g.aes.iter().any(|a| a == ae));
                return found.filter(&is);
            }
            None
        })
        .await
    }

    /// Moves an AE and says what the nodes measured.
    pub(crate) async fn move_to(&self, ae: &str, to: &str) -> anyhow::Result<MoveResult> {
        order_move(self.admin("cloud")?, ae.to_owned(), to.to_owned()).await
    }

    /// SIGKILL.
    pub(crate) async fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        Ok(self.cluster.kill(name).await?)
    }

    /// Starts a killed node again and waits until it serves.
    pub(crate) async fn restart(&mut self, name: &str) -> anyhow::Result<()> {
        self.cluster.spawn(name)?;
        Ok(self.cluster.wait_node(name, Instant::now() + READY_MAX).await?)
    }

    /// Ends all processes.
    pub(crate) async fn stop(self) {
        self.cluster.stop().await;
    }

    async fn until<T>(&self, what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> anyhow::Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return Ok(answer);
            }
            anyhow::ensure!(Instant::now() < end, "{what}: not within {} s", PATIENCE.as_secs());
            tokio::time::sleep(POLL).await;
        }
    }
}

/// Orders a move and waits for its end.
pub(crate) async fn order_move(admin: AdminClient, ae: String, to: String) -> anyhow::Result<MoveResult> {
    let order = MoveOrder { ae, to: Some(to), reason: MoveReason::Operator, deadline_ms: MOVE_MS_MAX };
    Ok(admin.order_move(&order).await?)
}
