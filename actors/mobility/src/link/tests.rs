use super::*;
use crate::strategy::Subject;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);

fn device(n: u64) -> ContextId {
    ContextId::made(1, n, 0)
}

fn targets(moves: &[MoveRequest]) -> Vec<(ContextId, Option<NodeId>)> {
    let context = |m: &MoveRequest| match m.subject {
        Subject::Context(c) => c,
        Subject::Group(_) => panic!("a device is named by its context"),
    };
    moves.iter().map(|m| (context(m), m.target)).collect()
}

/// Feeds both signals every 100 ms and gives the times of the moves.
fn run(watch: &mut LinkWatch, from_ms: u64, to_ms: u64, signal: impl Fn(u64) -> (f64, f64)) -> Vec<(u64, NodeId)> {
    let mut at = A;
    let mut moves = Vec::new();
    for now in (from_ms..to_ms).step_by(100) {
        let (a, b) = signal(now);
        watch.report(now, device(1), A, a).unwrap();
        watch.report(now, device(1), B, b).unwrap();
        for (_, target) in targets(&watch.plan(now, |_| Some(at), |_, _| true)) {
            at = target.unwrap();
            moves.push((now, at));
        }
    }
    moves
}

#[test]
fn better_by_the_hysteresis_for_the_trigger_time() {
    let mut watch = LinkWatch::default();
    assert_eq!(run(&mut watch, 0, 5_000, |_| (-90.0, -88.0)), [], "within the hysteresis");
    assert_eq!(run(&mut watch, 5_000, 8_000, |_| (-90.0, -80.0)), [(5_700, B)]);
}

#[test]
fn a_signal_that_flickers_moves_nothing() {
    let flicker = |now: u64| if (now / 500).is_multiple_of(2) { (-90.0, -80.0) } else { (-80.0, -90.0) };
    assert_eq!(run(&mut LinkWatch::default(), 0, 20_000, flicker), []);
}

#[test]
fn a_moved_device_rests() {
    let mut watch = LinkWatch::default();
    let turn = |now: u64| if now < 1_000 { (-90.0, -80.0) } else { (-70.0, -90.0) };
    let moves = run(&mut watch, 0, 6_000, turn);
    assert_eq!(moves, [(700, B), (3_700, A)], "back only after rest_ms, though A is better since 1000");
}

#[test]
fn silence_of_the_serving_node_counts_and_old_reports_do_not() {
    let mut watch = LinkWatch::default();
    watch.report(0, device(1), A, -60.0).unwrap();
    for now in (0..7_000).step_by(500) {
        watch.report(now, device(1), B, -100.0).unwrap();
        let moves = targets(&watch.plan(now, |_| Some(A), |_, _| true));
        assert_eq!(moves.is_empty(), now < 6_000, "{now}");
        if !moves.is_empty() {
            break;
        }
    }
    assert!(watch.plan(60_000, |_| Some(B), |_, _| true).is_empty());
    assert!(watch.is_empty(), "who is measured no more is forgotten");
}

#[test]
fn where_it_may_not_go_it_does_not_go_and_not_all_at_once() {
    let options = LinkOptions { moves_per_s_max: 3, trigger_ms: 0, ..LinkOptions::default() };
    let mut watch = LinkWatch::new(options);
    for n in 1..=5 {
        watch.report(0, device(n), A, -100.0).unwrap();
        watch.report(0, device(n), B, -60.0 - f64::from(u32::try_from(n).unwrap())).unwrap();
    }
    assert_eq!(watch.plan(0, |_| Some(A), |_, node| node != B), []);
    let first: Vec<_> = targets(&watch.plan(1, |_| Some(A), |_, _| true)).iter().map(|m| m.0.index()).collect();
    assert_eq!(first, [1, 2, 3], "who gains most first");
    assert_eq!(watch.plan(500, |_| Some(A), |_, _| true), []);
    assert_eq!(watch.plan(1_001, |_| Some(A), |_, _| true).len(), 2);
}

#[test]
fn nonsense_is_refused_and_memory_is_bounded() {
    let mut watch = LinkWatch::default();
    for bad in [f64::NAN, f64::INFINITY, -201.0, 51.0] {
        assert_eq!(watch.report(0, device(1), A, bad), Err(BadReport));
    }
    assert!(watch.is_empty());
    for n in 0..100 {
        watch.report(n, device(1), NodeId(n), -80.0).unwrap();
    }
    assert_eq!(watch.devices[&device(1)].reports.len(), NODES_PER_DEVICE_MAX);
}

#[test]
fn nearer_is_louder() {
    assert!((expected_dbm(1.0) + 95.1).abs() < 1e-9);
    assert!(expected_dbm(0.2) > expected_dbm(0.4) + LinkOptions::default().hysteresis_db);
}
