//! A group's mailbox that knows how much is in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ractor::ActorRef;

use super::group::GroupMsg;

/// Sends to the actor of one group. Ticks are not counted: a tick that comes too late is no loss.
#[derive(Clone)]
pub struct Mailbox {
    actor: ActorRef<GroupMsg>,
    queued: Arc<AtomicUsize>,
}

impl Mailbox {
    /// The mailbox of an actor; all clones share `queued`.
    pub fn new(actor: ActorRef<GroupMsg>, queued: Arc<AtomicUsize>) -> Self {
        Self { actor, queued }
    }

    /// Sends; an actor that has ended hears nothing any more.
    pub fn send(&self, message: GroupMsg) {
        self.queued.fetch_add(1, Ordering::AcqRel);
        if self.actor.send_message(message).is_err() {
            self.queued.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// The actor took a message out.
    pub fn taken(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
    }

    /// Nothing but ticks waits in it.
    pub fn is_empty(&self) -> bool {
        self.queued.load(Ordering::Acquire) == 0
    }

    /// The actor behind it.
    pub fn actor(&self) -> &ActorRef<GroupMsg> {
        &self.actor
    }
}
