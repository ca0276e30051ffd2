//! Regroups as the executor makes them (rule 16): seal the group that gives, put the states of its contexts into the log of
//! the group that takes, let that one propose. A new group for contexts that part begins empty, its log at a given place.

use std::time::Duration;

use onemec_core::directory::{Base, Command, Nonce};
use onemec_core::group::{Goal, Input, LogShape, MoveId, MoveOrder, Position, Replica};
use onemec_wire::{ContextId, Epoch, GroupId, Seq};

use super::node::Snapshot;
use super::toy::{Rec, Toy, Wish};
use super::world::{MS, World, say};

/// A regroup under way at a node.
#[derive(Debug, Clone)]
pub(crate) struct Regroup {
    from: GroupId,
    into: GroupId,
    contexts: Vec<ContextId>,
}

impl World {
    /// Some contexts of a group are to join another one; a group whose leader leads no other follows another one first.
    pub(crate) fn order_regroup(&mut self) {
        let mut led = Vec::new();
        for (n, node) in self.nodes.iter().enumerate() {
            let awake = node.up && node.paused_until.is_none_or(|u| u <= self.now);
            let open = node.reps.iter().filter(|(_, r)| awake && r.machine.is_open() && r.moves.is_empty());
            led.extend(open.filter_map(|(g, r)| Some((n, *g, r.machine.placement()?.clone()))));
        }
        if led.len() < 2 {
            return;
        }
        let (n, from, giving) = led[self.rng.index(led.len())].clone();
        let others: Vec<_> =
            led.into_iter().filter(|(_, g, p)| *g != from && p.durability == giving.durability).collect();
        let here: Vec<_> = others.iter().filter(|(other, _, _)| *other == n).cloned().collect();
        let mut contexts = giving.contexts;
        if others.is_empty() || contexts.is_empty() {
            return;
        }
        let Some((_, into, _)) = here.get(self.rng.index(here.len().max(1))).cloned() else {
            let (_, _, there) = &others[self.rng.index(others.len())];
            let (id, until) = (MoveId(self.fresh()), self.clock(n) + Duration::from_millis(800));
            let goal = Goal::Hand(there.primary);
            self.count("groups that follow");
            self.expect_end(n, from, id);
            return self.step(n, from, Input::Move(MoveOrder { id, goal, attachment: None, until }), &[]);
        };
        if self.rng.permille(500) {
            contexts.truncate(1);
        }
        let id = MoveId(self.fresh());
        let until = self.clock(n) + Duration::from_millis(self.rng.between(10, 400));
        say!(self, "n{} {contexts:?} of {from} are to join {into} ({id:?})", n + 1);
        self.count("regroups ordered");
        self.nodes[n].regroups.insert(id, Regroup { from, into, contexts });
        self.expect_end(n, from, id);
        self.step(n, from, Input::Move(MoveOrder { id, goal: Goal::Seal, attachment: None, until }), &[]);
    }

    fn expect_end(&mut self, n: usize, group: GroupId, id: MoveId) {
        let limit = self.now + 12_000 * MS;
        if let Some(rep) = self.nodes[n].reps.get_mut(&group) {
            rep.moves.insert(id, limit);
        }
    }

    /// The giving group is sealed: its contexts' states go into the other log.
    pub(crate) fn sealed(&mut self, n: usize, from: GroupId, id: MoveId, base: Base) {
        let Some(plan) = self.nodes[n].regroups.get(&id).cloned() else { return };
        for context in &plan.contexts {
            let lease = self.lease_valid(n);
            let Some(state) = self.nodes[n].reps.get(&from).map(|r| r.toy.state_of(*context)) else { return };
            self.wake(n, plan.into, &Input::Tick);
            let at = self.nodes[n].reps.get(&plan.into).and_then(|r| r.machine.next_place().ok()).filter(|_| lease);
            let (Some(at), Some(rep)) = (at, self.nodes[n].reps.get_mut(&plan.into)) else {
                return self.regroup_failed(n, id);
            };
            let wish = Wish::Join(state);
            rep.mem.records.push(Rec { at, context: *context, op: 0, attempt: 0, repeatable: false, wish });
            rep.unsynced = true;
            self.step(n, plan.into, Input::Appended, &[]);
            self.want_sync(n, plan.into);
        }
        let until = self.clock(n) + Duration::from_millis(self.rng.between(20, 400));
        let goal = Goal::Regroup { from: base, contexts: plan.contexts };
        self.expect_end(n, plan.into, id);
        self.step(n, plan.into, Input::Move(MoveOrder { id, goal, attachment: None, until }), &[]);
    }

    /// The other group thaws. What was copied is replaced by whatever joins later.
    pub(crate) fn regroup_failed(&mut self, n: usize, id: MoveId) {
        if let Some(plan) = self.nodes[n].regroups.remove(&id) {
            self.count("regroups failed");
            self.step(n, plan.from, Input::CancelMove(id), &[]);
        }
    }

    /// A new group for contexts that part.
    pub(crate) fn create_empty(&mut self) {
        let Some(n) = self.some_up() else { return };
        let led = self.nodes[n].reps.iter().filter(|(_, r)| r.machine.is_open());
        let ends: Vec<(GroupId, Seq)> = led.map(|(g, r)| (*g, r.mem.last())).collect();
        if ends.is_empty() {
            return;
        }
        let (group, end) = ends[self.rng.index(ends.len())];
        let Some(p) = self.nodes[n].dir.group(group) else { return };
        let command = Command::CreateEmpty {
            nonce: Nonce(u128::from(self.fresh) << 64 | 1),
            primary: self.nodes[n].member,
            durability: p.durability,
            replicas_wanted: p.replicas_wanted,
            begin: Seq(end.0 + 10),
        };
        self.fresh();
        self.count("empty groups");
        self.propose(n, command);
    }

    /// Its creator has its beginning, before the machine hears of it.
    pub(crate) fn begin_empty(&mut self, n: usize, group: GroupId, begin: Seq) {
        let base = Position { epoch: Epoch(0), seq: begin };
        let (now, me) = (self.clock(n), self.nodes[n].me(group));
        let mem = Snapshot { base, toy: Toy::beginning_at(begin), records: Vec::new() };
        let machine = Replica::new(me, self.plan.timing, LogShape::recovered(base, [], false), Epoch(0), now);
        self.add_rep(n, group, machine, mem);
        self.want_sync(n, group);
    }

    /// Groups that nothing joined go.
    pub(crate) fn drop_empty(&mut self) {
        let late = self.healed.is_some();
        for n in 0..self.nodes.len() {
            if !self.nodes[n].up || !(late || self.rng.permille(20)) {
                continue;
            }
            let me = self.nodes[n].member;
            let empty = self.nodes[n].dir.groups().find(|(_, p)| p.primary == me && p.contexts.is_empty());
            if let Some(base) = empty.map(|(g, p)| p.base(g)) {
                self.propose(n, Command::DropEmpty { base });
            }
        }
    }
}
