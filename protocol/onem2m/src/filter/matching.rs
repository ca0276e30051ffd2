//! Whether a resource satisfies filter criteria (TS-0004 7.3.3.17).

use std::borrow::Cow;

use super::{AttributeFilter, FilterCriteria, FilterOperation, FilterUsage, compare, labels};
use crate::content_info::ContentInfo;
use crate::rsc::Refusal;
use crate::tables::{AttrId, Ty};
use crate::time::Timestamp;
use crate::value::Value;
use crate::view::{Resource, Tree};

impl FilterCriteria {
    /// Whether any matching condition is given (else everything matches).
    pub fn has_conditions(&self) -> bool {
        let handling = Self {
            fu: self.fu,
            fo: self.fo,
            lim: self.lim,
            lvl: self.lvl,
            ofst: self.ofst,
            arp: self.arp.clone(),
            cfs: self.cfs,
            ..Self::default()
        };
        *self != handling
    }

    /// What this CSE does not do: semantic and content filters, on-demand discovery of an IPE and discovery-based
    /// operations (NOT_IMPLEMENTED).
    pub fn check(&self) -> Result<(), Refusal> {
        if !self.smf.is_empty() {
            return Err(Refusal::not_implemented("fc: smf"));
        }
        if self.cfs.is_some() || self.cfq.is_some() {
            return Err(Refusal::not_implemented("fc: cfs, cfq"));
        }
        if matches!(self.fu, Some(FilterUsage::IpeDiscovery | FilterUsage::DiscoveryBasedOperation)) {
            return Err(Refusal::not_implemented("fc: fu 3 and 4"));
        }
        Ok(())
    }

    /// Whether `node` matches: values of one tag are alternatives, different tags are combined by `fo`. What
    /// [`FilterCriteria::check`] refuses matches nothing.
    pub fn matches<T: Tree>(&self, tree: &T, node: &T::Node) -> bool {
        let mut verdict = Verdict { any: self.fo == Some(FilterOperation::Or), settled: false, result: None };
        let number = |id| node.get(id).and_then(|v| v.as_int());
        let time = |id| node.get(id).and_then(|v| v.as_time());
        // Lower bounds are inclusive, upper ones exclusive.
        let from = |bound: Timestamp, id| time(id).is_some_and(|t| bound <= t);
        let before = |bound: Timestamp, id| time(id).is_some_and(|t| t < bound);
        let at_least = |bound: u64, id| number(id).is_some_and(|n| i128::from(bound) <= i128::from(n));
        let below = |bound: u64, id| number(id).is_some_and(|n| i128::from(n) < i128::from(bound));
        verdict.opt(self.crb, |v| before(v, AttrId::CT));
        verdict.opt(self.cra, |v| from(v, AttrId::CT));
        verdict.opt(self.us, |v| before(v, AttrId::LT));
        verdict.opt(self.ms, |v| from(v, AttrId::LT));
        verdict.opt(self.exb, |v| before(v, AttrId::ET));
        verdict.opt(self.exa, |v| from(v, AttrId::ET));
        verdict.opt(self.sts, |v| below(v, AttrId::ST));
        verdict.opt(self.stb, |v| at_least(v, AttrId::ST));
        verdict.opt(self.szb, |v| below(v, AttrId::CS));
        verdict.opt(self.sza, |v| at_least(v, AttrId::CS));
        verdict.opt(self.lbq.as_deref(), |query| {
            labels::parse(query).is_some_and(|q| match node.get(AttrId::LBL) {
                Some(value) => q.holds(value.as_list().unwrap_or_default().iter().filter_map(Value::as_str)),
                None => q.holds(std::iter::empty()),
            })
        });
        verdict.list(&self.ty, |ty| node.ty() == *ty);
        verdict.list(&self.lbl, |label| has_label(node, label));
        verdict.list(&self.cty, |wanted| has_content_type(node, wanted));
        let wildcards = self.fu == Some(FilterUsage::Discovery);
        verdict.attributes(&self.atr, |filter| attribute_matches(node, filter, wildcards));
        self.matches_family(&mut verdict, tree, node, wildcards);
        verdict.list(&self.smf, |_| false);
        verdict.opt(self.cfq.as_deref(), |_| false);
        verdict.result.unwrap_or(true)
    }

    /// The tags that look at the parent and at the children.
    fn matches_family<T: Tree>(&self, verdict: &mut Verdict, tree: &T, node: &T::Node, wildcards: bool) {
        if !(self.palb.is_empty() && self.pty.is_empty() && self.patr.is_empty()) {
            let parent = tree.parent(node);
            let parent = |test: &dyn Fn(&T::Node) -> bool| parent.as_ref().is_some_and(test);
            verdict.list(&self.palb, |label| parent(&|p| has_label(p, label)));
            verdict.list(&self.pty, |ty| parent(&|p| p.ty() == *ty));
            verdict.attributes(&self.patr, |filter| parent(&|p| attribute_matches(p, filter, wildcards)));
        }
        let child = |test: &dyn Fn(&T::Node) -> bool| {
            let mut found = false;
            tree.children(node, &mut |c| {
                found = test(&c);
                !found
            });
            found
        };
        verdict.list(&self.clbl, |label| child(&|c| has_label(c, label)));
        verdict.list(&self.chty, |ty: &Ty| child(&|c| c.ty() == *ty));
        verdict.attributes(&self.catr, |filter| child(&|c| attribute_matches(c, filter, wildcards)));
    }
}

/// Combines the tags.
struct Verdict {
    /// `fo` is OR.
    any: bool,
    /// The result is certain: what follows need not be looked at.
    settled: bool,
    result: Option<bool>,
}

impl Verdict {
    fn add(&mut self, test: impl FnOnce() -> bool) {
        if self.settled {
            return;
        }
        let held = test();
        self.result = Some(held);
        self.settled = held == self.any;
    }
    fn opt<V>(&mut self, value: Option<V>, test: impl FnOnce(V) -> bool) {
        if let Some(value) = value {
            self.add(|| test(value));
        }
    }
    fn list<V>(&mut self, values: &[V], test: impl Fn(&V) -> bool) {
        if !values.is_empty() {
            self.add(|| values.iter().any(test));
        }
    }
    /// Each attribute's name is a tag of its own.
    fn attributes(&mut self, filters: &[AttributeFilter], test: impl Fn(&AttributeFilter) -> bool) {
        for (i, filter) in filters.iter().enumerate() {
            let earlier = filters.get(..i).unwrap_or_default();
            if !earlier.iter().any(|f| f.name == filter.name) {
                self.add(|| filters.iter().filter(|f| f.name == filter.name).any(&test));
            }
        }
    }
}

fn has_label(node: &impl Resource, label: &str) -> bool {
    node.get(AttrId::LBL).is_some_and(|v| v.strings().any(|l| l == label))
}

/// The media type part of `cnf` equals the wanted one.
fn has_content_type(node: &impl Resource, wanted: &str) -> bool {
    let cnf = node.get(AttrId::CNF);
    cnf.as_deref().and_then(Value::as_str).and_then(ContentInfo::parse).is_some_and(|c| c.media_type == wanted)
}

fn attribute_matches(node: &impl Resource, filter: &AttributeFilter, wildcards: bool) -> bool {
    node.get(filter.name).as_ref().map(Cow::as_ref).is_some_and(|v| compare::value_matches(v, &filter.value, wildcards))
}
