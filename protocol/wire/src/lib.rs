//! The cluster wire protocol `onemec/1`, sans-IO. SPEC.md beside this crate is normative.
//!
//! ```text
//! Frame --Encoder--> pieces ~~~ QUIC stream ~~~> pieces --Channel(Decoder)--> Item
//! ```
//! A [`channel::Channel`] is the receiving end of one stream: it knows which frames may come when. An
//! [`encode::Encoder`] is the sending end. [`greeting`] holds the rules by which two nodes agree.

#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unreachable)
)]

pub mod channel;
pub mod code;
pub mod codec;
pub mod datagram;
pub mod decode;
pub mod encode;
pub mod frame;
pub mod greeting;
pub mod ids;
pub mod limits;
pub mod record;
pub mod rope;
pub mod service;

pub use channel::{Channel, Item, LaneNumber, Role};
pub use code::{CloseCode, FailCode, ProtocolError};
pub use encode::Encoder;
pub use frame::{Frame, Kind};
pub use greeting::{Cluster, Greeting, Purpose};
pub use ids::{ContextId, Epoch, GroupId, Incarnation, Member, NodeId, Seq, Version};
pub use record::{Record, RecordKind};
pub use rope::{CopyMeter, Rope};
pub use service::ServiceId;
