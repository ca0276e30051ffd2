//! The sending end of a lane or of the control stream: frames are encoded into coalescing buffers as they are handed in,
//! one task writes what has gathered. No timer: what is there is written when the writer comes round.

use bytes::Bytes;
use onemec_wire::encode::Encoder;
use onemec_wire::limits::LANE_FRAME_BYTES_MAX;
use onemec_wire::{Frame, ProtocolError};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use tokio::sync::{Notify, oneshot};

use super::error::{AskError, SendError};
use super::message::Message;

pub(super) type Answer = Result<Message, AskError>;

/// Queue of one lane. All its state is under one short lock, never held across an await.
#[derive(Debug)]
pub(super) struct LaneQueue {
    state: Mutex<State>,
    wake: Notify,
    limits: LaneLimits,
    /// Lowest byte of its correlations, so that an answer finds its lane whichever way it comes.
    number: u8,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct LaneLimits {
    /// Bytes that messages may fill.
    pub(super) queue_bytes_max: usize,
    /// Bytes that answers may fill, messages included.
    pub(super) answer_bytes_max: usize,
    /// Asks that wait for their answers.
    pub(super) asks_max: usize,
}

#[derive(Debug, Default)]
struct State {
    encoder: Encoder,
    /// Frames handed in since the beginning; the number of the last one.
    pushed: u64,
    /// Frames handed to QUIC.
    taken: u64,
    sent_bytes: u64,
    /// Asks by correlation: the number of their frame, then the lane's.
    pending: FxHashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

/// An answer could not be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerError {
    /// The connection is gone: so is the asker.
    Closed,
    /// Longer than a frame may be.
    TooLong,
    /// The peer does not read its answers.
    Overloaded,
}

/// Counters of a lane.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LaneStats {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) queued_bytes: usize,
    pub(super) asks_pending: usize,
    pub(super) copied_bytes: u64,
}

impl LaneQueue {
    pub(super) fn new(number: u8, limits: LaneLimits) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), limits, number }
    }

    /// Queues a message that wants no answer.
    pub(super) fn tell(&self, frame: &Frame) -> Result<(), SendError> {
        let mut state = self.state.lock();
        self.push(&mut state, frame)?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Queues a message that wants an answer; its correlation and where the answer will come.
    pub(super) fn ask(&self, mut frame: Frame) -> Result<(u64, oneshot::Receiver<Answer>), SendError> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.pending.len() >= self.limits.asks_max {
            return Err(SendError::QueueFull);
        }
        let correlation = (state.pushed + 1) << 8 | u64::from(self.number);
        frame.correlation = correlation;
        self.push(&mut state, &frame)?;
        state.pending.insert(correlation, sender);
        drop(state);
        self.wake.notify_one();
        Ok((correlation, receiver))
    }

    /// Queues an answer. Answers have more room than messages, so that a full lane still answers.
    pub(super) fn answer(&self, frame: &Frame) -> Result<(), AnswerError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(AnswerError::Closed);
        }
        let waiting = state.encoder.queued_bytes();
        if waiting > 0 && waiting + frame.wire_len() > self.limits.answer_bytes_max {
            return Err(AnswerError::Overloaded);
        }
        self.encode(&mut state, frame).map_err(|_| AnswerError::TooLong)?;
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    fn push(&self, state: &mut State, frame: &Frame) -> Result<(), SendError> {
        if state.closed {
            return Err(SendError::NotConnected);
        }
        let waiting = state.encoder.queued_bytes();
        if waiting > 0 && waiting + frame.wire_len() > self.limits.queue_bytes_max {
            return Err(SendError::QueueFull);
        }
        self.encode(state, frame).map_err(|e| match e {
            ProtocolError::TooLong { len, limit, .. } => {
                SendError::TooLong { len: usize::try_from(len).unwrap_or(usize::MAX), limit: limit as usize }
            }
            _ => SendError::TooLong { len: frame.wire_len(), limit: LANE_FRAME_BYTES_MAX },
        })
    }

    fn encode(&self, state: &mut State, frame: &Frame) -> Result<(), ProtocolError> {
        let len = state.encoder.push(frame, LANE_FRAME_BYTES_MAX)?;
        state.pushed += 1;
        state.sent_bytes += len as u64;
        Ok(())
    }

    /// Who waits for the answer with this correlation; an asker that gave up is forgotten.
    pub(super) fn answered(&self, correlation: u64) -> Option<oneshot::Sender<Answer>> {
        self.state.lock().pending.remove(&correlation)
    }

    /// Everything that is queued; false when the lane is closed and empty.
    pub(super) fn take(&self, out: &mut Vec<Bytes>) -> bool {
        let mut state = self.state.lock();
        state.encoder.take(out);
        state.taken = state.pushed;
        !state.closed
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.lock().encoder.queued_bytes() == 0
    }

    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// The connection is gone: nothing more is taken, every asker hears about it.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        let pending = std::mem::take(&mut state.pending);
        let taken = state.taken;
        drop(state);
        self.wake.notify_one();
        for (correlation, asker) in pending {
            let _gone = asker.send(Err(AskError::Disconnected { maybe_delivered: correlation >> 8 <= taken }));
        }
    }

    pub(super) fn stats(&self) -> LaneStats {
        let state = self.state.lock();
        LaneStats {
            messages: state.pushed,
            bytes: state.sent_bytes,
            queued_bytes: state.encoder.queued_bytes(),
            asks_pending: state.pending.len(),
            copied_bytes: state.encoder.copied_bytes(),
        }
    }
}

/// Writes a lane until it is closed or the stream fails.
pub(super) async fn write(lane: &LaneQueue, stream: &mut quinn::SendStream) {
    let mut pieces = Vec::new();
    loop {
        let open = lane.take(&mut pieces);
        if pieces.is_empty() {
            if !open {
                return;
            }
            lane.changed().await;
            continue;
        }
        if stream.write_all_chunks(&mut pieces).await.is_err() {
            // The connection says why.
            return;
        }
        pieces.clear();
        if !lane.is_empty() {
            // Let the connection send what it has, meanwhile more gathers: few large pieces instead of many small ones.
            tokio::task::yield_now().await;
        }
    }
}
