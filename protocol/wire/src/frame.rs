//! The frame: the unit of everything but raw transfer bytes and datagrams.
//!
//! ```text
//!  0       2   3   4       6       8              12              16
//! +-------+---+---+-------+-------+---------------+---------------+
//! | magic |ver|knd|service| n_att | body_len      | deadline_ms   |   u16 u8 u8 u16 u16 u32 u32
//! +-------+---+---+-------+-------+---------------+---------------+ 16
//! | correlation                   | target                        |   u64 u64
//! +-------------------------------+-------------------------------+ 32
//! | n_att x u32: lengths of the attachments                       |
//! | body: body_len bytes                                          |
//! | attachments, one after the other                              |
//! ```
//! Numbers are little-endian.

use bytes::Bytes;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::code::ProtocolError;
use crate::limits::{ATTACHMENTS_MAX, BODY_BYTES_MAX, FRAME_HEADER_BYTES, PROTOCOL_VERSION};
use crate::rope::Rope;
use crate::service::ServiceId;

/// First two bytes of every frame ("oF").
pub const FRAME_MAGIC: u16 = u16::from_le_bytes(*b"oF");

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Control: who dials, first frame of the dialler.
    Hello = 1,
    /// Control: the answer to Hello.
    Welcome = 2,
    /// Control: more credit for message lanes.
    Credit = 3,
    /// Control: the sender will close; nothing new may be sent to it.
    GoAway = 4,
    /// Control: are you there?
    Ping = 5,
    /// Control: the answer to Ping.
    Pong = 6,
    /// Lane: first frame, says which lane the stream is.
    LaneOpen = 16,
    /// Lane: a message that wants no answer.
    Tell = 17,
    /// Lane: a message that wants one answer.
    Ask = 18,
    /// Lane and call stream: the answer.
    Reply = 19,
    /// Lane and call stream: there is no answer, and why.
    Fail = 20,
    /// Call stream: the request.
    Call = 32,
    /// Transfer stream: what the raw bytes that follow are.
    Transfer = 48,
    /// Transfer stream: what became of them.
    TransferEnd = 49,
}

impl Kind {
    /// All kinds.
    pub const ALL: &[Self] = &[
        Self::Hello,
        Self::Welcome,
        Self::Credit,
        Self::GoAway,
        Self::Ping,
        Self::Pong,
        Self::LaneOpen,
        Self::Tell,
        Self::Ask,
        Self::Reply,
        Self::Fail,
        Self::Call,
        Self::Transfer,
        Self::TransferEnd,
    ];

    /// The kind with this number.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Hello,
            2 => Self::Welcome,
            3 => Self::Credit,
            4 => Self::GoAway,
            5 => Self::Ping,
            6 => Self::Pong,
            16 => Self::LaneOpen,
            17 => Self::Tell,
            18 => Self::Ask,
            19 => Self::Reply,
            20 => Self::Fail,
            32 => Self::Call,
            48 => Self::Transfer,
            49 => Self::TransferEnd,
            _ => return None,
        })
    }
}

/// The fixed part of a frame, as drawn at the top of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
#[allow(missing_docs)]
pub struct FrameHeader {
    pub magic: U16,
    pub version: u8,
    pub kind: u8,
    pub service: U16,
    pub attachments: U16,
    pub body_len: U32,
    pub deadline_ms: U32,
    pub correlation: U64,
    pub target: U64,
}

/// A frame, received or to be sent. Cloning shares the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// Whom it is for.
    pub service: ServiceId,
    /// Ask and Call: the time left for the answer, in milliseconds; 0 = no limit.
    pub deadline_ms: u32,
    /// Ask, Call and their answers: chosen by the asker, unique on the connection among those that wait.
    pub correlation: u64,
    /// Hash of the target: messages with the same one keep their order. LaneOpen: the lane's number.
    pub target: u64,
    /// Control part, encoded.
    pub body: Bytes,
    /// Payload as it is.
    pub attachments: Vec<Rope>,
}

impl Frame {
    /// A frame with a body and nothing else.
    pub const fn new(kind: Kind, service: ServiceId, body: Bytes) -> Self {
        Self { kind, service, deadline_ms: 0, correlation: 0, target: 0, body, attachments: Vec::new() }
    }

    /// Its length on the wire in bytes.
    pub fn wire_len(&self) -> usize {
        let attached: usize = self.attachments.iter().map(|a| 4 + a.len()).sum();
        FRAME_HEADER_BYTES + self.body.len() + attached
    }

    /// Its header; fails when a limit is passed.
    pub fn header(&self, frame_bytes_max: usize) -> Result<FrameHeader, ProtocolError> {
        check("attachments", self.attachments.len(), ATTACHMENTS_MAX)?;
        check("body", self.body.len(), BODY_BYTES_MAX)?;
        check("frame", self.wire_len(), frame_bytes_max)?;
        // Both fit: the limits are far below the types' ends.
        let attachments = u16::try_from(self.attachments.len()).unwrap_or(u16::MAX);
        let body_len = u32::try_from(self.body.len()).unwrap_or(u32::MAX);
        Ok(FrameHeader {
            magic: U16::new(FRAME_MAGIC),
            version: PROTOCOL_VERSION,
            kind: self.kind as u8,
            service: U16::new(self.service.0),
            attachments: U16::new(attachments),
            body_len: U32::new(body_len),
            deadline_ms: U32::new(self.deadline_ms),
            correlation: U64::new(self.correlation),
            target: U64::new(self.target),
        })
    }
}

impl FrameHeader {
    /// Checks what can be checked without the rest; the kind.
    pub(crate) fn check(&self, frame_bytes_max: usize) -> Result<Kind, ProtocolError> {
        if self.magic.get() != FRAME_MAGIC {
            return Err(ProtocolError::Magic(self.magic.get()));
        }
        if self.version != PROTOCOL_VERSION {
            return Err(ProtocolError::Version(self.version));
        }
        let kind = Kind::from_u8(self.kind).ok_or(ProtocolError::Kind(self.kind))?;
        let (attachments, body) = (usize::from(self.attachments.get()), self.body_len.get() as usize);
        check("attachments", attachments, ATTACHMENTS_MAX)?;
        check("body", body, BODY_BYTES_MAX)?;
        check("frame", FRAME_HEADER_BYTES + body + 4 * attachments, frame_bytes_max)?;
        Ok(kind)
    }
}

pub(crate) fn check(what: &'static str, len: usize, limit: usize) -> Result<(), ProtocolError> {
    if len > limit {
        return Err(ProtocolError::TooLong { what, len: len as u64, limit: limit as u64 });
    }
    Ok(())
}
