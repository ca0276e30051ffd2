//! `onemec demo`: the cluster, the run, the report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::run::{Hosts, Settings, run};
use super::{DemoError, report::Report};
use crate::cli::DemoArgs;
use crate::node;
use crate::topology::{self, PortBase, Topology, with_ports};
use crate::up::{Cluster, UpError, UpOptions};

/// The topology when none is given.
const LOCAL_3: &str = include_str!("../../../../cluster-configs/local-3.toml");
/// Usual pause between two readings of a device.
const PACE: Duration = Duration::from_millis(50);

impl Hosts for Cluster {
    fn topology(&self) -> &Topology {
        Cluster::topology(self)
    }
    async fn kill(&mut self, name: &str) -> Result<(), UpError> {
        Cluster::kill(self, name).await
    }
    async fn restart(&mut self, name: &str, within: Duration) -> Result<(), UpError> {
        self.spawn(name)?;
        self.wait_node(name, Instant::now() + within).await
    }
    fn audit_file(&self, name: &str) -> Option<PathBuf> {
        let node = Cluster::topology(self).node(name)?;
        Some(node::data_dir(node, self.dir()).join(node::AUDIT_FILE))
    }
}

/// Runs the demo; exit code 1 if an invariant was broken or something could not be shown.
///
/// # Errors
/// If it could not be carried out.
pub async fn command(args: DemoArgs, json: bool) -> Result<ExitCode, DemoError> {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| DemoError::System { what, source }
    };
    let mut topology = match &args.topology {
        Some(file) => topology::load(file)?,
        None => topology::parse(LOCAL_3)
            .map_err(|problems| topology::TopologyError::Wrong { path: "built-in local-3.toml".into(), problems })?,
    };
    topology.observability.audit = true;
    let topology = with_ports(topology, PortBase::from_option(Some(args.port_base))).map_err(system("ports"))?;
    let (dir, temporary) = match &args.dir {
        Some(dir) => (dir.clone(), None),
        None => {
            let t = tempfile::Builder::new().prefix("onemec-demo-").tempdir().map_err(system("temporary folder"))?;
            (t.path().to_owned(), Some(t))
        }
    };
    let bar = progress_bar(args.headless || json);
    let exe = std::env::current_exe().map_err(system("own program"))?;
    let (ready, stop) = (Duration::from_secs(20), Duration::from_secs(10));
    bar.set_message("the cluster starts");
    let mut cluster = Cluster::start(topology, UpOptions { exe, dir: dir.clone(), ready, stop })?;
    let settings = Settings {
        devices: usize::try_from(args.devices).unwrap_or(usize::MAX),
        duration: Duration::from_secs(args.seconds),
        seed: args.seed,
        pace: PACE,
    };
    let result = tokio::select! {
        r = whole(&mut cluster, &settings, &bar) => r,
        _ = tokio::signal::ctrl_c() => Err(DemoError::Late("stopped by Ctrl-C".into())),
    };
    bar.finish_and_clear();
    cluster.stop().await;
    let keep = args.dir.is_some() || !matches!(&result, Ok(r) if r.ok);
    if let (Some(t), true) = (temporary, keep) {
        let _ = t.keep();
    }
    let mut report = result.inspect_err(|_| eprintln!("data and logs: {}", dir.display()))?;
    report.dir = keep.then(|| dir.display().to_string());
    if json {
        println!("{}", serde_json::to_string_pretty(&report).map_err(|e| DemoError::Late(e.to_string()))?);
    } else {
        print!("{report}");
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn whole(cluster: &mut Cluster, settings: &Settings, bar: &ProgressBar) -> Result<Report, DemoError> {
    cluster.wait_ready(|name| bar.set_message(format!("node {name} is ready"))).await?;
    let told = bar.clone();
    run(cluster, settings, &move |part, text| {
        told.set_position(part);
        told.set_message(text.to_owned());
    })
    .await
}

fn progress_bar(hidden: bool) -> ProgressBar {
    if hidden {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1000);
    if let Ok(style) = ProgressStyle::with_template("{spinner} [{bar:30}] {elapsed} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
