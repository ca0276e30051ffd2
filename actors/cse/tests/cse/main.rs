//! Procedures of the CSE by rule, through `Cse::handle` and over HTTP, on the in-memory cluster.
// Items of test modules are public to each other only; a test that cannot go on panics.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod addressing;
mod admins;
mod bad_input;
mod containers;
mod credentials;
mod cut_off;
mod determinism;
mod discovery;
mod gather;
mod groups;
mod handover;
mod http2;
mod http_first;
mod https_targets;
mod names;
mod notifications;
mod rates;
mod registration;
mod resources;
mod support;
