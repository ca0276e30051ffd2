//! Whom we believe: the CA of each domain, for names of that domain only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::{Identity, PkiError, files};

/// CAs by domain; can be changed while the node runs.
#[derive(Debug)]
pub struct Trust {
    anchors: ArcSwap<HashMap<String, Vec<TrustAnchor<'static>>>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Which certificates a listener or dialler accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Nodes only (the cluster's own protocol).
    Node,
    /// AEs and CSEs of others (listeners for devices).
    Client,
    /// All of them.
    Any,
}

impl Trust {
    /// Trusts `ca_pem` (one or more certificates) for names of `domain`.
    pub fn new(domain: &str, ca_pem: &str) -> Result<Self, PkiError> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let trust = Self { anchors: ArcSwap::default(), algorithms };
        trust.set(domain, ca_pem)?;
        Ok(trust)
    }

    /// Sets the CAs of a domain: a new domain (federation), or old and new CA while a CA is replaced.
    pub fn set(&self, domain: &str, ca_pem: &str) -> Result<(), PkiError> {
        let mut anchors = Vec::new();
        for certificate in files::certificates(ca_pem.as_bytes())? {
            let anchor =
                webpki::anchor_from_trusted_cert(&certificate).map_err(|e| PkiError::Unreadable(e.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        self.anchors.rcu(|old| {
            let mut new = HashMap::clone(old);
            new.insert(domain.to_owned(), anchors.clone());
            new
        });
        Ok(())
    }

    /// No longer trusts any CA for names of `domain`. Connections that stand are not cut by this.
    pub fn remove(&self, domain: &str) {
        self.anchors.rcu(|old| {
            let mut new = HashMap::clone(old);
            new.remove(domain);
            new
        });
    }

    /// Verifies a chain, end entity first, and says whose it is.
    pub fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now_s: u64,
        client: bool,
    ) -> Result<Identity, PkiError> {
        let identity = Identity::of(end_entity)?;
        let anchors = self.anchors.load();
        let Some(anchors) = anchors.get(identity.domain()) else {
            return Err(PkiError::WrongDomain { found: identity.domain().to_owned() });
        };
        let usage = if client { KeyUsage::client_auth() } else { KeyUsage::server_auth() };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now_s));
        EndEntityCert::try_from(end_entity)
            .and_then(|c| {
                c.verify_for_usage(self.algorithms.all, anchors, intermediates, now, usage, None, None).map(|_| ())
            })
            .map_err(chain_error)?;
        Ok(identity)
    }
}

fn chain_error(error: webpki::Error) -> PkiError {
    use webpki::Error as E;
    match error {
        E::CertExpired { .. } => PkiError::Expired,
        E::CertNotValidYet { .. } => PkiError::NotYetValid,
        E::UnknownIssuer | E::InvalidSignatureForPublicKey | E::CaUsedAsEndEntity => PkiError::WrongCa,
        E::RequiredEkuNotFoundContext(_) => PkiError::WrongUsage,
        other => PkiError::Unreadable(other.to_string()),
    }
}

/// The rustls side of [`Trust`]: for servers that ask for client certificates, and for diallers.
#[derive(Debug)]
pub(super) struct Verifier {
    pub(super) trust: Arc<Trust>,
    pub(super) want: Want,
    pub(super) mandatory: bool,
}

impl Verifier {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        client: bool,
    ) -> Result<(), rustls::Error> {
        let identity = self.trust.verify(end_entity, intermediates, now.as_secs(), client).map_err(tls_error)?;
        match (self.want, &identity) {
            (Want::Any, _)
            | (Want::Node, Identity::Node { .. })
            | (Want::Client, Identity::Ae { .. } | Identity::Cse { .. }) => Ok(()),
            _ => Err(tls_error(PkiError::WrongKind { found: identity })),
        }
    }
}

/// Keeps the fitting TLS alert where there is one.
fn tls_error(error: PkiError) -> rustls::Error {
    rustls::Error::InvalidCertificate(match error {
        PkiError::Expired => CertificateError::Expired,
        PkiError::NotYetValid => CertificateError::NotValidYet,
        PkiError::WrongCa | PkiError::WrongDomain { .. } => CertificateError::UnknownIssuer,
        PkiError::Unreadable(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    })
}

impl ServerCertVerifier for Verifier {
    /// The name that was dialled says nothing: the dialler compares the identity with the peer that it wants.
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now, false).map(|()| ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(end_entity, intermediates, now, true).map(|()| ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.trust.algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.trust.algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.algorithms.supported_schemes()
    }
}
