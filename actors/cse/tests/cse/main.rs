//! Procedures of the CSE by rule, through `Cse::handle` and over HTTP, on the in-memory cluster.
#![allow(unreachable_pub)] // The items of a test's modules are public to each other only.

mod access;
mod addressing;
mod bad_input;
mod containers;
mod credentials;
mod determinism;
mod discovery;
mod groups;
mod handover;
mod http_first;
mod notifications;
mod registration;
mod resources;
mod support;
