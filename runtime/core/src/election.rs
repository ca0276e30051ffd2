//! When a voter of the directory may stand for election: leader stickiness and a round before the vote (Raft thesis, 4.2.3
//! and 9.6).
//!
//! A candidate raises the term, and a higher term unseats whoever leads. A voter that hears nobody, or nobody who hears it,
//! would raise it again and again, and take the directory from the others whenever a message of it gets through. So it asks
//! first, which changes nothing anywhere: would you vote for me? A voter says no while it hears a leader, and a leader
//! while its leadership is confirmed. An answer has passed in both directions, so that a candidate reaches a quorum and
//! is reached by it.
//!
//! This decides when elections begin, not who wins them: safety rests on Raft's votes as before.
//!
//! Legal order of calls: `tick` every few milliseconds; the others whenever what they say happens.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::lease::{LeaseTiming, Term, VoterId};
use crate::time::Mono;

/// Where a log ends. Ordered as Raft compares logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogEnd {
    /// Who appended the last entry.
    pub term: Term,
    /// Its index.
    pub index: u64,
}

/// Who elects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Electorate {
    /// This voter.
    pub me: VoterId,
    /// All voters, this one included; several sets during a change of membership, each needs its own quorum.
    pub configurations: Vec<BTreeSet<VoterId>>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElectionOutput {
    /// Ask this voter whether it would vote for this one.
    Ask(VoterId, u64),
    /// Begin Raft's election.
    Stand,
}

#[derive(Debug, Clone)]
struct Round {
    number: u64,
    electorate: Electorate,
    granted: BTreeSet<VoterId>,
}

/// One voter's part in elections.
#[derive(Debug, Clone)]
pub struct Candidacy {
    lease: Duration,
    heard_at: Option<Mono>,
    wait_from: Mono,
    wait: Duration,
    rounds: u64,
    round: Option<Round>,
    random: u64,
}

impl Candidacy {
    /// A voter that has just started. It need not wait for a leader's message: if there is a leader, the others say no.
    pub fn new(now: Mono, timing: LeaseTiming, seed: u64) -> Self {
        let mut new = Self {
            lease: timing.lease,
            heard_at: None,
            wait_from: now,
            wait: Duration::ZERO,
            rounds: 0,
            round: None,
            random: seed,
        };
        new.wait = new.up_to(timing.lease / 3);
        new
    }

    /// A leader's message was accepted.
    pub fn heard(&mut self, now: Mono) {
        self.heard_at = Some(now);
        self.wait_from = now;
        self.wait = self.lease * 3 / 2 + self.up_to(self.lease / 2);
        self.round = None;
    }

    /// Whether a leader was heard lately. Who is thought to lead is no sign of that: a vote that was kept on disk names a
    /// leader for ever, also to a store that is no member any more.
    pub fn hears_a_leader(&self, now: Mono) -> bool {
        self.heard_at.is_some_and(|at| now.since(at) <= self.lease * 2)
    }

    /// This voter has voted for another one, who should lead in a moment.
    pub fn voted(&mut self, now: Mono) {
        self.pause(now);
        self.round = None;
    }

    /// Would this voter vote for one whose log ends at `theirs`? `leads`: it leads itself, and that is confirmed.
    pub fn would_vote(&self, now: Mono, leads: bool, mine: LogEnd, theirs: LogEnd) -> bool {
        !leads && self.heard_at.is_none_or(|at| now.since(at) > self.lease) && theirs >= mine
    }

    /// Asks the others when the time has come. `None`: this node leads, or does not vote.
    pub fn tick(&mut self, now: Mono, electorate: Option<&Electorate>, out: &mut Vec<ElectionOutput>) {
        let Some(electorate) = electorate else {
            self.pause(now);
            self.round = None;
            return;
        };
        if now.since(self.wait_from) < self.wait {
            return;
        }
        self.pause(now);
        self.rounds += 1;
        let (me, number) = (electorate.me, self.rounds);
        self.round = Some(Round { number, electorate: electorate.clone(), granted: BTreeSet::from([me]) });
        let others: BTreeSet<VoterId> =
            electorate.configurations.iter().flatten().copied().filter(|v| *v != me).collect();
        out.extend(others.into_iter().map(|v| ElectionOutput::Ask(v, number)));
        self.stand_if_wanted(out);
    }

    /// A voter has answered.
    pub fn answered(&mut self, voter: VoterId, number: u64, yes: bool, out: &mut Vec<ElectionOutput>) {
        if let Some(round) = self.round.as_mut().filter(|r| r.number == number && yes) {
            round.granted.insert(voter);
            self.stand_if_wanted(out);
        }
    }

    fn stand_if_wanted(&mut self, out: &mut Vec<ElectionOutput>) {
        let wanted = self.round.as_ref().is_some_and(|r| {
            let quorum = |c: &BTreeSet<VoterId>| c.intersection(&r.granted).count() * 2 > c.len();
            !r.electorate.configurations.is_empty() && r.electorate.configurations.iter().all(quorum)
        });
        if wanted {
            self.round = None;
            out.push(ElectionOutput::Stand);
        }
    }

    /// Until the next try, if nothing comes between.
    fn pause(&mut self, now: Mono) {
        self.wait_from = now;
        self.wait = self.lease / 2 + self.up_to(self.lease / 2);
    }

    /// Between nothing and `most`, so that two voters do not stand at the same moment again and again.
    fn up_to(&mut self, most: Duration) -> Duration {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        most.mul_f64(f64::from(((z ^ (z >> 31)) >> 40) as u32) / f64::from(1u32 << 24))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: LogEnd = LogEnd { term: Term { term: 0, leader: 0 }, index: 0 };

    fn electorate(me: u64, voters: &[u64]) -> Electorate {
        Electorate { me: VoterId(me), configurations: vec![voters.iter().copied().map(VoterId).collect()] }
    }

    fn at(ms: u64) -> Mono {
        Mono::from_ms(ms)
    }

    /// Ticks to `until`; the number of the last round and whether the voter stands.
    fn ticked(c: &mut Candidacy, e: &Electorate, from: u64, until: u64) -> (Option<u64>, bool) {
        let mut out = Vec::new();
        (from..until).for_each(|ms| c.tick(at(ms), Some(e), &mut out));
        let round = out.iter().rev().find_map(|o| if let ElectionOutput::Ask(_, n) = o { Some(*n) } else { None });
        (round, out.contains(&ElectionOutput::Stand))
    }

    /// A voter that nobody answered called elections for as long as it was cut off: 28 terms later its first message
    /// unseated the leader, and again, and again.
    #[test]
    fn a_voter_that_reaches_nobody_never_stands() {
        let (mut c, e) = (Candidacy::new(at(0), LeaseTiming::ONE_SITE, 1), electorate(1, &[1, 2, 3]));
        c.heard(at(0));
        let (round, stands) = ticked(&mut c, &e, 1, 60_000);
        assert!(round.is_some_and(|n| n > 100), "it goes on asking: {round:?}");
        assert!(!stands);
        let mut out = Vec::new();
        c.answered(VoterId(2), round.unwrap(), false, &mut out);
        c.answered(VoterId(3), round.unwrap() - 1, true, &mut out);
        assert_eq!(out, [], "a no and a late yes are no quorum");
        c.answered(VoterId(3), round.unwrap(), true, &mut out);
        assert_eq!(out, [ElectionOutput::Stand]);
    }

    #[test]
    fn a_voter_that_hears_a_leader_neither_stands_nor_votes() {
        let (mut c, e) = (Candidacy::new(at(0), LeaseTiming::ONE_SITE, 7), electorate(1, &[1]));
        assert!(!c.hears_a_leader(at(0)), "nobody yet, whatever the disk says");
        for ms in 0..5_000 {
            if ms % 50 == 0 {
                c.heard(at(ms));
            }
            assert_eq!(ticked(&mut c, &e, ms, ms + 1), (None, false));
            assert!(!c.would_vote(at(ms), false, NONE, NONE));
        }
        assert!(c.hears_a_leader(at(5_100)) && !c.hears_a_leader(at(6_000)));
        assert!(c.would_vote(at(5_300), false, NONE, NONE), "silence for longer than a lease");
        assert!(!c.would_vote(at(5_300), true, NONE, NONE), "it leads");
        assert!(!c.would_vote(at(5_300), false, LogEnd { index: 1, ..NONE }, NONE), "a log that lacks something");
        assert!(ticked(&mut c, &e, 5_300, 5_700).1, "it stands, and alone it is a quorum");
    }

    #[test]
    fn during_a_change_of_membership_both_sets_must_want_it() {
        let mut c = Candidacy::new(at(0), LeaseTiming::ONE_SITE, 3);
        let mut e = electorate(1, &[1, 2, 3]);
        e.configurations.push([1, 4, 5].map(VoterId).into());
        let (round, _) = ticked(&mut c, &e, 0, 110);
        let mut out = Vec::new();
        c.answered(VoterId(2), round.unwrap(), true, &mut out);
        assert_eq!(out, []);
        c.answered(VoterId(4), round.unwrap(), true, &mut out);
        assert_eq!(out, [ElectionOutput::Stand]);
    }
}
