//! Results with children (rcn 4, 5, 6, 8).

use super::{Content, Reference, Wanted, content, invalid, representation, write, write_reference};
use crate::filter::FilterCriteria;
use crate::json::{ObjectWriter, push_array};
use crate::limits::RESULTS_MAX;
use crate::operation::ResultContent;
use crate::rsc::Refusal;
use crate::tables::AttrId;
use crate::value::Value;
use crate::view::{Resource, Tree};

/// Most levels of nested children: each takes two levels of JSON, of which a receiver may allow no more than we do.
const NESTING_MAX: u32 = 28;

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
    let attributes =
        matches!(wanted.rcn, ResultContent::AttributesAndChildren | ResultContent::AttributesAndChildReferences);
    match wanted.rcn {
        ResultContent::Nothing => Ok(Content::default()),
        ResultContent::Attributes => Ok(content(representation(target, wanted.attributes))),
        ResultContent::AttributesAndChildReferences | ResultContent::ChildReferences => {
            let found = filter.search(tree, target, visible);
            let references: Vec<_> = found.nodes.iter().map(|node| reference(tree, node, wanted)).collect();
            let body = rooted(target, attributes, |object| push_array(object.name("ch"), &references, write_reference));
            Ok(Content { body: Some(body), next_offset: found.next_offset })
        }
        ResultContent::AttributesAndChildren | ResultContent::Children => {
            let mut picker = Picker { tree, filter, visible, room: limit(filter), cut: false };
            let (branches, next_offset) = picker.direct(target);
            let body = rooted(target, attributes, |object| write_branches(object, &branches));
            Ok(Content { body: Some(body), next_offset })
        }
        // rcn 7 is for announced resources and is fetched from the original's CSE.
        ResultContent::Semantic | ResultContent::Permissions => {
            Err(Refusal::not_implemented(format!("rcn: {}", wanted.rcn as u8)))
        }
        other => Err(invalid(other)),
    }
}

fn limit(filter: &FilterCriteria) -> usize {
    filter.lim.and_then(|n| usize::try_from(n).ok()).unwrap_or(RESULTS_MAX).min(RESULTS_MAX)
}

/// `{"m2m:cnt":{attributes, more}}`
fn rooted(target: &impl Resource, attributes: bool, more: impl FnOnce(&mut ObjectWriter<'_>)) -> Vec<u8> {
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

/// A descendant that is shown, with those below it that are.
struct Branch<N> {
    node: N,
    children: Vec<Branch<N>>,
}

/// Picks descendants so that none appears without its parent (TS-0001 8.1.2).
struct Picker<'a, T: Tree> {
    tree: &'a T,
    filter: &'a FilterCriteria,
    visible: &'a mut dyn FnMut(&T::Node) -> bool,
    /// How many more may be shown.
    room: usize,
    /// Something below the current direct child was left out for lack of room.
    cut: bool,
}

impl<T: Tree> Picker<'_, T> {
    /// The direct children from `ofst` on, and where to go on. Offsets count direct children only, so a direct child whose
    /// descendants have no room is left to the next answer, unless it is the first: then this answer is all that it gets.
    fn direct(&mut self, target: &T::Node) -> (Vec<Branch<T::Node>>, Option<u32>) {
        let offset = self.filter.ofst.unwrap_or(1).max(1);
        let mut branches = Vec::new();
        let mut position = 0_u32;
        for child in self.shown(target) {
            position = position.saturating_add(1);
            if position < offset {
                continue;
            }
            if self.room == 0 {
                return (branches, Some(position));
            }
            let branch = self.branch(child, 1);
            if std::mem::take(&mut self.cut) {
                if branches.is_empty() {
                    branches.push(branch);
                    position = position.saturating_add(1);
                }
                return (branches, Some(position));
            }
            branches.push(branch);
        }
        (branches, None)
    }

    fn shown(&mut self, node: &T::Node) -> Vec<T::Node> {
        let mut children = Vec::new();
        self.tree.children(node, &mut |child| {
            if self.filter.matches(self.tree, &child) && (self.visible)(&child) {
                children.push(child);
            }
            true
        });
        children
    }

    /// One node that there is room for, with what fits below it.
    fn branch(&mut self, node: T::Node, level: u32) -> Branch<T::Node> {
        self.room = self.room.saturating_sub(1);
        let mut children = Vec::new();
        if self.filter.lvl.is_none_or(|deepest| level < deepest) {
            for child in self.shown(&node) {
                if self.room == 0 || level == NESTING_MAX {
                    self.cut = true;
                    break;
                }
                children.push(self.branch(child, level + 1));
            }
        }
        Branch { node, children }
    }
}

/// Children of one type stand in one array: `"m2m:cnt":[...]`.
fn write_branches<N: Resource>(object: &mut ObjectWriter<'_>, branches: &[Branch<N>]) {
    for (i, branch) in branches.iter().enumerate() {
        let root = branch.node.root();
        if branches.iter().take(i).any(|earlier| earlier.node.root() == root) {
            continue;
        }
        let same = branches.iter().filter(|b| b.node.root() == root);
        push_array(object.name(root), same, |out, b| {
            write::object(out, &b.node, |_: AttrId, _: &Value| true, |inner| write_branches(inner, &b.children));
        });
    }
}
