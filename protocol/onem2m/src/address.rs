//! Resource addresses (TS-0001 7.2, TS-0004 6.2.3-6.2.4).

use crate::id::CseIdentity;
use crate::rsc::Refusal;
use crate::tables::ResourceType;

/// What an address is relative to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// No leading slash.
    Cse,
    /// `/cse-id/...`
    Sp {
        /// CSE-ID with its slash.
        cse_id: &'a str,
    },
    /// `//fqdn/cse-id/...`
    Absolute {
        /// FQDN without slashes.
        sp_id: &'a str,
        /// CSE-ID with its slash.
        cse_id: &'a str,
    },
}

/// Where the addressed resource is hosted (TS-0004 7.3.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host<'a> {
    /// This CSE.
    Here,
    /// Another CSE of this service provider, by its CSE-ID.
    Cse(&'a str),
    /// Another service provider.
    OtherDomain(&'a str),
}

/// A resource of this CSE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target<'a> {
    /// How the path begins.
    pub base: Base<'a>,
    /// Names below it, down to the resource or to the virtual resource's parent.
    pub names: Vec<&'a str>,
    /// The virtual resource that the path names below that, with what follows it (`fopt/la`).
    pub virtual_child: Option<(&'static ResourceType, Vec<&'a str>)>,
}

/// How the path of a [`Target`] begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base<'a> {
    /// At the CSEBase: its name, `-`, or nothing at all.
    CseBase,
    /// At the resource with this unstructured identifier.
    Resource(&'a str),
}

/// A parsed address; borrows from the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address<'a> {
    /// What it is relative to.
    pub scope: Scope<'a>,
    /// The CSE-relative part.
    pub segments: Vec<&'a str>,
    /// `#attr`: one attribute by its short name.
    pub attribute: Option<&'a str>,
}

impl<'a> Address<'a> {
    /// Parses `To` in any form.
    pub fn parse(_to: &'a str) -> Result<Self, Refusal> {
        unimplemented!()
    }
    /// Who hosts it.
    pub fn host(&self, _me: &CseIdentity) -> Host<'a> {
        unimplemented!()
    }
    /// The resource, if [`Address::host`] says that it is ours.
    pub fn target(&self, _me: &CseIdentity) -> Target<'a> {
        unimplemented!()
    }
}

/// The `To` of an HTTP path (TS-0009 6.2.2.1): `/` + CSE-relative, `/~` + SP-relative, `/_` for the first slash of an
/// absolute one. Percent-encoded octets are decoded; a path in which that would make a slash, a control character or a
/// broken text is refused.
pub fn from_http_path(_path: &str) -> Result<String, Refusal> {
    unimplemented!()
}

/// The HTTP path of an address, without its `#attr`.
pub fn to_http_path(_to: &str) -> String {
    unimplemented!()
}
