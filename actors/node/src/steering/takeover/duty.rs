//! Who holds which service address, by the directory: pure.

use std::net::IpAddr;

use onemec_core::directory::Directory;
use onemec_wire::NodeId;

/// Key under which a node tells the directory its service address, as `ADDRESS/PREFIX`.
pub const SERVICE_ADDRESS: &str = "service_address";

/// The addresses that `me` holds: its own, and those of each dead node whose successor it is.
///
/// The successor is the next node by number that is up, in a ring of the nodes that have a service address.
pub fn held_by(me: NodeId, directory: &Directory) -> Vec<(IpAddr, u8)> {
    let ring: Vec<(NodeId, bool, (IpAddr, u8))> =
        directory.nodes().filter_map(|(id, n)| Some((id, n.up, parse(n.info.get(SERVICE_ADDRESS)?)?))).collect();
    let holder = |at: usize| {
        let after = ring.iter().skip(at).chain(ring.iter().take(at));
        after.filter(|(_, up, _)| *up).map(|(id, ..)| *id).next()
    };
    let of_me = ring.iter().enumerate().filter(|(at, _)| holder(*at) == Some(me));
    of_me.map(|(_, (.., address))| *address).collect()
}

/// Reads `ADDRESS/PREFIX`.
pub fn parse(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= most && !address.is_unspecified() && !address.is_multicast()).then_some((address, prefix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use onemec_core::directory::{Command, Entry, StoreId};
    use onemec_wire::{Incarnation, Member};

    use super::*;

    #[test]
    fn the_next_living_node_holds_the_addresses_of_the_dead() {
        let member = |node: u64, boot| Member { node: NodeId(node), incarnation: Incarnation(boot) };
        let up = |node: u64, boot| Command::NodeUp {
            member: member(node, boot),
            store: StoreId(node),
            // Node 5 has none.
            info: if node == 5 {
                BTreeMap::new()
            } else {
                BTreeMap::from([(SERVICE_ADDRESS.to_owned(), format!("10.0.0.{node}/32"))])
            },
        };
        let dead = |node: u64, boot| Command::NodeDead { member: member(node, boot), forced: true };
        let steps = [
            (vec![up(1, 1), up(2, 1), up(3, 1), up(5, 1)], [vec![1], vec![2], vec![3], vec![]]),
            (vec![dead(2, 1)], [vec![1], vec![], vec![2, 3], vec![]]),
            (vec![dead(3, 1)], [vec![1, 2, 3], vec![], vec![], vec![]]),
            (vec![up(3, 2)], [vec![1], vec![], vec![2, 3], vec![]]),
            (vec![dead(1, 1), dead(3, 2)], [vec![], vec![], vec![], vec![]]),
            (vec![up(2, 2)], [vec![], vec![1, 2, 3], vec![], vec![]]),
        ];
        let mut directory = Directory::new(1);
        for (index, (commands, expected)) in (1u64..).zip(steps) {
            directory.apply(index, &Entry { time_ms: 1, commands });
            for (node, numbers) in [1u64, 2, 3, 5].into_iter().zip(expected) {
                let wanted: Vec<(IpAddr, u8)> = numbers.iter().map(|n| ([10, 0, 0, *n].into(), 32)).collect();
                assert_eq!(held_by(NodeId(node), &directory), wanted, "step {index}, node {node}");
            }
        }
    }

    #[test]
    fn addresses_are_read_or_refused() {
        assert_eq!(parse("192.0.2.1/24"), Some(([192, 0, 2, 1].into(), 24)));
        assert!(parse("2001:db8::1/128").is_some());
        for bad in
            ["", "192.0.2.1", "192.0.2.1/33", "192.0.2.300/24", "0.0.0.0/0", "224.0.0.1/32", "::/0", "1.2.3.4/-1"]
        {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
