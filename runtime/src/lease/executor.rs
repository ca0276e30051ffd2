//! The loop on the thread for leases: messages, time and leadership in; messages and deaths out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onemec_core::lease::{Grantor, GrantorOutput, Holder, LeaderView, LeaseMessage, LeaseTiming, VoterId};
use onemec_core::time::Mono;
use onemec_wire::service::ServiceId;
use onemec_wire::{Member, NodeId};
use tokio::sync::{mpsc, oneshot, watch};

use super::burial::{Burials, Death};
use super::{Order, Shared, boottime, encode};
use crate::directory::{DirectoryHandle, Net, SharedVoteCell};

/// The grantor looks for the dead this often: lease divided by this.
const TICKS_PER_LEASE: u32 = 30;
/// Longest sleep, so that the thread notices a leadership that it was not told of.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// The thread runs so much too late (a part of the lease) before that is said, and it is not said more often than this.
const LATE_DIVISOR: u32 = 6;
const SAY_LATE_EVERY: Duration = Duration::from_secs(10);
/// Messages of this node to itself within one turn; a turn makes two at most, this is a guard.
const LOCAL_MAX: usize = 64;

pub(super) struct Executor {
    net: Arc<dyn Net>,
    directory: DirectoryHandle,
    timing: LeaseTiming,
    me: NodeId,
    member: Member,
    voter: VoterId,
    cell: SharedVoteCell,
    holder: Holder,
    grantor: Grantor,
    view: Option<LeaderView>,
    nodes: BTreeMap<VoterId, NodeId>,
    confirmed_dead: BTreeSet<Member>,
    metrics: watch::Receiver<crate::directory::Metrics>,
    shared: Arc<Shared>,
    renewed: watch::Sender<Mono>,
    burials: Burials,
    local: VecDeque<LeaseMessage>,
    out: Vec<GrantorOutput>,
    next_tick: Mono,
    said_late: Option<Mono>,
}

impl Executor {
    pub(super) fn new(
        net: Arc<dyn Net>,
        directory: DirectoryHandle,
        member: Member,
        timing: LeaseTiming,
        shared: Arc<Shared>,
        renewed: watch::Sender<Mono>,
        burials: Burials,
    ) -> Self {
        let (raft, cell) = directory.vote_cell();
        Self {
            me: net.me(),
            member,
            net,
            metrics: directory.metrics(),
            directory,
            timing,
            voter: VoterId(raft.0),
            cell,
            holder: Holder::new(member, timing),
            grantor: Grantor::new(timing),
            view: None,
            nodes: BTreeMap::new(),
            confirmed_dead: BTreeSet::new(),
            shared,
            renewed,
            burials,
            local: VecDeque::new(),
            out: Vec::new(),
            next_tick: Mono(0),
            said_late: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut messages: mpsc::Receiver<(NodeId, LeaseMessage)>,
        mut orders: mpsc::Receiver<Order>,
        mut stop: oneshot::Receiver<()>,
    ) {
        loop {
            let sleep = self.turn();
            let due = boottime() + sleep;
            tokio::select! {
                biased;
                _ = &mut stop => return,
                Some((from, message)) = messages.recv() => self.message(from, message),
                Some(order) = orders.recv() => self.order(order),
                Some(member) = self.burials.refused.recv() => {
                    self.grantor.burial_refused(boottime(), member);
                    self.shared.note_unburied(boottime(), member);
                }
                () = tokio::time::sleep(sleep) => {}
            }
            self.say_if_late(due);
        }
    }

    /// A thread that does not get its time is why healthy nodes are declared dead: the operator should know.
    fn say_if_late(&mut self, due: Mono) {
        let now = boottime();
        let late = now.since(due);
        if late > self.timing.lease / LATE_DIVISOR && self.said_late.is_none_or(|at| now.since(at) > SAY_LATE_EVERY) {
            self.said_late = Some(now);
            tracing::warn!(?late, lease = ?self.timing.lease, "too little CPU: the thread for leases runs late");
        }
    }

    /// Does what is due, and says how long nothing will be.
    fn turn(&mut self) -> Duration {
        self.look_at_leadership();
        let now = boottime();
        // Rule 4: no lease is asked for before the own NodeUp is applied, nor after the own death.
        let live = self.directory.read().is_live(self.member);
        if live && let Some(request) = self.holder.tick(now) {
            self.ask(request);
        }
        if self.view.is_some() && now >= self.next_tick {
            self.next_tick = now + self.timing.lease / TICKS_PER_LEASE;
            let live: Vec<Member> = self.directory.read().live().collect();
            self.confirmed_dead.retain(|m| live.contains(m));
            self.grantor.tick(now, live.into_iter(), &mut self.out);
        }
        // Told here and not by Raft, whose loop waits for disks: rounds of leases go through both directions all the time.
        self.directory.out_of_touch(self.view.is_some() && !self.grantor.is_confirmed(now));
        self.carry_out();
        let mut wake = boottime() + SLEEP_MAX;
        if live {
            wake = wake.min(self.holder.next_at());
        }
        if self.view.is_some() {
            wake = wake.min(self.next_tick);
        }
        wake.since(boottime())
    }

    /// Takes over what Raft says about this node's leadership. Called before anything is granted, so that no grant rests
    /// on an older view than the one that Raft has reported.
    fn look_at_leadership(&mut self) {
        // A leader that is not ready becomes so when it has applied the first entry of its term, which changes no metrics
        // that are waited for here; so that one is looked at each time.
        let pending = self.view.as_ref().is_some_and(|v| !v.ready);
        if !pending && !self.metrics.has_changed().unwrap_or(true) {
            return;
        }
        self.metrics.mark_unchanged();
        let view = self.directory.leader_view();
        if view == self.view {
            return;
        }
        if view.as_ref().map(|v| v.term) != self.view.as_ref().map(|v| v.term) {
            self.confirmed_dead.clear();
        }
        self.nodes = self.directory.members().into_iter().map(|m| (VoterId(m.raft.0), m.node)).collect();
        self.view.clone_from(&view);
        self.grantor.lead(boottime(), view);
    }

    /// To every voter: this node need not know who leads.
    fn ask(&mut self, request: LeaseMessage) {
        let voters: BTreeSet<NodeId> =
            self.directory.members().into_iter().filter(|m| m.voter).map(|m| m.node).collect();
        for voter in voters {
            self.send(voter, request);
        }
    }

    fn send(&mut self, to: NodeId, message: LeaseMessage) {
        if to == self.me {
            if self.local.len() < LOCAL_MAX {
                self.local.push_back(message);
            }
        } else if let Some(body) = encode(message) {
            self.net.datagram(to, ServiceId::LEASE, body);
        }
    }

    fn message(&mut self, from: NodeId, message: LeaseMessage) {
        self.look_at_leadership();
        self.take(from, message);
        self.carry_out();
    }

    fn take(&mut self, from: NodeId, message: LeaseMessage) {
        match message {
            LeaseMessage::Request { member, number } => {
                // A boot asks for itself alone.
                if member.node == from && self.view.is_some() {
                    let live = self.directory.read().is_live(member);
                    self.grantor.request(boottime(), member, number, live, &mut self.out);
                }
            }
            LeaseMessage::Round { term, round } => {
                // Rule 1: answered from the cell that `save_vote` updates, never from Raft's loop.
                let answer = self.cell.lock().confirm(self.voter, term, round);
                if let Some(confirm) = answer {
                    self.send(from, confirm);
                }
            }
            LeaseMessage::Confirm { voter, term, round } => {
                // Rule 14: only the node that has that store now may speak for it.
                if self.nodes.get(&voter) == Some(&from) {
                    self.grantor.confirmed(boottime(), voter, term, round, &mut self.out);
                }
            }
            LeaseMessage::Grant { member, number } => {
                let state = self.holder.granted(member, number);
                self.publish(state.until);
            }
        }
    }

    /// Sends what the grantor wants sent, and handles what this node sent to itself.
    fn carry_out(&mut self) {
        loop {
            for output in std::mem::take(&mut self.out) {
                match output {
                    GrantorOutput::ToVoter(voter, message) => {
                        if let Some(node) = self.nodes.get(&voter).copied() {
                            self.send(node, message);
                        }
                    }
                    GrantorOutput::ToHolder(member, message) => self.send(member.node, message),
                    GrantorOutput::ProposeDead(member) => self.bury(member),
                }
            }
            let Some(message) = self.local.pop_front() else { return };
            self.take(self.me, message);
        }
    }

    fn bury(&mut self, member: Member) {
        let Some(reign) = self.view.as_ref().map(|v| v.term) else { return };
        let death = Death { member, forced: self.confirmed_dead.contains(&member), reign };
        // A full queue loses it: the grantor proposes again after a lease.
        let _ = self.burials.deaths.try_send(death);
    }

    fn publish(&self, until: Mono) {
        if self.shared.until.swap(until.0, Ordering::AcqRel) != until.0 {
            self.renewed.send_replace(until);
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Begin(member, done) => {
                self.member = member;
                self.holder = Holder::new(member, self.timing);
                self.publish(Mono(0));
                let _ = done.send(());
            }
            Order::Release(done) => {
                self.holder.release();
                self.publish(Mono(0));
                let _ = done.send(());
            }
            Order::Confirm(members) if self.view.is_some() => self.confirmed_dead.extend(members),
            Order::Confirm(_) => {}
        }
    }
}
