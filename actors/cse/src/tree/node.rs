//! One stored resource.

use std::collections::BTreeMap;

use onemec_onem2m::{AttrId, Attributes, Ty, Value};
use onemec_wire::Seq;

use super::Instances;

/// Who created a resource. Kept for every resource, also without the `cr` attribute: with no `acpi` only the creator has
/// access (TS-0001 9.6.1.3.2).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, bincode::Encode, bincode::Decode)]
pub enum Creator {
    /// The AE whose context this is: needs no rewriting when the AE moves.
    Owner,
    /// The CSE that serves the context, whichever that is.
    Cse,
    /// Somebody else, as SP-relative id.
    Other(Box<str>),
}

/// A resource that is not a contentInstance.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Place of the record that created it.
    pub seq: Seq,
    /// Type.
    pub ty: Ty,
    /// `rn`.
    pub name: Box<str>,
    /// `ri` where it is not derived: an AE's stem, a CSEBase's id.
    pub fixed_id: Option<String>,
    /// Parent; `None` for the root of the context.
    pub parent: Option<Seq>,
    /// Creation time.
    pub ct: u64,
    /// Time of the last modification.
    pub lt: u64,
    /// Expiration time; a CSEBase has none.
    pub et: Option<u64>,
    /// State tag, for types that have one.
    pub st: Option<u64>,
    /// Creator.
    pub creator: Creator,
    /// `cr` was asked for: show it.
    pub shows_creator: bool,
    /// All attributes that the CSE does not derive from the other fields.
    pub attributes: Attributes,
    /// Children by name.
    pub children: BTreeMap<Box<str>, Seq>,
    /// Those children that are subscriptions, in the order of their creation.
    pub subscriptions: Vec<Seq>,
    /// The contentInstances of a container.
    pub instances: Option<Box<Instances>>,
}

impl Node {
    /// A number among the attributes.
    pub fn number(&self, id: AttrId) -> Option<u64> {
        self.attributes.get(id).and_then(Value::as_u64)
    }

    /// A truth value among the attributes; false if absent.
    pub fn flag(&self, id: AttrId) -> bool {
        self.attributes.get(id).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A text among the attributes.
    pub fn text(&self, id: AttrId) -> Option<&str> {
        self.attributes.get(id).and_then(Value::as_str)
    }

    /// The texts of a list among the attributes.
    pub fn texts(&self, id: AttrId) -> impl Iterator<Item = &str> {
        self.attributes.get(id).into_iter().flat_map(Value::strings)
    }

    /// The JSON text of a complex attribute.
    pub fn json(&self, id: AttrId) -> Option<&str> {
        self.attributes.get(id).and_then(Value::as_json)
    }

    /// Bytes of memory that it takes, roughly: what it holds, and an entry in a map for itself, its name and each timer.
    pub fn memory_bytes(&self) -> usize {
        const MAP_ENTRY: usize = 48;
        let text = 2 * self.name.len() + self.fixed_id.as_ref().map_or(0, String::len);
        let instances = self.instances.as_ref().map_or(0, |i| i.memory_bytes());
        size_of::<Self>() + 3 * MAP_ENTRY + text + self.attributes.heap_bytes() + instances
    }

    /// Number of contentInstances.
    pub fn instance_count(&self) -> usize {
        self.instances.as_ref().map_or(0, |i| i.len())
    }
}
