//! What the executor does around the directory and the leases.

use onemec_core::directory::{Command, CommandOutcome, Entry, EntryOutcome, Refusal};
use onemec_core::group::{Input, Live, LogShape, Replica};
use onemec_core::lease::{GrantorOutput, LeaderView, LeaseMessage, Term, VoterId};
use onemec_wire::{Epoch, GroupId, Member, Seq};

use super::node::{Proposal, Snapshot, base_of};
use super::raft::{BALLOTS, Raft, RaftMessage};
use super::world::{Event, MS, World, say};

impl World {
    /// Every few milliseconds on every node.
    pub(crate) fn tick(&mut self, n: usize) {
        let boot = self.nodes[n].boot;
        let gap = self.rng.between(4_000, 6_000) * 1_000;
        self.after(gap, Event::Tick { n, boot });
        let now = self.clock(n);
        let sends = self.nodes[n].raft.tick(self.now, &self.electorate, &mut self.rng);
        self.after_raft(n, sends);
        self.announce(n);
        // Rule 4: no lease is asked for before the own NodeUp is applied.
        if self.nodes[n].dir.is_live(self.nodes[n].member)
            && let Some(request) = self.nodes[n].holder.tick(now)
        {
            for voter in self.electorate.voters.clone() {
                self.send_datagram(n, voter, request);
            }
        }
        let live: Vec<Member> = self.nodes[n].dir.live().collect();
        let mut out = Vec::new();
        self.nodes[n].grantor.tick(now, live.into_iter(), &mut out);
        self.carry_out_grants(n, out);
        let due: Vec<GroupId> = self.nodes[n].reps.iter().filter(|(_, r)| r.is_due(now)).map(|(g, _)| *g).collect();
        for group in due {
            self.step(n, group, Input::Tick, &[]);
        }
        let groups: Vec<GroupId> = self.nodes[n].reps.keys().copied().collect();
        for group in groups {
            self.end_parking(n, group);
            self.maybe_rebase(n, group);
            self.maybe_rest(n, group);
        }
    }

    // ---- Raft ------------------------------------------------------------------------------------------------------

    pub(crate) fn on_raft(&mut self, from: usize, to: usize, message: RaftMessage) {
        if self.electorate.lost.contains(&to) && matches!(message, RaftMessage::Canvass { .. }) {
            return; // addressed to the Raft id of the store that is gone
        }
        let sends = self.nodes[to].raft.receive(self.now, from, message, &self.electorate, &mut self.rng);
        self.after_raft(to, sends);
    }

    /// The vote cell moves before a vote leaves the node, and the grantor learns of leadership at once.
    fn after_raft(&mut self, n: usize, sends: Vec<(usize, RaftMessage)>) {
        let node = &mut self.nodes[n];
        if node.raft.voted.is_some() {
            node.cell.voted(term(&node.raft));
        }
        self.look_at_leadership(n);
        self.send_raft(n, sends);
        let boot = self.nodes[n].boot;
        if !self.nodes[n].applying && self.nodes[n].raft.commit as u64 > self.nodes[n].dir.index() {
            self.nodes[n].applying = true;
            let slow = self.healed.is_none() && self.rng.permille(60);
            let delay = if slow { self.rng.between(1, 120) * MS } else { self.rng.between(50, 2_000) * 1_000 };
            self.after(delay, Event::Apply { n, boot });
        }
    }

    fn look_at_leadership(&mut self, n: usize) {
        let now = self.clock(n);
        let configuration = self.electorate.voters.iter().map(|v| self.voter_id_at_start(*v)).collect();
        let node = &mut self.nodes[n];
        let view = node.raft.first_of_term().map(|first| LeaderView {
            term: term(&node.raft),
            configurations: vec![configuration],
            ready: node.dir.index() >= first as u64,
        });
        if view != node.view {
            node.view = view.clone();
            node.grantor.lead(now, view);
        }
    }

    /// The configuration names stores; a lost one keeps its place in it.
    fn voter_id_at_start(&self, n: usize) -> VoterId {
        VoterId(n as u64 + 1)
    }

    pub(crate) fn propose(&mut self, n: usize, command: Command) {
        let id = self.fresh();
        if let Some(base) = base_of(&command) {
            if self.nodes[n].asked.len() >= 64 {
                self.nodes[n].asked.pop_first();
            }
            self.nodes[n].asked.insert(id, (base.group, command.clone()));
        }
        let Some(leader) = self.nodes[n].raft.leader_hint else { return };
        say!(self, "n{} proposes {command:?}", n + 1);
        self.send_proposal(n, leader, Proposal { from: n, id, command });
    }

    pub(crate) fn on_proposal(&mut self, n: usize, proposal: Proposal) {
        if !self.nodes[n].raft.leads() {
            return; // lost; the proposer repeats it
        }
        let entry = Entry { time_ms: self.wall_ms(), commands: vec![proposal.command] };
        let term = self.nodes[n].raft.term;
        let (index, sends) = self.nodes[n].raft.propose(Some(entry), &self.electorate);
        self.nodes[n].proposers.insert(index, (proposal.from, proposal.id, term));
        self.after_raft(n, sends);
    }

    pub(crate) fn apply_some(&mut self, n: usize) {
        self.nodes[n].applying = false;
        let mut index = self.nodes[n].dir.index() as usize;
        let until = self.nodes[n].raft.commit;
        let boot = self.nodes[n].boot;
        while index < until && self.nodes[n].boot == boot {
            index += 1;
            let logged = self.nodes[n].raft.log[index - 1].clone();
            self.checker.entry(index, &logged);
            let Some(entry) = logged.entry else {
                self.nodes[n].dir.skip(index as u64);
                continue;
            };
            let outcome = self.nodes[n].dir.apply(index as u64, &entry);
            if self.talk && self.nodes[n].raft.leads() {
                say!(self, "entry {index} {:?} -> {:?}", entry.commands, outcome.outcomes);
            }
            self.checker.directory(n, &self.nodes[n].dir);
            self.decided(n, index, &entry, &outcome);
            self.placements_changed(n, &outcome);
        }
        self.after_raft(n, Vec::new());
    }

    fn decided(&mut self, n: usize, index: usize, entry: &Entry, outcome: &EntryOutcome) {
        let now = self.clock(n);
        for (command, result) in entry.commands.iter().zip(&outcome.outcomes) {
            self.driver.learned(command, result);
            if let (Command::NodeDead { member, .. }, CommandOutcome::Refused(Refusal::MassDeath { .. })) =
                (command, result)
            {
                self.nodes[n].grantor.burial_refused(now, *member);
            }
        }
        let Some((from, id, term)) = self.nodes[n].proposers.remove(&index) else { return };
        // Only if the entry at this index is the one that was proposed.
        if self.nodes[n].raft.log[index - 1].term == term
            && let Some(result) = outcome.outcomes.first()
        {
            self.send_decided(n, from, id, result.clone());
        }
    }

    fn placements_changed(&mut self, n: usize, outcome: &EntryOutcome) {
        let mut groups = outcome.groups.clone();
        if !outcome.nodes.is_empty() {
            let live: Vec<Member> = self.nodes[n].dir.live().collect();
            let (now, mut out) = (self.clock(n), Vec::new());
            self.nodes[n].grantor.tick(now, live.into_iter(), &mut out);
            self.carry_out_grants(n, out);
            // Whoever rests hears of nodes only if it waits for one.
            let concerned = self.nodes[n].reps.iter().filter(|(_, r)| !r.rests || r.machine.is_short());
            groups.extend(concerned.map(|(g, _)| *g));
            let me = self.nodes[n].member;
            let known = self.nodes[n].dir.node(me.node).map(|e| (e.member, e.up));
            if known == Some((me, false)) || known.is_some_and(|(m, _)| m.incarnation > me.incarnation) {
                return self.reborn(n);
            }
        }
        for group in groups {
            self.deliver_placement(n, group);
        }
    }

    pub(crate) fn live(&self, n: usize) -> Live {
        Live::new(self.nodes[n].dir.nodes().filter(|(_, e)| e.up).map(|(_, e)| (e.member, e.store)))
    }

    pub(crate) fn deliver_placement(&mut self, n: usize, group: GroupId) {
        let placement = self.nodes[n].dir.group(group).cloned();
        let me = self.nodes[n].member;
        let have = self.nodes[n].reps.contains_key(&group);
        match &placement {
            None if !have || !self.nodes[n].dir.was_deleted(group) => return,
            Some(p) if !have => {
                if !p.in_sync.contains(&me) {
                    return;
                }
                if p.epoch > Epoch(1) && p.sealed.is_none() {
                    say!(self, "n{} is in the set of {group} without a copy", n + 1);
                }
                match p.sealed.filter(|_| p.epoch == Epoch(1) && p.primary == me && p.contexts.is_empty()) {
                    Some(begin) => self.begin_empty(n, group, begin),
                    None => self.new_rep(n, group),
                }
            }
            _ => {}
        }
        let live = self.live(n);
        if !self.hears_asleep(n, group, placement.as_ref(), &live) {
            self.step(n, group, Input::Placement { placement, live }, &[]);
        }
    }

    /// A replica that holds nothing yet.
    pub(crate) fn new_rep(&mut self, n: usize, group: GroupId) {
        let now = self.clock(n);
        let seen = self.nodes[n].disk.get(&group).map_or(Epoch(0), |d| d.seen);
        let machine = Replica::new(self.nodes[n].me(group), self.plan.timing, LogShape::new(), seen, now);
        self.add_rep(n, group, machine, Snapshot::default());
    }

    // ---- leases ----------------------------------------------------------------------------------------------------

    pub(crate) fn on_lease_message(&mut self, from: usize, n: usize, message: LeaseMessage) {
        let now = self.clock(n);
        say!(self, "lease n{} -> n{} {message:?}", from + 1, n + 1);
        let mut out = Vec::new();
        match message {
            LeaseMessage::Request { member, number } => {
                let live = self.nodes[n].dir.is_live(member);
                self.nodes[n].grantor.request(now, member, number, live, &mut out);
            }
            LeaseMessage::Round { term, round } => {
                let node = &self.nodes[n];
                if let Some(answer) = node.cell.confirm(node.voter, term, round) {
                    self.send_datagram(n, from, answer);
                }
            }
            LeaseMessage::Confirm { voter, term, round } => {
                self.nodes[n].grantor.confirmed(now, voter, term, round, &mut out);
            }
            LeaseMessage::Grant { member, number } => {
                self.nodes[n].holder.granted(member, number);
            }
        }
        self.carry_out_grants(n, out);
    }

    fn carry_out_grants(&mut self, n: usize, out: Vec<GrantorOutput>) {
        for output in out {
            match output {
                GrantorOutput::ToVoter(voter, message) => {
                    if let Some(to) = self.nodes.iter().position(|x| x.voter == voter) {
                        self.send_datagram(n, to, message);
                    }
                }
                GrantorOutput::ToHolder(member, message) => {
                    let to = self.index_of(member.node);
                    self.send_datagram(n, to, message);
                }
                // Appended in the very term in which the grantor leads, or not at all: never queued, never forwarded.
                GrantorOutput::ProposeDead(member) => {
                    say!(self, "n{} buries {member}", n + 1);
                    self.count("burials proposed");
                    let command = Command::NodeDead { member, forced: false };
                    self.on_proposal(n, Proposal { from: n, id: 0, command });
                }
            }
        }
    }

    pub(crate) fn lease_valid(&self, n: usize) -> bool {
        self.nodes[n].holder.state().is_valid(self.clock(n))
    }

    pub(crate) fn sync_done(&mut self, n: usize, group: GroupId, (life, cuts): (u64, u64), upto: Seq, image: Snapshot) {
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        rep.syncing = false;
        let heard = rep.life == life;
        if let Some(disk) = self.nodes[n].disk.get_mut(&group) {
            disk.image = image;
        }
        if heard {
            self.step(n, group, Input::Synced { cuts, upto }, &[]);
        }
        self.want_sync(n, group);
    }
}

fn term(raft: &Raft) -> Term {
    Term { term: raft.term / BALLOTS, leader: raft.term % BALLOTS }
}
