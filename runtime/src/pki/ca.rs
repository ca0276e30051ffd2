//! The certificate authority of a domain. Its key lies where `onemec ca` runs; nodes hold only their own.

use std::net::IpAddr;
use std::time::Duration;

use onemec_wire::NodeId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};

use super::identity::is_domain;
use super::{Identity, PkiError};

/// An authority's common name begins with this; its domain follows.
const NAME: &str = "onemec CA of ";
/// X.520: a common name has so many characters at most.
const NAME_CHARS_MAX: usize = 64;

/// From when to when a certificate is valid, in seconds since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First second.
    pub from_s: u64,
    /// Last second.
    pub until_s: u64,
}

impl Validity {
    /// Certificates begin so long before they are issued: clocks differ.
    pub const EARLIER_S: u64 = 300;

    /// Beginning five minutes before `now_s`, for `lifetime` from `now_s` on.
    pub const fn starting(now_s: u64, lifetime: Duration) -> Self {
        Self { from_s: now_s.saturating_sub(Self::EARLIER_S), until_s: now_s.saturating_add(lifetime.as_secs()) }
    }

    /// How long it is valid from its issue on, in seconds; at least 1.
    pub fn lifetime_s(self) -> u64 {
        self.until_s.saturating_sub(self.from_s).saturating_sub(Self::EARLIER_S).max(1)
    }
}

/// A certificate chain and, if it was made with it, its key; both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate (PEM).
    pub certificate_pem: String,
    /// The private key (PKCS#8, PEM). Empty if the requester kept it.
    pub key_pem: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").field("certificate_pem", &self.certificate_pem).finish_non_exhaustive()
    }
}

/// A node's request for a certificate: the key stays with the node.
pub struct NodeRequest {
    /// To be sent to whoever holds the CA (PKCS#10, PEM).
    pub request_pem: String,
    /// To be kept (PKCS#8, PEM).
    pub key_pem: String,
}

impl NodeRequest {
    /// A new key and a request for it.
    pub fn new() -> Result<Self, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(make)?;
        let params = CertificateParams::default();
        let request_pem = params.serialize_request(&key).and_then(|r| r.pem()).map_err(make)?;
        Ok(Self { request_pem, key_pem: key.serialize_pem() })
    }
}

/// A domain's certificate authority (Ed25519).
pub struct CaAuthority {
    domain: String,
    certificate_pem: String,
    key_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl CaAuthority {
    /// A new one.
    pub fn create(domain: &str, validity: Validity) -> Result<Self, PkiError> {
        if !is_domain(domain) {
            return Err(PkiError::Make(format!("{domain:?} is not a domain")));
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(make)?;
        let mut params = params(&format!("{NAME}{domain}"), validity);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key).map_err(make)?.pem();
        Self::load(domain, &certificate_pem, &key.serialize_pem())
    }

    /// One that was created before.
    pub fn load(domain: &str, certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::Key(e.to_string()))?;
        let issuer = Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|e| PkiError::Unreadable(e.to_string()))?;
        Ok(Self {
            domain: domain.to_owned(),
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned(),
            issuer,
        })
    }

    /// Whether its certificate was made for its domain, by the name in it. One that was not made here says nothing of it.
    ///
    /// # Errors
    /// If it was made for another domain. Nothing that it issued for this one would be believed by the other's nodes.
    pub fn check_domain(&self) -> Result<(), PkiError> {
        let all = super::files::certificates(self.certificate_pem.as_bytes())?;
        let names = all.iter().filter_map(|der| {
            let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
            Some(certificate.subject().iter_common_name().next()?.as_str().ok()?.strip_prefix(NAME)?.to_owned())
        });
        // A long domain stands there cut off.
        match names.into_iter().find(|name| !self.domain.starts_with(name.as_str()) || name.len() < self.named_bytes())
        {
            Some(found) => Err(PkiError::WrongDomain { found }),
            None => Ok(()),
        }
    }

    /// So much of the domain stands in the certificate's name.
    fn named_bytes(&self) -> usize {
        self.domain.len().min(NAME_CHARS_MAX - NAME.len())
    }

    /// Its domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }
    /// Its certificate: what others trust (PEM).
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }
    /// Its key (PKCS#8, PEM): to be written with mode 0600 and nowhere else.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Certificate and key for a node.
    pub fn issue_node(&self, node: NodeId, validity: Validity) -> Result<Issued, PkiError> {
        self.with_new_key(|key| self.node(node, validity, key))
    }

    /// Certificate for a node that made its own key. Only the public key is taken from the request.
    pub fn sign_node(&self, request_pem: &str, node: NodeId, validity: Validity) -> Result<Issued, PkiError> {
        let request = CertificateSigningRequestParams::from_pem(request_pem).map_err(make)?;
        let certificate_pem = self.node(node, validity, &request.public_key)?;
        Ok(Issued { certificate_pem, key_pem: String::new() })
    }

    /// Certificate and key for an AE that authenticates itself to CSEs with TLS.
    pub fn issue_ae(&self, ae_id: &str, validity: Validity) -> Result<Issued, PkiError> {
        self.client(&Identity::ae(&self.domain, ae_id), ae_id, validity)
    }

    /// The same for a CSE outside the cluster; its CSE-ID without the slash.
    pub fn issue_cse(&self, cse_id: &str, validity: Validity) -> Result<Issued, PkiError> {
        self.client(&Identity::cse(&self.domain, cse_id), cse_id, validity)
    }

    fn client(&self, identity: &Identity, common_name: &str, validity: Validity) -> Result<Issued, PkiError> {
        let mut params = params(common_name, validity);
        params.subject_alt_names = vec![uri(identity)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        // Not Ed25519 as for nodes: many a device's TLS does not know it, and OpenSSL 3.0 does not read the key's form.
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(make)?;
        Ok(Issued { certificate_pem: self.sign(&params, &key)?, key_pem: key.serialize_pem() })
    }

    /// Certificate and key for an HTTPS (or other TLS) listener with these host names and addresses.
    pub fn issue_server(&self, names: &[String], addresses: &[IpAddr], validity: Validity) -> Result<Issued, PkiError> {
        let Some(first) = names.first().cloned().or_else(|| addresses.first().map(ToString::to_string)) else {
            return Err(PkiError::Make("a server needs a name or an address".to_owned()));
        };
        let mut params = params(&first, validity);
        for name in names {
            let name = name.as_str().try_into().map_err(|_| PkiError::Make(format!("bad host name {name:?}")))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().map(|a| SanType::IpAddress(*a)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.with_new_key(|key| self.sign(&params, key))
    }

    fn node(&self, node: NodeId, validity: Validity, key: &impl PublicKeyData) -> Result<String, PkiError> {
        let identity = Identity::node(&self.domain, node);
        let mut params = params(&format!("node {}", node.0), validity);
        params.subject_alt_names = vec![uri(&identity)?];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&params, key)
    }

    fn with_new_key(&self, sign: impl FnOnce(&KeyPair) -> Result<String, PkiError>) -> Result<Issued, PkiError> {
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).map_err(make)?;
        Ok(Issued { certificate_pem: sign(&key)?, key_pem: key.serialize_pem() })
    }

    fn sign(&self, params: &CertificateParams, key: &impl PublicKeyData) -> Result<String, PkiError> {
        params.signed_by(key, &self.issuer).map(|c| c.pem()).map_err(make)
    }
}

fn params(common_name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name.chars().take(NAME_CHARS_MAX).collect::<String>());
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // The year 9999 is the last that a certificate can express.
    let at = |s: u64| epoch + Duration::from_secs(s.min(253_402_300_799));
    params.not_before = at(validity.from_s);
    params.not_after = at(validity.until_s);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params
}

fn uri(identity: &Identity) -> Result<SanType, PkiError> {
    let uri = identity.uri();
    if Identity::from_uri(&uri).as_ref() != Some(identity) {
        return Err(PkiError::Make(format!("{uri:?} is not a valid name")));
    }
    uri.as_str().try_into().map(SanType::URI).map_err(|_| PkiError::Make(format!("{uri:?} is not ASCII")))
}

fn make(error: rcgen::Error) -> PkiError {
    PkiError::Make(error.to_string())
}
