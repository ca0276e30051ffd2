//! The leader's side of leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use onemec_wire::Member;

use super::{LeaseMessage, LeaseTiming, Term, VoterId};
use crate::group::{Flaw, planted};
use crate::time::Mono;

/// How many requests may wait for a round; more than one per node makes no sense.
const WAITING_MAX: usize = 4_096;
/// A burial that was refused is not proposed again for so many lengths of a lease.
const BURIAL_PAUSE_LEASES: u32 = 10;
/// A round that is not confirmed within this share of a lease is given up and begun anew.
const ROUND_PATIENCE_DIVISOR: u32 = 6;
/// Without a confirmed round for this share of a lease the leader is blind: it cannot tell who is silent.
const BLIND_DIVISOR: u32 = 2;

/// What the leader of the directory knows about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderView {
    /// Its term.
    pub term: Term,
    /// All voters, itself included. During a change of membership: every configuration, each needs its own quorum.
    pub configurations: Vec<BTreeSet<VoterId>>,
    /// It has applied the first entry of its term: everything committed before is known to it (rule 1).
    pub ready: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantorOutput {
    /// Send to this voter.
    ToVoter(VoterId, LeaseMessage),
    /// Send to this boot.
    ToHolder(Member, LeaseMessage),
    /// Propose `NodeDead` for this boot.
    ProposeDead(Member),
}

#[derive(Debug, Clone)]
struct Round {
    number: u64,
    began: Mono,
    confirmed: BTreeSet<VoterId>,
    /// Requests that arrived before the round began.
    requests: Vec<(Member, u64)>,
}

/// Grants leases and finds the dead.
///
/// Legal order: `lead` when leadership or membership changes (with `None` when it is lost), then anything.
#[derive(Debug, Clone)]
pub struct Grantor {
    timing: LeaseTiming,
    view: Option<LeaderView>,
    elected_at: Mono,
    rounds: u64,
    round: Option<Round>,
    waiting: Vec<(Member, u64)>,
    /// Last grant of each boot.
    granted_at: BTreeMap<Member, Mono>,
    /// From when on the silence of each boot counts, if it had no grant since.
    silent_from: BTreeMap<Member, Mono>,
    /// The boots that were up at the beginning of this term were looked at.
    looked: bool,
    /// Begin of the last confirmed round; the election is one.
    confirmed_at: Mono,
    /// Since when rounds have been confirmed without a pause. Nobody's silence counts from before.
    sees_from: Mono,
    proposed_dead: BTreeMap<Member, Mono>,
}

impl Grantor {
    /// A grantor that does not lead.
    pub fn new(timing: LeaseTiming) -> Self {
        Self {
            timing,
            view: None,
            elected_at: Mono(0),
            rounds: 0,
            round: None,
            waiting: Vec::new(),
            granted_at: BTreeMap::new(),
            silent_from: BTreeMap::new(),
            looked: false,
            confirmed_at: Mono(0),
            sees_from: Mono(0),
            proposed_dead: BTreeMap::new(),
        }
    }

    /// Leadership was won, lost, or its membership changed.
    pub fn lead(&mut self, now: Mono, view: Option<LeaderView>) {
        let same_term = match (&self.view, &view) {
            (Some(a), Some(b)) => a.term == b.term,
            _ => false,
        };
        if !same_term {
            self.elected_at = now;
            self.confirmed_at = now;
            self.sees_from = now;
            self.granted_at.clear();
            self.silent_from.clear();
            self.looked = false;
            self.proposed_dead.clear();
            self.waiting.clear();
        }
        self.round = None;
        self.view = view;
    }

    /// Does this node lead, as far as it knows?
    pub fn leads(&self) -> bool {
        self.view.is_some()
    }

    /// A quorum of voters has confirmed this leadership within the length of a lease. A leader of whom that is not true may
    /// be heard by others and hear nobody: it should leave the word to one who does.
    pub fn is_confirmed(&self, now: Mono) -> bool {
        self.view.is_some() && now.since(self.confirmed_at) <= self.timing.lease
    }

    /// A request arrived; the answer follows a round that begins after this moment. `live` is the directory's word on
    /// whether that boot is up.
    pub fn request(&mut self, now: Mono, member: Member, number: u64, live: bool, out: &mut Vec<GrantorOutput>) {
        let ready = self.view.as_ref().is_some_and(|v| v.ready);
        // Rule 1: never to a node that was proposed dead.
        if !ready || !live || self.proposed_dead.contains_key(&member) {
            return;
        }
        self.waiting.retain(|(m, _)| *m != member);
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push((member, number));
        }
        self.begin_round(now, out);
    }

    /// A voter confirmed a round.
    pub fn confirmed(&mut self, now: Mono, voter: VoterId, term: Term, number: u64, out: &mut Vec<GrantorOutput>) {
        let Some(view) = &self.view else { return };
        let Some(round) = &mut self.round else { return };
        if view.term != term || round.number != number {
            return;
        }
        round.confirmed.insert(voter);
        let quorum = |voters: &BTreeSet<VoterId>| {
            voters.iter().filter(|v| round.confirmed.contains(v)).count() * 2 > voters.len()
        };
        if !view.configurations.iter().all(quorum) && !planted(Flaw::GrantWithoutRound) {
            return;
        }
        let requests = std::mem::take(&mut round.requests);
        if round.began.since(self.confirmed_at) > self.timing.lease / BLIND_DIVISOR {
            self.sees_from = now;
        }
        self.confirmed_at = round.began;
        self.round = None;
        for (member, number) in requests {
            if !self.proposed_dead.contains_key(&member) {
                self.granted_at.insert(member, now);
                out.push(GrantorOutput::ToHolder(member, LeaseMessage::Grant { member, number }));
            }
        }
        self.begin_round(now, out);
    }

    /// The directory refused to bury `member` (the brake on mass deaths): it may have leases again. Only for a proposal whose
    /// outcome is known; an unknown one may still be applied. It is not proposed again before [`BURIAL_PAUSE_LEASES`]
    /// have passed: each proposal is an entry in Raft's log.
    pub fn burial_refused(&mut self, now: Mono, member: Member) {
        self.proposed_dead.remove(&member);
        self.silent_from.insert(member, now + self.timing.lease * BURIAL_PAUSE_LEASES);
    }

    /// Finds the dead among `live` and renews a round that nobody answered. Call it every few milliseconds, and at once when
    /// an applied entry changed who is alive.
    pub fn tick(&mut self, now: Mono, live: impl Iterator<Item = Member>, out: &mut Vec<GrantorOutput>) {
        let Some(view) = &self.view else { return };
        let ready = view.ready;
        let patience = self.timing.lease / ROUND_PATIENCE_DIVISOR;
        if let Some(round) = &self.round
            && now.since(round.began) > patience
        {
            let mut late = self.round.take().map(|r| r.requests).unwrap_or_default();
            late.retain(|(m, _)| !self.waiting.iter().any(|(w, _)| w == m));
            self.waiting.extend(late);
        }
        // Nobody may have asked: whether the others are silent or this leader is deaf, only a round can tell.
        if self.round.is_none()
            && (!self.waiting.is_empty() || now.since(self.confirmed_at) >= self.timing.renew_every())
        {
            self.ask_voters(now, out);
        }
        if !ready {
            return;
        }

        // A boot that was up when this term began may hold a lease of the former leader's: its silence counts from the
        // election. One that came up later has had no time to ask: its silence counts from now.
        let silent_from = if self.looked { now } else { self.elected_at };
        self.looked = true;
        // A leader whose own rounds fail hears nobody. What it proposed now would be logged at those who still hear it, and
        // the next leader would bury healthy nodes with it.
        let blind =
            now.since(self.confirmed_at) > self.timing.lease / BLIND_DIVISOR && !planted(Flaw::DeadWithoutWaiting);
        let mut alive = BTreeSet::new();
        for member in live {
            alive.insert(member);
            let from = *self.silent_from.entry(member).or_insert(silent_from);
            let last = self.granted_at.get(&member).copied().unwrap_or(from).max(from).max(self.sees_from);
            let patience = if planted(Flaw::DeadWithoutWaiting) {
                self.timing.renew_every() + Duration::from_millis(10)
            } else {
                self.timing.dead_after()
            };
            if blind || now.since(last) <= patience {
                continue;
            }
            // Proposed again now and then: the first proposal may have been lost.
            let again = self.proposed_dead.get(&member).is_none_or(|at| now.since(*at) > self.timing.lease);
            if again {
                self.proposed_dead.insert(member, now);
                out.push(GrantorOutput::ProposeDead(member));
            }
        }
        // A boot that has been buried gets nothing from a round that began before: it is not among the proposed any more.
        self.waiting.retain(|(m, _)| alive.contains(m));
        if let Some(round) = &mut self.round {
            round.requests.retain(|(m, _)| alive.contains(m));
        }
        self.granted_at.retain(|m, _| alive.contains(m));
        self.silent_from.retain(|m, _| alive.contains(m));
        self.proposed_dead.retain(|m, _| alive.contains(m));
    }

    fn begin_round(&mut self, now: Mono, out: &mut Vec<GrantorOutput>) {
        if self.round.is_none() && !self.waiting.is_empty() {
            self.ask_voters(now, out);
        }
    }

    fn ask_voters(&mut self, now: Mono, out: &mut Vec<GrantorOutput>) {
        let Some(view) = &self.view else { return };
        self.rounds += 1;
        let (term, number) = (view.term, self.rounds);
        let voters: BTreeSet<VoterId> = view.configurations.iter().flatten().copied().collect();
        self.round =
            Some(Round { number, began: now, confirmed: BTreeSet::new(), requests: std::mem::take(&mut self.waiting) });
        // This node's own vote cell is asked like any other's: it may have voted for somebody else meanwhile.
        for voter in voters {
            out.push(GrantorOutput::ToVoter(voter, LeaseMessage::Round { term, round: number }));
        }
    }
}
