//! Where the history of a device's writes goes: the history checker reads it.

use std::hash::{DefaultHasher, Hasher as _};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The CSE said that it is created.
    Acknowledged,
    /// Nobody knows: it may appear or not.
    Unknown,
    /// The CSE said no: it must not appear.
    Refused,
}

/// One write, ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The reading's number.
    pub number: u64,
    /// The request identifier (`X-M2M-RI`).
    pub request: String,
    /// [`digest`] of the content that was written.
    pub digest: u64,
    /// When it first went out, in microseconds since the run's origin.
    pub invoked_us: u64,
    /// When it ended.
    pub ended_us: u64,
    /// How often it went out.
    pub attempts: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status of the last answer, 0 without one.
    pub status: u16,
}

/// Tells one content (the text of `con`) from another, so that a history need not keep the text. Against accidents, not
/// against forgery; the same within one build of the program only.
pub fn digest(content: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(content.as_bytes());
    hasher.finish()
}

/// Takes the events of one device in their order.
pub trait Sink: Send + Sync + 'static {
    /// Called once for each write.
    fn record(&self, event: Event);
}

/// Keeps everything in memory, up to a bound; what comes later is counted, not kept.
#[derive(Debug)]
pub struct MemorySink {
    events: Mutex<(Vec<Event>, u64)>,
    events_max: usize,
}

impl MemorySink {
    /// Keeps at most `events_max`.
    pub fn new(events_max: usize) -> Self {
        Self { events: Mutex::new((Vec::new(), 0)), events_max }
    }
    /// What was recorded so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().0.clone()
    }
    /// A write that was first sent at or after `since_us` was acknowledged.
    pub fn any_since(&self, since_us: u64) -> bool {
        let guard = self.events.lock();
        let recent = guard.0.iter().rev().take_while(|e| e.ended_us >= since_us);
        recent.into_iter().any(|e| e.outcome == Outcome::Acknowledged && e.invoked_us >= since_us)
    }
    /// How many are kept.
    pub fn len(&self) -> usize {
        self.events.lock().0.len()
    }
    /// True if none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many came after the bound was reached: a history with some is not complete.
    pub fn overflowed(&self) -> u64 {
        self.events.lock().1
    }
}

impl Sink for MemorySink {
    fn record(&self, event: Event) {
        let mut guard = self.events.lock();
        if guard.0.len() < self.events_max {
            guard.0.push(event);
        } else {
            guard.1 += 1;
        }
    }
}
