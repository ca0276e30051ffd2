//! The oneM2M CSE: resources and procedures over movable contexts, read index, front door, HTTP binding, notifications.
#![forbid(unsafe_code)]

pub mod access;
mod codec;
pub mod front;
pub mod http;
pub mod index;
pub mod machine;
pub mod notify;
pub mod op;
pub mod read;
pub mod rid;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tree;
pub mod view;

pub use front::{AuthMode, Caller, Cse, CseOptions, CseParts, Handled, PeerCse, Proof};
pub use index::CseIndex;
pub use machine::TreeFactory;
pub use notify::NotifyHandler;
