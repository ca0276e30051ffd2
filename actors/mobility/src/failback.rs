//! Which groups go back to a host that has returned (DESIGN.md section 1; row H03). Paced, and only to a host that has
//! been up for a while: one that comes and goes gets nothing back.

use std::collections::BTreeMap;

use onemec_wire::{GroupId, NodeId};

use crate::strategy::MoveRequest;

/// When and how fast.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FailbackOptions {
    /// The host must have been up for so long.
    pub stable_ms_min: u64,
    /// With more load it gets nothing; 0 to 1.
    pub load_max: f64,
    /// Moves in one plan, those under way included.
    pub moves_max: usize,
}

impl Default for FailbackOptions {
    fn default() -> Self {
        Self { stable_ms_min: 10_000, load_max: 0.7, moves_max: 8 }
    }
}

/// A group that is not where it belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Displaced {
    /// The group.
    pub group: GroupId,
    /// Who serves it.
    pub primary: NodeId,
    /// Where it belongs: the home of its contexts, or the host that a failover took it from.
    pub belongs: NodeId,
    /// `belongs` has a complete replica again: going back is quick.
    pub has_replica: bool,
}

/// A host that groups may go back to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Returned {
    /// For how long it has been up.
    pub up_ms: u64,
    /// It is being emptied.
    pub draining: bool,
    /// Its load, 0 to 1.
    pub load: f64,
}

/// The next groups to move back: those with a replica first, then by group.
pub fn plan(
    displaced: &[Displaced],
    hosts: &BTreeMap<NodeId, Returned>,
    under_way: usize,
    options: FailbackOptions,
) -> Vec<MoveRequest> {
    let welcome = |node| {
        hosts.get(&node).is_some_and(|h| h.up_ms >= options.stable_ms_min && !h.draining && h.load <= options.load_max)
    };
    let mut due: Vec<_> = displaced.iter().filter(|d| d.primary != d.belongs && welcome(d.belongs)).collect();
    due.sort_by_key(|d| (!d.has_replica, d.group, d.belongs));
    due.dedup_by_key(|d| d.group);
    let room = options.moves_max.saturating_sub(under_way);
    due.into_iter().take(room).map(|d| MoveRequest::failback(d.group, d.belongs)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_to_a_stable_host_and_paced() {
        let d = |n, belongs, has_replica| Displaced {
            group: GroupId::made(1, n, 0),
            primary: NodeId(1),
            belongs: NodeId(belongs),
            has_replica,
        };
        let host = |up_ms, draining, load| Returned { up_ms, draining, load };
        let hosts = [
            (NodeId(1), host(99_000, false, 0.1)),
            (NodeId(2), host(99_000, false, 0.1)),
            (NodeId(3), host(500, false, 0.1)),
            (NodeId(4), host(99_000, true, 0.1)),
            (NodeId(5), host(99_000, false, f64::NAN)),
        ]
        .into();
        let displaced =
            [d(1, 2, false), d(2, 2, true), d(3, 3, true), d(4, 4, true), d(5, 5, true), d(6, 6, true), d(7, 1, true)];
        let go = |under_way| plan(&displaced, &hosts, under_way, FailbackOptions::default());
        let back = |n| MoveRequest::failback(GroupId::made(1, n, 0), NodeId(2));
        assert_eq!(go(0), [back(2), back(1)]);
        assert_eq!(go(7), [back(2)]);
        assert_eq!(go(8), []);
    }
}
