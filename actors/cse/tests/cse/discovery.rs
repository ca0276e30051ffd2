//! Discovery and conditional retrieve (rules.md 6).

use onemec_onem2m::Ty;
use serde_json::json;

use crate::support::World;

async fn world() -> World {
    let world = World::one().await;
    for (stem, name) in [("Cone", "one"), ("Ctwo", "two")] {
        world.ae(stem, name).await;
        for n in ["a", "b"] {
            let body = json!({"m2m:cnt": {"rn": n, "lbl": [format!("k:{n}")]}});
            world.created(&format!("cse-a/{name}"), stem, Ty::CONTAINER, body).await;
            world.instance(&format!("cse-a/{name}/{n}"), stem, "12345").await;
        }
    }
    world
}

#[tokio::test]
async fn over_all_aes_from_the_cse_base() {
    let world = world().await;
    let all = world.find("cse-a", "CAdmin", "fu=1&ty=3").await;
    assert_eq!(all.uril(), ["cse-a/one/a", "cse-a/one/b", "cse-a/two/a", "cse-a/two/b"]);
    let own = world.find("cse-a", "Cone", "fu=1&ty=3").await;
    assert_eq!(own.uril(), ["cse-a/one/a", "cse-a/one/b"], "others drop out silently");
    assert_eq!(world.find("cse-a", "CAdmin", "fu=1&ty=2").await.uril(), ["cse-a/one", "cse-a/two"]);
    assert_eq!(world.find("cse-a", "CAdmin", "fu=1&ty=2&ty=3&lvl=1").await.uril(), ["cse-a/one", "cse-a/two"]);
    assert_eq!(world.find("cse-a", "CAdmin", "fu=1&lbl=k:a").await.uril(), ["cse-a/one/a", "cse-a/two/a"]);
    assert!(world.find("cse-a", "CAdmin", "fu=1&lbl=none").await.uril().is_empty(), "an empty list is a success");
    let sizes = world.find("cse-a/one", "Cone", "fu=1&sza=5&szb=6").await;
    assert_eq!(sizes.uril().len(), 2, "{}", sizes.body);
    let unstructured = world.find("cse-a", "CAdmin", "fu=1&ty=2&drt=2").await;
    assert_eq!(unstructured.uril(), ["Cone", "Ctwo"]);
}

#[tokio::test]
async fn limits_cut_and_say_where_to_go_on() {
    let world = world().await;
    let cut = world.find("cse-a", "CAdmin", "fu=1&ty=3&lim=3").await;
    assert_eq!(cut.uril().len(), 3);
    let response = &cut.handled.response;
    assert_eq!((response.cnst, response.cnot), (Some(onemec_onem2m::ContentStatus::Partial), Some(4)));
    let rest = world.find("cse-a", "CAdmin", "fu=1&ty=3&lim=3&ofst=4").await;
    assert_eq!(rest.uril(), ["cse-a/two/b"]);
    assert_eq!(rest.handled.response.cnst, None);
    let within = world.find("cse-a/one", "Cone", "fu=1&ty=3&lim=1").await;
    assert_eq!((within.uril().len(), within.handled.response.cnot), (1, Some(2)));
}

#[tokio::test]
async fn references_and_related_resources() {
    let world = world().await;
    let references = world.find("cse-a/one", "Cone", "fu=1&ty=3&rcn=6").await;
    let first = &references.body["m2m:rrl"]["rrf"][0];
    assert_eq!(
        (&first["nm"], &first["typ"], &first["val"]),
        (&json!("a"), &json!(3), &json!("cse-a/one/a")),
        "{}",
        references.body
    );
    let latest = world.find("cse-a/one", "Cone", "fu=1&ty=3&arp=la").await;
    assert_eq!(latest.uril(), ["cse-a/one/a/la", "cse-a/one/b/la"]);
    assert_eq!(world.find("cse-a/one", "Cone", "fu=1&rcn=1").await.rsc, 4000);
}

#[tokio::test]
async fn conditional_retrieve() {
    let world = world().await;
    assert_eq!(world.find("cse-a/one/a", "Cone", "lbl=k:a").await.rsc, 2000);
    assert_eq!(world.find("cse-a/one/a", "Cone", "lbl=k:b").await.rsc, 4004);
}
