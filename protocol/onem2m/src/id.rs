//! Identifiers of CSEs and AEs (TS-0001 7.2, TS-0004 6.2.3) and names of resources.

use std::borrow::Cow;

use crate::limits::NAME_BYTES_MAX;
use crate::tables::ResourceType;

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
    /// AE-ID stem `S...`, unique in the service provider's domain.
    AeS {
        /// Stem.
        stem: &'a str,
    },
    /// CSE-ID with its slash.
    Cse(&'a str),
    /// Any of them with its domain.
    Absolute {
        /// FQDN without slashes.
        sp_id: &'a str,
        /// The SP-relative form, with one leading slash.
        rest: &'a str,
    },
}

impl<'a> EntityId<'a> {
    /// Reads any form of identifier; `None` if it has none. `/S...` alone is taken for an AE-ID (TS-0001 7.2), so a
    /// CSE-ID that begins with a capital S cannot be told apart and is not used.
    pub fn parse(id: &'a str) -> Option<Self> {
        if let Some(absolute) = id.strip_prefix("//") {
            let (sp_id, after) = absolute.split_once('/')?;
            let rest = id.get(id.len() - after.len() - 1..)?;
            let known = !after.starts_with('/') && Self::parse(rest).is_some();
            return (is_id_part(sp_id) && known).then_some(Self::Absolute { sp_id, rest });
        }
        let Some(relative) = id.strip_prefix('/') else {
            return is_id_part(id).then(|| Self::stem(None, id))?;
        };
        match relative.split_once('/') {
            // The text of TS-0001 7.2 wants `/S...`; `/cse/S...` is what some registrars send (TS-0001 10.2.2.2).
            Some((cse, stem)) if is_id_part(cse) && is_id_part(stem) => Self::stem(id.get(..=cse.len()), stem),
            Some(_) => None,
            None if !is_id_part(relative) => None,
            None if relative.starts_with('S') => Some(Self::AeS { stem: relative }),
            None => Some(Self::Cse(id)),
        }
    }

    fn stem(cse: Option<&'a str>, stem: &'a str) -> Option<Self> {
        match stem.as_bytes().first() {
            Some(b'C') => Some(Self::AeC { cse, stem }),
            Some(b'S') => Some(Self::AeS { stem }),
            _ => None,
        }
    }
}

impl CseIdentity {
    /// The one form in which identifiers are compared: SP-relative in our domain (`/cse-1/C12`, `/S7`, `/cse-2`), absolute
    /// outside. A stem is taken to be registered here. What is no identifier comes back as it is.
    pub fn normal_id<'a>(&self, id: &'a str) -> Cow<'a, str> {
        match EntityId::parse(id) {
            Some(EntityId::AeC { cse: None, stem }) => Cow::Owned(format!("{}/{stem}", self.cse_id)),
            Some(EntityId::AeS { stem }) if id.len() != stem.len() + 1 => Cow::Owned(format!("/{stem}")),
            Some(EntityId::Absolute { sp_id, rest }) if sp_id == &*self.sp_id => self.normal_id(rest),
            _ => Cow::Borrowed(id),
        }
    }
}

/// Whether a resource name is acceptable (TS-0004 6.2.3): a letter or digit, then also `-`, `.`, `_`; not the fixed name
/// of a virtual resource.
pub fn is_name(name: &str) -> bool {
    is_id_part(name) && ResourceType::virtual_named(name).is_none()
}

/// A segment of an identifier.
fn is_id_part(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> CseIdentity {
        CseIdentity { base_name: "cse-in".into(), cse_id: "/cse-1".into(), sp_id: "sp.example".into() }
    }

    #[test]
    fn ts0001_7_2_kinds_of_identifiers() {
        assert_eq!(EntityId::parse("C12"), Some(EntityId::AeC { cse: None, stem: "C12" }));
        assert_eq!(EntityId::parse("/cse-2/C12"), Some(EntityId::AeC { cse: Some("/cse-2"), stem: "C12" }));
        assert_eq!(EntityId::parse("S7"), Some(EntityId::AeS { stem: "S7" }));
        assert_eq!(EntityId::parse("/S7"), Some(EntityId::AeS { stem: "S7" }));
        assert_eq!(EntityId::parse("/cse-2"), Some(EntityId::Cse("/cse-2")));
        assert_eq!(
            EntityId::parse("//other.example/cse-9/C1"),
            Some(EntityId::Absolute { sp_id: "other.example", rest: "/cse-9/C1" })
        );
        // Other first characters of a stem are reserved.
        for bad in [
            "",
            "/",
            "//",
            "///",
            "x12",
            "/cse/x",
            "/cse/C1/y",
            "C 1",
            "C\u{e9}",
            "//sp",
            "//sp/",
            "//sp//C1",
            "_C",
            "//a//b/c",
        ] {
            assert_eq!(EntityId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ts0003_7_1_ids_are_compared_in_one_form() {
        for same in ["C12", "/cse-1/C12", "//sp.example/cse-1/C12"] {
            assert_eq!(me().normal_id(same), "/cse-1/C12");
        }
        for same in ["S7", "/S7", "/cse-1/S7", "//sp.example/S7"] {
            assert_eq!(me().normal_id(same), "/S7");
        }
        assert_eq!(me().normal_id("//other/cse-1/C12"), "//other/cse-1/C12");
        assert_eq!(me().normal_id("/cse-2"), "/cse-2");
        assert_eq!(me().normal_id("http://x"), "http://x");
    }

    #[test]
    fn ts0004_6_2_3_names() {
        assert!(is_name("sensor7") && is_name("7-a.b_c") && is_name("A"));
        for bad in ["", "_x", "-", "~", "a/b", "a b", "é", "la", "ol", "fopt", &"x".repeat(256)] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics_and_normal_form_is_stable(id in "[/CSa.é-]{0,12}") {
            let once = me().normal_id(&id).into_owned();
            proptest::prop_assert_eq!(me().normal_id(&once), &*once);
        }
    }
}
