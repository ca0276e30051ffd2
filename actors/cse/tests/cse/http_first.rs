//! The first thing a device does, over real HTTP.

use crate::support::{Http, World};
use serde_json::json;

#[tokio::test]
async fn an_ae_registers_and_stores_readings_over_http() {
    let world = World::one().await;
    let http = Http::serve(&world.cse, Default::default()).await;
    let ae =
        http.post("/cse-a", "C", 2, json!({"m2m:ae": {"api": "N1", "rr": false, "srv": ["3"], "rn": "dev"}})).await;
    assert_eq!((ae.status, ae.rsc), (201, 2001), "{}", ae.text());
    let aei = ae.json()["m2m:ae"]["aei"].as_str().unwrap().to_owned();
    assert!(aei.starts_with('C'));
    assert_eq!(ae.header("content-location").unwrap(), "/cse-a/dev");
    let cnt = http.post("/cse-a/dev", &aei, 3, json!({"m2m:cnt": {"rn": "data", "mni": 3}})).await;
    assert_eq!(cnt.rsc, 2001, "{}", cnt.text());
    for i in 0..5 {
        let cin = http
            .post("/cse-a/dev/data", &aei, 4, json!({"m2m:cin": {"con": format!("v{i}"), "cnf": "text/plain:0"}}))
            .await;
        assert_eq!(cin.rsc, 2001, "{}", cin.text());
    }
    let la = http.get("/cse-a/dev/data/la", &aei).await;
    assert_eq!((la.status, la.rsc), (200, 2000), "{}", la.text());
    assert_eq!(la.json()["m2m:cin"]["con"], "v4");
    assert_eq!(la.json()["m2m:cin"]["st"], 5);
    assert_eq!(http.get("/cse-a/dev/data/ol", &aei).await.json()["m2m:cin"]["con"], "v2");
    let cnt = http.get("/cse-a/dev/data", &aei).await.json();
    assert_eq!((cnt["m2m:cnt"]["cni"].as_u64(), cnt["m2m:cnt"]["cbs"].as_u64()), (Some(3), Some(6)));
    println!("{cnt} {}", la.text());
}
