//! Links: lanes keep their order while a connection lives, a lost connection drops what was in flight, datagrams are
//! lost, doubled and reordered, each direction can be cut alone.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::group::{GroupMessage, Input};
use onemec_core::lease::LeaseMessage;
use onemec_wire::Member;

use super::front::{Reply, Request};
use super::node::Proposal;
use super::raft::RaftMessage;
use super::toy::Rec;
use super::world::{Event, MS, World, say};

#[derive(Debug, Clone)]
pub(crate) enum Packet {
    Group { message: GroupMessage, records: Vec<Rec> },
    Forward { request: Request },
    Reply { id: u64, attempt: u64, reply: Reply },
}

#[derive(Debug, Clone, Copy)]
struct Connection {
    number: u64,
    up: bool,
}

pub(crate) struct Net {
    connections: BTreeMap<(usize, usize), Connection>,
    blocked: BTreeSet<(usize, usize)>,
    lane_free: BTreeMap<(usize, usize), u64>,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Net {
    pub(crate) fn new(nodes: usize) -> Self {
        let mut connections = BTreeMap::new();
        for a in 0..nodes {
            for b in a + 1..nodes {
                connections.insert((a, b), Connection { number: 0, up: false });
            }
        }
        Self { connections, blocked: BTreeSet::new(), lane_free: BTreeMap::new() }
    }
    pub(crate) fn connection(&self, a: usize, b: usize) -> Option<u64> {
        self.connections.get(&pair(a, b)).filter(|c| c.up).map(|c| c.number)
    }
    pub(crate) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to))
    }
}

impl World {
    fn delay(&mut self) -> u64 {
        let max = if self.healed.is_some() { 500 } else { self.plan.delay_us_max };
        self.rng.between(50, 50 + max) * 1_000
    }

    fn lost(&mut self) -> bool {
        let chance = if self.healed.is_some() { 0 } else { self.plan.loss_permille };
        self.rng.permille(chance)
    }

    /// On the connection's lane; `false` if there is no connection.
    pub(crate) fn send_lane(&mut self, from: usize, to: usize, packet: Packet) -> bool {
        let sender = self.nodes[from].member;
        if from == to {
            self.after(1_000, Event::Lane { from, to, connection: 0, sender, packet });
            return true;
        }
        let Some(connection) = self.net.connection(from, to) else { return false };
        let free = self.net.lane_free.get(&(from, to)).copied().unwrap_or(0);
        let mut at = (self.now + self.delay()).max(free + 1_000);
        if self.lost() {
            at += self.rng.between(10, 200) * MS; // QUIC sends it again
        }
        self.net.lane_free.insert((from, to), at);
        self.at(at, Event::Lane { from, to, connection, sender, packet });
        true
    }

    pub(crate) fn arrive(&mut self, from: usize, to: usize, connection: u64, sender: Member, packet: Packet) {
        if from != to {
            if self.net.connection(from, to) != Some(connection) {
                return;
            }
            if self.net.is_blocked(from, to) {
                // In flight until the way is free again or the connection dies.
                let free = self.net.lane_free.get(&(from, to)).copied().unwrap_or(0);
                let at = (self.now + 5 * MS).max(free + 1_000);
                self.net.lane_free.insert((from, to), at);
                self.at(at, Event::Lane { from, to, connection, sender, packet });
                return;
            }
        }
        match packet {
            Packet::Group { message, records } => self.on_group_message(to, sender, message, records),
            Packet::Forward { request } => self.handle_request(to, request, true),
            Packet::Reply { id, attempt, reply } => self.on_reply(to, id, attempt, reply),
        }
    }

    pub(crate) fn send_datagram(&mut self, from: usize, to: usize, message: LeaseMessage) {
        if from != to && (self.net.is_blocked(from, to) || self.lost()) {
            return;
        }
        let times = if self.healed.is_none() && self.rng.permille(30) { 2 } else { 1 };
        for _ in 0..times {
            let mut delay = if from == to { 1_000 } else { self.delay() };
            if self.healed.is_none() && self.rng.permille(20) {
                delay += self.rng.between(0, 400) * MS;
            }
            self.after(delay, Event::Datagram { from, to, message });
        }
    }

    pub(crate) fn send_raft(&mut self, from: usize, sends: Vec<(usize, RaftMessage)>) {
        for (to, message) in sends {
            if self.net.is_blocked(from, to) || self.lost() {
                continue;
            }
            let delay = self.delay();
            self.after(delay, Event::Raft { from, to, message });
        }
    }

    /// To the leader, or whom one believes to be it: may be lost, doubled, late.
    pub(crate) fn send_proposal(&mut self, from: usize, to: usize, proposal: Proposal) {
        let calm = self.healed.is_some();
        if from != to && (self.net.is_blocked(from, to) || self.lost()) {
            return;
        }
        let times = if !calm && self.rng.permille(80) { 2 } else { 1 };
        for _ in 0..times {
            let mut delay = self.delay();
            if !calm && self.rng.permille(80) {
                delay += self.rng.between(0, 1_500) * MS;
            }
            self.after(delay, Event::Proposal { to, proposal: proposal.clone() });
        }
    }

    pub(crate) fn send_decided(
        &mut self,
        from: usize,
        to: usize,
        id: u64,
        outcome: onemec_core::directory::CommandOutcome,
    ) {
        if from != to && (self.net.is_blocked(from, to) || self.lost()) {
            return;
        }
        let delay = self.delay();
        self.after(delay, Event::Decided { to, id, outcome });
    }

    pub(crate) fn block(&mut self, from: usize, to: usize) {
        if from == to || !self.net.blocked.insert((from, to)) {
            return;
        }
        if let Some(connection) = self.net.connection(from, to) {
            let after = self.rng.between(30, 400) * MS;
            self.after(after, Event::ConnectionDies { a: from, b: to, connection });
        }
    }

    pub(crate) fn unblock(&mut self, from: usize, to: usize) {
        self.net.blocked.remove(&(from, to));
        self.try_connect(from, to);
    }

    pub(crate) fn unblock_all(&mut self) {
        let all: Vec<(usize, usize)> = self.net.blocked.iter().copied().collect();
        for (a, b) in all {
            self.unblock(a, b);
        }
    }

    fn try_connect(&mut self, a: usize, b: usize) {
        if a != b && self.net.connection(a, b).is_none() {
            let after = self.rng.between(1, 60) * MS;
            self.after(after, Event::Reconnect { a, b });
        }
    }

    /// A silent link kills its connection only if it is still silent.
    pub(crate) fn connection_dies(&mut self, a: usize, b: usize, connection: u64) {
        if self.net.connection(a, b) == Some(connection) && (self.net.is_blocked(a, b) || self.net.is_blocked(b, a)) {
            self.cut_connection(a, b);
        }
    }

    pub(crate) fn cut_connection(&mut self, a: usize, b: usize) {
        if let Some(c) = self.net.connections.get_mut(&pair(a, b)) {
            c.up = false;
            c.number += 1;
        }
        say!(self, "connection n{} n{} lost", a + 1, b + 1);
        self.count("connections lost");
        self.try_connect(a, b);
    }

    pub(crate) fn cut_connections_of(&mut self, n: usize) {
        for other in 0..self.nodes.len() {
            if other != n && self.net.connection(n, other).is_some() {
                self.cut_connection(n, other);
            }
        }
    }

    pub(crate) fn connect_all(&mut self, n: usize) {
        for other in 0..self.nodes.len() {
            self.try_connect(n, other);
        }
    }

    pub(crate) fn reconnect(&mut self, a: usize, b: usize) {
        if let Some(until) = self.nodes[a].paused_until.max(self.nodes[b].paused_until).filter(|u| *u > self.now) {
            return self.at(until, Event::Reconnect { a, b });
        }
        let blocked = self.net.is_blocked(a, b) || self.net.is_blocked(b, a);
        if self.net.connection(a, b).is_some() || blocked || !self.nodes[a].up || !self.nodes[b].up {
            return;
        }
        if let Some(c) = self.net.connections.get_mut(&pair(a, b)) {
            c.up = true;
            c.number += 1;
        }
        self.net.lane_free.remove(&(a, b));
        self.net.lane_free.remove(&(b, a));
        for (here, there) in [(a, b), (b, a)] {
            let peer = self.nodes[there].member;
            let groups: Vec<_> = self.nodes[here].reps.iter().filter(|(_, r)| !r.rests).map(|(g, _)| *g).collect();
            for group in groups {
                self.step(here, group, Input::Connected(peer), &[]);
            }
        }
    }
}
