//! A node: what its process keeps, what its disk keeps, how it starts, dies and comes back.

use std::collections::{BTreeMap, VecDeque};

use onemec_core::directory::{Command, CommandOutcome, Directory, StoreId};
use onemec_core::group::{LogShape, Me, MoveId, Position, Replica};
use onemec_core::lease::{Grantor, Holder, LeaderView, VoteCell, VoterId};
use onemec_core::time::Mono;
use onemec_wire::{Epoch, GroupId, Incarnation, Member, NodeId, Seq};

use super::front::{Open, Request};
use super::raft::Raft;
use super::regroup::Regroup;
use super::rng::Rng;
use super::toy::{Rec, Toy};
use super::world::{Event, LEASE, MS, World, say};

/// A log: a snapshot and the records after it. In memory or on a disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) base: Position,
    pub(crate) toy: Toy,
    pub(crate) records: Vec<Rec>,
}

impl Snapshot {
    pub(crate) fn last(&self) -> Seq {
        self.records.last().map_or(self.base.seq, |r| r.at.seq)
    }
    pub(crate) fn get(&self, seq: Seq) -> Option<&Rec> {
        let i = seq.0.checked_sub(self.base.seq.0 + 1)?;
        self.records.get(i as usize)
    }
    pub(crate) fn truncate(&mut self, seq: Seq) {
        self.records.retain(|r| r.at.seq <= seq);
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DiskGroup {
    pub(crate) image: Snapshot,
    /// The newest epoch seen (`NoteEpoch`), written before anything that follows.
    pub(crate) seen: Epoch,
}

/// An operation that has its place and waits to be committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waiting {
    pub(crate) request: Request,
    pub(crate) epoch: Epoch,
}

/// A group's replica with its store and its machine.
pub(crate) struct Rep {
    pub(crate) machine: Replica,
    pub(crate) mem: Snapshot,
    /// The machine's state: everything committed here.
    pub(crate) toy: Toy,
    pub(crate) gate: Option<Epoch>,
    pub(crate) waiting: BTreeMap<Seq, Waiting>,
    pub(crate) parked: VecDeque<Request>,
    pub(crate) finishing: Vec<(onemec_wire::ContextId, Request)>,
    pub(crate) syncing: bool,
    /// Something was stored or cut since the last sync was asked for.
    pub(crate) unsynced: bool,
    pub(crate) moves: BTreeMap<MoveId, u64>,
    pub(crate) tick_at: Mono,
    /// Which executor of this boot it is: what a former one asked the disk for is answered to nobody.
    pub(crate) life: u64,
    /// Out of memory: the machine is kept as it is, and hears only what wakes it.
    pub(crate) rests: bool,
}

/// A command on its way to the directory's leader.
#[derive(Debug, Clone)]
pub(crate) struct Proposal {
    pub(crate) from: usize,
    pub(crate) id: u64,
    pub(crate) command: Command,
}

pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) up: bool,
    pub(crate) paused_until: Option<u64>,
    /// One per start of the process.
    pub(crate) boot: u64,
    pub(crate) member: Member,
    drift_ppm: i64,
    clock_from: u64,
    pub(crate) slow_disk_until: u64,
    // On the disk.
    pub(crate) store: StoreId,
    pub(crate) disk: BTreeMap<GroupId, DiskGroup>,
    pub(crate) raft: Raft,
    pub(crate) cell: VoteCell,
    pub(crate) dir: Directory,
    pub(crate) voter: VoterId,
    // In memory.
    pub(crate) holder: Holder,
    pub(crate) grantor: Grantor,
    pub(crate) view: Option<LeaderView>,
    pub(crate) applying: bool,
    pub(crate) proposers: BTreeMap<usize, (usize, u64, u64)>,
    pub(crate) asked: BTreeMap<u64, (GroupId, Command)>,
    pub(crate) reps: BTreeMap<GroupId, Rep>,
    pub(crate) open: BTreeMap<u64, Open>,
    pub(crate) node_up_at: u64,
    /// Regroups under way: what joins what.
    pub(crate) regroups: BTreeMap<MoveId, Regroup>,
}

impl Node {
    pub(crate) fn new(i: usize, rng: &mut Rng) -> Self {
        let id = NodeId(i as u64 + 1);
        let member = Member { node: id, incarnation: Incarnation(0) };
        Self {
            id,
            up: false,
            paused_until: None,
            boot: 0,
            member,
            drift_ppm: rng.between(0, 10_000) as i64 - 5_000,
            clock_from: 0,
            slow_disk_until: 0,
            store: StoreId(rng.next()),
            disk: BTreeMap::new(),
            raft: Raft::new(i),
            cell: VoteCell::default(),
            dir: Directory::new(1),
            voter: VoterId(id.0),
            holder: Holder::new(member, LEASE),
            grantor: Grantor::new(LEASE),
            view: None,
            applying: false,
            proposers: BTreeMap::new(),
            asked: BTreeMap::new(),
            reps: BTreeMap::new(),
            open: BTreeMap::new(),
            node_up_at: 0,
            regroups: BTreeMap::new(),
        }
    }

    pub(crate) fn clock(&self, now: u64) -> Mono {
        let passed = (now + self.clock_from) as i128;
        Mono((passed + passed * i128::from(self.drift_ppm) / 1_000_000) as u64)
    }

    pub(crate) fn me(&self, group: GroupId) -> Me {
        Me { group, member: self.member, store: self.store }
    }
}

impl World {
    /// The process starts with what its disk holds.
    pub(crate) fn start_node(&mut self, n: usize) {
        let now = self.now;
        let jitter = self.rng.below(5 * MS);
        let machine_restarted = self.rng.permille(300);
        let offset = self.rng.below(1_000_000 * MS);
        let node = &mut self.nodes[n];
        node.up = true;
        node.paused_until = None;
        if machine_restarted || node.boot == 0 {
            node.clock_from = offset; // CLOCK_BOOTTIME begins anew
        }
        node.boot += 1;
        let boot = node.boot;
        node.view = None;
        node.applying = false;
        node.proposers.clear();
        node.raft.restarted(now, &mut self.rng);
        self.incarnate(n, None);
        self.connect_all(n);
        self.after(jitter, Event::Tick { n, boot });
    }

    /// A new incarnation: of a new process, or of one that was declared dead and kept its memory.
    pub(crate) fn incarnate(&mut self, n: usize, kept: Option<BTreeMap<GroupId, Snapshot>>) {
        let number = self.fresh();
        let now = self.clock(n);
        let node = &mut self.nodes[n];
        node.member = Member { node: node.id, incarnation: Incarnation(number) };
        node.holder = Holder::new(node.member, LEASE);
        if kept.is_none() {
            // A node that is merely declared dead leads on, if it leads: its rounds are numbered on.
            node.grantor = Grantor::new(LEASE);
            node.view = None;
        }
        node.asked.clear();
        node.reps.clear();
        node.open.clear();
        node.regroups.clear();
        node.node_up_at = 0;
        let in_memory = kept.is_some();
        let logs: Vec<(GroupId, Snapshot, Epoch)> = node
            .disk
            .iter()
            .map(|(g, d)| {
                let log = kept.as_ref().and_then(|k| k.get(g)).unwrap_or(&d.image).clone();
                (*g, log, d.seen)
            })
            .collect();
        for (group, log, seen) in logs {
            // What a new process recovers it rewrites and syncs before it trusts it; what stayed in memory is synced later.
            let shape = LogShape::recovered(log.base, log.records.iter().map(|r| r.at), !in_memory);
            if !in_memory && let Some(d) = self.nodes[n].disk.get_mut(&group) {
                d.image = log.clone();
            }
            let me = self.nodes[n].me(group);
            let machine = Replica::new(me, self.plan.timing, shape, seen, now);
            self.add_rep(n, group, machine, log);
        }
        say!(self, "n{} starts as {}", n + 1, self.nodes[n].member);
        self.count("incarnations");
        let groups: Vec<GroupId> = self.nodes[n].reps.keys().copied().collect();
        for group in groups {
            self.deliver_placement(n, group);
            self.want_sync(n, group);
        }
    }

    /// A new executor around the store of one that crashed.
    pub(crate) fn remake_executor(&mut self, n: usize, group: GroupId) {
        if !self.nodes[n].reps.contains_key(&group) {
            return;
        }
        say!(self, "n{} {group} crashes", n + 1);
        self.count("executors crashed");
        self.fail_group(n, group);
        let now = self.clock(n);
        let node = &mut self.nodes[n];
        let (seen, me) = (node.disk.get(&group).map_or(Epoch(0), |d| d.seen), node.me(group));
        let Some(rep) = node.reps.remove(&group) else { return };
        let at = node.dir.group(group).map_or_else(Default::default, |p| (p.epoch, p.version));
        let (mem, life, syncing) = (rep.mem, rep.life + 1, rep.syncing);
        let shape = LogShape::recovered(mem.base, mem.records.iter().map(|r| r.at), false);
        let machine = Replica::new(me, self.plan.timing, shape, seen, now).after_crash(at);
        // What the former asked of the directory and of the disk is answered to nobody.
        node.asked.retain(|_, (g, _)| *g != group);
        self.add_rep(n, group, machine, mem);
        if let Some(rep) = self.nodes[n].reps.get_mut(&group) {
            (rep.life, rep.syncing) = (life, syncing);
        }
        self.deliver_placement(n, group);
        self.want_sync(n, group);
    }

    pub(crate) fn add_rep(&mut self, n: usize, group: GroupId, machine: Replica, mem: Snapshot) {
        let toy = mem.toy.clone();
        let rep = Rep {
            machine,
            mem,
            toy,
            gate: None,
            waiting: BTreeMap::new(),
            parked: VecDeque::new(),
            finishing: Vec::new(),
            syncing: false,
            unsynced: true,
            moves: BTreeMap::new(),
            tick_at: Mono(0),
            life: 0,
            rests: false,
        };
        self.nodes[n].reps.insert(group, rep);
        self.nodes[n].disk.entry(group).or_default();
    }

    /// The directory declared this boot dead although its process runs: it goes on as a new one (rule 4), with its memory.
    pub(crate) fn reborn(&mut self, n: usize) {
        let kept = self.nodes[n].reps.iter().map(|(g, r)| (*g, r.mem.clone())).collect();
        say!(self, "{} was declared dead", self.nodes[n].member);
        self.fail_everything(n);
        self.cut_connections_of(n);
        self.nodes[n].boot += 1; // syncs and timers of the old one come to nothing
        let boot = self.nodes[n].boot;
        self.nodes[n].applying = false;
        self.incarnate(n, Some(kept));
        self.after(MS, Event::Tick { n, boot });
    }

    /// kill -9 or a power cut. With `lose_disk` the node comes back with a new, empty data folder.
    pub(crate) fn crash(&mut self, n: usize, lose_disk: bool) {
        if !self.nodes[n].up {
            return;
        }
        say!(self, "n{} crashes{}", n + 1, if lose_disk { " and loses its disk" } else { "" });
        self.count(if lose_disk { "disks lost" } else { "crashes" });
        self.cut_connections_of(n);
        let chance = self.rng.below(1000);
        let keep = self.rng.below(20);
        let node = &mut self.nodes[n];
        node.up = false;
        node.paused_until = None;
        for (group, rep) in std::mem::take(&mut node.reps) {
            let Some(disk) = node.disk.get_mut(&group) else { continue };
            // Some of what was not synced may have reached the disk all the same.
            let same = rep.mem.base == disk.image.base && rep.mem.records.starts_with(&disk.image.records);
            if same && chance < 500 {
                let more = (disk.image.records.len() + keep as usize).min(rep.mem.records.len());
                disk.image.records = rep.mem.records[..more].to_vec();
            }
        }
        node.open.clear();
        node.asked.clear();
        if lose_disk {
            node.disk.clear();
            node.store = StoreId(self.rng.next());
            node.voter = VoterId(self.rng.next());
            node.dir = Directory::new(1);
            node.cell = VoteCell::default();
            node.raft = Raft::new(n);
            if self.electorate.voters.contains(&n) && !self.electorate.lost.contains(&n) {
                self.electorate.lost.push(n);
            }
            for other in 0..self.nodes.len() {
                self.nodes[other].raft.forget_peer(n);
            }
        }
    }

    pub(crate) fn restart(&mut self, n: usize) {
        if !self.nodes[n].up {
            self.start_node(n);
        }
    }

    /// Rule 4: `NodeUp` is proposed until it is applied. The lock on the data folder was taken over: the old process is gone.
    pub(crate) fn announce(&mut self, n: usize) {
        let node = &self.nodes[n];
        if node.dir.is_live(node.member) || self.now < node.node_up_at {
            return;
        }
        let command = Command::NodeUp { member: node.member, store: node.store, info: BTreeMap::new() };
        self.nodes[n].node_up_at = self.now + 200 * MS;
        self.propose(n, command);
    }

    pub(crate) fn on_decided(&mut self, n: usize, id: u64, outcome: &CommandOutcome) {
        let Some((group, command)) = self.nodes[n].asked.remove(&id) else { return };
        if let CommandOutcome::Refused(_) = outcome
            && let Some(base) = base_of(&command)
        {
            self.step(n, group, onemec_core::group::Input::Refused(base), &[]);
        }
    }
}

pub(crate) fn base_of(command: &Command) -> Option<onemec_core::directory::Base> {
    match command {
        Command::AddContext { base, .. }
        | Command::DeleteContext { base, .. }
        | Command::SetInSync { base, .. }
        | Command::SetSynced { base, .. }
        | Command::Transfer { base, .. }
        | Command::Abort { base }
        | Command::Regroup { into: base, .. }
        | Command::Force { base, .. } => Some(*base),
        _ => None,
    }
}
