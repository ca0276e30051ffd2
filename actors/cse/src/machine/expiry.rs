//! What is due goes as if it had been deleted (TS-0001 9.6.1.3.2).

use onemec_core::context::{History, Outcome};
use onemec_wire::Record;

use super::Cx;
use crate::access::Asker;
use crate::op::{Facts, Who};
use crate::tree::{Found, Tree};

/// Most resources that one record lets expire: the rest follows with the next one, so that no record takes long.
const EXPIRED_AT_ONCE_MAX: usize = 10_000;

pub(super) fn run(tree: &mut Tree, record: &Record, history: &dyn History, outcome: &mut Outcome) {
    let Some(home) = tree.home.clone() else { return };
    let home = home.identity();
    let (who, facts) = (Who::cse(&home), Facts::default());
    let now_ms = record.time_ms();
    let asker = Asker { who: &who, facts: &facts, home: &home, now_ms };
    let cx = Cx { asker, seq: record.seq(), now_ms, history, home: &home };
    for _ in 0..EXPIRED_AT_ONCE_MAX {
        let Some((node, instance)) = tree.expired(now_ms) else { return };
        let found = instance.map_or(Found::Node(node), |i| Found::Instance(node, i));
        super::delete::remove(tree, &cx, found, outcome);
        if outcome.finished {
            return;
        }
    }
}
