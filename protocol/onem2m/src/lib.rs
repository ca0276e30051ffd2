//! oneM2M data types and pure procedures (release 3, see `tables/SOURCES.md`): no I/O, no clock. Everything here is told
//! the time as milliseconds since 1970.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod rsc;
pub mod tables;

pub use rsc::{Refusal, Rsc};
pub use tables::{AttrId, Ty};
