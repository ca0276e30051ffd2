//! Result content (TS-0001 8.1.2, TS-0004 7.3.3.12, 7.5.2): the JSON of responses.

mod children;
mod nested;
mod write;

use children::rooted;
pub use children::{retrieved, with_references};
pub use nested::{Branch, Nesting, Room, branch};
pub use write::representation;

use crate::attributes::Attributes;
use crate::filter::FilterCriteria;
use crate::json::{ObjectWriter, push_array, push_str};
use crate::operation::{IdFormat, Operation, ResultContent};
use crate::rsc::Refusal;
use crate::tables::{AttrId, RESULT_CONTENT, Ty, Validity};
use crate::value::Value;
use crate::view::Resource;

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
    /// Only these attributes (partial retrieve, rcn 1); empty: all.
    pub attributes: &'a [AttrId],
}

/// One entry of a discovery's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// `rn`.
    pub name: String,
    /// Type.
    pub ty: Ty,
    /// Address in the wanted form.
    pub address: String,
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
        Validity::Invalid => Err(invalid(rcn)),
        Validity::Valid | Validity::Default => Ok(()),
    }
}

fn invalid(rcn: ResultContent) -> Refusal {
    Refusal::bad_request(format!("rcn: {} is not valid here", rcn as u8))
}

fn content(body: Vec<u8>) -> Content {
    Content { body: Some(body), next_offset: None }
}

/// The content of a successful CREATE. `address` is the new resource's hierarchical one; `given` the attributes as the
/// client gave them (rcn 9 shows what differs).
pub fn created(
    resource: &impl Resource,
    rcn: ResultContent,
    address: &str,
    given: &Attributes,
) -> Result<Content, Refusal> {
    let mut body = Vec::new();
    match rcn {
        ResultContent::Nothing => return Ok(Content::default()),
        ResultContent::Attributes => return Ok(content(representation(resource, &[]))),
        ResultContent::Address => {
            let mut object = ObjectWriter::begin(&mut body);
            object.text("m2m:uri", address);
            object.end();
        }
        ResultContent::AddressAndAttributes => {
            let mut object = ObjectWriter::begin(&mut body);
            let mut rce = ObjectWriter::begin(object.name("m2m:rce"));
            rce.text("uri", address);
            write::object(rce.name(resource.root()), resource, |_, _| true, |_| {});
            rce.end();
            object.end();
        }
        ResultContent::ModifiedAttributes => {
            return Ok(modified(resource, |id, value| given.get(id) != Some(value), &[]));
        }
        other => return Err(invalid(other)),
    }
    Ok(content(body))
}

/// The content of a successful UPDATE: `changed` says which attributes the CSE itself set or changed beyond the request,
/// `deleted` which are gone.
pub fn updated(
    resource: &impl Resource,
    rcn: ResultContent,
    changed: &[AttrId],
    deleted: &[AttrId],
) -> Result<Content, Refusal> {
    match rcn {
        ResultContent::Nothing => Ok(Content::default()),
        ResultContent::Attributes => Ok(content(representation(resource, &[]))),
        ResultContent::ModifiedAttributes => Ok(modified(resource, |id, _| changed.contains(&id), deleted)),
        other => Err(invalid(other)),
    }
}

/// rcn 9: only what `wanted` picks, and null for what is gone; nothing at all if there is neither.
fn modified(resource: &impl Resource, wanted: impl Fn(AttrId, &Value) -> bool, deleted: &[AttrId]) -> Content {
    let mut any = !deleted.is_empty();
    resource.visit(&mut |id, value| any |= wanted(id, value));
    if !any {
        return Content::default();
    }
    let mut body = Vec::new();
    let mut object = ObjectWriter::begin(&mut body);
    write::object(object.name(resource.root()), resource, wanted, |inner| {
        for id in deleted {
            inner.raw(id.short(), b"null");
        }
    });
    object.end();
    content(body)
}

/// The content of a discovery: `m2m:uril` (rcn 11 or absent) or `m2m:rrl` (rcn 6).
pub fn discovered(references: &[Reference], rcn: ResultContent) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    let mut object = ObjectWriter::begin(&mut body);
    match rcn {
        ResultContent::DiscoveryReferences => object.texts("m2m:uril", references.iter().map(|r| &r.address)),
        ResultContent::ChildReferences => {
            let mut list = ObjectWriter::begin(object.name("m2m:rrl"));
            push_array(list.name("rrf"), references, write_reference);
            list.end();
        }
        other => return Err(invalid(other)),
    }
    object.end();
    Ok(body)
}

/// m2m:childResourceRef
fn write_reference(out: &mut Vec<u8>, reference: &Reference) {
    let mut entry = ObjectWriter::begin(out);
    entry.text("nm", &reference.name);
    entry.number("typ", reference.ty);
    push_str(entry.name("val"), &reference.address);
    entry.end();
}
