//! Contexts that the directory has and that never got their first record, because who was to begin them died in between
//! (rule 13: registration precedes data). Their names are given back. A whole group without a first record is the
//! replication machine's business.

use std::time::Duration;

use onemec_core::group::Input;
use onemec_core::time::Mono;
use onemec_wire::{ContextId, Seq};

use super::GroupExec;
use super::commit::WriteReply;

/// Dangling contexts are looked at so often.
pub(super) const DANGLING_LOOK: Duration = Duration::from_secs(1);
/// Whoever begins a context has begun it by then; the caller of a creation has given up long before.
const BEGIN_MAX: Duration = Duration::from_secs(30);

impl GroupExec {
    /// May this context get its first record?
    pub(super) fn may_begin(&self, context: ContextId) -> Result<(), WriteReply> {
        let known = self.replica.placement().is_some_and(|p| p.contexts.contains(&context));
        if !known {
            return Err(WriteReply::NotFound);
        }
        if self.abandoned.contains(&context) {
            let retry = self.env.limits.retry_after;
            return Err(WriteReply::not_applied("the creation took too long and was given up", retry));
        }
        Ok(())
    }

    /// Looks for contexts that nobody begins; the gate is open, so everything inherited is applied.
    pub(super) fn find_dangling(&mut self, now: Mono) {
        let (Some(contexts), Some(placement)) = (&self.contexts, self.replica.placement()) else { return };
        self.dangling.retain(|c, _| !contexts.contains(*c));
        if self.replica.log().last() == Seq(0) {
            return;
        }
        let beginning = |c: &ContextId| self.waiting.iter().any(|w| w.context == *c);
        let missing = placement.contexts.iter().copied().filter(|c| !contexts.contains(*c) && !beginning(c));
        let mut given_up = Vec::new();
        for context in missing {
            let since = *self.dangling.entry(context).or_insert(now);
            // What was there when this reign began is begun by nobody: its creator asked the former primary.
            let late = self.inherited.contains(&context) || now.since(since) >= BEGIN_MAX;
            if late && self.abandoned.insert(context) {
                given_up.push(context);
            }
        }
        for context in given_up {
            tracing::warn!(group = %self.group, %context, "a context without a first record is given up");
            self.step(now, Input::Finished(context));
        }
    }
}
