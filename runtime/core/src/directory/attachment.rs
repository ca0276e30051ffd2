//! Re-attachments: a client comes to a node of its choice and brings its context along (rows H04, S04).
//!
//! Each context counts them. Whoever is allowed to make one holds its number (a signed handover token carries it), and only
//! the number that is next counts: so that one permission makes one re-attachment, whatever is repeated, delayed or sent to
//! two nodes at once. Moves that others ordered and failovers do not count: a client that did not hear of them comes back
//! with the permission that it has.

use bincode::{Decode, Encode};
use onemec_wire::{ContextId, GroupId, NodeId};
use serde::{Deserialize, Serialize};

use super::{Directory, Refusal};

/// The permission for one re-attachment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize)]
pub struct Attachment {
    /// What is brought along.
    pub context: ContextId,
    /// How many there were before it.
    pub number: u64,
}

/// The re-attachments of a context so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Attached {
    /// How many.
    pub count: u64,
    /// Where the last one led.
    pub at: Option<NodeId>,
}

/// What a permission is worth at a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is the next one.
    Next,
    /// It is the one that led to this node, which still serves the context: the same request again.
    Done,
    /// It was used, and led elsewhere or was followed by another move.
    Spent,
    /// This directory has not heard of the re-attachment before it: look again, with a look-up that is not stale.
    Unheard,
}

impl Directory {
    /// What a permission is worth at a node; `None` if the context is not known here.
    pub fn standing(&self, attachment: Attachment, node: NodeId) -> Option<Standing> {
        let entry = self.contexts.get(&attachment.context)?;
        let Attached { count, at } = entry.attached;
        let serves = || self.groups.get(&entry.group).is_some_and(|p| p.primary.node == node);
        Some(match attachment.number {
            number if number == count => Standing::Next,
            number if number > count => Standing::Unheard,
            number if number + 1 == count && at == Some(node) && serves() => Standing::Done,
            _ => Standing::Spent,
        })
    }

    /// Fails unless it is the next one of a context of the group.
    pub(super) fn check_attachment(&self, group: GroupId, attachment: Attachment) -> Result<(), Refusal> {
        let entry = self.contexts.get(&attachment.context).filter(|e| e.group == group).ok_or(Refusal::NoContext)?;
        let count = entry.attached.count;
        if attachment.number == count { Ok(()) } else { Err(Refusal::Attached { count }) }
    }

    /// Counts it; it was checked.
    pub(super) fn count_attachment(&mut self, attachment: Attachment, node: NodeId) {
        if let Some(entry) = self.contexts.get_mut(&attachment.context) {
            entry.attached = Attached { count: entry.attached.count + 1, at: Some(node) };
        }
    }

    /// A re-attachment at the node that serves the context already: only the permission is used up.
    pub(super) fn attach(&mut self, attachment: Attachment, node: NodeId) -> Result<(), Refusal> {
        let group = self.contexts.get(&attachment.context).ok_or(Refusal::NoContext)?.group;
        self.check_attachment(group, attachment)?;
        let primary = self.groups.get(&group).ok_or(Refusal::NoGroup)?.primary;
        if primary.node != node {
            return Err(Refusal::NotAllowed(format!("{} serves the context, not {node}", primary.node)));
        }
        self.count_attachment(attachment, node);
        Ok(())
    }
}
