//! What the tests of the CSE share: a small cluster, and clients for primitives and for HTTP.
#![allow(dead_code)]

mod answering;
mod authority;
mod http;
mod wait;
mod world;

pub use answering::Answering;
pub use authority::{Authority, provider};
pub use http::{Answer, Http};
pub use wait::until;
pub use world::{Out, START_MS, World, options, with_query};
