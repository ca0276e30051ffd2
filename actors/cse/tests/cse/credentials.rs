//! Originators that must prove who they are: bearer tokens and client certificates.

use std::collections::HashMap;
use std::sync::Arc;

use onemec_cse::AuthMode;
use onemec_cse::http::ListenerOptions;
use rcgen::SanType;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Authority, Http, World, provider};

const AE: &str = r#"{"m2m:ae":{"rn":"dev","api":"N","rr":true,"srv":["3"]}}"#;

fn tokens() -> Arc<HashMap<String, String>> {
    Arc::new([("t-one".to_owned(), "Cone".to_owned()), ("t-two".to_owned(), "Ctwo".to_owned())].into())
}

#[tokio::test]
async fn a_bearer_token_is_bound_to_its_ae() {
    let world = World::one().await;
    let options = |auth| ListenerOptions { auth, bearer_tokens: tokens(), ..ListenerOptions::default() };
    let required = Http::serve(&world.cse, options(AuthMode::Required)).await;
    let optional = Http::serve(&world.cse, options(AuthMode::Optional)).await;
    let ty = "Content-Type: application/json;ty=2\r\n";
    let token = |t: &str| format!("Authorization: Bearer {t}\r\n");
    // Without a credential, and with one that nobody was given.
    assert_eq!(required.call("POST", "/cse-a", "C", ty, AE.as_bytes()).await.rsc, 4107);
    assert_eq!(required.call("GET", "/cse-a", "Cone", &token("t-none"), b"").await.rsc, 4106);
    assert_eq!(required.call("GET", "/cse-a", "Cone", "Authorization: Basic xyz\r\n", b"").await.rsc, 4106);
    // The AE-ID is the credential's.
    let spoofed = required.call("POST", "/cse-a", "Ctwo", &(token("t-one") + ty), AE.as_bytes()).await;
    assert_eq!((spoofed.status, spoofed.rsc), (403, 4106), "{}", spoofed.text());
    let made = required.call("POST", "/cse-a", "C", &(token("t-one") + ty), AE.as_bytes()).await;
    assert_eq!(made.json()["m2m:ae"]["aei"], "Cone", "{}", made.text());
    assert_eq!(required.call("GET", "/cse-a/dev", "Cone", &token("t-one"), b"").await.rsc, 2000);
    let spoofed = required.call("GET", "/cse-a/dev", "Cone", &token("t-two"), b"").await;
    assert_eq!((spoofed.status, spoofed.rsc), (403, 4106), "{}", spoofed.text());
    assert_eq!(required.call("GET", "/cse-a/dev", "CAdmin", &token("t-two"), b"").await.rsc, 4106);
    // Optional: who shows one is held to it.
    assert_eq!(optional.call("GET", "/cse-a/dev", "Cone", "", b"").await.rsc, 2000);
    assert_eq!(optional.call("GET", "/cse-a/dev", "Cone", &token("t-two"), b"").await.rsc, 4106);
}

/// A C-type AE-ID is SP-relative beyond its registrar, and its device has one credential.
#[tokio::test]
async fn a_credential_is_good_at_every_cse_of_the_cluster() {
    let world = World::two().await;
    let options =
        || ListenerOptions { auth: AuthMode::Required, bearer_tokens: tokens(), ..ListenerOptions::default() };
    let (here, there) = (Http::serve(&world.cse, options()).await, Http::serve(&world.all[1].0, options()).await);
    let head = "Authorization: Bearer t-one\r\nContent-Type: application/json;ty=2\r\n";
    assert_eq!(here.call("POST", "/cse-a", "Cone", head, AE.as_bytes()).await.rsc, 2001);
    let token = "Authorization: Bearer t-one\r\n";
    for (http, fr, rsc) in [
        (&there, "/id-a/Cone", 2000),
        (&here, "/id-a/Cone", 2000),
        (&there, "/id-a/Ctwo", 4106),
        (&there, "/id-elsewhere/Cone", 4106),
    ] {
        let answer = http.call("GET", "/~/id-a/cse-a/dev", fr, token, b"").await;
        assert_eq!(answer.rsc, rsc, "{fr}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_client_certificate_names_its_ae() {
    let (ours, others) = (Authority::new(), Authority::new());
    let (chain, key) = ours.issue(SanType::IpAddress([127, 0, 0, 1].into()));
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(ours.roots()), provider())
        .allow_unauthenticated()
        .build()
        .unwrap();
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    let world = World::one().await;
    let http = Http::serve(
        &world.cse,
        ListenerOptions { auth: AuthMode::Required, tls: Some(Arc::new(tls)), ..ListenerOptions::default() },
    )
    .await;
    let ask = async |authority: Option<&Authority>, name: &str, fr: &str| -> Option<Answer> {
        let builder = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(ours.roots());
        let config = match authority {
            None => builder.with_no_client_auth(),
            Some(a) => {
                let (chain, key) = a.issue(SanType::URI(name.try_into().unwrap()));
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let stream = TcpStream::connect(http.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut stream = connector.connect(ServerName::try_from("127.0.0.1").unwrap(), stream).await.ok()?;
        let request = format!(
            "POST /cse-a HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: {fr}\r\nX-M2M-RI: r\r\nX-M2M-RVI: 3\r\nContent-Type: application/json;ty=2\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{AE}",
            AE.len()
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut raw = Vec::new();
        let _ = stream.read_to_end(&mut raw).await;
        Answer::parse(&raw)
    };
    assert_eq!(ask(None, "", "C").await.unwrap().rsc, 4107);
    assert_eq!(ask(Some(&ours), "onemec://test/ae/Cone", "Ctwo").await.unwrap().rsc, 4106);
    assert_eq!(ask(Some(&ours), "onemec://test/cse/id-x", "C").await.unwrap().rsc, 4106);
    assert_eq!(ask(Some(&ours), "https://elsewhere/ae/Cone", "Cone").await.unwrap().rsc, 4107);
    assert!(ask(Some(&others), "onemec://test/ae/Cone", "Cone").await.is_none(), "another authority");
    let made = ask(Some(&ours), "onemec://test/ae/Cone", "C").await.unwrap();
    assert_eq!(made.json()["m2m:ae"]["aei"], "Cone", "{}", made.text());
    assert_eq!(json!(made.status), 201);
}
