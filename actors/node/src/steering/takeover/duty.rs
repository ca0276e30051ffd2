//! Who holds which service address, by the directory: pure.
//!
//! Which node an address belongs to at present follows from who is up ([`held_by`]). Nodes learn of that at different
//! moments, so the directory also records who holds each address, and the one before must have given it up, or be dead,
//! before the next one takes it: between living nodes no address is ever on two boxes.

use std::net::IpAddr;

use onemec_core::directory::{Command, Directory};
use onemec_wire::{Member, NodeId};

/// Key under which a node tells the directory its service address, as `ADDRESS/PREFIX`.
pub const SERVICE_ADDRESS: &str = "service_address";
/// Facts of this form say which boot of which node holds an address, as `NODE.INCARNATION`.
const HOLDER: &str = "service-address/";

/// An address and the length of its prefix.
pub type Address = (IpAddr, u8);

/// What one node has to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duty {
    /// Hold these, and no others.
    pub hold: Vec<Address>,
    /// To be told to the directory once everything else has been given up: claims of addresses that are free, and word of
    /// those that this node has no more.
    pub tell: Vec<Command>,
}

/// What `me` has to do. Whoever proposes [`Duty::tell`] must hold nothing beyond [`Duty::hold`] at that moment.
pub fn of(me: Member, directory: &Directory) -> Duty {
    let mine = holder(me);
    let mut duty = Duty::default();
    let wanted = held_by(me.node, directory);
    for address in &wanted {
        let name = format!("{HOLDER}{}", address.0);
        match directory.fact(&name) {
            Some(at) if at == mine => duty.hold.push(*address),
            // Another living boot has not given it up yet.
            Some(at) if directory.nodes().any(|(_, n)| n.up && holder(n.member) == at) => {}
            _ => duty.tell.push(Command::SetFact { name, value: Some(mine.clone()) }),
        }
    }
    let recorded = directory.facts(HOLDER).filter(|(_, at)| *at == mine);
    let surplus =
        recorded.filter(|(name, _)| !wanted.iter().any(|a| name.strip_prefix(HOLDER) == Some(&a.0.to_string())));
    duty.tell.extend(surplus.map(|(name, _)| Command::SetFact { name: name.to_owned(), value: None }));
    duty
}

fn holder(member: Member) -> String {
    format!("{}.{}", member.node.0, member.incarnation.0)
}

/// The addresses of all nodes that have one.
pub fn all(directory: &Directory) -> Vec<Address> {
    directory.nodes().filter_map(|(_, n)| parse(n.info.get(SERVICE_ADDRESS)?)).collect()
}

/// The addresses that are for `me` to hold: its own, and those of each dead node whose successor it is.
///
/// The successor is the next node by number that is up, in a ring of the nodes that have a service address.
pub fn held_by(me: NodeId, directory: &Directory) -> Vec<Address> {
    let ring: Vec<(NodeId, bool, Address)> =
        directory.nodes().filter_map(|(id, n)| Some((id, n.up, parse(n.info.get(SERVICE_ADDRESS)?)?))).collect();
    let holder = |at: usize| {
        let after = ring.iter().skip(at).chain(ring.iter().take(at));
        after.filter(|(_, up, _)| *up).map(|(id, ..)| *id).next()
    };
    let of_me = ring.iter().enumerate().filter(|(at, _)| holder(*at) == Some(me));
    of_me.map(|(_, (.., address))| *address).collect()
}

/// Reads `ADDRESS/PREFIX`.
pub fn parse(text: &str) -> Option<Address> {
    let (address, prefix) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let prefix: u8 = prefix.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (prefix <= most && !address.is_unspecified() && !address.is_multicast()).then_some((address, prefix))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use onemec_core::directory::{Entry, StoreId};
    use onemec_wire::Incarnation;

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

    /// However late nodes hear of things, and whatever they propose then: no address is for two living boots to hold.
    #[test]
    fn an_address_passes_from_hand_to_hand() {
        let member = |node: u64, boot| Member { node: NodeId(node), incarnation: Incarnation(boot) };
        let up = |node: u64, boot| Command::NodeUp {
            member: member(node, boot),
            store: StoreId(node),
            info: BTreeMap::from([(SERVICE_ADDRESS.to_owned(), format!("10.0.0.{node}/32"))]),
        };
        let numbers = |duty: &Duty| duty.hold.iter().map(|(a, _)| a.to_string()).collect::<Vec<_>>();
        let mut index = 0;
        let mut directory = Directory::new(1);
        let mut apply = |directory: &mut Directory, commands: Vec<Command>| {
            index += 1;
            directory.apply(index, &Entry { time_ms: 1, commands });
        };
        apply(&mut directory, vec![up(1, 1), up(2, 1)]);
        let duty = of(member(1, 1), &directory);
        assert_eq!((numbers(&duty).len(), duty.tell.len()), (0, 1), "nothing before the directory has recorded it");
        apply(&mut directory, duty.tell);
        assert_eq!(numbers(&of(member(1, 1), &directory)), ["10.0.0.1"]);
        let tell = of(member(2, 1), &directory).tell;
        apply(&mut directory, tell);

        apply(&mut directory, vec![Command::NodeDead { member: member(1, 1), forced: true }]);
        let duty = of(member(2, 1), &directory);
        assert_eq!(numbers(&duty), ["10.0.0.2"]);
        apply(&mut directory, duty.tell);
        assert_eq!(numbers(&of(member(2, 1), &directory)), ["10.0.0.1", "10.0.0.2"]);
        assert!(of(member(2, 1), &directory).tell.is_empty());

        // Back again, as another boot: it waits until the successor has given the address up.
        apply(&mut directory, vec![up(1, 2)]);
        assert_eq!(of(member(1, 2), &directory), Duty::default());
        assert_eq!(numbers(&of(member(2, 1), &directory)), ["10.0.0.2"], "given up first");
        let tell = of(member(2, 1), &directory).tell;
        apply(&mut directory, tell);
        let tell = of(member(1, 2), &directory).tell;
        apply(&mut directory, tell);
        assert_eq!(numbers(&of(member(1, 2), &directory)), ["10.0.0.1"]);
        assert_eq!(numbers(&of(member(2, 1), &directory)), ["10.0.0.2"]);
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
