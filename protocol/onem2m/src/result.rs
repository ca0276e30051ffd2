//! Result content (TS-0001 8.1.2, TS-0004 7.3.3.12, 7.5.2): the JSON of responses.

use crate::filter::FilterCriteria;
use crate::operation::{IdFormat, Operation, ResultContent};
use crate::rsc::Refusal;
use crate::tables::{AttrId, RESULT_CONTENT, Validity};
use crate::view::{Resource, Tree};

/// Rendered content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// JSON; `None`: no content.
    pub body: Option<Vec<u8>>,
    /// There is more: `cnst` is partial and this is `cnot`.
    pub next_offset: Option<u32>,
}

/// What a RETRIEVE asks for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Result content.
    pub rcn: ResultContent,
    /// Form of addresses.
    pub format: IdFormat,
    /// Conditions, level, limit and offset for children or discovery.
    pub filter: Option<&'a FilterCriteria>,
    /// Only these attributes (partial retrieve); empty: all.
    pub attributes: &'a [AttrId],
}

/// Whether the operation may have this result content; `discovery` for a RETRIEVE with `fu` = 1. BAD_REQUEST if not.
pub fn check(operation: Operation, discovery: bool, rcn: ResultContent) -> Result<(), Refusal> {
    let row = RESULT_CONTENT.iter().find(|row| row.rcn == rcn as u8);
    let validity = row.map_or(Validity::Invalid, |row| match operation {
        Operation::Create => row.create,
        Operation::Retrieve if discovery => row.discovery,
        Operation::Retrieve => row.retrieve,
        Operation::Update => row.update,
        Operation::Delete => row.delete,
        Operation::Notify => Validity::Invalid,
    });
    match validity {
        Validity::Invalid => Err(Refusal::bad_request(format!("rcn: {} is not valid here", rcn as u8))),
        Validity::Valid | Validity::Default => Ok(()),
    }
}

/// Writes `{"m2m:cnt":{...}}`; of the attributes only `only`, if it names any.
pub fn representation(_resource: &impl Resource, _only: &[AttrId]) -> Vec<u8> {
    unimplemented!()
}

/// The content of a successful CREATE. `address` is the new resource's hierarchical one; `given` the attributes as the
/// client gave them (rcn 9 shows what differs).
pub fn created(
    _resource: &impl Resource,
    _rcn: ResultContent,
    _address: &str,
    _given: &crate::attributes::Attributes,
) -> Result<Content, Refusal> {
    unimplemented!()
}

/// The content of a successful UPDATE: `changed` says which attributes the CSE itself set or changed beyond the request,
/// `deleted` which are gone.
pub fn updated(
    _resource: &impl Resource,
    _rcn: ResultContent,
    _changed: &[AttrId],
    _deleted: &[AttrId],
) -> Result<Content, Refusal> {
    unimplemented!()
}

/// The content of a RETRIEVE, or of a DELETE that asks for content (before the resource goes). `visible` says whether the
/// originator may see a descendant; what is hidden is left out with all below it.
pub fn retrieved<T: Tree>(
    _tree: &T,
    _target: &T::Node,
    _wanted: &Wanted<'_>,
    _visible: &mut dyn FnMut(&T::Node) -> bool,
) -> Result<Content, Refusal> {
    unimplemented!()
}

/// One entry of a discovery's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `rn`.
    pub name: String,
    /// Type.
    pub ty: crate::tables::Ty,
    /// Address in the wanted form.
    pub address: String,
}

/// The content of a discovery: `m2m:uril` (rcn 11 or absent) or `m2m:rrl` (rcn 6).
pub fn discovered(_references: &[Reference], _rcn: ResultContent) -> Result<Vec<u8>, Refusal> {
    unimplemented!()
}
