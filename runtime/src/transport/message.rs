//! What is sent and what arrives.

use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::limits::{CREDIT_FRAME_OVERHEAD_BYTES, FRAME_HEADER_BYTES};
use onemec_wire::{Frame, Kind, LaneNumber, Rope, ServiceId};
use tokio::sync::OwnedSemaphorePermit;

use super::conn::Conn;

/// Which ordered stream a message takes. Messages on different lanes have no order between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Raft, leases, control: small, never waits for anything else.
    Control,
    /// Appends of groups and their acknowledgements.
    Replication,
    /// Moves.
    Move,
    /// Everything else: the target's hash picks one of the message lanes; costs credit.
    Message,
}

impl Lane {
    pub(super) const fn number(self, target: u64, message_lanes: u8) -> LaneNumber {
        match self {
            Self::Control => LaneNumber::CONTROL,
            Self::Replication => LaneNumber::REPLICATION,
            Self::Move => LaneNumber::MOVE,
            Self::Message => LaneNumber::message(target, message_lanes),
        }
    }
}

/// A message: control part and payload, for one service of one node.
///
/// A received message holds the credit that it cost its sender until it is dropped: hold it for as long as its work is
/// queued, and the sender slows down by itself.
#[derive(Debug, Default)]
pub struct Message {
    /// For which service.
    pub service: ServiceId,
    /// Messages on [`Lane::Message`] with the same target keep their order.
    pub target: u64,
    /// Control part, encoded ([`onemec_wire::codec`]); up to [`onemec_wire::limits::BODY_BYTES_MAX`].
    pub body: Bytes,
    /// Payload: never copied, never re-encoded.
    pub attachments: Vec<Rope>,
    #[allow(dead_code, reason = "held for its drop")]
    pub(super) permit: Permit,
}

impl Message {
    /// A message without payload.
    pub fn new(service: ServiceId, target: u64, body: Bytes) -> Self {
        Self { service, target, body, ..Self::default() }
    }
    /// An answer: service and target are those of the question.
    pub fn answer(body: Bytes) -> Self {
        Self { body, ..Self::default() }
    }
    /// With one more attachment.
    #[must_use]
    pub fn with(mut self, attachment: impl Into<Rope>) -> Self {
        self.attachments.push(attachment.into());
        self
    }
    /// Its length on the wire in bytes.
    pub fn wire_len(&self) -> usize {
        let attached: usize = self.attachments.iter().map(|a| 4 + a.len()).sum();
        FRAME_HEADER_BYTES + self.body.len() + attached
    }
    /// Service, target, body and attachments are the same; what it costs does not matter.
    pub fn same(&self, other: &Self) -> bool {
        (self.service, self.target) == (other.service, other.target)
            && self.body == other.body
            && self.attachments == other.attachments
    }

    pub(super) fn into_frame(self, kind: Kind) -> Frame {
        let mut frame = Frame::new(kind, self.service, self.body);
        frame.target = self.target;
        frame.attachments = self.attachments;
        frame
    }
    pub(super) fn from_frame(frame: Frame, permit: Permit) -> Self {
        let Frame { service, target, body, attachments, .. } = frame;
        Self { service, target, body, attachments, permit }
    }
}

/// What a frame costs on a message lane, in bytes of credit.
pub(super) fn cost(frame_bytes: usize) -> u64 {
    (frame_bytes + CREDIT_FRAME_OVERHEAD_BYTES) as u64
}

/// What a received message occupies; given back when it is dropped.
#[derive(Debug, Default)]
pub(super) enum Permit {
    /// Nothing: local, or a lane that costs nothing.
    #[default]
    Free,
    /// Credit of a connection.
    Credit(Arc<Conn>, u64),
    /// Part of the budget for incoming calls.
    Budget(#[allow(dead_code, reason = "held for its drop")] OwnedSemaphorePermit),
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Self::Credit(conn, cost) = self {
            conn.give_back(*cost);
        }
    }
}
