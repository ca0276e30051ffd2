//! TLS with a client certificate: the authority decides both ways.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs, helpers included

use std::sync::Arc;
use std::time::Duration;

use onemec_device::{AeClient, Connector, DeviceError, DeviceOptions, Endpoint, HttpError, tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }
    fn pem(&self) -> String {
        self.0.pem()
    }
    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

/// Accepts TLS with client certificates of `authority` and answers one registration per connection.
async fn server(authority: &Authority) -> Endpoint {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let (cert, key) = authority.issue("localhost");
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(tcp).await else { continue };
            let mut request = [0; 4096];
            let _ = tls.read(&mut request).await;
            let body = r#"{"m2m:ae":{"aei":"Cdev"}}"#;
            let answer = format!("HTTP/1.1 201 Created\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = tls.write_all(answer.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
    });
    Endpoint { tls: true, host: "localhost".into(), port }
}

fn options(home: Endpoint, config: Option<Arc<rustls::ClientConfig>>) -> DeviceOptions {
    let mut o = DeviceOptions::new(home, "C", "dev");
    o.tls = config;
    o.repeat_ms = 300;
    o
}

#[tokio::test]
async fn a_client_certificate_opens_the_door() {
    let authority = Authority::new();
    let home = server(&authority).await;
    let (cert, key) = authority.issue("Cdev");
    let ca = authority.pem();
    let config = tls::client_config(ca.as_bytes(), Some((cert.as_bytes(), key.as_bytes()))).unwrap();
    assert_eq!(AeClient::new(options(home, Some(config))).register().await.unwrap(), "Cdev");
}

#[tokio::test]
async fn the_wrong_authority_and_missing_tls_are_named() {
    let home = server(&Authority::new()).await;
    let config = tls::client_config(Authority::new().pem().as_bytes(), None).unwrap();
    let connector = Connector { tls: Some(config.clone()), ..Connector::default() };
    let error = connector.connect(&home, Duration::from_secs(5)).await.err().unwrap();
    assert!(matches!(error, HttpError::Connect { .. }) && error.never_sent(), "{error}");
    let error = AeClient::new(options(home.clone(), Some(config))).register().await.unwrap_err();
    assert!(matches!(error, DeviceError::Unknown { .. }), "{error}");
    let error = AeClient::new(options(home, None)).register().await.unwrap_err();
    assert!(error.to_string().contains("no TLS configuration"), "{error}");
    assert!(tls::client_config(b"no pem", None).is_err());
}
