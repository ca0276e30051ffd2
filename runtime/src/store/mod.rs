//! What a node keeps on its disk.
//!
//! ```text
//! <data folder>/
//!   lock            held while the process lives; says who had it before          (lock)
//!   node.a, node.b  identity and boot counter, two copies                         (meta)
//!   meta/<name>     small named values: the directory's vote, its snapshot        (meta)
//!   wal/            the log of all groups' tails                                  (wal, on append)
//!   raft/           the directory's log                                           (append, opened by the directory)
//!   buffer/         what devices wrote while the node was cut off                 (buffer, on append)
//!   groups/         checkpoints and sealed segments of all groups                 (checkpoint, segment)
//! ```
//! A group lies in three layers: the *checkpoint* (machine snapshot at a place in the log, which records are kept, which
//! segments there are), the *segments* (kept records that the checkpoint covers), and the *tail* (everything after it, in
//! memory and in the log). [`group::GroupStore`] keeps them consistent; [`node::Store`] opens them all.
//!
//! What every layer promises: what was reported synced is found again after any crash; what was never written is never
//! found; damage is reported by name and place and not passed on; a failed sync ends the process.

pub mod append;
pub mod buffer;
pub mod checkpoint;
pub mod disk;
pub mod error;
pub mod group;
pub mod history;
pub mod install;
pub mod lock;
pub mod meta;
pub mod node;
pub mod seal;
pub mod segment;
pub mod seqset;
#[cfg(test)]
mod tests;
pub mod wal;

pub use error::{Before, Damage, DamageKind, StoreError};
pub use group::GroupStore;
pub use history::GroupHistory;
pub use node::{Recovery, Store, StoreOptions};
pub use wal::{AppendError, Positions};
