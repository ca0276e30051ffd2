//! Planned moves: nobody notices more than one slow request (rows H02, G04, G05, H04, O06).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::collections::BTreeMap;
use std::time::Duration;

use onemec_device::extensions::{Hints, Home};
use onemec_node::admin::types::DrainOrder;
use onemec_tests::client::{Ask, Client, assert_status, header, json_of, reading_of, registration};
use onemec_tests::wait::until;
use onemec_tests::writer::{Written, device, repeat_until};
use onemec_tests::{Cluster, Listener, Writer, history};
use serde_json::json;

#[tokio::test]
async fn row_h02_operator_move_keeps_everything() {
    let cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(50).await;
    let mut reader = Client::new(cluster.door("cloud"), "Cmeter");
    let container = writer.device.container.clone();
    let before = reader.expect(200, &Ask::retrieve("/~/edge1/-/meter")).await;
    let data = reader.expect(200, &Ask::retrieve(&container)).await;

    for (turn, to) in ["edge2", "edge1", "edge2"].into_iter().enumerate() {
        let moved = cluster.move_to("cloud", "meter", to).await;
        assert_eq!(moved.handover.epoch, turn as u64 + 2, "{moved:?}");
        writer.writes(50).await;
        let ae = cluster.ae("cloud", "meter").await;
        assert_eq!((ae.home.as_str(), ae.primary.as_str()), (to, to));
    }

    let written = writer.finish().await;
    written.assert_all_acknowledged();
    let after = reader.expect(200, &Ask::retrieve("/~/edge1/-/meter")).await;
    for attribute in ["ri", "rn", "aei", "api", "ct", "et", "lbl", "srv", "rr"] {
        assert_eq!(after["m2m:ae"][attribute], before["m2m:ae"][attribute], "{attribute}");
    }
    let now = reader.expect(200, &Ask::retrieve(&container)).await;
    assert_eq!(now["m2m:cnt"]["ri"], data["m2m:cnt"]["ri"]);
    assert_eq!(now["m2m:cnt"]["cni"], written.events.len());
    // The list is true wherever it is asked for: the node that serves the AE is asked.
    let instances = u64::try_from(written.events.len()).unwrap();
    for node in cluster.names() {
        let aes = cluster.admin(&node).aes(None).await.unwrap();
        let [ae] = &aes[..] else { panic!("one AE: {aes:?}") };
        assert_eq!(ae.instances, Some(instances), "at {node}: {ae:?}");
        assert!(ae.committed.is_some_and(|n| n > instances) && ae.bytes.is_some_and(|n| n > instances), "{ae:?}");
    }
    let written = [written];
    let verdict = history::verify(&cluster, &written).await;
    history::report("h02", &written, &verdict);
}

/// I7: at every CSE, under the address of every CSE that ever served it, and by its location-free id.
#[tokio::test]
async fn row_g04_any_cse_reaches_the_ae_and_old_addresses_stay_valid() {
    let cluster = Cluster::start().await;
    let device = device(&cluster, "meter", "edge1").await;
    let mut first = Client::new(cluster.door("edge1"), "Cmeter");
    let data = first.expect(200, &Ask::retrieve("/-/meter/data")).await;
    let id = data["m2m:cnt"]["ri"].as_str().unwrap().to_owned();
    let mut addresses = vec![device.container.clone(), format!("/~/edge1/{id}"), format!("/{id}")];
    let mut written = 0;
    for to in ["edge2", "edge1", "edge2"] {
        cluster.move_to("cloud", "meter", to).await;
        let new = format!("/~/{to}/-/meter/data");
        if !addresses.contains(&new) {
            addresses.extend([new, format!("/~/{to}/{id}")]);
        }
        for node in cluster.names() {
            let mut client = Client::new(cluster.door(&node), "Cmeter");
            for address in &addresses {
                let what = format!("{address} at {node}, home {to}");
                written += 1;
                let answer = client.ask(&Ask::reading(address, written)).await;
                assert_status(&answer, 201, &what);
                let home = header(&answer, "x-onemec-home").and_then(|h| Home::parse(&h)).map(|h| h.endpoint);
                assert_eq!(home, (node != to).then(|| cluster.door(to)), "{what}: whoever is not the home names it");
                let latest = client.expect(200, &Ask::retrieve(format!("{address}/la"))).await;
                assert_eq!(reading_of(&latest["m2m:cin"]), Some(written), "{what}");
                let found = client.expect(200, &Ask::retrieve(address)).await;
                assert_eq!(found["m2m:cnt"]["ri"], id, "{what}");
            }
        }
    }
    let mut other = Client::new(cluster.door("cloud"), "Cmeter");
    assert_status(&other.ask(&Ask::retrieve("/~/edge1/-/nobody/data")).await, 404, "what was never there");
}

/// I5: exactly one of two registrations at the same time wins; the loser is told who did.
#[tokio::test]
async fn row_g05_one_of_two_concurrent_registrations_wins() {
    const ROUNDS: usize = 8;
    let cluster = Cluster::start().await;
    for round in 0..ROUNDS {
        let (stem, name) = (format!("Smeter{round}"), format!("meter{round}"));
        let mut clients = ["edge1", "edge2"].map(|at| (at, Client::new(cluster.door(at), &stem)));
        let [(at1, one), (at2, two)] = &mut clients;
        let ask = registration(&name);
        let (a, b) = tokio::join!(one.ask(&ask), two.ask(&ask));
        let (winner, loser) = match (a.status.as_u16(), b.status.as_u16()) {
            (201, _) => (*at1, b),
            (_, 201) => (*at2, a),
            both => panic!("round {round}: nobody won: {both:?} {} {}", a.excerpt(), b.excerpt()),
        };
        assert!(matches!(loser.status.as_u16(), 403 | 409), "round {round}: {} {}", loser.status, loser.excerpt());
        let home = Hints::of(&loser.headers).home.unwrap_or_else(|| panic!("the loser is told no winner: {loser:?}"));
        assert_eq!(home.endpoint, cluster.door(winner), "round {round}: the winner is named");
        for node in cluster.names() {
            let ae = until("all know the AE", async || cluster.admin(&node).ae(&stem).await.ok()).await;
            assert_eq!(ae.home, winner, "round {round}, as {node} sees it");
        }
    }
    for (node, others) in [("edge1", "edge2"), ("edge2", "edge1")] {
        let here = cluster.admin("cloud").aes(Some(node)).await.unwrap();
        let there = cluster.admin("cloud").aes(Some(others)).await.unwrap();
        assert_eq!(here.len() + there.len(), ROUNDS);
        assert!(here.iter().all(|a| there.iter().all(|b| a.ae_id != b.ae_id)));
    }
}

/// Rows H04, S04, H06: the device moves itself; a token that was not signed for it moves nothing.
#[tokio::test]
async fn row_h04_device_initiated_move_with_token() {
    let cluster = Cluster::start().await;
    let mut old = Client::new(cluster.door("edge1"), "Cmeter");
    let registered = old.register_with_data("meter").await;
    let token = header(&registered, "x-onemec-token").expect("a registration gives a token");
    let foreign = Client::new(cluster.door("edge1"), "Cother").register("other").await;
    let foreign = header(&foreign, "x-onemec-token").unwrap();
    let cse = onemec_tests::writer::Device {
        name: "meter".into(),
        ae_id: "Cmeter".into(),
        container: "/~/edge1/-/meter/data".into(),
    };
    let writer = Writer::of(&cluster, cse, vec![cluster.door("edge1")]);
    writer.writes(20).await;

    let mut new = Client::new(cluster.door("edge2"), "Cmeter");
    let middle = token.len() / 2;
    let other = if token.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let tampered = format!("{}{other}{}", &token[..middle], &token[middle + 1..]);
    let cut = &token[..token.len() - 4];
    for (what, bad) in [("tampered", tampered.as_str()), ("cut", cut), ("another AE's", &foreign), ("no", "x")] {
        let answer = new.ask(&registration("meter").with("x-onemec-handover", bad)).await;
        assert_status(&answer, 403, &format!("{what} token"));
        assert_eq!(cluster.ae("cloud", "meter").await.home, "edge1", "{what} token moves nothing");
    }
    writer.writes(20).await;

    let answer = new.ask(&registration("meter").with("x-onemec-handover", &token)).await;
    assert_status(&answer, 201, "re-attachment");
    assert_eq!(json_of(&answer)["m2m:ae"]["ri"], "Cmeter", "the identity is kept");
    let fresh = header(&answer, "x-onemec-token").expect("re-attachment gives a new token");
    let ae = cluster.ae("edge2", "meter").await;
    assert_eq!((ae.home.as_str(), ae.primary.as_str()), ("edge2", "edge2"));
    writer.writes(20).await;
    let back = old.ask(&registration("meter").with("x-onemec-handover", &fresh)).await;
    assert_status(&back, 201, "and back with the new token");
    assert_eq!(cluster.ae("edge1", "meter").await.home, "edge1");
    writer.writes(20).await;
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    let written = [written];
    let verdict = history::verify(&cluster, &written).await;
    history::report("h04", &written, &verdict);
}

/// The subscription moves with the AE: every instance is notified at least once, in order, and what comes twice comes under
/// the same identifier.
#[tokio::test]
async fn row_o06_subscription_moves_no_notification_lost_or_out_of_order() {
    let cluster = Cluster::start().await;
    let listener = Listener::start().await;
    let device = device(&cluster, "meter", "edge1").await;
    let sub = json!({"m2m:sub": {"rn": "watch", "nu": [listener.url], "enc": {"net": [3]}, "nct": 1}});
    let mut client = Client::new(cluster.door("edge1"), "Cmeter");
    client.expect(201, &Ask::create("/-/meter/data", 23, sub)).await;
    let writer = Writer::of(&cluster, device, cluster.doors("edge1"));
    writer.writes(30).await;
    for to in ["edge2", "cloud", "edge1", "edge2"] {
        if cluster.admin("cloud").order_move(&onemec_tests::cluster::order("meter", to)).await.is_ok() {
            writer.writes(30).await;
        }
    }
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    let all = u64::try_from(written.events.len()).unwrap();
    let number = |body: &serde_json::Value| reading_of(&body["m2m:sgn"]["nev"]["rep"]["m2m:cin"]);
    until("the last reading is notified", async || {
        listener.heard().iter().any(|h| number(&h.body) == Some(all)).then_some(())
    })
    .await;
    let mut seen: BTreeMap<u64, String> = BTreeMap::new();
    let (mut last, mut doubled) = (0, 0);
    for heard in listener.heard() {
        let Some(n) = number(&heard.body) else {
            assert!(heard.body["m2m:sgn"]["vrq"].as_bool() == Some(true), "no notification of a reading: {heard:?}");
            continue;
        };
        match seen.get(&n) {
            Some(request) => {
                assert_eq!(*request, heard.request, "reading {n} was notified twice under two identifiers");
                doubled += 1;
            }
            None => {
                assert!(n > last, "reading {n} was notified after {last}");
                last = n;
                seen.insert(n, heard.request);
            }
        }
    }
    let lost: Vec<u64> = (1..=all).filter(|n| !seen.contains_key(n)).collect();
    assert!(lost.is_empty(), "not notified, of {all}: {lost:?}");
    println!("o06: {all} readings notified in order, {doubled} of them again under the same identifier");
    history::verify(&cluster, &[written]).await;
}

#[tokio::test]
async fn drain_empties_a_host() {
    const DEVICES: usize = 6;
    let cluster = Cluster::start().await;
    let mut writers = Vec::new();
    for i in 0..DEVICES {
        writers.push(Writer::start(&cluster, &format!("meter{i}"), "edge1").await);
    }
    for writer in &writers {
        writer.writes(10).await;
    }
    let admin = cluster.admin("cloud");
    let order = DrainOrder { node: "edge1".into(), to: None };
    let begun = admin.drain(&order).await.unwrap();
    let ended =
        until("the drain ends", async || admin.drain_progress(begun.id).await.ok().filter(|d| d.state != "running"))
            .await;
    assert_eq!((ended.state.as_str(), ended.moved, ended.failed.len()), ("done", DEVICES as u64, 0), "{ended:?}");
    assert_eq!(admin.aes(Some("edge1")).await.unwrap(), []);
    let late = Client::new(cluster.door("edge1"), "Clate").ask(&registration("late")).await;
    println!("drain: a registration at the drained host gets HTTP {} {}", late.status, late.excerpt());
    let refused = admin.order_move(&onemec_tests::cluster::order("meter0", "edge1")).await;
    assert!(!refused.is_ok_and(|r| r.state == "done"), "a drained host takes no device");
    for writer in &writers {
        writer.writes(10).await;
    }
    admin.undrain(&order).await.unwrap();
    // The host may hear of it a moment after the answer.
    until("the host takes devices again", async || {
        let result = admin.order_move(&onemec_tests::cluster::order("meter0", "edge1")).await.unwrap();
        assert!(matches!(result.code.as_str(), "" | "draining" | "not-primary"), "{} {}", result.code, result.text);
        (result.state == "done").then_some(())
    })
    .await;
    let written = finish(writers).await;
    written.iter().for_each(Written::assert_all_acknowledged);
    let verdict = history::verify(&cluster, &written).await;
    history::report("drain", &written, &verdict);
}

/// I3: a repeatable request gets its first answer at the old home, the new one and a third CSE; also after the home died.
#[tokio::test]
async fn repeatable_request_gets_first_answer_across_a_move() {
    let mut cluster = Cluster::start().await;
    let device = device(&cluster, "meter", "edge1").await;
    let mark = repeat_until(Duration::from_secs(50));
    let ask = Ask::reading(&device.container, 1).named("once").with("x-onemec-repeat", mark);
    let mut client = Client::new(cluster.door("edge1"), "Cmeter");
    let first = client.expect(201, &ask).await;
    assert_eq!(client.expect(201, &ask).await, first, "at once");
    cluster.move_to("cloud", "meter", "edge2").await;
    for node in cluster.names() {
        let again = Client::new(cluster.door(&node), "Cmeter").expect(201, &ask).await;
        assert_eq!(again, first, "after the move, at {node}");
    }
    cluster.replicated("cloud", "Cmeter").await;
    cluster.kill("edge2");
    for node in ["edge1", "cloud"] {
        let mut client = Client::new(cluster.door(node), "Cmeter");
        let again = until("an answer after the home died", async || {
            client.send(&ask).await.ok().filter(|a| a.status != 503 && a.status != 504)
        })
        .await;
        assert_status(&again, 201, "after the home died");
        assert_eq!(json_of(&again), first, "after the home died, at {node}");
    }
    cluster.restart("edge2").await;
    assert_eq!(history::read_back(&cluster, "cloud", &device).await, [1], "it is there once");
    // Without the mark the same identifier is a request of its own: ordinary clients use them again.
    let unmarked = Ask::reading(&device.container, 2).named("once");
    let mut client = Client::new(cluster.door("edge1"), "Cmeter");
    client.expect(201, &unmarked).await;
    client.expect(201, &unmarked).await;
    assert_eq!(history::read_back(&cluster, "cloud", &device).await, [1, 2, 2]);
    let past = Ask::reading(&device.container, 3).with("x-onemec-repeat", 1);
    assert_status(&client.ask(&past).await, 400, "a mark outside the window");
}

/// A client that knows nothing of us: one connection, no header of ours, never a second attempt.
#[tokio::test]
async fn unmodified_client_sees_no_error_in_planned_moves() {
    const MOVES: [&str; 6] = ["edge2", "edge1", "edge2", "edge1", "edge2", "edge1"];
    let cluster = Cluster::start().await;
    let device = device(&cluster, "meter", "edge1").await;
    let mut client = Client::new(cluster.door("edge1"), "Cmeter");
    let ended = std::cell::Cell::new(false);
    let moves = async {
        for to in MOVES {
            cluster.move_to("cloud", "meter", to).await;
        }
        ended.set(true);
    };
    let writes = async {
        let (mut number, mut after) = (0, 0);
        while after < 20 {
            number += 1;
            after += u64::from(ended.get());
            client.expect(201, &Ask::reading(&device.container, number)).await;
        }
        number
    };
    let ((), number) = tokio::join!(moves, writes);
    let read = history::read_back(&cluster, "cloud", &device).await;
    println!("unmodified: {} readings through {} moves, no error", read.len(), MOVES.len());
    assert_eq!(read, (1..=number).collect::<Vec<_>>());
}

async fn finish(writers: Vec<Writer>) -> Vec<Written> {
    let mut all = Vec::new();
    for writer in writers {
        all.push(writer.finish().await);
    }
    all
}
