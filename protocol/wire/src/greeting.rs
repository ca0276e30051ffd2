//! The bodies of the transport's own frames, and the rules by which two nodes agree.

use bytes::Bytes;

use crate::code::{CloseCode, FailCode, ProtocolError};
use crate::codec::{self, Decode, Encode};
use crate::frame::{Frame, Kind};
use crate::ids::{Member, NodeId};
use crate::limits::{
    CREDIT_WINDOW_BYTES_MAX, CREDIT_WINDOW_BYTES_MIN, DOMAIN_BYTES_MAX, MESSAGE_LANES_MAX, TEXT_BYTES_MAX,
};
use crate::service::ServiceId;

/// Version of all bodies in this module; stands first in each.
pub const BODY_VERSION: u8 = 1;

/// What a connection is for. Two nodes keep one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Purpose {
    /// Control stream, lanes, calls and datagrams.
    Lanes = 1,
    /// Control stream and transfer streams.
    Transfers = 2,
}

/// A cluster, and which life of it: a restored backup is another generation (DESIGN.md, day two).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Encode, Decode, serde::Serialize, serde::Deserialize)]
pub struct Cluster {
    /// Random, made with the cluster's CA.
    pub id: [u8; 16],
    /// Grows when a backup is restored.
    pub generation: u32,
}

/// Body of Hello (the dialler's) and Welcome (the acceptor's): who the sender is and what it can do.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Greeting {
    /// [`BODY_VERSION`].
    pub body_version: u8,
    /// Oldest protocol version the sender speaks.
    pub protocol_min: u8,
    /// Newest protocol version the sender speaks.
    pub protocol_max: u8,
    /// [`Purpose`] as a number; the Welcome repeats it.
    pub purpose: u8,
    /// How many message lanes the sender will open (1 to [`MESSAGE_LANES_MAX`]).
    pub message_lanes: u8,
    /// Optional features the sender has, one bit each.
    pub features: u64,
    /// Features that the other side must have.
    pub required: u64,
    /// The sender's node id; must be that of its certificate.
    pub member: Member,
    /// The sender's domain; must be that of its certificate.
    pub domain: String,
    /// The sender's cluster; compared only within one domain.
    pub cluster: Cluster,
    /// Credit for message lanes that the sender grants at the start, in bytes; also its window.
    pub credit_bytes: u64,
}

/// What two greetings lead to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// The newest version that both speak.
    pub protocol: u8,
    /// The features that both have.
    pub features: u64,
}

impl Greeting {
    /// Checks what a well-behaved node never sends, and gives the purpose.
    pub fn check(&self, kind: Kind) -> Result<Purpose, ProtocolError> {
        let bad = Err(ProtocolError::Body(kind));
        let purpose = match self.purpose {
            1 => Purpose::Lanes,
            2 => Purpose::Transfers,
            _ => return bad,
        };
        let lanes = (1..=MESSAGE_LANES_MAX).contains(&self.message_lanes);
        let credit = (CREDIT_WINDOW_BYTES_MIN..=CREDIT_WINDOW_BYTES_MAX).contains(&self.credit_bytes);
        let domain = (1..=DOMAIN_BYTES_MAX).contains(&self.domain.len());
        let versions = self.protocol_min <= self.protocol_max && self.body_version == BODY_VERSION;
        if lanes && credit && domain && versions { Ok(purpose) } else { bad }
    }

    /// The rule of versions and features: the newest common version, the common features; none, or a required feature
    /// missing on either side, closes with [`CloseCode::VersionMismatch`]. Within one domain the cluster must be the same.
    pub fn agree(&self, theirs: &Self) -> Result<Agreed, CloseCode> {
        let protocol = self.protocol_max.min(theirs.protocol_max);
        let missing = (self.required & !theirs.features) | (theirs.required & !self.features);
        if protocol < self.protocol_min.max(theirs.protocol_min) || missing != 0 {
            return Err(CloseCode::VersionMismatch);
        }
        if self.domain == theirs.domain && self.cluster != theirs.cluster {
            return Err(CloseCode::WrongCluster);
        }
        Ok(Agreed { protocol, features: self.features & theirs.features })
    }
}

/// What a node has towards a peer, for one purpose, when a Hello of that peer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// Nothing, or a dial that has not sent its Hello.
    Empty,
    /// An own dial that has sent its Hello and waits for the Welcome.
    HelloSent,
    /// A connection with this boot of the peer, dialled by us or by the peer.
    Up {
        /// The peer's boot.
        peer: Member,
        /// We dialled it.
        dialled_by_us: bool,
    },
}

/// What to do with a Hello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Answer Welcome; whatever there was is closed with [`CloseCode::Replaced`] or abandoned.
    Accept,
    /// Close the new connection with this code.
    Refuse(CloseCode),
}

/// The rule for two nodes that dial each other: the connection dialled by the lower id wins. A newer boot of the peer
/// wins over everything, an older one loses. If the peer dials again what it dialled before, it has lost the old one.
pub fn on_hello(me: NodeId, peer: Member, slot: Slot) -> Decision {
    let mine_wins = me < peer.node;
    match slot {
        Slot::Empty => Decision::Accept,
        Slot::HelloSent if mine_wins => Decision::Refuse(CloseCode::Duplicate),
        Slot::HelloSent => Decision::Accept,
        Slot::Up { peer: old, .. } if peer.incarnation > old.incarnation => Decision::Accept,
        Slot::Up { peer: old, .. } if peer.incarnation < old.incarnation => {
            Decision::Refuse(CloseCode::StaleIncarnation)
        }
        Slot::Up { dialled_by_us: true, .. } if mine_wins => Decision::Refuse(CloseCode::Duplicate),
        Slot::Up { .. } => Decision::Accept,
    }
}

/// Body of Credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Credit {
    /// [`BODY_VERSION`].
    pub body_version: u8,
    /// More bytes that may be sent on message lanes.
    pub bytes: u64,
}

/// Body of GoAway.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct GoAway {
    /// [`BODY_VERSION`].
    pub body_version: u8,
    /// Number of a [`CloseCode`].
    pub code: u32,
    /// For a person.
    pub text: String,
}

/// Body of Fail.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fail {
    /// [`BODY_VERSION`].
    pub body_version: u8,
    /// A [`FailCode`], or a service's own code.
    pub code: u16,
    /// For a person.
    pub text: String,
}

/// Body of TransferEnd. A service's answer, if there is one, is the only attachment.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct TransferEnd {
    /// [`BODY_VERSION`].
    pub body_version: u8,
    /// 0: taken. Else a [`FailCode`] or a service's own code.
    pub code: u16,
    /// Raw bytes that the receiver took: the sender compares.
    pub bytes: u64,
    /// For a person.
    pub text: String,
}

/// Cuts a text at [`TEXT_BYTES_MAX`], between two characters.
pub fn short_text(text: &str) -> String {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// A frame of the transport itself. Its bodies are small and always encode; an empty body would be refused by the peer.
fn own(kind: Kind, body: &impl Encode) -> Frame {
    let body = codec::encode(body).unwrap_or_else(|_| Bytes::new());
    Frame::new(kind, ServiceId::TRANSPORT, body)
}

/// Hello.
pub fn hello(greeting: &Greeting) -> Frame {
    own(Kind::Hello, greeting)
}
/// Welcome.
pub fn welcome(greeting: &Greeting) -> Frame {
    own(Kind::Welcome, greeting)
}
/// Credit for `bytes` more.
pub fn credit(bytes: u64) -> Frame {
    own(Kind::Credit, &Credit { body_version: BODY_VERSION, bytes })
}
/// GoAway.
pub fn go_away(code: CloseCode, text: &str) -> Frame {
    own(Kind::GoAway, &GoAway { body_version: BODY_VERSION, code: code.number(), text: short_text(text) })
}
/// Ping, to be answered with the same number.
pub const fn ping(number: u64) -> Frame {
    let mut frame = Frame::new(Kind::Ping, ServiceId::TRANSPORT, Bytes::new());
    frame.correlation = number;
    frame
}
/// The answer to Ping.
pub const fn pong(number: u64) -> Frame {
    let mut frame = Frame::new(Kind::Pong, ServiceId::TRANSPORT, Bytes::new());
    frame.correlation = number;
    frame
}
/// First frame of lane `number`.
pub const fn lane_open(number: u8) -> Frame {
    let mut frame = Frame::new(Kind::LaneOpen, ServiceId::TRANSPORT, Bytes::new());
    frame.target = number as u64;
    frame
}
/// The answer "no" to an ask or a call.
pub fn fail(service: ServiceId, correlation: u64, target: u64, code: u16, text: &str) -> Frame {
    let mut frame = own(Kind::Fail, &Fail { body_version: BODY_VERSION, code, text: short_text(text) });
    frame.service = service;
    frame.correlation = correlation;
    frame.target = target;
    frame
}
/// The same with one of the transport's own codes.
pub fn fail_code(service: ServiceId, correlation: u64, target: u64, code: FailCode) -> Frame {
    fail(service, correlation, target, code.number(), "")
}
/// The end of a transfer.
pub fn transfer_end(service: ServiceId, code: u16, bytes: u64, text: &str) -> Frame {
    let text = short_text(text);
    let mut frame = own(Kind::TransferEnd, &TransferEnd { body_version: BODY_VERSION, code, bytes, text });
    frame.service = service;
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_two_crossing_hellos_is_accepted() {
        for (a, b) in [(1, 2), (2, 1), (7, 9)] {
            let (a, b) = (Member::new(a, 1), Member::new(b, 1));
            let at_a = on_hello(a.node, b, Slot::HelloSent) == Decision::Accept;
            let at_b = on_hello(b.node, a, Slot::HelloSent) == Decision::Accept;
            assert!(at_a != at_b);
            assert_eq!(at_b, a.node < b.node, "the lower id's wins");
        }
    }

    #[test]
    fn boots_decide_before_ids() {
        let old = Slot::Up { peer: Member::new(9, 4), dialled_by_us: true };
        assert_eq!(on_hello(NodeId(1), Member::new(9, 5), old), Decision::Accept);
        assert_eq!(on_hello(NodeId(1), Member::new(9, 3), old), Decision::Refuse(CloseCode::StaleIncarnation));
        assert_eq!(on_hello(NodeId(1), Member::new(9, 4), old), Decision::Refuse(CloseCode::Duplicate));
        let theirs = Slot::Up { peer: Member::new(9, 4), dialled_by_us: false };
        assert_eq!(on_hello(NodeId(1), Member::new(9, 4), theirs), Decision::Accept, "it lost the old one");
    }
}
