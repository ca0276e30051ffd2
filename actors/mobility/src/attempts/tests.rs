use std::cell::{Cell, RefCell};

use proptest::prelude::*;

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn attempts() -> Attempts {
    Attempts::new(vec![A, B], AttemptOptions::default(), 10_000, 7)
}

fn gave_up(next: &Next) -> &str {
    match next {
        Next::GaveUp(end) => &end.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn alternates_are_tried_in_order() {
    let mut a = attempts();
    assert_eq!(a.next(0), Next::Try(A));
    a.failed(1, "full", "A is full");
    assert_eq!(a.next(1), Next::Try(B));
    a.moved();
    assert_eq!(a.next(99_999), Next::Moved(B));
    assert_eq!(a.history(), [Tried { target: A, at_ms: 1, code: "full".into() }]);
}

#[test]
fn what_passes_is_waited_for_but_not_for_ever() {
    let mut a = attempts();
    let mut now = 0;
    for attempt in 1..=3 {
        assert_eq!(a.next(now), Next::Try(A), "attempt {attempt}");
        a.failed(now, "too-many-moves", "busy");
        if let Next::Wait { until_ms } = a.next(now) {
            let full = 50 << (attempt - 1);
            assert!((now + full / 2..=now + full).contains(&until_ms));
            assert_eq!(a.next(until_ms - 1), Next::Wait { until_ms });
            now = until_ms;
        }
    }
    assert_eq!(a.next(now), Next::Try(B));
    a.failed(now, "target-dead", "B is dead");
    assert_eq!(gave_up(&a.next(now)), "target-dead");
}

#[test]
fn doubt_is_resolved_by_looking() {
    for (primary, expected) in [(A, Next::Moved(A)), (B, Next::Moved(B))] {
        let mut a = attempts();
        assert_eq!(a.next(0), Next::Try(A));
        a.failed(1, "unreachable", "no answer");
        assert_eq!(a.next(1), Next::LookUp);
        a.placed(1, None);
        assert_eq!(a.next(1), Next::LookUp, "not known: look again");
        a.placed(2, Some(primary));
        assert_eq!(a.next(2), expected);
    }
    let mut a = attempts();
    a.failed(0, "unknown", "");
    a.placed(1, Some(NodeId(9)));
    assert!(matches!(a.next(1), Next::Wait { .. }));
    let mut a = attempts();
    a.failed(0, "unknown", "");
    a.placed(10_000, None);
    assert_eq!(gave_up(&a.next(10_000)), "unknown");
}

#[test]
fn it_ends() {
    assert_eq!(gave_up(&Attempts::new(vec![], AttemptOptions::default(), 10, 0).next(0)), "no-candidate");
    assert_eq!(gave_up(&attempts().next(10_000)), "deadline");
    let mut a = attempts();
    a.failed(0, "no-group", "gone");
    assert_eq!(gave_up(&a.next(0)), "no-group");
    let mut a = attempts();
    a.cancel();
    assert_eq!(gave_up(&a.next(0)), "cancelled");
}

/// Every code of the runtime's moves has a meaning of its own or is looked into.
#[test]
fn codes_are_classified() {
    for (code, failure) in [
        ("target-dead", Failure::Target),
        ("catch-up-timeout", Failure::Target),
        ("residency", Failure::Target),
        ("overloaded", Failure::Passes),
        ("busy", Failure::Passes),
        ("pinned", Failure::Final),
        ("already-there", Failure::InDoubt),
        ("something-new", Failure::InDoubt),
    ] {
        assert_eq!(Failure::from_code(code), failure, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn pursue_runs_it() {
    let start = tokio::time::Instant::now();
    let clock = move || u64::try_from(start.elapsed().as_millis()).unwrap();
    let tried = RefCell::new(Vec::new());
    let looks = Cell::new(0);
    let mut a = attempts();
    let end = pursue(
        &mut a,
        &clock,
        |target| {
            tried.borrow_mut().push(target);
            let code = if target == A { "draining" } else { "unknown" };
            async move { Err((code.to_owned(), String::new())) }
        },
        || {
            looks.set(looks.get() + 1);
            let primary = (looks.get() > 2).then_some(B);
            async move { primary }
        },
    )
    .await;
    assert_eq!(end, Ok(B));
    assert_eq!(*tried.borrow(), [A, B]);
    assert_eq!(looks.get(), 3);
}

proptest! {
    /// Whatever the answers: it ends, within the bounds, in order, and no attempt begins after the deadline.
    #[test]
    fn it_always_ends(
        nodes in proptest::collection::vec((0u64..20).prop_map(NodeId), 0..10),
        codes in proptest::collection::vec(prop_oneof![
            Just("full"), Just("busy"), Just("unknown"), Just("overloaded"), Just("target-dead"), Just("new")], 1..20),
        seed: u64, deadline_ms in 0u64..5_000, attempts_max in 0u32..12, per_target_max in 0u32..5,
    ) {
        let options = AttemptOptions { attempts_max, per_target_max, ..AttemptOptions::default() };
        let mut a = Attempts::new(nodes.clone(), options, deadline_ms, seed);
        let (mut now, mut tries, mut place) = (0, 0u32, 0);
        for step in 0.. {
            prop_assert!(step < 1_000, "no end");
            match a.next(now) {
                Next::Try(target) => {
                    prop_assert!(now < deadline_ms);
                    let at = nodes[place..].iter().position(|n| *n == target);
                    prop_assert!(at.is_some(), "back to an earlier target");
                    place += at.unwrap_or(0);
                    a.failed(now, codes[tries as usize % codes.len()], "");
                    tries += 1;
                    now += 1;
                }
                Next::Wait { until_ms } => {
                    prop_assert!(until_ms > now && until_ms <= now + options.backoff_ms_max);
                    now = until_ms;
                }
                Next::LookUp => {
                    now += 10;
                    a.placed(now, (step % 2 == 0).then_some(NodeId(99)));
                }
                Next::Moved(_) => prop_assert!(false, "nobody moved it"),
                Next::GaveUp(_) => break,
            }
        }
        prop_assert!(tries <= attempts_max.max(1));
        prop_assert_eq!(a.history().len() as u32, tries);
    }
}
