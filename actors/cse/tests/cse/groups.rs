//! Groups and their fan-out (rules.md 9).

use onemec_onem2m::{Operation, Ty};
use serde_json::json;

use crate::support::World;

async fn world() -> World {
    let world = World::one().await;
    for (stem, name) in [("Cone", "one"), ("Ctwo", "two")] {
        world.ae_with_container(stem, name).await;
    }
    world
}

#[tokio::test]
async fn members_are_checked() {
    let world = world().await;
    let group = |more: serde_json::Value| {
        let mut g = json!({"mnm": 3, "mid": ["cse-a/one/data", "cse-a/two", "cse-a/one/data"]});
        g.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"m2m:grp": g})
    };
    let mixed = world.created("cse-a", "Cone", Ty::GROUP, group(json!({}))).await;
    assert_eq!((&mixed["m2m:grp"]["cnm"], &mixed["m2m:grp"]["mt"]), (&json!(2), &json!(0)), "{mixed}");
    let only = world.created("cse-a", "Cone", Ty::GROUP, group(json!({"mt": 3}))).await;
    assert_eq!(
        (&only["m2m:grp"]["mid"], &only["m2m:grp"]["mtv"]),
        (&json!(["cse-a/one/data"]), &json!(true)),
        "{only}"
    );
    let refused = world.create("cse-a", "Cone", Ty::GROUP, group(json!({"mt": 3, "csy": 2}))).await;
    assert_eq!(refused.rsc, 4110, "{}", refused.body);
    let weakened = world.created("cse-a", "Cone", Ty::GROUP, group(json!({"mt": 3, "csy": 3}))).await;
    assert_eq!(weakened["m2m:grp"]["mt"], 0);
    let many = world.create("cse-a", "Cone", Ty::GROUP, group(json!({"mnm": 1}))).await;
    assert_eq!(many.rsc, 6010, "{}", many.body);
}

#[tokio::test]
async fn fan_out_asks_every_member_as_the_originator() {
    let world = world().await;
    let group = json!({"m2m:grp": {"rn": "g", "mnm": 9, "mid": ["cse-a/one/data", "cse-a/two/data", "cse-a/none"]}});
    world.created("cse-a", "Cone", Ty::GROUP, group).await;
    let body = json!({"m2m:cin": {"con": "x"}});
    let out = world.create("cse-a/g/fopt", "Cone", Ty::CONTENT_INSTANCE, body).await;
    assert_eq!(out.rsc, 2000, "{}", out.body);
    let answers = out.body["m2m:agr"]["m2m:rsp"].as_array().unwrap();
    let codes: Vec<_> = answers.iter().map(|a| a["rsc"].as_u64().unwrap()).collect();
    assert_eq!(codes, [2001, 4103, 4004], "{}", out.body);
    assert_eq!(answers[0]["fr"], "cse-a/one/data");
    let latest = world.retrieve("cse-a/g/fopt/la", "Cone").await;
    assert_eq!(latest.body["m2m:agr"]["m2m:rsp"][0]["pc"]["m2m:cin"]["con"], "x", "{}", latest.body);
    assert_eq!(world.retrieve("cse-a/g/fopt", "Ctwo").await.rsc, 4103, "no privilege on the group");
    let again = world.send(Operation::Retrieve, "cse-a/g/fopt/la", "Cone", None, None).await;
    assert_eq!(again.rsc, 2000, "a new request is no repetition");
}

#[tokio::test]
async fn groups_in_groups_end() {
    let world = world().await;
    world
        .created(
            "cse-a",
            "Cone",
            Ty::GROUP,
            json!({"m2m:grp": {"rn": "g", "mnm": 9, "mid": ["cse-a/g/fopt", "cse-a/one/data"]}}),
        )
        .await;
    let out = world.retrieve("cse-a/g/fopt", "Cone").await;
    let codes: Vec<_> =
        out.body["m2m:agr"]["m2m:rsp"].as_array().unwrap().iter().map(|a| a["rsc"].as_u64().unwrap()).collect();
    assert_eq!(codes, [4104, 2000], "{}", out.body);
}
