//! The feed of changes: what the executor of groups reacts to.

use std::collections::BTreeSet;
use std::sync::Arc;

use onemec_wire::{GroupId, NodeId};
use tokio::sync::broadcast;

/// What one batch of entries changed. The directory has it already when this arrives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ChangeSet {
    /// Index of the last entry.
    pub index: u64,
    /// Groups that were created, changed or deleted.
    pub groups: BTreeSet<GroupId>,
    /// Nodes that came, changed or died.
    pub nodes: BTreeSet<NodeId>,
}

/// What a reader of the feed is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These changed.
    Set(Arc<ChangeSet>),
    /// Too much changed at once (this reader was too slow, or a snapshot was installed): look at everything again.
    Rescan,
}

#[derive(Debug, Clone)]
enum Item {
    Set(Arc<ChangeSet>),
    Rescan,
}

/// The sending end.
#[derive(Debug, Clone)]
pub(crate) struct Announcer(broadcast::Sender<Item>);

impl Announcer {
    pub(crate) fn new(sets_max: usize) -> Self {
        Self(broadcast::channel(sets_max.max(1)).0)
    }
    pub(crate) fn announce(&self, set: ChangeSet) {
        if !set.groups.is_empty() || !set.nodes.is_empty() {
            // Fails only when nobody listens.
            let _ = self.0.send(Item::Set(Arc::new(set)));
        }
    }
    pub(crate) fn rescan(&self) {
        let _ = self.0.send(Item::Rescan);
    }
    pub(crate) fn subscribe(&self) -> ChangeFeed {
        ChangeFeed(self.0.subscribe())
    }
}

/// A reader's end. Begin with a look at the whole directory *after* subscribing; then nothing is missed.
#[derive(Debug)]
pub struct ChangeFeed(broadcast::Receiver<Item>);

impl ChangeFeed {
    /// The next change; `None` when the directory has stopped and all its handles are gone.
    pub async fn next(&mut self) -> Option<Change> {
        Some(match self.0.recv().await {
            Ok(Item::Set(set)) => Change::Set(set),
            Ok(Item::Rescan) => Change::Rescan,
            // What the buffer still holds is covered by the rescan as well, but does no harm.
            Err(broadcast::error::RecvError::Lagged(_)) => Change::Rescan,
            Err(broadcast::error::RecvError::Closed) => return None,
        })
    }
}
