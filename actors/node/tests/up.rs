//! `up` with real processes. This program plays the node too: `up node TOPOLOGY --name N --dir D --die-with PID` serves
//! the admin API of a node that is always ready.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs, helpers included

mod support;

use std::io::{BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use onemec_node::cli::{Cli, Command};
use onemec_node::topology::{PortBase, Topology, parse, with_ports};
use onemec_node::up::{Cluster, UpError, UpOptions};

const TEST: &str = "nodes_start_are_killed_return_and_stop";
const COMMAND: &str = "up_ends_with_its_last_node";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let has = |a: &str| args.iter().any(|x| x == a);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if args.get(1).is_some_and(|a| a == "node") {
        return runtime.block_on(node());
    }
    // What cargo test and nextest ask of a test program.
    if has("--list") {
        if !has("--ignored") {
            println!("{TEST}: test\n{COMMAND}: test");
        }
        return ExitCode::SUCCESS;
    }
    // nextest runs one at a time and names it.
    let wanted = |test: &str| !has("--exact") || has(test);
    if wanted(TEST) {
        runtime.block_on(test());
        println!("test {TEST} ... ok");
    }
    if wanted(COMMAND) {
        command();
        println!("test {COMMAND} ... ok");
    }
    ExitCode::SUCCESS
}

/// Plays a node; `--dir` decides how: a folder whose name contains `broken` ends at once.
async fn node() -> ExitCode {
    let Command::Node(args) = Cli::parse().command else { return ExitCode::FAILURE };
    let member = match onemec_node::node::prepare(&args) {
        Ok(m) => m,
        Err(e) => {
            eprintln!("{e}");
            return ExitCode::FAILURE;
        }
    };
    if args.dir.display().to_string().contains("broken") && args.name == "edge2" {
        eprintln!("the disk is on fire");
        return ExitCode::FAILURE;
    }
    let state = support::state(member.topology.clone());
    let listener = tokio::net::TcpListener::bind(member.node.admin_listen).await.unwrap();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
    let backend = support::backend::Backend { node: args.name.clone(), state };
    let stubborn = args.dir.display().to_string().contains("stubborn") && args.name == "edge1";
    let stop = async move {
        terminate.recv().await;
        if stubborn {
            std::future::pending::<()>().await;
        }
    };
    onemec_node::admin::serve(listener, std::sync::Arc::new(backend), stop).await.unwrap();
    ExitCode::SUCCESS
}

fn topology() -> Topology {
    let text = include_str!("../../../cluster-configs/local-3.toml");
    with_ports(parse(text).unwrap(), PortBase::Free).unwrap()
}

fn options(prefix: &str) -> (tempfile::TempDir, UpOptions) {
    let dir = tempfile::Builder::new().prefix(prefix).tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let (ready, stop) = (Duration::from_secs(20), Duration::from_millis(700));
    let options = UpOptions { exe, dir: dir.path().to_owned(), ready, stop };
    (dir, options)
}

async fn test() {
    // Start, ready, kill -9, return, stop.
    let (_dir, o) = options("good");
    let mut cluster = Cluster::start(topology(), o).unwrap();
    let mut ready = Vec::new();
    cluster.wait_ready(|name| ready.push(name.to_owned())).await.unwrap();
    assert_eq!(ready, ["cloud", "edge1", "edge2"]);
    // Nobody else may begin in this folder, or change what lies there.
    let file = cluster.dir().join("topology.toml");
    let before = std::fs::read(&file).unwrap();
    let again = UpOptions { dir: cluster.dir().to_owned(), ..options("again").1 };
    assert!(matches!(Cluster::start(topology(), again), Err(UpError::InUse { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let edge = cluster.admin("edge1").unwrap();
    assert_eq!(edge.health().await.unwrap().node, "edge1");
    cluster.kill("edge1").await.unwrap();
    assert!(edge.health().await.is_err());
    assert!(cluster.kill("edge1").await.is_err());
    cluster.spawn("edge1").unwrap();
    cluster.wait_node("edge1", Instant::now() + Duration::from_secs(20)).await.unwrap();
    cluster.check_all_running().unwrap();
    assert!(cluster.stop().await.is_empty(), "all ended by SIGTERM");
    assert!(edge.health().await.is_err());

    // A node that ends by itself is reported with the end of its log.
    let (_dir, o) = options("broken");
    let mut cluster = Cluster::start(topology(), o).unwrap();
    match cluster.wait_ready(|_| {}).await {
        Err(UpError::Ended { name, tail, .. }) => {
            assert_eq!(name, "edge2");
            assert!(tail.contains("the disk is on fire"), "{tail}");
        }
        other => panic!("{other:?}"),
    }
    cluster.stop().await;

    // One that does not obey SIGTERM is killed.
    let (_dir, o) = options("stubborn");
    let mut cluster = Cluster::start(topology(), o).unwrap();
    cluster.wait_ready(|_| {}).await.unwrap();
    assert_eq!(cluster.stop().await, ["edge1"]);
}

/// The command itself, with real nodes: it outlives the death of one, and not that of all.
fn command() {
    let dir = tempfile::tempdir().unwrap();
    let topology = concat!(env!("CARGO_MANIFEST_DIR"), "/../../cluster-configs/local-dns-3.toml");
    let mut up = std::process::Command::new(env!("CARGO_BIN_EXE_onemec"))
        .args(["up", topology, "--port-base", "0", "--json", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(up.stdout.take().unwrap());
    let said: serde_json::Value = serde_json::Deserializer::from_reader(&mut out).into_iter().next().unwrap().unwrap();
    let nodes = said["nodes"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|n| n["dns"].as_str().is_some_and(|a| a.parse::<SocketAddr>().is_ok())), "{said}");
    for node in nodes {
        let name = node["name"].as_str().unwrap();
        rustix::process::kill_process(node_of(dir.path(), name), rustix::process::Signal::KILL).unwrap();
    }
    let ended = up.wait().unwrap();
    let mut error = String::new();
    up.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    assert!(!ended.success());
    assert!(error.contains("the others go on") && error.contains("ended"), "{error}");
}

/// The process that runs a node of the run folder `dir`.
fn node_of(dir: &Path, name: &str) -> rustix::process::Pid {
    let is_it = |line: &str| {
        let args: Vec<&str> = line.split('\0').collect();
        args.get(1) == Some(&"node") && args.contains(&name) && args.iter().any(|a| Path::new(a) == dir)
    };
    let mut pids =
        std::fs::read_dir("/proc").unwrap().filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let of = |pid: &i32| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| is_it(&line));
    rustix::process::Pid::from_raw(pids.find(of).unwrap()).unwrap()
}
