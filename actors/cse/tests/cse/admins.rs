//! Administrators: who they are, when they are believed, and that nobody takes their names.

use std::collections::HashMap;
use std::sync::Arc;

use onemec_cse::AuthMode;
use onemec_cse::http::ListenerOptions;
use onemec_cse::testing::{Clock, Extras};
use onemec_onem2m::Ty;
use serde_json::json;

use crate::support::{Http, START_MS, World};

#[tokio::test]
async fn no_ae_registers_under_an_administrators_name() {
    let world = World::one().await;
    let ae = json!({"m2m:ae": {"rn": "mine", "api": "N", "rr": true, "srv": ["3"]}});
    let refused = world.create("cse-a", "CAdmin", Ty::AE, ae.clone()).await;
    assert_eq!(refused.rsc, 4126, "{}", refused.body);
    assert!(refused.body.to_string().contains("administrator"), "{}", refused.body);
    assert_eq!(world.create("cse-a", "CAdmin2", Ty::AE, ae).await.rsc, 2001);
}

#[tokio::test]
async fn without_the_option_the_name_is_like_any_other() {
    let world = World::with(&["a"], Clock::manual(START_MS), Extras::default(), |o| o.admins.clear()).await;
    world.ae_with_container("Cone", "one").await;
    assert_eq!(world.retrieve("cse-a/one/data", "CAdmin").await.rsc, 4106);
    world.ae("CAdmin", "mine").await;
    assert_eq!(world.retrieve("cse-a/one/data", "CAdmin").await.rsc, 4103);
}

#[tokio::test]
async fn where_it_is_asked_for_an_administrator_shows_a_credential_at_every_door() {
    let world = World::with(&["a"], Clock::manual(START_MS), Extras::default(), |o| o.admins_proved = true).await;
    world.ae_with_container("Cone", "one").await;
    let tokens: Arc<HashMap<_, _>> =
        Arc::new([("t-admin".to_owned(), "CAdmin".to_owned()), ("t-one".to_owned(), "Cone".to_owned())].into());
    for auth in [AuthMode::None, AuthMode::Optional, AuthMode::Required] {
        let options = ListenerOptions { auth, bearer_tokens: tokens.clone(), ..ListenerOptions::default() };
        let door = Http::serve(&world.cse, options).await;
        for fr in ["CAdmin", "/id-a/CAdmin"] {
            let bare = door.call("GET", "/cse-a/one/data", fr, "", b"").await;
            assert_eq!(bare.status, 403, "{auth:?} {fr}: {}", bare.text());
        }
        let bare = door.call("GET", "/cse-a/one/data", "CAdmin", "", b"").await;
        assert_eq!(bare.rsc, 4107, "{auth:?}: {}", bare.text());
        let spoofed = door.call("GET", "/cse-a/one/data", "CAdmin", "Authorization: Bearer t-one\r\n", b"").await;
        assert_eq!(spoofed.rsc, 4106, "{auth:?}: {}", spoofed.text());
        let shown = door.call("GET", "/cse-a/one/data", "CAdmin", "Authorization: Bearer t-admin\r\n", b"").await;
        assert_eq!(shown.rsc, 2000, "{auth:?}: {}", shown.text());
    }
}
