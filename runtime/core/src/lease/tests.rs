//! Regression tests: each begins with the story of its bug.

use std::collections::BTreeSet;

use onemec_wire::Member;

use super::*;
use crate::time::Mono;

const TIMING: LeaseTiming = LeaseTiming::ONE_SITE;
const TERM: Term = Term { term: 5, leader: 1 };

fn leader(voters: &[u64]) -> Grantor {
    let mut grantor = Grantor::new(TIMING);
    let voters: BTreeSet<VoterId> = voters.iter().copied().map(VoterId).collect();
    grantor.lead(Mono::from_ms(0), Some(LeaderView { term: TERM, configurations: vec![voters], ready: true }));
    grantor
}

/// A tick whose round is confirmed at once; what is left is what it decided.
fn tick(grantor: &mut Grantor, ms: u64, live: &[Member], out: &mut Vec<GrantorOutput>) {
    let mut said = Vec::new();
    grantor.tick(Mono::from_ms(ms), live.iter().copied(), &mut said);
    for output in said {
        match output {
            GrantorOutput::ToVoter(voter, LeaseMessage::Round { term, round }) => {
                grantor.confirmed(Mono::from_ms(ms), voter, term, round, out);
            }
            other => out.push(other),
        }
    }
}

/// The same, as often as a node does it, from the election on.
fn ticks(grantor: &mut Grantor, from: u64, until: u64, live: &[Member], out: &mut Vec<GrantorOutput>) {
    (from..until).step_by(10).for_each(|ms| tick(grantor, ms, live, out));
}

fn burials(out: &[GrantorOutput]) -> usize {
    out.iter().filter(|o| matches!(o, GrantorOutput::ProposeDead(_))).count()
}

/// A node that came up long after the election had no grant yet, so that the time since the election counted as its
/// silence, and it was buried before it could ask.
#[test]
fn a_boot_that_has_just_come_up_is_given_time_to_ask() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, new) = (Vec::new(), Member::new(9, 1));
    ticks(&mut grantor, 1, 10_000, &[], &mut out);
    ticks(&mut grantor, 10_000, 10_300, &[new], &mut out);
    assert_eq!(out, [], "it came up a moment ago");
    ticks(&mut grantor, 10_300, 10_400, &[new], &mut out);
    assert_eq!(out, [GrantorOutput::ProposeDead(new)], "it never asked");
}

/// What was up at the election and stays silent dies one lease after the election, not later.
#[test]
fn silence_since_before_the_election_counts_from_the_election() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, old) = (Vec::new(), Member::new(2, 1));
    ticks(&mut grantor, 1, 310, &[old], &mut out);
    tick(&mut grantor, 316, &[old], &mut out);
    assert_eq!(burials(&out), 0, "1.02 L + 10 ms have not passed");
    tick(&mut grantor, 317, &[old], &mut out);
    assert_eq!(burials(&out), 1);
}

/// A burial that the brake on mass deaths refused was proposed again at every tick: hundreds of Raft entries a second.
#[test]
fn a_refused_burial_is_not_proposed_at_every_tick() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, silent) = (Vec::new(), Member::new(2, 1));
    for ms in (0..3_000).step_by(5) {
        let before = burials(&out);
        tick(&mut grantor, ms, &[silent], &mut out);
        if burials(&out) > before {
            grantor.burial_refused(Mono::from_ms(ms), silent);
        }
    }
    assert_eq!(burials(&out), 1);
    let mut granted = Vec::new();
    grantor.request(Mono::from_ms(3_000), silent, 1, true, &mut granted);
    assert!(!granted.is_empty(), "meanwhile it may ask for leases");
}

/// Voters were counted by node: after a voter had lost its store, the node, which had forgotten that its old store voted
/// for a newer leader, confirmed rounds of the old leader in the lost store's name (rule 14).
#[test]
fn a_new_store_does_not_confirm_for_the_lost_one() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, me) = (Vec::new(), Member::new(1, 1));
    grantor.request(Mono::from_ms(1), me, 1, true, &mut out);
    out.clear();
    grantor.confirmed(Mono::from_ms(2), VoterId(1), TERM, 1, &mut out);
    let forgetful = VoteCell::default();
    let Some(LeaseMessage::Confirm { voter, term, round }) = forgetful.confirm(VoterId(22), TERM, 1) else {
        panic!("a cell without votes confirms");
    };
    grantor.confirmed(Mono::from_ms(3), voter, term, round, &mut out);
    assert_eq!(out, [], "1 of 3 voters confirmed");
    grantor.confirmed(Mono::from_ms(4), VoterId(3), TERM, 1, &mut out);
    assert_eq!(out, [GrantorOutput::ToHolder(me, LeaseMessage::Grant { member: me, number: 1 })]);
}

/// The property test of leases found it: a boot's request was in a round when the boot was buried. The burial was applied,
/// so that the grantor forgot that it had proposed it, the round was confirmed, and the dead boot got a lease while its
/// groups were led by others.
#[test]
fn a_buried_boot_gets_nothing_from_a_round_that_began_before() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, late) = (Vec::new(), Member::new(7, 1));
    ticks(&mut grantor, 1, 310, &[late], &mut out);
    grantor.request(Mono::from_ms(316), late, 1, true, &mut out);
    let Some(GrantorOutput::ToVoter(_, LeaseMessage::Round { term, round })) = out.first().cloned() else {
        panic!("a request begins a round: {out:?}");
    };
    out.clear();
    grantor.tick(Mono::from_ms(320), [late].into_iter(), &mut out);
    assert_eq!(out, [GrantorOutput::ProposeDead(late)]);
    out.clear();
    grantor.tick(Mono::from_ms(323), std::iter::empty(), &mut out);
    grantor.confirmed(Mono::from_ms(324), VoterId(1), term, round, &mut out);
    grantor.confirmed(Mono::from_ms(325), VoterId(2), term, round, &mut out);
    assert_eq!(out, [], "it is dead");
}

/// A leader that was cut off heard nobody, took that for everybody's silence, and proposed them dead. Those who still heard
/// it logged that, the next leader carried it out, and healthy nodes began anew: the directory lost its quorum for seconds.
#[test]
fn a_leader_whose_rounds_fail_declares_nobody_dead() {
    let mut grantor = leader(&[1, 2, 3]);
    let (mut out, other) = (Vec::new(), Member::new(2, 1));
    ticks(&mut grantor, 1, 100, &[other], &mut out);
    for ms in 100..5_000 {
        grantor.tick(Mono::from_ms(ms), [other].into_iter(), &mut out);
    }
    assert_eq!(burials(&out), 0, "it cannot know");
    assert!(!grantor.is_confirmed(Mono::from_ms(5_000)));
    // It hears the others again: they have had no chance to ask yet.
    ticks(&mut grantor, 5_000, 5_310, &[other], &mut out);
    assert!(grantor.is_confirmed(Mono::from_ms(5_310)));
    assert_eq!(burials(&out), 0, "its silence counts from now");
    ticks(&mut grantor, 5_310, 5_400, &[other], &mut out);
    assert_eq!(burials(&out), 1);
}
