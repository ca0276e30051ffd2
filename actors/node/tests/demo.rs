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
    // Twelve devices: three pairs, each of which moved.
    assert!(report.verdict.bundles == 3 && report.verdict.bundle_moves >= 3, "{report}");
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

/// The demo with a fault, which must break this invariant and no other.
async fn broken_by(fault: Fault, invariant: Invariant) -> Report {
    let report = demo(fault).await;
    let found: Vec<_> = report.verdict.violations.keys().copied().collect();
    assert!(!report.ok && found == [invariant], "{fault:?}: {report}");
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_wrong_value_fails_the_demo() {
    assert_eq!(broken_by(Fault::Alter, Invariant::I2NoLoss).await.verdict.altered, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_foreign_reading_fails_the_demo() {
    let report = demo(Fault::Misplace).await;
    let v = &report.verdict;
    // Its number may be one that the container's device gives as well, or gives later, or never gives.
    assert!(!report.ok && v.altered + v.phantom == 1, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_wrong_order_fails_the_demo() {
    assert!(broken_by(Fault::Reorder, Invariant::I4Order).await.verdict.out_of_order > 0);
    broken_by(Fault::SamePlace, Invariant::I4Order).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_second_registrar_fails_the_demo() {
    broken_by(Fault::TwoRegistrars, Invariant::I5OneRegistrar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planted_split_of_a_group_fails_the_demo() {
    broken_by(Fault::SplitGroup, Invariant::I6AllOrNone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aes_of_one_node_that_get_groups_of_their_own_fail_the_demo() {
    let report = broken_by(Fault::NoBundles, Invariant::I6AllOrNone).await;
    assert!(report.problems.iter().any(|p| p.contains("nothing to check")), "{report}");
}
