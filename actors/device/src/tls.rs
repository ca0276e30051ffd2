//! TLS of a device: trusts the cluster's certificate authority, shows a certificate of its own where it has one.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Why no TLS configuration could be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM.
    #[error("{what} is not readable PEM: {detail}")]
    Pem {
        /// Which file.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// rustls refuses it.
    #[error("{what} is not usable: {source}")]
    Rustls {
        /// Which file.
        what: &'static str,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// Makes a client configuration from PEM texts.
///
/// # Errors
/// If a text is not PEM or does not hold what it should.
pub fn client_config(ca: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let pem = |what, e: rustls::pki_types::pem::Error| TlsError::Pem { what, detail: e.to_string() };
    let rustls = |what| move |source| TlsError::Rustls { what, source };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        let certificate = certificate.map_err(|e| pem("certificate authority", e))?;
        roots.add(certificate).map_err(rustls("certificate authority"))?;
    }
    if roots.is_empty() {
        return Err(TlsError::Pem { what: "certificate authority", detail: "it holds no certificate".into() });
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(rustls("protocol versions"))?
        .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain = CertificateDer::pem_slice_iter(chain)
                .collect::<Result<Vec<_>, _>>()
                .map_err(|e| pem("client certificate", e))?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| pem("client key", e))?;
            builder.with_client_auth_cert(chain, key).map_err(rustls("client certificate"))?
        }
    };
    Ok(Arc::new(config))
}
