//! The supervision tree of a node (DESIGN.md section 4): every long-lived task is in it, one that crashes is made anew, and one
//! that crashes in a loop escalates: the node begins anew, and at last its process ends.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use onemec_node::admin::types::{Status, Supervised};
use onemec_tests::wait::until;
use onemec_tests::{Cluster, Writer, history};

const TASK: &str = "steward/load";

async fn status(cluster: &Cluster, name: &str) -> Option<Status> {
    cluster.admin(name).status().await.ok()
}

fn find<'a>(part: &'a Supervised, path: &str) -> Option<&'a Supervised> {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let child = part.children.iter().find(|c| c.name == first)?;
    if rest.is_empty() { Some(child) } else { find(child, rest) }
}

fn incarnation(status: &Status) -> u64 {
    status.members.iter().find(|m| m.name == status.node).unwrap().incarnation
}

#[tokio::test]
async fn every_long_lived_task_is_in_the_tree_and_is_made_anew_when_it_crashes() {
    let cluster = Cluster::start_with(|t| t.limits.buffer_bytes_max = 1 << 20).await;
    let first = status(&cluster, "edge1").await.unwrap();
    let (first, tree) = (incarnation(&first), first.supervision.unwrap());
    let expected = [
        "admin",
        "cluster/federation",
        "cluster/nodes",
        "cse/http",
        "cse/local-buffer",
        "directory/elections",
        "directory/membership",
        "directory/proposals",
        "directory/reads",
        "groups/placements",
        "journal",
        "lease/burials",
        "network/gossip",
        "network/peers",
        "steward/drains",
        "steward/load",
        "steward/moves",
        "steward/registrars",
    ];
    for path in expected {
        assert_eq!(find(&tree, path).map(|p| p.state.as_str()), Some("running"), "{path} in {tree:#?}");
    }
    // Each that can be made anew is, and the node goes on.
    let kept = expected.iter().filter(|p| !matches!(**p, "cse/http" | "journal" | "lease/burials"));
    for path in kept.filter(|p| !matches!(**p, "directory/proposals" | "directory/reads")) {
        cluster.crash("edge1", path, false);
        until(&format!("{path} is made anew"), async || {
            let tree = status(&cluster, "edge1").await?.supervision?;
            let part = find(&tree, path)?;
            (part.state == "running" && part.restarts == 1 && part.last_failure.is_some()).then_some(())
        })
        .await;
    }
    assert_eq!(incarnation(&status(&cluster, "edge1").await.unwrap()), first, "nothing of it escalated");
}

#[tokio::test]
async fn crash_loop_escalates_to_the_node_and_then_to_its_process() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    let first = incarnation(&status(&cluster, "edge1").await.unwrap());
    cluster.crash("edge1", TASK, true);
    until("the node begins anew and says why", async || {
        let status = status(&cluster, "edge1").await?;
        let alarm = status.alarms.iter().find(|a| a.code == "crash-loop")?;
        assert!(alarm.text.contains(TASK), "{alarm:?}");
        (incarnation(&status) > first).then_some(())
    })
    .await;
    writer.writes(20).await;
    // It crashes on: after three beginnings within ten minutes the process ends.
    for boot in 2..=3 {
        until(&format!("boot {boot}, or the end"), async || {
            let seen = status(&cluster, "cloud").await?;
            let edge1 = seen.members.into_iter().find(|m| m.name == "edge1")?;
            (edge1.incarnation >= first + boot).then_some(())
        })
        .await;
    }
    assert_eq!(cluster.ended("edge1").await, Some(2));
    assert!(cluster.logged("edge1").contains("crash-loop"), "it says why it ended");
    writer.writes(20).await;
    cluster.crash_nothing("edge1");
    cluster.restart("edge1").await;
    assert!(status(&cluster, "edge1").await.unwrap().alarms.iter().all(|a| a.code != "crash-loop"));
    let written = vec![writer.finish().await];
    let verdict = history::verify(&cluster, &written).await;
    history::report("crash loop", &written, &verdict);
}
