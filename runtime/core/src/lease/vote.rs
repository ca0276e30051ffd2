//! The cell in which a voter keeps the newest term that it ever voted for.

use super::{LeaseMessage, Term, VoterId};

/// Updated inside `save_vote`, before the vote leaves the node, so that rounds never wait for Raft's own loop, which waits
/// for the disk (rule 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VoteCell {
    newest: Term,
}

impl VoteCell {
    /// A cell as found in the store.
    pub fn new(newest: Term) -> Self {
        Self { newest }
    }
    /// The voter is about to vote for, or follow, `term`.
    pub fn voted(&mut self, term: Term) {
        self.newest = self.newest.max(term);
    }
    /// The newest term that was voted for.
    pub fn newest(&self) -> Term {
        self.newest
    }
    /// Answers a round: only if nothing newer was voted for.
    pub fn confirm(&self, me: VoterId, term: Term, round: u64) -> Option<LeaseMessage> {
        (term.term >= self.newest.term && (term.term > self.newest.term || term.leader == self.newest.leader))
            .then_some(LeaseMessage::Confirm { voter: me, term, round })
    }
}
