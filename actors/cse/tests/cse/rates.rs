//! Limits of one originator.

use onemec_cse::http::ListenerOptions;
use onemec_cse::testing::{Clock, Extras};

use crate::support::{Http, START_MS, World};

#[tokio::test]
async fn who_asks_too_often_is_told_when_to_come_back_and_others_are_served() {
    let clock = Clock::manual(START_MS);
    let world = World::with(&["a"], clock, Extras::default(), |o| o.requests_per_s_max = 5).await;
    let http = Http::serve(&world.cse, ListenerOptions::default()).await;
    for (stem, name) in [("Cone", "one"), ("Ctwo", "two")] {
        world.ae(stem, name).await;
    }
    for _ in 0..5 {
        assert_eq!(http.get("/cse-a/one", "Cone").await.status, 200);
    }
    let refused = http.get("/cse-a/one", "Cone").await;
    assert_eq!((refused.status, refused.rsc), (429, 5207), "{}", refused.text());
    assert_eq!((refused.header("retry-after"), refused.header("x-onemec-retry-ms")), (Some("1"), Some("200")));
    assert_eq!(http.get("/cse-a/two", "Ctwo").await.status, 200);
    assert_eq!(http.get("/cse-a/one", "/id-a/Cone").await.status, 429, "another form of the same identifier");
    assert_eq!(http.get("/cse-a/one", "CAdmin").await.status, 200);
    world.cluster.advance(200);
    assert_eq!(http.get("/cse-a/one", "Cone").await.status, 200);
    assert_eq!(http.get("/cse-a/one", "Cone").await.status, 429);
}
