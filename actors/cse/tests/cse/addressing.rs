//! All forms of an address (rules.md 1), from this CSE and from another.

use onemec_onem2m::{Operation, Request, Ty};
use serde_json::json;

use crate::support::{Out, World};

#[tokio::test]
async fn every_form_leads_to_the_resource() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    world.instance("cse-a/one/data", "Cone", "x").await;
    let cnt = world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"]["ri"].as_str().unwrap().to_owned();
    let forms = [
        "cse-a/one/data/la".to_owned(),
        "-/one/data/la".to_owned(),
        "/id-a/cse-a/one/data/la".to_owned(),
        "/id-a/-/one/data/la".to_owned(),
        "//test.example/id-a/cse-a/one/data/la".to_owned(),
        format!("{cnt}/la"),
        format!("/id-a/{cnt}/la"),
        "Cone/data/la".to_owned(),
        "/id-a/Cone/data/la".to_owned(),
    ];
    for to in &forms {
        let out = world.retrieve(to, "Cone").await;
        assert_eq!((out.rsc, out.body["m2m:cin"]["con"].as_str()), (2000, Some("x")), "{to} {}", out.body);
    }
    // Through the other CSE: whatever says which CSE is meant, and the unstructured id, which says it by itself.
    let cnt_la = format!("{cnt}/la");
    for to in [
        "/id-a/cse-a/one/data/la",
        "//test.example/id-a/-/one/data/la",
        "/id-a/Cone/data/la",
        "cse-a/one/data/la",
        &cnt_la,
    ] {
        let request = Request::new(Operation::Retrieve, to, "/id-a/Cone", "r1");
        let out = Out::of(world.all[1].0.handle(request, Default::default()).await);
        assert_eq!((out.rsc, out.body["m2m:cin"]["con"].as_str()), (2000, Some("x")), "{to} {}", out.body);
    }
    for to in [
        "cse-a/one/none",
        "cse-x/one",
        "/id-x/cse-x/one",
        "//other.example/id-a/cse-a",
        "1-9-0-1",
        "Cnone",
        "cse-a/one/data/la/x",
        "cse-a/one/la",
    ] {
        assert_eq!(world.retrieve(to, "CAdmin").await.rsc, 4004, "{to}");
    }
    for to in ["", "cse a", "cse-a//x", "/"] {
        assert_eq!(world.retrieve(to, "CAdmin").await.rsc, 4000, "{to}");
    }
}

#[tokio::test]
async fn writes_reach_the_other_cse() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    let mut request = Request::new(Operation::Create, "/id-a/cse-a/one/data", "/id-a/Cone", "r1");
    request.ty = Some(Ty::CONTENT_INSTANCE);
    request.pc = Some(json!({"m2m:cin": {"con": "from b"}}).to_string().into());
    let out = Out::of(world.all[1].0.handle(request, Default::default()).await);
    assert_eq!(out.rsc, 2001, "{}", out.body);
    assert_eq!(world.retrieve("cse-a/one/data/la", "Cone").await.body["m2m:cin"]["con"], "from b");
}

#[tokio::test]
async fn resource_ids_are_safe_and_parents_are_named_by_them() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let cnt = world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"].clone();
    assert_eq!(cnt["pi"], "Cone");
    let cin = world.instance("cse-a/one/data", "Cone", "x").await.body["m2m:cin"].clone();
    assert_eq!(cin["pi"], cnt["ri"]);
    let base = world.retrieve("cse-a", "Cone").await.body["m2m:cb"].clone();
    assert_eq!((&base["ri"], &base["pi"], &base["csi"]), (&json!("id-a"), &json!(""), &json!("/id-a")), "{base}");
    assert_eq!(world.retrieve("id-a", "Cone").await.rsc, 2000);
}
