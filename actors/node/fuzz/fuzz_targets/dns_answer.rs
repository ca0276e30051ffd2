//! Any bytes at the DNS server's port: no panic, and an answer that is a message, no longer than its way allows, never the
//! answer to an answer.
#![no_main]

use std::collections::BTreeMap;
use std::sync::OnceLock;

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;
use onemec_core::directory::{Command, Directory, Entry, StoreId};
use onemec_node::steering::dns::{ADDRESSES, Transport, Zone, answer};
use onemec_wire::{Incarnation, Member, NodeId};

/// Three nodes of one zone.
fn world() -> &'static (Zone, Directory) {
    static WORLD: OnceLock<(Zone, Directory)> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut directory = Directory::new(1);
        let commands = (1..=3).map(|n| Command::NodeUp {
            member: Member { node: NodeId(n), incarnation: Incarnation(1) },
            store: StoreId(n),
            info: BTreeMap::from([
                ("name".to_owned(), format!("edge{n}")),
                ("poa".to_owned(), format!("http://192.0.2.{n}:8080")),
                (ADDRESSES.to_owned(), format!("192.0.2.{n},2001:db8::{n}")),
            ]),
        });
        directory.apply(1, &Entry { time_ms: 1, commands: commands.collect() });
        (Zone::new("iot.example", 1).expect("a zone"), directory)
    })
}

fuzz_target!(|data: &[u8]| {
    let (zone, directory) = world();
    let Some((mode, question)) = data.split_first() else { return };
    let (transport, limit) = match mode % 3 {
        0 => (Transport::Udp { full: true }, 1232),
        1 => (Transport::Udp { full: false }, 1232),
        _ => (Transport::Tcp, 65_535),
    };
    let answered = answer(question, zone, directory, transport, mode % 2 == 0);
    if let Some(bytes) = answered {
        assert!(question[2] & 0x80 == 0, "an answer was answered");
        assert!(bytes.len() <= limit, "{} bytes", bytes.len());
        let message = Message::from_vec(&bytes).expect("what we say can be read");
        assert_eq!(bytes[..2], question[..2], "the answer belongs to the question");
        assert!(mode % 3 != 1 || message.answers.is_empty());
    }
});
