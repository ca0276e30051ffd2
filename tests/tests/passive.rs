//! AEs that nobody asks for leave memory, and nobody notices: the first request, a timer, a move or the death of their host
//! brings them back with everything that they had (DESIGN.md section 4, passivation).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onemec_node::admin::types::GroupMemory;
use onemec_node::topology::Topology;
use onemec_onem2m::time::Timestamp;
use onemec_tests::client::{Ask, Client, assert_status, reading_of};
use onemec_tests::wait::until;
use onemec_tests::writer::Device;
use onemec_tests::{Cluster, Listener, Writer, history};
use serde_json::{Value, json};

/// AEs at edge1, and at edge2.
const AES: [usize; 2] = [24, 6];
/// The groups of the three CSEBases do not leave memory.
const STAY: u64 = 3;

fn soon_idle(topology: &mut Topology) {
    topology.limits.passive_after_ms = 400;
}

async fn memory(cluster: &Cluster, node: &str) -> Option<GroupMemory> {
    cluster.admin(node).status().await.ok().map(|s| s.memory)
}

/// Waits until all AEs that have a copy at the node have left its memory.
async fn all_passive(cluster: &Cluster, node: &str) {
    until(&format!("only CSEBases are in the memory of {node}"), async || {
        memory(cluster, node).await.filter(|m| m.active <= STAY && m.passive > 0)
    })
    .await;
}

/// Waits until all copies that count have left memory, wherever they are. What a node that was dead still holds does not
/// count, and is dropped after a while.
async fn all_copies_passive(cluster: &Cluster) {
    until("two copies of each AE have left memory", async || {
        let mut passive = 0;
        for node in cluster.names() {
            passive += memory(cluster, &node).await?.passive;
        }
        (passive >= 2 * (AES[0] + AES[1]) as u64).then_some(())
    })
    .await;
}

fn path(i: usize) -> String {
    let home = if i < AES[0] { "edge1" } else { "edge2" };
    format!("/~/{home}/-/idle{i}/data")
}

async fn registered(cluster: &Cluster) -> usize {
    for i in 0..AES[0] + AES[1] {
        let mut client = cluster.client(if i < AES[0] { "edge1" } else { "edge2" }, &format!("Cidle{i}"));
        client.register_with_data(&format!("idle{i}")).await;
        client.expect(201, &Ask::reading(&path(i), i as u64)).await;
    }
    AES[0] + AES[1]
}

async fn reads(client: &mut Client, i: usize) -> u64 {
    // The host may just have died: then it is asked again.
    until(&format!("idle{i} answers"), async || {
        let answer = client.send(&Ask::retrieve(format!("{}/la", path(i)))).await.ok()?;
        if answer.status.as_u16() >= 500 {
            return None;
        }
        assert_status(&answer, 200, &format!("idle{i}"));
        reading_of(&serde_json::from_slice::<Value>(&answer.body).unwrap()["m2m:cin"])
    })
    .await
}

/// Names in the references of a listing, wherever they stand in it.
fn rows(body: &Value, out: &mut Vec<String>) {
    match body {
        Value::Object(map) => {
            out.extend(map.get("nm").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|v| rows(v, out));
        }
        Value::Array(list) => list.iter().for_each(|v| rows(v, out)),
        _ => {}
    }
}

#[tokio::test]
async fn idle_aes_leave_memory_and_answer_again() {
    let mut cluster = Cluster::start_with(soon_idle).await;
    let all = registered(&cluster).await;
    for node in cluster.names() {
        all_passive(&cluster, &node).await;
    }
    let passive = memory(&cluster, "edge1").await.unwrap();
    assert!(passive.passive >= AES[0] as u64, "{passive:?}");

    // Listings show those that are not in memory.
    let mut admin = cluster.client("edge1", "CAdmin");
    let mut shown = Vec::new();
    rows(&admin.expect(200, &Ask::retrieve("/-?rcn=6")).await, &mut shown);
    let missing: Vec<usize> = (0..AES[0]).filter(|i| !shown.contains(&format!("idle{i}"))).collect();
    assert!(missing.is_empty(), "not shown below the CSEBase: {missing:?}");
    all_passive(&cluster, "edge1").await;
    let found = admin.expect(200, &Ask::retrieve("/-?fu=1&ty=4")).await;
    let found = found["m2m:uril"].as_array().expect("discovered").len();
    assert_eq!(found, AES[0], "instances are discovered in AEs that are not in memory");

    // Each comes back with what it had: read at its CSE and elsewhere, and written.
    all_passive(&cluster, "edge1").await;
    let mut other = cluster.client("cloud", "CAdmin");
    for i in 0..all {
        let client = if i % 2 == 0 { &mut admin } else { &mut other };
        assert_eq!(reads(client, i).await, i as u64);
    }
    for node in cluster.names() {
        all_passive(&cluster, &node).await;
    }
    for i in 0..all {
        let mut own = cluster.client("edge1", &format!("Cidle{i}"));
        own.expect(201, &Ask::reading(&path(i), 1_000 + i as u64)).await;
        let device = Device { name: format!("idle{i}"), ae_id: format!("Cidle{i}"), container: path(i) };
        assert_eq!(history::read_back(&cluster, "cloud", &device).await, [i as u64, 1_000 + i as u64]);
    }
    let now = memory(&cluster, "edge1").await.unwrap();
    assert!(now.activations >= 3 * AES[0] as u64, "they were out of memory, and came back: {now:?}");

    // After the death of their host, and after its return.
    for node in cluster.names() {
        all_passive(&cluster, &node).await;
    }
    cluster.kill("edge1");
    for i in 0..all {
        assert_eq!(reads(&mut other, i).await, 1_000 + i as u64, "after the death of edge1");
    }
    cluster.restart("edge1").await;
    for i in 0..all {
        let mut own = cluster.client("edge1", &format!("Cidle{i}"));
        own.expect(201, &Ask::reading(&path(i), 2_000 + i as u64)).await;
    }
    all_copies_passive(&cluster).await;
    cluster.kill_all();
    for name in cluster.names() {
        cluster.spawn(&name);
    }
    for name in cluster.names() {
        cluster.ready(&name).await;
    }
    let mut other = cluster.client("cloud", "CAdmin");
    for i in 0..all {
        assert_eq!(reads(&mut other, i).await, 2_000 + i as u64, "after the death of all");
    }
    cluster.assert_all_run();
}

/// A small bound of memory is kept while many are asked in turn.
#[tokio::test]
async fn memory_bound_lets_the_least_recently_used_leave() {
    const BOUND: u64 = 1 << 14;
    let cluster = Cluster::start_with(|t| t.limits.resources_bytes_max = BOUND).await;
    let all = registered(&cluster).await;
    let mut client = cluster.client("edge1", "CAdmin");
    for round in 0..3 {
        for i in 0..all {
            assert_eq!(reads(&mut client, i).await, i as u64, "round {round}");
        }
    }
    let held =
        until("memory is within its bound", async || memory(&cluster, "edge1").await.filter(|m| m.bytes <= BOUND))
            .await;
    assert!(held.passive > 0 && held.passivations > 0, "{held:?}");
    println!("memory bound: {held:?}");
}

/// What a passive AE has to do by itself it does in time: a resource expires, and who watches hears of it.
#[tokio::test]
async fn timer_of_a_passive_ae_fires_and_is_notified() {
    let cluster = Cluster::start_with(soon_idle).await;
    let listener = Listener::start().await;
    let mut client = cluster.client("edge1", "Cidle0");
    client.register_with_data("idle0").await;
    let sub = json!({"m2m:sub": {"rn": "watch", "nu": [listener.url], "enc": {"net": [4]}, "nct": 1}});
    client.expect(201, &Ask::create("/-/idle0", 23, sub)).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let et = Timestamp::from_ms((now + Duration::from_secs(6)).as_millis() as u64);
    let short = json!({"m2m:cnt": {"rn": "short", "et": et.to_string()}});
    client.expect(201, &Ask::create("/-/idle0", 3, short)).await;
    all_passive(&cluster, "edge1").await;
    assert!(listener.heard().is_empty(), "it was passive before its time came");
    let heard = until("the end of the container is notified", async || listener.heard().into_iter().next()).await;
    assert_eq!(heard.body["m2m:sgn"]["nev"]["rep"]["m2m:cnt"]["rn"], "short", "{heard:?}");
    assert_status(&client.ask(&Ask::retrieve("/-/idle0/short")).await, 404, "it has expired");
    client.expect(200, &Ask::retrieve("/-/idle0/data")).await;
}

/// Moves of AEs that are not in memory, and of one that is written to from time to time, so that it comes and goes.
#[tokio::test]
async fn passive_aes_move_with_data_and_subscriptions() {
    let mut cluster = Cluster::start_with(soon_idle).await;
    let listener = Listener::start().await;
    let mut client = cluster.client("edge1", "Cidle0");
    client.register_with_data("idle0").await;
    let sub = json!({"m2m:sub": {"rn": "watch", "nu": [listener.url], "enc": {"net": [3]}, "nct": 1}});
    client.expect(201, &Ask::create("/-/idle0/data", 23, sub)).await;
    client.expect(201, &Ask::reading(&path(0), 0)).await;
    let writer = Writer::start(&cluster, "busy", "edge1").await;
    let mut number = 0;
    for to in ["edge2", "edge1", "cloud", "edge2"] {
        until("the idle AE leaves memory", async || {
            let mut passive = 0;
            for node in cluster.names() {
                passive += memory(&cluster, &node).await?.passive;
            }
            // Both copies of it; the busy one stays.
            (passive >= 2).then_some(())
        })
        .await;
        cluster.move_to("cloud", "idle0", to).await;
        assert_eq!(reads(&mut client, 0).await, number, "after the move to {to}");
        number += 1;
        client.expect(201, &Ask::reading(&path(0), number)).await;
        writer.writes(10).await;
    }
    until("the last reading is notified", async || {
        let all = listener.heard();
        let numbers: Vec<u64> =
            all.iter().filter_map(|h| reading_of(&h.body["m2m:sgn"]["nev"]["rep"]["m2m:cin"])).collect();
        assert!(numbers.is_sorted(), "out of order: {numbers:?}");
        (numbers.last() == Some(&number)).then(|| assert!((0..=number).all(|n| numbers.contains(&n)), "{numbers:?}"))
    })
    .await;
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    cluster.assert_all_run();
    history::verify(&cluster, &[written]).await;
}
