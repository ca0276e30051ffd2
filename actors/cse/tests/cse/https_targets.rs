//! Notifications to `https://` targets: the target's certificate must come from an authority that this CSE trusts.

use std::sync::Arc;

use onemec_cse::notify::SendOptions;
use onemec_cse::testing::{Clock, Extras};
use onemec_onem2m::Ty;
use parking_lot::Mutex;
use rcgen::SanType;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{Authority, START_MS, World, provider, until};

/// An HTTPS server that agrees to everything; its URL and what it got.
async fn receiver(authority: &Authority) -> (String, Arc<Mutex<Vec<String>>>) {
    let (chain, key) = authority.issue(SanType::IpAddress([127, 0, 0, 1].into()));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/readings", listener.local_addr().unwrap());
    let got: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = got.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, acceptor) = (seen.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let (mut raw, mut buffer) = (String::new(), [0u8; 4096]);
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    raw.push_str(&String::from_utf8_lossy(&buffer[..n]));
                    // Its JSON is whole when the brackets are closed.
                    if raw.ends_with("}}") {
                        seen.lock().push(std::mem::take(&mut raw));
                        let answer = "HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\nX-M2M-RI: x\r\nContent-Length: 0\r\n\r\n";
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                }
            });
        }
    });
    (url, got)
}

async fn world(trusted: &Authority) -> World {
    let send = SendOptions { authorities: Some(Arc::new(trusted.roots())), ..SendOptions::default() };
    let world = World::of(&["a"], Clock::manual(START_MS), Extras { send, ..Extras::default() }).await;
    world.ae_with_container("Cone", "one").await;
    world
}

#[tokio::test]
async fn a_trusted_target_is_asked_and_told() {
    let authority = Authority::new();
    let (url, got) = receiver(&authority).await;
    let world = world(&authority).await;
    let sub = json!({"m2m:sub": {"nu": [url], "enc": {"net": [3]}}});
    world.created("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub).await;
    assert!(got.lock()[0].contains("\"vrq\":true"), "{:?}", got.lock());
    world.instance("cse-a/one/data", "Cone", "secret").await;
    until("the notification", || got.lock().len() == 2).await;
    let told = got.lock()[1].clone();
    assert!(told.starts_with("POST /readings ") && told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_target_with_somebody_elses_certificate_hears_nothing() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (url, got) = receiver(&others).await;
    let world = world(&ours).await;
    let sub = json!({"m2m:sub": {"nu": [url], "enc": {"net": [3]}}});
    let out = world.create("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub).await;
    assert_eq!(out.rsc, 5204, "{}", out.body);
    assert!(out.body["m2m:dbg"].as_str().unwrap().contains("certificate"), "{}", out.body);
    assert!(got.lock().is_empty());
}
