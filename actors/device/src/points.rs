//! Where to go: the points of access that a device knows, and which one is next. Pure.
//!
//! A device is *at* one point. Answers teach it the home (by epoch: a lower one is old news) and peers. When a point fails
//! the next one in turn is tried: home, peers in their order, then what was configured. `failed` says when a whole round
//! has failed, so that the caller backs off then and not before: the way to the next live host is not slowed down.

use crate::extensions::{Home, PEERS_MAX};
use crate::http1::Endpoint;

/// After so many answers "not now" in a row from one point the next one is tried.
pub const BUSY_MAX: u32 = 3;

/// The points of access of one device.
#[derive(Debug, Clone)]
pub struct Points {
    configured: Vec<Endpoint>,
    peers: Vec<Endpoint>,
    home: Option<Home>,
    at: Endpoint,
    failed_in_round: Vec<Endpoint>,
    busy: u32,
}

impl Points {
    /// Begins at `first`; `more` is what else the configuration names.
    pub fn new(first: Endpoint, more: Vec<Endpoint>) -> Self {
        let mut configured = vec![first.clone()];
        configured.extend(more.into_iter().take(PEERS_MAX));
        Self { configured, peers: Vec::new(), home: None, at: first, failed_in_round: Vec::new(), busy: 0 }
    }

    /// Where requests go.
    pub fn at(&self) -> &Endpoint {
        &self.at
    }

    /// The home as far as it is known.
    pub fn home(&self) -> Option<&Home> {
        self.home.as_ref()
    }

    /// The peers as far as they are known.
    pub fn peers(&self) -> &[Endpoint] {
        &self.peers
    }

    /// An answer named a home. Returns where to open a connection, if that is news and not where we are.
    pub fn learn_home(&mut self, home: &Home) -> Option<Endpoint> {
        if self.home.as_ref().is_some_and(|known| home.epoch < known.epoch) {
            return None;
        }
        self.home = Some(home.clone());
        (home.endpoint != self.at).then(|| home.endpoint.clone())
    }

    /// An answer listed the peers.
    pub fn learn_peers(&mut self, peers: Vec<Endpoint>) {
        if !peers.is_empty() {
            self.peers = peers;
            self.peers.truncate(PEERS_MAX);
        }
    }

    /// Requests go to `endpoint` from now on (a connection to it is open).
    pub fn arrive(&mut self, endpoint: Endpoint) {
        self.at = endpoint;
        self.busy = 0;
    }

    /// The point where we are answered a request.
    pub fn answered(&mut self) {
        self.failed_in_round.clear();
        self.busy = 0;
    }

    /// The point where we are answered "not now" (503, 504). True if it is time to try another: then it counts as failed.
    pub fn busy(&mut self) -> bool {
        self.busy += 1;
        self.busy >= BUSY_MAX && self.all().len() > 1
    }

    /// The point where we are cannot be reached or broke: goes to the next. True if all have failed once: wait before
    /// the next attempt.
    pub fn failed(&mut self) -> bool {
        self.busy = 0;
        if !self.failed_in_round.contains(&self.at) {
            self.failed_in_round.push(self.at.clone());
        }
        let next = self.all().into_iter().find(|e| !self.failed_in_round.contains(e));
        match next {
            Some(next) => {
                self.at = next;
                false
            }
            None => {
                self.failed_in_round.clear();
                if let Some(first) = self.all().into_iter().next() {
                    self.at = first;
                }
                true
            }
        }
    }

    fn all(&self) -> Vec<Endpoint> {
        let mut all: Vec<Endpoint> = Vec::new();
        let home = self.home.iter().map(|h| &h.endpoint);
        for e in home.chain(&self.peers).chain(&self.configured) {
            if !all.contains(e) {
                all.push(e.clone());
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn e(port: u16) -> Endpoint {
        Endpoint { tls: false, host: "h".into(), port }
    }
    fn home(port: u16, epoch: u64) -> Home {
        Home { endpoint: e(port), epoch }
    }

    #[test]
    fn follows_only_newer_homes() {
        let mut p = Points::new(e(1), vec![]);
        assert_eq!(p.learn_home(&home(2, 5)), Some(e(2)));
        assert_eq!(p.learn_home(&home(3, 4)), None);
        p.arrive(e(2));
        assert_eq!(p.learn_home(&home(2, 5)), None);
        assert_eq!(p.learn_home(&home(1, 6)), Some(e(1)));
    }

    #[test]
    fn tries_every_point_before_it_waits() {
        let mut p = Points::new(e(1), vec![e(4)]);
        p.learn_peers(vec![e(2), e(3), e(2)]);
        p.learn_home(&home(1, 1));
        let mut seen = vec![p.at().clone()];
        while !p.failed() {
            seen.push(p.at().clone());
        }
        assert_eq!(seen, vec![e(1), e(2), e(3), e(4)]);
        assert_eq!(*p.at(), e(1));
        assert!(!p.failed(), "the next round begins anew");
    }

    #[test]
    fn a_busy_point_is_left_after_a_while() {
        let mut p = Points::new(e(1), vec![e(2)]);
        assert!(!p.busy() && !p.busy() && p.busy());
        assert!(!p.failed());
        assert_eq!(*p.at(), e(2));
        let mut alone = Points::new(e(1), vec![]);
        assert!((0..10).all(|_| !alone.busy()), "there is nowhere else to go");
    }
}
