//! Traces for an OpenTelemetry collector: spans of our own crates leave as OTLP over HTTP (JSON), in batches.
//!
//! Nothing waits for it: a span that ends goes into a bounded queue, or is counted as dropped when that is full. Without
//! `otlp_endpoint` in the topology nothing is collected.

mod export;
mod layer;
mod otlp;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use onemec_device::Endpoint;
use onemec_runtime::trace::TraceContext;
use tokio::sync::mpsc;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use layer::SpanLayer;

/// Crates whose spans are ours begin with this.
const OURS: &str = "onemec";
/// Spans that wait to be sent.
const QUEUE_MAX: usize = 8_192;

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Itself.
    pub context: TraceContext,
    /// Its parent; 0: it begins its trace.
    pub parent: u64,
    /// Name.
    pub name: &'static str,
    /// Begin and end, nanoseconds since 1970.
    pub began_ns: u64,
    /// See `began_ns`.
    pub ended_ns: u64,
    /// Its fields.
    pub attributes: Vec<(&'static str, String)>,
}

/// What became of spans since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// The collector has taken them.
    pub exported: u64,
    /// The queue was full.
    pub dropped: u64,
    /// The collector was away or refused them.
    pub failed: u64,
}

#[derive(Debug, Default)]
struct Counters {
    exported: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shared {
    queue: OnceLock<mpsc::Sender<Span>>,
    counters: Counters,
}

/// One exporter of the process; cloning gives another handle.
#[derive(Debug, Clone, Default)]
pub struct Telemetry(Arc<Shared>);

/// The process's exporter: `tracing` has one subscriber for a whole process.
pub fn of_process() -> &'static Telemetry {
    static ONE: OnceLock<Telemetry> = OnceLock::new();
    ONE.get_or_init(Telemetry::default)
}

impl Telemetry {
    /// The layer that collects spans for it.
    pub fn layer<S>(&self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        // Other crates' spans, and ours for debugging, are not even made for its sake.
        let ours = filter_fn(|m| m.is_span() && m.target().starts_with(OURS) && *m.level() <= Level::INFO);
        SpanLayer::new(self.clone()).with_filter(ours.with_max_level_hint(LevelFilter::INFO))
    }

    /// Sends spans to a collector from now on, for this node. Only the first call counts.
    pub fn export_to(&self, collector: Endpoint, node: String) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        if self.0.queue.set(queue).is_ok() {
            tokio::spawn(export::run(self.clone(), collector, node, waiting));
        }
    }

    /// What became of spans.
    pub fn figures(&self) -> Figures {
        let read = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let c = &self.0.counters;
        Figures { exported: read(&c.exported), dropped: read(&c.dropped), failed: read(&c.failed) }
    }

    fn is_on(&self) -> bool {
        self.0.queue.get().is_some()
    }

    fn ended(&self, span: Span) {
        if let Some(queue) = self.0.queue.get()
            && queue.try_send(span).is_err()
        {
            self.0.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn count(&self, spans: usize, taken: bool) {
        let c = &self.0.counters;
        let counter = if taken { &c.exported } else { &c.failed };
        counter.fetch_add(u64::try_from(spans).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
