//! The holder's side of a lease.

use onemec_wire::Member;

use super::{LeaseMessage, LeaseTiming};
use crate::time::Mono;

/// How many requests may be on their way; older ones are given up.
const OUTSTANDING_MAX: usize = 16;

/// What a node knows of its own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseState {
    /// The lease is valid before this moment. Zero: never had one.
    pub until: Mono,
}

impl LeaseState {
    /// May this node act as primary at `now`?
    pub fn is_valid(self, now: Mono) -> bool {
        now < self.until
    }
}

/// Asks for leases and counts them from the time of asking.
///
/// Legal order: `tick` at least every `renew_every`, `granted` whenever a grant arrives.
#[derive(Debug, Clone)]
pub struct Holder {
    me: Member,
    timing: LeaseTiming,
    state: LeaseState,
    number: u64,
    next_at: Mono,
    outstanding: Vec<(u64, Mono)>,
}

impl Holder {
    /// A holder without a lease.
    pub fn new(me: Member, timing: LeaseTiming) -> Self {
        Self {
            me,
            timing,
            state: LeaseState { until: Mono(0) },
            number: 0,
            next_at: Mono(0),
            outstanding: Vec::with_capacity(OUTSTANDING_MAX),
        }
    }

    /// The lease as it is.
    pub fn state(&self) -> LeaseState {
        self.state
    }

    /// When `tick` wants to be called next.
    pub fn next_at(&self) -> Mono {
        self.next_at
    }

    /// Returns the request to send now, if one is due.
    pub fn tick(&mut self, now: Mono) -> Option<LeaseMessage> {
        if now < self.next_at {
            return None;
        }
        self.next_at = now + self.timing.renew_every();
        self.number += 1;
        if self.outstanding.len() == OUTSTANDING_MAX {
            self.outstanding.remove(0);
        }
        self.outstanding.push((self.number, now));
        Some(LeaseMessage::Request { member: self.me, number: self.number })
    }

    /// Takes a grant; one for another boot, doubled or given up changes nothing.
    pub fn granted(&mut self, member: Member, number: u64) -> LeaseState {
        if member == self.me
            && let Some(at) = self.outstanding.iter().position(|(n, _)| *n == number)
        {
            let (_, sent) = self.outstanding[at];
            self.outstanding.drain(..=at);
            self.state.until = self.state.until.max(sent + self.timing.lease);
        }
        self.state
    }

    /// Gives the lease up (clean stop): nothing may act as primary on this node any more.
    pub fn release(&mut self) {
        self.state.until = Mono(0);
        self.outstanding.clear();
        self.next_at = Mono(u64::MAX);
    }
}
