//! Nodes that die, stop and come back: no acknowledged write is gone, none is there twice, nothing stale is served
//! (row H03; I1 to I5).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::time::Duration;

use onemec_device::{Answer, HttpError};
use onemec_tests::client::{Ask, Client, json_of, reading_of};
use onemec_tests::cluster::order;
use onemec_tests::wait::until;

use onemec_tests::writer::all_write;
use onemec_tests::{Cluster, Writer, history};

async fn start_writers(cluster: &Cluster, at: &[&str]) -> Vec<Writer> {
    let mut writers = Vec::new();
    for (i, at) in at.iter().enumerate() {
        writers.push(Writer::start(cluster, &format!("meter{i}"), at).await);
    }
    all_write(&writers, 20).await;
    for writer in &writers {
        cluster.replicated("cloud", &writer.device.ae_id).await;
    }
    writers
}

async fn finish(test: &str, cluster: &mut Cluster, writers: Vec<Writer>) {
    let (_, verdict) = history::finish(test, cluster, writers).await;
    assert_eq!(verdict.unknown, 0, "every reading was acknowledged in the end");
}

#[tokio::test]
async fn row_h03_killed_host_costs_no_acknowledged_write() {
    let mut cluster = Cluster::start().await;
    let writers = start_writers(&cluster, &["edge1", "edge1", "edge1", "edge2"]).await;
    cluster.kill("edge1");
    all_write(&writers, 30).await;
    for ae in ["Cmeter0", "Cmeter1", "Cmeter2"] {
        let place = cluster.placement("cloud", ae).await.unwrap();
        assert!(place.primary.as_deref().is_some_and(|p| p != "edge1") && place.epoch > 1, "{place:?}");
    }
    cluster.restart("edge1").await;
    all_write(&writers, 20).await;
    // The one that came back is a host like any other.
    cluster.replicated("cloud", "Cmeter0").await;
    until("the host that returned takes a device", async || {
        cluster.admin("cloud").order_move(&order("meter0", "edge1")).await.ok().filter(|r| r.state == "done")
    })
    .await;
    all_write(&writers, 20).await;
    finish("h03", &mut cluster, writers).await;
}

/// Kills `victim` so long after the order of a move from edge1 to edge2.
async fn kill_during_move(test: &str, victim: &str, delays_ms: &[u64]) {
    let mut cluster = Cluster::start().await;
    let writers = start_writers(&cluster, &["edge1"]).await;
    for delay_ms in delays_ms {
        let home = cluster.placement("cloud", "Cmeter0").await.and_then(|p| p.primary);
        if home.as_deref() != Some("edge1") {
            until("back at edge1", async || {
                cluster.admin("cloud").order_move(&order("meter0", "edge1")).await.ok().filter(|r| r.state == "done")
            })
            .await;
        }
        cluster.replicated("cloud", "Cmeter0").await;
        writers[0].writes(10).await;
        let admin = cluster.admin("cloud");
        let moving = tokio::spawn(async move { admin.order_move(&order("meter0", "edge2")).await });
        // No waiting for something to happen: this is where in the move the fault lies.
        tokio::time::sleep(Duration::from_millis(*delay_ms)).await;
        cluster.kill(victim);
        writers[0].writes(20).await;
        let outcome = match moving.await.unwrap() {
            Ok(r) => format!("{} {}", r.state, r.code),
            Err(e) => e.to_string(),
        };
        let place = cluster.placement("cloud", "Cmeter0").await.unwrap();
        println!(
            "{test}: killed {delay_ms} ms after the order: {outcome}; then at {:?}, epoch {}",
            place.primary, place.epoch
        );
        cluster.restart(victim).await;
        writers[0].writes(10).await;
        cluster.replicated("cloud", "Cmeter0").await;
    }
    finish(test, &mut cluster, writers).await;
}

#[tokio::test]
async fn kill_of_move_source_in_the_middle() {
    kill_during_move("kill of source", "edge1", &[1, 4, 8, 14]).await;
}

#[tokio::test]
async fn kill_of_move_target_in_the_middle() {
    kill_during_move("kill of target", "edge2", &[2, 30, 60, 100, 150]).await;
}

#[tokio::test]
async fn kill_of_directory_leader_while_writing() {
    let mut cluster = Cluster::start().await;
    let writers = start_writers(&cluster, &["edge1", "edge2", "edge1", "edge2"]).await;
    for _ in 0..2 {
        let leader = cluster.directory_leader().await;
        cluster.kill(&leader);
        all_write(&writers, 20).await;
        let next = cluster.directory_leader().await;
        assert_ne!(next, leader, "a majority follows a living leader");
        cluster.restart(&leader).await;
        all_write(&writers, 10).await;
        for writer in &writers {
            cluster.replicated("cloud", &writer.device.ae_id).await;
        }
    }
    finish("kill of the directory's leader", &mut cluster, writers).await;
}

#[tokio::test]
async fn restart_of_all_nodes_at_once_keeps_every_acknowledged_write() {
    let mut cluster = Cluster::start().await;
    let writers = start_writers(&cluster, &["edge1", "edge2", "edge1"]).await;
    for _ in 0..2 {
        cluster.kill_all();
        for name in cluster.names() {
            cluster.spawn(&name);
        }
        for name in cluster.names() {
            cluster.ready(&name).await;
        }
        all_write(&writers, 20).await;
    }
    finish("restart of all", &mut cluster, writers).await;
}

/// I1 and fault 4 of the catalogue: a primary that slept through its lease wakes up with requests in its socket.
#[tokio::test]
async fn stopped_primary_that_comes_back_serves_nothing_stale() {
    let mut cluster = Cluster::start().await;
    let writers = start_writers(&cluster, &["edge1"]).await;
    let container = writers[0].device.container.clone();
    let latest = format!("{container}/la");
    let mut early = Client::new(cluster.door("edge1"), "Cmeter0");
    early.patience = Duration::from_secs(30);
    early.expect(200, &Ask::retrieve(&latest)).await; // the connection is open
    let read = |answer: &Answer| answer.status.is_success().then(|| reading_of(&json_of(answer)["m2m:cin"]).unwrap());
    let newest = async |cluster: &Cluster| {
        let mut client = Client::new(cluster.door("cloud"), "Cmeter0");
        until("the latest reading through the IN-CSE", async || {
            client.send(&Ask::retrieve(&latest)).await.ok().as_ref().and_then(read)
        })
        .await
    };

    cluster.stop("edge1");
    let place = cluster
        .placed("cloud", "Cmeter0", "another primary", |p| p.primary.as_deref().is_some_and(|n| n != "edge1"))
        .await;
    assert!(place.epoch > 1);
    writers[0].writes(20).await;
    let known = newest(&cluster).await;
    // It lies in the sleeper's socket, received after the first answer of the later epoch.
    let ask = Ask::retrieve(&latest);
    let question = async {
        let answer: Result<Answer, HttpError> = early.send(&ask).await;
        answer
    };
    let (wakes, answer) = tokio::join!(
        async {
            // The request is in the socket before the process runs again.
            tokio::time::sleep(Duration::from_millis(50)).await;
            cluster.cont("edge1");
        },
        question
    );
    let () = wakes;
    match &answer {
        Ok(a) => {
            println!(
                "stopped primary: its first answer is HTTP {}, reading {:?}; known was {known}",
                a.status,
                read(a)
            );
            assert!(read(a).is_none_or(|n| n >= known), "stale: {:?} after {known}", read(a));
        }
        Err(e) => println!("stopped primary: {e}"),
    }
    // From now on until it serves again, and for a while after that.
    let (mut good, mut refused) = (0, 0);
    until("the one that slept serves again", async || {
        let known = newest(&cluster).await;
        let mut client = Client::new(cluster.door("edge1"), "Cmeter0");
        match client.send(&Ask::retrieve(&latest)).await.as_ref().map(read) {
            Ok(Some(n)) => {
                assert!(n >= known, "stale: {n} after {known}");
                good += 1;
            }
            _ => refused += 1,
        }
        (good >= 20).then_some(())
    })
    .await;
    println!("stopped primary: {refused} refused, then {good} fresh answers");
    cluster.ready("edge1").await;
    writers[0].writes(20).await;
    cluster.replicated("cloud", "Cmeter0").await;
    finish("stopped primary", &mut cluster, writers).await;
}
