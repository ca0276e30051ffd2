//! Notifications that will never be delivered, counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the start.
#[derive(Debug, Default)]
pub(crate) struct Dropped {
    refused: AtomicU64,
    expired: AtomicU64,
}

impl Dropped {
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
    pub(super) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }
    /// Refused by the receiver; tried for too long.
    pub(crate) fn read(&self) -> (u64, u64) {
        (self.refused.load(Ordering::Relaxed), self.expired.load(Ordering::Relaxed))
    }
}
