//! The node: transport, membership, directory, contexts, storage, supervision.

pub mod directory;
pub mod lease;
pub mod pki;
pub mod store;
pub mod transport;
