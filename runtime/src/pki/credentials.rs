//! Our own certificate and key, replaceable while everything runs.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, crypto};

use super::{PkiError, Validity, files};

/// What we show to peers. New handshakes use what was set last; standing connections are not touched.
#[derive(Debug)]
pub struct Credentials {
    current: ArcSwap<CertifiedKey>,
}

impl Credentials {
    /// From PEM texts: chain (end entity first) and key.
    pub fn from_pem(chain_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = certified(files::certificates(chain_pem.as_bytes())?, files::key(key_pem.as_bytes())?)?;
        Ok(Self { current: ArcSwap::from_pointee(key) })
    }

    /// From PEM files.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, PkiError> {
        let key = certified(files::read_pem_certificates(chain)?, files::read_pem_key(key)?)?;
        Ok(Self { current: ArcSwap::from_pointee(key) })
    }

    /// Uses a renewed chain and key from now on. On an error the old ones stay in use.
    pub fn replace(&self, chain_pem: &str, key_pem: &str) -> Result<(), PkiError> {
        let key = certified(files::certificates(chain_pem.as_bytes())?, files::key(key_pem.as_bytes())?)?;
        self.current.store(Arc::new(key));
        Ok(())
    }

    /// The end-entity certificate in use.
    pub fn certificate(&self) -> Result<CertificateDer<'static>, PkiError> {
        let current = self.current.load();
        current.cert.first().cloned().ok_or_else(|| PkiError::Pem("no certificate".to_owned()))
    }

    /// From when to when it is valid.
    pub fn validity(&self) -> Result<Validity, PkiError> {
        let certificate = self.certificate()?;
        let (_, parsed) =
            x509_parser::parse_x509_certificate(&certificate).map_err(|e| PkiError::Unreadable(e.to_string()))?;
        let at = |t: x509_parser::time::ASN1Time| u64::try_from(t.timestamp()).unwrap_or(0);
        Ok(Validity { from_s: at(parsed.validity().not_before), until_s: at(parsed.validity().not_after) })
    }

    /// When to renew, in seconds since 1970: after two thirds of the lifetime.
    pub fn renew_at_s(&self) -> Result<u64, PkiError> {
        let v = self.validity()?;
        Ok(v.until_s.saturating_sub(v.lifetime_s() / 3))
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<CertifiedKey, PkiError> {
    let key = crypto::ring::sign::any_supported_type(&key).map_err(|e| PkiError::Key(e.to_string()))?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|e| PkiError::Key(e.to_string()))?;
    Ok(certified)
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
    fn has_certs(&self) -> bool {
        true
    }
}
