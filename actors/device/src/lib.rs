//! The device library: what a program that is a oneM2M AE uses to talk to a onemec cluster.
//!
//! It speaks plain oneM2M over HTTP (TS-0009, JSON) and a few optional headers (docs/extensions.md). With them a device
//! keeps writing while its context moves between hosts or its host dies:
//!
//! - [`AeClient`] registers, creates containers and writes; every write is *repeatable*: after a broken connection, 503 or
//!   504 the same request goes out again with the same identifier and mark, so that it is applied once.
//! - [`Device`] runs an [`AeClient`] behind a bounded local buffer, follows steering (make before break) and moves by its
//!   own choice.
//! - [`PlainClient`] is the opposite: an unmodified HTTP/1.1 client that knows one host and none of the headers. Demo and
//!   benchmarks report the two kinds apart.
//!
//! Decisions are pure and tested without a network: [`points`] (where to go next), [`retry`] (when), [`buffer`], [`meter`].

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod buffer;
pub mod client;
pub mod device;
pub mod error;
pub mod extensions;
pub mod http1;
pub mod meter;
pub mod options;
pub mod plain;
pub mod points;
pub mod primitive;
pub mod retry;
pub mod sink;
pub mod tls;

pub use buffer::{Overflow, Reading};
pub use client::{AeClient, MoveSeen, Switch};
pub use device::{Device, DeviceReport};
pub use error::DeviceError;
pub use http1::{Answer, Connection, Connector, Endpoint, HttpError};
pub use meter::{Counters, Meter};
pub use options::DeviceOptions;
pub use plain::{Pace, PlainClient, PlainOptions, PlainReport};
pub use sink::{Event, MemorySink, Outcome, Sink};
