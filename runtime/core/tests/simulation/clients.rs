//! Clients that write uniquely numbered operations and read, and a driver that creates, moves, extends and deletes.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::{Command, CommandOutcome, ContextSpec, Durability, Nonce};
use onemec_core::group::{Goal, Input, MoveId, MoveOrder};
use onemec_wire::{ContextId, Epoch, GroupId, Member, Seq};

use super::front::{Reply, Request};
use super::world::{Event, MS, Plan, World, say};

const TRIES_MAX: u32 = 8;
/// A client waits so much longer than its deadline before it complains (I7).
const PATIENCE: u64 = 60 * MS;

#[derive(Debug, Clone)]
pub(crate) struct GroupPlan {
    pub(crate) durability: Durability,
    pub(crate) wanted: u8,
    pub(crate) contexts: usize,
    /// Without names only the nonce protects against a second creation.
    pub(crate) named: bool,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    op: u64,
    attempt: u64,
    tries: u32,
    read: bool,
    repeatable: bool,
    finish: bool,
    context: ContextId,
    invoked: u64,
    at: usize,
    boot: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Driver {
    wanted: Vec<(Nonce, GroupPlan)>,
    by_nonce: BTreeMap<u128, GroupId>,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) contexts: Vec<ContextId>,
    clients: Vec<Option<Current>>,
    pub(crate) quiet: bool,
    pub(crate) forced: BTreeSet<GroupId>,
    next_move: u64,
    pub(crate) failed: Option<String>,
}

impl Driver {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            wanted: plan.groups.iter().enumerate().map(|(i, g)| (Nonce(i as u128 + 1), g.clone())).collect(),
            clients: vec![None; plan.clients],
            ..Self::default()
        }
    }

    /// What a command did, as every node applies it.
    pub(crate) fn learned(&mut self, command: &Command, outcome: &CommandOutcome) {
        if let CommandOutcome::Created { contexts, .. } = outcome {
            let new: Vec<ContextId> = contexts.iter().copied().filter(|c| !self.contexts.contains(c)).collect();
            self.contexts.extend(new);
        }
        if let (Command::CreateGroup { nonce, .. }, CommandOutcome::Created { group, .. }) = (command, outcome) {
            match self.by_nonce.get(&nonce.0) {
                Some(known) if known != group => {
                    self.failed = Some(format!("I3: {nonce:?} made {known} and {group}"));
                }
                Some(_) => {}
                None => {
                    self.by_nonce.insert(nonce.0, *group);
                    self.groups.push(*group);
                    self.wanted.retain(|(n, _)| n != nonce);
                }
            }
        }
    }
}

fn spec(nonce: u64, i: usize, home: Member) -> ContextSpec {
    let keys = vec![Key::global(format!("g{nonce}-{i}")), Key::at(home.node, format!("h{nonce}-{i}"))];
    ContextSpec { kind: ContextKind::AE, keys, pinned: false, bundle: None }
}

impl World {
    pub(crate) fn some_up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|n| self.nodes[*n].up).collect();
        if up.is_empty() { None } else { Some(up[self.rng.index(up.len())]) }
    }

    /// The one who orders things.
    pub(crate) fn drive(&mut self) {
        if let Some(failed) = self.driver.failed.take() {
            self.checker.fail(failed);
        }
        if self.driver.quiet {
            return;
        }
        self.after(self.plan.move_every_ms.min(300) * MS, Event::Driver);
        self.create_groups();
        self.drop_empty();
        if self.healed.is_none() && self.rng.permille(self.plan.regroup_permille) {
            self.order_regroup();
        }
        if self.now >= self.driver.next_move && self.healed.is_none() {
            self.driver.next_move = self.now + self.plan.move_every_ms * MS;
            self.order_move();
            if self.rng.permille(60) {
                self.add_context();
            }
            if self.rng.permille(self.plan.regroup_permille / 4) {
                self.create_empty();
            }
            if self.rng.permille(150) {
                self.cancel_move();
            }
        }
    }

    fn create_groups(&mut self) {
        for (nonce, plan) in self.driver.wanted.clone() {
            let Some(n) = self.some_up() else { return };
            let mut live: Vec<Member> = self.nodes[n].dir.live().collect();
            let size = usize::from(plan.wanted).max(plan.durability.members_min());
            if live.len() < size {
                continue;
            }
            let turn = self.rng.index(live.len());
            live.rotate_left(turn);
            live.truncate(size);
            let mut contexts: Vec<ContextSpec> = (0..plan.contexts).map(|i| spec(nonce.0 as u64, i, live[0])).collect();
            if !plan.named {
                contexts.iter_mut().for_each(|c| c.keys.clear());
            }
            let command = Command::CreateGroup {
                nonce,
                primary: live[0],
                in_sync: live.iter().copied().collect(),
                durability: plan.durability,
                replicas_wanted: plan.wanted,
                contexts,
            };
            self.propose(n, command);
        }
    }

    fn some_group(&mut self) -> Option<GroupId> {
        let n = self.some_up()?;
        let groups: Vec<GroupId> = self.nodes[n].dir.groups().map(|(g, _)| g).collect();
        if groups.is_empty() { None } else { Some(groups[self.rng.index(groups.len())]) }
    }

    /// Mostly one that is there.
    fn some_context(&mut self) -> Option<ContextId> {
        let n = self.some_up()?;
        let there: Vec<ContextId> = self.nodes[n].dir.contexts_after(None).map(|(c, _)| c).collect();
        let known = &self.driver.contexts;
        let from = if there.is_empty() || self.rng.permille(50) { known } else { &there };
        if from.is_empty() { None } else { Some(from[self.rng.index(from.len())]) }
    }

    fn leader_of(&self, group: GroupId) -> Option<(usize, Epoch)> {
        (0..self.nodes.len())
            .filter(|n| self.nodes[*n].up && self.nodes[*n].paused_until.is_none_or(|u| u <= self.now))
            .filter_map(|n| Some((n, self.nodes[n].reps.get(&group)?.machine.leads()?)))
            .max_by_key(|(_, e)| *e)
    }

    fn order_move(&mut self) {
        let (Some(group), Some(to)) = (self.some_group(), self.some_up()) else { return };
        let Some((n, _)) = self.leader_of(group) else { return };
        let id = MoveId(self.fresh());
        let target = self.nodes[to].member;
        let catch_up_until = self.clock(n) + std::time::Duration::from_millis(self.rng.between(50, 2_000));
        say!(self, "n{} {group} is to move to {target} ({id:?})", n + 1);
        self.count("moves ordered");
        let limit = self.now + 12_000 * MS;
        if let Some(rep) = self.nodes[n].reps.get_mut(&group) {
            rep.moves.insert(id, limit);
        }
        self.step(
            n,
            group,
            Input::Move(MoveOrder { id, goal: Goal::Hand(target), attachment: None, until: catch_up_until }),
            &[],
        );
    }

    fn cancel_move(&mut self) {
        for n in 0..self.nodes.len() {
            if !self.nodes[n].up || self.nodes[n].paused_until.is_some_and(|u| u > self.now) {
                continue;
            }
            let found = self.nodes[n].reps.iter().find_map(|(g, r)| Some((*g, *r.moves.first_key_value()?.0)));
            if let Some((group, id)) = found {
                return self.step(n, group, Input::CancelMove(id), &[]);
            }
        }
    }

    fn add_context(&mut self) {
        let Some(group) = self.some_group() else { return };
        let Some((n, _)) = self.leader_of(group) else { return };
        let nonce = self.fresh() + 1_000;
        let Some(placement) = self.nodes[n].dir.group(group) else { return };
        let spec = spec(nonce, 0, placement.primary);
        let command = Command::AddContext { base: placement.base(group), nonce: Nonce(u128::from(nonce)), spec };
        self.propose(n, command);
    }

    /// An operator makes the node with the longest log lead what nobody can lead any more (rule 6).
    pub(crate) fn force_the_hopeless(&mut self) {
        let Some((leader, _)) = (0..self.nodes.len())
            .filter(|n| self.nodes[*n].raft.leads())
            .map(|n| (n, self.nodes[n].raft.term))
            .max_by_key(|(_, t)| *t)
        else {
            return;
        };
        let node = &self.nodes[leader];
        let hopeless: Vec<GroupId> =
            node.dir.groups().filter(|(_, p)| !node.dir.is_live(p.primary)).map(|(g, _)| g).collect();
        for group in hopeless {
            let best = (0..self.nodes.len())
                .filter(|n| self.nodes[leader].dir.is_live(self.nodes[*n].member))
                .max_by_key(|n| {
                    let at = self.nodes[*n].reps.get(&group).map(|r| r.machine.log().last_position());
                    at.map_or((Epoch(0), Seq(0)), |p| (p.epoch, p.seq))
                });
            let Some(best) = best else { continue };
            let Some(base) = self.nodes[leader].dir.group(group).map(|p| p.base(group)) else { continue };
            say!(self, "an operator forces {group} to n{}", best + 1);
            self.count("forced");
            self.driver.forced.insert(group);
            let contexts = self.nodes[leader].dir.group(group).map(|p| p.contexts.clone()).unwrap_or_default();
            self.checker.forced(group, &contexts);
            let primary = self.nodes[best].member;
            self.propose(leader, Command::Force { base, primary });
        }
    }

    // ---- clients ---------------------------------------------------------------------------------------------------

    pub(crate) fn client_acts(&mut self, i: usize) {
        if self.driver.clients[i].is_none() {
            if self.driver.quiet {
                return;
            }
            let Some(context) = self.some_context() else {
                return self.after(50 * MS, Event::Client { i });
            };
            let read = self.rng.permille(300);
            let finish = self.wants_to_finish(context, read);
            let current = Current {
                op: self.fresh(),
                attempt: 0,
                tries: 0,
                read,
                repeatable: !read && self.rng.permille(500),
                finish,
                context,
                invoked: self.now,
                at: 0,
                boot: 0,
            };
            self.driver.clients[i] = Some(current);
        }
        self.try_once(i);
    }

    fn wants_to_finish(&mut self, context: ContextId, read: bool) -> bool {
        if read || self.healed.is_some() || !self.rng.permille(4) {
            return false;
        }
        let place = self.nodes.iter().find_map(|n| n.dir.group(n.dir.context(context)?.group));
        // The last context of a group goes more rarely: then the group goes.
        let last = place.is_none_or(|p| p.contexts.len() == 1);
        !last || self.rng.permille(200)
    }

    fn try_once(&mut self, i: usize) {
        let attempt = self.fresh();
        let at = self.rng.index(self.nodes.len());
        let patience = self.rng.between(60, 1_500) * MS;
        let boot = self.nodes[at].boot;
        let Some(c) = &mut self.driver.clients[i] else { return };
        c.attempt = attempt;
        c.tries += 1;
        c.at = at;
        c.boot = boot;
        if c.tries == 1 {
            c.invoked = self.now;
        }
        let c = *c;
        let request = Request {
            id: 0,
            client: i,
            attempt,
            op: c.op,
            read: c.read,
            repeatable: c.repeatable,
            finish: c.finish,
            context: c.context,
            group: GroupId::default(),
            origin: at,
            origin_boot: Member::default(),
            deadline: self.now + patience,
            park_until: 0,
            hops: 0,
            epoch: Epoch(0),
            received: 0,
            waits: 0,
        };
        self.count("requests");
        self.after(100_000, Event::Request { n: at, request });
        self.after(patience + PATIENCE, Event::ClientTimeout { i, attempt });
    }

    pub(crate) fn client_timeout(&mut self, i: usize, attempt: u64) {
        let Some(c) = self.driver.clients[i].filter(|c| c.attempt == attempt) else { return };
        let node = &self.nodes[c.at];
        let undisturbed = node.up && node.boot == c.boot && node.paused_until.is_none_or(|u| u + 3_000 * MS < self.now);
        if undisturbed {
            self.checker.fail(format!("I7: op {} attempt {attempt} at n{} got no answer", c.op, c.at + 1));
        }
        self.client_answered(i, attempt, Reply::Unknown);
    }

    pub(crate) fn client_answered(&mut self, i: usize, attempt: u64, answer: Reply) {
        let Some(c) = self.driver.clients[i].filter(|c| c.attempt == attempt) else { return };
        let again = match answer {
            Reply::Done { place } => {
                self.count("acknowledged");
                self.checker.client_done(c.context, c.op, place, c.invoked, self.now);
                false
            }
            Reply::Read { len } => {
                self.count("reads");
                self.checker.client_read(c.context, len, c.invoked, self.now);
                false
            }
            Reply::NotApplied => {
                self.count("503");
                self.checker.refused(c.context, attempt);
                true
            }
            Reply::Unknown => {
                self.count("504");
                c.repeatable || c.read
            }
            Reply::Gone | Reply::Finished => {
                self.count("gone");
                self.checker.client_gone(c.context, answer);
                false
            }
        };
        let pause = self.rng.between(2, 60) * MS;
        if let Some(c) = &mut self.driver.clients[i] {
            c.attempt = 0;
        }
        if !again || c.tries >= TRIES_MAX {
            self.driver.clients[i] = None;
        }
        self.after(pause, Event::Client { i });
    }
}
