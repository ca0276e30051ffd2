//! Rows of mobility on real nodes, those that `moves.rs`, `faults.rs` and `phases.rs` do not show: what moves a device
//! (network, load, labels), what refuses a move, what moves with it, and the figures of moves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onemec_node::admin::merge::merge;
use onemec_node::admin::types::{
    DrainOrder, Handover, LabelOrder, Measurement, Measurements, MoveOrder, MoveReason, MoveResult,
};
use onemec_node::topology::{Auth, Balance, Topology};
use onemec_tests::client::{Ask, assert_status, header, json_of, reading_of, registration};
use onemec_tests::cluster::order;
use onemec_tests::wait::{POLL, until};
use onemec_tests::writer::{all_write, device};
use onemec_tests::{Cluster, Listener, Writer, history};
use serde_json::{Value, json};

/// One cloud node and two edge hosts with a lease so long that a busy machine declares nobody dead: here it is not about
/// how soon that happens.
async fn calm(change: impl Fn(&mut Topology)) -> Cluster {
    Cluster::start_with(|t| {
        t.timing.lease_ms = 1_000;
        change(t);
    })
    .await
}

async fn writers(cluster: &Cluster, n: usize, at: &str) -> Vec<Writer> {
    let mut all = Vec::new();
    for i in 0..n {
        all.push(Writer::start(cluster, &format!("meter{i}"), at).await);
    }
    all_write(&all, 10).await;
    all
}

/// Everything that every node has recorded of moves, one line per move.
async fn journal(cluster: &Cluster) -> Vec<Handover> {
    let mut journals = Vec::new();
    for name in cluster.names() {
        journals.push(cluster.admin(&name).handovers().await.unwrap_or_default());
    }
    merge(journals)
}

/// Orders a move until it ends with this code (`""`: done); other ends that pass by themselves are waited out.
async fn ends_with(cluster: &Cluster, ae: &str, to: &str, code: &str) -> MoveResult {
    until(&format!("move of {ae} to {to} ends with `{code}`"), async || {
        let order = MoveOrder { deadline_ms: 1_500, ..order(ae, to) };
        cluster.admin("cloud").order_move(&order).await.ok().filter(|r| r.code == code)
    })
    .await
}

/// Row H02: whoever ordered a drain may die, and the host that is being emptied too; the drain goes on and ends.
#[tokio::test]
async fn row_h02_a_drain_outlives_who_ordered_it_and_the_host() {
    let mut cluster = calm(|_| {}).await;
    let writers = writers(&cluster, 6, "edge1").await;
    for i in 0..6 {
        cluster.replicated("cloud", &format!("Cmeter{i}")).await;
    }
    // edge2 orders and dies at once.
    let begun = cluster.admin("edge2").drain(&DrainOrder { node: "edge1".into(), to: None }).await.unwrap();
    cluster.kill("edge2");
    let ended = |id| {
        let admin = cluster.admin("cloud");
        async move {
            until("the drain ends", async || admin.drain_progress(id).await.ok().filter(|d| d.state == "done")).await
        }
    };
    println!("drain whose orderer died: {:?}", ended(begun.id).await);
    assert_eq!(cluster.admin("cloud").aes(Some("edge1")).await.unwrap(), [], "the host is empty");
    all_write(&writers, 10).await;
    cluster.restart("edge2").await;
    cluster.admin("cloud").undrain(&DrainOrder { node: "edge1".into(), to: None }).await.unwrap();

    // Everything to edge2, which dies in the middle of its own drain and comes back with the order still standing.
    for i in 0..6 {
        let ae = format!("Cmeter{i}");
        if cluster.ae("cloud", &ae).await.primary != "edge2" {
            ends_with(&cluster, &ae, "edge2", "").await;
        }
        cluster
            .placed("cloud", &ae, "replicated at edge2", |p| {
                p.in_sync.len() >= 2 && p.primary.as_deref() == Some("edge2")
            })
            .await;
    }
    let begun = cluster.admin("cloud").drain(&DrainOrder { node: "edge2".into(), to: None }).await.unwrap();
    cluster.kill("edge2");
    all_write(&writers, 10).await;
    cluster.restart("edge2").await;
    let admin = cluster.admin("cloud");
    let end = until("the drain of the dead host ends", async || {
        admin.drain_progress(begun.id).await.ok().filter(|d| d.state != "running")
    })
    .await;
    println!("drain whose host died: {end:?}");
    until("the host is empty", async || admin.aes(Some("edge2")).await.ok().filter(Vec::is_empty)).await;
    let back = admin.order_move(&order("Cmeter0", "edge2")).await.unwrap();
    assert_eq!((back.state.as_str(), back.code.as_str()), ("refused", "draining"), "the order outlives its host");
    all_write(&writers, 10).await;
    history::finish("h02 drain", &mut cluster, writers).await;
}

/// Row H02: the drained host dies in the middle and stays dead: what it served fails over, and the drain ends.
#[tokio::test]
async fn row_h02_a_drain_ends_when_its_host_dies() {
    const DEVICES: u64 = 6;
    let mut cluster = calm(|_| {}).await;
    let writers = writers(&cluster, 6, "edge2").await;
    for i in 0..DEVICES {
        cluster.replicated("cloud", &format!("Cmeter{i}")).await;
    }
    cluster.halt_at("edge2", "prepare");
    let begun = cluster.admin("cloud").drain(&DrainOrder { node: "edge2".into(), to: None }).await.unwrap();
    until("the host stands still amid its first moves", async || cluster.is_halted("edge2").then_some(())).await;
    cluster.kill("edge2");
    cluster.halt_nowhere("edge2");
    let admin = cluster.admin("cloud");
    let ended =
        until("the drain ends", async || admin.drain_progress(begun.id).await.ok().filter(|d| d.state != "running"))
            .await;
    println!("h02: a drain whose host stays dead: {ended:?}");
    assert_eq!((ended.state.as_str(), ended.code.as_str(), ended.failed.len()), ("done", "node-died", 0), "{ended:?}");
    assert_eq!((ended.total, ended.moved + ended.failed_over), (DEVICES, DEVICES), "{ended:?}");
    assert_eq!((ended.running, ended.waiting), (0, 0), "{ended:?}");
    assert!(ended.failed_over > 0, "{ended:?}");
    all_write(&writers, 10).await;
    // The return changes none of it.
    cluster.restart("edge2").await;
    let refused = admin.order_move(&order("Cmeter0", "edge2")).await.unwrap();
    assert_eq!(refused.code, "draining", "the order outlives its host");
    assert_eq!(admin.drain_progress(begun.id).await.unwrap(), ended);
    history::finish("h02 dead drain", &mut cluster, writers).await;
}

/// Rows H02, G15: a drain names the AEs that stay, and the label that keeps them.
#[tokio::test]
async fn row_h02_a_drain_names_what_a_label_keeps() {
    let cluster = calm(|_| {}).await;
    cluster.client("edge1", "Ckept").register("kept").await;
    let admin = cluster.admin("cloud");
    admin.label("Ckept", &LabelOrder { label: Some("hosts:edge1".into()) }).await.unwrap();
    let begun = admin.drain(&DrainOrder { node: "edge1".into(), to: None }).await.unwrap();
    let ended =
        until("the drain ends", async || admin.drain_progress(begun.id).await.ok().filter(|d| d.state != "running"))
            .await;
    let [kept] = ended.failed.as_slice() else { panic!("{ended:?}") };
    assert_eq!((kept.aes.as_slice(), kept.code.as_str()), (&["Ckept".to_owned()][..], "residency"), "{ended:?}");
    assert_eq!((ended.state.as_str(), kept.group.clone()), ("failed", cluster.ae("cloud", "Ckept").await.group));
    // The reasons that are the cluster's own cannot be ordered.
    for reason in [MoveReason::Failover, MoveReason::Residency, MoveReason::Drain, MoveReason::Device] {
        let failure = admin.order_move(&MoveOrder { reason, ..order("Ckept", "cloud") }).await.unwrap_err();
        assert!(failure.to_string().contains("admin-bad-body"), "{reason}: {failure}");
    }
}

async fn measure(cluster: &Cluster, at: &str, signals: &[(&str, f64)]) {
    let one = |(node, dbm): &(&str, f64)| Measurement {
        ae: "Cmeter0".into(),
        node: Some((*node).to_owned()),
        dbm: Some(*dbm),
        ..Measurement::default()
    };
    let all = Measurements { measurements: signals.iter().map(one).collect() };
    cluster.admin(at).measure(&all).await.unwrap();
}

/// Rows H05, H01: the network measures and moves the device, which does nothing; a difference within the hysteresis moves
/// nothing.
#[tokio::test]
async fn row_h05_measured_signals_move_the_device() {
    let mut cluster = calm(|_| {}).await;
    let writers = writers(&cluster, 1, "edge1").await;
    // As long as three times the time to trigger.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_000) {
        measure(&cluster, "edge1", &[("edge1", -80.0), ("edge2", -78.0)]).await;
        tokio::time::sleep(POLL).await;
    }
    assert_eq!(cluster.ae("cloud", "Cmeter0").await.home, "edge1", "2 dB are within the hysteresis");
    until("the network has moved the device", async || {
        measure(&cluster, "edge1", &[("edge1", -95.0), ("edge2", -60.0)]).await;
        let ae = cluster.admin("cloud").ae("Cmeter0").await.ok()?;
        (ae.home == "edge2" && ae.primary == "edge2").then_some(())
    })
    .await;
    all_write(&writers, 20).await;
    // A move is recorded at its ends a moment after the switch.
    until("the record of the move", async || {
        let is = |h: &Handover| (h.outcome.as_str(), h.reason, h.to.as_str()) == ("done", MoveReason::Network, "edge2");
        journal(&cluster).await.iter().any(is).then_some(())
    })
    .await;
    for one in history::finish("h05", &mut cluster, writers).await.0 {
        one.assert_all_acknowledged();
    }
}

/// Row H09: a target that cannot take a device says why, in a word and a sentence, and the device stays where it is.
#[tokio::test]
async fn row_h09_refusals_say_why_and_move_nothing() {
    let mut cluster = calm(|t| {
        t.limits.aes_max = 3;
        for node in &mut t.node {
            node.security.auth = if node.name == "edge2" { Auth::Required } else { Auth::Optional };
            for ae in ["Cmeter0", "Ctwin1", "Ctwin2"] {
                node.security.tokens.insert(ae.into(), format!("a-long-random-text-of-{ae}"));
            }
        }
    })
    .await;
    let writers = writers(&cluster, 1, "edge1").await;
    device(&cluster, "stranger", "edge1").await;
    let refused = ends_with(&cluster, "Cstranger", "edge2", "credentials").await;
    assert!(refused.text.contains("Cstranger"), "{}", refused.text);
    // The name of the AE is taken at the target.
    cluster.client("cloud", "Ctwin1").register("twin").await;
    cluster.client("edge2", "Ctwin2").register("twin").await;
    let refused = ends_with(&cluster, "Ctwin1", "edge2", "name-taken").await;
    assert!(refused.text.contains("twin"), "{}", refused.text);
    // No more AEs fit: twin and two more.
    for name in ["one", "two"] {
        let ae = format!("C{name}");
        cluster.client("cloud", &ae).register(name).await;
    }
    let refused = ends_with(&cluster, "Cmeter0", "cloud", "full").await;
    assert!(refused.text.contains('3'), "{}", refused.text);
    for (ae, home) in [("Cstranger", "edge1"), ("Ctwin1", "cloud"), ("Cmeter0", "edge1")] {
        assert_eq!(cluster.ae("cloud", ae).await.home, home, "{ae} stays");
    }
    all_write(&writers, 10).await;
    let done = ends_with(&cluster, "Cmeter0", "edge2", "").await;
    assert_eq!(done.handover.to, "edge2", "whoever fits is taken");
    all_write(&writers, 10).await;
    history::finish("h09 refusals", &mut cluster, writers).await;
}

/// Row H09: a node takes so many moves at once; room that was kept for a move whose source died is given back in time.
#[tokio::test]
async fn row_h09_too_many_moves_are_deferred_and_a_reservation_expires() {
    let mut cluster = calm(|t| {
        t.limits.moves_max = 1;
        t.timing.move_ms_max = 4_000;
    })
    .await;
    let writers = writers(&cluster, 1, "edge1").await;
    device(&cluster, "other", "cloud").await;
    cluster.replicated("cloud", "Cmeter0").await;
    // The source stands still once the target has admitted the group.
    cluster.halt_at("edge1", "prepare");
    let (admin, first) = (cluster.admin("edge1"), order("Cmeter0", "edge2"));
    let moving = tokio::spawn(async move { admin.order_move(&first).await.ok().map(|r| r.code) });
    until("the first move stands still", async || cluster.is_halted("edge1").then_some(())).await;
    let order = MoveOrder { deadline_ms: 500, ..order("Cother", "edge2") };
    let deferred = cluster.admin("cloud").order_move(&order).await.unwrap();
    assert_eq!(deferred.code, "too-many-moves", "{}", deferred.text);
    assert_eq!(cluster.ae("cloud", "Cother").await.home, "cloud");
    cluster.kill("edge1");
    let _ = moving.await;
    ends_with(&cluster, "Cother", "edge2", "").await;
    cluster.restart("edge1").await;
    all_write(&writers, 10).await;
    history::finish("h09 reservation", &mut cluster, writers).await;
}

/// Row H10: both ends of a move show the same figures, the list of the cluster has one line per move, and the metrics count
/// it once.
#[tokio::test]
async fn row_h10_figures_of_a_move_at_both_ends_in_the_list_and_in_metrics() {
    let mut cluster = calm(|_| {}).await;
    let registered = cluster.client("edge1", "Cmeter0").register_with_data("meter0").await;
    let token = header(&registered, "x-onemec-token").unwrap();
    let device = onemec_tests::writer::Device {
        name: "meter0".into(),
        ae_id: "Cmeter0".into(),
        container: "/~/edge1/-/meter0/data".into(),
    };
    let writer = Writer::of(&cluster, device.clone(), vec![cluster.door("edge1")]);
    writer.writes(30).await;
    let ask = registration("meter0").with("x-onemec-handover", &token);
    assert_status(&cluster.client("edge2", "Cmeter0").ask(&ask).await, 201, "the device comes to edge2");
    let mut there = cluster.client("edge2", "Cmeter0");
    for _ in 0..20 {
        there.expect(200, &Ask::retrieve("/-/meter0")).await;
    }
    cluster.move_to("cloud", "Cmeter0", "cloud").await;
    writer.writes(10).await;

    let both = |journal: &[Handover]| -> Vec<Handover> {
        journal.iter().filter(|h| h.outcome == "done" && h.aes == ["Cmeter0"]).cloned().collect()
    };
    let (source, target) = until("both ends have the last word", async || {
        let source = both(&cluster.admin("edge1").handovers().await.ok()?).pop()?;
        let target = both(&cluster.admin("edge2").handovers().await.ok()?).into_iter().find(|h| h.key == source.key)?;
        (target.activate_us > 0 && target.latency_after_us.is_some()).then_some((source, target))
    })
    .await;
    assert_eq!((source.interruption_us, source.activate_us), (target.interruption_us, target.activate_us));
    let merged = both(&journal(&cluster).await);
    assert_eq!(merged.len(), 2, "one line per move: {merged:#?}");
    let first = &merged[0];
    assert_eq!((first.reason, first.from.as_str(), first.to.as_str()), (MoveReason::Device, "edge1", "edge2"));
    assert!(first.id < merged[1].id, "oldest first");
    for (what, us) in [
        ("prepare", first.prepare_us),
        ("interruption", first.interruption_us),
        ("commit", first.commit_us),
        ("activate", first.activate_us),
        ("authentication", first.authentication_us),
        ("attach", first.attach_us.unwrap_or(0)),
        ("latency before", first.latency_before_us.unwrap_or(0)),
        ("latency after", first.latency_after_us.unwrap_or(0)),
    ] {
        assert!(us > 0, "{what} is not measured: {first:#?}");
    }
    // The command shows the same list, whichever node it asks.
    for name in cluster.names() {
        let listed: Vec<Handover> = serde_json::from_str(&cluster.command(&name, &["handovers", "--json"])).unwrap();
        let listed: Vec<String> = both(&listed).into_iter().map(|h| h.key).collect();
        assert_eq!(listed, merged.iter().map(|h| h.key.clone()).collect::<Vec<_>>(), "as {name} lists them");
    }
    let mut counted = 0.0;
    let mut phases = BTreeSet::new();
    for name in cluster.names() {
        for line in cluster.metrics(&name).await.lines() {
            let (series, value) = line.rsplit_once(' ').unwrap_or_default();
            if series.starts_with("onemec_moves_total{reason=\"device\"") && series.contains("outcome=\"moved\"") {
                counted += value.parse::<f64>().unwrap();
            }
            if series.starts_with("onemec_move_seconds_count{")
                && let Some((_, rest)) = series.split_once("phase=\"")
            {
                phases.insert(rest.split('"').next().unwrap().to_owned());
            }
        }
    }
    assert_eq!(counted, 1.0, "one end counts it");
    for phase in ["prepare", "interruption", "attach", "authentication", "latency_before", "latency_after"] {
        assert!(phases.contains(phase), "{phase} is missing: {phases:?}");
    }
    for one in history::finish("h10", &mut cluster, vec![writer]).await.0 {
        one.assert_all_acknowledged();
    }
}

/// Row H12: from the first answer after the switch on, every host but the new one names the new point of access, with a
/// rising epoch.
#[tokio::test]
async fn row_h12_answers_name_the_new_point_of_access() {
    let cluster = calm(|_| {}).await;
    let device = device(&cluster, "meter", "edge1").await;
    let mut epoch = 0;
    for (n, to) in (1..).zip(["edge2", "cloud", "edge1", "edge2"]) {
        cluster.move_to("cloud", "Cmeter", to).await;
        for name in cluster.names().into_iter().filter(|n| n != to) {
            let answer = cluster.client(&name, "Cmeter").ask(&Ask::reading(&device.container, n)).await;
            assert_status(&answer, 201, &format!("a reading at {name}"));
            let home = onemec_device::extensions::Hints::of(&answer.headers).home.expect("the home is named");
            assert_eq!(home.endpoint, cluster.door(to), "as {name} says");
            assert!(home.epoch > epoch, "epoch {} after {epoch}", home.epoch);
        }
        epoch = cluster.ae("cloud", "Cmeter").await.epoch - 1;
    }
}

/// Rows G01, G02, O05: everything of an AE keeps its identity and works on: containers in containers, instances,
/// subscriptions, access rules, groups.
#[tokio::test]
async fn row_g02_subscriptions_containers_rules_and_groups_keep_their_identity() {
    let mut cluster = calm(|_| {}).await;
    let listener = Listener::start().await;
    cluster.client("edge1", "Cmeter").register_with_data("meter").await;
    cluster.client("cloud", "Cfriend").register("friend").await;
    let mut client = cluster.client("edge1", "Cmeter");
    let acp = json!({"m2m:acp": {"rn": "rules",
        "pv": {"acr": [{"acor": ["/cloud/Cfriend"], "acop": 2}, {"acor": ["Cmeter"], "acop": 63}]},
        "pvs": {"acr": [{"acor": ["Cmeter"], "acop": 63}]}}});
    let acp = client.expect(201, &Ask::create("/-/meter", 1, acp)).await["m2m:acp"]["ri"].as_str().unwrap().to_owned();
    let inner = json!({"m2m:cnt": {"rn": "inner", "mni": 50, "acpi": [acp], "lbl": ["deep"]}});
    client.expect(201, &Ask::create("/-/meter/data", 3, inner)).await;
    let sub = json!({"m2m:sub": {"rn": "watch", "nu": [listener.url], "enc": {"net": [3]}, "nct": 1}});
    client.expect(201, &Ask::create("/-/meter/data/inner", 23, sub)).await;
    let members =
        json!({"m2m:grp": {"rn": "both", "mnm": 5, "mid": ["/edge1/-/meter/data", "/edge1/-/meter/data/inner"]}});
    client.expect(201, &Ask::create("/-/meter", 9, members)).await;
    for n in 1..=3 {
        client.expect(201, &Ask::reading("/~/edge1/-/meter/data/inner", n)).await;
    }
    let paths = ["", "/rules", "/data", "/data/inner", "/data/inner/watch", "/data/inner/la", "/both"];
    let before = attributes(&cluster, "edge1", &paths).await;
    cluster.replicated("cloud", "Cmeter").await;

    let mut n = 3;
    for to in ["edge2", "cloud", "edge1", "edge2", "killed"] {
        if to == "killed" {
            // And the same when the host dies.
            cluster.replicated("cloud", "Cmeter").await;
            cluster.kill("edge2");
            cluster.placed("cloud", "Cmeter", "a new home", |p| p.primary.as_ref().is_some_and(|n| n != "edge2")).await;
        } else {
            cluster.move_to("cloud", "Cmeter", to).await;
        }
        let now = attributes(&cluster, "cloud", &paths[..5]).await;
        for (path, was) in before.iter().filter(|(path, _)| now.contains_key(*path)) {
            assert_eq!(now[path], *was, "{path} at {to}");
        }
        n += 1;
        let at = if to == "edge1" { "edge2" } else { "edge1" };
        until("a reading is taken", async || {
            let answer =
                cluster.client(at, "Cmeter").send(&Ask::reading("/~/edge1/-/meter/data/inner", n)).await.ok()?;
            answer.status.is_success().then_some(())
        })
        .await;
        // The rules hold: a friend may read and not write, a stranger neither.
        let inner = "/~/edge1/-/meter/data/inner";
        cluster.client(at, "Cfriend").expect(200, &Ask::retrieve(inner)).await;
        assert_status(&cluster.client(at, "Cfriend").ask(&Ask::reading(inner, 99)).await, 403, "a friend writes");
        assert_status(&cluster.client(at, "Cstranger").ask(&Ask::retrieve(inner)).await, 403, "a stranger reads");
        // The group reaches its members.
        let all = cluster.client(at, "Cmeter").expect(200, &Ask::retrieve("/~/edge1/-/meter/both/fopt")).await;
        assert_eq!(all["m2m:agr"]["m2m:rsp"].as_array().map(Vec::len), Some(2), "at {to}: {all}");
    }
    let number = |body: &Value| reading_of(&body["m2m:sgn"]["nev"]["rep"]["m2m:cin"]);
    until("every reading is notified", async || {
        let heard: BTreeSet<u64> = listener.heard().iter().filter_map(|h| number(&h.body)).collect();
        (1..=n).all(|n| heard.contains(&n)).then_some(())
    })
    .await;
}

/// Attributes by path, without those that change by themselves.
async fn attributes(cluster: &Cluster, at: &str, paths: &[&str]) -> BTreeMap<String, Value> {
    let mut client = cluster.client(at, "Cmeter");
    let mut all = BTreeMap::new();
    for path in paths {
        let ask = Ask::retrieve(format!("/~/edge1/-/meter{path}"));
        let mut found = until(&format!("{path} at {at}"), async || {
            client.send(&ask).await.ok().filter(|a| a.status.is_success()).map(|a| json_of(&a))
        })
        .await;
        let one = found.as_object_mut().unwrap().values_mut().next().unwrap().as_object_mut().unwrap();
        for changing in ["lt", "st", "cni", "cbs"] {
            one.remove(changing);
        }
        if path.is_empty() {
            // The parent of an AE is the CSEBase of its registrar.
            one.remove("pi");
        }
        all.insert((*path).to_owned(), found);
    }
    all
}

/// Row G07: the N best in one order for everybody who asks, with a reason for who is out; the next one is tried when the
/// first does not take the device.
#[tokio::test]
async fn row_g07_n_best_with_reasons_and_fallback() {
    let cluster = calm(|t| {
        for node in t.node.iter_mut().filter(|n| n.name == "edge2") {
            node.security.auth = Auth::Required;
            node.security.tokens.insert("Cother".into(), "a-long-random-text-of-other".into());
        }
    })
    .await;
    device(&cluster, "meter", "edge1").await;
    cluster.replicated("cloud", "Cmeter").await;
    // What a node has not heard from yet is no target; loads move the order until they are still.
    let (two, one) = until("every node is judged, twice alike", async || {
        let two = cluster.admin("edge1").candidates("Cmeter", 2).await.ok()?;
        let one = cluster.admin("edge1").candidates("Cmeter", 1).await.ok()?;
        let heard = two.excluded.iter().all(|e| e.code != "stale-data");
        (heard && one.candidates.first()?.node == two.candidates.first()?.node).then_some((two, one))
    })
    .await;
    let names: Vec<&str> = two.candidates.iter().map(|c| c.node.as_str()).collect();
    let out: BTreeMap<&str, &str> = two.excluded.iter().map(|e| (e.node.as_str(), e.code.as_str())).collect();
    println!("g07: {names:?}, not {out:?}");
    assert_eq!(out.get("edge1"), Some(&"is-current"));
    assert!(two.excluded.iter().all(|e| !e.text.is_empty()));
    assert_eq!(one.candidates.len(), 1);
    // Whether it is left out at once or refuses when asked: edge2 knows no token of the device, and cloud gets it.
    let order = MoveOrder { to: None, ..order("Cmeter", "") };
    let done = cluster.admin("cloud").order_move(&order).await.unwrap();
    assert_eq!((done.state.as_str(), done.handover.to.as_str()), ("done", "cloud"), "{}", done.text);
    // Nobody is left.
    cluster.admin("cloud").drain(&DrainOrder { node: "edge1".into(), to: None }).await.unwrap();
    let out = until("edge1 is left out", async || {
        let c = cluster.admin("cloud").candidates("Cmeter", 3).await.ok()?;
        c.excluded.iter().any(|e| e.node == "edge1" && e.code == "draining").then_some(c)
    })
    .await;
    println!("g07: then {:?}, not {:?}", out.candidates, out.excluded);
    let nowhere = cluster.admin("cloud").order_move(&MoveOrder { deadline_ms: 1_500, ..order.clone() }).await.unwrap();
    assert_ne!(nowhere.state, "done");
    assert!(!nowhere.code.is_empty() && !nowhere.text.is_empty(), "{nowhere:?}");
    assert_eq!(cluster.ae("cloud", "Cmeter").await.home, "cloud");
}

/// Row G15: a label makes replicas and the primary leave, refuses moves, and binds takeovers: rather nobody serves the
/// device than one who may not have its data.
#[tokio::test]
async fn row_g15_labelled_data_leaves_and_does_not_come_back() {
    let mut cluster = calm(|_| {}).await;
    let writers = writers(&cluster, 1, "edge1").await;
    cluster.replicated("cloud", "Cmeter0").await;
    let label = |text: Option<&str>| LabelOrder { label: text.map(str::to_owned) };
    // By the command, as an operator gives it.
    cluster.command("cloud", &["ae", "label", "Cmeter0", "hosts:edge1,edge2"]);
    let within = |p: &onemec_node::admin::types::Placement, names: &[&str]| {
        p.primary.as_deref().is_some_and(|n| names.contains(&n))
            && p.in_sync.iter().all(|n| names.contains(&n.as_str()))
    };
    cluster
        .placed("cloud", "Cmeter0", "its data is at edge1 and edge2 alone", |p| {
            within(p, &["edge1", "edge2"]) && p.in_sync.len() == 2
        })
        .await;
    let refused = cluster.admin("cloud").order_move(&order("Cmeter0", "cloud")).await.unwrap();
    assert_eq!(refused.code, "residency", "{}", refused.text);
    // The takeover keeps to it.
    cluster.kill("edge1");
    cluster.placed("cloud", "Cmeter0", "edge2 has taken over", |p| p.primary.as_deref() == Some("edge2")).await;
    all_write(&writers, 20).await;
    cluster.restart("edge1").await;
    // The primary itself has to go.
    cluster.admin("cloud").label("Cmeter0", &label(Some("hosts:edge1"))).await.unwrap();
    cluster.placed("cloud", "Cmeter0", "its data is at edge1 alone", |p| within(p, &["edge1"])).await;
    let reasons: Vec<_> = journal(&cluster).await.iter().filter(|h| h.to == "edge1").map(|h| h.reason).collect();
    assert_eq!(reasons, [MoveReason::Residency]);
    assert_eq!(cluster.ae("cloud", "Cmeter0").await.residency.as_deref(), Some("hosts:edge1"));
    all_write(&writers, 20).await;
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.finish().await);
    }
    // Nobody else may serve it: until edge1 is back there is no answer, and no stale one either.
    cluster.kill("edge1");
    for name in ["cloud", "edge2"] {
        let mut client = cluster.client(name, "Cmeter0");
        let answer = client.send(&Ask::retrieve("/~/edge1/-/meter0/data/la")).await;
        assert!(!answer.is_ok_and(|a| a.status.is_success()), "{name} serves what it may not have");
    }
    assert!(
        within(&cluster.placement("cloud", "Cmeter0").await.unwrap(), &["edge1"]) || {
            let place = cluster.placement("cloud", "Cmeter0").await.unwrap();
            place.primary.is_none() && place.in_sync.iter().all(|n| n == "edge1")
        }
    );
    cluster.restart("edge1").await;
    let mut client = cluster.client("cloud", "Cmeter0");
    until("it is served again", async || {
        let answer = client.send(&Ask::retrieve("/~/edge1/-/meter0/data/la")).await.ok()?;
        answer.status.is_success().then_some(())
    })
    .await;
    // Without the label it has replicas elsewhere again.
    cluster.command("cloud", &["ae", "label", "Cmeter0"]);
    cluster.replicated("cloud", "Cmeter0").await;
    let verdict = history::verify(&cluster, &written).await;
    history::report("g15", &written, &verdict);
}

/// Row O06: the notified AE's host dies, and the notifying one; every reading is notified, in order.
#[tokio::test]
async fn row_o06_notifications_outlive_the_hosts_of_both_ends() {
    let mut cluster = calm(|_| {}).await;
    let listener = Listener::start().await;
    let ear = json!({"m2m:ae": {"rn": "ear", "api": "Nonemec.tests", "rr": true, "srv": ["3"], "poa": [listener.url]}});
    cluster.client("edge2", "Cear").expect(201, &Ask::create("/-", 2, ear)).await;
    cluster.client("edge1", "Cmeter").register_with_data("meter").await;
    let sub = json!({"m2m:sub": {"rn": "watch", "nu": ["/edge2/Cear"], "enc": {"net": [3]}, "nct": 1}});
    cluster.client("edge1", "Cmeter").expect(201, &Ask::create("/-/meter/data", 23, sub)).await;
    let device = onemec_tests::writer::Device {
        name: "meter".into(),
        ae_id: "Cmeter".into(),
        container: "/~/edge1/-/meter/data".into(),
    };
    let writer = Writer::of(&cluster, device, cluster.doors("edge1"));
    writer.writes(20).await;
    for ae in ["Cear", "Cmeter"] {
        cluster.replicated("cloud", ae).await;
    }
    cluster.kill("edge2");
    writer.writes(20).await;
    cluster.restart("edge2").await;
    for ae in ["Cear", "Cmeter"] {
        cluster.replicated("cloud", ae).await;
    }
    let home = cluster.ae("cloud", "Cmeter").await.primary;
    if home != "cloud" {
        cluster.kill(&home);
        writer.writes(20).await;
        cluster.restart(&home).await;
    }
    let written = writer.finish().await;
    let number = |body: &Value| reading_of(&body["m2m:sgn"]["nev"]["rep"]["m2m:cin"]);
    let last = written.events.len() as u64;
    until("the last reading is notified", async || {
        listener.heard().iter().any(|h| number(&h.body) == Some(last)).then_some(())
    })
    .await;
    let (mut seen, mut order) = (BTreeSet::new(), Vec::new());
    for n in listener.heard().iter().filter_map(|h| number(&h.body)) {
        if seen.insert(n) {
            order.push(n);
        }
    }
    let stored = history::read_back(&cluster, "cloud", &written.device).await;
    assert_eq!(order, stored, "what is stored was notified, in its order, and nothing else");
    history::verify(&cluster, &[written]).await;
}

/// Rows O10, S06, H02: a node that carries too much gives devices away by itself, until it is calm.
#[tokio::test]
async fn row_o10_a_full_node_gives_devices_away() {
    const AES: usize = 18;
    let mut cluster = calm(|t| {
        // The machine that tests run on is busy.
        t.limits.load_max = 1.0;
        t.limits.aes_max = 20;
        t.mobility.balance = Balance::Aes;
        t.mobility.balance_trigger_ms = 500;
        t.mobility.balance_round_ms = 1_000;
    })
    .await;
    let writers = writers(&cluster, 3, "edge1").await;
    for i in 3..AES {
        cluster.client("edge1", &format!("Cidle{i}")).register(&format!("idle{i}")).await;
    }
    let calm = until("edge1 is calm", async || {
        let here = cluster.admin("cloud").aes(Some("edge1")).await.ok()?.len();
        (here <= 13).then_some(here)
    })
    .await;
    let mut spread = BTreeMap::new();
    for name in cluster.names() {
        spread.insert(name.clone(), cluster.admin("cloud").aes(Some(&name)).await.unwrap().len());
    }
    println!("o10: {calm} stay at edge1; {spread:?}");
    assert_eq!(spread.values().sum::<usize>(), AES, "nobody is lost");
    let given: Vec<_> = journal(&cluster).await.into_iter().filter(|h| h.reason == MoveReason::LoadBalance).collect();
    assert!(given.iter().any(|h| h.outcome == "done" && h.from == "edge1"), "{given:?}");
    all_write(&writers, 20).await;
    for one in history::finish("o10", &mut cluster, writers).await.0 {
        one.assert_all_acknowledged();
    }
}
