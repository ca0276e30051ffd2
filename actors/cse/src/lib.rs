//! The oneM2M CSE: resources and procedures over movable contexts, read index, front door, HTTP binding, notifications.
#![forbid(unsafe_code)]

pub mod access;
mod codec;
pub mod index;
pub mod machine;
pub mod op;
pub mod rid;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tree;
pub mod view;
