//! oneM2M data types and pure procedures (release 3, see `tables/SOURCES.md`): no I/O, no clock. Everything here is told
//! the time as milliseconds since 1970.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

pub mod access;
pub mod address;
pub mod attributes;
mod codec;
pub mod content_info;
pub mod duration;
pub mod filter;
pub mod http_binding;
pub mod id;
mod json;
pub mod limits;
pub mod notification;
pub mod operation;
mod params;
mod primitive_json;
pub mod representation;
pub mod request;
pub mod response;
pub mod result;
pub mod rsc;
pub mod schedule;
pub mod tables;
pub mod time;
mod typed;
pub mod value;
pub mod view;

pub use attributes::Attributes;
pub use id::CseIdentity;
pub use operation::{ContentStatus, IdFormat, Operation, Release, ResponseType, ResultContent};
pub use request::Request;
pub use response::Response;
pub use rsc::{Refusal, Rsc};
pub use tables::{AttrId, Ty};
pub use time::{AbsRelTimestamp, Timestamp};
pub use value::{Span, Value};
pub use view::{Resource, Tree};
