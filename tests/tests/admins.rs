//! Administrators in a cluster with a door that asks for credentials and others that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use http::Method;
use onemec_node::topology::Auth;
use onemec_tests::Cluster;
use onemec_tests::client::{Ask, Client};
use serde_json::json;

const METER: &str = "token-of-the-meter";
const ADMIN: &str = "token-of-the-admin";

/// `edge1` asks for credentials, `edge2` and `cloud` take everybody at his word, but no administrator.
#[tokio::test]
async fn an_administrators_name_opens_nothing_at_an_open_door() {
    let mut cluster = Cluster::start_with(|t| {
        let closed = t.node.iter_mut().find(|n| n.name == "edge1").unwrap();
        closed.security.auth = Auth::Required;
        closed.security.tokens = [("Cmeter".into(), METER.into()), ("CAdmin".into(), ADMIN.into())].into();
    })
    .await;
    let mut meter = cluster.client("edge1", "Cmeter");
    meter.register_with_data("meter").await;
    meter.expect(201, &Ask::reading("/-/meter/data", 1)).await;

    let there = "/~/edge1/-/meter/data";
    // The harness shows whatever token the topology has for an originator; these show none.
    let bare_at = |node: &str| Client::new(cluster.door(node), "CAdmin");
    for node in ["edge2", "cloud"] {
        let mut bare = bare_at(node);
        let delete = Ask { method: Method::DELETE, path: there.into(), ..Ask::default() };
        for ask in [Ask::retrieve(there), delete, Ask::update(there, json!({"m2m:cnt": {"mni": 1}}))] {
            let refused = bare.ask(&ask).await;
            assert_eq!(refused.status, 403, "{node}: {}", refused.excerpt());
            assert!(refused.excerpt().contains("needs a credential"), "{node}: {}", refused.excerpt());
        }
        // The door is open to others as before, under any name but an administrator's.
        let ae = json!({"m2m:ae": {"rn": "taker", "api": "N", "rr": false, "srv": ["3"]}});
        let taker = bare.ask(&Ask::create("/-", 2, ae)).await;
        assert_eq!(taker.status, 403, "{node}: {}", taker.excerpt());
        assert!(taker.excerpt().contains("administrator"), "{node}: {}", taker.excerpt());
        cluster.client(node, &format!("Cguest-{node}")).register(&format!("guest-{node}")).await;
    }
    let bare = bare_at("edge1").ask(&Ask::retrieve("/-/meter/data")).await;
    assert_eq!(bare.status, 403, "{}", bare.excerpt());
    let mut admin = cluster.client("edge1", "CAdmin");
    assert_eq!(admin.bearer.as_deref(), Some(ADMIN));
    admin.expect(200, &Ask::retrieve("/-/meter/data/la")).await;
    meter.expect(201, &Ask::reading("/-/meter/data", 2)).await;
    cluster.assert_all_run();
}
