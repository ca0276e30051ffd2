//! An in-memory cluster behind the [`Contexts`] trait, for tests of actors: every node has its own factories and clock
//! view, contexts have a sequential log, kept records, timers and an outbox, and can be moved. Nothing is replicated and
//! nothing survives the process.
//!
//! [`Contexts`]: onemec_core::context::Contexts

mod buffer;
mod cluster;
mod node;
mod node_cse;
mod outbox;
mod slot;

pub use buffer::MemoryBuffer;
pub use cluster::{Clock, MemoryCluster};
pub use node::MemoryNode;
pub use node_cse::{Extras, start_cse};
