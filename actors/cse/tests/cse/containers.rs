//! Containers and contentInstances (rules.md 2 and 5).

use onemec_onem2m::Ty;
use serde_json::json;

use crate::support::{START_MS, World};

async fn with_limits(limits: serde_json::Value) -> World {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    let mut body = limits;
    body["rn"] = json!("data");
    world.created("cse-a/one", "Cone", Ty::CONTAINER, json!({"m2m:cnt": body})).await;
    world
}

const DATA: &str = "cse-a/one/data";

#[tokio::test]
async fn mni_evicts_the_oldest_and_releases_its_record() {
    let world = with_limits(json!({"mni": 3})).await;
    let context = onemec_wire::ContextId::made(1, 2, 0);
    for i in 0..10 {
        world.instance(DATA, "Cone", &i.to_string()).await;
    }
    let cnt = world.retrieve(DATA, "Cone").await.body;
    assert_eq!((cnt["m2m:cnt"]["cni"].as_u64(), cnt["m2m:cnt"]["st"].as_u64()), (Some(3), Some(10)), "{cnt}");
    assert_eq!(world.retrieve(&format!("{DATA}/ol"), "Cone").await.body["m2m:cin"]["con"], "7");
    assert_eq!(world.node.kept(context), 3);
    // Lowering the limit evicts, too.
    assert_eq!(world.update(DATA, "Cone", json!({"m2m:cnt": {"mni": 1}})).await.rsc, 2004);
    assert_eq!(world.retrieve(&format!("{DATA}/ol"), "Cone").await.body["m2m:cin"]["con"], "9");
    assert_eq!(world.node.kept(context), 1);
}

#[tokio::test]
async fn mbs_counts_bytes_and_refuses_what_never_fits() {
    let world = with_limits(json!({"mbs": 10})).await;
    for text in ["aaaa", "bbbb", "cccc"] {
        world.instance(DATA, "Cone", text).await;
    }
    let cnt = world.retrieve(DATA, "Cone").await.body;
    assert_eq!((cnt["m2m:cnt"]["cni"].as_u64(), cnt["m2m:cnt"]["cbs"].as_u64()), (Some(2), Some(8)), "{cnt}");
    let out = world.create(DATA, "Cone", Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": "12345678901"}})).await;
    assert_eq!(out.rsc, 5207, "{}", out.body);
}

#[tokio::test]
async fn mia_and_et_let_instances_expire() {
    let world = with_limits(json!({"mia": 60})).await;
    world.instance(DATA, "Cone", "old").await;
    world.cluster.advance(30_000);
    world.instance(DATA, "Cone", "new").await;
    world.cluster.advance(30_001);
    assert_eq!(world.retrieve(&format!("{DATA}/ol"), "Cone").await.body["m2m:cin"]["con"], "new");
    world.cluster.advance(30_000);
    assert_eq!(world.retrieve(&format!("{DATA}/la"), "Cone").await.rsc, 4004);
    let et = onemec_onem2m::Timestamp::from_ms(START_MS + 200_000).to_string();
    assert_eq!(
        world.update("cse-a/one", "Cone", json!({"m2m:ae": {"et": et}})).await.rsc,
        4000,
        "its container lives longer"
    );
    assert_eq!(world.update(DATA, "Cone", json!({"m2m:cnt": {"et": et}})).await.rsc, 2004);
    assert_eq!(world.update("cse-a/one", "Cone", json!({"m2m:ae": {"et": et}})).await.rsc, 2004);
    world.cluster.advance(200_000);
    assert_eq!(world.retrieve("cse-a/one", "CAdmin").await.rsc, 4004);
    assert_eq!(world.cluster.contexts(), 1, "the AE's context ended");
}

#[tokio::test]
async fn a_new_mia_holds_for_what_is_there() {
    let world = with_limits(json!({})).await;
    world.instance(DATA, "Cone", "old").await;
    world.cluster.advance(30_000);
    world.instance(DATA, "Cone", "new").await;
    assert_eq!(world.update(DATA, "Cone", json!({"m2m:cnt": {"mia": 40}})).await.rsc, 2004);
    world.cluster.advance(10_001);
    assert_eq!(world.retrieve(&format!("{DATA}/ol"), "Cone").await.body["m2m:cin"]["con"], "new");
    world.cluster.advance(30_000);
    assert_eq!(world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["cni"], 0);
}

#[tokio::test]
async fn an_expiry_in_the_past_or_beyond_the_parent() {
    let world = with_limits(json!({})).await;
    let past = onemec_onem2m::Timestamp::from_ms(START_MS - 1).to_string();
    let out = world.create(DATA, "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"et": past}})).await;
    assert_eq!(out.rsc, 4000, "{}", out.body);
    let far = world.create(DATA, "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"et": "21000101T000000"}})).await;
    let parent = world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["et"].clone();
    assert_eq!(far.body["m2m:cnt"]["et"], parent);
}

#[tokio::test]
async fn state_tags_count_and_are_copied() {
    let world = with_limits(json!({})).await;
    assert_eq!(world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["st"], 0);
    assert_eq!(world.instance(DATA, "Cone", "x").await.body["m2m:cin"]["st"], 1);
    world.update(DATA, "Cone", json!({"m2m:cnt": {"lbl": ["a"]}})).await;
    assert_eq!(world.instance(DATA, "Cone", "x").await.body["m2m:cin"]["st"], 3);
    // An update of a child counts at the parent.
    world.created(DATA, "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "sub"}})).await;
    let before = world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["st"].as_u64().unwrap();
    world.update(&format!("{DATA}/sub"), "Cone", json!({"m2m:cnt": {"lbl": ["a"]}})).await;
    assert_eq!(world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["st"].as_u64().unwrap(), before + 1);
}

#[tokio::test]
async fn instances_are_not_updated_and_la_ol_only_read_and_deleted() {
    let world = with_limits(json!({})).await;
    assert_eq!(world.retrieve(&format!("{DATA}/la"), "Cone").await.rsc, 4004);
    for text in ["1", "2", "3"] {
        world.instance(DATA, "Cone", text).await;
    }
    let ri = world.retrieve(&format!("{DATA}/la"), "Cone").await.body["m2m:cin"]["ri"].as_str().unwrap().to_owned();
    let change = json!({"m2m:cin": {"lbl": ["x"]}});
    assert_eq!(world.update(&ri, "Cone", change.clone()).await.rsc, 4005);
    assert_eq!(world.update(&format!("{DATA}/la"), "Cone", change).await.rsc, 4005);
    let made =
        world.create(&format!("{DATA}/la"), "Cone", Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": "x"}})).await;
    assert_eq!(made.rsc, 4005);
    assert_eq!(world.delete(&format!("{DATA}/la"), "Cone").await.rsc, 2002);
    assert_eq!(world.delete(&format!("{DATA}/ol"), "Cone").await.rsc, 2002);
    let left = world.retrieve(&format!("{DATA}/la"), "Cone").await;
    assert_eq!(left.body["m2m:cin"]["con"], "2");
    assert_eq!(world.retrieve(&ri, "Cone").await.rsc, 4004);
}

#[tokio::test]
async fn disr_hides_instances_and_its_end_deletes_them() {
    let world = with_limits(json!({"disr": true})).await;
    let ri = world.instance(DATA, "Cone", "x").await.body["m2m:cin"]["ri"].as_str().unwrap().to_owned();
    for to in [ri.as_str(), "cse-a/one/data/la"] {
        assert_eq!(world.retrieve(to, "Cone").await.rsc, 4005, "{to}");
        assert_eq!(world.delete(to, "Cone").await.rsc, 4005, "{to}");
    }
    // Nor in any other way.
    let with_children = world.find(DATA, "Cone", "rcn=4").await.body;
    assert!(with_children["m2m:cnt"].get("m2m:cin").is_none(), "{with_children}");
    let references = world.find(DATA, "Cone", "rcn=6").await.body;
    assert_eq!(references["m2m:cnt"]["ch"], json!([]), "{references}");
    assert!(world.find("cse-a/one", "Cone", "fu=1&ty=4").await.uril().is_empty());
    assert_eq!(world.update(DATA, "Cone", json!({"m2m:cnt": {"disr": false}})).await.rsc, 2004);
    assert_eq!(world.retrieve(DATA, "Cone").await.body["m2m:cnt"]["cni"], 0);
}

#[tokio::test]
async fn content_stays_as_the_client_sent_it() {
    let world = with_limits(json!({})).await;
    let body =
        r#"{"m2m:cin": {"con" : "\u0041 \"x\" é", "lbl": ["k:v"], "cnf":"text/plain:0", "rn":"mine", "cr":null}}"#;
    let mut request = onemec_onem2m::Request::new(onemec_onem2m::Operation::Create, DATA, "Cone", "r1");
    request.ty = Some(Ty::CONTENT_INSTANCE);
    request.pc = Some(body.into());
    assert_eq!(world.ask(request).await.response.rsc.0, 2001);
    let out = world.retrieve(&format!("{DATA}/mine"), "Cone").await;
    let text = String::from_utf8(out.handled.response.pc.unwrap().to_vec()).unwrap();
    assert!(text.contains(r#""con":"\u0041 \"x\" é""#), "{text}");
    assert_eq!(out.body["m2m:cin"]["cs"], 8, "{text}");
    assert_eq!((&out.body["m2m:cin"]["cr"], &out.body["m2m:cin"]["lbl"][0]), (&json!("Cone"), &json!("k:v")));
    let again = world.create(DATA, "Cone", Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": "x", "rn": "mine"}})).await;
    assert_eq!(again.rsc, 4105);
}

#[tokio::test]
async fn a_name_that_we_would_choose_may_be_taken() {
    let world = with_limits(json!({})).await;
    // The AE is record 1, the container 2, this instance 3; the next one would be called cin-4.
    let taken = json!({"m2m:cin": {"con": "taken", "rn": "cin-4"}});
    world.created(DATA, "Cone", Ty::CONTENT_INSTANCE, taken).await;
    let next = world.instance(DATA, "Cone", "x").await;
    let name = next.body["m2m:cin"]["rn"].as_str().unwrap();
    assert_ne!(name, "cin-4");
    assert_eq!(world.retrieve(&format!("{DATA}/{name}"), "Cone").await.body["m2m:cin"]["con"], "x");
    assert_eq!(world.retrieve(&format!("{DATA}/cin-4"), "Cone").await.body["m2m:cin"]["con"], "taken");
}
