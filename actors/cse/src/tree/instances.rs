//! The contentInstances of one container: references into the history, in the order of their creation (I4).

use std::collections::{BTreeMap, VecDeque};

use onemec_onem2m::{Attributes, Span};
use onemec_wire::Seq;

use super::Creator;

/// Prefix of the names that we give to instances; the rest is their place in base 36.
const NAME_PREFIX: &str = "cin-";

/// One contentInstance. Its body is the body of record `seq`.
#[derive(Debug, Clone, PartialEq)]
pub struct Instance {
    /// Place of the record that created it.
    pub seq: Seq,
    /// Creation time; an instance is never modified.
    pub ct: u64,
    /// Expiration time.
    pub et: u64,
    /// State tag.
    pub st: u64,
    /// Content size as the standard counts it.
    pub cs: u32,
    /// Where the JSON text of `con` stands in the record's body.
    pub con: Span,
    /// What most instances do not have.
    pub extra: Option<Box<Extra>>,
}

/// The seldom parts of an instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Extra {
    /// `rn`, if it is not the derived one.
    pub name: Option<Box<str>>,
    /// The creator, if `cr` was asked for.
    pub creator: Option<Creator>,
    /// Other attributes that the client gave.
    pub attributes: Attributes,
}

impl Instance {
    /// The `rn` that we give to an instance at this place.
    pub fn derived_name(seq: Seq) -> String {
        let mut name = String::from(NAME_PREFIX);
        crate::rid::push36(&mut name, seq.0);
        name
    }

    /// `rn`.
    pub fn name(&self) -> String {
        self.given_name().map_or_else(|| Self::derived_name(self.seq), str::to_owned)
    }

    /// `rn`, if a client chose it.
    pub fn given_name(&self) -> Option<&str> {
        self.extra.as_ref().and_then(|e| e.name.as_deref())
    }
}

/// All instances of a container.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Instances {
    list: VecDeque<Instance>,
    names: BTreeMap<Box<str>, Seq>,
    bytes: u64,
}

impl Instances {
    /// How many.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Bytes of memory that they take, roughly; their bodies are in the history. The seldom parts are not looked at one by
    /// one: that would cost as much as the instances are many.
    pub fn memory_bytes(&self) -> usize {
        const NAMED: usize = 256;
        size_of::<Self>() + self.list.capacity() * size_of::<Instance>() + self.names.len() * NAMED
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Sum of their content sizes (`cbs`).
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Instance> + ExactSizeIterator {
        self.list.iter()
    }

    /// `ol`.
    pub fn oldest(&self) -> Option<&Instance> {
        self.list.front()
    }

    /// `la`.
    pub fn latest(&self) -> Option<&Instance> {
        self.list.back()
    }

    /// The instance that record `seq` created.
    pub fn get(&self, seq: Seq) -> Option<&Instance> {
        self.index(seq).and_then(|i| self.list.get(i))
    }

    /// The instance with this name.
    pub fn by_name(&self, name: &str) -> Option<&Instance> {
        if let Some(seq) = self.names.get(name) {
            return self.get(*seq);
        }
        let seq = crate::rid::parse36(name.strip_prefix(NAME_PREFIX)?)?;
        self.get(Seq(seq)).filter(|i| i.given_name().is_none())
    }

    pub(super) fn push(&mut self, instance: Instance) {
        if let Some(name) = instance.given_name() {
            self.names.insert(name.into(), instance.seq);
        }
        self.bytes += u64::from(instance.cs);
        self.list.push_back(instance);
    }

    pub(super) fn remove(&mut self, seq: Seq) -> Option<Instance> {
        let index = self.index(seq)?;
        let removed = self.list.remove(index)?;
        if let Some(name) = removed.given_name() {
            self.names.remove(name);
        }
        self.bytes -= u64::from(removed.cs);
        Some(removed)
    }

    /// Brings the expiration times down to that age; which were changed, with the times before and after.
    pub(super) fn cap_ages(&mut self, age_ms: u64) -> Vec<(Seq, u64, u64)> {
        let mut changed = Vec::new();
        for instance in &mut self.list {
            let latest = instance.ct.saturating_add(age_ms);
            if instance.et > latest {
                changed.push((instance.seq, instance.et, latest));
                instance.et = latest;
            }
        }
        changed
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        self.list.binary_search_by_key(&seq, |i| i.seq).ok()
    }
}
