//! The gate of a group: may answers leave this node (rule 2)?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use onemec_core::context::Gate;
use onemec_wire::Epoch;
use tokio::sync::Notify;

use crate::lease::LeaseHandle;

/// Beside the read index: two atomic reads and the lease's clock.
#[derive(Debug)]
pub struct GroupGate {
    epoch: AtomicU64,
    open: AtomicBool,
    /// The machines are in memory.
    loaded: AtomicBool,
    /// A reader looked since the last sweep: readers pass no mailbox, and a group that is read is not idle.
    touched: AtomicBool,
    /// Told when `loaded` or `open` becomes true.
    changed: Notify,
    lease: LeaseHandle,
}

impl GroupGate {
    /// A closed gate of a group whose machines are not in memory.
    pub fn new(lease: LeaseHandle) -> Self {
        Self {
            epoch: AtomicU64::new(0),
            open: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            touched: AtomicBool::new(false),
            changed: Notify::new(),
            lease,
        }
    }

    /// Opens or closes it for an epoch.
    pub fn set(&self, epoch: Epoch, open: bool) {
        if open {
            self.epoch.store(epoch.0, Ordering::Release);
        }
        self.open.store(open, Ordering::Release);
        if open {
            self.changed.notify_waiters();
        }
    }

    /// The machines have come into memory. The gate is told before, if it is to open.
    pub fn set_loaded(&self) {
        self.loaded.store(true, Ordering::Release);
        self.changed.notify_waiters();
    }

    /// Are the machines in memory?
    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Ends when the machines are in memory.
    pub async fn loaded(&self) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.is_loaded() {
                return;
            }
            changed.await;
        }
    }

    /// As [`Gate::is_open`], for the node's own purposes: does not count as use of the group.
    pub fn allows(&self) -> bool {
        self.open.load(Ordering::Acquire) && self.lease.is_valid()
    }

    /// Whether a reader looked since this was last asked.
    pub fn take_touched(&self) -> bool {
        self.touched.load(Ordering::Relaxed) && self.touched.swap(false, Ordering::Relaxed)
    }

    /// May anything leave on the word of the lease alone? (Acknowledgements of what was committed before a freeze.)
    pub fn lease_is_valid(&self) -> bool {
        self.lease.is_valid()
    }
}

impl Gate for GroupGate {
    fn is_open(&self) -> bool {
        if !self.touched.load(Ordering::Relaxed) {
            self.touched.store(true, Ordering::Relaxed);
        }
        self.allows()
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}
