//! Local buffering while a node is cut off (docs/extensions.md): readings of its own devices are accepted, survive a
//! restart, and are appended after the heal, once and in order, wherever their context is served by then.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::time::Duration;

use onemec_device::Answer;
use onemec_node::admin::types::BufferFill;
use onemec_tests::client::{Ask, header, json_of, reading_of};
use onemec_tests::net::Net;
use onemec_tests::wait::until;
use onemec_tests::writer::{Device, device, repeat_until};
use onemec_tests::{Client, Cluster, history};
use serde_json::{Value, json};

const NODES: [&str; 3] = ["cloud", "edge1", "edge2"];
const AE: &str = "Cmeter";
const BUFFER_BYTES: u64 = 1 << 20;

async fn cluster(net: Option<Net>) -> (Cluster, Device) {
    let cluster = Cluster::start_in_with(net, |t| {
        t.limits.buffer_bytes_max = BUFFER_BYTES;
        t.limits.request_bytes_max = 256 << 10;
    })
    .await;
    let meter = device(&cluster, "meter", "edge1").await;
    cluster.replicated("cloud", AE).await;
    let client = &mut cluster.client("edge1", AE);
    client.expect(201, &Ask::reading(&meter.container, 1)).await;
    (cluster, meter)
}

async fn fill(cluster: &Cluster, at: &str) -> Option<BufferFill> {
    cluster.admin(at).status().await.ok()?.buffer
}

async fn without_lease(cluster: &Cluster, node: &str) {
    until(&format!("{node} has no lease"), async || {
        cluster.admin(node).status().await.ok().filter(|s| !s.has_lease).map(drop)
    })
    .await;
}

async fn drained(cluster: &Cluster, at: &str) -> BufferFill {
    until("the buffer is empty", async || fill(cluster, at).await.filter(|b| b.waiting == 0)).await
}

/// A reading that must be accepted, and only that.
async fn accepted(client: &mut Client, meter: &Device, n: u64) {
    let answer = client.ask(&Ask::reading(&meter.container, n)).await;
    assert_eq!((answer.status.as_u16(), answer.rsc()), (202, 1000), "reading {n}: {}", answer.excerpt());
    assert!(header(&answer, "x-onemec-buffered").is_some_and(|key| key.starts_with("2-")), "its key names the node");
}

async fn written(client: &mut Client, meter: &Device, n: u64) {
    let mark = repeat_until(Duration::from_secs(50));
    let ask = Ask::reading(&meter.container, n).named(format!("written-{n}")).with("x-onemec-repeat", mark);
    until(&format!("reading {n} is written"), async || {
        client.send(&ask).await.ok().filter(|a| a.status == 201).map(drop)
    })
    .await;
}

#[tokio::test]
async fn readings_that_a_cut_off_node_accepts_are_appended_once_and_in_order() {
    let (mut cluster, meter) = cluster(None).await;
    for other in ["cloud", "edge2"] {
        cluster.stop(other);
    }
    without_lease(&cluster, "edge1").await;
    let mut client = cluster.client("edge1", AE);
    for n in 2..=30 {
        accepted(&mut client, &meter, n).await;
    }
    // Accepted is not committed: nothing else is possible meanwhile, and that is said.
    let container = Ask::create("/-/meter", 3, json!({"m2m:cnt": {"rn": "more"}}));
    let repeatable = Ask::reading(&meter.container, 99).with("x-onemec-repeat", u64::MAX);
    for ask in [container, Ask::retrieve(format!("{}/la", meter.container)), repeatable] {
        let status = client.ask(&ask).await.status.as_u16();
        assert!(matches!(status, 400 | 503 | 504), "{} {}: {status}", ask.method, ask.path);
    }
    let now = fill(&cluster, "edge1").await.unwrap();
    assert_eq!((now.waiting, now.accepted, now.bytes_max), (29, 29, BUFFER_BYTES));
    assert!(now.bytes > 0);
    for other in ["cloud", "edge2"] {
        cluster.cont(other);
    }
    drained(&cluster, "edge1").await;
    written(&mut client, &meter, 31).await;
    let all: Vec<u64> = (1..=31).collect();
    assert_eq!(history::read_back(&cluster, "cloud", &meter).await, all);
    cluster.assert_all_run();
}

/// The device's group is led by another node meanwhile, and written there.
#[tokio::test]
async fn readings_go_to_the_new_primary_after_a_partition() {
    let Some(net) = Net::new(&NODES) else { return };
    let (mut cluster, meter) = cluster(Some(net)).await;
    cluster.net().isolate("edge1");
    without_lease(&cluster, "edge1").await;
    let place =
        cluster.placed("cloud", AE, "another primary", |p| p.primary.as_ref().is_some_and(|n| n != "edge1")).await;
    let (mut here, mut there) = (cluster.client("edge1", AE), cluster.client("cloud", AE));
    for n in 2..=20 {
        accepted(&mut here, &meter, n).await;
        written(&mut there, &meter, 1_000 + n).await;
    }
    cluster.net().heal();
    cluster.ready("edge1").await;
    let end = drained(&cluster, "edge1").await;
    assert_eq!(end.refused, 0);
    let read = history::read_back(&cluster, "cloud", &meter).await;
    let (there, here): (Vec<u64>, Vec<u64>) = read.into_iter().partition(|n| *n > 1_000);
    assert_eq!(here, (1..=20).collect::<Vec<_>>(), "once and in order");
    assert_eq!(there, (1_002..=1_020).collect::<Vec<_>>());
    println!("led by {:?} meanwhile", place.primary);
    cluster.assert_all_run();
}

#[tokio::test]
async fn a_full_buffer_says_so_and_survives_a_restart() {
    let (mut cluster, meter) = cluster(None).await;
    for other in ["cloud", "edge2"] {
        cluster.stop(other);
    }
    without_lease(&cluster, "edge1").await;
    let mut client = cluster.client("edge1", AE);
    let long = |n: u64| {
        let con = json!({"n": n, "filler": "x".repeat(100 << 10)}).to_string();
        Ask::create(&meter.container, 4, json!({"m2m:cin": {"cnf": "application/json:0", "con": con}}))
    };
    let mut last = 1;
    let refused: Answer = loop {
        let answer = client.ask(&long(last + 1)).await;
        if answer.status != 202 {
            break answer;
        }
        last += 1;
        assert!(last < 100, "it has a limit");
    };
    assert_eq!(refused.status, 503, "{}", refused.excerpt());
    assert_eq!(header(&refused, "retry-after").as_deref(), Some("1"));
    assert!(last > 5, "{last} fitted");
    let full = fill(&cluster, "edge1").await.unwrap();
    assert!(full.bytes <= BUFFER_BYTES && full.overflowed >= 1, "{full:?}");
    let metrics = cluster.get_admin("edge1", "/metrics").await;
    assert!(metrics.contains(&format!("onemec_buffer_waiting {}", last - 1)), "{metrics}");

    cluster.kill("edge1");
    for other in ["cloud", "edge2"] {
        cluster.cont(other);
    }
    cluster.restart("edge1").await;
    drained(&cluster, "edge1").await;
    let instances = until("all readings", async || {
        let path = format!("{}?rcn=8&ty=4&lim=1000", meter.container);
        let answer = cluster.client("cloud", AE).send(&Ask::retrieve(path)).await.ok()?;
        let mut found = Vec::new();
        numbers(&json_of(&answer), &mut found);
        found.sort_unstable();
        let numbers: Vec<u64> = found.iter().map(|(_, n)| *n).collect();
        (numbers.len() as u64 >= last).then_some(numbers)
    })
    .await;
    assert_eq!(instances, (1..=last).collect::<Vec<_>>(), "once and in order");
    // It has room again.
    let mut client = cluster.client("edge1", AE);
    client.patience = Duration::from_secs(5);
    written(&mut client, &meter, last + 1).await;
}

/// State tag and number of each instance.
fn numbers(value: &Value, out: &mut Vec<(u64, u64)>) {
    match value {
        Value::Object(map) if map.contains_key("con") => {
            out.push((value["st"].as_u64().unwrap(), reading_of(value).unwrap()));
        }
        Value::Object(map) => map.values().for_each(|v| numbers(v, out)),
        Value::Array(list) => list.iter().for_each(|v| numbers(v, out)),
        _ => {}
    }
}
