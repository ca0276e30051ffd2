//! The node: transport, membership, directory, contexts, storage, supervision.

pub mod lease;
pub mod (directory);
pub mod directory;
pub mod pki;
pub mod transport;
pub mod store;
