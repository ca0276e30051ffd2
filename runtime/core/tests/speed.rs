//! How many operations a primary and a backup take per second on one core: printed, never asserted.
#![allow(clippy::unwrap_used, reason = "a test may")]

use std::collections::{BTreeSet, VecDeque};

use onemec_core::directory::{Durability, Placement, StoreId, Synced};
use onemec_core::group::{GroupTiming, Input, Live, LogShape, Me, Output, Position, Replica};
use onemec_core::time::Mono;
use onemec_wire::{Epoch, GroupId, Member, Seq, Version};

const OPS: u64 = 50_000;

#[test]
fn operations_through_a_primary_and_its_backup() {
    let members = [Member::new(1, 1), Member::new(2, 1)];
    let group = GroupId::made(1, 1, 0);
    let placement = Placement {
        epoch: Epoch(1),
        version: Version(1),
        primary: members[0],
        in_sync: BTreeSet::from(members),
        synced: Synced::new(),
        sealed: Some(Seq(0)),
        durability: Durability::Replicated,
        replicas_wanted: 2,
        contexts: Vec::new(),
    };
    let live = Live::new(members.map(|m| (m, StoreId(m.node.0))));
    let mut nodes = members.map(|member| {
        let me = Me { group, member, store: StoreId(member.node.0) };
        Replica::new(me, GroupTiming::default(), LogShape::new(), Epoch(0), Mono(0))
    });
    let mut queue = VecDeque::new();
    for i in 0..2 {
        queue.push_back((i, Input::Placement { placement: Some(placement.clone()), live: live.clone() }));
    }
    let (mut out, mut done, mut now) = (Vec::new(), 0, 1_000_000);
    let began = std::time::Instant::now();
    while done < OPS {
        if queue.is_empty() {
            nodes[0].next_place().unwrap();
            queue.push_back((0, Input::Appended));
        }
        let Some((i, input)) = queue.pop_front() else { continue };
        now += 1_000;
        nodes[i].step(Mono(now), input, &mut out);
        for output in out.drain(..) {
            match output {
                Output::Send { message, .. } => {
                    queue.push_back((1 - i, Input::Peer { from: members[i], message, records: Vec::new() }));
                }
                Output::SendRecords { message, from, upto, .. } => {
                    let records = (from.0..=upto.0).map(|s| Position { epoch: Epoch(1), seq: Seq(s) }).collect();
                    queue.push_back((1 - i, Input::Peer { from: members[i], message, records }));
                }
                Output::Committed(seq) if i == 0 => done = seq.0,
                _ => {}
            }
        }
    }
    println!("{:.0} operations/s", done as f64 / began.elapsed().as_secs_f64());
}
