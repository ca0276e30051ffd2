//! Every node of a topology as a child process of its own on this machine.
//!
//! A [`Cluster`] starts them, waits until each answers `/admin/v1/health`, kills and restarts single ones (the demo does),
//! and stops all: SIGTERM, and after a bound SIGKILL. Children end with this process, however it ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::admin::AdminClient;
use crate::topology::Topology;

/// Pause between two looks at a node that is not ready yet.
const POLL: Duration = Duration::from_millis(20);
/// So much of a log is shown when its node fails.
const TAIL_BYTES: u64 = 2000;

/// How to start.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// The program: `EXE node TOPOLOGY --name N --dir DIR --die-with PID`.
    pub exe: PathBuf,
    /// Run folder: topology, logs, data.
    pub dir: PathBuf,
    /// A node may take so long to become ready.
    pub ready: Duration,
    /// After SIGTERM a node may take so long to end.
    pub stop: Duration,
}

/// Why a cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// Files or processes.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another cluster runs in the run folder.
    #[error("a cluster runs in {} already; nothing was changed\n    -> give another folder with --dir, or stop that cluster", dir.display())]
    InUse {
        /// The run folder.
        dir: PathBuf,
    },
    /// A node ended by itself.
    #[error("node `{name}` ended ({status}); the end of {}:\n{tail}", log.display())]
    Ended {
        /// Which.
        name: String,
        /// How.
        status: ExitStatus,
        /// Its log.
        log: PathBuf,
        /// The end of it.
        tail: String,
    },
    /// A node is not ready in time.
    #[error("node `{name}` is not ready after {ms} ms: {reason}\n    -> its log: {}; allow more with --ready-ms", log.display())]
    NotReady {
        /// Which.
        name: String,
        /// How long it had.
        ms: u128,
        /// What it says.
        reason: String,
        /// Its log.
        log: PathBuf,
    },
    /// There is no such node.
    #[error("no node `{name}`; there are: {names}")]
    NoSuchNode {
        /// Asked for.
        name: String,
        /// There are.
        names: String,
    },
}

fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> UpError {
    let what = what.into();
    move |source| UpError::System { what, source }
}

/// Running nodes.
#[derive(Debug)]
pub struct Cluster {
    topology: Topology,
    file: PathBuf,
    options: UpOptions,
    children: BTreeMap<String, Child>,
    /// Nobody else runs a cluster in this folder.
    #[allow(dead_code, reason = "held for its lock")]
    lock: File,
}

impl Cluster {
    /// Writes the topology into the run folder and starts every node. Call it on the thread that stays longest (see
    /// `node::die_with`).
    ///
    /// # Errors
    /// If files cannot be written or the program cannot be started.
    pub fn start(topology: Topology, options: UpOptions) -> Result<Self, UpError> {
        std::fs::create_dir_all(&options.dir).map_err(system(format!("run folder {}", options.dir.display())))?;
        // Before anything is written: the nodes of a cluster that runs here will be started again from these files.
        let held = options.dir.join("up.lock");
        let lock = File::options().create(true).append(true).open(&held).map_err(system(held.display().to_string()))?;
        if lock.try_lock().is_err() {
            return Err(UpError::InUse { dir: options.dir });
        }
        let file = options.dir.join("topology.toml");
        let text = toml::to_string(&topology).map_err(|e| UpError::System {
            what: "topology cannot be written as TOML".into(),
            source: std::io::Error::other(e),
        })?;
        // It may hold bearer tokens.
        let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file);
        written.and_then(|mut f| f.write_all(text.as_bytes())).map_err(system(file.display().to_string()))?;
        let mut cluster = Self { topology, file, options, children: BTreeMap::new(), lock };
        for name in cluster.names() {
            cluster.spawn(&name)?;
        }
        Ok(cluster)
    }

    /// The topology that runs.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// The run folder.
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }

    /// Where a node logs to.
    pub fn log(&self, name: &str) -> PathBuf {
        self.options.dir.join(format!("{name}.log"))
    }

    /// Starts a node that does not run. Its log is appended to.
    ///
    /// # Errors
    /// If there is no such node or the program cannot be started.
    pub fn spawn(&mut self, name: &str) -> Result<(), UpError> {
        if self.topology.node(name).is_none() {
            return Err(UpError::NoSuchNode { name: name.into(), names: self.topology.names() });
        }
        let log = self.log(name);
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = (open(), open());
        let what = || format!("log {}", log.display());
        let child = Command::new(&self.options.exe)
            .arg("node")
            .arg(&self.file)
            .args(["--name", name, "--dir"])
            .arg(&self.options.dir)
            .args(["--die-with", &std::process::id().to_string()])
            .stdin(Stdio::null())
            .stdout(out.map_err(system(what()))?)
            .stderr(err.map_err(system(what()))?)
            .kill_on_drop(true)
            .process_group(0) // Ctrl-C in the terminal reaches only this process, which then stops them in order
            .spawn()
            .map_err(system(format!("start of {}", self.options.exe.display())))?;
        self.children.insert(name.to_owned(), child);
        Ok(())
    }

    /// Waits until every node answers that it is ready. `progress` hears of each.
    ///
    /// # Errors
    /// If a node ends or is not ready in time.
    pub async fn wait_ready(&mut self, mut progress: impl FnMut(&str)) -> Result<(), UpError> {
        let begun = Instant::now();
        for name in self.names() {
            self.wait_node(&name, begun + self.options.ready).await?;
            progress(&name);
        }
        Ok(())
    }

    /// Waits until one node is ready.
    ///
    /// # Errors
    /// As [`Cluster::wait_ready`].
    pub async fn wait_node(&mut self, name: &str, until: Instant) -> Result<(), UpError> {
        let begun = Instant::now();
        let admin = self.admin(name)?;
        let mut reason = String::from("it does not answer");
        while Instant::now() < until {
            self.check_running(name)?;
            match admin.health().await {
                Ok(h) if h.ready => return Ok(()),
                Ok(h) => reason = h.reason,
                Err(e) => reason = e.to_string().lines().next().unwrap_or_default().to_owned(),
            }
            tokio::time::sleep(POLL).await;
        }
        Err(UpError::NotReady { name: name.into(), ms: begun.elapsed().as_millis(), reason, log: self.log(name) })
    }

    /// The admin API of a node.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn admin(&self, name: &str) -> Result<AdminClient, UpError> {
        let node = self
            .topology
            .node(name)
            .ok_or_else(|| UpError::NoSuchNode { name: name.into(), names: self.topology.names() })?;
        let a = node.admin_listen;
        let endpoint = onemec_device::Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
        Ok(AdminClient::new(endpoint, Duration::from_secs(60)))
    }

    /// The first node that has ended by itself, as an error.
    ///
    /// # Errors
    /// [`UpError::Ended`].
    pub fn check_all_running(&mut self) -> Result<(), UpError> {
        for name in self.names() {
            self.check_running(&name)?;
        }
        Ok(())
    }

    /// No node runs any more.
    pub fn is_over(&self) -> bool {
        self.children.is_empty()
    }

    fn check_running(&mut self, name: &str) -> Result<(), UpError> {
        let Some(child) = self.children.get_mut(name) else { return Ok(()) };
        let ended = child.try_wait().map_err(system(format!("state of node {name}")))?;
        match ended {
            None => Ok(()),
            Some(status) => {
                self.children.remove(name);
                let log = self.log(name);
                Err(UpError::Ended { name: name.into(), status, tail: tail(&log), log })
            }
        }
    }

    /// SIGKILL, now. Returns once the process is gone.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&mut self, name: &str) -> Result<(), UpError> {
        let names = self.topology.names();
        let mut child = self.children.remove(name).ok_or(UpError::NoSuchNode { name: name.into(), names })?;
        child.kill().await.map_err(system(format!("SIGKILL of node {name}")))
    }

    /// Stops all: SIGTERM, then SIGKILL for those that take too long. Their names.
    pub async fn stop(mut self) -> Vec<String> {
        for child in self.children.values() {
            if let Some(pid) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
                // A process that has just ended needs no signal.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let until = tokio::time::Instant::now() + self.options.stop;
        let mut killed = Vec::new();
        for (name, child) in &mut self.children {
            if tokio::time::timeout_at(until, child.wait()).await.is_err() {
                killed.push(name.clone());
                let _ = child.kill().await;
            }
        }
        killed
    }

    fn names(&self) -> Vec<String> {
        self.topology.node.iter().map(|n| n.name.clone()).collect()
    }
}

fn tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|e| format!("(cannot be read: {e})"))
}
