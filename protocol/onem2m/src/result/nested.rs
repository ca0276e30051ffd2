//! Results with nested children (rcn 4 and 8), of one tree or of several that are looked at one after the other.

use super::{Content, write};
use crate::filter::FilterCriteria;
use crate::json::{ObjectWriter, push_array};
use crate::limits::{RESULT_BYTES_MAX, RESULTS_MAX};
use crate::tables::AttrId;
use crate::value::Value;
use crate::view::{Resource, Tree};

/// Most levels of nested children: each takes two levels of JSON, of which a receiver may allow no more than we do.
const NESTING_MAX: u32 = 28;
/// What a resource counts for beside its content.
const RESOURCE_BYTES: usize = 512;

/// What a result still has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Resources.
    pub resources: usize,
    /// Bytes, estimated by the sizes of contents.
    pub bytes: usize,
}

/// A direct child of the target with what is shown below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// Name of its representation (`m2m:ae`).
    pub root: String,
    /// The object, as JSON.
    pub json: Vec<u8>,
    /// What it took.
    pub taken: Room,
    /// Something below it was left out for lack of room.
    pub cut: bool,
}

/// A result that grows by branches, in the order in which they are offered. No child appears without its parent (TS-0001
/// 8.1.2). Offsets count direct children only, so a direct child whose descendants have no room is left to the next
/// answer, unless it is the first: then this answer is all that it gets.
#[derive(Debug, Clone)]
pub struct Nesting {
    offset: u32,
    position: u32,
    room: Room,
    branches: Vec<Branch>,
    next_offset: Option<u32>,
}

impl Room {
    /// Of an answer to a request with this limit.
    pub fn of(filter: &FilterCriteria) -> Self {
        let limit = filter.lim.and_then(|n| usize::try_from(n).ok()).unwrap_or(RESULTS_MAX);
        Self { resources: limit.min(RESULTS_MAX), bytes: RESULT_BYTES_MAX }
    }

    fn is_empty(self) -> bool {
        self.resources == 0 || self.bytes == 0
    }

    fn without(self, taken: Self) -> Self {
        Self {
            resources: self.resources.saturating_sub(taken.resources),
            bytes: self.bytes.saturating_sub(taken.bytes),
        }
    }

    /// Whether so much could be taken; the last resource may go beyond the bytes.
    fn fits(self, taken: Self) -> bool {
        taken.resources <= self.resources && (taken.resources <= 1 || taken.bytes <= self.bytes)
    }
}

impl Nesting {
    /// An empty result for these criteria.
    pub fn new(filter: &FilterCriteria) -> Self {
        Self {
            offset: filter.ofst.unwrap_or(1).max(1),
            position: 0,
            room: Room::of(filter),
            branches: Vec::new(),
            next_offset: None,
        }
    }

    /// The room for a branch that is made elsewhere before it is offered.
    pub fn room(&self) -> Room {
        self.room
    }

    /// Nothing more is taken.
    pub fn is_full(&self) -> bool {
        self.next_offset.is_some()
    }

    /// Takes the next direct child, which was made for [`Nesting::room`] or for more.
    pub fn offer(&mut self, branch: Branch) {
        self.next(|_| branch);
    }

    /// Takes the children of `target` that match and are visible.
    pub fn offer_children<T: Tree>(
        &mut self,
        tree: &T,
        target: &T::Node,
        filter: &FilterCriteria,
        visible: &mut dyn FnMut(&T::Node) -> bool,
    ) {
        let mut picker = Picker { tree, filter, visible, room: self.room, cut: false };
        for child in picker.shown(target) {
            if self.is_full() {
                return;
            }
            self.next(|room| picker.branch_of(&child, room));
        }
    }

    fn next(&mut self, make: impl FnOnce(Room) -> Branch) {
        if self.is_full() {
            return;
        }
        self.position = self.position.saturating_add(1);
        if self.position < self.offset {
            return;
        }
        if self.room.is_empty() {
            self.next_offset = Some(self.position);
            return;
        }
        let branch = make(self.room);
        let is_whole = !branch.cut && self.room.fits(branch.taken);
        if !is_whole && !self.branches.is_empty() {
            self.next_offset = Some(self.position);
            return;
        }
        if !is_whole {
            self.next_offset = Some(self.position.saturating_add(1));
        }
        self.room = self.room.without(branch.taken);
        self.branches.push(branch);
    }

    /// The content, with the attributes of the target or without.
    pub fn finish(self, target: &impl Resource, attributes: bool) -> Content {
        let body = super::rooted(target, attributes, |object| {
            by_root(object, &self.branches, |b| &b.root, |out, b| out.extend_from_slice(&b.json));
        });
        Content { body: Some(body), next_offset: self.next_offset }
    }
}

/// A resource as a direct child of a target that lies in another tree; `None` if it does not match or is not visible.
pub fn branch<T: Tree>(
    tree: &T,
    node: &T::Node,
    filter: &FilterCriteria,
    visible: &mut dyn FnMut(&T::Node) -> bool,
    room: Room,
) -> Option<Branch> {
    let mut picker = Picker { tree, filter, visible, room, cut: false };
    picker.shows(node).then(|| picker.branch_of(node, room))
}

/// A descendant that is shown, with those below it that are.
struct Twig<N> {
    node: N,
    children: Vec<Twig<N>>,
}

struct Picker<'a, T: Tree> {
    tree: &'a T,
    filter: &'a FilterCriteria,
    visible: &'a mut dyn FnMut(&T::Node) -> bool,
    room: Room,
    cut: bool,
}

impl<T: Tree> Picker<'_, T> {
    fn shows(&mut self, node: &T::Node) -> bool {
        self.filter.matches(self.tree, node) && (self.visible)(node)
    }

    fn shown(&mut self, node: &T::Node) -> Vec<T::Node> {
        let mut children = Vec::new();
        self.tree.children(node, &mut |child| {
            if self.shows(&child) {
                children.push(child);
            }
            true
        });
        children
    }

    fn branch_of(&mut self, node: &T::Node, room: Room) -> Branch {
        (self.room, self.cut) = (room, false);
        let twig = self.twig(node.clone(), 1);
        let mut json = Vec::with_capacity(RESOURCE_BYTES);
        write_twig(&mut json, &twig);
        let taken = Room {
            resources: room.resources.saturating_sub(self.room.resources),
            bytes: room.bytes.saturating_sub(self.room.bytes),
        };
        Branch { root: node.root().to_owned(), json, taken, cut: self.cut }
    }

    /// One node that there is room for, with what fits below it.
    fn twig(&mut self, node: T::Node, level: u32) -> Twig<T::Node> {
        let content = node.get(AttrId::CS).and_then(|v| v.as_u64()).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        self.room = self.room.without(Room { resources: 1, bytes: RESOURCE_BYTES.saturating_add(content) });
        let mut children = Vec::new();
        if self.filter.lvl.is_none_or(|deepest| level < deepest) {
            for child in self.shown(&node) {
                if self.room.is_empty() || level == NESTING_MAX {
                    self.cut = true;
                    break;
                }
                children.push(self.twig(child, level + 1));
            }
        }
        Twig { node, children }
    }
}

fn write_twig<N: Resource>(out: &mut Vec<u8>, twig: &Twig<N>) {
    write::object(
        out,
        &twig.node,
        |_: AttrId, _: &Value| true,
        |inner| {
            by_root(inner, &twig.children, |t| t.node.root(), write_twig);
        },
    );
}

/// Children of one type stand in one array: `"m2m:cnt":[...]`.
fn by_root<B>(
    object: &mut ObjectWriter<'_>,
    branches: &[B],
    root: impl Fn(&B) -> &str,
    write: impl Fn(&mut Vec<u8>, &B) + Copy,
) {
    for (i, branch) in branches.iter().enumerate() {
        let name = root(branch);
        if branches.iter().take(i).any(|earlier| root(earlier) == name) {
            continue;
        }
        let same = branches.iter().filter(|b| root(b) == name);
        push_array(object.name(name), same, write);
    }
}
