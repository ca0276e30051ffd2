//! I2, I3, I4 from the clients' side.

use std::collections::{BTreeMap, HashMap};

use onemec_device::{Event, Outcome};

use super::{History, Invariant, Verdict};

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    let device = &history.device;
    let mut written: BTreeMap<u64, &Event> = BTreeMap::new();
    for event in &history.events {
        match event.outcome {
            Outcome::Acknowledged => verdict.acknowledged += 1,
            Outcome::Unknown => verdict.unknown += 1,
            Outcome::Refused => verdict.refused += 1,
        }
        if written.insert(event.number, event).is_some() {
            verdict.broken(Invariant::Evidence, || format!("{device} wrote reading {} twice", event.number));
        }
    }
    let mut found: HashMap<u64, u64> = HashMap::new();
    for read in &history.read_back {
        *found.entry(read.number).or_default() += 1;
        if written.get(&read.number).is_some_and(|e| e.digest != read.digest) {
            verdict.altered += 1;
            verdict.broken(Invariant::I2NoLoss, || {
                format!("{device}: reading {} is there with another content than was written", read.number)
            });
        }
    }
    for event in &history.events {
        if event.outcome == Outcome::Acknowledged && !found.contains_key(&event.number) {
            verdict.lost += 1;
            verdict.broken(Invariant::I2NoLoss, || {
                format!("{device}: reading {} was acknowledged at {} us and is gone", event.number, event.ended_us)
            });
        }
    }
    for (number, times) in found {
        if times > 1 {
            verdict.doubled += times - 1;
            verdict.broken(Invariant::I3Once, || format!("{device}: reading {number} is there {times} times"));
        }
        let known = written.get(&number).is_some_and(|e| e.outcome != Outcome::Refused);
        if !known {
            verdict.phantom += 1;
            verdict.broken(Invariant::I3Once, || {
                format!("{device}: reading {number} is there, though it was refused or never written")
            });
        }
    }
    order(history, &written, verdict);
}

/// If a write was acknowledged before another was sent, it must stand before it. Walked from the end, with the earliest
/// acknowledgement seen so far.
fn order(history: &History, written: &BTreeMap<u64, &Event>, verdict: &mut Verdict) {
    let mut earliest: Option<&Event> = None;
    for event in history.read_back.iter().rev().filter_map(|r| written.get(&r.number)) {
        if let Some(later) = earliest.filter(|l| l.number != event.number && l.ended_us < event.invoked_us) {
            verdict.out_of_order += 1;
            verdict.broken(Invariant::I4Order, || {
                format!("{}: reading {} stands before {}", history.device, event.number, later.number)
            });
        }
        if event.outcome == Outcome::Acknowledged && earliest.is_none_or(|l| event.ended_us < l.ended_us) {
            earliest = Some(event);
        }
    }
}
