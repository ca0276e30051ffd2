//! Transports talk to each other on loopback, in one process. Nothing sleeps to wait: conditions are polled with a
//! deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub, missing_docs)]

#[path = "transport/basic.rs"]
mod basic;
#[path = "transport/hostile.rs"]
mod hostile;
#[path = "transport/links.rs"]
mod links;
#[path = "transport/pki.rs"]
mod pki;
#[path = "transport/world.rs"]
mod world;
