//! Leases: the one failure detector (rules 1 and 3).
//!
//! A node may act as primary only while it holds a lease. It asks for one every third of the lease's length; the length
//! counts from the moment at which it *sent* the request that was granted. The directory's leader grants only after a round
//! of a quorum of voters that began after the request arrived: each voter confirms that it has not voted for a newer term,
//! so no newer leader existed at that moment. A newer leader waits longer than a lease before it declares anyone dead, so
//! nobody is declared dead while a lease of his may still run.
//!
//! [`Holder`] runs on every node, [`VoteCell`] on every voter, [`Grantor`] on every voter and works while that one leads.

mod grantor;
mod holder;
mod vote;

#[cfg(test)]
mod tests;

use std::time::Duration;

use bincode::{Decode, Encode};
use onemec_wire::Member;

pub use self::grantor::{Grantor, GrantorOutput, LeaderView};
pub use self::holder::{Holder, LeaseState};
pub use self::vote::VoteCell;

/// How long leases are and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTiming {
    /// Length of a lease, counted by the holder from its own sending time.
    pub lease: Duration,
}

impl LeaseTiming {
    /// 300 ms: for nodes of one site.
    pub const ONE_SITE: Self = Self { lease: Duration::from_millis(300) };

    /// A holder asks this often.
    pub fn renew_every(self) -> Duration {
        self.lease / 3
    }

    /// A leader waits this long after its last grant, and after its election, before it declares a node dead: clocks may
    /// differ by 1 % in speed (rule 3).
    pub fn dead_after(self) -> Duration {
        self.lease + self.lease / 50 + Duration::from_millis(10)
    }
}

/// A Raft leadership: openraft's term and node. Ordered as votes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct Term {
    /// The term.
    pub term: u64,
    /// Raft's id of the candidate or leader.
    pub leader: u64,
}

/// A voter: Raft's id of its store, not of its node. A node that lost its store has forgotten what it voted for; its new
/// store has another id, and must not confirm in the name of the old one (rule 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Encode, Decode)]
pub struct VoterId(pub u64);

/// Messages of the lease protocol; they travel as datagrams, may be lost, doubled and late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum LeaseMessage {
    /// Holder to every voter (it need not know who leads).
    Request {
        /// Who asks.
        member: Member,
        /// Number of the request, rising.
        number: u64,
    },
    /// Leader to voters: is there anything newer than me?
    Round {
        /// The leader's term.
        term: Term,
        /// Number of the round, rising within the term.
        round: u64,
    },
    /// Voter to leader: nothing newer at this moment.
    Confirm {
        /// The voter.
        voter: VoterId,
        /// As asked.
        term: Term,
        /// As asked.
        round: u64,
    },
    /// Leader to holder.
    Grant {
        /// Whose request.
        member: Member,
        /// Its number.
        number: u64,
    },
}
