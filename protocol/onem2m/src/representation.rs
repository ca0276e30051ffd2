//! Representations of resources in requests: from bytes to validated attributes (TS-0004 7.3.3.3, 7.3.3.7, 8.4).

use bytes::Bytes;

use crate::attributes::Attributes;
use crate::rsc::Refusal;
use crate::tables::Ty;

/// A validated representation of a CREATE.
#[derive(Debug, Clone, PartialEq)]
pub struct Representation {
    /// What the client gave, `rn` included; nothing that the CSE sets. A contentInstance's `con` is a range of the body.
    pub attributes: Attributes,
    /// The client sent `cr` as null: store `fr` there.
    pub wants_creator: bool,
}

/// Validates the content of a CREATE of type `ty`. Ranges are offsets into `body`.
pub fn create(_ty: Ty, _body: &Bytes) -> Result<Representation, Refusal> {
    unimplemented!()
}

/// Validates the content of an UPDATE of a resource of type `ty`: what changes, [`crate::value::Value::Null`] for what is
/// to be deleted. `acpi` comes alone or not at all.
pub fn update(_ty: Ty, _body: &Bytes) -> Result<Attributes, Refusal> {
    unimplemented!()
}

/// Bytes that a `con` counts for `cs`: of a JSON string the text that it stands for, of anything else its JSON text.
pub fn content_size(_con: &[u8]) -> u64 {
    unimplemented!()
}
