//! The payloads of the groups' log.
//!
//! ```text
//!  0               16              24
//! +---------------+---------------+------------------------------------------------------+
//! | group         | gnum u64      | kind 1, records: the records as they are, one after the other
//! |               |               | kind 2, state: epoch u64, flags u64 (1 = complete), note
//! |               |               | kind 3, truncate: after u64
//! |               |               | kind 4, forget: nothing
//! +---------------+---------------+------------------------------------------------------+
//! ```
//! Numbers are little-endian; the frame around it has the checksum and each record its own. `gnum` counts the frames of
//! one group without a gap, so that a group from which damage took something is told from one that lost nothing.

use bytes::{BufMut, Bytes, BytesMut};
use onemec_wire::record::Record;
use onemec_wire::{Epoch, GroupId, Seq};

use crate::store::append::Frame;

pub(super) const KIND_RECORDS: u8 = 1;
pub(super) const KIND_STATE: u8 = 2;
pub(super) const KIND_TRUNCATE: u8 = 3;
pub(super) const KIND_FORGET: u8 = 4;
/// Longest note.
pub const NOTE_BYTES_MAX: usize = 64 << 10;
const PREFIX_BYTES: usize = 24;

/// What a replica remembers of its group beside the records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Highest epoch seen; lower ones are refused (rule 5).
    pub epoch: Epoch,
    /// This replica holds everything (rule 7).
    pub complete: bool,
    /// Whatever the executor wants to find again; small.
    pub note: Bytes,
}

/// A frame, read.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) group: GroupId,
    pub(super) gnum: u64,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    /// Slices of the payload.
    Records(Vec<Record>),
    State(GroupState),
    Truncate(Seq),
    Forget,
}

fn prefix(group: GroupId, gnum: u64, room: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(PREFIX_BYTES + room);
    out.put_slice(&group.0);
    out.put_u64_le(gnum);
    out
}

pub(super) fn records(group: GroupId, gnum: u64, records: &[Record]) -> Frame {
    let mut parts = Vec::with_capacity(records.len() + 1);
    parts.push(prefix(group, gnum, 0).freeze());
    parts.extend(records.iter().map(|r| r.bytes().clone()));
    Frame { kind: KIND_RECORDS, parts }
}

pub(super) fn state(group: GroupId, gnum: u64, state: &GroupState) -> Frame {
    let mut out = prefix(group, gnum, 16);
    out.put_u64_le(state.epoch.0);
    out.put_u64_le(u64::from(state.complete));
    Frame { kind: KIND_STATE, parts: vec![out.freeze(), state.note.clone()] }
}

pub(super) fn truncate(group: GroupId, gnum: u64, after: Seq) -> Frame {
    let mut out = prefix(group, gnum, 8);
    out.put_u64_le(after.0);
    Frame { kind: KIND_TRUNCATE, parts: vec![out.freeze()] }
}

pub(super) fn forget(group: GroupId, gnum: u64) -> Frame {
    Frame { kind: KIND_FORGET, parts: vec![prefix(group, gnum, 0).freeze()] }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads a frame; `None` if it is not one of ours, or its records are not whole ones of its group.
pub(super) fn parse(kind: u8, payload: &Bytes) -> Option<Parsed> {
    let group = GroupId(payload.get(..16)?.try_into().ok()?);
    let gnum = number(payload, 16)?;
    let content = match kind {
        KIND_RECORDS => {
            let mut rest = payload.slice(PREFIX_BYTES..);
            let mut records = Vec::new();
            while !rest.is_empty() {
                let (record, len) = Record::parse(&rest).ok()?;
                if record.group() != group {
                    return None;
                }
                records.push(record);
                rest = rest.slice(len..);
            }
            Content::Records(records)
        }
        KIND_STATE => Content::State(GroupState {
            epoch: Epoch(number(payload, PREFIX_BYTES)?),
            complete: number(payload, PREFIX_BYTES + 8)? & 1 == 1,
            note: Bytes::copy_from_slice(payload.get(PREFIX_BYTES + 16..)?),
        }),
        KIND_TRUNCATE => Content::Truncate(Seq(number(payload, PREFIX_BYTES)?)),
        KIND_FORGET => Content::Forget,
        _ => return None,
    };
    Some(Parsed { group, gnum, content })
}
