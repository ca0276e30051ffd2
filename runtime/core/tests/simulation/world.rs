//! The cluster: nodes, links, disks and clocks under one queue of events. Nothing here knows real time or chance but
//! through the seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use onemec_core::directory::Durability;
use onemec_core::group::GroupTiming;
use onemec_core::lease::{LeaseMessage, LeaseTiming};
use onemec_core::time::Mono;
use onemec_wire::{GroupId, Member, NodeId, Seq};

use super::checker::Checker;
use super::clients::{Driver, GroupPlan};
use super::front::Request;
use super::net::{Net, Packet};
use super::node::{Node, Snapshot};
use super::raft::{Electorate, RaftMessage};
use super::rng::Rng;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const LEASE: LeaseTiming = LeaseTiming::ONE_SITE;

#[derive(Debug)]
pub(crate) enum Event {
    /// A process's own clockwork.
    Tick {
        n: usize,
        boot: u64,
    },
    /// Something arrives on a lane of a connection.
    Lane {
        from: usize,
        to: usize,
        connection: u64,
        sender: Member,
        packet: Packet,
    },
    Datagram {
        from: usize,
        to: usize,
        message: LeaseMessage,
    },
    Raft {
        from: usize,
        to: usize,
        message: RaftMessage,
    },
    Apply {
        n: usize,
        boot: u64,
    },
    Proposal {
        to: usize,
        proposal: super::node::Proposal,
    },
    Decided {
        to: usize,
        id: u64,
        outcome: onemec_core::directory::CommandOutcome,
    },
    SyncDone {
        n: usize,
        boot: u64,
        group: GroupId,
        life: u64,
        cuts: u64,
        upto: Seq,
        image: Snapshot,
    },
    HistoryArrives {
        from: usize,
        to: usize,
        connection: u64,
        sender: Member,
        group: GroupId,
        epoch: u64,
        image: Snapshot,
    },
    HistoryEnds {
        n: usize,
        boot: u64,
        group: GroupId,
        to: Member,
        ok: Option<onemec_core::group::Position>,
    },
    ConnectionDies {
        a: usize,
        b: usize,
        connection: u64,
    },
    Reconnect {
        a: usize,
        b: usize,
    },
    Request {
        n: usize,
        request: Request,
    },
    /// A request that waited for the directory is looked at again.
    Again {
        n: usize,
        boot: u64,
        request: Request,
    },
    GiveUp {
        n: usize,
        boot: u64,
        id: u64,
    },
    Client {
        i: usize,
    },
    ClientTimeout {
        i: usize,
        attempt: u64,
    },
    ClientAnswer {
        i: usize,
        attempt: u64,
        answer: super::front::Reply,
    },
    Driver,
    Fault,
    ExecutorCrashes {
        n: usize,
        boot: u64,
        group: GroupId,
    },
    Restart {
        n: usize,
    },
    Unblock {
        a: usize,
        b: usize,
    },
    Heal,
    Check,
}

impl Event {
    /// The node whose process must run for it.
    fn needs(&self) -> Option<usize> {
        match self {
            Self::Tick { n, .. }
            | Self::Apply { n, .. }
            | Self::SyncDone { n, .. }
            | Self::HistoryEnds { n, .. }
            | Self::ExecutorCrashes { n, .. }
            | Self::Request { n, .. }
            | Self::Again { n, .. }
            | Self::GiveUp { n, .. } => Some(*n),
            Self::Lane { to, .. }
            | Self::Datagram { to, .. }
            | Self::Raft { to, .. }
            | Self::Proposal { to, .. }
            | Self::Decided { to, .. }
            | Self::HistoryArrives { to, .. } => Some(*to),
            _ => None,
        }
    }
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}
impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What a seed decides before the start.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) groups: Vec<GroupPlan>,
    pub(crate) loss_permille: u64,
    pub(crate) delay_us_max: u64,
    pub(crate) fault_every_ms: u64,
    pub(crate) move_every_ms: u64,
    pub(crate) regroup_permille: u64,
    pub(crate) storm_ms: u64,
    pub(crate) clients: usize,
    pub(crate) timing: GroupTiming,
    /// Faults, in permille each: see `faults.rs`.
    pub(crate) weights: [u64; 10],
}

impl Plan {
    pub(crate) fn from_seed(rng: &mut Rng) -> Self {
        let nodes = rng.between(3, 5) as usize;
        let regroup_permille = if rng.permille(600) { rng.between(100, 900) } else { 0 };
        // Only groups of one durability regroup.
        let alike = regroup_permille > 0 && rng.permille(800);
        let first = rng.below(5);
        let groups = (0..rng.between(2, 4))
            .map(|_| GroupPlan {
                durability: match if alike { first } else { rng.below(5) } {
                    0 => Durability::Memory,
                    1 | 2 => Durability::Replicated,
                    _ => Durability::Disk,
                },
                wanted: rng.between(2, 3) as u8,
                contexts: rng.between(1, 3) as usize,
                named: rng.permille(600),
            })
            .collect();
        let timing = GroupTiming {
            window_max: if rng.permille(300) { 4 } else { 8_192 },
            ready_lag_max: if rng.permille(300) { 0 } else { 64 },
            keep_copy: std::time::Duration::from_millis(rng.between(1_500, 8_000)),
            ..GroupTiming::default()
        };
        let mut weights = [0; 10];
        for w in &mut weights {
            *w = if rng.permille(600) { rng.between(1, 10) } else { 0 };
        }
        Self {
            nodes,
            groups,
            loss_permille: rng.below(4) * 30,
            delay_us_max: [300, 2_000, 20_000, 60_000][rng.index(4)],
            fault_every_ms: rng.between(100, 1_200),
            move_every_ms: rng.between(60, 700),
            regroup_permille,
            storm_ms: rng.between(2_000, 6_000),
            clients: rng.between(2, 4) as usize,
            timing,
            weights,
        }
    }
}

pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Scheduled>>,
    number: u64,
    pub(crate) plan: Plan,
    pub(crate) nodes: Vec<Node>,
    pub(crate) net: Net,
    pub(crate) electorate: Electorate,
    pub(crate) driver: Driver,
    pub(crate) checker: Checker,
    pub(crate) healed: Option<u64>,
    pub(crate) done: bool,
    /// Numbers for requests, proposals, moves, nonces.
    pub(crate) fresh: u64,
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    pub(crate) talk: bool,
    pub(crate) counts: BTreeMap<&'static str, u64>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) hash: u64,
    pub(crate) events: u64,
    pub(crate) steps: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) violation: Option<String>,
}

macro_rules! say {
    ($w:expr, $($arg:tt)*) => { if $w.talk { println!("{:>11.3} {}", $w.now as f64 / 1e6, format_args!($($arg)*)); } };
}
pub(crate) use say;

impl World {
    pub(crate) fn new(seed: u64, talk: bool) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::from_seed(&mut rng);
        let voters = if plan.nodes >= 5 && rng.permille(500) { 5 } else { 3 };
        let nodes = (0..plan.nodes).map(|i| Node::new(i, &mut rng)).collect();
        let electorate = Electorate { nodes: plan.nodes, voters: (0..voters).collect(), lost: Vec::new() };
        let mut world = Self {
            now: 0,
            queue: BinaryHeap::new(),
            number: 0,
            net: Net::new(plan.nodes),
            nodes,
            electorate,
            driver: Driver::new(&plan),
            checker: Checker::default(),
            healed: None,
            done: false,
            fresh: 0,
            hash: 0xcbf2_9ce4_8422_2325,
            events: 0,
            steps: 0,
            talk,
            counts: BTreeMap::new(),
            plan,
            rng,
        };
        say!(world, "plan {:?}", world.plan);
        for n in 0..world.nodes.len() {
            world.start_node(n);
        }
        let storm = world.plan.storm_ms * MS;
        world.at(2_500 * MS, Event::Driver);
        world.at(3_000 * MS, Event::Fault);
        world.at(3_000 * MS + storm, Event::Heal);
        for i in 0..world.plan.clients {
            world.at(2_600 * MS, Event::Client { i });
        }
        world
    }

    pub(crate) fn at(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse(Scheduled { at: at.max(self.now), number: self.number, event }));
    }

    pub(crate) fn after(&mut self, ns: u64, event: Event) {
        self.at(self.now + ns, event);
    }

    pub(crate) fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// Mixes into the trace hash.
    pub(crate) fn trace(&mut self, x: u64) {
        self.hash = (self.hash ^ x).wrapping_mul(0x0000_0100_0000_01b3);
    }

    /// What the node's `CLOCK_BOOTTIME` reads.
    pub(crate) fn clock(&self, n: usize) -> Mono {
        self.nodes[n].clock(self.now)
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        1_700_000_000_000 + self.now / MS
    }

    pub(crate) fn index_of(&self, node: NodeId) -> usize {
        (node.0 - 1) as usize
    }

    pub(crate) fn run(&mut self) -> Report {
        while !self.done && self.checker.violation.is_none() {
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            if let Some(n) = next.event.needs()
                && let Some(until) = self.nodes[n].paused_until
                && self.now < until
            {
                self.at(until, next.event); // SIGSTOP: it waits in the kernel
                continue;
            }
            self.events += 1;
            let kind = std::mem::discriminant(&next.event);
            self.trace(self.now);
            self.trace(hash_of(&kind));
            self.handle(next.event);
        }
        if self.talk && self.checker.violation.is_some() {
            for node in &self.nodes {
                println!("{} up {} voter {:?}", node.member, node.up, node.voter);
                for (group, rep) in &node.reps {
                    println!("  {group} gate {:?} applied {} {:?}", rep.gate, rep.toy.applied, rep.machine);
                }
            }
        }
        Report {
            hash: self.hash,
            events: self.events,
            steps: self.steps,
            simulated_ms: self.now / MS,
            counts: self.counts.clone(),
            violation: self.checker.violation.clone(),
        }
    }

    fn alive(&self, n: usize, boot: u64) -> bool {
        self.nodes[n].up && self.nodes[n].boot == boot
    }

    fn handle(&mut self, event: Event) {
        if let Some(n) = event.needs()
            && !self.nodes[n].up
            && !matches!(event, Event::Request { .. })
        {
            return;
        }
        match event {
            Event::Tick { n, boot } if self.alive(n, boot) => self.tick(n),
            Event::Apply { n, boot } if self.alive(n, boot) => self.apply_some(n),
            Event::SyncDone { n, boot, group, life, cuts, upto, image } if self.alive(n, boot) => {
                self.sync_done(n, group, (life, cuts), upto, image);
            }
            Event::HistoryEnds { n, boot, group, to, ok } if self.alive(n, boot) => {
                self.history_ended(n, group, to, ok);
            }
            Event::Again { n, boot, request } if self.alive(n, boot) => self.handle_request(n, request, false),
            Event::GiveUp { n, boot, id } if self.alive(n, boot) => self.give_up(n, id),
            Event::Lane { from, to, connection, sender, packet } => self.arrive(from, to, connection, sender, packet),
            Event::Datagram { from, to, message } => self.on_lease_message(from, to, message),
            Event::Raft { from, to, message } => self.on_raft(from, to, message),
            Event::Proposal { to, proposal } => self.on_proposal(to, proposal),
            Event::Decided { to, id, outcome } => self.on_decided(to, id, &outcome),
            Event::HistoryArrives { from, to, connection, sender, group, epoch, image } => {
                self.history_arrived(from, to, connection, sender, group, epoch, image);
            }
            Event::ConnectionDies { a, b, connection } => self.connection_dies(a, b, connection),
            Event::Reconnect { a, b } => self.reconnect(a, b),
            Event::Request { n, request } => self.request_arrives(n, request),
            Event::Client { i } => self.client_acts(i),
            Event::ClientTimeout { i, attempt } => self.client_timeout(i, attempt),
            Event::ClientAnswer { i, attempt, answer } => self.client_answered(i, attempt, answer),
            Event::Driver => self.drive(),
            Event::Fault => self.fault(),
            Event::ExecutorCrashes { n, boot, group } if self.alive(n, boot) => self.remake_executor(n, group),
            Event::Restart { n } => self.restart(n),
            Event::Unblock { a, b } => self.unblock(a, b),
            Event::Heal => self.heal(),
            Event::Check => self.check_progress(),
            _ => {}
        }
    }
}

fn hash_of(x: &impl std::hash::Hash) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut h = DefaultHasher::new();
    x.hash(&mut h);
    h.finish()
}
