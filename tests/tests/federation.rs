//! Federation groups and roles by capability (rows O01 to O04) on real nodes: from what nodes say of themselves, not from a
//! list in a file; a dead holder's role is another's.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_node::admin::types::{Federation, FederationGroup};
use onemec_node::topology::{Circle, FederationRule, Location, Roles};
use onemec_tests::Cluster;
use onemec_tests::wait::until;

async fn federation(cluster: &Cluster, at: &str, what: &str, is: impl Fn(&Federation) -> bool) -> Federation {
    until(what, async || cluster.admin(at).status().await.ok().map(|s| s.federation).filter(&is)).await
}

fn members<'a>(federation: &'a Federation, name: &str) -> &'a [String] {
    federation.groups.iter().find(|g| g.name == name).map_or(&[], |g: &FederationGroup| &g.members)
}

fn holders<'a>(federation: &'a Federation, role: &str) -> &'a [String] {
    federation.roles.iter().find(|r| r.role == role).map_or(&[], |r| &r.holders)
}

async fn start() -> Cluster {
    Cluster::start_with(|t| {
        let group = |name: &str| FederationRule { name: name.into(), ..FederationRule::default() };
        t.federation_group = vec![
            FederationRule { near: Some(Circle { lat: 52.5, lon: 13.4, km: 20.0 }), ..group("berlin") },
            FederationRule { gpus_min: 1, trust: vec!["operator".into()], ..group("gpu") },
            FederationRule { domains: vec!["elsewhere".into()], ..group("nobody") },
        ];
        t.federation_roles = Roles { handover_anchors: 0, swarm_workers: 2, learning_participants: 1 };
        for node in &mut t.node {
            let c = &mut node.capabilities;
            (c.gpus, c.cpu_cores, c.trust) = (Some(0), Some(2), Vec::new());
            c.location = Some(Location { lat: 52.5, lon: 13.4 });
        }
        let edge1 = &mut t.node[1].capabilities;
        (edge1.gpus, edge1.cpu_cores, edge1.trust) = (Some(1), Some(16), vec!["operator".into()]);
        // Elsewhere, and the machine itself is asked for its memory.
        let edge2 = &mut t.node[2].capabilities;
        (edge2.location, edge2.memory_mib) = (Some(Location { lat: 48.1, lon: 11.6 }), None);
    })
    .await
}

#[tokio::test]
async fn row_o03_groups_by_capability_follow_who_lives() {
    let mut cluster = start().await;
    let all = |f: &Federation| members(f, "berlin") == ["cloud", "edge1"] && members(f, "gpu") == ["edge1"];
    let now = federation(&cluster, "edge2", "groups by place and capability", all).await;
    assert!(members(&now, "nobody").is_empty() && now.groups.len() == 3, "{now:?}");
    cluster.kill("edge1");
    federation(&cluster, "edge2", "without the dead", |f| {
        members(f, "berlin") == ["cloud"] && members(f, "gpu").is_empty()
    })
    .await;
    cluster.restart("edge1").await;
    federation(&cluster, "edge2", "with the one that came back", all).await;
}

#[tokio::test]
async fn row_o04_role_of_a_dead_holder_is_anothers() {
    let mut cluster = start().await;
    // Whoever holds it and whoever leads the directory: the roles are kept there.
    let fit = |f: &Federation| holders(f, "learning-participant") == ["edge1"] && holders(f, "swarm-worker").len() == 2;
    let first = federation(&cluster, "cloud", "the one with an accelerator learns", fit).await;
    assert!(holders(&first, "handover-anchor").is_empty(), "none is wanted: {first:?}");
    cluster.kill("edge1");
    let next = federation(&cluster, "cloud", "another one learns", |f| {
        holders(f, "learning-participant").len() == 1
            && !holders(f, "learning-participant").contains(&"edge1".to_owned())
    })
    .await;
    let heir = holders(&next, "learning-participant")[0].clone();
    let leader = cluster.directory_leader().await;
    println!("edge1 died, {heir} learns now; the directory is led by {leader}");
    cluster.restart("edge1").await;
    federation(&cluster, "cloud", "the clearly fitter one takes it back", fit).await;
    // Who is emptied has no role.
    cluster
        .admin("cloud")
        .drain(&onemec_node::admin::types::DrainOrder { node: "edge1".into(), to: None })
        .await
        .unwrap();
    federation(&cluster, "edge2", "a node that is emptied learns no longer", |f| {
        !holders(f, "learning-participant").contains(&"edge1".to_owned())
            && holders(f, "learning-participant").len() == 1
    })
    .await;
}

#[tokio::test]
async fn row_o01_capabilities_come_from_the_nodes_themselves() {
    let cluster = start().await;
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kib: u64 = memory.split_whitespace().nth(1).unwrap().parse().unwrap();
    until("all nodes are heard", async || {
        let file = cluster.admin("cloud").capabilities().await.ok()?;
        let of = |name: &str| file.nodes.iter().find(|n| n.node == name && n.fresh).map(|n| n.capabilities.clone());
        let (edge1, edge2) = (of("edge1")?, of("edge2")?);
        assert_eq!((edge1.cpu_cores, edge1.gpus), (16, 1), "the topology overrides");
        assert_eq!(edge2.memory_bytes, kib << 10, "the machine was asked");
        (file.nodes.len() == 3).then_some(())
    })
    .await;
}
