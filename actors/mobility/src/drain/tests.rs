use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::strategy::Subject;

fn group(n: u64) -> DrainGroup {
    DrainGroup { group: GroupId::made(1, n, 0), priority: 0, bytes: n, pinned: false }
}

fn ids(moves: &[MoveRequest]) -> Vec<u64> {
    moves.iter().map(|m| group_of(m).index()).collect()
}

fn group_of(request: &MoveRequest) -> GroupId {
    match request.subject {
        Subject::Group(g) => g,
        Subject::Context(_) => panic!("a drain moves groups"),
    }
}

#[test]
fn in_order_and_paced() {
    let groups = [
        DrainGroup { bytes: 9, ..group(1) },
        DrainGroup { bytes: 5, ..group(2) },
        DrainGroup { priority: 1, bytes: 99, ..group(3) },
        DrainGroup { pinned: true, ..group(4) },
        DrainGroup { bytes: 5, ..group(2) },
    ];
    let mut plan = DrainPlan::new(&groups, Some(NodeId(3)), DrainOptions { moves_max: 2, gap_ms: 10 });
    assert_eq!(ids(&plan.start(0)), [3]);
    assert_eq!(ids(&plan.start(5)), Vec::<u64>::new(), "the gap");
    assert_eq!(plan.next_start_ms(), Some(10));
    assert_eq!(ids(&plan.start(10)), [2]);
    assert_eq!(ids(&plan.start(30)), Vec::<u64>::new(), "two at once");
    assert_eq!(plan.next_start_ms(), None);
    plan.ended(GroupId::made(1, 3, 0), Ok(()));
    plan.ended(GroupId::made(1, 3, 0), Ok(()));
    assert_eq!(ids(&plan.start(30)), [1]);
    plan.ended(GroupId::made(1, 1, 0), Err(("full".into(), "no room".into())));
    let p = plan.progress();
    assert_eq!((p.state, p.total, p.moved, p.running, p.failed, p.pinned), (DrainState::Running, 3, 1, 1, 1, 1));
    plan.ended(GroupId::made(1, 2, 0), Ok(()));
    assert_eq!(plan.progress().state, DrainState::Failed);
    assert_eq!(plan.progress().failures[0].group, GroupId::made(1, 1, 0));
    plan.add(&[group(1), group(7)]);
    assert_eq!(ids(&plan.start(99)), [7], "what came later is moved too, what failed is not tried again");
}

#[test]
fn an_empty_node_is_done_at_once() {
    let plan = DrainPlan::new(&[], None, DrainOptions::default());
    assert_eq!(plan.progress().state, DrainState::Done);
}

#[test]
fn a_death_in_the_middle_keeps_the_total() {
    // 31 groups, 3 moved: the node dies, 26 fail over, 2 had no other member.
    let behind = Behind { total: 31, moved: 3, failed_over: 0 }.after_death(2);
    assert_eq!(behind, Behind { total: 31, moved: 3, failed_over: 26 });
    assert_eq!(behind.after_death(2), behind, "said twice");
    // It comes back and moves the two that wait for it.
    let mut plan = DrainPlan::new(&[group(1), group(2)], None, DrainOptions::default()).going_on(behind);
    assert_eq!(ids(&plan.start(0)), [1, 2]);
    let p = plan.progress();
    assert_eq!((p.state, p.total, p.moved, p.failed_over, p.running), (DrainState::Running, 31, 3, 26, 2));
    plan.ended(GroupId::made(1, 1, 0), Ok(()));
    plan.ended(GroupId::made(1, 2, 0), Ok(()));
    let p = plan.progress();
    assert_eq!((p.state, p.total, p.moved, p.failed_over), (DrainState::Done, 31, 5, 26));
    // Nothing was left: it returns to an empty node.
    let behind = Behind { total: 31, moved: 0, failed_over: 0 }.after_death(0);
    let p = DrainPlan::new(&[], None, DrainOptions::default()).going_on(behind).progress();
    assert_eq!((p.state, p.total, p.moved, p.failed_over), (DrainState::Done, 31, 0, 31));
}

proptest! {
    #[test]
    fn every_group_ends_once(
        count in 0u64..200, moves_max in 0usize..10, gap_ms in 0u64..3,
        ends in proptest::collection::vec(any::<(bool, u8)>(), 1..50), cancel_at in proptest::option::of(0usize..300),
    ) {
        let groups: Vec<_> = (0..count).map(group).collect();
        let mut plan = DrainPlan::new(&groups, None, DrainOptions { moves_max, gap_ms });
        let (mut running, mut seen) = (Vec::new(), BTreeSet::new());
        for step in 0.. {
            prop_assert!(step < 2_000);
            if cancel_at == Some(step) {
                plan.cancel();
            }
            for m in plan.start(step as u64) {
                prop_assert!(seen.insert(group_of(&m)), "begun twice");
                running.push(group_of(&m));
            }
            prop_assert!(running.len() <= moves_max.max(1));
            let p = plan.progress();
            prop_assert_eq!(p.total, count);
            prop_assert_eq!(p.moved + p.failed + p.running + p.waiting, count);
            if plan.is_over() {
                break;
            }
            let (good, which) = ends[step % ends.len()];
            if !running.is_empty() {
                let g = running.swap_remove(usize::from(which) % running.len());
                plan.ended(g, if good { Ok(()) } else { Err(("x".into(), String::new())) });
            }
        }
        prop_assert!(plan.progress().failures.len() <= FAILED_LISTED_MAX);
    }
}

#[tokio::test(start_paused = true)]
async fn the_drainer_keeps_the_pace_and_survives_its_movers() {
    let groups: Vec<_> = (0..40).map(group).collect();
    let plan = DrainPlan::new(&groups, None, DrainOptions { moves_max: 4, gap_ms: 1 });
    let (_keep, cancel) = watch::channel(false);
    let (drainer, told) = Drainer::new(Duration::from_secs(1), cancel);
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let end = drainer
        .run(plan, move |request| {
            let (now, most) = (now.clone(), most.clone());
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                let n = group_of(&request).index();
                tokio::time::sleep(Duration::from_millis(5 + n)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                match n {
                    7 => Err(("full".into(), "no room".into())),
                    8 => panic!("a bug in the mover"),
                    9 => {
                        now.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
        })
        .await;
    assert_eq!((end.moved, end.failed, end.state), (37, 3, DrainState::Failed));
    let codes: BTreeSet<_> = end.failures.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(codes, ["full", "crashed", "timeout"].into());
    assert!(peak.load(Ordering::SeqCst) <= 5, "the one that hangs is counted above as still there");
    assert_eq!(*told.borrow(), end);
}

#[tokio::test(start_paused = true)]
async fn a_drain_can_be_cancelled() {
    let groups: Vec<_> = (0..10).map(group).collect();
    let plan = DrainPlan::new(&groups, None, DrainOptions { moves_max: 1, gap_ms: 0 });
    let (stop, cancel) = watch::channel(false);
    let (drainer, _told) = Drainer::new(Duration::from_secs(10), cancel);
    let stop = Arc::new(stop);
    let end = drainer
        .run(plan, move |request| {
            let stop = stop.clone();
            async move {
                if group_of(&request).index() == 2 {
                    stop.send_replace(true);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(())
            }
        })
        .await;
    assert_eq!((end.moved, end.failed), (3, 7));
    assert!(end.failures.iter().all(|f| f.code == "cancelled"));
}
