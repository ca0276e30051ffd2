//! Where an AE's data may be (row G15): the label that an operator gave it, else the first rule of the topology that names
//! it. Node facts come from the directory, so that all nodes decide alike.

use std::collections::BTreeSet;

use onemec_core::context::Key;
use onemec_core::directory::Directory;
use onemec_mobility::residency::{Residency, Site};
use onemec_wire::{GroupId, NodeId};

use super::steward::AE_KEY;
use crate::topology::ResidencyRule;

/// Prefix of the facts that label single AEs; the AE-ID follows.
const FACT: &str = "residency/";

/// Name of the fact that labels an AE.
pub(super) fn fact_of(ae: &str) -> String {
    format!("{FACT}{ae}")
}

/// The rules of the topology, read once.
pub(super) struct Rules(Vec<(ResidencyRule, Residency)>);

/// What nodes say of themselves when they come up, for labels.
pub(super) fn info(domain: &str, region: &str, trust: &[String]) -> [(String, String); 3] {
    [
        ("domain".to_owned(), domain.to_owned()),
        ("region".to_owned(), region.to_owned()),
        ("trust".to_owned(), trust.join(",")),
    ]
}

impl Rules {
    pub(super) fn new(rules: &[ResidencyRule]) -> Self {
        Self(rules.iter().map(|r| (r.clone(), Residency::parse_closed(&r.label))).collect())
    }

    /// The label of an AE as text, if it has one.
    pub(super) fn text_of(&self, directory: &Directory, ae: &str) -> Option<String> {
        let labelled = directory.fact(&fact_of(ae)).map(str::to_owned);
        labelled.or_else(|| self.rule(ae).map(|(rule, _)| rule.label.clone()))
    }

    /// The label of an AE; permits every place if it has none.
    pub(super) fn label_of(&self, directory: &Directory, ae: &str) -> Residency {
        match directory.fact(&fact_of(ae)) {
            Some(text) => Residency::parse_closed(text),
            None => self.rule(ae).map(|(_, label)| label.clone()).unwrap_or_default(),
        }
    }

    fn rule(&self, ae: &str) -> Option<&(ResidencyRule, Residency)> {
        self.0.iter().find(|(rule, _)| matches(&rule.aes, ae))
    }

    /// The labels of a group's contexts.
    pub(super) fn labels_of(&self, directory: &Directory, group: GroupId) -> Vec<Residency> {
        let contexts = directory.group(group).map(|p| p.contexts.clone()).unwrap_or_default();
        let names = contexts.iter().filter_map(|c| ae_of(&directory.context(*c)?.keys));
        names.map(|ae| self.label_of(directory, ae)).filter(|label| !label.is_anywhere()).collect()
    }

    /// May the data of a context with these names, at home at `home`, be on a node?
    pub(super) fn permits(&self, directory: &Directory, keys: &[Key], home: NodeId, node: NodeId) -> bool {
        let Some(ae) = ae_of(keys) else { return true };
        let label = self.label_of(directory, ae);
        label.is_anywhere() || with_site(directory, node, home == node, |site| label.permits(site).is_ok())
    }

    /// Is any AE labelled?
    pub(super) fn any(&self, directory: &Directory) -> bool {
        !self.0.is_empty() || directory.facts(FACT).next().is_some()
    }

    /// A number that changes when a label does.
    pub(super) fn version(directory: &Directory) -> u64 {
        use std::hash::{Hash as _, Hasher as _};
        let mut hasher = std::hash::DefaultHasher::new();
        directory.facts(FACT).for_each(|fact| fact.hash(&mut hasher));
        hasher.finish()
    }
}

/// Shows a node as the directory knows it. One that is not known is nowhere.
fn with_site<T>(directory: &Directory, node: NodeId, is_home: bool, look: impl FnOnce(Site<'_>) -> T) -> T {
    let info = directory.node(node).map(|n| &n.info);
    let text = |key: &str| info.and_then(|i| i.get(key)).map_or("", String::as_str);
    let trust: BTreeSet<String> = text("trust").split(',').filter(|w| !w.is_empty()).map(str::to_owned).collect();
    look(Site { name: text("name"), domain: text("domain"), region: text("region"), trust: &trust, is_home })
}

/// The AE-IDs of a group.
pub(super) fn aes_in(directory: &Directory, group: GroupId) -> Vec<String> {
    let contexts = directory.group(group).map_or(&[][..], |p| &p.contexts);
    contexts.iter().filter_map(|c| ae_of(&directory.context(*c)?.keys)).map(str::to_owned).collect()
}

fn ae_of(keys: &[Key]) -> Option<&str> {
    keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY))
}

/// `*` stands for any text, also none.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((head, rest)) => {
            let Some(left) = text.strip_prefix(head) else { return false };
            left.char_indices().map(|(i, _)| i).chain([left.len()]).any(|i| matches(rest, &left[i..]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        for (pattern, text, fits) in [
            ("*", "Cmeter", true),
            ("Cmeter", "Cmeter", true),
            ("Cmeter", "Cmeter7", false),
            ("Cmed*", "Cmed-17", true),
            ("Cmed*", "Cmeter", false),
            ("C*7", "Cmed-17", true),
            ("C*7", "Cmed-1", false),
            ("*", "", true),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern} {text}");
        }
    }
}
