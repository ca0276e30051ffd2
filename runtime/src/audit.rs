//! The audit log: every acknowledgement with its place, every opening and closing of a gate, for the history checker (I1,
//! I5, I6). A bounded ring in memory and, where asked for, a file of JSON lines that outlives a killed node.
//!
//! Times are `CLOCK_BOOTTIME` in nanoseconds: comparable between the processes of one machine.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use onemec_core::time::Mono;
use onemec_wire::{ContextId, Epoch, GroupId, Incarnation, Seq};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::exec::clock::boottime;

/// Lines kept in memory; older ones are only in the file.
const RING_MAX: usize = 262_144;

/// One line of a node's audit log: `audit.jsonl` in its data folder, and `GET /admin/v1/audit?after=&limit=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLine {
    /// Number of the line in this node's log, rising over restarts.
    pub n: u64,
    /// The node that wrote it.
    pub node: String,
    /// Its boot.
    pub incarnation: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: AuditEvent,
}

/// What an audit line records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum AuditEvent {
    /// As primary, this node acknowledged the operations `seq..=last_seq` of one context of a group. A line may cover
    /// several neighbours: `received_ns` is then the latest reception, `at_ns` the earliest answer.
    Acknowledged {
        /// Context.
        context: String,
        /// Group.
        group: String,
        /// Epoch.
        epoch: u64,
        /// First place in the group's log.
        seq: u64,
        /// Last; absent: the same.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_seq: Option<u64>,
        /// When the request came in at this node.
        received_ns: u64,
        /// When the answer left.
        at_ns: u64,
    },
    /// This node's gate for a group opened: it is primary.
    Serving {
        /// Group.
        group: String,
        /// Its contexts.
        contexts: Vec<String>,
        /// Epoch.
        epoch: u64,
        /// When.
        at_ns: u64,
    },
    /// The gate closed (freeze, demotion, loss of the lease).
    Ceased {
        /// Group.
        group: String,
        /// Epoch.
        epoch: u64,
        /// When.
        at_ns: u64,
    },
    /// This node's CSE became the registrar of an AE.
    Registrar {
        /// AE-ID stem.
        ae: String,
        /// Its context.
        context: String,
        /// Epoch.
        epoch: u64,
        /// When.
        at_ns: u64,
    },
    /// Contexts changed their group on purpose (regroup, creation in a group).
    Regrouped {
        /// The new group.
        group: String,
        /// Who is in it now.
        contexts: Vec<String>,
        /// Epoch.
        epoch: u64,
        /// When.
        at_ns: u64,
    },
}

struct State {
    next: u64,
    ring: VecDeque<AuditLine>,
    file: Option<File>,
    buffer: Vec<u8>,
}

/// See the module's documentation.
pub struct Audit {
    node: String,
    incarnation: Incarnation,
    state: Mutex<State>,
}

impl Audit {
    /// Begins a log; `file` is appended to. Numbers go on from `first`, which must rise from boot to boot.
    pub fn new(node: &str, incarnation: Incarnation, first: u64, file: Option<&Path>) -> std::io::Result<Self> {
        let file = file.map(|f| OpenOptions::new().create(true).append(true).open(f)).transpose()?;
        let state = State { next: first, ring: VecDeque::new(), file, buffer: Vec::new() };
        Ok(Self { node: node.into(), incarnation, state: Mutex::new(state) })
    }

    /// An operation is acknowledged now.
    pub fn acknowledged(&self, group: GroupId, context: ContextId, epoch: Epoch, seq: Seq, received: Mono) {
        self.note(AuditEvent::Acknowledged {
            context: context.to_string(),
            group: group.to_string(),
            epoch: epoch.0,
            seq: seq.0,
            last_seq: None,
            received_ns: received.0,
            at_ns: boottime().0,
        });
    }

    /// A gate opened or closed.
    pub fn gate(&self, group: GroupId, epoch: Epoch, open: bool, contexts: impl Iterator<Item = ContextId>) {
        let (group, epoch, at_ns) = (group.to_string(), epoch.0, boottime().0);
        self.note(if open {
            AuditEvent::Serving { group, contexts: contexts.map(|c| c.to_string()).collect(), epoch, at_ns }
        } else {
            AuditEvent::Ceased { group, epoch, at_ns }
        });
    }

    /// The group has other contexts from now on (rule 16).
    pub fn regrouped(&self, group: GroupId, epoch: Epoch, contexts: impl Iterator<Item = ContextId>) {
        let contexts = contexts.map(|c| c.to_string()).collect();
        self.note(AuditEvent::Regrouped { group: group.to_string(), contexts, epoch: epoch.0, at_ns: boottime().0 });
    }

    /// This node's CSE is the registrar of an AE from now on.
    pub fn registrar(&self, ae: &str, context: ContextId, epoch: Epoch) {
        let at_ns = boottime().0;
        self.note(AuditEvent::Registrar { ae: ae.into(), context: context.to_string(), epoch: epoch.0, at_ns });
    }

    fn note(&self, event: AuditEvent) {
        let mut state = self.state.lock();
        let line = AuditLine { n: state.next, node: self.node.clone(), incarnation: self.incarnation.0, event };
        state.next += 1;
        if state.file.is_some() {
            let mut buffer = std::mem::take(&mut state.buffer);
            buffer.clear();
            // Written before the acknowledgement leaves, so that the file of a killed node is complete.
            if serde_json::to_writer(&mut buffer, &line).is_ok() {
                buffer.push(b'\n');
                let failed = state.file.as_mut().and_then(|f| f.write_all(&buffer).err());
                if let Some(e) = failed {
                    tracing::error!("audit log: {e}; no file from now on");
                    state.file = None;
                }
            }
            state.buffer = buffer;
        }
        if state.ring.len() == RING_MAX {
            state.ring.pop_front();
        }
        state.ring.push_back(line);
    }

    /// Up to `limit` lines after line `after`.
    pub fn after(&self, after: u64, limit: usize) -> Vec<AuditLine> {
        let state = self.state.lock();
        let first = state.ring.front().map_or(0, |l| l.n);
        let skip = (after + 1).saturating_sub(first) as usize;
        state.ring.iter().skip(skip).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audit_lines_are_flat() {
        let text = r#"{"n":1,"node":"edge1","incarnation":2,"event":"acknowledged","context":"c","group":"g","epoch":3,"seq":4,"received_ns":5,"at_ns":6}"#;
        let line: AuditLine = serde_json::from_str(text).unwrap();
        assert!(matches!(line.event, AuditEvent::Acknowledged { epoch: 3, last_seq: None, .. }));
        assert_eq!(serde_json::to_string(&line).unwrap(), text);
    }
}
