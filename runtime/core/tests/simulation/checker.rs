//! The invariants of DESIGN.md section 1 by their names, seen from outside the machines.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::directory::Directory;
use onemec_core::group::Position;
use onemec_wire::{ContextId, Epoch, GroupId, Seq};

use super::front::Reply;
use super::node::{Rep, Snapshot};
use super::raft::LogEntry;
use super::toy::{Rec, Toy};
use super::world::{MS, World, say};

/// After the heal everything must be served again within this time, and have settled within the second.
const SERVED_WITHIN: u64 = 12_000 * MS;
const SETTLED_WITHIN: u64 = 12_000 * MS;

#[derive(Debug, Default)]
struct Story {
    /// Everything that anybody committed.
    log: Vec<Rec>,
    /// What the log adds up to: the list of operations.
    toy: Toy,
    /// Operation to place, as acknowledged by a node.
    acknowledged: BTreeMap<u64, usize>,
    /// Which node answered in an epoch, and when first.
    answers: BTreeMap<Epoch, (usize, u64)>,
    /// Reads that clients got: (answered at, length), both rising.
    seen_len: Vec<(u64, usize)>,
    refused: BTreeSet<u64>,
    finished: BTreeSet<ContextId>,
    gone: BTreeSet<ContextId>,
    /// An operator forced it: what was lost is accepted.
    forced: bool,
    served_at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violation: Option<String>,
    groups: BTreeMap<GroupId, Story>,
    entries: Vec<u64>,
}

impl Checker {
    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn story(&mut self, group: GroupId) -> &mut Story {
        self.groups.entry(group).or_default()
    }

    pub(crate) fn forced(&mut self, group: GroupId) {
        self.story(group).forced = true;
    }

    /// The simulator's own Raft is right.
    pub(crate) fn entry(&mut self, index: usize, entry: &LogEntry) {
        match self.entries.get(index - 1) {
            Some(term) if *term != entry.term => self.fail(format!("simulator: entry {index} differs")),
            Some(_) => {}
            None => self.entries.push(entry.term),
        }
    }

    /// I5 and I6 on every copy of the directory, after every entry.
    pub(crate) fn directory(&mut self, n: usize, dir: &Directory) {
        let mut bad = None;
        let mut keys = BTreeSet::new();
        for (id, context) in dir.contexts_after(None) {
            let place = dir.place(id);
            let Some(primary) = dir.group(context.group).map(|g| g.primary.node) else {
                bad = Some(format!("I5: {id} belongs to no group"));
                break;
            };
            if place.is_none_or(|p| p.primary != primary) {
                bad = Some(format!("I6: {id} is not where its group is"));
            }
            for key in &context.keys {
                if !keys.insert(key.clone()) || dir.place_by_key(key).map(|p| p.context) != Some(id) {
                    bad = Some(format!("I5: {key:?} of {id} is not its alone on n{}", n + 1));
                }
            }
        }
        if let Some(bad) = bad {
            self.fail(bad);
        }
    }

    // ---- what nodes do ---------------------------------------------------------------------------------------------

    /// I4: one order everywhere, and nothing that was refused ever appears (rule 11).
    pub(crate) fn committed(&mut self, n: usize, group: GroupId, rec: &Rec) {
        let story = self.story(group);
        if story.forced {
            return;
        }
        let i = (rec.at.seq.0 - 1) as usize;
        let bad = match story.log.get(i) {
            Some(known) if known != rec => Some(format!("I4: n{} commits {rec:?}, another {known:?}", n + 1)),
            Some(_) => None,
            None if i > story.log.len() => Some(format!("I4: n{} commits {rec:?} after a hole", n + 1)),
            None => {
                story.log.push(*rec);
                let before = story.toy.list.len();
                story.toy.apply(rec);
                let twice = story.toy.list.len() > before && story.toy.list[..before].contains(&rec.op);
                if twice {
                    Some(format!("I3: op {} is applied twice", rec.op))
                } else if story.refused.contains(&rec.attempt) {
                    Some(format!("rule 11: op {} attempt {} was answered 503 and appears", rec.op, rec.attempt))
                } else {
                    None
                }
            }
        };
        if let Some(bad) = bad {
            self.fail(format!("{group}: {bad}"));
        }
    }

    pub(crate) fn truncated(&mut self, n: usize, group: GroupId, seq: Seq, mem: &Snapshot) {
        let story = self.story(group);
        if story.forced {
            return;
        }
        let lost = mem.records.iter().find(|r| r.at.seq > seq && story.log.get((r.at.seq.0 - 1) as usize) == Some(*r));
        if let Some(lost) = lost {
            let text = format!("I4: n{} truncates {group} to {seq} and loses {lost:?}, committed", n + 1);
            self.fail(text);
        }
    }

    pub(crate) fn installed(&mut self, n: usize, group: GroupId, mem: &Snapshot, base: Position) {
        self.truncated(n, group, base.seq, mem);
    }

    /// A gate opens: rule 10, I1 (one owner per epoch), I2 (everything acknowledged is there).
    pub(crate) fn opened(&mut self, n: usize, group: GroupId, epoch: Epoch, toy: &Toy) {
        let story = self.story(group);
        let bad = match story.answers.get(&epoch) {
            Some((other, _)) if *other != n => {
                Some(format!("I1: n{} opens {epoch}, n{} answered in it", n + 1, other + 1))
            }
            _ => None,
        };
        let bad = bad.or_else(|| story.lost_in(toy, &format!("n{} opens {epoch}", n + 1)));
        if let Some(bad) = bad {
            self.fail(format!("{group}: {bad}"));
        }
    }

    /// I1: an acknowledgement or a strong read leaves a node.
    pub(crate) fn answered(&mut self, group: GroupId, epoch: Epoch, n: usize, received: u64, now: u64) {
        let story = self.story(group);
        let mut bad = None;
        let first = story.answers.entry(epoch).or_insert((n, now));
        if first.0 != n {
            bad = Some(format!("I1: n{} and n{} both answer in {epoch}", n + 1, first.0 + 1));
        }
        if let Some((later, (other, at))) =
            story.answers.range(epoch.next()..).find(|(_, (_, first_at))| *first_at <= received)
        {
            bad = Some(format!(
                "I1: n{} answers in {epoch} what it received at {received}, n{} has answered in {later} since {at}",
                n + 1,
                other + 1
            ));
        }
        if let Some(bad) = bad {
            self.fail(format!("{group}: {bad}"));
        }
    }

    pub(crate) fn acknowledged(&mut self, group: GroupId, op: u64, place: usize) {
        let story = self.story(group);
        let other = story.acknowledged.insert(op, place).filter(|p| *p != place);
        if let Some(other) = other
            && !story.forced
        {
            self.fail(format!("I3: {group}: op {op} was acknowledged at {other} and at {place}"));
        }
    }

    /// A strong read shows everything acknowledged before, and nothing that was not committed.
    pub(crate) fn read(&mut self, group: GroupId, list: &[u64]) {
        let story = self.story(group);
        if story.forced {
            return;
        }
        let stale = story.acknowledged.iter().find(|(op, place)| list.get(**place - 1) != Some(*op));
        if let Some((op, place)) = stale {
            let text =
                format!("I1: {group}: a strong read of {} entries lacks op {op}, acknowledged at {place}", list.len());
            self.fail(text);
        }
    }

    pub(crate) fn store_agrees(&mut self, n: usize, group: GroupId, rep: Option<&Rep>) {
        let Some(rep) = rep else { return };
        let (log, mem) = (rep.machine.log(), &rep.mem);
        if (log.last(), log.base()) != (mem.last(), mem.base) {
            let text =
                format!("n{} {group}: store {}..{} is not the machine's {log:?}", n + 1, mem.base.seq, mem.last());
            self.fail(text);
        }
    }

    pub(crate) fn in_flight(&mut self, records: usize, window: u64) {
        if records as u64 > window {
            self.fail(format!("I8: {records} records in one message, window {window}"));
        }
    }

    pub(crate) fn context_finished(&mut self, group: GroupId, context: ContextId) {
        self.story(group).finished.insert(context);
    }

    pub(crate) fn context_gone(&mut self, group: GroupId, context: ContextId) {
        self.story(group).gone.insert(context);
    }

    // ---- what clients see ------------------------------------------------------------------------------------------

    pub(crate) fn client_done(&mut self, group: GroupId, op: u64, place: usize, invoked: u64, now: u64) {
        let story = self.story(group);
        story.served_at = now;
        if story.forced {
            return;
        }
        // What a client had read before it sent this stands before it.
        let seen = story.seen_len.iter().rev().find(|(at, _)| *at < invoked).map_or(0, |(_, len)| *len);
        let fresh = !story.toy.list[..seen.min(story.toy.list.len())].contains(&op);
        if fresh && place <= seen {
            self.fail(format!("I1: {group}: op {op} got place {place}, {seen} had been read before it was sent"));
        }
    }

    pub(crate) fn client_read(&mut self, group: GroupId, len: usize, invoked: u64, now: u64) {
        let story = self.story(group);
        if story.forced {
            return;
        }
        let seen = story.seen_len.iter().filter(|(at, _)| *at < invoked).map(|(_, len)| *len).max().unwrap_or(0);
        story.seen_len.push((now, len));
        if len < seen {
            self.fail(format!("I1: {group}: a read shows {len} entries, an earlier one {seen}"));
        }
    }

    pub(crate) fn refused(&mut self, group: GroupId, attempt: u64) {
        let story = self.story(group);
        story.refused.insert(attempt);
        if let Some(rec) = story.log.iter().find(|r| r.attempt == attempt).copied()
            && !story.forced
        {
            self.fail(format!("rule 11: {group}: {rec:?} is committed and its client got 503"));
        }
    }

    pub(crate) fn client_gone(&mut self, group: GroupId, answer: Reply) {
        let story = self.story(group);
        if answer == Reply::Finished && story.gone.is_empty() {
            self.fail(format!("rule 13: {group}: a deletion was acknowledged that the directory does not know"));
        }
    }
}

impl Story {
    fn lost_in(&self, toy: &Toy, who: &str) -> Option<String> {
        if self.forced {
            return None;
        }
        self.acknowledged
            .iter()
            .find(|(op, place)| toy.list.get(**place - 1) != Some(*op))
            .map(|(op, place)| format!("I2: {who} without op {op}, acknowledged at place {place}"))
    }
}

impl World {
    /// After the heal: first everything is served again, then the clients stop and everything settles.
    pub(crate) fn check_progress(&mut self) {
        let Some(healed) = self.healed else { return };
        self.after(100 * MS, super::world::Event::Check);
        let trouble = self.not_served(healed).or_else(|| self.not_settled());
        if !self.driver.quiet {
            match self.not_served(healed) {
                None => {
                    say!(self, "everything is served");
                    self.driver.quiet = true;
                    self.healed = Some(self.now);
                }
                Some(text) if self.now > healed + SERVED_WITHIN => self.checker.fail(format!("progress: {text}")),
                Some(_) if self.now > healed + 3_000 * MS => self.force_the_hopeless(),
                Some(_) => {}
            }
        } else {
            match trouble {
                None if self.now > healed + 500 * MS => self.at_the_end(),
                Some(text) if self.now > healed + SETTLED_WITHIN => self.checker.fail(format!("settling: {text}")),
                _ => {}
            }
        }
    }

    fn not_served(&self, healed: u64) -> Option<String> {
        if self.driver.quiet {
            return None;
        }
        if self.driver.groups.len() < self.plan.groups.len() {
            return Some("not all groups were created".into());
        }
        for group in &self.driver.groups {
            if self.nodes.iter().any(|n| n.dir.was_deleted(*group)) {
                continue;
            }
            let at = self.checker.groups.get(group).map_or(0, |s| s.served_at);
            if at < healed + 500 * MS {
                return Some(format!("{group} acknowledges nothing: {:?}", self.nodes[0].dir.group(*group)));
            }
        }
        None
    }

    fn not_settled(&self) -> Option<String> {
        let dir = &self.nodes[0].dir;
        for (i, n) in self.nodes.iter().enumerate() {
            if n.dir != *dir {
                return Some(format!("the directory of n{} is not that of n1", i + 1));
            }
            if !n.dir.is_live(n.member) {
                return Some(format!("{} is not up in the directory", n.member));
            }
            if let Some((group, rep)) = n.reps.iter().find(|(_, r)| !r.moves.is_empty()) {
                return Some(format!("I8: n{} {group}: moves {:?} never end", i + 1, rep.moves));
            }
            if let Some((group, _)) = n.reps.iter().find(|(_, r)| !r.parked.is_empty() || !r.waiting.is_empty()) {
                return Some(format!("I7: n{} {group}: operations wait for ever", i + 1));
            }
        }
        for (group, p) in dir.groups() {
            let leader = &self.nodes[(p.primary.node.0 - 1) as usize];
            let Some(rep) = leader.reps.get(&group).filter(|r| r.gate == Some(p.epoch)) else {
                return Some(format!("{group} is closed at {}: {p:?}", p.primary));
            };
            let wanted = usize::from(p.replicas_wanted).max(p.durability.members_min());
            if p.in_sync.len() != wanted {
                return Some(format!("{group} has a set of {:?}, wanted {wanted}", p.in_sync));
            }
            for member in &p.in_sync {
                let other = self.nodes[(member.node.0 - 1) as usize].reps.get(&group);
                let Some(other) = other else { return Some(format!("{member} has no copy of {group}")) };
                if other.toy != rep.toy {
                    return Some(format!(
                        "{group}: {member} is at {}, {} at {}",
                        other.toy.applied, p.primary, rep.toy.applied
                    ));
                }
            }
        }
        None
    }

    fn at_the_end(&mut self) {
        let groups: Vec<GroupId> = self.nodes[0].dir.groups().map(|(g, _)| g).collect();
        for group in groups {
            let Some(p) = self.nodes[0].dir.group(group) else { continue };
            let n = (p.primary.node.0 - 1) as usize;
            let Some(rep) = self.nodes[n].reps.get(&group) else { continue };
            let lost = self.checker.groups.get(&group).and_then(|s| s.lost_in(&rep.toy, "the end comes"));
            if let Some(lost) = lost {
                self.checker.fail(format!("{group}: {lost}"));
            }
        }
        self.done = true;
    }
}
