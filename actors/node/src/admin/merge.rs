//! One line per move out of what its two ends have recorded (row H10).

use std::collections::BTreeMap;

use super::types::Handover;

/// Merges the journals of several nodes by [`Handover::key`]: each move once, oldest first, numbered anew from 1.
pub fn merge(journals: Vec<Vec<Handover>>) -> Vec<Handover> {
    let mut moves: BTreeMap<String, Handover> = BTreeMap::new();
    for handover in journals.into_iter().flatten() {
        match moves.get_mut(&handover.key) {
            Some(known) => join(known, handover),
            None => drop(moves.insert(handover.key.clone(), handover)),
        }
    }
    let mut all: Vec<Handover> = moves.into_values().collect();
    all.sort_by(|a, b| (a.begun_ms, &a.key).cmp(&(b.begun_ms, &b.key)));
    for (number, handover) in (1..).zip(&mut all) {
        handover.id = number;
    }
    all
}

/// What one end does not know, the other does; where both have a figure it is the same one, or the later, longer one.
fn join(known: &mut Handover, other: Handover) {
    if known.outcome != "done" && other.outcome == "done" {
        // The source may not have learnt how it ended.
        (known.outcome, known.text) = (other.outcome, String::new());
    }
    if known.aes.len() < other.aes.len() {
        known.aes = other.aes;
    }
    known.epoch = known.epoch.max(other.epoch);
    for (mine, theirs) in [
        (&mut known.prepare_us, other.prepare_us),
        (&mut known.freeze_us, other.freeze_us),
        (&mut known.commit_us, other.commit_us),
        (&mut known.activate_us, other.activate_us),
        (&mut known.interruption_us, other.interruption_us),
        (&mut known.authentication_us, other.authentication_us),
        (&mut known.parked, other.parked),
        (&mut known.bytes, other.bytes),
    ] {
        *mine = theirs.max(*mine);
    }
    known.attach_us = known.attach_us.or(other.attach_us);
    known.latency_before_us = known.latency_before_us.or(other.latency_before_us);
    known.latency_after_us = known.latency_after_us.or(other.latency_after_us);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handover(key: &str, begun_ms: u64) -> Handover {
        Handover { key: key.into(), begun_ms, outcome: "done".into(), ..Handover::default() }
    }

    #[test]
    fn both_ends_of_a_move_are_one_line_with_the_figures_of_both() {
        let source = Handover {
            activate_us: 7,
            interruption_us: 12,
            latency_before_us: Some(900),
            outcome: "unknown".into(),
            text: "no word from the target".into(),
            ..handover("n1/i1/4", 50)
        };
        let target = Handover {
            interruption_us: 5,
            attach_us: Some(80),
            authentication_us: 3,
            latency_after_us: Some(700),
            ..handover("n1/i1/4", 50)
        };
        let other = handover("n2/i1/1", 20);
        for journals in [
            vec![vec![source.clone()], vec![other.clone(), target.clone()], vec![]],
            vec![vec![target], vec![source], vec![other]],
        ] {
            let merged = merge(journals);
            assert_eq!(merged.iter().map(|h| (h.id, h.begun_ms)).collect::<Vec<_>>(), [(1, 20), (2, 50)]);
            let both = &merged[1];
            assert_eq!((both.interruption_us, both.activate_us, both.authentication_us), (12, 7, 3));
            assert_eq!(
                (both.attach_us, both.latency_before_us, both.latency_after_us),
                (Some(80), Some(900), Some(700))
            );
            assert_eq!((both.outcome.as_str(), both.text.as_str()), ("done", ""));
        }
    }
}
