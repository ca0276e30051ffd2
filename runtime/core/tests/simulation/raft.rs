//! A small Raft: the same safety as openraft's, none of its speed. Term, vote and log are on the disk at once.

use onemec_core::directory::Entry;

use super::rng::Rng;
use super::world::MS;

/// Votes are ordered by (term, candidate), as openraft's are by default: a term here is both in one number, so that no
/// two candidates ever stand in the same one.
pub(crate) const BALLOTS: u64 = 16;

#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    pub(crate) term: u64,
    pub(crate) entry: Option<Entry>,
}

#[derive(Debug, Clone)]
pub(crate) enum RaftMessage {
    Canvass { term: u64, last_term: u64, last: usize },
    Voted { term: u64, yes: bool },
    Append { term: u64, prev: usize, prev_term: u64, entries: Vec<LogEntry>, commit: usize },
    Appended { term: u64, good: bool, matched: usize },
}

#[derive(Debug, Clone)]
pub(crate) enum Role {
    Follower,
    Candidate { votes: Vec<usize> },
    Leader { next: Vec<usize>, matched: Vec<usize>, first: usize, beat_at: u64 },
}

#[derive(Debug, Clone)]
pub(crate) struct Raft {
    pub(crate) me: usize,
    pub(crate) term: u64,
    pub(crate) voted: Option<usize>,
    /// The entry of index i stands at i - 1.
    pub(crate) log: Vec<LogEntry>,
    pub(crate) commit: usize,
    pub(crate) role: Role,
    pub(crate) leader_hint: Option<usize>,
    pub(crate) election_at: u64,
}

/// Who counts, and who could never vote again because its store is gone (rule 14).
#[derive(Debug, Clone)]
pub(crate) struct Electorate {
    pub(crate) nodes: usize,
    pub(crate) voters: Vec<usize>,
    pub(crate) lost: Vec<usize>,
}

impl Electorate {
    pub(crate) fn may_vote(&self, n: usize) -> bool {
        self.voters.contains(&n) && !self.lost.contains(&n)
    }
    fn quorum(&self, of: impl Fn(usize) -> bool) -> bool {
        self.voters.iter().filter(|v| !self.lost.contains(v) && of(**v)).count() * 2 > self.voters.len()
    }
}

type Sends = Vec<(usize, RaftMessage)>;

impl Raft {
    pub(crate) fn new(me: usize) -> Self {
        Self {
            me,
            term: 0,
            voted: None,
            log: Vec::new(),
            commit: 0,
            role: Role::Follower,
            leader_hint: None,
            election_at: 0,
        }
    }

    pub(crate) fn restarted(&mut self, now: u64, rng: &mut Rng) {
        self.role = Role::Follower;
        self.leader_hint = None;
        self.wait(now, rng);
    }

    fn wait(&mut self, now: u64, rng: &mut Rng) {
        self.election_at = now + rng.between(250, 600) * MS;
    }

    pub(crate) fn leads(&self) -> bool {
        matches!(self.role, Role::Leader { .. })
    }

    /// The index of the first entry of its term, if it leads.
    pub(crate) fn first_of_term(&self) -> Option<usize> {
        match &self.role {
            Role::Leader { first, .. } => Some(*first),
            _ => None,
        }
    }

    fn term_at(&self, index: usize) -> u64 {
        if index == 0 { 0 } else { self.log.get(index - 1).map_or(0, |e| e.term) }
    }

    pub(crate) fn tick(&mut self, now: u64, who: &Electorate, rng: &mut Rng) -> Sends {
        if let Role::Leader { beat_at, .. } = &mut self.role {
            if now >= *beat_at {
                *beat_at = now + 40 * MS;
                return self.send_all(who);
            }
            return Vec::new();
        }
        if now < self.election_at || !who.may_vote(self.me) {
            return Vec::new();
        }
        self.wait(now, rng);
        self.term = (self.term / BALLOTS + 1) * BALLOTS + self.me as u64;
        self.voted = Some(self.me);
        self.role = Role::Candidate { votes: vec![self.me] };
        let ask =
            RaftMessage::Canvass { term: self.term, last_term: self.term_at(self.log.len()), last: self.log.len() };
        who.voters.iter().filter(|v| **v != self.me).map(|v| (*v, ask.clone())).collect()
    }

    pub(crate) fn propose(&mut self, entry: Option<Entry>, who: &Electorate) -> (usize, Sends) {
        self.log.push(LogEntry { term: self.term, entry });
        let last = self.log.len();
        let me = self.me;
        if let Role::Leader { matched, .. } = &mut self.role {
            matched[me] = last;
        }
        self.advance(who);
        (last, self.send_all(who))
    }

    fn send_all(&mut self, who: &Electorate) -> Sends {
        let me = self.me;
        (0..who.nodes).filter(|n| *n != me).filter_map(|n| self.send_to(n)).collect()
    }

    fn send_to(&mut self, n: usize) -> Option<(usize, RaftMessage)> {
        let len = self.log.len();
        let Role::Leader { next, .. } = &mut self.role else { return None };
        let prev = next[n].min(len);
        let entries: Vec<LogEntry> = self.log[prev..].iter().take(64).cloned().collect();
        let message =
            RaftMessage::Append { term: self.term, prev, prev_term: self.term_at(prev), entries, commit: self.commit };
        Some((n, message))
    }

    fn advance(&mut self, who: &Electorate) {
        let Role::Leader { matched, .. } = &self.role else { return };
        for index in (self.commit + 1..=self.log.len()).rev() {
            if self.log[index - 1].term == self.term && who.quorum(|v| matched[v] >= index) {
                self.commit = index;
                return;
            }
        }
    }

    fn meet(&mut self, term: u64) {
        if term > self.term {
            self.term = term;
            self.voted = None;
            self.role = Role::Follower;
        }
    }

    pub(crate) fn receive(
        &mut self,
        now: u64,
        from: usize,
        message: RaftMessage,
        who: &Electorate,
        rng: &mut Rng,
    ) -> Sends {
        match message {
            RaftMessage::Canvass { term, last_term, last } => {
                self.meet(term);
                let mine = (self.term_at(self.log.len()), self.log.len());
                let yes = term == self.term
                    && who.may_vote(self.me)
                    && self.voted.is_none_or(|v| v == from)
                    && (last_term, last) >= mine;
                if yes {
                    self.voted = Some(from);
                    self.wait(now, rng);
                }
                vec![(from, RaftMessage::Voted { term: self.term, yes })]
            }
            RaftMessage::Voted { term, yes } => {
                self.meet(term);
                let Role::Candidate { votes } = &mut self.role else { return Vec::new() };
                if term != self.term || !yes || votes.contains(&from) {
                    return Vec::new();
                }
                votes.push(from);
                let votes = votes.clone();
                if !who.quorum(|v| votes.contains(&v)) {
                    return Vec::new();
                }
                let first = self.log.len() + 1;
                self.leader_hint = Some(self.me);
                self.role = Role::Leader {
                    next: vec![self.log.len(); who.nodes],
                    matched: vec![0; who.nodes],
                    first,
                    beat_at: now + 40 * MS,
                };
                self.propose(None, who).1
            }
            RaftMessage::Append { term, prev, prev_term, entries, commit } => {
                self.meet(term);
                if term < self.term {
                    return vec![(from, RaftMessage::Appended { term: self.term, good: false, matched: 0 })];
                }
                assert!(!self.leads(), "two leaders of one term");
                self.role = Role::Follower;
                self.voted = Some(from);
                self.leader_hint = Some(from);
                self.wait(now, rng);
                if prev > self.log.len() || self.term_at(prev) != prev_term {
                    let matched = self.log.len().min(prev.saturating_sub(1));
                    return vec![(from, RaftMessage::Appended { term, good: false, matched })];
                }
                let count = entries.len();
                for (i, entry) in entries.into_iter().enumerate() {
                    let index = prev + 1 + i;
                    if index <= self.log.len() {
                        if self.term_at(index) == entry.term {
                            continue;
                        }
                        assert!(index > self.commit, "Raft: a committed entry is never cut");
                        self.log.truncate(index - 1);
                    }
                    self.log.push(entry);
                }
                self.commit = self.commit.max(commit.min(prev + count));
                vec![(from, RaftMessage::Appended { term, good: true, matched: prev + count })]
            }
            RaftMessage::Appended { term, good, matched: reached } => {
                self.meet(term);
                if term != self.term {
                    return Vec::new();
                }
                let len = self.log.len();
                let Role::Leader { next, matched, .. } = &mut self.role else { return Vec::new() };
                if good {
                    matched[from] = matched[from].max(reached);
                    next[from] = next[from].max(reached).min(len);
                } else {
                    next[from] = reached;
                }
                let more = next[from] < len;
                let before = self.commit;
                self.advance(who);
                if self.commit > before {
                    return self.send_all(who);
                }
                if !good || more { self.send_to(from).into_iter().collect() } else { Vec::new() }
            }
        }
    }

    /// A node came back without its store: it is a new learner.
    pub(crate) fn forget_peer(&mut self, n: usize) {
        if let Role::Leader { next, matched, .. } = &mut self.role {
            next[n] = 0;
            matched[n] = 0;
        }
    }
}
