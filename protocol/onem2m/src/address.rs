//! Resource addresses (TS-0001 7.2, TS-0004 6.2.3-6.2.4).

use crate::id::CseIdentity;
use crate::limits::{ADDRESS_BYTES_MAX, ADDRESS_SEGMENTS_MAX, NAME_BYTES_MAX};
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
    /// Parses `To` in any form. A segment may hold any unreserved character of RFC 3986 (TS-0001 7.2).
    pub fn parse(to: &'a str) -> Result<Self, Refusal> {
        let bad = |why: &str| Refusal::bad_request(format!("to: {why}"));
        if to.len() > ADDRESS_BYTES_MAX {
            return Err(bad("too long"));
        }
        let (path, attribute) = match to.split_once('#') {
            Some((path, attribute)) if is_segment(attribute) => (path, Some(attribute)),
            Some(_) => return Err(bad("no attribute name behind #")),
            None => (to, None),
        };
        // A slash at the end says nothing.
        let path = path.strip_suffix('/').filter(|p| !p.is_empty() && !p.ends_with('/')).unwrap_or(path);
        let (scope, relative) = Self::scope(path).ok_or_else(|| bad("no CSE-ID"))?;
        let segments: Vec<_> = relative.split('/').take(ADDRESS_SEGMENTS_MAX + 1).collect();
        let segments = if relative.is_empty() { Vec::new() } else { segments };
        if segments.len() > ADDRESS_SEGMENTS_MAX {
            return Err(bad("too many segments"));
        }
        if !segments.iter().all(|s| is_segment(s)) {
            return Err(bad("a segment is empty, too long or has characters that names cannot have"));
        }
        if segments.is_empty() && scope == Scope::Cse {
            return Err(bad("empty"));
        }
        Ok(Self { scope, segments, attribute })
    }

    fn scope(path: &'a str) -> Option<(Scope<'a>, &'a str)> {
        // The CSE-ID with its slash in front, and what follows the slash behind it.
        let cse = |text: &'a str| {
            let end = text.get(1..)?.find('/').map_or(text.len(), |i| i + 1);
            let (cse_id, rest) = text.split_at_checked(end)?;
            is_segment(cse_id.get(1..)?).then_some((cse_id, rest.strip_prefix('/').unwrap_or(rest)))
        };
        if let Some(absolute) = path.strip_prefix("//") {
            let (sp_id, rest) = absolute.split_at_checked(absolute.find('/')?)?;
            let (cse_id, relative) = cse(rest)?;
            let lower = !sp_id.bytes().any(|b| b.is_ascii_uppercase());
            return (is_segment(sp_id) && lower).then_some((Scope::Absolute { sp_id, cse_id }, relative));
        }
        if path.starts_with('/') {
            let (cse_id, relative) = cse(path)?;
            return Some((Scope::Sp { cse_id }, relative));
        }
        Some((Scope::Cse, path))
    }

    /// Who hosts it.
    pub fn host(&self, me: &CseIdentity) -> Host<'a> {
        match self.scope {
            Scope::Cse => Host::Here,
            Scope::Absolute { sp_id, .. } if sp_id != &*me.sp_id => Host::OtherDomain(sp_id),
            Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } if cse_id == &*me.cse_id => Host::Here,
            Scope::Sp { cse_id } | Scope::Absolute { cse_id, .. } => Host::Cse(cse_id),
        }
    }

    /// The resource, if [`Address::host`] says that it is ours.
    pub fn target(&self, me: &CseIdentity) -> Target<'a> {
        let (base, names) = match self.segments.split_first() {
            None => (Base::CseBase, &[][..]),
            Some((first, rest)) if *first == "-" || *first == &*me.base_name => (Base::CseBase, rest),
            Some((first, rest)) => (Base::Resource(first), rest),
        };
        let place = names.iter().position(|n| ResourceType::virtual_named(n).is_some());
        let (names, behind) = names.split_at_checked(place.unwrap_or(names.len())).unwrap_or((names, &[]));
        let virtual_child = behind
            .split_first()
            .and_then(|(name, rest)| ResourceType::virtual_named(name).map(|info| (info, rest.to_vec())));
        Target { base, names: names.to_vec(), virtual_child }
    }
}

/// Renders what [`Address::parse`] reads.
impl std::fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.scope {
            Scope::Cse => {}
            Scope::Sp { cse_id } => f.write_str(cse_id)?,
            Scope::Absolute { sp_id, cse_id } => write!(f, "//{sp_id}{cse_id}")?,
        }
        for (i, segment) in self.segments.iter().enumerate() {
            if i > 0 || self.scope != Scope::Cse {
                f.write_str("/")?;
            }
            f.write_str(segment)?;
        }
        match self.attribute {
            Some(attribute) => write!(f, "#{attribute}"),
            None => Ok(()),
        }
    }
}

fn is_segment(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text != "."
        && text != ".."
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~' | b':' | b'@'))
}

/// The `To` of an HTTP path (TS-0009 6.2.2.1): `/` + CSE-relative, `/~` + SP-relative, `/_` for the first slash of an
/// absolute one. Percent-encoded octets are decoded; a path in which that would make a slash, a control character or a
/// broken text is refused.
pub fn from_http_path(path: &str) -> Result<String, Refusal> {
    let bad = |why: &str| Refusal::bad_request(format!("path: {why}"));
    if path.len() > 3 * ADDRESS_BYTES_MAX {
        return Err(bad("too long"));
    }
    let decoded = percent_decode(path, b"/").ok_or_else(|| bad("bad percent-encoding"))?;
    if let Some(sp_relative) = decoded.strip_prefix("/~/") {
        return Ok(format!("/{sp_relative}"));
    }
    if let Some(absolute) = decoded.strip_prefix("/_/") {
        return Ok(format!("//{absolute}"));
    }
    decoded.strip_prefix('/').map(str::to_owned).ok_or_else(|| bad("does not begin with a slash"))
}

/// The HTTP path of an address, without its `#attr`.
pub fn to_http_path(to: &str) -> String {
    let to = to.split('#').next().unwrap_or(to);
    let (prefix, rest) = match (to.strip_prefix("//"), to.strip_prefix('/')) {
        (Some(absolute), _) => ("/_/", absolute),
        (None, Some(sp_relative)) => ("/~/", sp_relative),
        (None, None) => ("/", to),
    };
    let mut path = String::from(prefix);
    percent_encode(&mut path, rest, b"/");
    path
}

/// Decodes `%xx`. `None` for an incomplete one, for one that decodes to a control character or to any of `forbidden`, and
/// for what is not UTF-8 then.
pub(crate) fn percent_decode(text: &str, forbidden: &[u8]) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut hex = || bytes.next().and_then(|b| char::from(b).to_digit(16));
        let decoded = u8::try_from(hex()? * 16 + hex()?).ok()?;
        if decoded.is_ascii_control() || forbidden.contains(&decoded) {
            return None;
        }
        out.push(decoded);
    }
    String::from_utf8(out).ok()
}

/// Encodes everything but unreserved characters and `plain`.
pub(crate) fn percent_encode(out: &mut String, text: &str, plain: &[u8]) {
    use std::fmt::Write;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || plain.contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> CseIdentity {
        CseIdentity { base_name: "cse-in".into(), cse_id: "/id-in".into(), sp_id: "sp.example".into() }
    }

    type Parts<'a> = (Base<'a>, Vec<&'a str>, Option<(&'static str, Vec<&'a str>)>);

    fn target(to: &str) -> Parts<'_> {
        let address = Address::parse(to).unwrap();
        assert_eq!(address.host(&me()), Host::Here, "{to}");
        let t = address.target(&me());
        (t.base, t.names, t.virtual_child.map(|(info, rest)| (info.short, rest)))
    }

    #[test]
    fn ts0004_6_2_4_forms() {
        assert_eq!(target("cse-in"), (Base::CseBase, vec![], None));
        assert_eq!(target("-/ae/cnt"), (Base::CseBase, vec!["ae", "cnt"], None));
        assert_eq!(target("/id-in"), (Base::CseBase, vec![], None));
        assert_eq!(target("/id-in/-"), (Base::CseBase, vec![], None));
        assert_eq!(target("/id-in/cse-in/ae"), (Base::CseBase, vec!["ae"], None));
        assert_eq!(target("//sp.example/id-in/cse-in/ae/"), (Base::CseBase, vec!["ae"], None));
        assert_eq!(target("cnt42"), (Base::Resource("cnt42"), vec![], None));
        assert_eq!(target("cnt42/la"), (Base::Resource("cnt42"), vec![], Some(("la", vec![]))));
        assert_eq!(target("grp1/fopt/x/la"), (Base::Resource("grp1"), vec![], Some(("fopt", vec!["x", "la"]))));
        assert_eq!(target("cse-in/ae/cnt/ol"), (Base::CseBase, vec!["ae", "cnt"], Some(("ol", vec![]))));
        // The ABNF of TS-0004 6.2.4 lets any child name follow an unstructured identifier.
        assert_eq!(target("cnt42/child"), (Base::Resource("cnt42"), vec!["child"], None));
        // `-` is the shortcut as a whole first segment only.
        assert_eq!(target("cse-in/-"), (Base::CseBase, vec!["-"], None));
    }

    #[test]
    fn ts0004_7_3_2_8_hosting() {
        let host = |to| Address::parse(to).unwrap().host(&me());
        assert_eq!(host("/id-mn/x"), Host::Cse("/id-mn"));
        assert_eq!(host("//sp.example/id-mn/x"), Host::Cse("/id-mn"));
        assert_eq!(host("//other.example/id-in/x"), Host::OtherDomain("other.example"));
        assert_eq!(host("//other.example/id-in"), Host::OtherDomain("other.example"));
    }

    #[test]
    fn ts0004_7_3_3_6_fragment() {
        assert_eq!(Address::parse("cse-in/ae#rr").unwrap().attribute, Some("rr"));
        assert!(Address::parse("cse-in/ae#").is_err());
        assert!(Address::parse("cse-in/ae#a#b").is_err());
    }

    #[test]
    fn refuses_what_is_no_address() {
        let deep = vec!["x"; ADDRESS_SEGMENTS_MAX + 1].join("/");
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for bad in
            ["", "/", "//", "///", "//sp", "//SP.example/cse/x", "a//b", "a/../b", ".", "a b", "é", "a?b", &deep, &long]
        {
            assert_eq!(Address::parse(bad).unwrap_err().rsc, crate::Rsc::BAD_REQUEST, "{bad}");
        }
    }

    #[test]
    fn ts0009_6_2_2_1_paths() {
        for (path, to) in
            [("/cse-in/ae", "cse-in/ae"), ("/~/id-in/x", "/id-in/x"), ("/_/sp.example/id-in/x", "//sp.example/id-in/x")]
        {
            assert_eq!(from_http_path(path).unwrap(), to);
            assert_eq!(to_http_path(to), path);
        }
        assert_eq!(from_http_path("/%63se-in").unwrap(), "cse-in");
        for bad in ["cse-in", "", "/a%2Fb", "/a%00", "/a%", "/a%4", "/a%zz", "/%ff"] {
            assert!(from_http_path(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn parses_what_it_renders(to in "(/{0,2}[a-z.-]{1,8}){1,5}(#[a-z]{2})?") {
            if let Ok(address) = Address::parse(&to) {
                let text = address.to_string();
                proptest::prop_assert_eq!(Address::parse(&text).unwrap(), address);
            }
        }
        #[test]
        fn path_round_trip(to in "/{0,2}[a-zA-Z0-9][ -~&&[^/#]]{0,20}") {
            let path = to_http_path(&to);
            proptest::prop_assert_eq!(from_http_path(&path).unwrap(), to);
        }
        #[test]
        fn never_panics(text in ".{0,60}") {
            if let Ok(address) = Address::parse(&text) {
                address.host(&me());
                address.target(&me());
            }
            let _ = from_http_path(&text);
            let _ = to_http_path(&text);
        }
    }
}
