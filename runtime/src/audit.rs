//! The audit log: every acknowledgement with its place, for the history checker (I1, I6). A bounded ring in memory and,
//! where asked for, a file of JSON lines that outlives a killed node.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use onemec_wire::{ContextId, Epoch, GroupId, NodeId, Seq};
use parking_lot::Mutex;
use serde::Serialize;

/// Lines kept in memory; older ones are only in the file.
const RING_MAX: usize = 262_144;

/// One acknowledgement.
#[derive(Debug, Clone, Serialize)]
pub struct AuditLine {
    /// Number of the line on this node.
    pub n: u64,
    /// The node.
    pub node: u64,
    /// The context.
    pub context: String,
    /// Its group.
    pub group: String,
    /// The epoch under which it was acknowledged.
    pub epoch: u64,
    /// The record.
    pub seq: u64,
    /// It was acknowledged to a client.
    pub acknowledged: bool,
    /// `CLOCK_BOOTTIME` in nanoseconds.
    pub at_ns: u64,
}

struct State {
    next: u64,
    ring: VecDeque<AuditLine>,
    file: Option<File>,
    buffer: Vec<u8>,
}

/// See the module's documentation.
pub struct Audit {
    node: NodeId,
    state: Mutex<State>,
}

impl Audit {
    /// Begins a log; `file` is appended to.
    pub fn new(node: NodeId, file: Option<&Path>) -> std::io::Result<Self> {
        let file = file.map(|f| OpenOptions::new().create(true).append(true).open(f)).transpose()?;
        Ok(Self {
            node,
            state: Mutex::new(State { next: 1, ring: VecDeque::new(), file, buffer: Vec::new() }),
        })
    }

    /// An operation is acknowledged now.
    pub fn acknowledged(&self, group: GroupId, context: ContextId, epoch: Epoch, seq: Seq) {
        let mut state = self.state.lock();
        let line = AuditLine {
            n: state.next,
            node: self.node.0,
            context: context.to_string(),
            group: group.to_string(),
            epoch: epoch.0,
            seq: seq.0,
            acknowledged: true,
            at_ns: crate::exec::clock::boottime().0,
        };
        state.next += 1;
        if state.file.is_some() {
            let mut buffer = std::mem::take(&mut state.buffer);
            buffer.clear();
            // Written before the acknowledgement leaves, so that the file of a killed node is complete.
            if serde_json::to_writer(&mut buffer, &line).is_ok() {
                buffer.push(b'\n');
                if let Some(file) = &mut state.file
                    && let Err(e) = file.write_all(&buffer)
                {
                    tracing::error!("audit log: {e}");
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
