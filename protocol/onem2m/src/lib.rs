//! oneM2M data types and pure procedures (release 3, see `tables/SOURCES.md`): no I/O, no clock. Everything here is told
//! the time as milliseconds since 1970.
//!
//! From the outside in: [`http_binding`] and [`request`]/[`response`] read and write primitives, [`address`] and [`id`] say
//! who and what is meant, [`representation`] validates content into [`attributes`], [`access`] decides who may, [`filter`]
//! finds, [`result`] and [`notification`] write what goes out. All of them are driven by [`tables`] and see resources
//! through [`view`]. What comes from outside is bounded by [`limits`], never panics, and is refused with a [`Refusal`].
//!
//! To implement one more resource type: its rows are in `tables/` already (if not, add them); put its number into
//! [`tables::IMPLEMENTED`]; write its special procedure in the CSE; add a valid body to the test
//! `a_body_of_every_implemented_type` in `representation.rs`. To add an attribute of our own: a row in
//! `tables/attributes.csv`.
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
