//! What a listener counts, for metrics. Several listeners of one CSE may share it.

use std::sync::atomic::{AtomicU64, Ordering};

use http::StatusCode;

/// Lowest and highest HTTP status that is counted.
const STATUS_MIN: u16 = 100;
const STATUS_MAX: u16 = 599;

/// See the module.
#[derive(Debug)]
pub struct HttpFigures {
    by_status: Vec<AtomicU64>,
    pub(super) connections_open: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) handshakes_failed: AtomicU64,
}

impl Default for HttpFigures {
    fn default() -> Self {
        Self {
            by_status: (STATUS_MIN..=STATUS_MAX).map(|_| AtomicU64::new(0)).collect(),
            connections_open: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
        }
    }
}

impl HttpFigures {
    pub(super) fn answered(&self, status: StatusCode) {
        let at = usize::from(status.as_u16().saturating_sub(STATUS_MIN));
        if let Some(count) = self.by_status.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Requests by the status of their answer, those that occurred.
    pub fn by_status(&self) -> Vec<(u16, u64)> {
        let counts = (STATUS_MIN..).zip(&self.by_status).map(|(status, n)| (status, n.load(Ordering::Relaxed)));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// Connections that are open now.
    pub fn connections_open(&self) -> u64 {
        self.connections_open.load(Ordering::Relaxed)
    }

    /// Connections that were one too many: answered 503 and closed.
    pub fn connections_refused(&self) -> u64 {
        self.connections_refused.load(Ordering::Relaxed)
    }

    /// TLS handshakes that failed or took too long.
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }
}
