//! What goes wrong, and the end of it.

use onemec_core::directory::Command;
use onemec_wire::GroupId;

use super::world::{Event, MS, World, say};

const CRASH: usize = 0;
const LOSE_DISK: usize = 1;
const PAUSE: usize = 2;
const SPLIT: usize = 3;
const ONE_WAY: usize = 4;
const POWER: usize = 5;
const SLOW_DISK: usize = 6;
const FLAP: usize = 7;
const QUICK: usize = 8;
const EXECUTOR: usize = 9;

impl World {
    pub(crate) fn fault(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let every = self.plan.fault_every_ms * MS;
        let next = self.rng.between(every / 2, every * 2);
        self.after(next, Event::Fault);
        let total: u64 = self.plan.weights.iter().sum();
        if total == 0 {
            return;
        }
        let mut draw = self.rng.below(total);
        let mut kind = 0;
        for (i, w) in self.plan.weights.iter().enumerate() {
            if draw < *w {
                kind = i;
                break;
            }
            draw -= w;
        }
        let n = self.rng.index(self.nodes.len());
        match kind {
            CRASH => self.crash_for(n, false, 5, 2_500),
            QUICK => self.crash_for(n, false, 1, 60),
            LOSE_DISK => {
                // A quorum of stores must survive, else the cluster is lost for good (rule 14).
                let lost = self.electorate.lost.len() + usize::from(self.electorate.voters.contains(&n));
                if lost * 2 < self.electorate.voters.len() || self.electorate.lost.contains(&n) {
                    self.crash_for(n, true, 300, 2_500);
                }
            }
            PAUSE => self.pause(n),
            SPLIT => self.split(n),
            ONE_WAY => {
                let other = self.rng.index(self.nodes.len());
                self.block_for(n, other, 50, 1_500);
            }
            POWER => {
                for n in 0..self.nodes.len() {
                    self.crash_for(n, false, 20, 600);
                }
            }
            SLOW_DISK => {
                let until = self.now + self.rng.between(100, 2_000) * MS;
                self.nodes[n].slow_disk_until = until;
                self.count("slow disks");
            }
            FLAP => {
                let other = self.rng.index(self.nodes.len());
                if other != n && self.net.connection(n, other).is_some() {
                    self.cut_connection(n, other);
                }
            }
            EXECUTOR => self.crash_executor(n),
            _ => {}
        }
    }

    /// The actor of one group crashes, while its process and store live on: it is made anew from the store.
    fn crash_executor(&mut self, n: usize) {
        let groups: Vec<GroupId> = self.nodes[n].reps.keys().copied().collect();
        if !groups.is_empty() {
            let (group, boot) = (groups[self.rng.index(groups.len())], self.nodes[n].boot);
            self.after(0, Event::ExecutorCrashes { n, boot, group });
        }
    }

    /// An actor that has just proposed something crashes more often than others: nobody remembers what it was (rules 5, 9).
    pub(crate) fn proposed(&mut self, n: usize, group: GroupId, command: &Command) {
        let chance = if matches!(command, Command::Abort { .. }) { 20 } else { 40 * self.plan.weights[EXECUTOR] };
        if self.plan.weights[EXECUTOR] > 0 && self.healed.is_none() && self.rng.permille(chance) {
            let (delay, boot) = (self.rng.below(MS), self.nodes[n].boot);
            self.after(delay, Event::ExecutorCrashes { n, boot, group });
        }
    }

    fn crash_for(&mut self, n: usize, lose_disk: bool, from_ms: u64, to_ms: u64) {
        if !self.nodes[n].up {
            return;
        }
        self.crash(n, lose_disk);
        let back = self.rng.between(from_ms, to_ms) * MS;
        self.after(back, Event::Restart { n });
    }

    fn pause(&mut self, n: usize) {
        if !self.nodes[n].up || self.nodes[n].paused_until.is_some_and(|u| u > self.now) {
            return;
        }
        let length = self.rng.between(20, 1_500) * MS;
        say!(self, "n{} stops for {} ms", n + 1, length / MS);
        self.count("pauses");
        self.nodes[n].paused_until = Some(self.now + length);
        if length > 600 * MS {
            self.cut_connections_of(n);
        }
    }

    /// Two nodes, often the directory's leader and somebody with a lease, on one side; the others on the other.
    fn split(&mut self, n: usize) {
        self.count("partitions");
        let leader = (0..self.nodes.len()).find(|x| self.nodes[*x].up && self.nodes[*x].raft.leads());
        let n = leader.filter(|_| self.rng.permille(600)).unwrap_or(n);
        let with = self.rng.index(self.nodes.len());
        let length = self.rng.between(100, 3_000);
        for other in 0..self.nodes.len() {
            if other != n && other != with {
                for (a, b) in [(n, other), (other, n), (with, other), (other, with)] {
                    self.block_for(a, b, length, length);
                }
            }
        }
    }

    fn block_for(&mut self, a: usize, b: usize, from_ms: u64, to_ms: u64) {
        if a == b {
            return;
        }
        say!(self, "n{} does not reach n{}", a + 1, b + 1);
        self.count("links cut");
        self.block(a, b);
        let back = self.rng.between(from_ms, to_ms) * MS;
        self.after(back, Event::Unblock { a, b });
    }

    /// Everything works again: from now on progress is demanded.
    pub(crate) fn heal(&mut self) {
        say!(self, "healed");
        self.healed = Some(self.now);
        self.unblock_all();
        for n in 0..self.nodes.len() {
            self.nodes[n].slow_disk_until = 0;
            self.restart(n);
        }
        self.after(1_000 * MS, Event::Check);
    }
}
