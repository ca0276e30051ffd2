//! Properties of the single machines, checked on random inputs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod directory;
mod lease;
mod log;
mod place;
