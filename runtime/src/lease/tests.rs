//! Leases over clusters of directories in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use onemec_core::context::ContextKind;
use onemec_core::directory::{Command, CommandOutcome, ContextSpec, Durability, Nonce, StoreId};
use onemec_core::lease::LeaseTiming;
use onemec_wire::{GroupId, Member};

use super::{LeaseHandle, LeaseService};
use crate::directory::Boot;
use crate::directory::testing::{PATIENCE, TestCluster, until};

const TIMING: LeaseTiming = LeaseTiming::ONE_SITE;

struct Leased {
    cluster: TestCluster,
    leases: BTreeMap<u64, LeaseService>,
}

fn boot(node: u64, incarnation: u64) -> Boot {
    Boot { member: Member::new(node, incarnation), store: StoreId(node), info: BTreeMap::new(), former_is_gone: false }
}

impl Leased {
    /// `voters` nodes, all up and with a lease.
    async fn started(voters: u64) -> Self {
        Self::on(TestCluster::started(voters).await, voters).await
    }

    async fn on(cluster: TestCluster, voters: u64) -> Self {
        let mut leased = Self { cluster, leases: BTreeMap::new() };
        // Rounds need a quorum of voters that answer.
        for node in 1..=voters {
            leased.begin(node);
        }
        for node in 1..=voters {
            leased.up(node).await;
        }
        leased
    }

    fn begin(&mut self, node: u64) -> LeaseHandle {
        let directory = self.cluster.handle(node);
        let net = self.cluster.net(node);
        let service =
            LeaseService::start(net, directory, Member::new(node, 1), TIMING, std::sync::Arc::default()).unwrap();
        let lease = service.handle();
        self.leases.insert(node, service);
        lease
    }

    async fn up(&mut self, node: u64) -> LeaseHandle {
        let directory = self.cluster.handle(node);
        let lease = self.lease(node);
        assert!(!lease.is_valid(), "no lease before it is up");
        directory.node_up(&boot(node, 1), PATIENCE).await.unwrap();
        tokio::time::timeout(PATIENCE, lease.valid()).await.unwrap().unwrap();
        lease
    }

    fn lease(&self, node: u64) -> LeaseHandle {
        self.leases[&node].handle()
    }

    async fn group(&self, primary: u64, other: u64) -> GroupId {
        let (a, b) = (Member::new(primary, 1), Member::new(other, 1));
        let command = Command::CreateGroup {
            nonce: Nonce(u128::from(primary)),
            primary: a,
            in_sync: BTreeSet::from([a, b]),
            durability: Durability::Replicated,
            replicas_wanted: 2,
            contexts: vec![ContextSpec { kind: ContextKind::AE, keys: Vec::new(), pinned: false, bundle: None }],
        };
        match self.cluster.handle(other).propose(command).await {
            Ok(CommandOutcome::Created { group, .. }) => group,
            other => panic!("{other:?}"),
        }
    }

    /// A node that does not lead.
    async fn follower(&self) -> u64 {
        let leader = self.cluster.leader().await;
        *self.cluster.nodes.keys().find(|n| **n != leader).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_loses_its_lease_and_then_its_groups() {
    let leased = Leased::started(3).await;
    let victim = leased.follower().await;
    let other = (1..=3).find(|n| *n != victim).unwrap();
    let group = leased.group(victim, other).await;
    let (directory, lease) = (leased.cluster.handle(other), leased.lease(victim));
    // It keeps its lease as long as it can ask.
    let calm = Instant::now();
    until("some renewals", || {
        assert!(lease.is_valid());
        (calm.elapsed() > TIMING.lease * 3).then_some(())
    })
    .await;
    leased.cluster.switch.isolate(victim, (1..=3).filter(|n| *n != victim));
    let cut = Instant::now();
    let lost = until("the lease to run out", || (!lease.is_valid()).then(Instant::now)).await;
    assert!(directory.read().is_live(Member::new(victim, 1)), "nobody is buried while his lease may run");
    let promoted = until("another primary", || {
        (directory.read().group(group).unwrap().primary == Member::new(other, 1)).then(Instant::now)
    })
    .await;
    assert!(promoted > lost);
    assert!(!directory.read().is_live(Member::new(victim, 1)));
    println!("lease over {:?} after the cut, promotion {:?} after the cut", lost - cut, promoted - cut);
    // The victim hears of it when the network heals, and gets no lease for that boot any more.
    leased.cluster.switch.heal();
    let heard = leased.cluster.handle(victim);
    tokio::time::timeout(PATIENCE, heard.declared_dead(Member::new(victim, 1))).await.unwrap();
    assert!(!lease.is_valid());
    // A new boot does.
    lease.begin(Member::new(victim, 2)).await.unwrap();
    heard.node_up(&boot(victim, 2), PATIENCE).await.unwrap();
    tokio::time::timeout(PATIENCE, lease.valid()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_leader_lets_those_live_who_ask() {
    let mut leased = Leased::started(5).await;
    let leader = leased.cluster.leader().await;
    leased.leases.remove(&leader);
    leased.cluster.kill(leader).await;
    let began = Instant::now();
    let other = leased.follower().await;
    let directory = leased.cluster.handle(other);
    until("the dead leader to be buried", || (!directory.read().is_live(Member::new(leader, 1))).then_some(())).await;
    println!("dead leader buried {:?} after its death", began.elapsed());
    let calm = Instant::now();
    until("leases under the new leader", || (calm.elapsed() > TIMING.lease * 4).then_some(())).await;
    let live: BTreeSet<u64> = directory.read().live().map(|m| m.node.0).collect();
    assert_eq!(live, (1..=5).filter(|n| *n != leader).collect::<BTreeSet<_>>());
    for node in live {
        assert!(leased.lease(node).is_valid(), "node {node}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_a_quorum_renews_nobodys_lease() {
    let mut leased = Leased::started(3).await;
    leased.cluster.start(9).await;
    leased.begin(9);
    let lease = leased.up(9).await;
    let leader = leased.cluster.leader().await;
    // The learner still reaches the old leader, and nobody else does.
    for node in (1..=3).filter(|n| *n != leader) {
        leased.cluster.switch.isolate(node, [leader, 9]);
    }
    let cut = Instant::now();
    until("both leases to run out", || (!lease.is_valid() && !leased.lease(leader).is_valid()).then_some(())).await;
    // It may have been renewed by a round that was under way, not later.
    assert!(cut.elapsed() < TIMING.lease + Duration::from_millis(250), "{:?}", cut.elapsed());
    until("the others to elect and bury", || {
        assert!(!lease.is_valid(), "the old leader granted a lease without a quorum");
        let directory = leased.cluster.handle(if leader == 1 { 2 } else { 1 });
        let buried = !directory.read().is_live(Member::new(leader, 1));
        (buried && leased.cluster.handle(leader).leads()).then_some(())
    })
    .await;
    assert!(!lease.is_valid());
}

/// The same over QUIC, where datagrams travel between threads and may be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_over_quic_and_a_dead_leader_is_followed() {
    let mut cluster = TestCluster::new(3).over_quic(3).await;
    for node in 1..=3 {
        cluster.start(node).await;
    }
    let mut leased = Leased::on(cluster, 3).await;
    let calm = Instant::now();
    until("some renewals", || {
        assert!((1..=3).all(|n| leased.lease(n).is_valid()));
        (calm.elapsed() > TIMING.lease * 3).then_some(())
    })
    .await;
    let leader = leased.cluster.leader().await;
    let other = leased.follower().await;
    let group = leased.group(leader, other).await;
    leased.leases.remove(&leader);
    leased.cluster.kill(leader).await;
    let began = Instant::now();
    let directory = leased.cluster.handle(other);
    until("another primary", || {
        (directory.read().group(group).unwrap().primary == Member::new(other, 1)).then_some(())
    })
    .await;
    println!("group of the dead leader promoted {:?} after its death", began.elapsed());
    assert!(leased.lease(other).is_valid());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_lease_lets_the_node_be_followed_at_once() {
    let leased = Leased::started(3).await;
    let node = leased.follower().await;
    let (lease, directory) = (leased.lease(node), leased.cluster.handle(node));
    lease.release().await.unwrap();
    assert!(!lease.is_valid());
    let dead = Command::NodeDead { member: Member::new(node, 1), forced: false };
    assert_eq!(directory.propose(dead).await, Ok(CommandOutcome::Done));
    let calm = Instant::now();
    until("no renewal", || {
        assert!(!lease.is_valid());
        (calm.elapsed() > TIMING.lease).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_deaths_wait_for_an_operator() {
    let mut leased = Leased::started(3).await;
    let learners = [11, 12, 13, 14];
    for node in learners {
        leased.cluster.start(node).await;
        leased.begin(node);
        leased.up(node).await;
    }
    let leader = leased.cluster.leader().await;
    let directory = leased.cluster.handle(leader);
    for node in learners {
        leased.leases.remove(&node);
    }
    let dead = || learners.iter().filter(|n| !directory.read().is_live(Member::new(**n, 1))).count();
    until("as many deaths as are allowed", || (dead() == 3).then_some(())).await;
    let calm = Instant::now();
    until("the brake to hold", || {
        assert_eq!(dead(), 3, "4 of 7 are more than half");
        (calm.elapsed() > TIMING.lease * 3).then_some(())
    })
    .await;
    let all: BTreeSet<Member> = learners.iter().map(|n| Member::new(*n, 1)).collect();
    // One that still asks does not die of a confirmation.
    let alive = Member::new(leader, 1);
    leased.lease(leader).confirm_dead(all.into_iter().chain([alive]).collect()).await.unwrap();
    until("the confirmed death", || (dead() == 4).then_some(())).await;
    assert!(directory.read().is_live(alive));
}

/// A leader decided a death, lost its leadership and won it back before the entry was logged: the death must be void, since
/// the leader in between may have granted a lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_decided_in_an_earlier_reign_is_void() {
    let leased = Leased::started(3).await;
    let leader = leased.cluster.leader().await;
    let directory = leased.cluster.handle(leader);
    let mut reign = directory.leader_view().unwrap().term;
    let victim = Member::new(if leader == 1 { 2 } else { 1 }, 1);
    let death = || vec![Command::NodeDead { member: victim, forced: false }];
    reign.term -= 1;
    let outcome = directory.propose_only_in(death(), reign, PATIENCE).await.unwrap();
    assert!(matches!(outcome[..], [CommandOutcome::Refused(_)]), "{outcome:?}");
    assert!(directory.read().is_live(victim));
    reign.term += 1;
    assert_eq!(directory.propose_only_in(death(), reign, PATIENCE).await.unwrap(), [CommandOutcome::Done]);
}
