//! After a run: reads everything back through the IN-CSE, gathers the nodes' audit logs, and asks the history checker
//! (`onemec_node::demo::checker`), which has planted violations of its own.

use std::time::Duration;

use onemec_device::sink::digest;
use onemec_node::demo::checker::{Evidence, History, ReadBack, Verdict, check};
use serde_json::Value;

use crate::client::{Ask, reading_of};
use crate::cluster::Cluster;
use crate::wait::until;
use crate::writer::{Device, Writer, Written};

/// Instances per request.
const PAGE: usize = 500;

/// Numbers of the readings in a device's container, as `at` gives them, in the container's order (state tags).
pub async fn read_back(cluster: &Cluster, at: &str, device: &Device) -> Vec<u64> {
    readings(cluster, at, device).await.into_iter().map(|r| r.number).collect()
}

async fn readings(cluster: &Cluster, at: &str, device: &Device) -> Vec<ReadBack> {
    let mut client = cluster.client(at, &device.ae_id);
    let mut all: Vec<(u64, ReadBack)> = Vec::new();
    let mut offset = 1;
    loop {
        let path = format!("{}?rcn=8&ty=4&lim={PAGE}&ofst={offset}", device.container);
        let page = until(&format!("{} is read back at {at}", device.name), async || {
            let answer = client.send(&Ask::retrieve(&path)).await.ok()?;
            answer.status.is_success().then_some(answer)
        })
        .await;
        let body: Value = serde_json::from_slice(&page.body).unwrap_or_default();
        let mut found = Vec::new();
        instances(&body, &mut found);
        let count = found.len();
        all.extend(found);
        if count < PAGE {
            break;
        }
        offset += count;
    }
    // The state tag of an instance is its container's counter: the order of creation.
    all.sort_by_key(|(tag, r)| (*tag, r.number));
    all.into_iter().map(|(_, reading)| reading).collect()
}

fn instances(value: &Value, out: &mut Vec<(u64, ReadBack)>) {
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        match (key.as_str(), value) {
            ("m2m:cin", Value::Array(list)) => out.extend(list.iter().map(tagged)),
            ("m2m:cin", one) => out.push(tagged(one)),
            (_, nested) => instances(nested, out),
        }
    }
}

fn tagged(instance: &Value) -> (u64, ReadBack) {
    let number = reading_of(instance).unwrap_or_else(|| panic!("an instance that no writer wrote: {instance}"));
    let digest = digest(instance["con"].as_str().unwrap_or_default());
    (instance["st"].as_u64().expect("an instance has a state tag"), ReadBack { number, digest })
}

/// Checks a run on which every node runs again: nothing lost, doubled, out of order; one primary per epoch; one registrar.
///
/// # Panics
/// If an invariant is broken.
pub async fn verify(cluster: &Cluster, written: &[Written]) -> Verdict {
    let in_cse = cluster.topology().in_cse().unwrap().name.clone();
    let mut evidence = Evidence { torn_lines_allowed: cluster.kills(), ..Evidence::default() };
    for one in written {
        let read_back = readings(cluster, &in_cse, &one.device).await;
        evidence.histories.push(History { device: one.device.name.clone(), events: one.events.clone(), read_back });
    }
    evidence.views.push(until("a view of the directory", async || cluster.directory(&in_cse).await).await);
    for name in cluster.names() {
        let (lines, torn) = onemec_node::demo::evidence::audit_file(&cluster.audit_file(&name)).unwrap();
        evidence.logs.extend(lines);
        evidence.torn_lines += torn;
        evidence.nodes.push(name.clone());
        let at_home = until(&format!("AEs of {name}"), async || cluster.admin(&name).aes(Some(&name)).await.ok()).await;
        evidence.registrars.insert(name, at_home.into_iter().map(|a| a.ae_id).collect());
    }
    let verdict = check(&evidence);
    assert!(verdict.is_clean(), "invariants are broken: {:#?}", verdict.violations);
    assert!(verdict.acknowledged > 0, "nothing was written, so nothing was shown");
    verdict
}

/// The end of a test with writers: ends them, and says what it came to. Every node that was started must run still, nothing
/// may have been refused.
///
/// # Panics
/// If an invariant is broken.
pub async fn finish(test: &str, cluster: &mut Cluster, writers: Vec<Writer>) -> (Vec<Written>, Verdict) {
    let mut written = Vec::new();
    for writer in writers {
        written.push(writer.finish().await);
    }
    cluster.assert_all_run();
    let verdict = verify(cluster, &written).await;
    report(test, &written, &verdict);
    assert_eq!(verdict.refused, 0);
    (written, verdict)
}

/// Prints what a run measured; tests assert no times.
pub fn report(test: &str, written: &[Written], verdict: &Verdict) {
    let gap = written.iter().map(Written::longest_gap).max().unwrap_or(Duration::ZERO);
    println!(
        "{test}: {} acknowledged, {} unknown, {} refused, lost {}, doubled {}, out of order {}; longest gap {} ms",
        verdict.acknowledged,
        verdict.unknown,
        verdict.refused,
        verdict.lost,
        verdict.doubled,
        verdict.out_of_order,
        gap.as_millis()
    );
}
