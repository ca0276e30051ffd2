//! Identifiers of CSEs and AEs (TS-0001 7.2, TS-0004 6.2.3) and names of resources.

use std::borrow::Cow;

/// Who this CSE is: what addresses and identifiers are relative to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CseIdentity {
    /// `rn` of the CSEBase.
    pub base_name: Box<str>,
    /// `csi`, with its leading slash: `/cse-1`.
    pub cse_id: Box<str>,
    /// The M2M service provider's FQDN without slashes, lower case.
    pub sp_id: Box<str>,
}

/// What kind of entity an originator or receiver identifier names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntityId<'a> {
    /// AE-ID stem `C...`, relative to its registrar (`None`: this CSE).
    AeC {
        /// CSE-ID with its slash.
        cse: Option<&'a str>,
        /// Stem.
        stem: &'a str,
    },
    /// AE-ID stem `S...`, unique in the service provider's domain. `cse` if it was given all the same.
    AeS {
        /// Stem.
        stem: &'a str,
    },
    /// CSE-ID with its slash.
    Cse(&'a str),
    /// Any of them in another (or explicitly in our) domain.
    Absolute {
        /// FQDN without slashes.
        sp_id: &'a str,
        /// The SP-relative form, with one leading slash.
        rest: &'a str,
    },
}

impl<'a> EntityId<'a> {
    /// Reads any form of identifier; `None` if it has none.
    pub fn parse(_id: &'a str) -> Option<Self> {
        unimplemented!()
    }
}

impl CseIdentity {
    /// The one form in which identifiers are compared: SP-relative in our domain (`/cse-1/C12`, `/S7`, `/cse-2`), absolute
    /// outside. A stem is taken to be registered here. What is no identifier comes back as it is.
    pub fn normal_id<'a>(&self, _id: &'a str) -> Cow<'a, str> {
        unimplemented!()
    }
}

/// Whether a resource name is acceptable (TS-0004 6.2.3): a letter or digit, then also `-`, `.`, `_`; not the fixed name
/// of a virtual resource.
pub fn is_name(_name: &str) -> bool {
    unimplemented!()
}
