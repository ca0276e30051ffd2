//! TLS configurations: for the cluster protocol (QUIC, both sides) and for listeners of devices.

use std::sync::Arc;

use onemec_wire::NodeId;
use onemec_wire::limits::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::server::NoServerSessionStorage;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};

use super::trust::Verifier;
use super::{Credentials, Identity, PkiError, Trust, Want};

/// A node's certificate, key, and whom it believes. Cheap to clone; all clones see renewals.
#[derive(Clone, Debug)]
pub struct Pki {
    domain: Arc<str>,
    node: NodeId,
    credentials: Arc<Credentials>,
    trust: Arc<Trust>,
    time: Arc<dyn TimeProvider>,
}

/// Whether a listener asks for client certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Never.
    Off,
    /// Those who have one show it; who shows a wrong one is refused.
    Optional(Want),
    /// Everyone must show one.
    Required(Want),
}

impl Pki {
    /// Node id and domain are those in the node's own certificate, which must be valid at `trust`.
    pub fn new(credentials: Arc<Credentials>, trust: Arc<Trust>) -> Result<Self, PkiError> {
        Self::with_time(credentials, trust, Arc::new(DefaultTimeProvider))
    }

    /// The same with a clock of one's own (simulation, tests).
    pub fn with_time(
        credentials: Arc<Credentials>,
        trust: Arc<Trust>,
        time: Arc<dyn TimeProvider>,
    ) -> Result<Self, PkiError> {
        match Identity::of(&credentials.certificate()?)? {
            Identity::Node { domain, node } => Ok(Self { domain: domain.into(), node, credentials, trust, time }),
            found => Err(PkiError::WrongKind { found }),
        }
    }

    /// The same node, believing others: for a listener whose clients have an authority of their own.
    #[must_use]
    pub fn trusting(&self, trust: Arc<Trust>) -> Self {
        Self { trust, ..self.clone() }
    }

    /// The node.
    pub const fn node(&self) -> NodeId {
        self.node
    }
    /// Its domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// The certificate in use.
    pub const fn credentials(&self) -> &Arc<Credentials> {
        &self.credentials
    }
    /// Whom the node believes.
    pub const fn trust(&self) -> &Arc<Trust> {
        &self.trust
    }

    /// QUIC, accepting side: TLS 1.3, client certificate required, no resumption (a resumed session would not look at
    /// the certificate again).
    pub fn quic_server(&self) -> Result<QuicServerConfig, PkiError> {
        let verifier = self.verifier(Want::Node, true);
        let mut config = rustls::ServerConfig::builder_with_details(provider(), self.time.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(self.credentials.clone());
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![ALPN.to_vec()];
        QuicServerConfig::try_from(config).map_err(|e| PkiError::Tls(e.to_string()))
    }

    /// QUIC, dialling side.
    pub fn quic_client(&self) -> Result<QuicClientConfig, PkiError> {
        let verifier = self.verifier(Want::Node, true);
        let mut config = rustls::ClientConfig::builder_with_details(provider(), self.time.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(tls)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(self.credentials.clone());
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_early_data = false;
        config.alpn_protocols = vec![ALPN.to_vec()];
        QuicClientConfig::try_from(config).map_err(|e| PkiError::Tls(e.to_string()))
    }

    /// A TLS listener for devices (HTTPS, MQTTS ...): shows `server` (see [`super::CaAuthority::issue_server`]), asks
    /// for client certificates as said. ALPN protocols are added by the caller. Whose certificate a client showed:
    /// [`Identity::of`] the first of `peer_certificates()`.
    pub fn tls_server(&self, server: Arc<Credentials>, clients: ClientAuth) -> Result<rustls::ServerConfig, PkiError> {
        let builder = rustls::ServerConfig::builder_with_details(provider(), self.time.clone())
            .with_safe_default_protocol_versions()
            .map_err(tls)?;
        let builder = match clients {
            ClientAuth::Off => builder.with_no_client_auth(),
            ClientAuth::Optional(want) => builder.with_client_cert_verifier(self.verifier(want, false)),
            ClientAuth::Required(want) => builder.with_client_cert_verifier(self.verifier(want, true)),
        };
        let mut config = builder.with_cert_resolver(server);
        if clients != ClientAuth::Off {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    fn verifier(&self, want: Want, mandatory: bool) -> Arc<Verifier> {
        Arc::new(Verifier { trust: self.trust.clone(), want, mandatory })
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn tls(error: rustls::Error) -> PkiError {
    PkiError::Tls(error.to_string())
}
