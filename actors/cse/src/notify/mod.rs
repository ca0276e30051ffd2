//! Notifications on their way out: delivery of effects, and the HTTP client that everything outgoing goes through.

mod deliver;
mod dropped;
mod policy;
mod sender;
mod tls;
mod verdict;

pub use deliver::NotifyHandler;
pub use policy::{SendOptions, SendPolicy};
pub use sender::{Answered, Sender};
