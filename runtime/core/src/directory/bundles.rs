//! Bundles: contexts that should share a group, and so move together (row G13). The directory knows what should be; the
//! leader of a group brings about what is missing. Pure.

use std::collections::BTreeMap;

use onemec_wire::{ContextId, GroupId, Member, NodeId};

use super::{CONTEXTS_PER_GROUP_MAX, Directory, Placement};

/// A step towards groups as their bundles want them, to be taken by the leader of the group that it begins with.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Contexts join a group that is led by the same node.
    Join {
        /// Where they are.
        from: GroupId,
        /// Where they belong.
        into: GroupId,
        /// Which.
        contexts: Vec<ContextId>,
    },
    /// The whole group goes to the node where its bundle is, to join there.
    Follow {
        /// The group.
        group: GroupId,
        /// The node.
        to: NodeId,
    },
    /// Contexts leave the group for one of their own.
    Part {
        /// Where they are.
        from: GroupId,
        /// Which.
        contexts: Vec<ContextId>,
    },
    /// A group without contexts goes.
    Drop(GroupId),
}

impl Step {
    /// The group whose leader takes the step.
    pub fn group(&self) -> GroupId {
        match self {
            Self::Join { from, .. } | Self::Part { from, .. } => *from,
            Self::Follow { group, .. } | Self::Drop(group) => *group,
        }
    }
}

impl Directory {
    /// The contexts of a bundle.
    pub fn bundle(&self, name: &str) -> impl Iterator<Item = ContextId> + '_ {
        self.bundles.get(name).into_iter().flatten().copied()
    }

    pub(super) fn enter_bundle(&mut self, context: ContextId, bundle: Option<String>) {
        let Some(entry) = self.contexts.get_mut(&context) else { return };
        if let Some(before) = std::mem::replace(&mut entry.bundle, bundle.clone())
            && let Some(set) = self.bundles.get_mut(&before)
        {
            set.remove(&context);
            if set.is_empty() {
                self.bundles.remove(&before);
            }
        }
        if let Some(bundle) = bundle {
            self.bundles.entry(bundle).or_default().insert(context);
        }
    }

    /// Where a bundle is: the group that holds most of its contexts; of equals the oldest.
    pub fn bundle_home(&self, name: &str) -> Option<GroupId> {
        let mut count: BTreeMap<GroupId, usize> = BTreeMap::new();
        for context in self.bundle(name) {
            *count.entry(self.contexts.get(&context)?.group).or_default() += 1;
        }
        count.into_iter().max_by_key(|(group, n)| (*n, std::cmp::Reverse(*group))).map(|(group, _)| group)
    }

    fn bundle_of(&self, context: ContextId) -> Option<&str> {
        self.contexts.get(&context)?.bundle.as_deref()
    }

    /// What `me` has to do for the groups that it leads: at most one step for each.
    pub fn bundle_steps(&self, me: Member) -> Vec<Step> {
        let led = self.groups.iter().filter(|(_, p)| p.primary == me);
        // A context alone and without a bundle is where it should be: most are.
        led.filter(|(_, p)| p.contexts.len() != 1 || p.contexts.iter().any(|c| self.bundle_of(*c).is_some()))
            .filter_map(|(group, p)| self.step_of(*group, p, me))
            .collect()
    }

    fn step_of(&self, group: GroupId, p: &Placement, me: Member) -> Option<Step> {
        let Some(first) = p.contexts.first() else { return Some(Step::Drop(group)) };
        let mut by_bundle: BTreeMap<&str, Vec<ContextId>> = BTreeMap::new();
        for context in &p.contexts {
            if let Some(bundle) = self.bundle_of(*context) {
                by_bundle.entry(bundle).or_default().push(*context);
            }
        }
        // Whoever belongs to a bundle that is elsewhere goes there.
        for (bundle, contexts) in &by_bundle {
            let home = self.bundle_home(bundle)?;
            if home == group {
                continue;
            }
            let at_home = self.groups.get(&home)?;
            let leader = at_home.primary;
            // A bundle of more contexts than a group may have stays in several groups.
            let room = CONTEXTS_PER_GROUP_MAX.saturating_sub(at_home.contexts.len());
            let contexts: Vec<ContextId> = contexts.iter().copied().take(room).collect();
            if contexts.is_empty() {
                continue;
            }
            return if leader == me {
                Some(Step::Join { from: group, into: home, contexts })
            } else if contexts.len() < p.contexts.len() {
                Some(Step::Part { from: group, contexts })
            } else {
                self.is_live(leader).then_some(Step::Follow { group, to: leader.node })
            };
        }
        // What is left belongs here or nowhere: one bundle stays, the largest; without one, the oldest context does.
        let own = by_bundle.iter().max_by_key(|(_, c)| c.len()).map(|(b, _)| *b);
        let stays = |c: &ContextId| if own.is_some() { self.bundle_of(*c) == own } else { c == first };
        let leaves = p.contexts.iter().copied().find(|c| !stays(c))?;
        let contexts = match self.bundle_of(leaves).and_then(|b| by_bundle.get(b)) {
            Some(bundle) => bundle.clone(),
            None => vec![leaves],
        };
        Some(Step::Part { from: group, contexts })
    }
}
