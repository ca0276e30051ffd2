//! Which nodes should hold replicas of a group: rendezvous hashing, so that a change of the nodes moves little and every
//! node computes the same answer.

use std::collections::BTreeSet;

use onemec_wire::{GroupId, Member, NodeId};

/// A pseudo-random rank of a node for a group; the same on every machine and in every version (splitmix64).
pub fn rank(group: GroupId, node: NodeId) -> u64 {
    let mut x = group.index() ^ (u64::from(group.ordinal()) << 32) ^ node.0.rotate_left(17);
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The best live node that is not in the set yet.
pub fn next_replica(group: GroupId, in_set: &BTreeSet<Member>, live: &BTreeSet<Member>) -> Option<Member> {
    live.iter()
        .copied()
        .filter(|m| !in_set.iter().any(|s| s.node == m.node))
        .min_by_key(|m| (rank(group, m.node), m.node))
}

/// The member that should leave a set that is larger than wanted: never the primary.
pub fn surplus_replica(group: GroupId, in_set: &BTreeSet<Member>, primary: Member) -> Option<Member> {
    in_set.iter().copied().filter(|m| *m != primary).max_by_key(|m| (rank(group, m.node), m.node))
}
