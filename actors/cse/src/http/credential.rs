//! Who a client has proved to be: a certificate's `onemec://<domain>/ae/<AE-ID>` name, or a bearer token that is bound to
//! an AE-ID.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use super::options::ListenerOptions;
use crate::front::Proof;

/// Scheme of the URIs in client certificates.
const SCHEME: &str = "onemec://";

/// Reads the proof from a client's certificate chain (its first certificate). `None` if it has no name of ours.
pub(super) fn from_certificate(der: &[u8]) -> Option<Proof> {
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    certificate.extensions().iter().find_map(|e| match e.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => names.general_names.iter().find_map(|n| match n {
            GeneralName::URI(uri) => from_uri(uri),
            _ => None,
        }),
        _ => None,
    })
}

/// Reads `onemec://<domain>/ae/<AE-ID>` or `onemec://<domain>/cse/<CSE-ID without slash>`.
fn from_uri(uri: &str) -> Option<Proof> {
    let (_domain, path) = uri.strip_prefix(SCHEME)?.split_once('/')?;
    let (kind, id) = path.split_once('/')?;
    if id.is_empty() || id.contains('/') {
        return None;
    }
    match kind {
        "ae" => Some(Proof::Ae(id.to_owned())),
        "cse" => Some(Proof::Cse(format!("/{id}"))),
        _ => None,
    }
}

/// Reads a bearer token. `Err` if there is one that nobody was given.
pub(super) fn from_headers(options: &ListenerOptions, headers: &HeaderMap) -> Result<Option<Proof>, UnknownToken> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let token = value
        .to_str()
        .ok()
        .and_then(|v| v.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| token.trim())
        .ok_or(UnknownToken)?;
    options.bearer_tokens.get(token).map(|ae| Some(Proof::Ae(ae.clone()))).ok_or(UnknownToken)
}

/// A token that stands for nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnknownToken;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_certificates() {
        assert_eq!(from_uri("onemec://example/ae/C12"), Some(Proof::Ae("C12".into())));
        assert_eq!(from_uri("onemec://example/cse/mn-1"), Some(Proof::Cse("/mn-1".into())));
        for bad in ["http://example/ae/C12", "onemec://example/ae/", "onemec://example/ae/C1/x", "onemec://example", ""]
        {
            assert_eq!(from_uri(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_certificate_names_its_ae() {
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.subject_alt_names.push(rcgen::SanType::URI("onemec://example/ae/Sdev7".try_into().unwrap()));
        let key = rcgen::KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        assert_eq!(from_certificate(made.der()), Some(Proof::Ae("Sdev7".into())));
        assert_eq!(from_certificate(b"garbage"), None);
    }
}
