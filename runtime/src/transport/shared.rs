//! What all connections of a transport share: services, budgets, counters. Knows no connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use onemec_wire::{Member, NodeId, ServiceId};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::Semaphore;
use tokio::time::{Duration, Instant};

use super::options::Tuning;
use super::service::Service;

/// Bytes per permit of the call budget.
const BUDGET_UNIT: usize = 1024;
/// Who takes the messages of which service.
pub(super) type Services = FxHashMap<ServiceId, Arc<dyn Service>>;

/// Nodes whose breaches are remembered, at most; the oldest window is forgotten first.
const BREACHERS_MAX: usize = 1024;

pub(super) struct Shared {
    pub(super) me: Member,
    pub(super) tuning: Tuning,
    pub(super) services: ArcSwap<Services>,
    pub(super) call_budget: Arc<Semaphore>,
    pub(super) counters: Counters,
    breachers: Mutex<FxHashMap<NodeId, (u32, Instant)>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

/// Counters of the whole transport.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) breaches: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
    pub(super) handshakes_refused: AtomicU64,
    pub(super) service_panics: AtomicU64,
    pub(super) messages_dropped: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    pub(super) fn new(me: Member, tuning: Tuning) -> Self {
        let budget = (tuning.call_bytes_max as usize / BUDGET_UNIT).max(1);
        Self {
            me,
            services: ArcSwap::default(),
            call_budget: Arc::new(Semaphore::new(budget)),
            counters: Counters::default(),
            breachers: Mutex::default(),
            tuning,
        }
    }

    /// Permits for `bytes` of the call budget; never more than there are.
    pub(super) fn budget_permits(&self, bytes: usize) -> u32 {
        let all = (self.tuning.call_bytes_max as usize / BUDGET_UNIT).max(1);
        u32::try_from(bytes.div_ceil(BUDGET_UNIT).clamp(1, all)).unwrap_or(u32::MAX)
    }

    /// Runs `f` with the service, if there is one; what `f` captured is dropped either way. False: no such service.
    pub(super) fn with_service(&self, service: ServiceId, f: impl FnOnce(&dyn Service)) -> bool {
        self.with_service_of(&self.services.load(), service, f)
    }

    /// The same with a look at the services that serves for several messages.
    pub(super) fn with_service_of(
        &self,
        services: &Services,
        service: ServiceId,
        f: impl FnOnce(&dyn Service),
    ) -> bool {
        let Some(handler) = services.get(&service) else { return false };
        if catch_unwind(AssertUnwindSafe(|| f(handler.as_ref()))).is_err() {
            count(&self.counters.service_panics);
            tracing::error!(service = service.0, "a service panicked in the transport's hands");
        }
        true
    }

    /// A node broke the protocol.
    pub(super) fn breach(&self, node: NodeId) {
        count(&self.counters.breaches);
        let window = Duration::from_millis(self.tuning.breach_window_ms.into());
        let now = Instant::now();
        let mut breachers = self.breachers.lock();
        if breachers.len() >= BREACHERS_MAX && !breachers.contains_key(&node) {
            breachers.retain(|_, (_, since)| now.duration_since(*since) < window);
            if breachers.len() >= BREACHERS_MAX
                && let Some(oldest) = breachers.iter().min_by_key(|(_, (_, since))| *since).map(|(n, _)| *n)
            {
                breachers.remove(&oldest);
            }
        }
        let entry = breachers.entry(node).or_insert((0, now));
        if now.duration_since(entry.1) >= window {
            *entry = (0, now);
        }
        entry.0 += 1;
    }

    /// Has this node broken the protocol too often lately?
    pub(super) fn is_barred(&self, node: NodeId) -> bool {
        let window = Duration::from_millis(self.tuning.breach_window_ms.into());
        let breachers = self.breachers.lock();
        breachers.get(&node).is_some_and(|(n, since)| *n >= self.tuning.breaches_max && since.elapsed() < window)
    }
}
