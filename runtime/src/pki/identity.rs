//! The name inside a certificate.

use std::fmt;

use onemec_wire::NodeId;
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use super::PkiError;

/// Whom a certificate belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// A node of a domain.
    Node {
        /// The domain.
        domain: String,
        /// The node.
        node: NodeId,
    },
    /// An application entity, a client of CSEs of a domain.
    Ae {
        /// The domain.
        domain: String,
        /// Its AE-ID as registered.
        ae_id: String,
    },
    /// A CSE outside the cluster, a client of CSEs of a domain.
    Cse {
        /// The domain.
        domain: String,
        /// Its CSE-ID, without the slash.
        cse_id: String,
    },
}

impl Identity {
    /// A node.
    pub fn node(domain: impl Into<String>, node: NodeId) -> Self {
        Self::Node { domain: domain.into(), node }
    }
    /// An AE.
    pub fn ae(domain: impl Into<String>, ae_id: impl Into<String>) -> Self {
        Self::Ae { domain: domain.into(), ae_id: ae_id.into() }
    }
    /// A CSE outside the cluster.
    pub fn cse(domain: impl Into<String>, cse_id: impl Into<String>) -> Self {
        Self::Cse { domain: domain.into(), cse_id: cse_id.into() }
    }
    /// Its domain.
    pub fn domain(&self) -> &str {
        match self {
            Self::Node { domain, .. } | Self::Ae { domain, .. } | Self::Cse { domain, .. } => domain,
        }
    }
    /// The URI that stands in the certificate.
    pub fn uri(&self) -> String {
        match self {
            Self::Node { domain, node } => format!("onemec://{domain}/node/{}", node.0),
            Self::Ae { domain, ae_id } => format!("onemec://{domain}/ae/{}", escape(ae_id)),
            Self::Cse { domain, cse_id } => format!("onemec://{domain}/cse/{}", escape(cse_id)),
        }
    }
    /// The identity in a URI, if it is one of ours and well formed.
    pub fn from_uri(uri: &str) -> Option<Self> {
        let (domain, path) = uri.strip_prefix("onemec://")?.split_once('/')?;
        if !is_domain(domain) {
            return None;
        }
        let identity = match path.split_once('/')? {
            ("node", id) => Self::node(domain, NodeId(id.parse().ok()?)),
            ("ae", id) if !id.is_empty() => Self::ae(domain, unescape(id)?),
            ("cse", id) if !id.is_empty() => Self::cse(domain, unescape(id)?),
            _ => return None,
        };
        // Only the one canonical spelling, so that two texts are never one identity.
        (identity.uri() == uri).then_some(identity)
    }
    /// The identity in a certificate. Says nothing about whether it may be believed: see [`super::Trust::verify`].
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PkiError> {
        let parsed = EndEntityCert::try_from(certificate).map_err(|e| PkiError::Unreadable(e.to_string()))?;
        let mut ours = parsed.valid_uri_names().filter(|u| u.starts_with("onemec:"));
        match (ours.next(), ours.next()) {
            (Some(uri), None) => Self::from_uri(uri).ok_or_else(|| PkiError::NoIdentity(uri.to_owned())),
            (None, _) => Err(PkiError::NoIdentity("none".to_owned())),
            _ => Err(PkiError::NoIdentity("more than one".to_owned())),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

/// Names like those of hosts: letters, digits, `-` and `.`, in lower case.
pub(super) fn is_domain(text: &str) -> bool {
    let limit = onemec_wire::limits::DOMAIN_BYTES_MAX;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    (1..=limit).contains(&text.len()) && text.bytes().all(good)
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b'/') {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first == b'%' {
            let (hex, after) = after.split_at_checked(2)?;
            out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            out.push(*first);
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_as_they_were_written() {
        for identity in [
            Identity::node("edge.example", NodeId(7)),
            Identity::ae("edge.example", "Csensor 1"),
            Identity::ae("d", "/cse-1/C%"),
            Identity::cse("edge.example", "mn-7"),
        ] {
            assert_eq!(Identity::from_uri(&identity.uri()), Some(identity));
        }
    }

    #[test]
    fn only_the_canonical_spelling_is_taken() {
        for bad in [
            "onemec://d/node/07",
            "onemec://d/node/+7",
            "onemec://d/node/",
            "onemec://D/node/7",
            "onemec:///node/7",
            "onemec://d/ae/",
            "onemec://d/ae/%41",
            "onemec://d/ae/%zz",
            "onemec://d/host/7",
            "https://d/node/7",
        ] {
            assert_eq!(Identity::from_uri(bad), None, "{bad}");
        }
    }
}
