//! Which frames may come when, on each kind of stream: one small state machine per channel.
//!
//! | channel | first | then | end |
//! | --- | --- | --- | --- |
//! | control, at the acceptor | Hello | Credit, GoAway, Ping, Pong | only with the connection |
//! | control, at the dialler | Welcome or GoAway | Credit, GoAway, Ping, Pong | only with the connection |
//! | lane | LaneOpen | Tell, Ask, Reply, Fail | only with the connection |
//! | call, at the called | Call | nothing | after it |
//! | call, at the caller | Reply or Fail | nothing | after it |
//! | transfer, at the receiver | Transfer | raw bytes | anywhere in the raw bytes |
//! | transfer, at the sender | TransferEnd | nothing | after it |

use bytes::Bytes;

use crate::code::ProtocolError;
use crate::codec;
use crate::decode::Decoder;
use crate::frame::{Frame, Kind};
use crate::greeting::{BODY_VERSION, Credit, Fail, GoAway, Greeting, Purpose, TransferEnd};
use crate::limits::{
    CALL_FRAME_BYTES_MAX, CONTROL_FRAME_BYTES_MAX, CREDIT_WINDOW_BYTES_MAX, FIXED_LANES, LANE_FRAME_BYTES_MAX,
    MESSAGE_LANES_MAX, TRANSFER_FRAME_BYTES_MAX,
};
use crate::rope::Rope;
use crate::service::ServiceId;

/// A lane: one ordered stream in one direction. 0 control and Raft, 1 replication, 2 moves, from 3 on messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LaneNumber(pub u8);

impl LaneNumber {
    /// Control, Raft, leases.
    pub const CONTROL: Self = Self(0);
    /// Replication of groups and its acknowledgements.
    pub const REPLICATION: Self = Self(1);
    /// Moves.
    pub const MOVE: Self = Self(2);
    /// How many numbers there are.
    pub const COUNT: usize = (FIXED_LANES + MESSAGE_LANES_MAX) as usize;

    /// The message lane for a target's hash, of `lanes` that are open.
    pub const fn message(target: u64, lanes: u8) -> Self {
        let lanes = if lanes == 0 { 1 } else { lanes };
        // Fibonacci hashing: callers may use plain counters as targets.
        let spread = target.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        Self(FIXED_LANES + (spread % lanes as u64) as u8)
    }
    /// Frames on it cost credit.
    pub const fn is_message(self) -> bool {
        self.0 >= FIXED_LANES
    }
    /// The lane with this number, if a sender with `message_lanes` of them may open it.
    pub fn check(number: u64, message_lanes: u8) -> Result<Self, ProtocolError> {
        match u8::try_from(number) {
            Ok(n) if n < FIXED_LANES + message_lanes.min(MESSAGE_LANES_MAX) => Ok(Self(n)),
            _ => Err(ProtocolError::Lane(number)),
        }
    }
}

/// Which end of which channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Control stream, at the node that accepted the connection.
    ControlAcceptor,
    /// Control stream, at the node that dialled.
    ControlDialler,
    /// Receiving end of a lane whose sender announced so many message lanes.
    Lane {
        /// From the sender's greeting.
        message_lanes: u8,
    },
    /// Call stream, at the node that was called.
    Called,
    /// Call stream, at the node that called.
    Caller,
    /// Transfer stream, at the receiver.
    TransferReceiver,
    /// Transfer stream, at the sender.
    TransferSender,
}

impl Role {
    const fn frame_bytes_max(self) -> usize {
        match self {
            Self::ControlAcceptor | Self::ControlDialler => CONTROL_FRAME_BYTES_MAX,
            Self::Lane { .. } => LANE_FRAME_BYTES_MAX,
            Self::Called | Self::Caller => CALL_FRAME_BYTES_MAX,
            Self::TransferReceiver | Self::TransferSender => TRANSFER_FRAME_BYTES_MAX,
        }
    }
    const fn name(self) -> &'static str {
        match self {
            Self::ControlAcceptor | Self::ControlDialler => "the control stream",
            Self::Lane { .. } => "a lane",
            Self::Called | Self::Caller => "a call stream",
            Self::TransferReceiver | Self::TransferSender => "a transfer stream",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing came yet.
    Begin,
    /// The long-lived channel is open.
    Open,
    /// The one frame that may come has come.
    Done,
    /// The rest is raw bytes.
    Raw,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Begin => "beginning",
            Self::Open => "open",
            Self::Done => "done",
            Self::Raw => "in raw bytes",
        }
    }
}

/// What came on a channel, checked and decoded as far as the transport itself is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Item {
    Hello(Greeting, Purpose),
    Welcome(Greeting, Purpose),
    Credit(u64),
    GoAway(GoAway),
    Ping(u64),
    Pong(u64),
    LaneOpen(LaneNumber),
    Tell(Frame),
    Ask(Frame),
    Reply(Frame),
    Fail(Frame, Fail),
    Call(Frame),
    Transfer(Frame),
    /// A piece of a transfer's raw bytes.
    Raw(Rope),
    TransferEnd(Frame, TransferEnd),
}

/// The receiving end of one stream: bytes in, items out.
///
/// Legal order: `push` and `next` until an error, `end` once when the stream has ended. After an error the connection is
/// closed with its code.
#[derive(Debug)]
pub struct Channel {
    role: Role,
    state: State,
    decoder: Decoder,
}

impl Channel {
    /// A new stream.
    pub const fn new(role: Role) -> Self {
        Self { role, state: State::Begin, decoder: Decoder::new(role.frame_bytes_max()) }
    }

    /// More bytes of the stream.
    pub fn push(&mut self, piece: Bytes) {
        self.decoder.push(piece);
    }

    /// The next item; `None` when more bytes are needed.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Item>, ProtocolError> {
        if self.state == State::Raw {
            let raw = self.decoder.take_raw();
            return Ok((!raw.is_empty()).then_some(Item::Raw(raw)));
        }
        let Some(frame) = self.decoder.next()? else { return Ok(None) };
        self.item(frame).map(Some)
    }

    /// The stream has ended: was that allowed?
    pub fn end(&self) -> Result<(), ProtocolError> {
        self.decoder.end()?;
        match self.state {
            State::Done | State::Raw => Ok(()),
            State::Begin => Err(ProtocolError::Truncated("its beginning")),
            State::Open => Err(ProtocolError::Truncated("its life")),
        }
    }

    /// See [`Decoder::missing`].
    pub fn missing(&self) -> usize {
        self.decoder.missing()
    }

    /// See [`Decoder::copied_bytes`].
    pub fn copied_bytes(&self) -> u64 {
        self.decoder.copied_bytes()
    }

    fn item(&mut self, frame: Frame) -> Result<Item, ProtocolError> {
        let kind = frame.kind;
        let (item, next) = match (self.role, self.state, kind) {
            (Role::ControlAcceptor, State::Begin, Kind::Hello) => {
                let greeting: Greeting = own_body(&frame)?;
                let purpose = greeting.check(kind)?;
                (Item::Hello(greeting, purpose), State::Open)
            }
            (Role::ControlDialler, State::Begin, Kind::Welcome) => {
                let greeting: Greeting = own_body(&frame)?;
                let purpose = greeting.check(kind)?;
                (Item::Welcome(greeting, purpose), State::Open)
            }
            (Role::ControlDialler, State::Begin, Kind::GoAway) => (Item::GoAway(own_body(&frame)?), State::Done),
            (Role::ControlAcceptor | Role::ControlDialler, State::Open, _) => (control(&frame)?, State::Open),
            (Role::Lane { message_lanes }, State::Begin, Kind::LaneOpen) => {
                own_empty(&frame)?;
                (Item::LaneOpen(LaneNumber::check(frame.target, message_lanes)?), State::Open)
            }
            (Role::Lane { .. }, State::Open, Kind::Tell) => {
                zero("correlation", frame.correlation)?;
                (Item::Tell(frame), State::Open)
            }
            (Role::Lane { .. }, State::Open, Kind::Ask) => (Item::Ask(frame), State::Open),
            (Role::Lane { .. }, State::Open, Kind::Reply) => (Item::Reply(frame), State::Open),
            (Role::Lane { .. }, State::Open, Kind::Fail) => (fail(frame)?, State::Open),
            (Role::Called, State::Begin, Kind::Call) => (Item::Call(frame), State::Done),
            (Role::Caller, State::Begin, Kind::Reply) => (Item::Reply(frame), State::Done),
            (Role::Caller, State::Begin, Kind::Fail) => (fail(frame)?, State::Done),
            (Role::TransferReceiver, State::Begin, Kind::Transfer) => {
                zero("attachments", frame.attachments.len() as u64)?;
                (Item::Transfer(frame), State::Raw)
            }
            (Role::TransferSender, State::Begin, Kind::TransferEnd) => {
                let end: TransferEnd = body(&frame, |e: &TransferEnd| e.body_version)?;
                if frame.attachments.len() > 1 {
                    return Err(ProtocolError::Body(kind));
                }
                (Item::TransferEnd(frame, end), State::Done)
            }
            (role, state, kind) => {
                return Err(ProtocolError::Unexpected { kind, channel: role.name(), state: state.name() });
            }
        };
        self.state = next;
        Ok(item)
    }
}

fn control(frame: &Frame) -> Result<Item, ProtocolError> {
    match frame.kind {
        Kind::Credit => {
            let credit: Credit = own_body(frame)?;
            if credit.bytes > CREDIT_WINDOW_BYTES_MAX {
                return Err(ProtocolError::Body(Kind::Credit));
            }
            Ok(Item::Credit(credit.bytes))
        }
        Kind::GoAway => own_body(frame).map(Item::GoAway),
        Kind::Ping => own_empty(frame).map(|()| Item::Ping(frame.correlation)),
        Kind::Pong => own_empty(frame).map(|()| Item::Pong(frame.correlation)),
        kind => Err(ProtocolError::Unexpected { kind, channel: "the control stream", state: State::Open.name() }),
    }
}

fn fail(frame: Frame) -> Result<Item, ProtocolError> {
    let fail: Fail = body(&frame, |f: &Fail| f.body_version)?;
    zero("attachments", frame.attachments.len() as u64)?;
    Ok(Item::Fail(frame, fail))
}

trait Versioned {
    fn body_version(&self) -> u8;
}
macro_rules! versioned {
    ($($t:ty),*) => {$(impl Versioned for $t { fn body_version(&self) -> u8 { self.body_version } })*};
}
versioned!(Greeting, Credit, GoAway);

fn body<T: codec::Decode<()>>(frame: &Frame, version: impl Fn(&T) -> u8) -> Result<T, ProtocolError> {
    match codec::decode::<T>(&frame.body) {
        Ok(value) if version(&value) == BODY_VERSION => Ok(value),
        _ => Err(ProtocolError::Body(frame.kind)),
    }
}

/// The body of a frame of the transport itself: no service, no attachments.
fn own_body<T: codec::Decode<()> + Versioned>(frame: &Frame) -> Result<T, ProtocolError> {
    own(frame)?;
    body(frame, T::body_version)
}

fn own_empty(frame: &Frame) -> Result<(), ProtocolError> {
    own(frame)?;
    zero("body", frame.body.len() as u64)
}

fn own(frame: &Frame) -> Result<(), ProtocolError> {
    zero("service", u64::from(frame.service.0 ^ ServiceId::TRANSPORT.0))?;
    zero("deadline", u64::from(frame.deadline_ms))?;
    zero("attachments", frame.attachments.len() as u64)
}

fn zero(what: &'static str, value: u64) -> Result<(), ProtocolError> {
    if value == 0 { Ok(()) } else { Err(ProtocolError::Field(what)) }
}
