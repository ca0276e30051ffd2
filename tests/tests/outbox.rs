//! What waits for receivers of notifications: bounded while one is gone (I8), and not lost while one says "not now".

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_tests::client::{Ask, Client};
use onemec_tests::wait::until;
use onemec_tests::{Cluster, Listener};
use serde_json::{Value, json};

/// An AE at edge1 with a container of one instance, and a subscription to it.
async fn subscribed(cluster: &Cluster, name: &str, targets: Vec<String>) -> Client {
    let mut client = cluster.client("edge1", &format!("C{name}"));
    client.register_with_data(name).await;
    client.expect(200, &Ask::update(format!("/-/{name}/data"), json!({"m2m:cnt": {"mni": 1}}))).await;
    let sub = json!({"m2m:sub": {"rn": "sub", "nu": targets, "enc": {"net": [3]}}});
    client.expect(201, &Ask::create(format!("/-/{name}/data"), 23, sub)).await;
    client
}

/// Instance `n` with `bytes` bytes behind its number.
fn instance(container: &str, n: u64, bytes: usize) -> Ask {
    let con = format!("{n} {}", "x".repeat(bytes));
    Ask::create(container, 4, json!({"m2m:cin": {"con": con}}))
}

/// The numbers of what was heard, a repetition once.
fn numbers(listener: &Listener) -> Vec<u64> {
    let number = |body: &Value| {
        let con = body.pointer("/m2m:sgn/nev/rep/m2m:cin/con")?.as_str()?.split(' ').next()?;
        con.parse().ok()
    };
    let mut all: Vec<u64> = listener.heard().iter().filter_map(|h| number(&h.body)).collect();
    all.dedup();
    all
}

async fn metric(cluster: &Cluster, node: &str, sample: &str) -> f64 {
    let text = cluster.metrics(node).await;
    text.lines().find_map(|l| l.strip_prefix(sample)?.trim().parse().ok()).unwrap()
}

/// 3 MiB of one AE.
const OUTBOX_BYTES_MAX: f64 = 3.0 * 1024.0 * 1024.0;
const WAITING: &str = "onemec_outbox_bytes";
const DROPPED: &str = "onemec_notifications_dropped_total{reason=\"full\"}";

#[tokio::test]
async fn a_receiver_that_is_gone_stops_neither_the_writer_nor_a_move() {
    let cluster = Cluster::start().await;
    let (gone, there) = (Listener::start().await, Listener::start().await);
    gone.is_gone(true);
    let mut targets: Vec<String> = (0..16).map(|i| format!("{}/{i}", gone.url)).collect();
    targets.push(there.url.clone());
    let mut client = subscribed(&cluster, "gone", targets).await;
    for n in 1..=20 {
        client.expect(201, &instance("/-/gone/data", n, 500_000)).await;
        until("the receiver that is there hears of it", async || (numbers(&there).last() == Some(&n)).then_some(()))
            .await;
    }
    assert_eq!(numbers(&there), (1..=20).collect::<Vec<_>>(), "the one that is there misses nothing");
    let waiting = metric(&cluster, "edge1", WAITING).await;
    assert!(waiting > 0.0 && waiting <= OUTBOX_BYTES_MAX, "{waiting}");
    assert!(metric(&cluster, "edge1", DROPPED).await > 0.0);

    cluster.replicated("cloud", "Cgone").await;
    cluster.move_to("cloud", "Cgone", "edge2").await;
    for n in 21..=24 {
        client.expect(201, &instance("/~/edge2/-/gone/data", n, 500_000)).await;
    }
    let moved = metric(&cluster, "edge2", WAITING).await;
    assert!(moved > 0.0 && moved <= OUTBOX_BYTES_MAX, "{moved}");

    // Back again, it hears what was kept: the oldest, in order.
    gone.is_gone(false);
    until("nothing waits", async || (metric(&cluster, "edge2", WAITING).await == 0.0).then_some(())).await;
    let mut heard: Vec<u64> = numbers(&gone);
    heard.sort_unstable();
    heard.dedup();
    assert_eq!(heard[..4], [1, 2, 3, 4], "{heard:?}");
}

#[tokio::test]
async fn a_receiver_that_says_not_now_misses_nothing() {
    let cluster = Cluster::start().await;
    let listener = Listener::start().await;
    let mut client = subscribed(&cluster, "later", vec![listener.url.clone()]).await;
    let answers = [(503, "5000"), (500, "5000"), (504, "4008"), (429, "5207")];
    listener.refuses(answers);
    for n in 1..=9 {
        client.expect(201, &instance("/-/later/data", n, 1)).await;
    }
    until("all are heard", async || (numbers(&listener).len() >= 9).then_some(())).await;
    assert_eq!(numbers(&listener), (1..=9).collect::<Vec<_>>());
    assert_eq!(listener.refused(), answers.len());
    // One that will never take it is not asked again.
    listener.refuses([(403, "4103")]);
    client.expect(201, &instance("/-/later/data", 10, 1)).await;
    client.expect(201, &instance("/-/later/data", 11, 1)).await;
    until("the next is heard", async || (numbers(&listener).last() == Some(&11)).then_some(())).await;
    assert_eq!((numbers(&listener).contains(&10), listener.refused()), (false, answers.len() + 1));
    let refused = "onemec_notifications_dropped_total{reason=\"refused\"}";
    assert_eq!(metric(&cluster, "edge1", refused).await, 1.0);
}
