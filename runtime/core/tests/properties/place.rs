//! Placement is the same everywhere and moves little.

use std::collections::BTreeSet;

use onemec_core::place::{next_replica, surplus_replica};
use onemec_wire::{GroupId, Member};
use proptest::prelude::*;

fn members(nodes: &BTreeSet<u64>) -> BTreeSet<Member> {
    nodes.iter().map(|n| Member::new(*n, n * 7)).collect()
}

proptest! {
    #[test]
    fn the_next_replica_is_live_and_new_and_does_not_depend_on_losers(
        index in 0u64..1000, live in prop::collection::btree_set(1u64..20, 0..8),
        set in prop::collection::btree_set(1u64..20, 0..4), gone in 1u64..20,
    ) {
        let group = GroupId::made(1, index, 0);
        // The set names older boots of the same nodes: they count as well.
        let set: BTreeSet<Member> = set.iter().map(|n| Member::new(*n, 1)).collect();
        let all = members(&live);
        let chosen = next_replica(group, &set, &all);
        prop_assert_eq!(chosen.is_none(), all.iter().all(|m| set.iter().any(|s| s.node == m.node)));
        if let Some(chosen) = chosen {
            prop_assert!(all.contains(&chosen) && set.iter().all(|s| s.node != chosen.node));
            if chosen.node.0 != gone {
                let mut fewer = live.clone();
                fewer.remove(&gone);
                prop_assert_eq!(next_replica(group, &set, &members(&fewer)), Some(chosen));
            }
        }
    }

    #[test]
    fn the_primary_is_never_surplus(index in 0u64..1000, set in prop::collection::btree_set(1u64..20, 1..6)) {
        let all = members(&set);
        let primary = *all.first().unwrap();
        let surplus = surplus_replica(GroupId::made(1, index, 0), &all, primary);
        prop_assert_eq!(surplus.is_none(), all.len() == 1);
        prop_assert!(surplus.is_none_or(|s| s != primary && all.contains(&s)));
    }
}
