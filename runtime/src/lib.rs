//! The node: transport, membership, directory, contexts, storage, supervision.

pub mod pki;
pub mod store;
