//! Residency labels (COVERAGE.md row G15): where the data of a context may be. The same check limits moves, candidates
//! and replicas. A label that cannot be read permits nothing.

use std::collections::BTreeSet;

/// A label is no longer than this, in bytes.
pub const LABEL_BYTES_MAX: usize = 1024;
/// Hosts or trust words in one part of a label.
pub const WORDS_MAX: usize = 64;

/// Where data may be. All parts must hold; an empty label permits every place.
///
/// Text: parts separated by `;`. `device` (only the host at which the AE is at home), `hosts:edge1,edge2` (one of these
/// nodes), `domain:local.onemec` (this service provider), `region:berlin,brandenburg` (in one of these regions),
/// `trust:operator,iso27001` (all of these words).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Residency {
    nowhere: bool,
    device: bool,
    hosts: Option<BTreeSet<String>>,
    domain: Option<String>,
    regions: Option<BTreeSet<String>>,
    trust: BTreeSet<String>,
}

/// A place that data may be brought to.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// Name of the node.
    pub name: &'a str,
    /// Its domain.
    pub domain: &'a str,
    /// The region that it stands in; empty: not known.
    pub region: &'a str,
    /// Its trust words.
    pub trust: &'a BTreeSet<String>,
    /// The AE is at home there.
    pub is_home: bool,
}

/// A label that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("residency label cannot be read: {0}")]
pub struct BadLabel(pub String);

impl Residency {
    /// Permits every place.
    pub fn anywhere() -> Self {
        Self::default()
    }
    /// Permits no place: what a label that cannot be read means.
    pub fn nowhere() -> Self {
        Self { nowhere: true, ..Self::default() }
    }

    /// Reads a label.
    pub fn parse(text: &str) -> Result<Self, BadLabel> {
        if text.len() > LABEL_BYTES_MAX {
            return Err(BadLabel(format!("longer than {LABEL_BYTES_MAX} bytes")));
        }
        let mut label = Self::default();
        for part in text.split(';').map(str::trim).filter(|p| !p.is_empty()) {
            match part.split_once(':') {
                None if part == "device" => label.device = true,
                Some(("hosts", words)) if label.hosts.is_none() => label.hosts = Some(set(words)?),
                Some(("region", words)) if label.regions.is_none() => label.regions = Some(set(words)?),
                Some(("domain", domain)) if label.domain.is_none() && !domain.trim().is_empty() => {
                    label.domain = Some(domain.trim().to_owned());
                }
                Some(("trust", words)) if label.trust.is_empty() => label.trust = set(words)?,
                _ => return Err(BadLabel(format!("{part:?} is unknown, empty or stands there twice"))),
            }
        }
        Ok(label)
    }

    /// Reads a label; one that cannot be read permits nothing.
    pub fn parse_closed(text: &str) -> Self {
        Self::parse(text).unwrap_or_else(|_| Self::nowhere())
    }

    /// The hosts that it names, if it does.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.hosts.iter().flatten().map(String::as_str)
    }

    /// No limit at all.
    pub fn is_anywhere(&self) -> bool {
        *self == Self::default()
    }

    /// May the data be there? `Err` with a sentence.
    pub fn permits(&self, site: Site<'_>) -> Result<(), String> {
        if self.nowhere {
            return Err("the residency label cannot be read, so that the data stays where it is".into());
        }
        if self.device && !site.is_home {
            return Err("the data stays at the host of its device".into());
        }
        if let Some(hosts) = &self.hosts
            && !hosts.contains(site.name)
        {
            return Err(format!("the data stays on {}", list(hosts)));
        }
        if let Some(domain) = &self.domain
            && domain != site.domain
        {
            return Err(format!("the data stays in the domain {domain}"));
        }
        if let Some(regions) = &self.regions
            && !regions.contains(site.region)
        {
            return Err(format!("the data stays in the region {}", list(regions)));
        }
        match self.trust.iter().find(|word| !site.trust.contains(*word)) {
            Some(word) => Err(format!("the data needs a host with the trust word {word}")),
            None => Ok(()),
        }
    }
}

fn set(words: &str) -> Result<BTreeSet<String>, BadLabel> {
    let set: BTreeSet<String> =
        words.split(',').map(str::trim).filter(|w| !w.is_empty()).map(ToOwned::to_owned).collect();
    match set.len() {
        1..=WORDS_MAX => Ok(set),
        n => Err(BadLabel(format!("{n} words where 1 to {WORDS_MAX} belong"))),
    }
}

fn list(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn permits(label: &str, name: &str, domain: &str, trust: &[&str], is_home: bool) -> bool {
        let trust = trust.iter().map(|w| (*w).to_owned()).collect();
        Residency::parse(label)
            .unwrap()
            .permits(Site { name, domain, region: "berlin", trust: &trust, is_home })
            .is_ok()
    }

    #[test]
    fn all_parts_must_hold() {
        assert!(permits("", "edge1", "d", &[], false));
        assert!(permits("hosts:edge1, edge2", "edge2", "d", &[], false));
        assert!(!permits("hosts:edge1,edge2", "edge3", "d", &[], false));
        assert!(permits("domain:d;trust:a,b", "edge3", "d", &["a", "b", "c"], false));
        assert!(!permits("domain:d;trust:a,b", "edge3", "d", &["a"], false));
        assert!(!permits("domain:d;trust:a", "edge3", "e", &["a"], false));
        assert!(permits("region:paris,berlin", "edge3", "d", &[], false));
        assert!(!permits("region:paris", "edge3", "d", &[], false));
        assert!(permits("device", "edge1", "d", &[], true));
        assert!(!permits("device", "edge1", "d", &[], false));
    }

    #[test]
    fn what_cannot_be_read_permits_nothing() {
        let long = "x".repeat(LABEL_BYTES_MAX + 1);
        for bad in ["planet:earth", "hosts:", "domain: ", "device:x", "hosts:a;hosts:b", "hosts", long.as_str()] {
            assert!(Residency::parse(bad).is_err(), "{bad}");
            let site = Site { name: "edge1", domain: "d", region: "", trust: &BTreeSet::new(), is_home: true };
            assert!(Residency::parse_closed(bad).permits(site).is_err());
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = Residency::parse_closed(&text);
        }
    }
}
