//! Results over a CSEBase whose AEs are served in several places.

use std::sync::Arc;

use onemec_core::context::{Answer, BoxFuture, Contexts, Key, Op, ReadHandler};
use onemec_cse::Caller;
use onemec_cse::testing::{Clock, Extras};
use onemec_onem2m::{ContentStatus, Operation, Request, Ty};
use onemec_wire::{ContextId, NodeId};
use serde_json::{Value, json};

use crate::support::{Out, START_MS, World, with_query};

/// A node that is asked and says nothing.
struct Silent;

impl ReadHandler for Silent {
    fn read(&self, _: ContextId, _: Op) -> BoxFuture<'_, Answer> {
        Box::pin(std::future::pending())
    }
}

/// Three AEs at home at `/id-a`; `two` is served at the node of `/id-b`.
async fn world() -> World {
    let world = World::with(&["a", "b"], Clock::manual(START_MS), Extras::default(), |o| o.request_ms_max = 1000).await;
    for (stem, name) in [("Cone", "one"), ("Ctwo", "two"), ("Cthree", "three")] {
        world.ae_with_container(stem, name).await;
        world.instance(&format!("cse-a/{name}/data"), stem, name).await;
    }
    let place = world.node.by_key(&Key::at(NodeId(1), "rn:two")).unwrap();
    world.cluster.serve_at(place.context, NodeId(2)).unwrap();
    world
}

/// Asks the CSE with this index.
async fn at(world: &World, cse: usize, query: &str) -> Out {
    let request = with_query(Request::new(Operation::Retrieve, "/id-a/cse-a", "CAdmin", "r1"), query);
    Out::of(world.all[cse].0.handle(request, Caller::default()).await)
}

fn names(list: &Value, key: &str) -> Vec<String> {
    list.as_array().unwrap_or(&Vec::new()).iter().map(|v| v[key].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_ae_is_there_wherever_it_is_served_and_whoever_is_asked() {
    let world = world().await;
    for cse in 0..2 {
        for rcn in [4, 8] {
            let out = at(&world, cse, &format!("rcn={rcn}")).await;
            let base = &out.body["m2m:cb"];
            assert_eq!(names(&base["m2m:ae"], "rn"), ["one", "two", "three"], "{cse} {rcn}: {}", out.body);
            assert_eq!(base["m2m:ae"][1]["m2m:cnt"][0]["m2m:cin"][0]["con"], "two", "{}", out.body);
            assert_eq!(base.get("csi").is_some(), rcn == 4);
            assert_eq!((out.handled.response.cnst, out.handled.incomplete), (None, 0));
        }
        for rcn in [5, 6] {
            let out = at(&world, cse, &format!("rcn={rcn}&lvl=1")).await;
            assert_eq!(names(&out.body["m2m:cb"]["ch"], "nm"), ["one", "two", "three"], "{}", out.body);
            assert_eq!(out.body["m2m:cb"].get("csi").is_some(), rcn == 5);
        }
        let found = at(&world, cse, "fu=1&ty=3").await;
        assert_eq!(found.uril(), ["cse-a/one/data", "cse-a/two/data", "cse-a/three/data"]);
    }
}

#[tokio::test]
async fn pages_fit_together() {
    let world = world().await;
    for (query, one_by_one) in [("fu=1", true), ("rcn=6", true), ("rcn=8", false)] {
        let all = at(&world, 0, query).await.body;
        let (mut got, mut offset) = (Vec::new(), 1);
        loop {
            // A nested page has room for one AE with what is below it.
            let limit = if one_by_one { 2 } else { 3 };
            let page = at(&world, 0, &format!("{query}&lim={limit}&ofst={offset}")).await;
            let list = match query {
                "fu=1" => &page.body["m2m:uril"],
                "rcn=6" => &page.body["m2m:cb"]["ch"],
                _ => &page.body["m2m:cb"]["m2m:ae"],
            };
            got.extend(list.as_array().unwrap().iter().cloned());
            match page.handled.response.cnot {
                Some(next) => offset = next,
                None => break,
            }
        }
        let whole = match query {
            "fu=1" => &all["m2m:uril"],
            "rcn=6" => &all["m2m:cb"]["ch"],
            _ => &all["m2m:cb"]["m2m:ae"],
        };
        assert_eq!(json!(got), *whole, "{query}");
    }
}

#[tokio::test]
async fn who_gives_no_answer_in_time_is_missing_and_the_answer_says_so() {
    let world = world().await;
    world.all[1].1.set_read_handler(Arc::new(Silent));
    for query in ["rcn=4", "rcn=5&lvl=1", "fu=1&ty=2"] {
        let out = at(&world, 0, query).await;
        assert_eq!(out.rsc, 2000, "{}", out.body);
        let text = out.body.to_string();
        assert!(text.contains("three") && !text.contains("two"), "{query}: {text}");
        let response = &out.handled.response;
        assert_eq!((response.cnst, response.cnot), (Some(ContentStatus::Partial), None), "{query}");
        assert_eq!(out.handled.incomplete, 1, "{query}");
    }
}

#[tokio::test]
async fn privileges_hold_for_every_ae() {
    let world = world().await;
    let own = world.find("cse-a", "Cone", "rcn=4").await;
    assert_eq!(names(&own.body["m2m:cb"]["m2m:ae"], "rn"), ["one"], "{}", own.body);
    let policy = json!({"m2m:acp": {"rn": "p", "pv": {"acr": [{"acor": ["all"], "acop": 34}]},
        "pvs": {"acr": [{"acor": ["Ctwo"], "acop": 63}]}}});
    world.created("cse-a/two", "Ctwo", Ty::ACCESS_CONTROL_POLICY, policy).await;
    let out = world.update("cse-a/two", "Ctwo", json!({"m2m:ae": {"acpi": ["cse-a/two/p"]}})).await;
    assert_eq!(out.rsc, 2004, "{}", out.body);
    let shared = world.find("cse-a", "Cone", "rcn=4&lvl=1").await;
    assert_eq!(names(&shared.body["m2m:cb"]["m2m:ae"], "rn"), ["one", "two"], "{}", shared.body);
    assert_eq!(world.find("cse-a", "Cone", "fu=1&ty=2").await.uril(), ["cse-a/one", "cse-a/two"]);
}
