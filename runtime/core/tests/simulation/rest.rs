//! Passivation as the executor does it: a machine that is quiet is put away as it is, hears no ticks and no connections, takes
//! news that ask for nothing without waking, and goes on with the next input of substance.

use onemec_core::directory::Placement;
use onemec_core::group::{Input, Live};
use onemec_core::time::Mono;
use onemec_wire::GroupId;

use super::node::Rep;
use super::world::{World, say};

impl Rep {
    pub(crate) fn is_due(&self, now: Mono) -> bool {
        !self.rests && self.tick_at.0 != 0 && self.tick_at <= now
    }
}

impl World {
    /// Puts what may rest to rest, now and then.
    pub(crate) fn maybe_rest(&mut self, n: usize, group: GroupId) {
        if !self.rng.permille(60) {
            return;
        }
        let now = self.clock(n);
        let Some(rep) = self.nodes[n].reps.get_mut(&group) else { return };
        let idle = rep.waiting.is_empty() && rep.parked.is_empty() && rep.finishing.is_empty() && rep.moves.is_empty();
        if !rep.rests && idle && !rep.syncing && rep.machine.is_quiet(now) {
            rep.rests = true;
            say!(self, "n{} {group} rests", n + 1);
            self.count("groups put to rest");
        }
    }

    /// News for a group that rests: `true` if they ask for nothing, so that it rests on.
    pub(crate) fn hears_asleep(
        &mut self,
        n: usize,
        group: GroupId,
        placement: Option<&Placement>,
        live: &Live,
    ) -> bool {
        let now = self.clock(n);
        let Some(rep) = self.nodes[n].reps.get_mut(&group).filter(|r| r.rests) else { return false };
        let (mut machine, mut out) = (rep.machine.clone(), Vec::new());
        machine.step(now, Input::Placement { placement: placement.cloned(), live: live.clone() }, &mut out);
        let quiet = out.is_empty() && machine.is_quiet(now);
        if quiet {
            rep.machine = machine;
        }
        quiet
    }

    /// A group that rests comes back before it is given `input`. It missed who came and went.
    pub(crate) fn wake(&mut self, n: usize, group: GroupId, input: &Input) {
        let Some(rep) = self.nodes[n].reps.get_mut(&group).filter(|r| r.rests) else { return };
        rep.rests = false;
        say!(self, "n{} {group} wakes", n + 1);
        self.count("groups woken");
        if !matches!(input, Input::Placement { .. }) && self.nodes[n].dir.group(group).is_some() {
            self.deliver_placement(n, group);
        }
    }
}
