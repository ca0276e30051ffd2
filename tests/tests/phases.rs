//! Faults in each state of a move (DESIGN.md section 5), not somewhere in it: a node stops itself when the move is there
//! (`runtime/src/exec/halt.rs`), and then the fault happens. Devices write without pause; the history checker judges
//! (I1 to I6).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_node::admin::types::MoveResult;
use onemec_tests::client::{Ask, assert_status, header, json_of, registration};
use onemec_tests::cluster::order;
use onemec_tests::wait::until;
use onemec_tests::writer::all_write;
use onemec_tests::{Cluster, Writer, history};
use tokio::task::JoinHandle;

/// The states, and whether the target (else the source) is the one that can tell.
const STATES: [(&str, bool); 6] = [
    ("prepare", false),
    ("ready", true),
    ("freeze", false),
    ("transfer", false),
    ("activate", true),
    ("settle", false),
];
const AE: &str = "Cmeter0";

/// A move that stands still.
struct Halted {
    state: &'static str,
    source: String,
    target: String,
    /// The one that has stopped itself.
    node: String,
    moving: JoinHandle<Option<MoveResult>>,
}

async fn start(nodes: Option<&str>) -> (Cluster, Vec<Writer>) {
    let cluster = if nodes == Some("five") { Cluster::start_five().await } else { Cluster::start().await };
    let mut writers = Vec::new();
    for (i, at) in ["edge1", "edge2"].iter().enumerate() {
        writers.push(Writer::start(&cluster, &format!("meter{i}"), at).await);
    }
    all_write(&writers, 20).await;
    (cluster, writers)
}

async fn finish(test: &str, cluster: &mut Cluster, writers: Vec<Writer>) {
    all_write(&writers, 20).await;
    let (_, verdict) = history::finish(test, cluster, writers).await;
    assert_eq!(verdict.unknown, 0, "every reading was acknowledged in the end");
}

/// Moves the AE to a node that is no replica of it yet (unless `spared` must stay out of it) until the move is in `state`.
async fn halt(cluster: &Cluster, state: (&'static str, bool), spared: Option<&str>, at: &str) -> Halted {
    let place = cluster
        .placed(at, AE, "a replica, and a home that is not spared", |p| p.in_sync.len() >= 2 && p.primary.is_some())
        .await;
    let source = place.primary.unwrap();
    let free = cluster.names().into_iter().filter(|n| *n != source && Some(n.as_str()) != spared);
    // A node without a copy has all states before it.
    let target = free.min_by_key(|n| place.in_sync.contains(n)).unwrap();
    let node = if state.1 { target.clone() } else { source.clone() };
    cluster.halt_at(&node, state.0);
    let ordered = || {
        let (admin, order) = (cluster.admin(&source), order(AE, &target));
        tokio::spawn(async move { admin.order_move(&order).await.ok() })
    };
    let mut moving = ordered();
    until(&format!("{source} to {target} is in state {}", state.0), async || {
        if !cluster.is_halted(&node) && moving.is_finished() {
            // On a busy machine a healthy node is declared dead now and then, and takes nothing until it is back.
            println!("{source} to {target}, once more: {:?}", (&mut moving).await.map(|r| r.map(|r| r.code)));
            moving = ordered();
        }
        cluster.is_halted(&node).then_some(())
    })
    .await;
    Halted { state: state.0, source, target, node, moving }
}

/// Tells what became of it.
async fn told(what: &str, halted: Halted, cluster: &Cluster, at: &str) {
    let outcome = halted.moving.await.unwrap().map_or("no answer".into(), |r| format!("{} {}", r.state, r.code));
    let place = cluster.placement(at, AE).await.unwrap();
    println!("{what} in {}: {outcome}; then at {:?}, epoch {}", halted.state, place.primary, place.epoch);
}

/// Some node that is none of these.
fn other(cluster: &Cluster, than: &[&str]) -> String {
    cluster.names().into_iter().find(|n| !than.contains(&n.as_str())).unwrap()
}

async fn kill_in_each_state(what: &str, victim: impl Fn(&Halted) -> String) {
    let (mut cluster, writers) = start(None).await;
    for state in STATES {
        let halted = halt(&cluster, state, None, "cloud").await;
        let victim = victim(&halted);
        cluster.kill(&victim);
        if halted.node != victim {
            cluster.cont(&halted.node);
        }
        all_write(&writers, 20).await;
        let at = other(&cluster, &[&victim]);
        told(&format!("kill of {what}"), halted, &cluster, &at).await;
        cluster.restart(&victim).await;
        all_write(&writers, 10).await;
        cluster.replicated(&at, AE).await;
    }
    finish(&format!("kill of {what} in each state"), &mut cluster, writers).await;
}

#[tokio::test]
async fn kill_of_the_source_in_each_state_of_a_move() {
    kill_in_each_state("source", |h| h.source.clone()).await;
}

#[tokio::test]
async fn kill_of_the_target_in_each_state_of_a_move() {
    kill_in_each_state("target", |h| h.target.clone()).await;
}

/// The leader is neither source nor target; row O10, H03.
#[tokio::test]
async fn kill_of_the_directory_leader_in_each_state_of_a_move() {
    let (mut cluster, writers) = start(None).await;
    for state in STATES {
        let leader = cluster.directory_leader().await;
        let spare = other(&cluster, &[&leader]);
        let home = cluster.replicated(&spare, AE).await.primary.unwrap();
        if home == leader {
            cluster.move_to(&spare, AE, &spare).await;
        }
        if state.0 == "ready" {
            // Both copies may be where they are: then there is nothing to catch up with. The others' tests have it.
            continue;
        }
        let halted = halt(&cluster, state, Some(&leader), &spare).await;
        cluster.kill(&leader);
        cluster.cont(&halted.node);
        all_write(&writers, 20).await;
        let next = cluster.directory_leader().await;
        assert_ne!(next, leader);
        told("kill of the directory's leader", halted, &cluster, &spare).await;
        cluster.restart(&leader).await;
        all_write(&writers, 10).await;
        cluster.replicated(&spare, AE).await;
    }
    finish("kill of the directory's leader in each state", &mut cluster, writers).await;
}

/// Fault 4 of the catalogue in the worst moments: who sleeps through its lease in the middle of a move wakes up in a
/// cluster that went on without it.
#[tokio::test]
async fn sleep_past_the_lease_in_each_state_of_a_move() {
    let (mut cluster, writers) = start(None).await;
    for state in STATES {
        let halted = halt(&cluster, state, None, "cloud").await;
        let at = other(&cluster, &[&halted.node]);
        let dead = halted.node.clone();
        until(&format!("{dead} is declared dead"), async || {
            let status = cluster.admin(&at).status().await.ok()?;
            status.members.iter().any(|m| m.name == dead && m.state == "dead").then_some(())
        })
        .await;
        // Whoever leads now serves; the sleeper has its old view, its open gate and parked operations.
        all_write(&writers, 20).await;
        cluster.cont(&dead);
        all_write(&writers, 20).await;
        told("sleep", halted, &cluster, &at).await;
        cluster.ready(&dead).await;
        cluster.replicated(&at, AE).await;
    }
    finish("sleep past the lease in each state", &mut cluster, writers).await;
}

/// A power cut in the middle of a move.
#[tokio::test]
async fn restart_of_all_nodes_in_each_state_of_a_move() {
    let (mut cluster, writers) = start(None).await;
    for state in STATES {
        let halted = halt(&cluster, state, None, "cloud").await;
        cluster.kill_all();
        for name in cluster.names() {
            cluster.halt_nowhere(&name);
            cluster.spawn(&name);
        }
        for name in cluster.names() {
            cluster.ready(&name).await;
        }
        all_write(&writers, 20).await;
        told("restart of all", halted, &cluster, "cloud").await;
        cluster.replicated("cloud", AE).await;
    }
    finish("restart of all in each state", &mut cluster, writers).await;
}

/// Row O10: of five nodes two die one after the other, the source in the middle of a move, then whoever serves next.
#[tokio::test]
async fn two_kills_one_after_the_other_on_five_nodes() {
    let (mut cluster, writers) = start(Some("five")).await;
    let all = |p: &onemec_node::admin::types::Placement| p.in_sync.len() >= 3 && p.primary.is_some();
    for state in [STATES[2], STATES[3], STATES[5]] {
        cluster.placed("cloud", AE, "three replicas", all).await;
        cluster.placed("cloud", "Cmeter1", "three replicas", all).await;
        if cluster.placement("cloud", AE).await.is_some_and(|p| p.primary.as_deref() == Some("cloud")) {
            // The one that is asked throughout is not to be the source.
            cluster.move_to("cloud", AE, "edge3").await;
            cluster.placed("cloud", AE, "three replicas", all).await;
        }
        let halted = halt(&cluster, state, Some("cloud"), "cloud").await;
        let first = halted.source.clone();
        cluster.kill(&first);
        let second = cluster
            .placed("cloud", AE, "another primary", |p| p.primary.as_ref().is_some_and(|n| *n != first))
            .await
            .primary
            .unwrap();
        // Three voters: one of them may die. The second to die is no voter then, or there is a majority without it.
        let voters = ["cloud", "edge1", "edge2"];
        let second_may_die =
            second != "cloud" && !(voters.contains(&first.as_str()) && voters.contains(&second.as_str()));
        if second_may_die {
            cluster.kill(&second);
        }
        all_write(&writers, 20).await;
        told(
            &format!("kill of {first}{}", if second_may_die { " and the next" } else { "" }),
            halted,
            &cluster,
            "cloud",
        )
        .await;
        cluster.restart(&first).await;
        if second_may_die {
            cluster.restart(&second).await;
        }
        all_write(&writers, 10).await;
    }
    finish("two kills on five nodes", &mut cluster, writers).await;
}

/// Rows H06, H08: doors speak TLS and originators must prove who they are, also after the move; a foreign or missing proof
/// is refused at the new home as it was at the old one.
#[tokio::test]
async fn row_h06_moves_over_tls_with_reauthentication() {
    const TOKEN: &str = "a-long-random-text-of-meter0";
    let mut cluster = Cluster::start_with(|t| {
        for node in &mut t.node {
            node.security.tls = true;
            node.security.auth = onemec_node::topology::Auth::Required;
            node.security.tokens.insert(AE.into(), TOKEN.into());
            node.security.tokens.insert("Cother".into(), "a-long-random-text-of-other".into());
        }
    })
    .await;
    assert!(cluster.door("edge1").tls);
    let writer = Writer::start(&cluster, "meter0", "edge1").await;
    writer.writes(20).await;
    for to in ["edge2", "cloud", "edge1", "edge2"] {
        cluster.move_to("cloud", AE, to).await;
        writer.writes(20).await;
        let read = Ask::retrieve("/-/meter0");
        cluster.client(to, AE).expect(200, &read).await;
        let mut nobody = cluster.client(to, AE);
        nobody.bearer = None;
        assert_eq!(nobody.ask(&read).await.status, 403, "no proof at {to}");
        nobody.bearer = Some("guessed".into());
        assert_eq!(nobody.ask(&read).await.status, 403, "a proof that nobody gave at {to}");
        let mut other = cluster.client(to, AE);
        other.bearer.clone_from(&cluster.client(to, "Cother").bearer);
        assert_eq!(other.ask(&read).await.status, 403, "another's proof at {to}");
    }
    // The device itself goes: handover token and proof; either alone does not do.
    let signed = cluster.client("edge2", AE).ask(&Ask::retrieve("/-/meter0")).await;
    let token = header(&signed, "x-onemec-token").expect("an AE that retrieves itself gets a token");
    let ask = registration("meter0").with("x-onemec-handover", &token);
    let mut thief = cluster.client("edge1", AE);
    thief.bearer.clone_from(&cluster.client("edge1", "Cother").bearer);
    assert_eq!(thief.ask(&ask).await.status, 403, "a stolen token without the proof");
    let back = cluster.client("edge1", AE).ask(&ask).await;
    assert_status(&back, 201, "re-attachment over TLS");
    assert_eq!(json_of(&back)["m2m:ae"]["ri"], AE);
    cluster.replicated("cloud", AE).await;
    let home = cluster.ae("cloud", AE).await.primary;
    cluster.kill(&home);
    writer.writes(20).await;
    cluster.restart(&home).await;
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    let verdict = history::verify(&cluster, &written).await;
    history::report("h06 over TLS", &written, &verdict);
}
