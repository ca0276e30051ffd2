//! Gossip over the network in memory; predicates and roles over facts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use onemec_core::directory::Command;
use onemec_wire::{Member, NodeId};

use super::*;
use crate::directory::testing::{Switch, until};

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

fn facts(domain: &str, cores: u32, latitude: f64) -> NodeFacts {
    NodeFacts {
        capabilities: Capabilities {
            roles: set(&["cse"]),
            domain: domain.into(),
            location: Some(Location { latitude_deg: latitude, longitude_deg: 13.4 }),
            cpu_cores: cores,
            memory_bytes: 16_000_000_000,
            ..Capabilities::default()
        },
        valid_ms: 10_000,
        ..NodeFacts::default()
    }
}

fn all() -> BTreeMap<NodeId, NodeFacts> {
    BTreeMap::from([
        (NodeId(1), facts("north", 4, 52.5)),
        (NodeId(2), facts("north", 16, 52.6)),
        (NodeId(3), facts("south", 8, 48.1)),
        (NodeId(4), facts("north", 4, 52.4)),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_says_reaches_all_and_expires() {
    let switch: Arc<Switch> = Arc::default();
    let mut nodes = Vec::new();
    for node in 1..=4u64 {
        let mut options = MembershipOptions::new("test", BTreeSet::from([NodeId(1)]));
        options.every = Duration::from_millis(20);
        options.valid = Duration::from_millis(if node == 4 { 300 } else { 60_000 });
        let said = facts("north", node as u32, 52.0).capabilities;
        let started = MembershipService::start(switch.port(node), None, Member::new(node, 1), said, options).await;
        nodes.push(started.unwrap());
    }
    for service in &nodes {
        until("all to hear of all", || (service.handle().all().len() == 4).then_some(())).await;
        assert_eq!(service.handle().capabilities(NodeId(3)).unwrap().capabilities.cpu_cores, 3);
    }
    nodes[1].handle().set_load(Load { cpu: 0.75, ..Load::default() }).await;
    let third = nodes[2].handle();
    until("a load to arrive", || (third.capabilities(NodeId(2))?.load.cpu == 0.75).then_some(())).await;
    // Node 4 says nothing any more.
    drop(nodes.pop());
    until("it to expire", || third.capabilities(NodeId(4)).is_none().then_some(())).await;
    assert_eq!(third.all().len(), 3);
    assert_eq!(third.heard().len(), 4);
}

#[test]
fn addresses_stand_for_nodes() {
    for node in [0, 1, 77, u64::MAX] {
        assert_eq!(socket::node_of(socket::address_of(NodeId(node))), Some(NodeId(node)));
    }
    assert_eq!(socket::node_of("127.0.0.1:7".parse().unwrap()), None);
    assert_eq!(socket::node_of("[fd00::1]:7".parse().unwrap()), None);
}

#[test]
fn a_federation_group_has_who_satisfies_its_predicate_and_says_why_others_are_out() {
    let berlin = Location { latitude_deg: 52.52, longitude_deg: 13.4 };
    let predicate = Predicate {
        domains: set(&["north"]),
        near: vec![Near { centre: berlin, radius_km: 10.0 }],
        cpu_cores_min: 8,
        ..Predicate::default()
    };
    let (group, excluded) = FederationGroup::evaluate(predicate, &all());
    assert_eq!(group.members, BTreeSet::from([NodeId(2)]));
    assert_eq!(excluded[&NodeId(1)], [Unmet::Cpu]);
    assert_eq!(excluded[&NodeId(3)], [Unmet::Domain, Unmet::Place]);
    assert_eq!(excluded[&NodeId(4)], [Unmet::Place, Unmet::Cpu]);
    let Ok(Command::SetFact { name, value: Some(value) }) = group.command("city") else { panic!() };
    assert_eq!(name, "federation/city");
    assert_eq!(FederationGroup::read(&value).unwrap(), group);
}

#[test]
fn everybody_satisfies_an_empty_predicate_and_nobody_an_unsaid_latency() {
    let (group, _) = FederationGroup::evaluate(Predicate::default(), &all());
    assert_eq!(group.members.len(), 4);
    let quick = Predicate { latency_ms_max: Some(5.0), ..Predicate::default() };
    assert!(FederationGroup::evaluate(quick, &all()).0.members.is_empty());
}

#[test]
fn roles_go_to_the_fittest_and_do_not_wander() {
    let (any, nobody) = (Predicate::default(), BTreeSet::new());
    let role = AssignedRole::SwarmWorker;
    let first = assign(role, &any, 2, &all(), &nobody);
    let nodes = |a: &Assignment| a.nodes.iter().map(|(n, _)| n.0).collect::<Vec<_>>();
    assert_eq!(nodes(&first), [2, 3]);
    assert_eq!(first.excluded[&NodeId(1)], Excluded::Enough);
    let Ok(Command::SetFact { value: Some(value), .. }) = first.command(role) else { panic!() };
    let holders = Assignment::read(&value).unwrap();
    // A little more load changes nothing; a lot does.
    let mut busy = all();
    busy.get_mut(&NodeId(3)).unwrap().load.cpu = 0.6;
    assert_eq!(nodes(&assign(role, &any, 2, &busy, &nobody)), [2, 1], "without a holder");
    assert_eq!(nodes(&assign(role, &any, 2, &busy, &holders)), [2, 3]);
    busy.get_mut(&NodeId(3)).unwrap().load = Load { cpu: 1.0, memory: 1.0, ..Load::default() };
    assert_eq!(nodes(&assign(role, &any, 2, &busy, &holders)), [2, 1], "ties go to the lower id");
    for role in AssignedRole::ALL {
        assert!(all().values().all(|f| (0.0..=1.0).contains(&role.fitness(f))));
    }
}
