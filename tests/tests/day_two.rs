//! Voters and nodes at run time (rules 6, 14 and 15), on real processes: a voter whose disk is lost, three voters that become
//! five under writers, a node that no other topology names, one that goes for good, a group of which nobody is left, and
//! more deaths than the cluster believes by itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_node::admin::AdminFailure;
use onemec_node::admin::types::{DeathsOrder, ForceOrder, NodeOrder, VoterAction, VoterOrder, Voters};
use onemec_tests::wait::until;
use onemec_tests::writer::device;
use onemec_tests::{Cluster, Writer, history};

fn order(action: VoterAction, node: &str, by: Option<&str>) -> VoterOrder {
    VoterOrder { action, node: node.into(), by: by.map(str::to_owned), deadline_ms: 15_000 }
}

fn voting(voters: &Voters) -> Vec<&str> {
    let mut names: Vec<&str> = voters.members.iter().filter(|m| m.votes).map(|m| m.node.as_str()).collect();
    names.sort_unstable();
    names
}

async fn voters(cluster: &Cluster, at: &str) -> Voters {
    until("the voters", async || cluster.admin(at).voters().await.ok()).await
}

/// Gives an order until it is carried out: a refusal (somebody must catch up first, the leader changes) passes.
async fn change(cluster: &Cluster, at: &str, action: VoterAction, node: &str, by: Option<&str>) -> Voters {
    until(&format!("{action:?} {node} {by:?}"), async || {
        cluster.admin(at).change_voters(&order(action, node, by)).await.ok()
    })
    .await
}

fn code(failure: AdminFailure) -> (u16, String) {
    match failure {
        AdminFailure::Refused { status, body } => (status, body.code),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn voter_that_lost_its_disk_votes_again_with_another_store() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    let store_of = |voters: &Voters| {
        let edge2 = voters.members.iter().filter(|m| m.node == "edge2" && m.votes);
        edge2.map(|m| m.store.clone()).collect::<Vec<_>>()
    };
    let before = store_of(&voters(&cluster, "cloud").await);
    cluster.kill("edge2");
    cluster.lose_disk("edge2");
    writer.writes(20).await;
    cluster.restart("edge2").await;
    let after = until("edge2 votes with its new store", async || {
        let voters = cluster.admin("cloud").voters().await.ok()?;
        let stores = store_of(&voters);
        (stores.len() == 1 && stores != before && voters.members.len() == 3).then_some(voters)
    })
    .await;
    assert_eq!(voting(&after), ["cloud", "edge1", "edge2"]);
    // It counts: another one may die.
    cluster.replicated("cloud", "Cmeter").await;
    cluster.kill("edge1");
    writer.writes(20).await;
    cluster.restart("edge1").await;
    history::finish("voter without its disk", &mut cluster, vec![writer]).await;
}

/// The fourth and fifth node stand in no other node's topology.
#[tokio::test]
async fn three_voters_become_five_under_writers_and_a_founder_dies() {
    let mut cluster = Cluster::start().await;
    let writers = vec![Writer::start(&cluster, "m1", "edge1").await, Writer::start(&cluster, "m2", "edge2").await];
    for name in ["edge3", "edge4"] {
        cluster.join(name).await;
        change(&cluster, "cloud", VoterAction::Add, name, None).await;
    }
    for writer in &writers {
        writer.writes(20).await;
    }
    let five = ["cloud", "edge1", "edge2", "edge3", "edge4"];
    assert_eq!(voting(&voters(&cluster, "edge1").await), five);
    // Again does no harm.
    assert_eq!(voting(&change(&cluster, "edge2", VoterAction::Add, "edge3", None).await), five);
    for name in five {
        let names: Vec<String> =
            cluster.admin(name).status().await.unwrap().members.into_iter().map(|m| m.name).collect();
        assert_eq!(names, five, "{name} knows everybody");
    }
    // A device goes to a newcomer, and its address leads there from everywhere.
    let moved = writers[0].device.ae_id.clone();
    cluster.replicated("cloud", &moved).await;
    cluster.move_to("cloud", &moved, "edge4").await;
    writers[0].writes(20).await;
    // Two of five may die: a founder, and the founder that leads the directory.
    cluster.kill("edge1");
    writers[0].writes(20).await;
    // The copy that just died still counts until the directory has noticed; who dies next must not be the only other one.
    for ae in [&moved, &writers[1].device.ae_id] {
        cluster
            .placed("edge3", ae, "two living replicas in sync", |p| {
                p.in_sync.len() >= 2 && p.primary.is_some() && !p.in_sync.contains(&"edge1".to_owned())
            })
            .await;
    }
    let leader = cluster.directory_leader().await;
    let second = if leader == "cloud" { "edge2" } else { "cloud" };
    cluster.kill(second);
    for writer in &writers {
        writer.writes(20).await;
    }
    // Together: what one took over from the other may have had no second copy yet when it died.
    for name in ["edge1", second] {
        cluster.spawn(name);
    }
    for name in ["edge1", second] {
        cluster.ready(name).await;
    }
    // All of them at once, and each knows the others again.
    cluster.kill_all();
    for name in five {
        cluster.spawn(name);
    }
    for name in five {
        cluster.ready(name).await;
    }
    for writer in &writers {
        writer.writes(20).await;
    }
    assert_eq!(voting(&voters(&cluster, "edge4").await), five);
    history::finish("three voters become five", &mut cluster, writers).await;
}

#[tokio::test]
async fn node_that_goes_for_good_is_replaced_everywhere() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    cluster.join("edge3").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    let admin = cluster.admin("cloud");
    let remove = || NodeOrder { node: "edge1".into(), deadline_ms: 2_000 };
    assert_eq!(code(admin.remove_node(&remove()).await.unwrap_err()), (409, "node-up".into()));
    cluster.kill("edge1");
    until("it is dead and votes", async || {
        admin.remove_node(&remove()).await.err().map(code).filter(|c| c.1 == "node-votes")
    })
    .await;
    change(&cluster, "cloud", VoterAction::Replace, "edge1", Some("edge3")).await;
    // Its groups are repaired elsewhere meanwhile; nothing is out before that.
    until("edge1 is out", async || admin.remove_node(&remove()).await.ok().filter(|r| r.done)).await;
    let again = admin.remove_node(&remove()).await.unwrap();
    assert!(again.done && again.waiting_for.is_empty(), "{again:?}");
    assert_eq!(voting(&voters(&cluster, "edge2").await), ["cloud", "edge2", "edge3"]);
    for group in cluster.directory("cloud").await.unwrap().groups {
        assert!(group.primary.is_some() && !group.in_sync.contains(&"edge1".to_owned()), "{group:?}");
        assert!(!group.synced.contains(&"edge1".to_owned()), "{group:?}");
    }
    let names: Vec<String> = admin.status().await.unwrap().members.into_iter().map(|m| m.name).collect();
    assert_eq!(names, ["cloud", "edge2", "edge3"]);
    assert_eq!(cluster.replicated("cloud", "Cmeter").await.in_sync.len(), 2);
    writer.writes(20).await;
    // Its number is never used again: should somebody start it, it is told so, and changes nothing.
    cluster.spawn("edge1");
    assert_eq!(cluster.ended("edge1").await, Some(2));
    assert!(cluster.logged("edge1").contains("removed for good"), "{}", cluster.logged("edge1"));
    cluster.forget("edge1");
    // Everybody else comes back without it.
    cluster.kill_all();
    for name in cluster.names() {
        cluster.spawn(&name);
    }
    for name in cluster.names() {
        cluster.ready(&name).await;
    }
    writer.writes(20).await;
    history::finish("a node goes for good", &mut cluster, vec![writer]).await;
}

#[tokio::test]
async fn group_without_members_is_led_by_order_and_the_loss_is_said() {
    let mut cluster = Cluster::start_with(|t| t.storage.replicas = 1).await;
    let meter = device(&cluster, "meter", "edge1").await;
    let place = cluster.placed("cloud", &meter.ae_id, "edge1 alone has it", |p| p.in_sync == ["edge1"]).await;
    let admin = cluster.admin("cloud");
    let force = |accept_data_loss| ForceOrder { node: "edge2".into(), accept_data_loss };
    assert_eq!(code(admin.force(&place.group, &force(true)).await.unwrap_err()), (409, "group-led".into()));
    cluster.kill("edge1");
    cluster.lose_disk("edge1");
    cluster.placed("cloud", &meter.ae_id, "nobody leads it", |p| p.primary.is_none()).await;
    assert_eq!(code(admin.force(&place.group, &force(false)).await.unwrap_err()), (409, "data-loss".into()));
    assert_eq!(code(admin.force("1.ffff.0", &force(true)).await.unwrap_err()), (404, "no-group".into()));
    assert_eq!(code(admin.force("nonsense", &force(true)).await.unwrap_err()), (404, "no-group".into()));
    let forced = admin.force(&place.group, &force(true)).await.unwrap();
    assert!(forced.text.contains("edge1") && forced.epoch > place.epoch, "{forced:?}");
    assert!(forced.text.contains("no copy") && forced.copy.is_none(), "it says how old its copy is: {forced:?}");
    let again = admin.force(&place.group, &force(true)).await;
    assert!(again.is_ok() || code(again.unwrap_err()).1 == "no-group", "twice does no harm");
    // Nothing of it was left, so its names are free: the device registers anew.
    until("the device registers anew", async || {
        let answer = cluster.client("edge2", &meter.ae_id).send(&onemec_tests::client::registration("meter")).await;
        answer.ok().filter(|a| a.status == 201).map(drop)
    })
    .await;
}

/// A dead node takes nobody's vote; who is replaced alive comes back as a learner, and may vote again.
#[tokio::test]
async fn a_voter_is_replaced_by_a_live_node_alone_and_may_come_back() {
    let mut cluster = Cluster::start_five().await;
    let before = voters(&cluster, "cloud").await;
    let learner = before.members.iter().find(|m| !m.votes).map(|m| m.node.clone()).unwrap();
    let leader = cluster.directory_leader().await;
    let old = voting(&before).into_iter().find(|n| *n != leader).unwrap().to_owned();
    cluster.kill(&learner);
    until("the learner is dead", async || state(&cluster, &leader, &learner).await.filter(|s| s == "dead")).await;
    for order in [order(VoterAction::Replace, &old, Some(&learner)), order(VoterAction::Add, &learner, None)] {
        let refused = cluster.admin(&leader).change_voters(&order).await.unwrap_err();
        assert_eq!(code(refused), (409, "not-up".into()), "{order:?}");
    }
    assert_eq!(voting(&voters(&cluster, &leader).await), voting(&before), "nothing was changed");

    cluster.restart(&learner).await;
    let after = change(&cluster, &leader, VoterAction::Replace, &old, Some(&learner)).await;
    assert!(voting(&after).contains(&learner.as_str()) && !voting(&after).contains(&old.as_str()), "{after:?}");
    until("who was replaced learns again", async || {
        let voters = cluster.admin(&leader).voters().await.ok()?;
        voters.members.into_iter().find(|m| m.node == old && !m.votes && m.up)
    })
    .await;
    let again = change(&cluster, &leader, VoterAction::Add, &old, None).await;
    assert_eq!(voting(&again).len(), 4, "{again:?}");
    assert!(voting(&again).contains(&old.as_str()));
    cluster.assert_all_run();
}

/// Three of five: the third death is not believed until an operator says so.
#[tokio::test]
async fn mass_death_is_confirmed_by_an_operator() {
    let mut cluster = Cluster::start_five().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    // The two that do not vote, and then a voter: a quorum is left.
    let mut dead = Vec::new();
    let voters = voters(&cluster, "cloud").await;
    let learners: Vec<String> = voters.members.iter().filter(|m| !m.votes).map(|m| m.node.clone()).collect();
    assert_eq!(learners.len(), 2);
    for name in learners {
        cluster.kill(&name);
        until(&format!("{name} is dead"), async || state(&cluster, "cloud", &name).await.filter(|s| s == "dead")).await;
        dead.push(name);
    }
    cluster.placed("cloud", "Cmeter", "it is repaired", |p| p.in_sync.len() == 3 && p.primary.is_some()).await;
    // So is every other group, the CSEBases' of the dead included: the voter that dies next must not be the only one who has
    // it, or a node that returns waits for that voter.
    until("every group has two living members", async || {
        let living = |p: &onemec_node::admin::types::Placement| p.in_sync.iter().filter(|n| !dead.contains(n)).count();
        let groups = cluster.directory("cloud").await?.groups;
        groups.iter().all(|p| p.primary.is_some() && living(p) >= 2).then_some(())
    })
    .await;
    let voter = "edge1";
    cluster.kill(voter);
    until("an alarm", async || {
        let leader = cluster.admin("cloud").status().await.ok()?.directory_leader?;
        let alarms = cluster.admin(&leader).status().await.ok()?.alarms;
        alarms.into_iter().find(|a| a.code == "mass-death" && a.text.contains(voter))
    })
    .await;
    let said = until("every node says that it waits, and for what", async || {
        let ae = cluster.admin("cloud").ae("Cmeter").await.ok()?;
        // The device may be served elsewhere by now; its former host is shown as silent in any case.
        let silent = state(&cluster, "cloud", voter).await.filter(|s| s == "silent");
        silent.and((ae.primary != voter || ae.state == "unconfirmed").then_some(ae))
    })
    .await;
    assert_eq!(said.waits_for.is_some(), said.primary == voter, "{said:?}");
    until("its death is confirmed", async || {
        let leader = cluster.admin("cloud").status().await.ok()?.directory_leader?;
        let other = cluster.names().into_iter().find(|n| *n != leader && *n != voter && !dead.contains(n))?;
        // Only who leads hears of leases; and one that lives is not harmed.
        let orders = DeathsOrder { nodes: vec![voter.into(), other.clone()] };
        assert_eq!(code(cluster.admin(&other).confirm_deaths(&orders).await.unwrap_err()).1, "not-leader");
        let deaths = cluster.admin(&leader).confirm_deaths(&orders).await.ok()?;
        assert_eq!(deaths.alive, [other], "one that lives is not harmed");
        deaths.dead.contains(&voter.to_owned()).then_some(())
    })
    .await;
    writer.writes(20).await;
    dead.push(voter.into());
    for name in dead {
        cluster.restart(&name).await;
    }
    history::finish("mass death", &mut cluster, vec![writer]).await;
}

async fn state(cluster: &Cluster, at: &str, name: &str) -> Option<String> {
    let members = cluster.admin(at).status().await.ok()?.members;
    members.into_iter().find(|m| m.name == name).map(|m| m.state)
}
