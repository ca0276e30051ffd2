use proptest::prelude::*;

use super::*;
use crate::strategy::Subject;

fn node(n: u64, load: f64) -> NodeLoad {
    NodeLoad { node: NodeId(n), load, age_ms: 10, valid_ms: 1_000, receives: true }
}

fn group(n: u64, primary: u64, load: f64) -> GroupLoad {
    GroupLoad { group: GroupId::made(1, n, 0), primary: NodeId(primary), load }
}

fn options() -> BalanceOptions {
    BalanceOptions { trigger_ms: 100, round_ms: 1_000, rest_ms: 5_000, ..BalanceOptions::default() }
}

fn ids(plan: &[MoveRequest]) -> Vec<(u64, u64)> {
    plan.iter()
        .map(|m| match (m.subject, m.target) {
            (Subject::Group(g), Some(t)) => (g.index(), t.0),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_hot_node_gives_after_a_while_until_it_is_calm() {
    let mut b = Balancer::new(options());
    let groups: Vec<_> = (1..=9).map(|n| group(n, 1, 0.1)).collect();
    let nodes = [node(1, 0.9), node(2, 0.2), node(3, 0.1)];
    assert_eq!(b.plan(0, &nodes, &groups, |_, _| true), []);
    // 0.9 → 0.6, to the coolest each time.
    assert_eq!(ids(&b.plan(100, &nodes, &groups, |_, _| true)), [(1, 3), (2, 2), (3, 3)]);
}

#[test]
fn the_target_ends_below_the_source() {
    let mut b = Balancer::new(options());
    // With the large group the target would be calm (0.6), but carry more than what is left (0.41).
    let groups = [group(1, 1, 0.4), group(2, 1, 0.1)];
    let nodes = [node(1, 0.81), node(2, 0.2)];
    b.plan(0, &nodes, &groups, |_, _| true);
    assert_eq!(ids(&b.plan(100, &nodes, &groups, |_, _| true)), [(2, 2)]);
}

#[test]
fn thresholds_have_hysteresis() {
    let mut b = Balancer::new(options());
    let groups = [group(1, 1, 0.1)];
    let at =
        |b: &mut Balancer, now, load| !b.plan(now, &[node(1, load), node(2, 0.1)], &groups, |_, _| true).is_empty();
    assert!(!at(&mut b, 0, 0.79), "not hot");
    assert!(!at(&mut b, 1_000, 0.79));
    assert!(!at(&mut b, 2_000, 0.81), "hot, since now");
    assert!(!at(&mut b, 2_050, 0.6), "calm again: forgotten");
    assert!(!at(&mut b, 2_200, 0.81));
    assert!(at(&mut b, 2_300, 0.7), "between the thresholds: still giving");
}

#[test]
fn rests_rounds_and_stale_reports() {
    let mut b = Balancer::new(options());
    let groups: Vec<_> = (1..=9).map(|n| group(n, 1, 0.02)).collect();
    let nodes = [node(1, 0.9), node(2, 0.1)];
    b.plan(0, &nodes, &groups, |_, _| true);
    let first = b.plan(100, &nodes, &groups, |_, _| true);
    assert_eq!(first.len(), 8, "moves_max");
    for m in &first {
        if let Subject::Group(g) = m.subject {
            b.moved(150, g);
        }
    }
    assert_eq!(b.plan(900, &nodes, &groups, |_, _| true), [], "too early");
    assert_eq!(ids(&b.plan(1_200, &nodes, &groups, |_, _| true)), [(9, 2)], "the others rest");
    let old = nodes.map(|n| NodeLoad { age_ms: 1_000, ..n });
    assert_eq!(b.plan(20_000, &old, &groups, |_, _| true), [], "reports are no longer valid");
    let mut b = Balancer::new(options());
    b.plan(0, &nodes, &groups, |_, _| true);
    assert_eq!(b.plan(100, &nodes, &groups, |_, _| false), [], "nothing may go");
}

/// Loads stay as they are: then balancing must come to rest, and no group may be sent to and fro.
fn settle(groups: &mut [GroupLoad], nodes: u64) -> Result<(), TestCaseError> {
    let mut b = Balancer::new(BalanceOptions { rest_ms: 0, ..options() });
    let mut quiet = 0;
    for round in 0u64.. {
        prop_assert!(round < 500, "it swings");
        let now = round * 1_000;
        let load = |n| groups.iter().filter(|g| g.primary.0 == n).map(|g| g.load).sum::<f64>();
        let reports: Vec<_> = (1..=nodes).map(|n| node(n, load(n))).collect();
        let spread = |r: &[NodeLoad]| r.iter().map(|n| n.load * n.load).sum::<f64>();
        let plan = b.plan(now, &reports, groups, |_, _| true);
        prop_assert!(plan.len() <= b.options.moves_max);
        quiet = if plan.is_empty() { quiet + 1 } else { 0 };
        if quiet > 3 {
            break;
        }
        for m in &plan {
            let g = groups.iter_mut().find(|g| Subject::Group(g.group) == m.subject).unwrap();
            prop_assert!(m.target != Some(g.primary));
            g.primary = m.target.unwrap();
        }
        let load = |n| groups.iter().filter(|g| g.primary.0 == n).map(|g| g.load).sum::<f64>();
        let after: Vec<_> = (1..=nodes).map(|n| node(n, load(n))).collect();
        if !plan.is_empty() {
            prop_assert!(spread(&after) < spread(&reports), "each round must narrow the spread");
        }
        for (n, was) in after.iter().zip(&reports) {
            prop_assert!(n.load <= was.load.max(b.options.calm), "a target became hot");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_comes_to_rest(
        loads in proptest::collection::vec((1u64..=4, 0.0..0.3), 0..40),
    ) {
        // More than a node can carry is not reported: leave such groups away.
        let mut sums = [0.0; 5];
        let mut groups = Vec::new();
        for (n, (primary, load)) in (0u64..).zip(loads) {
            if sums[primary as usize] + load <= 1.0 {
                sums[primary as usize] += load;
                groups.push(group(n, primary, load));
            }
        }
        settle(&mut groups, 4)?;
    }
}
