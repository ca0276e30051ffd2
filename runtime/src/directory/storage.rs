//! Where the directory's log and snapshot lie: one small trait, so that tests and the simulation can put them in memory.

use std::sync::Arc;

use bytes::Bytes;

/// The disk did not do it. What was handed in may be stored or not: the node must stop (a failed sync is never retried).
#[derive(Debug, Clone, thiserror::Error)]
#[error("directory storage failed: {0}")]
pub struct DiskFailed(pub String);

/// Called once when a record is durable, or when that failed; from the thread that syncs.
pub type Synced = Box<dyn FnOnce(Result<(), DiskFailed>) + Send>;

/// A log of records and one snapshot. Records become durable in the order of `append`.
pub trait Storage: Send + Sync + 'static {
    /// Hands a record to the thread that writes and syncs; returns its number. Numbers rise.
    fn append(&self, record: Bytes, synced: Synced) -> Result<u64, DiskFailed>;
    /// Records below `number` are no longer needed.
    fn release(&self, number: u64);
    /// Replaces the snapshot: after a crash the new one or the old one is there, whole. Blocks until it is durable.
    fn save_snapshot(&self, snapshot: Bytes) -> Result<(), DiskFailed>;
}

/// What was found at the start.
pub struct Opened {
    /// Where it goes on.
    pub storage: Arc<dyn Storage>,
    /// All records that were not released, in order. May begin with some that were.
    pub records: Vec<(u64, Bytes)>,
    /// The last snapshot.
    pub snapshot: Option<Bytes>,
}
