//! The invariants of DESIGN.md section 1 by their names, seen from outside the machines.

use std::collections::{BTreeMap, BTreeSet};

use onemec_core::directory::Directory;
use onemec_core::group::Position;
use onemec_wire::{ContextId, Epoch, GroupId, Seq};

use super::front::Reply;
use super::node::{Rep, Snapshot};
use super::raft::LogEntry;
use super::toy::{Rec, Toy, Wish};
use super::world::{MS, World, say};

/// After the heal everything must be served again within this time, and have settled within the second.
const SERVED_WITHIN: u64 = 12_000 * MS;
const SETTLED_WITHIN: u64 = 12_000 * MS;

/// What was seen of a group.
#[derive(Debug, Default)]
struct GroupStory {
    /// Everything that anybody committed.
    log: BTreeMap<Seq, Rec>,
    /// What the log adds up to.
    toy: Option<Toy>,
    /// An operator forced it: what was lost is accepted.
    forced: bool,
}

/// What was seen of a context, whichever group it was in.
#[derive(Debug, Default)]
struct Story {
    /// Operation to place, as acknowledged by a node.
    acknowledged: BTreeMap<u64, usize>,
    /// Which node answered in an epoch, and when first. Epochs rise through regroups too.
    answers: BTreeMap<Epoch, (usize, u64)>,
    /// Reads that clients got: (answered at, length), both rising.
    seen_len: Vec<(u64, usize)>,
    /// Everything that was applied, in order; and by which tries.
    ops: Vec<u64>,
    attempts: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    finished: bool,
    gone: bool,
    forced: bool,
    served_at: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) violation: Option<String>,
    groups: BTreeMap<GroupId, GroupStory>,
    contexts: BTreeMap<ContextId, Story>,
    entries: Vec<u64>,
}

impl Checker {
    pub(crate) fn fail(&mut self, what: String) {
        self.violation.get_or_insert(what);
    }

    fn story(&mut self, context: ContextId) -> &mut Story {
        self.contexts.entry(context).or_default()
    }

    pub(crate) fn forced(&mut self, group: GroupId, contexts: &[ContextId]) {
        self.groups.entry(group).or_default().forced = true;
        for context in contexts {
            self.story(*context).forced = true;
        }
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
        let story = self.groups.entry(group).or_default();
        if story.forced {
            return;
        }
        let toy = story.toy.get_or_insert_with(|| Toy::beginning_at(Seq(rec.at.seq.0 - 1)));
        let bad = match story.log.get(&rec.at.seq) {
            Some(known) if known != rec => Some(format!("I4: n{} commits {rec:?}, another {known:?}", n + 1)),
            Some(_) => None,
            None if toy.applied.next() != rec.at.seq => Some(format!("I4: n{} commits {rec:?} after a hole", n + 1)),
            None => {
                story.log.insert(rec.at.seq, rec.clone());
                toy.apply(rec);
                let ops = toy.ops(rec.context);
                self.contexts.entry(rec.context).or_default().applied(rec, ops)
            }
        };
        if let Some(bad) = bad {
            self.fail(format!("{group}: {bad}"));
        }
    }

    pub(crate) fn truncated(&mut self, n: usize, group: GroupId, seq: Seq, mem: &Snapshot) {
        let story = self.groups.entry(group).or_default();
        if story.forced {
            return;
        }
        let lost = mem.records.iter().find(|r| r.at.seq > seq && story.log.get(&r.at.seq) == Some(*r));
        if let Some(lost) = lost {
            let text = format!("I4: n{} truncates {group} to {seq} and loses {lost:?}, committed", n + 1);
            self.fail(text);
        }
    }

    pub(crate) fn installed(&mut self, n: usize, group: GroupId, mem: &Snapshot, base: Position) {
        self.truncated(n, group, base.seq, mem);
    }

    /// A gate opens: rule 10, I1 (one owner per epoch), I2 (everything acknowledged is there), I6 (of all its contexts).
    pub(crate) fn opened(&mut self, n: usize, group: GroupId, epoch: Epoch, toy: &Toy, contexts: &[ContextId]) {
        for context in contexts {
            let story = self.story(*context);
            let bad = match story.answers.get(&epoch) {
                Some((other, _)) if *other != n => {
                    Some(format!("I1: n{} opens {epoch}, n{} answered in it", n + 1, other + 1))
                }
                _ => None,
            };
            let bad = bad.or_else(|| story.lost_in(toy.ops(*context), &format!("n{} opens {epoch}", n + 1)));
            if let Some(bad) = bad {
                self.fail(format!("{group} {context}: {bad}"));
            }
        }
    }

    /// I1: an acknowledgement or a strong read leaves a node.
    pub(crate) fn answered(&mut self, context: ContextId, epoch: Epoch, n: usize, received: u64, now: u64) {
        let story = self.story(context);
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
            self.fail(format!("{context}: {bad}"));
        }
    }

    pub(crate) fn acknowledged(&mut self, context: ContextId, op: u64, place: usize) {
        let story = self.story(context);
        let other = story.acknowledged.insert(op, place).filter(|p| *p != place);
        if let Some(other) = other
            && !story.forced
        {
            self.fail(format!("I3: {context}: op {op} was acknowledged at {other} and at {place}"));
        }
    }

    /// A strong read shows everything acknowledged before, and nothing that was not committed.
    pub(crate) fn read(&mut self, context: ContextId, list: &[u64]) {
        let story = self.story(context);
        if story.forced {
            return;
        }
        let stale = story.acknowledged.iter().find(|(op, place)| list.get(**place - 1) != Some(*op));
        if let Some((op, place)) = stale {
            let text = format!(
                "I1: {context}: a strong read of {} entries lacks op {op}, acknowledged at {place}",
                list.len()
            );
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

    pub(crate) fn context_finished(&mut self, context: ContextId) {
        self.story(context).finished = true;
    }

    pub(crate) fn context_gone(&mut self, context: ContextId) {
        self.story(context).gone = true;
    }

    // ---- what clients see ------------------------------------------------------------------------------------------

    pub(crate) fn client_done(&mut self, context: ContextId, op: u64, place: usize, invoked: u64, now: u64) {
        let story = self.story(context);
        story.served_at = now;
        if story.forced {
            return;
        }
        // What a client had read before it sent this stands before it.
        let seen = story.seen_len.iter().rev().find(|(at, _)| *at < invoked).map_or(0, |(_, len)| *len);
        let fresh = !story.ops[..seen.min(story.ops.len())].contains(&op);
        if fresh && place <= seen {
            self.fail(format!("I1: {context}: op {op} got place {place}, {seen} had been read before it was sent"));
        }
    }

    pub(crate) fn client_read(&mut self, context: ContextId, len: usize, invoked: u64, now: u64) {
        let story = self.story(context);
        if story.forced {
            return;
        }
        let seen = story.seen_len.iter().filter(|(at, _)| *at < invoked).map(|(_, len)| *len).max().unwrap_or(0);
        story.seen_len.push((now, len));
        if len < seen {
            self.fail(format!("I1: {context}: a read shows {len} entries, an earlier one {seen}"));
        }
    }

    pub(crate) fn refused(&mut self, context: ContextId, attempt: u64) {
        let story = self.story(context);
        story.refused.insert(attempt);
        if story.attempts.contains(&attempt) && !story.forced {
            self.fail(format!("rule 11: {context}: attempt {attempt} is committed and its client got 503"));
        }
    }

    pub(crate) fn client_gone(&mut self, context: ContextId, answer: Reply) {
        if answer == Reply::Finished && !self.story(context).gone {
            self.fail(format!("rule 13: {context}: a deletion was acknowledged that the directory does not know"));
        }
    }
}

impl Story {
    /// A record was applied for the first time anywhere in its group; `ops` is the context's list after it.
    fn applied(&mut self, rec: &Rec, ops: &[u64]) -> Option<String> {
        if self.forced || matches!(rec.wish, Wish::Join(_)) {
            return None; // what joins is held against what was acknowledged when it is opened and read
        }
        let before = ops.len() - usize::from(ops.last() == Some(&rec.op));
        let twice = ops.len() > before && ops.get(..before).is_some_and(|l| l.contains(&rec.op));
        self.ops = ops.to_vec();
        self.attempts.insert(rec.attempt);
        if twice {
            return Some(format!("I3: op {} is applied twice", rec.op));
        }
        let refused = self.refused.contains(&rec.attempt);
        refused.then(|| format!("rule 11: op {} attempt {} was answered 503 and appears", rec.op, rec.attempt))
    }

    fn lost_in(&self, list: &[u64], who: &str) -> Option<String> {
        if self.forced {
            return None;
        }
        self.acknowledged
            .iter()
            .find(|(op, place)| list.get(**place - 1) != Some(*op))
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
        for (context, entry) in self.nodes[0].dir.contexts_after(None) {
            let at = self.checker.contexts.get(&context).map_or(0, |s| s.served_at);
            let fresh = !self.driver.contexts.contains(&context);
            if at < healed + 500 * MS && !fresh {
                let group = self.nodes[0].dir.group(entry.group);
                return Some(format!("{context} in {} acknowledges nothing: {group:?}", entry.group));
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
            for context in p.contexts.clone() {
                let lost = self.checker.contexts.get(&context);
                let lost = lost.and_then(|s| s.lost_in(rep.toy.ops(context), "the end comes"));
                if let Some(lost) = lost {
                    return self.checker.fail(format!("{group} {context}: {lost}"));
                }
            }
        }
        self.done = true;
    }
}
