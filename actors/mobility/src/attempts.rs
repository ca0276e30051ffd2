//! Try the best candidate, then the alternates in order (COVERAGE.md rows G07, H10): a pure state machine, and
//! [`pursue`], which runs it.
//!
//! States: *ready* ([`Next::Try`], the caller tries and reports with [`Attempts::failed`] or [`Attempts::moved`]),
//! *waiting* ([`Next::Wait`]), *in doubt* ([`Next::LookUp`], the caller looks up the group's primary, past everything
//! committed, and reports with [`Attempts::placed`]), and the two ends. [`Attempts::next`] may be called at any time and
//! repeats itself until something is reported. After an end nothing changes any more.

mod pursue;
#[cfg(test)]
mod tests;

use onemec_wire::NodeId;

pub use self::pursue::{PursueClock, pursue};
use crate::admission::AdmissionCode;
use crate::candidates::CANDIDATES_MAX;

/// Bounds of one request's attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptOptions {
    /// Attempts in all.
    pub attempts_max: u32,
    /// Attempts at one target, where waiting may help.
    pub per_target_max: u32,
    /// First pause before the same target is asked again; doubles.
    pub backoff_ms_min: u64,
    /// Longest pause.
    pub backoff_ms_max: u64,
}

impl Default for AttemptOptions {
    fn default() -> Self {
        Self { attempts_max: 8, per_target_max: 3, backoff_ms_min: 50, backoff_ms_max: 2_000 }
    }
}

/// What a failed attempt means for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// This target will not do: the next one.
    Target,
    /// Not now: the same target after a pause, while its attempts last, then the next one.
    Passes,
    /// It may have moved: look.
    InDoubt,
    /// No target will do (no such group, cancelled, the whole group pinned).
    Final,
}

impl Failure {
    /// By the codes of the runtime's `MoveError` and of [`crate::admission`]. A code that is not known leaves the outcome
    /// in doubt: looking does no harm.
    pub fn from_code(code: &str) -> Self {
        if let Some(code) = AdmissionCode::ALL.into_iter().find(|c| c.as_str() == code) {
            return match code {
                AdmissionCode::Pinned | AdmissionCode::NoContext => Self::Final,
                code if code.passes() => Self::Passes,
                _ => Self::Target,
            };
        }
        match code {
            "target-dead" | "catch-up-timeout" | "refused" => Self::Target,
            "busy" | "freeze-timeout" => Self::Passes,
            "no-group" | "cancelled" | "token-used" => Self::Final,
            // `unknown`, `unreachable`, `not-primary`, `already-there`, `protocol`, and what newer nodes say.
            _ => Self::InDoubt,
        }
    }
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Move the group to this node.
    Try(NodeId),
    /// Nothing before this time.
    Wait {
        /// When to ask again.
        until_ms: u64,
    },
    /// Find out which node is primary, with a look-up that is not stale.
    LookUp,
    /// It is at this target.
    Moved(NodeId),
    /// It is not at any of the targets; it is served where it was.
    GaveUp(GaveUp),
}

/// Why a request was given up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct GaveUp {
    /// `no-candidate`, `deadline`, `attempts`, or the code of the last failure.
    pub code: String,
    /// In words.
    pub text: String,
}

impl GaveUp {
    fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

/// One attempt that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Where.
    pub target: NodeId,
    /// When it ended.
    pub at_ms: u64,
    /// Why.
    pub code: String,
}

#[derive(Debug, Clone)]
enum State {
    Ready,
    Waiting { until_ms: u64 },
    InDoubt,
    Moved(NodeId),
    GaveUp(GaveUp),
}

/// The attempts of one request.
#[derive(Debug, Clone)]
pub struct Attempts {
    order: Vec<NodeId>,
    at: usize,
    at_this: u32,
    options: AttemptOptions,
    deadline_ms: u64,
    seed: u64,
    history: Vec<Tried>,
    last: Option<GaveUp>,
    state: State,
}

impl Attempts {
    /// `order`: targets, best first ([`crate::candidates::Ranking::order`]; a single one if the request names its target).
    /// `seed` spreads the pauses of many requests. After `deadline_ms` no attempt begins.
    pub fn new(order: Vec<NodeId>, options: AttemptOptions, deadline_ms: u64, seed: u64) -> Self {
        let mut order = order;
        order.truncate(CANDIDATES_MAX);
        Self {
            order,
            at: 0,
            at_this: 0,
            options,
            deadline_ms,
            seed,
            history: Vec::new(),
            last: None,
            state: State::Ready,
        }
    }

    /// What to do now.
    pub fn next(&mut self, now_ms: u64) -> Next {
        if let State::Waiting { until_ms } = self.state
            && now_ms >= until_ms
        {
            self.state = State::Ready;
        }
        if matches!(self.state, State::Ready | State::Waiting { .. })
            && let Some(end) = self.end(now_ms)
        {
            self.state = State::GaveUp(end);
        }
        match &self.state {
            State::Ready => match self.order.get(self.at) {
                Some(target) => Next::Try(*target),
                None => Next::GaveUp(GaveUp::new("no-candidate", "there is no target")),
            },
            State::Waiting { until_ms } => Next::Wait { until_ms: *until_ms },
            State::InDoubt => Next::LookUp,
            State::Moved(target) => Next::Moved(*target),
            State::GaveUp(end) => Next::GaveUp(end.clone()),
        }
    }

    fn end(&self, now_ms: u64) -> Option<GaveUp> {
        if self.at >= self.order.len() {
            let none = || GaveUp::new("no-candidate", "there is no target");
            return Some(self.last.clone().unwrap_or_else(none));
        }
        let tried = self.history.len();
        let after = |what: &str| match &self.last {
            Some(last) => format!("{what} after {tried} attempts; the last: {}", last.text),
            None => format!("{what} before the first attempt"),
        };
        if now_ms >= self.deadline_ms {
            return Some(GaveUp::new("deadline", after("out of time")));
        }
        if tried >= usize::try_from(self.options.attempts_max.max(1)).unwrap_or(usize::MAX) {
            return Some(GaveUp::new("attempts", after("given up")));
        }
        None
    }

    /// The attempt under way succeeded.
    pub fn moved(&mut self) {
        if let (State::Ready, Some(target)) = (&self.state, self.order.get(self.at)) {
            self.state = State::Moved(*target);
        }
    }

    /// The attempt under way failed, with the code of the runtime or of the admission.
    pub fn failed(&mut self, now_ms: u64, code: &str, text: &str) {
        let (State::Ready, Some(&target)) = (&self.state, self.order.get(self.at)) else {
            return;
        };
        self.history.push(Tried { target, at_ms: now_ms, code: code.to_owned() });
        self.last = Some(GaveUp::new(code, text));
        self.at_this += 1;
        match Failure::from_code(code) {
            Failure::Target => self.try_next_target(),
            Failure::Passes => self.pause_or_next(now_ms),
            Failure::InDoubt => self.state = State::InDoubt,
            Failure::Final => self.state = State::GaveUp(GaveUp::new(code, text)),
        }
    }

    /// The primary was looked up: `None` if that failed or nobody is primary.
    pub fn placed(&mut self, now_ms: u64, primary: Option<NodeId>) {
        let (State::InDoubt, Some(&target)) = (&self.state, self.order.get(self.at)) else {
            return;
        };
        match primary {
            Some(primary) if primary == target => self.state = State::Moved(target),
            // Somebody else has moved it to one of our targets: as good.
            Some(primary) if self.order.contains(&primary) => self.state = State::Moved(primary),
            Some(_) => self.pause_or_next(now_ms),
            None if now_ms >= self.deadline_ms => {
                self.state =
                    State::GaveUp(GaveUp::new("unknown", "whether it moved is not known: look at the directory"));
            }
            None => {}
        }
    }

    /// Nobody wants it any more. An attempt under way may still succeed.
    pub fn cancel(&mut self) {
        if !matches!(self.state, State::Moved(_) | State::GaveUp(_)) {
            self.state = State::GaveUp(GaveUp::new("cancelled", "cancelled"));
        }
    }

    /// What was tried, oldest first; at most `attempts_max`.
    pub fn history(&self) -> &[Tried] {
        &self.history
    }

    fn try_next_target(&mut self) {
        self.at += 1;
        self.at_this = 0;
        self.state = State::Ready;
    }

    fn pause_or_next(&mut self, now_ms: u64) {
        if self.at_this >= self.options.per_target_max {
            self.try_next_target();
        } else {
            self.state = State::Waiting { until_ms: now_ms.saturating_add(self.backoff_ms()) };
        }
    }

    /// Doubles per attempt at this target; between half and all of it, by the seed.
    fn backoff_ms(&self) -> u64 {
        let doublings = self.at_this.saturating_sub(1).min(32);
        let full = self.options.backoff_ms_min.max(1).saturating_mul(1 << doublings);
        let full = full.min(self.options.backoff_ms_max.max(1));
        let step = (self.seed ^ (self.history.len() as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        full / 2 + step % (full / 2 + 1)
    }
}
