//! Looking through a tree (TS-0001 10.2.6, TS-0004 7.3.3.14).

use super::FilterCriteria;
use crate::limits::{RESULTS_MAX, VISITS_MAX};
use crate::view::Tree;

/// What a search found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found<N> {
    /// Matches in the order of the tree (parents before children).
    pub nodes: Vec<N>,
    /// There are more: `cnst` is partial and this is `cnot`, the offset at which to go on.
    pub next_offset: Option<u32>,
}

impl FilterCriteria {
    /// Looks below `root` (not at it) down to `lvl`, in the order of the tree, for what matches and `visible` lets through;
    /// what it hides is skipped but looked below. `lim` and `ofst` are applied, `arp` is the caller's.
    pub fn search<T: Tree>(
        &self,
        tree: &T,
        root: &T::Node,
        visible: &mut dyn FnMut(&T::Node) -> bool,
    ) -> Found<T::Node> {
        let limit = self.lim.and_then(|n| usize::try_from(n).ok()).unwrap_or(RESULTS_MAX).min(RESULTS_MAX);
        let offset = self.ofst.unwrap_or(1).max(1);
        let mut found = Found { nodes: Vec::new(), next_offset: None };
        let mut matched = 0_u32;
        let mut visits = 0;
        // A stack instead of recursion: the depth of a tree is the client's choice.
        let mut todo = below(tree, root, 1);
        while let Some((node, level)) = todo.pop() {
            visits += 1;
            if visits > VISITS_MAX {
                found.next_offset = Some(matched.saturating_add(1));
                break;
            }
            if self.matches(tree, &node) && visible(&node) {
                matched = matched.saturating_add(1);
                if found.nodes.len() == limit {
                    found.next_offset = Some(matched);
                    break;
                }
                if matched >= offset {
                    found.nodes.push(node.clone());
                }
            }
            if self.lvl.is_none_or(|deepest| level < deepest) {
                todo.extend(below(tree, &node, level + 1));
            }
        }
        found
    }
}

/// The children with their level, the first one last.
fn below<T: Tree>(tree: &T, node: &T::Node, level: u32) -> Vec<(T::Node, u32)> {
    let mut children = Vec::new();
    tree.children(node, &mut |child| {
        children.push((child, level));
        children.len() < VISITS_MAX
    });
    children.reverse();
    children
}
