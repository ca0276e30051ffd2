//! HTTPS to notification targets: their certificates are verified, against the configured authorities or this machine's.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, RootCertStore};

/// A client that speaks HTTPS and nothing else.
pub(super) type Secure = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A connector for HTTPS. The text says why there can be none: it is the operator who reads it.
pub(super) fn connector(
    mut tcp: HttpConnector,
    authorities: Option<&Arc<RootCertStore>>,
) -> Result<HttpsConnector<HttpConnector>, String> {
    let roots = match authorities {
        Some(roots) => Arc::clone(roots),
        None => Arc::new(of_this_machine()?),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tcp.enforce_http(false);
    Ok(HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().wrap_connector(tcp))
}

fn of_this_machine() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 { Ok(roots) } else { Err("this machine trusts no certificate authority".into()) }
}
