//! The gate of a group: may answers leave this node (rule 2)?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use onemec_core::context::Gate;
use onemec_wire::Epoch;

use crate::lease::LeaseHandle;

/// Beside the read index: two atomic reads and the lease's clock.
#[derive(Debug)]
pub struct GroupGate {
    epoch: AtomicU64,
    open: AtomicBool,
    lease: LeaseHandle,
}

impl GroupGate {
    /// A closed gate.
    pub fn new(lease: LeaseHandle) -> Self {
        Self { epoch: AtomicU64::new(0), open: AtomicBool::new(false), lease }
    }

    /// Opens or closes it for an epoch.
    pub fn set(&self, epoch: Epoch, open: bool) {
        if open {
            self.epoch.store(epoch.0, Ordering::Release);
        }
        self.open.store(open, Ordering::Release);
    }

    /// May anything leave on the word of the lease alone? (Acknowledgements of what was committed before a freeze.)
    pub fn lease_is_valid(&self) -> bool {
        self.lease.is_valid()
    }
}

impl Gate for GroupGate {
    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire) && self.lease.is_valid()
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }
}
