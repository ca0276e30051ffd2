//! The attributes of one resource: a small map sorted by name, compact in memory and (`codec.rs`) in snapshots.

use crate::tables::AttrId;
use crate::value::Value;

/// Attributes in the order of their short names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attributes(Vec<(AttrId, Value)>);

/// Bytes that are no encoded attributes: damaged, or from a newer version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("encoded attributes cannot be read")]
pub struct BadAttributes;

impl Attributes {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }
    /// The value of one.
    pub fn get(&self, id: AttrId) -> Option<&Value> {
        let place = self.0.binary_search_by_key(&id, |(k, _)| *k).ok()?;
        self.0.get(place).map(|(_, v)| v)
    }
    /// Whether it is there.
    pub fn has(&self, id: AttrId) -> bool {
        self.get(id).is_some()
    }
    /// Sets one; gives back the value before.
    pub fn set(&mut self, id: AttrId, value: Value) -> Option<Value> {
        match self.0.binary_search_by_key(&id, |(k, _)| *k) {
            Ok(place) => self.0.get_mut(place).map(|(_, v)| std::mem::replace(v, value)),
            Err(place) => {
                self.0.insert(place, (id, value));
                None
            }
        }
    }
    /// Takes one out.
    pub fn remove(&mut self, id: AttrId) -> Option<Value> {
        let place = self.0.binary_search_by_key(&id, |(k, _)| *k).ok()?;
        Some(self.0.remove(place).1)
    }
    /// Applies validated changes: null deletes, anything else replaces (TS-0004 7.3.3.7).
    pub fn apply(&mut self, changes: &Self) {
        for (id, value) in changes.iter() {
            match value {
                Value::Null => self.remove(id),
                value => self.set(id, value.clone()),
            };
        }
    }
    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (AttrId, &Value)> {
        self.0.iter().map(|(k, v)| (*k, v))
    }
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// Bytes that they take beside the map itself.
    pub fn heap_bytes(&self) -> usize {
        self.0.iter().map(|(_, v)| size_of::<(AttrId, Value)>() + v.heap_bytes()).sum()
    }
    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Gives spare memory back; call it once the resource is complete.
    pub fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }
}

impl FromIterator<(AttrId, Value)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (AttrId, Value)>>(items: I) -> Self {
        let mut all = Self::new();
        for (id, value) in items {
            all.set(id, value);
        }
        all
    }
}
