//! Tests of whole clusters on real processes (DESIGN.md section 9, RELIABILITY.md layers L3 and L4).
//!
//! - [`cluster`]: every node a child process of its own: SIGKILL, SIGSTOP, restart with its data
//! - [`client`]: a oneM2M client over HTTP/1.1 that shares no logic with the device library beyond the connection
//! - [`writer`]: writes numbered readings without pause and keeps the history
//! - [`disk`]: a small disk that a test fills
//! - [`history`]: reads everything back through the IN-CSE and asks the checker
//! - [`listener`]: a notification target
//! - [`net`]: network namespaces in which nodes lose sight of each other
//! - [`raw`]: bytes at a door, without a client that would refuse to send them
//!
//! Nothing waits by sleeping: [`wait`] asks until a deadline, and no test asserts a time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test program: a failure is a panic that says why

pub mod client;
pub mod cluster;
pub mod disk;
pub mod history;
pub mod listener;
pub mod net;
pub mod raw;
pub mod wait;
pub mod writer;

pub use client::Client;
pub use cluster::Cluster;
pub use listener::Listener;
pub use writer::Writer;
