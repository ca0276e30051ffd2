use proptest::prelude::*;

use super::*;

fn sample(n: u64, at_ms: u64, outcome: MoveOutcome<'static>) -> MoveSample<'static> {
    let phases = &[(Phase::Prepare, 40_000), (Phase::Freeze, 3_000), (Phase::Interruption, 4_000)];
    let group = GroupId::made(1, n, 0);
    MoveSample { group, reason: MoveReason::Drain, at_ms, outcome, phases, parked: 3, bytes: 1_000, lost: 0 }
}

#[test]
fn figures_by_reason_phase_and_code() {
    let mut kpis = MoveKpis::default();
    for n in 0..99 {
        kpis.ended(sample(n, n, MoveOutcome::Moved));
    }
    let slow = MoveSample { phases: &[(Phase::Interruption, 300_000)], ..sample(99, 99, MoveOutcome::Moved) };
    kpis.ended(slow);
    kpis.ended(MoveSample { phases: &[], ..sample(100, 100, MoveOutcome::Failed("target-dead")) });
    kpis.measured(MoveReason::Drain, Phase::Attach, 7_000);
    let snapshot = kpis.snapshot(100);
    let [drain] = snapshot.reasons.as_slice() else { panic!("one reason") };
    assert_eq!((drain.moved, drain.failed, drain.parked, drain.over_budget), (100, 1, 303, 1));
    let interruption = drain.phases.iter().find(|p| p.phase == Phase::Interruption).unwrap();
    assert_eq!((interruption.count, interruption.max_us), (100, 300_000));
    assert!((3_900..=4_100).contains(&interruption.p50_us), "{interruption:?}");
    assert_eq!(snapshot.failures, [("target-dead".to_owned(), 1)].into());
    let alarms: Vec<_> = snapshot.alarms.iter().map(|a| (a.code, a.since_ms)).collect();
    assert_eq!(alarms, [("moves-slow", 99)], "one move broke the budget");
    assert_eq!(kpis.alarms(60_099), []);
    let json = serde_json::to_value(&snapshot).unwrap();
    assert_eq!(json["reasons"][0]["reason"], "drain");
    assert_eq!(json["reasons"][0]["phases"][0]["phase"], "prepare");
}

#[test]
fn alarms_come_and_go() {
    let options = AlarmOptions { window_ms: 1_000, moves_max: 2, failures_max: 1 };
    let mut kpis = MoveKpis::new(options);
    kpis.ended(sample(1, 0, MoveOutcome::Moved));
    kpis.ended(sample(1, 100, MoveOutcome::Moved));
    kpis.ended(sample(2, 100, MoveOutcome::Failed("x")));
    assert_eq!(kpis.alarms(150), []);
    kpis.ended(sample(1, 200, MoveOutcome::Moved));
    kpis.ended(sample(3, 300, MoveOutcome::Failed("x")));
    let alarms = kpis.alarms(400);
    let told: Vec<_> = alarms.iter().map(|a| (a.code, a.since_ms)).collect();
    assert_eq!(told, [("moves-failed", 300), ("moves-frequent", 200)]);
    assert_eq!(alarms[1].group.as_deref(), Some("1.1.0"));
    assert_eq!(kpis.alarms(999).len(), 2);
    assert_eq!(kpis.alarms(1_000).len(), 1, "the first move is out of the window");
    assert_eq!(kpis.alarms(1_100), []);
}

#[test]
fn prometheus_text_is_consistent() {
    let mut kpis = MoveKpis::default();
    for us in [500, 3_000, 3_000, 900_000, 90_000_000] {
        kpis.measured(MoveReason::Device, Phase::Interruption, us);
    }
    kpis.ended(sample(1, 5, MoveOutcome::Failed("bad\"code\n")));
    let text = kpis.render(10);
    let value = |line: &str| {
        let found = text.lines().find_map(|l| l.strip_prefix(line)).unwrap_or_else(|| panic!("{line} in\n{text}"));
        found.trim().parse::<f64>().unwrap()
    };
    let labels = "reason=\"device\",phase=\"interruption\"";
    assert_eq!(value(&format!("onemec_move_seconds_bucket{{{labels},le=\"0.001\"}}")), 1.0);
    assert_eq!(value(&format!("onemec_move_seconds_bucket{{{labels},le=\"0.005\"}}")), 3.0);
    assert_eq!(value(&format!("onemec_move_seconds_bucket{{{labels},le=\"60\"}}")), 4.0);
    assert_eq!(value(&format!("onemec_move_seconds_bucket{{{labels},le=\"+Inf\"}}")), 5.0);
    assert_eq!(value(&format!("onemec_move_seconds_count{{{labels}}}")), 5.0);
    assert_eq!(value(&format!("onemec_move_seconds_sum{{{labels}}}")), 90.9065);
    assert_eq!(value("onemec_move_failures_total{code=\"other\"}"), 1.0);
    assert_eq!(value("onemec_moves_total{reason=\"drain\",outcome=\"failed\"}"), 1.0);
    for line in text.lines() {
        assert!(
            line.starts_with("# ") || line.rsplit_once(' ').is_some_and(|(_, v)| v.parse::<f64>().is_ok()),
            "{line}"
        );
    }
}

#[test]
fn codes_are_bounded() {
    let mut kpis = MoveKpis::default();
    for n in 0..1_000 {
        let code = format!("code-{n}");
        kpis.ended(MoveSample { outcome: MoveOutcome::Failed(&code), ..sample(1, 0, MoveOutcome::Moved) });
    }
    let failures = kpis.snapshot(0).failures;
    assert!(failures.len() <= CODES_MAX + 1);
    assert_eq!(failures.values().sum::<u64>(), 1_000);
}

proptest! {
    /// The window's counters are what counting anew gives.
    #[test]
    fn alarms_agree_with_a_recount(events in proptest::collection::vec((0u64..300, 0u64..4, any::<bool>()), 0..80)) {
        let options = AlarmOptions { window_ms: 1_000, moves_max: 3, failures_max: 4 };
        let mut kpis = MoveKpis::new(options);
        let mut now = 0;
        let mut past = Vec::new();
        for (step, n, moved) in events {
            now += step;
            past.push((now, n, moved));
            kpis.ended(sample(n, now, if moved { MoveOutcome::Moved } else { MoveOutcome::Failed("x") }));
            let recent = || past.iter().filter(|(at, ..)| now - at < options.window_ms);
            let frequent =
                (0..4).filter(|n| recent().filter(|e| e.2 && e.1 == *n).count() > options.moves_max as usize).count();
            let failing = recent().filter(|e| !e.2).count() > options.failures_max as usize;
            prop_assert_eq!(kpis.alarms(now).len(), frequent + usize::from(failing));
        }
    }

    #[test]
    fn any_duration_is_recorded(all in proptest::collection::vec(any::<u64>(), 1..50)) {
        let mut kpis = MoveKpis::default();
        for us in &all {
            kpis.measured(MoveReason::Network, Phase::Freeze, *us);
        }
        prop_assert_eq!(kpis.snapshot(0).reasons[0].phases[0].count, all.len() as u64);
    }
}
