//! The admin API of a node: `/admin/v1/...` in JSON and `/metrics`, on the admin address of the topology.
//!
//! [`types`] is the contract, [`server`] serves it from an [`AdminBackend`], [`client`] asks for it, [`merge`] makes one
//! list out of several nodes' answers.

pub mod client;
mod extract;
mod listen;
pub mod merge;
pub mod server;
pub mod types;

pub use client::{AdminClient, AdminFailure};
pub use server::{AdminBackend, router, serve};
