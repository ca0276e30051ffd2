//! `onemec up`.

use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::{CommandError, Context, Done};
use crate::cli::UpArgs;
use crate::table::Table;
use crate::topology::{self, PortBase, Topology, with_ports};
use crate::up::{Cluster, UpError, UpOptions};

/// Pause between two looks at whether all nodes still run.
const WATCH: Duration = Duration::from_millis(200);

pub(super) async fn up(context: &Context, args: UpArgs) -> Done {
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| CommandError::System { what, source }
    };
    let topology = topology::load(&args.topology)?;
    let topology = with_ports(topology, PortBase::from_option(args.port_base)).map_err(system("--port-base"))?;
    let (dir, temporary) = match args.dir {
        Some(dir) => (dir, None),
        None => {
            let t = tempfile::Builder::new().prefix("onemec-").tempdir().map_err(system("temporary folder"))?;
            (t.path().to_owned(), Some(t))
        }
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(system("SIGTERM"))?;
    let exe = std::env::current_exe().map_err(system("own program"))?;
    let ready = Duration::from_millis(args.ready_ms);
    let mut cluster =
        Cluster::start(topology, UpOptions { exe, dir: dir.clone(), ready, stop: Duration::from_secs(10) })?;
    let bar = if context.json { ProgressBar::hidden() } else { bar(cluster.topology().node.len()) };
    let ready = tokio::select! {
        r = cluster.wait_ready(|name| { bar.set_message(name.to_owned()); bar.inc(1); }) => r,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    bar.finish_and_clear();
    if let Err(e) = ready {
        cluster.stop().await;
        keep(temporary);
        return Err(e.into());
    }
    print_urls(context, cluster.topology(), &dir)?;
    let ended: Result<(), UpError> = loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            () = tokio::time::sleep(WATCH) => {
                // A killed node does not end the others: that is what the cluster is for.
                if let Err(e) = cluster.check_all_running() {
                    if cluster.is_over() {
                        break Err(e);
                    }
                    eprintln!("onemec: {e}\n    -> the others go on; Ctrl-C stops them");
                }
            }
        }
    };
    let killed = cluster.stop().await;
    if !killed.is_empty() {
        eprintln!("onemec: did not end in time and were killed: {}", killed.join(", "));
    }
    if let Err(e) = ended {
        keep(temporary);
        return Err(e.into());
    }
    Ok(if killed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The logs of a failure are kept.
fn keep(temporary: Option<tempfile::TempDir>) {
    if let Some(t) = temporary {
        let _ = t.keep();
    }
}

pub(crate) fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(length).unwrap_or(u64::MAX));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {pos}/{len} nodes ready {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn print_urls(context: &Context, t: &Topology, dir: &std::path::Path) -> Done {
    let nodes: Vec<_> = t
        .node
        .iter()
        .map(|n| {
            let (http, admin, dns) = (n.poa(), n.admin_url(), t.dns_server(n));
            json!({"name": n.name, "cse_id": n.cse_id, "http": http, "admin": admin, "dns": dns})
        })
        .collect();
    context.print(&json!({"cluster": t.cluster.name, "dir": dir, "nodes": nodes}), |_| {
        let mut table = Table::new(&["node", "CSE", "oneM2M over HTTP", "admin API", "DNS", "log"]);
        for n in &t.node {
            let log = dir.join(format!("{}.log", n.name)).display().to_string();
            let dns = t.dns_server(n).map_or_else(|| "-".into(), |a| a.to_string());
            table.row([n.name.clone(), n.cse_id.clone(), n.poa(), n.admin_url(), dns, log]);
        }
        let first = t.node.first().map(|n| n.admin_url()).unwrap_or_default();
        format!("cluster `{}` is up; Ctrl-C stops it\n\n{table}\nTry:  onemec status --admin {first}\n", t.cluster.name)
    })
}
