//! Create, update, delete, result content, order of checks (rules.md 2, 4, 7).

use onemec_onem2m::{Operation, Request, ResultContent, Ty};
use serde_json::json;

use crate::support::{Out, World};

async fn rcn(
    world: &World,
    op: Operation,
    to: &str,
    ty: Option<Ty>,
    rcn: ResultContent,
    body: Option<serde_json::Value>,
) -> Out {
    let mut request = Request::new(op, to, "Cone", "r1");
    (request.ty, request.rcn) = (ty, Some(rcn));
    request.pc = body.map(|b| b.to_string().into());
    Out::of(world.ask(request).await)
}

#[tokio::test]
async fn result_contents_of_a_create() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    let create = |r, n: &str| {
        rcn(&world, Operation::Create, "cse-a/one", Some(Ty::CONTAINER), r, Some(json!({"m2m:cnt": {"rn": n}})))
    };
    assert_eq!(create(ResultContent::Nothing, "a").await.body, json!(null));
    assert_eq!(create(ResultContent::Address, "b").await.body, json!({"m2m:uri": "cse-a/one/b"}));
    let both = create(ResultContent::AddressAndAttributes, "c").await;
    assert_eq!(both.body["m2m:rce"]["uri"], "cse-a/one/c", "{}", both.body);
    let modified = create(ResultContent::ModifiedAttributes, "d").await;
    assert!(
        modified.body["m2m:cnt"]["ri"].is_string() && modified.body["m2m:cnt"]["rn"].is_null(),
        "{}",
        modified.body
    );
    let wrong = create(ResultContent::Children, "e").await;
    assert_eq!(wrong.rsc, 4000);
    assert_eq!(world.retrieve("cse-a/one/e", "Cone").await.rsc, 4004, "nothing was made");
}

#[tokio::test]
async fn result_contents_of_retrieve_and_delete() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    world.instance("cse-a/one/data", "Cone", "x").await;
    let get = |r| rcn(&world, Operation::Retrieve, "cse-a/one", None, r, None);
    let nested = get(ResultContent::AttributesAndChildren).await.body;
    assert_eq!(nested["m2m:ae"]["m2m:cnt"][0]["m2m:cin"][0]["con"], "x", "{nested}");
    let references = get(ResultContent::AttributesAndChildReferences).await.body;
    assert!(references["m2m:ae"]["ch"].to_string().contains("cse-a/one/data"), "{references}");
    let only = get(ResultContent::ChildReferences).await.body;
    assert!(only.to_string().contains("cse-a/one/data") && !only.to_string().contains("api"), "{only}");
    let children = get(ResultContent::Children).await.body;
    assert!(children["m2m:ae"]["api"].is_null() && children["m2m:ae"]["m2m:cnt"].is_array(), "{children}");
    // The CSEBase shows its AEs, each of which is a context of its own.
    let base = rcn(&world, Operation::Retrieve, "cse-a", None, ResultContent::ChildReferences, None).await.body;
    assert!(base.to_string().contains("cse-a/one"), "{base}");
    let base = rcn(&world, Operation::Retrieve, "cse-a", None, ResultContent::AttributesAndChildren, None).await.body;
    assert_eq!(base["m2m:cb"]["m2m:ae"][0]["m2m:cnt"][0]["rn"], "data", "{base}");
    let gone = rcn(&world, Operation::Delete, "cse-a/one/data", None, ResultContent::Attributes, None).await;
    assert_eq!((gone.rsc, gone.body["m2m:cnt"]["cni"].as_u64()), (2002, Some(1)), "{}", gone.body);
}

#[tokio::test]
async fn partial_retrieve() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    let mut request = Request::new(Operation::Retrieve, "cse-a/one", "Cone", "r1");
    request.atrl = vec!["api".into(), "rr".into()];
    assert_eq!(Out::of(world.ask(request).await).body, json!({"m2m:ae": {"api": "Ntest", "rr": true}}));
    let one = world.retrieve("cse-a/one#api", "Cone").await;
    assert_eq!(one.body, json!({"m2m:ae": {"api": "Ntest"}}));
    assert_eq!(world.retrieve("cse-a/one#mni", "Cone").await.rsc, 4000);
}

#[tokio::test]
async fn updates_change_and_delete_attributes() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let to = "cse-a/one/data";
    let out = world.update(to, "Cone", json!({"m2m:cnt": {"mni": 5, "lbl": ["a", "b"]}})).await;
    assert_eq!((out.rsc, out.body["m2m:cnt"]["mni"].as_u64()), (2004, Some(5)), "{}", out.body);
    let out = world.update(to, "Cone", json!({"m2m:cnt": {"mni": null}})).await;
    assert!(out.body["m2m:cnt"]["mni"].is_null());
    assert!(world.retrieve(to, "Cone").await.body["m2m:cnt"].get("mni").is_none());
    for bad in [
        json!({"rn": "x"}),
        json!({"ri": "x"}),
        json!({"cni": 3}),
        json!({"nonsense": 1}),
        json!({"mni": -1}),
        json!({"mni": "x"}),
    ] {
        let out = world.update(to, "Cone", json!({"m2m:cnt": bad.clone()})).await;
        assert_eq!(out.rsc, 4000, "{bad} {}", out.body);
    }
    assert_eq!(world.update("cse-a/one", "Cone", json!({"m2m:ae": {"rr": null}})).await.rsc, 4000, "rr is needed");
    assert_eq!(world.update("cse-a", "CAdmin", json!({"m2m:cb": {"lbl": ["x"]}})).await.rsc, 4005);
    assert_eq!(world.delete("cse-a", "CAdmin").await.rsc, 4005);
}

#[tokio::test]
async fn existence_comes_before_privilege_before_content() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    let bad = json!({"m2m:cnt": {"nonsense": 1}});
    assert_eq!(world.create("cse-a/one/none", "Ctwo", Ty::CONTAINER, bad.clone()).await.rsc, 4004);
    assert_eq!(world.create("cse-a/one/data", "Ctwo", Ty::CONTAINER, bad.clone()).await.rsc, 4103);
    assert_eq!(world.create("cse-a/one/data", "Cone", Ty::CONTAINER, bad).await.rsc, 4000);
}

#[tokio::test]
async fn attributes_that_nothing_would_come_of_are_refused() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    for (attribute, value) in [("at", json!(["/id-x"])), ("aa", json!(["lbl"])), ("daci", json!(["cse-a/x"]))] {
        let body = json!({"m2m:cnt": {attribute: value}});
        assert_eq!(world.create("cse-a/one", "Cone", Ty::CONTAINER, body.clone()).await.rsc, 5001, "{attribute}");
        assert_eq!(world.update("cse-a/one/data", "Cone", body).await.rsc, 5001, "{attribute}");
    }
}

#[tokio::test]
async fn types_where_they_do_not_belong() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let cin = json!({"m2m:cin": {"con": "x"}});
    assert_eq!(world.create("cse-a/one", "Cone", Ty::CONTENT_INSTANCE, cin.clone()).await.rsc, 4108);
    assert_eq!(world.create("cse-a/one", "Cone", Ty(28), json!({"m2m:fcnt": {}})).await.rsc, 5001);
    assert_eq!(world.create("cse-a/one", "Cone", Ty(999), json!({"m2m:x": {}})).await.rsc, 4000);
    world.instance("cse-a/one/data", "Cone", "x").await;
    let sub = json!({"m2m:sub": {"nu": ["http://localhost:1"]}});
    let cin = world.retrieve("cse-a/one/data/la", "Cone").await.body["m2m:cin"]["ri"].as_str().unwrap().to_owned();
    assert_eq!(world.create(&cin, "Cone", Ty::SUBSCRIPTION, sub).await.rsc, 5203);
    let named = json!({"m2m:cnt": {"rn": "data"}});
    assert_eq!(world.create("cse-a/one", "Cone", Ty::CONTAINER, named).await.rsc, 4105);
    assert_eq!(world.create("cse-a", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "one"}})).await.rsc, 4105);
}

#[tokio::test]
async fn what_is_withdrawn_says_so() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    world.cluster.fail_writes(1);
    let out = world.create("cse-a/one/data", "Cone", Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": "x"}})).await;
    assert_eq!(out.handled.failure, Some(onemec_cse::front::Failure::NotApplied { retry_ms: 7 }));
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"]["cni"], 0);
}

#[tokio::test]
async fn i3_a_repeatable_request_is_applied_once() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let mut answers = Vec::new();
    for _ in 0..3 {
        let mut request = Request::new(Operation::Create, "cse-a/one/data", "Cone", "same");
        request.ty = Some(Ty::CONTENT_INSTANCE);
        request.pc = Some(r#"{"m2m:cin":{"con":"x"}}"#.into());
        let caller =
            onemec_cse::Caller { repeat_until_ms: Some(crate::support::START_MS + 60_000), ..Default::default() };
        answers.push(world.cse.handle(request, caller).await.response.pc);
    }
    assert_eq!(answers[0], answers[2]);
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"]["cni"], 1);
}
