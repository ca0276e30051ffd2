//! Networks that fail: nodes in network namespaces, links cut in both directions or one. Nothing acknowledged is lost, no
//! two nodes serve one device, the rest goes on while it lasts, and after the heal everything is as before (I1 to I5;
//! RELIABILITY.md, faults 1 and 13).
//!
//! Skipped with a message where there is no root or no iproute2.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::time::Duration;

use onemec_tests::client::{Ask, json_of, reading_of};
use onemec_tests::net::Net;
use onemec_tests::wait::until;
use onemec_tests::writer::{all_write, device};
use onemec_tests::{Cluster, Writer, history};

const AE: &str = "Cmeter0";
const NODES: [&str; 3] = ["cloud", "edge1", "edge2"];
/// A question that a cut-off node leaves open.
const SHORT: Duration = Duration::from_millis(400);

/// In which direction a node is cut off from the others.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Nobody hears it, and it hears nobody.
    Both,
    /// It hears the others.
    Out,
    /// The others hear it.
    In,
}

fn cut(net: &Net, node: &str, others: &[&str], how: Cut) {
    for other in others.iter().filter(|o| **o != node) {
        match how {
            Cut::Both => net.cut_both(node, other),
            Cut::Out => net.cut(node, other),
            Cut::In => net.cut(other, node),
        }
    }
}

async fn start() -> Option<(Cluster, Vec<Writer>)> {
    let cluster = Cluster::start_in(Net::new(&NODES)?).await;
    let mut writers = Vec::new();
    for (i, at) in ["edge1", "edge2", "edge1"].iter().enumerate() {
        writers.push(Writer::start(&cluster, &format!("meter{i}"), at).await);
    }
    all_write(&writers, 20).await;
    all_replicated(&cluster, &writers).await;
    Some((cluster, writers))
}

async fn all_replicated(cluster: &Cluster, writers: &[Writer]) {
    for writer in writers {
        cluster.replicated("cloud", &writer.device.ae_id).await;
    }
}

/// Everybody hears everybody, and the cluster is as it was before.
async fn heal(cluster: &mut Cluster, writers: &[Writer]) {
    cluster.net().heal();
    for name in NODES {
        cluster.ready(name).await;
        until(&format!("{name} has a lease and knows a leader"), async || {
            let status = cluster.admin(name).status().await.ok()?;
            (status.has_lease && status.directory_leader.is_some()).then_some(())
        })
        .await;
    }
    all_write(writers, 20).await;
    all_replicated(cluster, writers).await;
    for name in NODES {
        // The one that was cut off serves its clients again, and what it says is not old.
        let known = latest(cluster, "cloud").await;
        let here = latest(cluster, name).await;
        assert!(here >= known, "{name} says {here} after {known} was known");
    }
}

/// The newest reading, as a node says; asked until it says one.
async fn latest(cluster: &Cluster, at: &str) -> u64 {
    let ask = Ask::retrieve("/~/edge1/-/meter0/data/la");
    let mut client = cluster.client(at, AE);
    until(&format!("the latest reading at {at}"), async || {
        let answer = client.send(&ask).await.ok().filter(|a| a.status.is_success())?;
        reading_of(&json_of(&answer)["m2m:cin"])
    })
    .await
}

/// A node that was cut off may believe that it serves: what it answers must not be older than what others have said.
async fn says_nothing_stale(cluster: &Cluster, cut_off: &str, elsewhere: &str) {
    let mut client = cluster.client(cut_off, AE);
    client.patience = SHORT;
    for _ in 0..5 {
        let known = latest(cluster, elsewhere).await;
        let Ok(answer) = client.send(&Ask::retrieve("/~/edge1/-/meter0/data/la")).await else { continue };
        if answer.status.is_success() {
            let n = reading_of(&json_of(&answer)["m2m:cin"]).unwrap();
            assert!(n >= known, "{cut_off} says {n}, {elsewhere} had said {known}");
        }
    }
}

#[tokio::test]
async fn primary_cut_off() {
    let Some((mut cluster, writers)) = start().await else { return };
    for how in [Cut::Both, Cut::Out, Cut::In] {
        let home = cluster.replicated("cloud", AE).await.primary.unwrap();
        let home = if home == "cloud" {
            cluster.move_to("cloud", AE, "edge1").await;
            "edge1".to_owned()
        } else {
            home
        };
        cut(cluster.net(), &home, &NODES, how);
        let other = NODES.into_iter().find(|n| *n != home && *n != "cloud").unwrap();
        let place =
            cluster.placed(other, AE, "another primary", |p| p.primary.as_ref().is_some_and(|n| *n != home)).await;
        all_write(&writers, 20).await;
        says_nothing_stale(&cluster, &home, other).await;
        println!("primary {home} cut off ({how:?}): epoch {} at {:?}", place.epoch, place.primary);
        heal(&mut cluster, &writers).await;
    }
    history::finish("primary cut off", &mut cluster, writers).await;
}

#[tokio::test]
async fn replica_cut_off() {
    let Some((mut cluster, writers)) = start().await else { return };
    for how in [Cut::Both, Cut::Out, Cut::In] {
        let place = cluster.replicated("cloud", AE).await;
        let home = place.primary.unwrap();
        let replica = place.in_sync.into_iter().find(|n| *n != home).unwrap();
        cut(cluster.net(), &replica, &NODES, how);
        all_write(&writers, 20).await;
        let now = cluster.placed(&home, AE, "the replica is out of the set", |p| !p.in_sync.contains(&replica)).await;
        println!("replica {replica} cut off ({how:?}): then {now:?}");
        heal(&mut cluster, &writers).await;
    }
    history::finish("replica cut off", &mut cluster, writers).await;
}

#[tokio::test]
async fn directory_leader_cut_off() {
    let Some((mut cluster, writers)) = start().await else { return };
    for how in [Cut::Both, Cut::Out, Cut::In] {
        let leader = cluster.directory_leader().await;
        cut(cluster.net(), &leader, &NODES, how);
        let others: Vec<&str> = NODES.into_iter().filter(|n| *n != leader).collect();
        until("the others have a leader of their own", async || {
            let mut all = true;
            for other in &others {
                let status = cluster.admin(other).status().await.ok()?;
                all &= status.directory_leader.is_some_and(|l| l != leader) && status.has_lease;
            }
            all.then_some(())
        })
        .await;
        all_write(&writers, 20).await;
        says_nothing_stale(&cluster, &leader, others[0]).await;
        println!("leader {leader} cut off ({how:?}): the others went on");
        heal(&mut cluster, &writers).await;
    }
    history::finish("directory's leader cut off", &mut cluster, writers).await;
}

/// One link only: both ends still reach the third node, so nobody dies, and the device goes on.
#[tokio::test]
async fn link_between_primary_and_replica_cut() {
    let Some((mut cluster, writers)) = start().await else { return };
    for how in [Cut::Both, Cut::Out, Cut::In] {
        let place = cluster.replicated("cloud", AE).await;
        let home = place.primary.unwrap();
        let replica = place.in_sync.into_iter().find(|n| *n != home).unwrap();
        cut(cluster.net(), &home, &[&replica], how);
        all_write(&writers, 20).await;
        println!("link from {home} to {replica} cut ({how:?})");
        heal(&mut cluster, &writers).await;
    }
    history::finish("one link cut", &mut cluster, writers).await;
}

/// Everybody alone: nobody may acknowledge anything. Then everybody together again.
#[tokio::test]
async fn nobody_hears_anybody() {
    let Some((mut cluster, writers)) = start().await else { return };
    // Not one of those whose history is checked: what gets 504 may still appear.
    device(&cluster, "probe", "edge1").await;
    for node in NODES {
        cluster.net().isolate(node);
    }
    for node in NODES {
        until(&format!("{node} has no lease"), async || {
            cluster.admin(node).status().await.ok().filter(|s| !s.has_lease).map(drop)
        })
        .await;
    }
    for node in NODES {
        let mut client = cluster.client(node, "Cprobe");
        for ask in [Ask::reading("/~/edge1/-/probe/data", 1), Ask::retrieve("/~/edge1/-/probe/data")] {
            let answer = client.ask(&ask).await;
            assert!(matches!(answer.status.as_u16(), 503 | 504), "{node}: {} {}", answer.status, answer.excerpt());
        }
    }
    heal(&mut cluster, &writers).await;
    history::finish("nobody hears anybody", &mut cluster, writers).await;
}

/// A link that comes and goes faster than leases run out, for a while.
#[tokio::test]
async fn flapping_links() {
    const FLAPS: usize = 15;
    let Some((mut cluster, writers)) = start().await else { return };
    for turn in 0..FLAPS {
        let node = NODES[turn % NODES.len()];
        cluster.net().isolate(node);
        // The fault itself: so long is the link down, and then up.
        tokio::time::sleep(Duration::from_millis(200)).await;
        cluster.net().heal();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    heal(&mut cluster, &writers).await;
    history::finish("flapping links", &mut cluster, writers).await;
}
