//! The shape of a log against a plain vector of epochs.

use onemec_core::group::{LogShape, Position};
use onemec_wire::{Epoch, Seq};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
enum Op {
    Append(u64),
    Truncate(u64),
    Rebase(u64),
    Sync(u64),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0u64..3).prop_map(Op::Append),
        1 => (0u64..40).prop_map(Op::Truncate),
        2 => (0u64..40).prop_map(Op::Rebase),
        1 => (0u64..40).prop_map(Op::Sync),
    ];
    prop::collection::vec(op, 0..60)
}

/// Epoch of each record from 1; what lies at or before `base` has been forgotten but for the base itself.
#[derive(Default)]
struct Model {
    epochs: Vec<u64>,
    base: u64,
    synced: u64,
}

impl Model {
    fn last(&self) -> u64 {
        self.epochs.len() as u64
    }
    fn epoch(&self, seq: u64) -> u64 {
        if seq == 0 { 0 } else { self.epochs[seq as usize - 1] }
    }
}

fn at(epoch: u64, seq: u64) -> Position {
    Position { epoch: Epoch(epoch), seq: Seq(seq) }
}

fn check(log: &LogShape, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!(log.last(), Seq(model.last()));
    prop_assert_eq!(log.base(), at(model.epoch(model.base), model.base));
    prop_assert_eq!(log.synced(), Seq(model.synced));
    for seq in 0..=model.last() + 2 {
        let known = (seq >= model.base && seq <= model.last()).then(|| Epoch(model.epoch(seq)));
        prop_assert_eq!(log.epoch_at(Seq(seq)), known, "at {}", seq);
    }
    Ok(())
}

fn positions(epochs: &[u64]) -> Vec<Position> {
    epochs.iter().enumerate().map(|(i, e)| at(*e, i as u64 + 1)).collect()
}

proptest! {
    #[test]
    fn a_shape_is_its_log(ops in ops()) {
        let (mut log, mut model) = (LogShape::new(), Model::default());
        for op in ops {
            match op {
                Op::Append(step) => {
                    let epoch = model.epochs.last().copied().unwrap_or(0) + step;
                    let epoch = epoch.max(1);
                    model.epochs.push(epoch);
                    log.append(at(epoch, model.last()));
                }
                Op::Truncate(seq) => {
                    let seq = seq.max(model.base);
                    model.epochs.truncate(seq as usize);
                    model.synced = model.synced.min(seq);
                    log.truncate(Seq(seq));
                }
                Op::Rebase(seq) => {
                    if seq >= model.base && seq <= model.last() {
                        model.base = seq;
                    }
                    log.rebase(Seq(seq));
                }
                Op::Sync(seq) => {
                    model.synced = model.synced.max(seq.min(model.last()));
                    log.note_synced(Seq(seq));
                }
            }
            check(&log, &model)?;
        }
    }

    #[test]
    fn two_logs_always_find_where_they_agree(
        common in prop::collection::vec(0u64..2, 0..15), a in prop::collection::vec(0u64..2, 0..12),
        b in prop::collection::vec(0u64..2, 0..12),
    ) {
        // After the common part the one has odd epochs, the other even ones: no position is in both by accident.
        let mut epoch = 1;
        let mut grow = |steps: &[u64], by: u64| -> Vec<u64> {
            steps.iter().map(|s| { epoch += s * by; epoch }).collect()
        };
        let common = grow(&common, 1);
        let top = common.last().copied().unwrap_or(1);
        let tail = |steps: &[u64], parity: u64| -> Vec<u64> {
            let mut e = top + 1 + (top + parity) % 2;
            steps.iter().map(|s| { e += s * 2; e }).collect()
        };
        let left: Vec<u64> = common.iter().copied().chain(tail(&a, 0)).collect();
        let right: Vec<u64> = common.iter().copied().chain(tail(&b, 1)).collect();
        let (primary, replica) = (
            LogShape::recovered(at(0, 0), positions(&left), true),
            LogShape::recovered(at(0, 0), positions(&right), true),
        );
        let mut probe = primary.last_position();
        for _ in 0..60 {
            if replica.matches(probe) { break; }
            let nearest = replica.at_or_before(probe);
            prop_assert!(replica.matches(nearest));
            probe = if primary.matches(nearest) { nearest } else { primary.at_or_before(nearest) };
        }
        prop_assert!(replica.matches(probe), "no end");
        let agree = common.len() as u64;
        prop_assert!(probe.seq <= Seq(agree), "{:?} is beyond what is common ({})", probe, agree);
        // What is common is not sent again but for the records of one epoch.
        prop_assert!(probe.seq == Seq(agree) || common[probe.seq.0 as usize] == top);
    }
}
