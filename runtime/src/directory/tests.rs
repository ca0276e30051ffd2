//! Clusters of three and five directories in one process, on real files.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onemec_core::context::ContextKind;
use onemec_core::directory::{Base, Command, CommandOutcome, ContextSpec, Durability, Nonce, Refusal, StoreId};
use onemec_wire::{Epoch, GroupId, Member, NodeId, Version};

use super::testing::{PATIENCE, TestCluster, until};
use super::{Boot, Change, MemberChange, NodeUpError, ProposeError};

fn fact(name: &str, value: &str) -> Command {
    Command::SetFact { name: name.into(), value: Some(value.into()) }
}

fn boot(node: u64, incarnation: u64) -> Boot {
    Boot { member: Member::new(node, incarnation), store: StoreId(node), info: BTreeMap::new(), former_is_gone: false }
}

fn group(nonce: u128, primary: Member, in_sync: &[Member]) -> Command {
    Command::CreateGroup {
        nonce: Nonce(nonce),
        primary,
        in_sync: in_sync.iter().copied().collect::<BTreeSet<_>>(),
        durability: Durability::Replicated,
        replicas_wanted: 2,
        contexts: vec![ContextSpec { kind: ContextKind::AE, keys: Vec::new(), pinned: false, bundle: None }],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_committed_from_every_node_and_seen_where_they_were_proposed() {
    let cluster = TestCluster::started(3).await;
    for (i, handle) in cluster.handles().into_iter().enumerate() {
        let name = format!("f{i}");
        assert_eq!(handle.propose(fact(&name, "x")).await, Ok(CommandOutcome::Done));
        assert_eq!(handle.read().fact(&name), Some("x"), "read your writes");
        assert_eq!(handle.read().generation(), 7);
    }
    let outcome = cluster.handle(2).propose(Command::Abort { base: base() }).await;
    assert_eq!(outcome, Ok(CommandOutcome::Refused(Refusal::NoGroup)));
}

fn base() -> Base {
    Base { group: GroupId::made(7, 1, 0), epoch: Epoch(1), version: Version(1) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_takes_over_and_nothing_is_lost() {
    let mut cluster = TestCluster::started(5).await;
    let first = cluster.leader().await;
    cluster.handle(first).propose(fact("before", "1")).await.unwrap();
    cluster.kill(first).await;
    let began = Instant::now();
    let other = cluster.handles().remove(0);
    assert_eq!(other.propose(fact("after", "2")).await, Ok(CommandOutcome::Done));
    println!("first commit {:?} after the leader's death", began.elapsed());
    assert_eq!(other.read().fact("before"), Some("1"));
    assert_ne!(other.leader(), Some(NodeId(first)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_there_after_a_restart_of_all() {
    let mut cluster = TestCluster::started(3).await;
    for i in 0..20 {
        cluster.handle(1).propose(fact(&format!("f{i}"), "x")).await.unwrap();
    }
    let rafts: Vec<_> = (1..=3).map(|n| cluster.raft_of(n)).collect();
    for node in 1..=3 {
        cluster.kill(node).await;
    }
    for node in 1..=3 {
        cluster.start(node).await;
    }
    for node in 1..=3 {
        let handle = cluster.handle(node);
        handle.linearizable(PATIENCE).await.unwrap();
        assert_eq!(handle.read().facts("f").count(), 20);
        assert_eq!(handle.read().generation(), 7);
    }
    assert_eq!(rafts, (1..=3).map(|n| cluster.raft_of(n)).collect::<Vec<_>>(), "stores keep their Raft ids");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_proposals_share_entries() {
    let cluster = TestCluster::started(3).await;
    let leader = cluster.handle(cluster.leader().await);
    let before = leader.status().applied;
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..600 {
        let handle = cluster.handle(1 + i % 3);
        tasks.spawn(async move { handle.propose(fact(&format!("f{i}"), "x")).await });
    }
    while let Some(result) = tasks.join_next().await {
        assert_eq!(result.unwrap(), Ok(CommandOutcome::Done));
    }
    assert_eq!(leader.read().facts("f").count(), 600);
    let entries = leader.status().applied - before;
    println!("600 proposals took {entries} entries");
    assert!(entries < 200, "{entries} entries");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_quorum_proposals_say_what_is_known() {
    let cluster = TestCluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    cluster.switch.isolate(leader, (1..=3).filter(|n| *n != leader));
    // The isolated leader logs it and cannot commit it: nobody knows.
    let outcome = cluster.handle(leader).propose_within(fact("a", "1"), Duration::from_millis(300)).await;
    assert!(matches!(outcome, Err(ProposeError::Unknown(_))), "{outcome:?}");
    assert!(cluster.handle(leader).linearizable(Duration::from_millis(300)).await.is_err());
    // The others elect another one.
    cluster.handle(follower).propose(fact("b", "1")).await.unwrap();
    cluster.switch.isolate(follower, (1..=3).filter(|n| *n != follower));
    let outcome = cluster.handle(follower).propose_within(fact("c", "1"), Duration::from_millis(300)).await;
    assert!(outcome.is_err(), "{outcome:?}");
    cluster.switch.heal();
    for handle in cluster.handles() {
        handle.linearizable(PATIENCE).await.unwrap();
        assert_eq!(handle.read().fact("b"), Some("1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_cannot_reach_anybody_says_not_proposed() {
    let cluster = TestCluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = if leader == 1 { 2 } else { 1 };
    cluster.switch.isolate(follower, (1..=3).filter(|n| *n != follower));
    let outcome = cluster.handle(follower).propose_within(fact("c", "1"), Duration::from_millis(200)).await;
    assert!(matches!(outcome, Err(ProposeError::NotProposed(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_on_any_node_sees_what_was_committed_before_it() {
    let cluster = TestCluster::started(3).await;
    for i in 0..50 {
        let (writer, reader) = (cluster.handle(1 + i % 3), cluster.handle(1 + (i + 1) % 3));
        writer.propose(fact("x", &i.to_string())).await.unwrap();
        reader.linearizable(PATIENCE).await.unwrap();
        assert_eq!(reader.read().fact("x"), Some(i.to_string().as_str()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_learns_from_a_snapshot_and_hears_of_changes() {
    let mut cluster = TestCluster::new(3);
    cluster.tune = |options| {
        options.snapshot_entries = 20;
        options.log_entries_kept = 5;
    };
    for node in 1..=3 {
        cluster.start(node).await;
    }
    cluster.leader().await;
    let long = "v".repeat(20_000);
    for i in 0..100 {
        cluster.handle(1).propose(fact(&format!("f{i}"), &long)).await.unwrap();
    }
    let learner = cluster.start(9).await;
    let mut feed = learner.changes();
    until("the learner to catch up", || (learner.read().facts("f").count() == 100).then_some(())).await;
    assert_eq!(learner.read().generation(), 7);
    assert_eq!(feed.next().await, Some(Change::Rescan), "a snapshot was installed");
    assert!(cluster.handle(1).members().iter().any(|m| m.node == NodeId(9) && !m.voter));

    assert_eq!(learner.node_up(&boot(9, 1), PATIENCE).await, Ok(()));
    let change = feed.next().await;
    let Some(Change::Set(set)) = change else { panic!("{change:?}") };
    assert_eq!(set.nodes, BTreeSet::from([NodeId(9)]));

    // Its own store serves after a restart too.
    cluster.kill(9).await;
    let learner = cluster.start(9).await;
    learner.linearizable(PATIENCE).await.unwrap();
    assert_eq!(learner.read().facts("f").count(), 100);
    assert!(learner.read().is_live(Member::new(9, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_lost_its_store_comes_back_with_a_new_raft_id() {
    let mut cluster = TestCluster::started(3).await;
    cluster.handle(1).propose(fact("x", "1")).await.unwrap();
    for node in [3, 1] {
        // The lowest of the first voters must not make another cluster either.
        let old = cluster.raft_of(node);
        cluster.kill(node).await;
        cluster.lose_store(node);
        let handle = cluster.start(node).await;
        let new = handle.status().raft;
        assert_ne!(old, new);
        until("the new store to vote in place of the old one", || {
            let members = cluster.handle(2).members();
            let of_node: Vec<_> = members.iter().filter(|m| m.node == NodeId(node)).collect();
            (of_node.len() == 1 && of_node[0].raft == new && of_node[0].voter && members.len() == 3).then_some(())
        })
        .await;
        handle.linearizable(PATIENCE).await.unwrap();
        assert_eq!(handle.read().fact("x"), Some("1"));
        assert_eq!(handle.read().generation(), 7);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_is_replaced_while_the_directory_works() {
    let mut cluster = TestCluster::started(3).await;
    cluster.start(4).await;
    let any = cluster.handle(2);
    until("node 4 to be a learner", || any.members().iter().any(|m| m.node == NodeId(4)).then_some(())).await;
    let (old, new) = (cluster.raft_of(3), cluster.raft_of(4));
    any.change_members(MemberChange::ReplaceVoter { old, new }, PATIENCE).await.unwrap();
    any.change_members(MemberChange::ReplaceVoter { old, new }, PATIENCE).await.unwrap();
    until("the new voters", || {
        let voters: BTreeSet<_> = any.members().iter().filter(|m| m.voter).map(|m| m.node.0).collect();
        (voters == BTreeSet::from([1, 2, 4])).then_some(())
    })
    .await;
    cluster.kill(3).await;
    cluster.kill(1).await;
    any.propose(fact("x", "1")).await.unwrap();
    cluster.handle(4).linearizable(PATIENCE).await.unwrap();
    assert_eq!(cluster.handle(4).read().fact("x"), Some("1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_may_start_in_any_order_and_restart_before_there_is_a_cluster() {
    let mut cluster = TestCluster::new(3);
    cluster.start(3).await;
    cluster.start(1).await;
    cluster.kill(1).await;
    let waiting = cluster.handle(3);
    assert_eq!(waiting.wait_leader(Duration::from_millis(300)).await, None, "one is missing");
    cluster.start(1).await;
    cluster.kill(3).await;
    cluster.lose_store(3);
    cluster.start(2).await;
    cluster.start(3).await;
    cluster.leader().await;
    assert_eq!(cluster.handle(3).propose(fact("x", "1")).await, Ok(CommandOutcome::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_boot_waits_for_the_end_of_the_former() {
    let cluster = TestCluster::started(3).await;
    let handle = cluster.handle(2);
    assert_eq!(handle.node_up(&boot(2, 1), PATIENCE).await, Ok(()));
    assert_eq!(handle.node_up(&boot(2, 1), PATIENCE).await, Ok(()), "twice is harmless");
    let early = handle.node_up(&boot(2, 2), Duration::from_millis(200)).await;
    assert!(matches!(early, Err(NodeUpError::Late(_))), "{early:?}");
    let watch = tokio::spawn({
        let handle = handle.clone();
        async move { handle.declared_dead(Member::new(2, 1)).await }
    });
    let gone = Boot { former_is_gone: true, ..boot(2, 3) };
    assert_eq!(handle.node_up(&gone, PATIENCE).await, Ok(()));
    watch.await.unwrap();
    let refused = handle.node_up(&boot(2, 2), PATIENCE).await;
    assert!(matches!(refused, Err(NodeUpError::Refused(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_removed_only_when_nothing_counts_on_it() {
    let cluster = TestCluster::started(3).await;
    let handle = cluster.handle(1);
    for node in 1..=3 {
        cluster.handle(node).node_up(&boot(node, 1), PATIENCE).await.unwrap();
    }
    let (a, b) = (Member::new(1, 1), Member::new(3, 1));
    let made = handle.propose(group(1, a, &[a, b])).await.unwrap();
    let CommandOutcome::Created { group, .. } = made else { panic!("{made:?}") };
    assert!(handle.remove_node(NodeId(3), PATIENCE).await.is_err(), "it is in a set");
    let base = handle.read().group(group).unwrap().base(group);
    handle.propose(Command::SetInSync { base, in_sync: BTreeSet::from([a]) }).await.unwrap();
    handle.remove_node(NodeId(3), PATIENCE).await.unwrap();
    until("it to be no member", || handle.members().iter().all(|m| m.node != NodeId(3)).then_some(())).await;
    assert_eq!(handle.read().node(NodeId(3)), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_over_quic_works_restarts_and_sends_snapshots() {
    let mut cluster = TestCluster::new(3).over_quic(4).await;
    cluster.tune = |options| {
        options.snapshot_entries = 20;
        options.log_entries_kept = 5;
    };
    for node in 1..=3 {
        cluster.start(node).await;
    }
    cluster.leader().await;
    let long = "v".repeat(30_000);
    for i in 0..60 {
        cluster.handle(1 + i % 3).propose(fact(&format!("f{i}"), &long)).await.unwrap();
    }
    let first = cluster.leader().await;
    cluster.kill(first).await;
    let other = cluster.handles().remove(0);
    other.propose(fact("after", "1")).await.unwrap();
    let again = cluster.start(first).await;
    again.linearizable(PATIENCE).await.unwrap();
    assert_eq!(again.read().fact("after"), Some("1"));
    let learner = cluster.start(4).await;
    until("the learner to catch up", || (learner.read().facts("f").count() == 60).then_some(())).await;
}

/// A batch of large entries is longer than a message may be: it is sent in parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_missed_much_gets_it_in_parts() {
    let mut cluster = TestCluster::new(3).over_quic(3).await;
    for node in 1..=3 {
        cluster.start(node).await;
    }
    let leader = cluster.leader().await;
    let late = if leader == 1 { 2 } else { 1 };
    cluster.kill(late).await;
    let long = "v".repeat(200_000);
    for i in 0..40 {
        cluster.handle(leader).propose(fact(&format!("f{i}"), &long)).await.unwrap();
    }
    let handle = cluster.start(late).await;
    until("8 MB of entries", || (handle.read().facts("f").count() == 40).then_some(())).await;
}

/// Not a test: run it with `--release -- --ignored measure --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures"]
async fn measure_commits() {
    for quic in [false, true] {
        let mut cluster = TestCluster::new(3);
        if quic {
            cluster = cluster.over_quic(3).await;
        }
        for node in 1..=3 {
            cluster.start(node).await;
        }
        let leader = cluster.leader().await;
        let follower = if leader == 1 { 2 } else { 1 };
        for (what, node) in [("leader", leader), ("follower", follower)] {
            let handle = cluster.handle(node);
            let mut times = Vec::new();
            for i in 0..2_000u32 {
                let began = Instant::now();
                handle.propose(fact("x", &i.to_string())).await.unwrap();
                times.push(began.elapsed());
            }
            report(&format!("quic {quic}, commit from the {what}"), &mut times);
            let mut times = Vec::new();
            for _ in 0..500 {
                let began = Instant::now();
                handle.linearizable(PATIENCE).await.unwrap();
                times.push(began.elapsed());
            }
            report(&format!("quic {quic}, linearizable read at the {what}"), &mut times);
            let before = handle.status().applied;
            let began = Instant::now();
            let mut callers = tokio::task::JoinSet::new();
            for c in 0..64 {
                let handle = handle.clone();
                callers.spawn(async move {
                    for i in 0..300 {
                        handle.propose(fact(&format!("c{c}"), &i.to_string())).await.unwrap();
                    }
                });
            }
            while callers.join_next().await.is_some() {}
            let rate = 64.0 * 300.0 / began.elapsed().as_secs_f64();
            let entries = handle.status().applied - before;
            println!("quic {quic}, 64 outstanding from the {what}: {rate:.0} commands/s in {entries} entries");
        }
    }
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!("{what}: p50 {:?} p99 {:?} max {:?}", at(0.5), at(0.99), at(1.0));
}

/// A voter that was cut off, in both directions or in one, called elections without end. Its first message after the heal
/// unseated the leader, since its term was higher; while the cut lasted in one direction only, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_cut_off_unseats_nobody() {
    let cluster = TestCluster::started(3).await;
    let leader = cluster.leader().await;
    let others: Vec<u64> = (1..=3).filter(|n| *n != leader).collect();
    let (alone, other) = (others[0], others[1]);
    let term = cluster.handle(leader).status().term;
    for (out, into) in [(true, true), (true, false), (false, true)] {
        for end in [leader, other] {
            if out {
                cluster.switch.cut(alone, end);
            }
            if into {
                cluster.switch.cut(end, alone);
            }
        }
        // Five times as long as a voter waits for a leader.
        let began = Instant::now();
        let mut n = 0;
        while began.elapsed() < Duration::from_secs(3) {
            cluster.handle(other).propose(fact("x", &n.to_string())).await.unwrap();
            n += 1;
        }
        cluster.switch.heal();
        let back = cluster.handle(alone);
        back.linearizable(PATIENCE).await.unwrap();
        assert_eq!(back.read().fact("x"), Some((n - 1).to_string().as_str()));
        assert_eq!(cluster.leader().await, leader, "out {out}, in {into}");
        assert_eq!(back.status().term, term, "out {out}, in {into}: no election");
    }
}
