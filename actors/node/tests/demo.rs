//! The demo's course on a cluster that exists only in this process, right and with planted faults.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs, helpers included

mod support;

use std::time::Duration;

use onemec_node::admin::types::MoveReason;
use onemec_node::demo::checker::Invariant;
use onemec_node::demo::report::{ClientKind, Report};
use onemec_node::demo::run::{Settings, run};
use support::{Fake, Fault};

async fn demo(fault: Fault) -> Report {
    let mut fake = Fake::start(fault).await;
    let settings = Settings { devices: 12, duration: Duration::from_secs(6), seed: 3, pace: Duration::from_millis(20) };
    run(&mut fake, &settings, &|_, _| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_run_is_clean_and_shows_every_kind_of_move() {
    let report = demo(Fault::None).await;
    assert!(report.ok, "{report}");
    assert_eq!((report.devices_library, report.devices_unmodified), (9, 3));
    assert!(report.verdict.acknowledged > 500 && report.read_back >= report.verdict.acknowledged);
    for kind in [MoveReason::Operator, MoveReason::Device, MoveReason::Network, MoveReason::Drain, MoveReason::Failover]
    {
        assert!(
            report.rows.iter().any(|r| r.kind == kind && r.client == ClientKind::Library && r.moves > 0),
            "{kind:?}"
        );
    }
    // Planned moves: an unmodified client sees no error.
    for row in report.rows.iter().filter(|r| r.kind != MoveReason::Failover) {
        assert_eq!(row.errors, 0, "{row:?}");
    }
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    assert!(report.to_string().contains("all invariants held"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_loss_fails_the_demo() {
    let report = demo(Fault::Lose).await;
    assert!(!report.ok && report.verdict.lost == 1, "{report}");
    assert!(report.verdict.violations.contains_key(&Invariant::I2NoLoss));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_double_fails_the_demo() {
    let report = demo(Fault::Double).await;
    assert!(!report.ok && report.verdict.doubled == 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_second_primary_fails_the_demo() {
    let report = demo(Fault::TwoPrimaries).await;
    assert!(!report.ok && report.verdict.violations.contains_key(&Invariant::I1OnePrimary), "{report}");
}
