//! Row G13: the AEs of one device (the same `nodeLink`) move together or not at all (I6), whoever dies meanwhile. Devices
//! write without pause; the history checker judges.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_node::admin::types::{MoveOrder, Placement};
use onemec_node::topology::Topology;
use onemec_tests::client::{Ask, assert_status};
use onemec_tests::cluster::order;
use onemec_tests::wait::until;
use onemec_tests::writer::{Device, all_write, device};
use onemec_tests::{Cluster, Writer, history};
use serde_json::{Value, json};

const NODE_LINK: &str = "/edge1/node-of-gateway7";
const BUNDLE: [&str; 3] = ["Cleft", "Cright", "Clate"];

/// A device's AE with a container, in the bundle from its registration on.
async fn member(cluster: &Cluster, name: &str, at: &str) -> Device {
    let ae = json!({"rn": name, "api": "Nonemec.tests", "rr": false, "srv": ["3"], "nl": NODE_LINK});
    let mut client = cluster.client(at, &format!("C{name}"));
    client.expect(201, &Ask::create("/-", 2, json!({ "m2m:ae": ae }))).await;
    client.expect(201, &Ask::create(format!("/-/{name}"), 3, json!({"m2m:cnt": {"rn": "data"}}))).await;
    Device { name: name.into(), ae_id: format!("C{name}"), container: format!("/~/{at}/-/{name}/data") }
}

/// Writes `nl` of an AE; repeated while nobody can tell.
async fn link(cluster: &Cluster, at: &str, name: &str, nl: Value) {
    until(&format!("nl of {name}"), async || {
        let ask = Ask::update(format!("/~/edge1/-/{name}"), json!({"m2m:ae": {"nl": nl}}));
        let answer = cluster.client(at, &format!("C{name}")).send(&ask).await.ok()?;
        if !answer.status.is_server_error() {
            assert_status(&answer, 200, "nl is set");
            return Some(());
        }
        None
    })
    .await;
}

/// Waits until these AEs, and nobody else, are one group with a primary and a replica.
async fn together(cluster: &Cluster, at: &str, aes: &[&str]) -> Placement {
    let mut wanted: Vec<String> = aes.iter().map(|a| (*a).to_owned()).collect();
    wanted.sort();
    cluster
        .placed(at, aes[0], &format!("one group with {aes:?}"), |p| {
            let mut found = p.aes.clone();
            found.sort();
            found == wanted && p.primary.is_some() && p.in_sync.len() >= 2
        })
        .await
}

/// Two AEs that registered as a bundle, one that joins late, and their writers.
async fn start(five: bool) -> (Cluster, Vec<Writer>) {
    // A lease so long that a busy machine declares nobody dead beside those that are killed.
    let longer = |t: &mut Topology| t.timing.lease_ms = 1_000;
    let cluster = if five { Cluster::start_five_with(longer).await } else { Cluster::start_with(longer).await };
    let mut writers = Vec::new();
    for name in ["left", "right"] {
        let device = member(&cluster, name, "edge1").await;
        writers.push(Writer::of(&cluster, device, cluster.doors("edge1")));
    }
    together(&cluster, "cloud", &BUNDLE[..2]).await;
    let late = device(&cluster, "late", "edge1").await;
    writers.push(Writer::of(&cluster, late, cluster.doors("edge1")));
    all_write(&writers, 10).await;
    link(&cluster, "edge1", "late", json!(NODE_LINK)).await;
    together(&cluster, "cloud", &BUNDLE).await;
    all_write(&writers, 10).await;
    (cluster, writers)
}

async fn finish(test: &str, cluster: &mut Cluster, writers: Vec<Writer>) {
    let (_, verdict) = history::finish(test, cluster, writers).await;
    assert_eq!(verdict.unknown, 0, "every reading was acknowledged in the end");
}

/// All of the bundle are at home at one node, as the AEs themselves show it.
async fn all_at(cluster: &Cluster, home: &str) {
    for ae in BUNDLE {
        let shown = cluster.ae("cloud", ae).await;
        assert_eq!((shown.home.as_str(), shown.primary.as_str()), (home, home), "{ae}");
        assert_eq!(shown.bundle.len(), 2, "{ae} moves with the two others: {:?}", shown.bundle);
    }
}

#[tokio::test]
async fn row_g13_a_bundle_is_joined_moved_and_split_under_writers() {
    let (mut cluster, writers) = start(false).await;
    for to in ["edge2", "cloud", "edge1", "edge2"] {
        // Whichever of them is named, all go.
        let named = BUNDLE[to.len() % 3];
        cluster.move_to("cloud", named, to).await;
        all_at(&cluster, to).await;
        all_write(&writers, 10).await;
    }
    // One leaves: the others stay together.
    link(&cluster, "edge2", "late", Value::Null).await;
    together(&cluster, "cloud", &BUNDLE[..2]).await;
    together(&cluster, "cloud", &BUNDLE[2..]).await;
    all_write(&writers, 10).await;
    cluster.move_to("cloud", "Cleft", "edge1").await;
    assert_eq!(cluster.ae("cloud", "Cright").await.home, "edge1");
    assert_eq!(cluster.ae("cloud", "Clate").await.home, "edge2", "who has left stays");
    // And comes back, to where the others are now.
    link(&cluster, "edge2", "late", json!(NODE_LINK)).await;
    together(&cluster, "cloud", &BUNDLE).await;
    all_at(&cluster, "edge1").await;
    all_write(&writers, 10).await;
    finish("g13 join, move, split", &mut cluster, writers).await;
}

/// The name of one is taken at the target: all stay.
#[tokio::test]
async fn row_g13_what_refuses_one_refuses_all() {
    let (mut cluster, writers) = start(false).await;
    cluster.client("edge2", "Cthief").register("right").await;
    let refused = cluster.admin("cloud").order_move(&order("Cleft", "edge2")).await.unwrap();
    assert_eq!(refused.code, "name-taken", "{}", refused.text);
    all_at(&cluster, "edge1").await;
    all_write(&writers, 10).await;
    cluster.move_to("cloud", "Cleft", "cloud").await;
    all_at(&cluster, "cloud").await;
    all_write(&writers, 10).await;
    finish("g13 refusal", &mut cluster, writers).await;
}

#[tokio::test]
async fn row_g13_kills_in_the_middle_of_a_bundles_move_split_nothing() {
    let (mut cluster, writers) = start(true).await;
    // The one that stops itself in this state, and who is killed then.
    for (state, at_target, victim) in [
        ("freeze", false, "source"),
        ("transfer", false, "source"),
        ("activate", true, "target"),
        ("transfer", false, "leader"),
    ] {
        let place = together(&cluster, "cloud", &BUNDLE).await;
        let leader = cluster.directory_leader().await;
        let source = place.primary.unwrap();
        // The leader is killed as a third; the node that is asked stays.
        let target = cluster
            .names()
            .into_iter()
            .filter(|n| *n != source && *n != "cloud" && *n != leader)
            .min_by_key(|n| place.in_sync.contains(n))
            .unwrap();
        let halted = if at_target { target.clone() } else { source.clone() };
        cluster.halt_at(&halted, state);
        let ordered = || {
            let (admin, order) = (cluster.admin(&source), MoveOrder { deadline_ms: 10_000, ..order("Cleft", &target) });
            tokio::spawn(async move { admin.order_move(&order).await.ok().map(|r| r.code) })
        };
        let mut moving = ordered();
        until(&format!("{source} to {target} is in state {state}"), async || {
            if !cluster.is_halted(&halted) && moving.is_finished() {
                println!("once more: {:?}", (&mut moving).await);
                moving = ordered();
            }
            cluster.is_halted(&halted).then_some(())
        })
        .await;
        let victim = match victim {
            "source" => source.clone(),
            "target" => target.clone(),
            _ => leader,
        };
        cluster.kill(&victim);
        if victim != halted {
            cluster.cont(&halted);
        }
        all_write(&writers, 10).await;
        println!("kill of {victim} in {state} of {source} to {target}: {:?}", moving.await.unwrap());
        cluster.restart(&victim).await;
        let place = together(&cluster, "cloud", &BUNDLE).await;
        println!("then all at {:?}, epoch {}", place.primary, place.epoch);
        all_write(&writers, 10).await;
    }
    // A failover of the whole.
    let place = together(&cluster, "cloud", &BUNDLE).await;
    let home = place.primary.unwrap();
    cluster.kill(&home);
    let at = if home == "cloud" { "edge1" } else { "cloud" };
    let place = cluster
        .placed(at, BUNDLE[0], "another primary", |p| {
            p.primary.as_ref().is_some_and(|n| *n != home) && p.aes.len() == 3
        })
        .await;
    println!("failover of the bundle from {home} to {:?}", place.primary);
    all_write(&writers, 10).await;
    cluster.restart(&home).await;
    all_write(&writers, 10).await;
    finish("g13 kills", &mut cluster, writers).await;
}
