//! The content of retrieves, with children (rcn 4, 5, 6, 8) or without.

use super::nested::Nesting;
use super::{Content, Reference, Wanted, content, invalid, representation, write, write_reference};
use crate::filter::FilterCriteria;
use crate::json::{ObjectWriter, push_array};
use crate::operation::ResultContent;
use crate::rsc::Refusal;
use crate::tables::AttrId;
use crate::view::{Resource, Tree};

/// The content of a RETRIEVE, or of a DELETE that asks for content (before the resource goes). `visible` says whether the
/// originator may see a descendant; what is hidden is left out, with nested children also all below it.
pub fn retrieved<T: Tree>(
    tree: &T,
    target: &T::Node,
    wanted: &Wanted<'_>,
    visible: &mut dyn FnMut(&T::Node) -> bool,
) -> Result<Content, Refusal> {
    let everything = FilterCriteria::default();
    let filter = wanted.filter.unwrap_or(&everything);
    match wanted.rcn {
        ResultContent::Nothing => Ok(Content::default()),
        ResultContent::Attributes => Ok(content(representation(target, wanted.attributes))),
        ResultContent::AttributesAndChildReferences | ResultContent::ChildReferences => {
            let found = filter.search(tree, target, visible);
            let references: Vec<_> = found.nodes.iter().map(|node| reference(tree, node, wanted)).collect();
            let body = with_references(target, wanted.rcn, &references);
            Ok(Content { body: Some(body), next_offset: found.next_offset })
        }
        ResultContent::AttributesAndChildren | ResultContent::Children => {
            let mut nesting = Nesting::new(filter);
            nesting.offer_children(tree, target, filter, visible);
            Ok(nesting.finish(target, wanted.rcn == ResultContent::AttributesAndChildren))
        }
        // rcn 7 is for announced resources and is fetched from the original's CSE.
        ResultContent::Semantic | ResultContent::Permissions => {
            Err(Refusal::not_implemented(format!("rcn: {}", wanted.rcn as u8)))
        }
        other => Err(invalid(other)),
    }
}

/// The content of rcn 5 and 6: `ch`, with the attributes of the target or without.
pub fn with_references(target: &impl Resource, rcn: ResultContent, references: &[Reference]) -> Vec<u8> {
    let attributes = rcn == ResultContent::AttributesAndChildReferences;
    rooted(target, attributes, |object| push_array(object.name("ch"), references, write_reference))
}

/// `{"m2m:cnt":{attributes, more}}`
pub(super) fn rooted(target: &impl Resource, attributes: bool, more: impl FnOnce(&mut ObjectWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    let mut root = ObjectWriter::begin(&mut out);
    write::object(root.name(target.root()), target, |_, _| attributes, more);
    root.end();
    out
}

fn reference<T: Tree>(tree: &T, node: &T::Node, wanted: &Wanted<'_>) -> Reference {
    let name = node.get(AttrId::RN).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    Reference { name, ty: node.ty(), address: tree.address(node, wanted.format) }
}
