//! Access control (rules.md 14), also by policies that lie in another context.

use onemec_onem2m::{Operation, Request, Ty};
use serde_json::json;

use crate::support::{Out, START_MS, World};

fn policy(name: &str, who: &str, operations: u32) -> serde_json::Value {
    json!({"m2m:acp": {"rn": name,
        "pv": {"acr": [{"acor": [who], "acop": operations}]},
        "pvs": {"acr": [{"acor": ["Cone"], "acop": 63}]}}})
}

async fn world() -> World {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    world
}

#[tokio::test]
async fn without_policies_only_the_creator() {
    let world = world().await;
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 2000);
    assert_eq!(world.retrieve("cse-a/one/data", "/id-a/Cone").await.rsc, 2000);
    for op in [Operation::Retrieve, Operation::Delete] {
        assert_eq!(world.send(op, "cse-a/one/data", "Ctwo", None, None).await.rsc, 4103);
    }
    assert_eq!(world.update("cse-a/one/data", "Ctwo", json!({"m2m:cnt": {"mni": 1}})).await.rsc, 4103);
    assert_eq!(world.retrieve("cse-a/one/data", "CAdmin").await.rsc, 2000);
    // What an AE makes below the CSEBase is its own as well.
    world.created("cse-a", "Ctwo", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "common"}})).await;
    assert_eq!(world.retrieve("cse-a/common", "Ctwo").await.rsc, 2000);
    assert_eq!(world.retrieve("cse-a/common", "Cone").await.rsc, 4103);
}

#[tokio::test]
async fn a_policy_of_the_same_ae() {
    let world = world().await;
    let acp = world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("acp", "Ct*", 2 + 1)).await;
    let ri = acp["m2m:acp"]["ri"].as_str().unwrap().to_owned();
    // By a structured address; it is kept by its id.
    let out = world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": ["cse-a/one/acp"]}})).await;
    assert_eq!((out.rsc, &out.body["m2m:cnt"]["acpi"]), (2004, &json!([ri])), "{}", out.body);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 2000);
    assert_eq!(
        world.create("cse-a/one/data", "Ctwo", Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": "x"}})).await.rsc,
        2001
    );
    assert_eq!(world.retrieve("cse-a/one/data/la", "Ctwo").await.rsc, 2000);
    assert_eq!(world.delete("cse-a/one/data", "Ctwo").await.rsc, 4103);
    // A policy is an answer to everybody's question: its creator is not in it.
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 4103);
    // `acpi` is changed with UPDATE in the policy's own rules, the policy likewise.
    assert_eq!(world.update("cse-a/one/data", "Ctwo", json!({"m2m:cnt": {"acpi": null}})).await.rsc, 4103);
    assert_eq!(world.update("cse-a/one/acp", "Ctwo", policy_update(63)).await.rsc, 4103);
    assert_eq!(world.update("cse-a/one/acp", "Cone", policy_update(63)).await.rsc, 2004);
    assert_eq!(world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": null}})).await.rsc, 2004);
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 2000);
    let both = json!({"m2m:cnt": {"acpi": [ri], "mni": 3}});
    assert_eq!(world.update("cse-a/one/data", "Cone", both).await.rsc, 4000, "acpi stands alone");
}

/// A policy that is not there, or was deleted, neither grants anything to others nor locks the owner out (TS-0001
/// 9.6.1.3.2: the default privileges apply).
#[tokio::test]
async fn policies_that_are_not_there_leave_the_resource_to_its_owner() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    let nowhere = ["cse-a/one/none", "/id-b/cse-b/none", "/id-elsewhere/x", "cse-a/one"];
    let set = world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": nowhere}})).await;
    assert_eq!(set.rsc, 2004, "{}", set.body);
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 2000);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 4103);
    let steal = json!({"m2m:cnt": {"acpi": null}});
    assert_eq!(world.update("cse-a/one/data", "Ctwo", steal).await.rsc, 4103);
    // One that is there decides alone; when it is deleted the owner has the resource again.
    world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("acp", "Ctwo", 2)).await;
    let both = json!({"m2m:cnt": {"acpi": ["cse-a/one/none", "cse-a/one/acp"]}});
    assert_eq!(world.update("cse-a/one/data", "Cone", both).await.rsc, 2004);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 2000);
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 4103);
    assert_eq!(world.delete("cse-a/one/acp", "Cone").await.rsc, 2002);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 4103);
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.rsc, 2000);
    // An AE that registers with one is not lost to its device either.
    let ae = json!({"m2m:ae": {"rn": "lost", "api": "N", "rr": false, "srv": ["3"], "acpi": ["cse-a/none"]}});
    world.created("cse-a", "Clost", Ty::AE, ae).await;
    assert_eq!(world.retrieve("cse-a/lost", "Clost").await.rsc, 2000);
    assert_eq!(world.delete("cse-a/lost", "Clost").await.rsc, 2002);
}

/// The privilege to notify counts wherever the AE is served, and when its policy lies in another context: either was
/// handed on unasked.
#[tokio::test]
async fn nobody_notifies_an_ae_without_privilege() {
    let world = World::two().await;
    let at = crate::support::Answering::start("").await;
    world
        .created(
            "cse-a",
            "Cone",
            Ty::AE,
            json!({"m2m:ae": {"rn": "one", "api": "Ntest", "rr": true, "srv": ["3"], "poa": [at.url]}}),
        )
        .await;
    world.ae("Ctwo", "two").await;
    let notify = async |node: usize, fr: &str| {
        let mut request = Request::new(Operation::Notify, "/id-a/cse-a/one", fr, "n1");
        request.pc = Some(json!({"m2m:sgn": {"sur": "x"}}).to_string().into());
        Out::of(world.all[node].0.handle(request, Default::default()).await).rsc
    };
    for node in [0, 1] {
        assert_eq!(notify(node, "/id-a/Ctwo").await, 4103, "node {node}");
        assert_eq!(notify(node, "/id-a/Cone").await, 2000, "node {node}");
    }
    world.created("cse-a", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("shared", "Ctwo", 16)).await;
    assert_eq!(world.update("cse-a/one", "Cone", json!({"m2m:ae": {"acpi": ["cse-a/shared"]}})).await.rsc, 2004);
    for node in [0, 1] {
        assert_eq!(notify(node, "/id-a/Ctwo").await, 2000, "node {node}");
        assert_eq!(notify(node, "/id-a/Cone").await, 4103, "node {node}: the policy does not name it");
    }
}

fn policy_update(operations: u32) -> serde_json::Value {
    json!({"m2m:acp": {"pv": {"acr": [{"acor": ["all"], "acop": operations}]}}})
}

#[tokio::test]
async fn a_policy_in_another_context() {
    let world = world().await;
    world.created("cse-a", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("shared", "Ctwo", 2)).await;
    assert_eq!(world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": ["cse-a/shared"]}})).await.rsc, 2004);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 2000);
    assert_eq!(world.update("cse-a/one/data", "Ctwo", json!({"m2m:cnt": {"mni": 1}})).await.rsc, 4103);
    // A policy that is gone grants nothing.
    assert_eq!(world.delete("cse-a/shared", "Cone").await.rsc, 2002);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 4103);
    assert_eq!(world.retrieve("cse-a/one/data", "CAdmin").await.rsc, 2000);
}

#[tokio::test]
async fn a_policy_without_self_privileges_is_refused() {
    let world = world().await;
    for pvs in [json!({}), json!({"acr": []})] {
        let body = json!({"m2m:acp": {"pv": {"acr": []}, "pvs": pvs}});
        let out = world.create("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, body).await;
        assert_eq!(out.rsc, 4000, "{}", out.body);
    }
}

#[tokio::test]
async fn a_group_as_originator() {
    let world = world().await;
    world.created("cse-a", "Cone", Ty::GROUP, json!({"m2m:grp": {"rn": "friends", "mnm": 5, "mid": ["Ctwo"]}})).await;
    world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("acp", "cse-a/friends", 2)).await;
    world.ae("Cthree", "three").await;
    assert_eq!(world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": ["cse-a/one/acp"]}})).await.rsc, 2004);
    assert_eq!(world.retrieve("cse-a/one/data", "Ctwo").await.rsc, 2000);
    assert_eq!(world.retrieve("cse-a/one/data", "Cthree").await.rsc, 4103);
}

#[tokio::test]
async fn policies_may_be_used_from_another_cse() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, policy("acp", "/id-b/Cb", 2)).await;
    assert_eq!(world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": ["cse-a/one/acp"]}})).await.rsc, 2004);
    let b = &world.all[1].0;
    let mut register = Request::new(Operation::Create, "cse-b", "Cb", "r1");
    register.ty = Some(Ty::AE);
    register.pc = Some(json!({"m2m:ae": {"rn": "b", "api": "N", "rr": true, "srv": ["3"]}}).to_string().into());
    assert_eq!(b.handle(register, Default::default()).await.response.rsc.0, 2001);
    let ask = Request::new(Operation::Retrieve, "/id-a/cse-a/one/data", "Cb", "r2");
    let out = Out::of(b.handle(ask, Default::default()).await);
    assert_eq!(out.rsc, 2000, "{}", out.body);
    let _ = START_MS;
}
