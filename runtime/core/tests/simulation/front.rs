//! The front door: what a node does with a client's request (rules 2, 4, 10 and 11).

use onemec_core::group::{Input, NotNow};
use onemec_wire::{ContextId, Epoch, GroupId, Member};

use super::net::Packet;
use super::node::Waiting;
use super::toy::{Rec, Wish};
use super::world::{Event, MS, World, say};

/// Operations that wait for a gate, per group.
const PARKED_MAX: usize = 32;
/// Requests that a node has taken and not answered.
const OPEN_MAX: usize = 256;
const HOPS_MAX: u8 = 3;
const WAIT_TO_APPLY: u64 = 20 * MS;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    /// At the node that took it from the client.
    pub(crate) id: u64,
    pub(crate) client: usize,
    pub(crate) attempt: u64,
    pub(crate) op: u64,
    pub(crate) read: bool,
    pub(crate) repeatable: bool,
    pub(crate) finish: bool,
    pub(crate) context: ContextId,
    /// Where the context is, as the node that it is at knows.
    pub(crate) group: GroupId,
    pub(crate) origin: usize,
    pub(crate) origin_boot: Member,
    /// In truth it carries its remaining time.
    pub(crate) deadline: u64,
    pub(crate) park_until: u64,
    pub(crate) hops: u8,
    /// The epoch towards which it was forwarded; 0 from a client.
    pub(crate) epoch: Epoch,
    /// When it reached the node that it is at.
    pub(crate) received: u64,
    /// How often it waited for the directory at this node.
    pub(crate) waits: u8,
}

/// A request that a node took from a client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    request: Request,
    /// It was forwarded or has a place in a log: nobody here can say "not applied" any more.
    handed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    Done {
        place: usize,
    },
    Read {
        len: usize,
    },
    /// 503: never applied.
    NotApplied,
    /// 504: it may still appear.
    Unknown,
    /// 404.
    Gone,
    /// The deletion is done.
    Finished,
}

impl World {
    pub(crate) fn request_arrives(&mut self, n: usize, mut request: Request) {
        let full = self.nodes[n].open.len() >= OPEN_MAX;
        if !self.nodes[n].up || full {
            let (i, attempt) = (request.client, request.attempt);
            return self.after(MS, Event::ClientAnswer { i, attempt, answer: Reply::NotApplied });
        }
        request.id = self.fresh();
        request.origin = n;
        request.origin_boot = self.nodes[n].member;
        self.nodes[n].open.insert(request.id, Open { request, handed: false });
        let boot = self.nodes[n].boot;
        self.at(request.deadline, Event::GiveUp { n, boot, id: request.id });
        self.handle_request(n, request, true);
    }

    /// `fresh`: it has just reached this node.
    pub(crate) fn handle_request(&mut self, n: usize, mut request: Request, fresh: bool) {
        if fresh {
            request.received = self.now;
            request.waits = 0;
        }
        if request.origin == n && !self.nodes[n].open.contains_key(&request.id) {
            return; // given up meanwhile
        }
        if self.now >= request.deadline {
            return self.reply(n, &request, Reply::NotApplied);
        }
        let node = &self.nodes[n];
        let found = node.dir.context(request.context).and_then(|c| Some((c.group, node.dir.group(c.group)?)));
        let Some((group, placement)) = found else {
            let gone = request.context.index() <= node.dir.index();
            return if gone { self.reply(n, &request, Reply::Gone) } else { self.wait_or_refuse(n, request) };
        };
        request.group = group;
        let (epoch, primary) = (placement.epoch, placement.primary);
        let leads = node.reps.get(&request.group).and_then(|r| r.machine.leads());
        match leads {
            Some(mine) if mine >= request.epoch => self.serve(n, request),
            _ if primary.node == node.id || epoch <= request.epoch => self.wait_or_refuse(n, request),
            _ => self.forward(n, request, primary, epoch),
        }
    }

    /// Waits for the directory (20 ms, then the time of a leader's read), then says 503.
    fn wait_or_refuse(&mut self, n: usize, mut request: Request) {
        if request.waits >= 2 {
            return self.reply(n, &request, Reply::NotApplied);
        }
        request.waits += 1;
        let boot = self.nodes[n].boot;
        self.after(WAIT_TO_APPLY, Event::Again { n, boot, request });
    }

    fn forward(&mut self, n: usize, mut request: Request, to: Member, epoch: Epoch) {
        if request.hops >= HOPS_MAX {
            return self.reply(n, &request, Reply::NotApplied);
        }
        request.hops += 1;
        request.epoch = epoch;
        let at = self.index_of(to.node);
        if at == n || !self.send_lane(n, at, Packet::Forward { request }) {
            return self.reply(n, &request, Reply::NotApplied);
        }
        self.count("forwarded");
        self.hand_over(n, &request);
    }

    fn hand_over(&mut self, n: usize, request: &Request) {
        if request.origin == n
            && let Some(open) = self.nodes[n].open.get_mut(&request.id)
        {
            open.handed = true;
        }
    }

    fn serve(&mut self, n: usize, request: Request) {
        // Rule 2: the lease before everything.
        if !self.lease_valid(n) && !onemec_core::group::planted(onemec_core::group::Flaw::NoLeaseCheck) {
            return self.reply(n, &request, Reply::NotApplied);
        }
        self.wake(n, request.group, &Input::Tick);
        let now = self.now;
        let Some(rep) = self.nodes[n].reps.get_mut(&request.group) else { return };
        let here = rep.machine.placement().is_some_and(|p| p.contexts.contains(&request.context));
        if !here {
            return self.wait_or_refuse(n, request);
        }
        if request.read {
            let Some(epoch) = rep.gate.filter(|_| rep.machine.is_open()) else {
                return self.park(n, request);
            };
            let ops = rep.toy.ops(request.context);
            let len = ops.len();
            self.checker.answered(request.context, epoch, n, request.received, now);
            self.checker.read(request.context, ops);
            return self.reply(n, &request, Reply::Read { len });
        }
        match rep.machine.next_place() {
            Ok(at) => {
                let rec = Rec {
                    at,
                    context: request.context,
                    op: request.op,
                    attempt: request.attempt,
                    repeatable: request.repeatable,
                    wish: if request.finish { Wish::Finish } else { Wish::Write },
                };
                rep.mem.records.push(rec);
                rep.unsynced = true;
                rep.waiting.insert(at.seq, Waiting { request, epoch: at.epoch });
                self.hand_over(n, &request);
                self.step(n, request.group, Input::Appended, &[]);
                self.want_sync(n, request.group);
            }
            Err(NotNow::Closed) => self.park(n, request),
            Err(NotNow::NotPrimary | NotNow::TooFewMembers { .. } | NotNow::Full) => {
                self.reply(n, &request, Reply::NotApplied);
            }
        }
    }

    fn park(&mut self, n: usize, mut request: Request) {
        request.park_until = self.now + 50 * MS;
        self.count("parked");
        let Some(rep) = self.nodes[n].reps.get_mut(&request.group) else { return };
        if rep.parked.len() >= PARKED_MAX {
            return self.reply(n, &request, Reply::NotApplied);
        }
        rep.parked.push_back(request);
    }

    /// The freeze deadline ends the parking (rule 9), with 503 (rule 11).
    pub(crate) fn end_parking(&mut self, n: usize, group: GroupId) {
        while let Some(rep) = self.nodes[n].reps.get_mut(&group)
            && let Some(first) = rep.parked.front().copied()
            && first.park_until <= self.now
        {
            rep.parked.pop_front();
            self.reply(n, &first, Reply::NotApplied);
        }
    }

    pub(crate) fn unpark(&mut self, n: usize, group: GroupId) {
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        for request in std::mem::take(&mut rep.parked) {
            self.handle_request(n, request, false);
        }
    }

    /// Everything that waits here gets an answer that is true; parked operations go to the new primary, in order.
    pub(crate) fn stop_serving(&mut self, n: usize, group: GroupId, forward_to: Option<Member>) {
        let me = self.nodes[n].member;
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        rep.gate = None;
        if forward_to == Some(me) {
            return; // a regroup: the reign goes on under another epoch, and what is parked is served here
        }
        let waiting = std::mem::take(&mut rep.waiting);
        let finishing = std::mem::take(&mut rep.finishing);
        let parked = if onemec_core::group::planted(onemec_core::group::Flaw::ParkedRunsTwice) {
            rep.parked.clone()
        } else {
            std::mem::take(&mut rep.parked)
        };
        let seen = rep.machine.seen();
        for request in waiting.into_values().map(|w| w.request).chain(finishing.into_iter().map(|f| f.1)) {
            self.reply(n, &request, Reply::Unknown);
        }
        for request in parked {
            match forward_to {
                Some(to) => self.forward(n, request, to, seen),
                None => self.handle_request(n, request, false),
            }
        }
    }

    pub(crate) fn fail_group(&mut self, n: usize, group: GroupId) {
        self.stop_serving(n, group, None);
    }

    pub(crate) fn fail_everything(&mut self, n: usize) {
        let groups: Vec<GroupId> = self.nodes[n].reps.keys().copied().collect();
        for group in groups {
            self.fail_group(n, group);
        }
        let ids: Vec<u64> = self.nodes[n].open.keys().copied().collect();
        for id in ids {
            self.give_up(n, id);
        }
    }

    /// The deadline of a request has come.
    pub(crate) fn give_up(&mut self, n: usize, id: u64) {
        let Some(open) = self.nodes[n].open.get(&id).copied() else { return };
        if let Some(rep) = self.nodes[n].reps.get_mut(&open.request.group) {
            rep.parked.retain(|r| r.id != id);
        }
        self.reply(n, &open.request, if open.handed { Reply::Unknown } else { Reply::NotApplied });
    }

    pub(crate) fn reply(&mut self, n: usize, request: &Request, reply: Reply) {
        let (id, attempt) = (request.id, request.attempt);
        if request.origin == n {
            self.on_reply(n, id, attempt, reply);
        } else if self.nodes[request.origin].member == request.origin_boot {
            self.send_lane(n, request.origin, Packet::Reply { id, attempt, reply });
        }
    }

    pub(crate) fn on_reply(&mut self, n: usize, id: u64, attempt: u64, answer: Reply) {
        let Some(open) = self.nodes[n].open.remove(&id) else { return };
        let delay = self.rng.between(50, 2_000) * 1_000;
        say!(self, "n{} answers op {} attempt {attempt}: {answer:?}", n + 1, open.request.op);
        self.after(delay, Event::ClientAnswer { i: open.request.client, attempt, answer });
    }
}
