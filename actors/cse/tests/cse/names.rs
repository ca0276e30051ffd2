//! Names of AEs and of the other children of a CSEBase: one name space in two places (rule 17).

use onemec_core::context::{Contexts, Key};
use onemec_cse::Caller;
use onemec_onem2m::{Operation, Request, Timestamp, Ty};
use onemec_wire::NodeId;
use serde_json::{Value, json};

use crate::support::{Out, START_MS, World};

fn ae(name: &str) -> Value {
    json!({"m2m:ae": {"rn": name, "api": "Ntest", "rr": true, "srv": ["3"]}})
}

fn container(name: &str) -> Value {
    json!({"m2m:cnt": {"rn": name}})
}

#[tokio::test]
async fn a_name_is_an_aes_or_another_childs() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    assert_eq!(world.create("cse-a", "Cone", Ty::CONTAINER, container("one")).await.rsc, 4105);
    world.created("cse-a", "Cone", Ty::CONTAINER, container("x")).await;
    assert_eq!(world.create("cse-a", "Cone", Ty::CONTAINER, container("x")).await.rsc, 4105);
    assert_eq!(world.create("cse-a", "Ctwo", Ty::AE, ae("x")).await.rsc, 4105);
    // It is free again when the child goes, by a request or because its time is up.
    assert_eq!(world.delete("cse-a/x", "Cone").await.rsc, 2002);
    crate::support::until("the name is given up", || world.node.by_key(&Key::at(NodeId(1), "rn:x")).is_none()).await;
    assert_eq!(world.create("cse-a", "Ctwo", Ty::AE, ae("x")).await.rsc, 2001);
    let et = Timestamp::from_ms(START_MS + 1000).to_string();
    let brief = json!({"m2m:cnt": {"rn": "y", "et": et}});
    world.created("cse-a", "Cone", Ty::CONTAINER, brief).await;
    assert_eq!(world.create("cse-a", "Cthree", Ty::AE, ae("y")).await.rsc, 4105);
    world.cluster.advance(1001);
    assert_eq!(world.create("cse-a", "Cthree", Ty::AE, ae("y")).await.rsc, 2001);
    // A child without a name gets one.
    let unnamed = world.created("cse-a", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {}})).await;
    let name = unnamed["m2m:cnt"]["rn"].as_str().unwrap().to_owned();
    assert_eq!(world.create("cse-a", "Cfour", Ty::AE, ae(&name)).await.rsc, 4105);
}

#[tokio::test]
async fn what_is_refused_takes_no_name() {
    let world = World::two().await;
    world.ae("Cone", "one").await;
    for (ask, rsc) in
        [(json!({"m2m:cnt": {"rn": "x", "mni": "many"}}), 4000), (json!({"m2m:cnt": {"rn": "../x"}}), 4000)]
    {
        assert_eq!(world.create("cse-a", "Cone", Ty::CONTAINER, ask.clone()).await.rsc, rsc);
        // Also where the CSE that is asked cannot look first.
        let mut request = Request::new(Operation::Create, "/id-a/cse-a", "/id-a/Cone", "r1");
        (request.ty, request.pc) = (Some(Ty::CONTAINER), Some(ask.to_string().into()));
        assert_eq!(Out::of(world.all[1].0.handle(request, Caller::default()).await).rsc, rsc);
    }
    assert!(world.node.by_key(&Key::at(NodeId(1), "rn:x")).is_none());
    assert_eq!(world.create("cse-a", "Ctwo", Ty::AE, ae("x")).await.rsc, 2001);
}

#[tokio::test]
async fn a_claim_that_nothing_came_of_does_not_last() {
    let world = World::one().await;
    let base = world.node.by_key(&Key::at(NodeId(1), "base")).unwrap();
    world.node.set_keys(base.context, vec![Key::at(NodeId(1), "rn:x")], vec![]).await.unwrap();
    assert_eq!(world.create("cse-a", "Cone", Ty::AE, ae("x")).await.rsc, 2001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_at_the_same_moment_one_wins() {
    let world = std::sync::Arc::new(World::one().await);
    world.ae("Cone", "one").await;
    for i in 0..100 {
        let name = format!("n{i}");
        let ask = |fr: String, ty, body: Value| {
            let cse = world.cse.clone();
            let mut request = Request::new(Operation::Create, "cse-a", fr, "r1");
            (request.ty, request.pc) = (Some(ty), Some(body.to_string().into()));
            tokio::spawn(async move { Out::of(cse.handle(request, Caller::default()).await).rsc })
        };
        let as_ae = ask(format!("Cae{i}"), Ty::AE, ae(&name));
        let as_child = ask("Cone".into(), Ty::CONTAINER, container(&name));
        let mut got = [as_ae.await.unwrap(), as_child.await.unwrap()];
        got.sort_unstable();
        assert_eq!(got, [2001, 4105], "{name}");
        let found = world.find("cse-a", "CAdmin", "rcn=6&lvl=1&fo=1&ty=2&ty=3").await.body;
        let named = found["m2m:cb"]["ch"].as_array().unwrap().iter().filter(|c| c["nm"] == *name).count();
        assert_eq!(named, 1, "{name}: {found}");
    }
}

#[tokio::test]
async fn an_ae_does_not_move_to_where_its_name_is_taken() {
    let world = World::two().await;
    world.ae("Cone", "one").await;
    let mut request = Request::new(Operation::Create, "/id-b/cse-b", "/id-a/Cone", "r1");
    (request.ty, request.pc) = (Some(Ty::CONTAINER), Some(container("one").to_string().into()));
    assert_eq!(Out::of(world.all[1].0.handle(request, Caller::default()).await).rsc, 2001);
    let one = world.node.by_key(&Key::at(NodeId(1), "rn:one")).unwrap();
    assert!(world.cluster.move_context(one.context, NodeId(2)).is_err());
    assert_eq!(world.retrieve("cse-a/one", "Cone").await.body["m2m:ae"]["rn"], "one");
    assert_eq!(world.retrieve("/id-b/cse-b/one", "CAdmin").await.body["m2m:cnt"]["rn"], "one");
}
