#![no_main]
//! First byte: which channel; second: how long the pieces are; the rest: the stream. However it is cut, the channel says
//! the same.

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use onemec_wire::{Channel, Item, ProtocolError, Role, Rope};

fn run(role: Role, stream: &Bytes, piece: usize) -> (Vec<Item>, Rope, Option<ProtocolError>) {
    let mut channel = Channel::new(role);
    let (mut items, mut raw) = (Vec::new(), Rope::new());
    for at in (0..stream.len()).step_by(piece) {
        channel.push(stream.slice(at..stream.len().min(at + piece)));
        loop {
            match channel.next() {
                Ok(None) => break,
                Ok(Some(Item::Raw(rope))) => rope.into_chunks().for_each(|c| raw.push(c)),
                Ok(Some(item)) => items.push(item),
                Err(error) => return (items, raw, Some(error)),
            }
        }
    }
    (items, raw, channel.end().err())
}

fuzz_target!(|data: &[u8]| {
    let [role, piece, stream @ ..] = data else { return };
    let role = match role % 7 {
        0 => Role::ControlAcceptor,
        1 => Role::ControlDialler,
        2 => Role::Lane { message_lanes: 2 },
        3 => Role::Called,
        4 => Role::Caller,
        5 => Role::TransferReceiver,
        _ => Role::TransferSender,
    };
    let stream = Bytes::copy_from_slice(stream);
    let whole = run(role, &stream, stream.len().max(1));
    assert_eq!(whole, run(role, &stream, usize::from(*piece).max(1)));
});
