//! Endpoint steering (row H12): how a client without the device library reaches the node that serves it.
//!
//! - [`dns`]: an authoritative DNS server on every node; a name follows its AE
//! - [`takeover`]: the living hold the service addresses of the dead
//! - second addresses need nothing here: any node forwards

pub mod dns;
pub mod takeover;
