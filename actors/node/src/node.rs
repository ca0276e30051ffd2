//! One member of a cluster: `onemec node`.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::cli::NodeArgs;
use crate::topology::{self, Node, Topology, TopologyError};

/// Why a node did not start or ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The topology cannot be used.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// It has no node of that name.
    #[error("{file} has no node `{name}`\n    -> its nodes are: {names}")]
    NoSuchNode {
        /// File.
        file: String,
        /// Asked for.
        name: String,
        /// There are.
        names: String,
    },
    /// The process that started it has gone.
    #[error("the process {0} that started this node has ended")]
    Orphan(u32),
    /// The system refused.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A part did not start.
    #[error("{0}")]
    Start(String),
    /// A part crashes again and again, also after the node has begun anew.
    #[error(
        "{0}\n    -> nothing acknowledged is lost; start the node again, and look at its log (docs/errors/crash-loop.md)"
    )]
    Escalated(String),
}

/// What a node needs to know to run.
#[derive(Debug, Clone)]
pub struct Member {
    /// The cluster.
    pub topology: Topology,
    /// Itself.
    pub node: Node,
    /// Its data folder, which exists.
    pub data_dir: PathBuf,
    /// Where `ca.pem`, `node.pem` and `node.key` are or, for a local topology, are made: all nodes of a run folder share
    /// its `ca`.
    pub ca_dir: PathBuf,
}

/// Name of the audit log in a node's data folder.
pub const AUDIT_FILE: &str = "audit.jsonl";

/// Where a node's data lies.
pub fn data_dir(node: &Node, run_dir: &Path) -> PathBuf {
    node.data_dir.clone().unwrap_or_else(|| run_dir.join(&node.name))
}

/// Reads the topology and makes the folders.
///
/// # Errors
/// See [`NodeError`].
pub fn prepare(args: &NodeArgs) -> Result<Member, NodeError> {
    if let Some(parent) = args.die_with {
        die_with(parent)?;
    }
    let topology = topology::load(&args.topology)?;
    let node = topology.node(&args.name).cloned().ok_or_else(|| NodeError::NoSuchNode {
        file: args.topology.display().to_string(),
        name: args.name.clone(),
        names: topology.names(),
    })?;
    let data_dir = data_dir(&node, &args.dir);
    // The directory's log and snapshot hold keys: nobody else's business.
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&data_dir)
        .map_err(|source| NodeError::System { what: format!("data folder {}", data_dir.display()), source })?;
    let ca_dir = topology.cluster.ca_dir.clone().unwrap_or_else(|| args.dir.join("ca"));
    Ok(Member { topology, node, data_dir, ca_dir })
}

/// The kernel kills this process when the thread that started it ends; if that has happened already, ends at once.
fn die_with(parent: u32) -> Result<(), NodeError> {
    let system = |e: rustix::io::Errno| NodeError::System { what: "death signal".into(), source: e.into() };
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(system)?;
    let now = rustix::process::getppid().map(|p| p.as_raw_nonzero().get().unsigned_abs());
    if now == Some(parent) { Ok(()) } else { Err(NodeError::Orphan(parent)) }
}

/// Runs one node until SIGTERM or Ctrl-C.
///
/// # Errors
/// See [`NodeError`].
pub async fn run(args: NodeArgs) -> Result<(), NodeError> {
    crate::member::run(prepare(&args)?).await
}
