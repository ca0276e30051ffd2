//! Nodes come and die; what they led is led by others (rules 4, 6 and 15).

use std::collections::{BTreeMap, BTreeSet};

use onemec_wire::{GroupId, Member, NodeId};

use super::{DEAD_SHARE_PERCENT_MAX, Directory, EntryOutcome, NodeEntry, Placement, Refusal, StoreId};

impl Directory {
    /// Rule 4: the old incarnation dies first, then the new one is up; groups that nobody could lead are looked at again.
    pub(super) fn node_up(
        &mut self,
        member: Member,
        store: StoreId,
        info: BTreeMap<String, String>,
        out: &mut EntryOutcome,
    ) -> Result<(), Refusal> {
        if self.was_removed(member.node) {
            return Err(Refusal::NotAllowed(format!("{} was removed for good", member.node)));
        }
        if let Some(known) = self.nodes.get(&member.node) {
            if known.member == member && known.up && known.store == store {
                return Ok(()); // proposed twice
            }
            if member.incarnation <= known.member.incarnation {
                return Err(Refusal::NotAllowed(format!("{} was up before {member}", known.member)));
            }
            if known.up {
                self.bury(known.member, out);
            }
        }
        self.nodes.insert(member.node, NodeEntry { member, store, up: true, info });
        out.nodes.insert(member.node);
        // A synced node whose store survived may lead what nobody else can (rule 6).
        for group in self.groups_without_live_primary() {
            self.promote(group, out);
        }
        Ok(())
    }

    /// Rule 15: one entry promotes a replica of every group that the boot led.
    pub(super) fn node_dead(&mut self, member: Member, forced: bool, out: &mut EntryOutcome) -> Result<(), Refusal> {
        if !self.is_live(member) {
            return Err(Refusal::NotLive(member));
        }
        let nodes = self.nodes.len() as u32;
        let dead = self.nodes.values().filter(|n| !n.up).count() as u32;
        if !forced && dead > 0 && (dead + 1) * 100 > nodes * DEAD_SHARE_PERCENT_MAX {
            return Err(Refusal::MassDeath { dead, nodes });
        }
        self.bury(member, out);
        Ok(())
    }

    fn bury(&mut self, member: Member, out: &mut EntryOutcome) {
        if let Some(node) = self.nodes.get_mut(&member.node) {
            node.up = false;
        }
        out.nodes.insert(member.node);
        let touched: Vec<(GroupId, bool)> = self
            .groups
            .iter()
            .filter(|(_, p)| p.in_sync.contains(&member))
            .map(|(id, p)| (*id, p.primary == member))
            .collect();
        for (group, led) in touched {
            // Members that merely back up are only marked dead (by their node entry): the primary shrinks the set.
            out.groups.insert(group);
            let is_empty = self.groups.get(&group).is_some_and(|p| p.contexts.is_empty());
            if led && is_empty {
                // Its leader was about to fill it; nobody else would, and there is nothing to lose.
                self.groups.remove(&group);
            } else if led {
                self.promote(group, out);
            }
        }
    }

    /// Gives a group whose primary is dead to a live complete in-sync replica, a synced one first; if there is none, to a
    /// live synced node whose store survived; else leaves it unavailable.
    fn promote(&mut self, group: GroupId, out: &mut EntryOutcome) {
        let Some(p) = self.groups.get(&group) else { return };
        let live: BTreeSet<Member> = p.in_sync.iter().copied().filter(|m| self.is_live(*m)).collect();
        let candidate = if live.is_empty() {
            self.nodes.values().find(|n| n.up && p.synced.contains(&(n.member.node, n.store))).map(|n| n.member)
        } else {
            self.best_of(group, p, &live)
        };
        let Some(primary) = candidate else { return };
        // The new reign begins with those who are alive: the new primary would have to remove the others before its first
        // answer anyway (rule 10).
        let in_sync = if live.is_empty() { BTreeSet::from([primary]) } else { live };
        self.install_primary(group, primary, in_sync, out);
    }

    /// A synced member first, then one where the names are free, then the lowest rank by a hash of group and node, so that
    /// the groups of a dead node spread over the others.
    fn best_of(&self, group: GroupId, p: &Placement, live: &BTreeSet<Member>) -> Option<Member> {
        live.iter().copied().min_by_key(|m| {
            let synced = self.nodes.get(&m.node).is_some_and(|n| p.synced.contains(&(m.node, n.store)));
            (!synced, self.check_home(group, m.node).is_err(), crate::place::rank(group, m.node))
        })
    }

    pub(super) fn install_primary(
        &mut self,
        group: GroupId,
        primary: Member,
        in_sync: BTreeSet<Member>,
        out: &mut EntryOutcome,
    ) {
        // A failover must not fail because of a name: then the home stays where it was, served from here.
        let home_free = self.check_home(group, primary.node).is_ok();
        if let Some(p) = self.groups.get_mut(&group) {
            p.epoch = p.epoch.next();
            p.version = p.version.next();
            p.primary = primary;
            p.in_sync = in_sync;
            p.sealed = None;
            out.groups.insert(group);
        }
        if home_free {
            self.move_home(group, primary.node);
        }
    }

    fn groups_without_live_primary(&self) -> Vec<GroupId> {
        self.groups.iter().filter(|(_, p)| !self.is_live(p.primary)).map(|(id, _)| *id).collect()
    }

    /// Whether a node was taken out for good: its number is never used again.
    pub fn was_removed(&self, node: NodeId) -> bool {
        self.facts.contains_key(&removed_fact(node))
    }

    /// Groups that count on a node: it leads them, or is in one of their sets.
    pub fn counting_on(&self, node: NodeId) -> impl Iterator<Item = (GroupId, &Placement)> {
        let used = move |p: &Placement| {
            p.primary.node == node
                || p.in_sync.iter().any(|m| m.node == node)
                || p.synced.iter().any(|(n, _)| *n == node)
        };
        self.groups.iter().filter(move |(_, p)| used(p)).map(|(id, p)| (*id, p))
    }

    pub(super) fn node_remove(&mut self, node: NodeId, out: &mut EntryOutcome) -> Result<(), Refusal> {
        if let Some((group, _)) = self.counting_on(node).next() {
            return Err(Refusal::NotAllowed(format!("group {group} still counts on {node}: drain it first")));
        }
        self.nodes.remove(&node);
        self.facts.insert(removed_fact(node), String::new().into());
        out.nodes.insert(node);
        Ok(())
    }
}

fn removed_fact(node: NodeId) -> String {
    format!("removed/{}", node.0)
}
