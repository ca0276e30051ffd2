//! A full disk: clients get a clear status, nothing acknowledged is lost, the node says why and what to do, and goes on by
//! itself or after a restart once there is space (RELIABILITY.md, fault 7).
//!
//! Skipped with a message where there is no root.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_tests::client::Ask;
use onemec_tests::wait::until;
use onemec_tests::writer::device;
use onemec_tests::{Cluster, Writer, history};
use serde_json::json;

/// Log files of the groups and of the directory are preallocated; there is room for them, for what a node keeps free before
/// it takes groups in (64 MiB), and little more.
const MIB: u32 = 352;
/// As long as a body may be, nearly.
const LARGE: usize = 900_000;
/// More than all log files together hold.
const LARGE_MAX: usize = 400;

/// Says what a client may be told while the disk is full.
fn is_clear(status: u16) -> bool {
    matches!(status, 503 | 504)
}

/// Writes large instances until the node has no room for more. The statuses on the way that were no success.
async fn write_until_full(cluster: &Cluster, at: &str) -> Vec<u16> {
    let mut client = cluster.client(at, "Cbig");
    let body = json!({"m2m:cin": {"con": "x".repeat(LARGE)}});
    let mut refused = Vec::new();
    for _ in 0..LARGE_MAX {
        let answer = client.send(&Ask::create("/~/edge1/-/big/data", 4, body.clone())).await;
        match answer {
            Ok(a) if a.status.is_success() => {}
            Ok(a) => refused.push(a.status.as_u16()),
            // The node has ended.
            Err(_) => return refused,
        }
        if refused.len() >= 3 {
            return refused;
        }
    }
    panic!("{LARGE_MAX} large instances found room on a full disk");
}

#[tokio::test]
async fn full_disk_loses_nothing_and_the_node_says_why() {
    let Some(mut cluster) = Cluster::start_with_small_disk("edge1", MIB).await else { return };
    device(&cluster, "big", "edge1").await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    cluster.disk().fill();

    let refused = write_until_full(&cluster, "edge1").await;
    println!("full disk: {refused:?}");
    assert!(refused.iter().all(|s| is_clear(*s)), "{refused:?}");
    until("the node says why, and what to do", async || {
        let log = cluster.logged("edge1").to_lowercase();
        (log.contains("disk is full") || log.contains("no disk space") || log.contains("no space")).then_some(())
    })
    .await;

    cluster.disk().free();
    // By itself, or the process has ended as it does when a disk fails: then somebody starts it again.
    if !cluster.runs("edge1") {
        cluster.restart("edge1").await;
    }
    writer.writes(20).await;
    cluster.ready("edge1").await;
    cluster.replicated("cloud", "Cmeter").await;
    cluster.move_to("cloud", "Cmeter", "edge2").await;
    cluster.move_to("cloud", "Cmeter", "edge1").await;
    writer.writes(20).await;
    history::finish("full disk", &mut cluster, vec![writer]).await;
}

#[tokio::test]
async fn start_with_a_full_disk() {
    let Some(mut cluster) = Cluster::start_with_small_disk("edge1", MIB).await else { return };
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    cluster.kill("edge1");
    cluster.disk().fill();
    cluster.spawn("edge1");
    // Others serve, whatever becomes of it.
    writer.writes(20).await;
    let said = until("it says why, and what to do", async || {
        let log = cluster.logged("edge1").to_lowercase();
        log.lines().rev().find(|l| l.contains("space") || l.contains("disk is full")).map(str::to_owned)
    })
    .await;
    println!("start with a full disk: {said}");
    cluster.disk().free();
    if !cluster.runs("edge1") {
        cluster.restart("edge1").await;
    }
    cluster.ready("edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    history::finish("start with a full disk", &mut cluster, vec![writer]).await;
}
