//! The node: transport, membership, directory, contexts, storage, supervision.

pub mod audit;
mod causes;
pub mod directory;
pub mod exec;
pub mod host;
pub mod lease;
pub mod membership;
pub mod meter;
pub mod peers;
pub mod pki;
pub mod port;
pub mod store;
pub mod supervise;
pub mod trace;
pub mod transport;
