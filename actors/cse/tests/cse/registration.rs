//! AE registration (rules.md 3; rows G01, G05).

use onemec_cse::Caller;
use onemec_onem2m::{Operation, Request, Ty};
use serde_json::json;

use crate::support::{Out, World};

fn ae(name: &str) -> serde_json::Value {
    json!({"m2m:ae": {"rn": name, "api": "Ntest", "rr": true, "srv": ["3"]}})
}

#[tokio::test]
async fn stems_are_given_or_chosen() {
    let world = World::one().await;
    for (fr, class) in [("C", 'C'), ("S", 'S'), ("", 'C')] {
        let out = world.create("cse-a", fr, Ty::AE, ae(&format!("x{class}{}", fr.len()))).await;
        assert_eq!(out.rsc, 2001, "{}", out.body);
        let aei = out.body["m2m:ae"]["aei"].as_str().unwrap();
        assert!(aei.starts_with(class) && aei.len() > 8, "{aei}");
        assert_eq!(out.body["m2m:ae"]["ri"], aei);
        assert_eq!(out.body["m2m:ae"]["pi"], "id-a");
        let back = world.retrieve(aei, aei).await;
        assert_eq!(back.rsc, 2000, "{}", back.body);
    }
    let out = world.create("cse-a", "Cmine", Ty::AE, ae("mine")).await;
    assert_eq!((out.rsc, out.body["m2m:ae"]["aei"].as_str()), (2001, Some("Cmine")));
}

#[tokio::test]
async fn no_name_given_no_name_clash() {
    let world = World::one().await;
    for _ in 0..3 {
        let body = json!({"m2m:ae": {"api": "Ntest", "rr": true, "srv": ["3"]}});
        assert_eq!(world.create("cse-a", "C", Ty::AE, body).await.rsc, 2001);
    }
}

#[tokio::test]
async fn row_g05_one_registrar_and_the_conflict_names_it() {
    let world = World::two().await;
    assert_eq!(world.create("cse-a", "Sdev", Ty::AE, ae("dev")).await.rsc, 2001);
    let again = world.create("cse-a", "Sdev", Ty::AE, ae("other")).await;
    assert_eq!(again.rsc, 4117, "{}", again.body);
    let mut request = Request::new(Operation::Create, "cse-b", "Sdev", "r2");
    request.ty = Some(Ty::AE);
    request.pc = Some(ae("dev").to_string().into());
    let there = Out::of(world.all[1].0.handle(request, Default::default()).await);
    assert_eq!(there.rsc, 4117);
    assert!(there.body.to_string().contains("/id-a"), "{}", there.body);
    assert_eq!(there.handled.home, Some(("http://a.example".into(), 1)));
    let name = world.create("cse-a", "Cother", Ty::AE, ae("dev")).await;
    assert_eq!(name.rsc, 4105, "{}", name.body);
}

#[tokio::test]
async fn what_an_ae_must_say() {
    let world = World::one().await;
    let bodies = [
        json!({"m2m:ae": {"api": "Xtest", "rr": true, "srv": ["3"]}}),
        json!({"m2m:ae": {"rr": true, "srv": ["3"]}}),
        json!({"m2m:ae": {"api": "Ntest", "srv": ["3"]}}),
        json!({"m2m:ae": {"api": "Ntest", "rr": true}}),
        json!({"m2m:ae": {"api": "Ntest", "rr": true, "srv": ["3"], "nonsense": 1}}),
        json!({"m2m:ae": {"api": "Ntest", "rr": true, "srv": ["3"], "ri": "x"}}),
        json!({"m2m:cnt": {}}),
    ];
    for body in bodies {
        let out = world.create("cse-a", "C", Ty::AE, body.clone()).await;
        assert_eq!(out.rsc, 4000, "{body} {}", out.body);
    }
    // A registration goes below a CSEBase, and only below that of the CSE that is asked.
    world.ae("Cone", "one").await;
    assert_eq!(world.create("cse-a/one", "C", Ty::AE, ae("x")).await.rsc, 4108);
    let two = World::two().await;
    assert_eq!(two.create("/id-b/cse-b", "C", Ty::AE, ae("x")).await.rsc, 4000);
    assert_eq!(world.create("cse-a", "/id-a/Cx", Ty::AE, ae("x")).await.rsc, 4000);
    // Nothing of this left a context behind.
    assert_eq!(world.cluster.contexts(), 2);
}

#[tokio::test]
async fn strangers_are_refused() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    assert_eq!(world.retrieve("cse-a", "Cunknown").await.rsc, 4106);
    assert_eq!(world.retrieve("cse-a", "/id-z/C1").await.rsc, 4106);
    assert_eq!(world.retrieve("cse-a", "not an id").await.rsc, 4106);
    assert_eq!(world.retrieve("cse-a", "").await.rsc, 4000);
    assert_eq!(world.retrieve("cse-a", "Cone").await.rsc, 2000);
}

#[tokio::test]
async fn deregistration_ends_the_context() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    assert_eq!(world.cluster.contexts(), 2);
    assert_eq!(world.delete("cse-a/one", "Cone").await.rsc, 2002);
    assert_eq!(world.cluster.contexts(), 1);
    assert_eq!(world.retrieve("cse-a/one", "CAdmin").await.rsc, 4004);
    world.ae("Cone", "one").await;
}

#[tokio::test]
async fn an_mn_cse_registers_at_its_in_cse() {
    let world = World::two().await;
    world.all[1].0.register_at("/id-a").await.unwrap();
    world.all[1].0.register_at("/id-a").await.unwrap();
    let there = world.retrieve("cse-a/csr-id-b", "CAdmin").await;
    assert_eq!(there.body["m2m:csr"]["csi"], "/id-b", "{}", there.body);
    assert_eq!(there.body["m2m:csr"]["poa"], json!(["http://b.example"]));
    assert_eq!(there.body["m2m:csr"]["cst"], 2, "an MN-CSE");
    let here = world.retrieve("/id-b/cse-b/csr-id-a", "CAdmin").await;
    assert_eq!(here.body["m2m:csr"]["csi"], "/id-a", "{}", here.body);
    assert_eq!(here.body["m2m:csr"]["cst"], 2, "its registrar is an MN-CSE as well: {}", here.body);
    assert!(world.all[1].0.register_at("/id-x").await.is_err());
}

#[tokio::test]
async fn an_ae_cannot_register_a_cse() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    let body = json!({"m2m:csr": {"cb": "/id-x/cse", "rr": true, "srv": ["3"]}});
    assert_eq!(world.create("cse-a", "Cone", Ty::REMOTE_CSE, body).await.rsc, 4005);
}

/// A CSE of another vendor, at a listener that takes clients at their word.
#[tokio::test]
async fn a_foreign_cse_registers_before_it_does_anything_else() {
    let world = World::two().await;
    assert_eq!(world.retrieve("cse-a", "/id-x").await.rsc, 4106);
    assert_eq!(world.retrieve("cse-a", "/id-x/Cx").await.rsc, 4106);
    // Nobody is taken at his word for one of ours.
    assert_eq!(world.retrieve("cse-a", "/id-b").await.rsc, 4107);
    assert_eq!(world.retrieve("cse-a", "/id-a").await.rsc, 4106);
    let body =
        json!({"m2m:csr": {"rn": "x", "cb": "/id-x/cse", "rr": true, "srv": ["3"], "cst": 2, "dcse": ["/id-y"]}});
    assert_eq!(
        world.create("/id-b/cse-b", "/id-x", Ty::REMOTE_CSE, body.clone()).await.rsc,
        4000,
        "not through another"
    );
    let made = world.create("cse-a", "/id-x", Ty::REMOTE_CSE, body.clone()).await;
    assert_eq!((made.rsc, &made.body["m2m:csr"]["csi"]), (2001, &json!("/id-x")), "{}", made.body);
    assert_eq!(world.create("cse-a", "/id-x", Ty::REMOTE_CSE, body).await.rsc, 4117);
    assert_eq!(world.retrieve("cse-a", "/id-x").await.rsc, 2000);
    // The AEs behind it have what policies give them, and nothing else.
    assert_eq!(world.retrieve("cse-a", "/id-x/Cx").await.rsc, 4103);
    assert_eq!(world.retrieve("cse-a", "/id-y/Cy").await.rsc, 4103);
    assert_eq!(world.delete("cse-a/x", "/id-x").await.rsc, 2002);
    assert_eq!(world.retrieve("cse-a", "/id-x").await.rsc, 4106);
}

/// An MN-CSE sends on what is for a CSE that is registered elsewhere in the cluster.
#[tokio::test]
async fn a_request_for_a_foreign_cse_finds_its_way_from_every_node() {
    let world = World::two().await;
    world.ae("Cone", "one").await;
    let at = crate::support::Answering::start(r#"{"m2m:cb":{"csi":"/id-x"}}"#).await;
    let body = json!({"m2m:csr": {"cb": "/id-x/cse", "rr": true, "srv": ["3"], "poa": [at.url]}});
    let mut request = Request::new(Operation::Create, "/id-b/cse-b", "/id-x", "r1");
    (request.ty, request.pc) = (Some(Ty::REMOTE_CSE), Some(body.to_string().into()));
    let made = Out::of(world.all[1].0.handle(request, Caller::default()).await);
    assert_eq!(made.rsc, 2001, "{}", made.body);
    let answer = world.retrieve("/id-x/cse", "Cone").await;
    assert_eq!(answer.body["m2m:cb"]["csi"], "/id-x", "{}", answer.body);
    assert!(at.heads()[0].contains("x-m2m-origin: /id-a/cone"), "{:?}", at.heads());
    assert_eq!(world.retrieve("/id-nowhere/cse", "Cone").await.rsc, 4004);
}
