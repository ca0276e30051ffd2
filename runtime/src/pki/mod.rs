//! Who is who: the cluster's certificate authority, certificates of nodes and clients, and their verification.
//!
//! A domain has one CA. A certificate says in a URI of its subject alternative names whom it belongs to:
//! `onemec://<domain>/node/<id>` or `onemec://<domain>/ae/<AE-ID>`. A CA is trusted for its own domain only. Certificates
//! are short-lived (days) and replaced while the node runs ([`Credentials::replace`]); there is no revocation list.

mod ca;
mod credentials;
mod files;
mod identity;
mod tls;
mod trust;

pub use ca::{CaAuthority, Issued, NodeRequest, Validity};
pub use credentials::Credentials;
pub use files::{read_pem_certificates, read_pem_key, write_private, write_public};
pub use identity::Identity;
pub use tls::{ClientAuth, Pki};
pub use trust::{Trust, Want};

/// What went wrong with a certificate or key. Nothing was changed by a call that fails with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written. Nothing was kept in memory; try again when the cause is gone.
    #[error("{path}: {cause}")]
    File {
        /// Which.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// Not PEM, or not of the kind wanted.
    #[error("{0}")]
    Pem(String),
    /// A certificate or request could not be made.
    #[error("certificate cannot be made: {0}")]
    Make(String),
    /// Not a certificate that we can read.
    #[error("certificate cannot be read: {0}")]
    Unreadable(String),
    /// There is no `onemec://` name in it, or more than one, or a malformed one.
    #[error("certificate carries no valid onemec name ({0})")]
    NoIdentity(String),
    /// It names something else than what is accepted here (an AE where a node must be).
    #[error("certificate of {found} is not accepted here")]
    WrongKind {
        /// What it names.
        found: Identity,
    },
    /// Its domain is not trusted here.
    #[error("domain {found:?} is not trusted here")]
    WrongDomain {
        /// Its domain.
        found: String,
    },
    /// Not issued by the CA of the domain that it names.
    #[error("certificate was not issued by the CA of its domain")]
    WrongCa,
    /// Its time is over: renew it, or set the clock.
    #[error("certificate has expired")]
    Expired,
    /// Its time has not begun: set the clock.
    #[error("certificate is not valid yet")]
    NotYetValid,
    /// Valid, but not for this use.
    #[error("certificate may not be used for this")]
    WrongUsage,
    /// Key and certificate do not belong together, or the key is of an unknown kind.
    #[error("key cannot be used: {0}")]
    Key(String),
    /// rustls refused a configuration.
    #[error("TLS configuration: {0}")]
    Tls(String),
}
