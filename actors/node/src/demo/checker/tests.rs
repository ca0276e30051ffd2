use super::*;
use crate::admin::types::{AuditEvent, Placement};
use onemec_device::Outcome;

fn event(number: u64, invoked_us: u64, ended_us: u64, outcome: Outcome) -> Event {
    let (request, digest) = (format!("r{number}"), 1000 + number);
    Event { number, request, digest, invoked_us, ended_us, attempts: 1, outcome, status: 201 }
}

/// Readings as they were written.
fn read(numbers: impl IntoIterator<Item = u64>) -> Vec<ReadBack> {
    numbers.into_iter().map(|number| ReadBack { number, digest: 1000 + number }).collect()
}

fn line(n: u64, node: &str, event: AuditEvent) -> AuditLine {
    AuditLine { n, node: node.into(), incarnation: 1, event }
}

fn ack(group: &str, context: &str, epoch: u64, seq: u64, received_ns: u64) -> AuditEvent {
    let (context, group) = (context.into(), group.into());
    AuditEvent::Acknowledged { context, group, epoch, seq, last_seq: None, received_ns, at_ns: received_ns + 10 }
}

fn serving(group: &str, contexts: &[&str], epoch: u64, at_ns: u64) -> AuditEvent {
    let contexts = contexts.iter().map(|c| (*c).to_owned()).collect();
    AuditEvent::Serving { group: group.into(), contexts, epoch, at_ns }
}

fn registrar(ae: &str, epoch: u64) -> AuditEvent {
    AuditEvent::Registrar { ae: ae.into(), context: "c1".into(), epoch, at_ns: 0 }
}

/// Two AEs in one group that moved once from `a` to `b`; one device with an unknown and a refused write.
fn good() -> Evidence {
    let events = vec![
        event(1, 0, 10, Outcome::Acknowledged),
        event(2, 11, 20, Outcome::Unknown),
        event(3, 21, 30, Outcome::Acknowledged),
        event(4, 31, 40, Outcome::Refused),
        event(5, 41, 50, Outcome::Acknowledged),
    ];
    let history = History { device: "d".into(), events, read_back: read([1, 3, 2, 5]) };
    let view = |applied, primary: &str, epoch| Directory {
        node: "a".into(),
        applied,
        groups: vec![Placement {
            group: "g".into(),
            contexts: vec!["c1".into(), "c2".into()],
            aes: vec!["C1".into(), "C2".into()],
            epoch,
            primary: Some(primary.into()),
            ..Placement::default()
        }],
    };
    Evidence {
        histories: vec![history],
        logs: vec![
            line(1, "a", serving("g", &["c1", "c2"], 1, 5)),
            line(2, "a", registrar("C1", 1)),
            line(3, "a", ack("g", "c1", 1, 1, 100)),
            line(4, "a", ack("g", "c2", 1, 2, 200)),
            line(1, "b", serving("g", &["c1", "c2"], 2, 300)),
            line(2, "b", registrar("C1", 2)),
            line(3, "b", ack("g", "c1", 2, 3, 290)),
        ],
        nodes: vec!["a".into(), "b".into()],
        views: vec![view(1, "a", 1), view(2, "b", 2)],
        registrars: BTreeMap::from([("b".into(), vec!["C1".into(), "C2".into()])]),
        bundles: vec![vec!["C1".into(), "C2".into()]],
        ..Evidence::default()
    }
}

fn only(evidence: &Evidence, invariant: Invariant) -> Verdict {
    let verdict = check(evidence);
    let found: Vec<_> = verdict.violations.keys().copied().collect();
    assert_eq!(found, [invariant], "{:?}", verdict.violations);
    verdict
}

#[test]
fn a_good_run_is_clean() {
    let verdict = check(&good());
    assert!(verdict.is_clean(), "{:?}", verdict.violations);
    assert_eq!((verdict.acknowledged, verdict.unknown, verdict.refused, verdict.log_lines), (3, 1, 1, 7));
    assert_eq!((verdict.bundles, verdict.bundle_moves), (1, 1));
}

#[test]
fn i1_planted_two_primaries_in_one_epoch() {
    let mut e = good();
    e.logs.push(line(4, "a", ack("g", "c1", 2, 4, 400)));
    only(&e, Invariant::I1OnePrimary);
    let mut e = good();
    e.logs.push(line(4, "a", serving("g", &["c1", "c2"], 2, 400)));
    only(&e, Invariant::I1OnePrimary);
}

#[test]
fn i1_planted_stale_primary_answers_after_its_successor() {
    let mut e = good();
    // Epoch 2's first answer is at 300; a received this at 301 and answered it in epoch 1.
    e.logs[3] = line(4, "a", ack("g", "c2", 1, 2, 301));
    only(&e, Invariant::I1OnePrimary);
    e.logs[3] = line(4, "a", ack("g", "c2", 1, 2, 299));
    assert!(check(&e).is_clean(), "received before: allowed");
}

#[test]
fn i2_planted_lost_write() {
    let mut e = good();
    e.histories[0].read_back.retain(|r| r.number != 3);
    assert_eq!(only(&e, Invariant::I2NoLoss).lost, 1);
    let mut e = good();
    e.histories[0].read_back.retain(|r| r.number != 2);
    assert!(check(&e).is_clean(), "an unknown one may be missing");
}

#[test]
fn i2_planted_wrong_value() {
    let mut e = good();
    e.histories[0].read_back[1].digest += 1;
    assert_eq!(only(&e, Invariant::I2NoLoss).altered, 1);
}

/// Another device's reading in this container, under a number that this device gave as well.
#[test]
fn planted_foreign_instance() {
    let mut e = good();
    e.histories[0].read_back[0].digest = 77;
    assert_eq!(only(&e, Invariant::I2NoLoss).altered, 1);
    let mut e = good();
    e.histories[0].read_back.push(ReadBack { number: 5, digest: 77 });
    let found = check(&e);
    assert_eq!((found.altered, found.doubled), (1, 1), "{:?}", found.violations);
}

#[test]
fn i3_planted_doubled_and_phantom_writes() {
    let mut e = good();
    e.histories[0].read_back = read([1, 1, 3, 5]);
    assert_eq!(only(&e, Invariant::I3Once).doubled, 1);
    let mut e = good();
    e.histories[0].read_back.extend(read([4]));
    assert_eq!(only(&e, Invariant::I3Once).phantom, 1);
    let mut e = good();
    e.histories[0].read_back.extend(read([99]));
    assert_eq!(only(&e, Invariant::I3Once).phantom, 1);
}

#[test]
fn i4_planted_reordered_writes() {
    let mut e = good();
    e.histories[0].read_back = read([3, 1, 5]);
    assert_eq!(only(&e, Invariant::I4Order).out_of_order, 1);
    let mut e = good();
    e.histories[0].read_back = read([2, 1, 3, 5]);
    assert_eq!(only(&e, Invariant::I4Order).out_of_order, 1);
}

#[test]
fn i4_planted_place_acknowledged_twice() {
    let mut e = good();
    e.logs.push(line(4, "b", ack("g", "c2", 2, 2, 500)));
    only(&e, Invariant::I4Order);
}

#[test]
fn i5_planted_two_registrars() {
    let mut e = good();
    e.registrars.insert("a".into(), vec!["C2".into()]);
    only(&e, Invariant::I5OneRegistrar);
    let mut e = good();
    e.logs.push(line(4, "a", registrar("C1", 2)));
    only(&e, Invariant::I5OneRegistrar);
}

#[test]
fn i6_planted_split_group() {
    let mut e = good();
    e.logs[4] = line(1, "b", serving("g", &["c1"], 2, 300));
    only(&e, Invariant::I6AllOrNone);
    let mut e = good();
    let mut other = e.views[1].groups[0].clone();
    (other.group, other.primary) = ("h".into(), Some("a".into()));
    other.contexts = vec!["c2".into()];
    other.aes = vec!["C2".into()];
    e.views[1].groups[0].contexts = vec!["c1".into()];
    e.views[1].groups[0].aes = vec!["C1".into()];
    e.views[1].groups.push(other);
    only(&e, Invariant::I6AllOrNone);
    let mut e = good();
    e.logs.push(line(4, "b", ack("h", "c2", 2, 1, 500)));
    only(&e, Invariant::I6AllOrNone);
}

/// A regroup explains that a context is in another group from one epoch on, and nothing else.
#[test]
fn i6_planted_regroup_that_is_none() {
    let with = |lines: &[AuditEvent]| {
        let mut e = good();
        e.logs.extend(lines.iter().enumerate().map(|(i, l)| line(100 + i as u64, "a", l.clone())));
        e
    };
    let before = [serving("gx", &["cx", "cy"], 1, 1_000_000), ack("gx", "cx", 1, 1, 1_000_100)];
    let after =
        [serving("gy", &["cx"], 3, 2_000_000), ack("gy", "cx", 3, 9, 2_000_100), serving("gx", &["cy"], 2, 2_500_000)];
    let good = with(&[before.as_slice(), &after].concat());
    assert!(check(&good).is_clean(), "{:#?}", check(&good).violations);
    // It did not follow, and is nowhere.
    only(&with(&[before.as_slice(), &after[2..]].concat()), Invariant::I6AllOrNone);
    // The old group went on answering for it.
    only(&with(&[before.as_slice(), &after, &[ack("gx", "cx", 2, 2, 9_000_000)]].concat()), Invariant::I6AllOrNone);
    // Two groups answer for it in one epoch.
    only(&with(&[before.as_slice(), &[ack("gz", "cx", 1, 5, 1_000_300)]].concat()), Invariant::I6AllOrNone);
    // A later group answers for it and never had it.
    only(&with(&[before.as_slice(), &[ack("gz", "cx", 5, 5, 9_000_000)]].concat()), Invariant::I6AllOrNone);
}

#[test]
fn missing_evidence_is_not_a_pass() {
    let mut e = good();
    e.nodes.push("c".into());
    only(&e, Invariant::Evidence);
    let mut e = good();
    (e.torn_lines, e.torn_lines_allowed) = (2, 1);
    only(&e, Invariant::Evidence);
    let mut e = good();
    e.views.clear();
    only(&e, Invariant::Evidence);
}

#[test]
fn examples_are_bounded() {
    let mut e = good();
    e.histories[0].read_back.extend(read(100..200));
    let v = check(&e);
    assert_eq!(v.violations[&Invariant::I3Once].count, 100);
    assert_eq!(v.violations[&Invariant::I3Once].examples.len(), EXAMPLES_MAX);
}
