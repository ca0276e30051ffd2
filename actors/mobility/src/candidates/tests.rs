use std::collections::BTreeSet;

use onemec_wire::NodeId;
use proptest::prelude::*;

use super::*;
use crate::residency::Residency;

fn node(id: u64) -> TargetFacts {
    TargetFacts {
        node: NodeId(id),
        name: format!("edge{id}"),
        up: true,
        draining: false,
        roles: ["mn-cse".to_owned()].into(),
        apis: BTreeSet::new(),
        capabilities: [("cpu_cores".to_owned(), 4.0)].into(),
        load: 0.3,
        location: Some(Location { lat: 52.5, lon: 13.4 }),
        trust: ["operator".to_owned()].into(),
        domain: "local".into(),
        region: String::new(),
        age_ms: 10,
        valid_ms: 1_000,
        has_replica: false,
        aes: 10,
        aes_max: 100,
    }
}

fn all() -> Wanted {
    Wanted { count: CANDIDATES_MAX, ..Wanted::default() }
}

fn code_of(t: TargetFacts, w: &Wanted) -> Option<&'static str> {
    let ranking = rank(&[t], w, &Policy::default());
    assert_eq!(ranking.candidates.len() + ranking.excluded.len(), 1);
    ranking.excluded.first().map(|e| {
        assert!(!e.text.is_empty());
        assert_eq!(serde_json::to_value(e.code).unwrap(), e.code.as_str());
        e.code.as_str()
    })
}

#[test]
fn each_exclusion_has_its_code() {
    let w = all();
    assert_eq!(code_of(node(1), &w), None);
    assert_eq!(code_of(node(1), &Wanted { primary: Some(NodeId(1)), ..all() }), Some("is-current"));
    assert_eq!(code_of(node(1), &Wanted { not: [NodeId(1)].into(), ..all() }), Some("not-wanted"));
    assert_eq!(code_of(TargetFacts { up: false, ..node(1) }, &w), Some("not-up"));
    assert_eq!(code_of(TargetFacts { draining: true, ..node(1) }, &w), Some("draining"));
    assert_eq!(code_of(TargetFacts { age_ms: 1_000, ..node(1) }, &w), Some("stale-data"));
    assert_eq!(code_of(TargetFacts { load: f64::NAN, ..node(1) }, &w), Some("bad-data"));
    assert_eq!(code_of(node(1), &Wanted { roles: ["in-cse".to_owned()].into(), ..all() }), Some("no-role"));
    assert_eq!(code_of(node(1), &Wanted { apis: ["ams".to_owned()].into(), ..all() }), Some("no-api"));
    let gpus = Wanted { capabilities_min: [("gpus".to_owned(), 1.0)].into(), ..all() };
    assert_eq!(code_of(node(1), &gpus), Some("no-capability"));
    assert_eq!(code_of(node(1), &Wanted { domains: ["other".to_owned()].into(), ..all() }), Some("domain"));
    let label = Residency::parse("hosts:edge7").unwrap();
    assert_eq!(code_of(node(1), &Wanted { residency: vec![label], ..all() }), Some("residency"));
    assert_eq!(code_of(node(1), &Wanted { trust: ["iso".to_owned()].into(), ..all() }), Some("trust"));
    assert_eq!(code_of(node(1), &Wanted { aes: 91, ..all() }), Some("full"));
    assert_eq!(code_of(node(1), &Wanted { aes: 91, home: Some(NodeId(1)), ..all() }), None);
    assert_eq!(code_of(node(1), &Wanted { free_load_min: 0.71, ..all() }), Some("overloaded"));
    assert_eq!(code_of(node(1), &Wanted { free_load_min: 0.7, ..all() }), None);
}

#[test]
fn better_nodes_come_first_and_ties_go_by_id() {
    let device_at = Some(Location { lat: 52.5, lon: 13.4 });
    let far = TargetFacts { location: Some(Location { lat: 48.1, lon: 11.6 }), ..node(1) };
    let near = node(2);
    let twin = node(3);
    let replica = TargetFacts { has_replica: true, ..node(4) };
    let ranking = rank(&[twin, far, replica, near], &Wanted { device_at, ..all() }, &Policy::default());
    assert_eq!(ranking.order(), [NodeId(4), NodeId(2), NodeId(3), NodeId(1)]);
    let best = ranking.best().unwrap();
    assert!((best.terms.iter().map(|t| t.1).sum::<f64>() - best.score).abs() < 1e-6);
    let km = ranking.candidates[3].distance_km.unwrap();
    assert!((500.0..510.0).contains(&km), "Berlin to Munich is about 504 km, not {km}");
}

#[test]
fn only_so_many_are_listed() {
    let facts: Vec<_> = (1..=10).map(node).collect();
    let ranking = rank(&facts, &Wanted { count: 4, ..all() }, &Policy::default());
    assert_eq!((ranking.candidates.len(), ranking.left_off), (4, 6));
}

fn facts() -> impl Strategy<Value = TargetFacts> {
    let load = prop_oneof![0.0..=1.0, Just(f64::NAN), Just(f64::INFINITY), -3.0..3.0];
    let place = proptest::option::of((-100.0..100.0, -200.0..200.0).prop_map(|(lat, lon)| Location { lat, lon }));
    (1u64..12, any::<[bool; 5]>(), load, place, 0u64..2_000, 0u64..120).prop_map(
        |(id, b, load, location, age_ms, aes)| {
            let mut t = TargetFacts { load, location, age_ms, aes, ..node(id) };
            (t.up, t.draining, t.has_replica) = (b[0] || b[1], b[2] && b[3], b[3]);
            if b[4] {
                t.roles.clear();
            }
            t
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    (any::<[bool; 3]>(), 0.0..1.0, 1u64..12, 0usize..8).prop_map(|(b, free_load_min, current, count)| Wanted {
        primary: b[0].then_some(NodeId(current)),
        device_at: b[1].then_some(Location { lat: 52.0, lon: 13.0 }),
        roles: if b[2] { ["mn-cse".to_owned()].into() } else { BTreeSet::new() },
        free_load_min,
        count,
        ..Wanted::default()
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let weight = || prop_oneof![0.0..10.0, Just(f64::NAN), Just(-1.0), Just(f64::INFINITY)];
    (weight(), weight(), weight(), weight(), prop_oneof![0.0..50.0, Just(f64::NAN)]).prop_map(
        |(l, d, r, f, half_km)| Policy {
            weights: Weights { load: l, distance: d, replica: r, freshness: f },
            half_km,
            ..Policy::default()
        },
    )
}

proptest! {
    #[test]
    fn order_of_the_facts_does_not_matter(
        (facts, shuffled) in proptest::collection::vec(facts(), 0..16)
            .prop_flat_map(|f| (Just(f.clone()), Just(f).prop_shuffle())),
        wanted in wanted(),
        policy in policy(),
    ) {
        let ranking = rank(&facts, &wanted, &policy);
        // NaN is in no result, so that equality means what it says.
        prop_assert_eq!(&ranking, &rank(&shuffled, &wanted, &policy));
        prop_assert_eq!(&ranking, &rank(&facts, &wanted, &policy));
    }

    #[test]
    fn every_node_is_ranked_or_excluded_never_both(
        facts in proptest::collection::vec(facts(), 0..16), wanted in wanted(), policy in policy(),
    ) {
        let ranking = rank(&facts, &wanted, &policy);
        let listed: BTreeSet<_> = ranking.candidates.iter().map(|c| c.node).collect();
        let out: BTreeSet<_> = ranking.excluded.iter().map(|e| e.node).collect();
        prop_assert!(listed.is_disjoint(&out));
        prop_assert_eq!(listed.len(), ranking.candidates.len());
        let nodes: BTreeSet<_> = facts.iter().map(|t| t.node).collect();
        prop_assert_eq!(listed.len() + out.len() + ranking.left_off, nodes.len());
        prop_assert!(ranking.candidates.is_sorted_by(|a, b| (b.score, a.node) <= (a.score, b.node)));
        for c in &ranking.candidates {
            prop_assert!((0.0..=1.0).contains(&c.score));
            prop_assert!(wanted.primary != Some(c.node));
            let newest = facts.iter().filter(|t| t.node == c.node).min_by_key(|t| t.age_ms).unwrap();
            prop_assert!(newest.age_ms < newest.valid_ms);
        }
    }

    #[test]
    fn more_load_is_never_better(
        mut facts in proptest::collection::vec(facts(), 1..12), wanted in wanted(), policy in policy(),
        which in 0usize..12, more in 0.0..1.0,
    ) {
        facts.sort_by_key(|t| t.node);
        facts.dedup_by_key(|t| t.node);
        let wanted = Wanted { count: CANDIDATES_MAX, ..wanted };
        let which = which % facts.len();
        let id = facts[which].node;
        let place = |r: &Ranking| r.candidates.iter().position(|c| c.node == id);
        let before = rank(&facts, &wanted, &policy);
        facts[which].load += more;
        let after = rank(&facts, &wanted, &policy);
        match (place(&before), place(&after)) {
            (Some(b), Some(a)) => {
                prop_assert!(a >= b);
                prop_assert!(after.candidates[a].score <= before.candidates[b].score);
            }
            (None, Some(_)) => prop_assert!(false, "more load brought it in"),
            _ => {}
        }
    }
}
