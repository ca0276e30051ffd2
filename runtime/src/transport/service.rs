//! The receiving side: services, and the one answer that a question gets.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::greeting;
use onemec_wire::{FailCode, Frame, Kind, LaneNumber, Member, ServiceId};
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::conn::Conn;
use super::error::AskError;
use super::lane::{Answer, AnswerError};
use super::message::Message;
use super::transfer::TransferSource;

/// A user of the transport. Called on the transport's own thread (or on the caller's, for local messages): it must not
/// block and should only hand on. A panic in it is caught, counted, and answered like a dropped [`Replier`].
pub trait Service: Send + Sync {
    /// A message that wants no answer.
    fn tell(&self, from: Member, message: Message) {
        tracing::debug!(%from, service = message.service.0, "tell dropped: the service takes none");
    }
    /// A message that wants an answer.
    fn ask(&self, from: Member, message: Message, reply: Replier) {
        let _ = (from, message);
        reply.fail(FailCode::NoHandler.number(), "the service answers no questions");
    }
    /// A datagram; may have been lost, doubled or overtaken.
    fn datagram(&self, from: Member, body: Bytes) {
        let _ = (from, body);
    }
    /// A transfer begins; read it on a task of one's own.
    fn transfer(&self, from: Member, source: TransferSource) {
        let _ = from;
        source.refuse_soon(FailCode::NoHandler.number(), "the service takes no transfers");
    }
}

/// The right to answer a question, once. Dropped without an answer it sends `NoAnswer`.
pub struct Replier {
    way: Option<Way>,
    service: ServiceId,
    target: u64,
    deadline: Option<Instant>,
}

pub(super) enum Way {
    Local(oneshot::Sender<Answer>),
    Lane { conn: Arc<Conn>, lane: LaneNumber, correlation: u64 },
    Stream(oneshot::Sender<Frame>),
}

impl Replier {
    pub(super) const fn new(way: Way, service: ServiceId, target: u64, deadline: Option<Instant>) -> Self {
        Self { way: Some(way), service, target, deadline }
    }

    /// Until when the asker waits; `None`: it did not say.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
    /// How long the asker still waits; zero: it has given up.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|d| d.saturating_duration_since(Instant::now()))
    }
    /// Answers.
    pub fn reply(mut self, mut answer: Message) {
        answer.service = self.service;
        answer.target = self.target;
        match self.way.take() {
            Some(Way::Local(asker)) => {
                let _gone = asker.send(Ok(answer));
            }
            Some(way) => self.send(way, answer.into_frame(Kind::Reply)),
            None => {}
        }
    }
    /// Says no: `code` is a [`FailCode`], or the service's own from `SERVICE_CODE_MIN` on.
    pub fn fail(mut self, code: u16, text: &str) {
        self.fail_now(code, text);
    }

    fn fail_now(&mut self, code: u16, text: &str) {
        match self.way.take() {
            Some(Way::Local(asker)) => {
                let _gone = asker.send(Err(refused(code, text.to_owned())));
            }
            Some(way) => self.send(way, greeting::fail(self.service, 0, self.target, code, text)),
            None => {}
        }
    }

    fn send(&self, way: Way, mut frame: Frame) {
        match way {
            Way::Lane { conn, lane, correlation } => {
                frame.correlation = correlation;
                match conn.lane(lane).answer(&frame) {
                    Ok(()) | Err(AnswerError::Closed) => {}
                    Err(AnswerError::TooLong) => {
                        let code = FailCode::AnswerTooLong;
                        let fail = greeting::fail_code(self.service, correlation, self.target, code);
                        let _closed = conn.lane(lane).answer(&fail);
                    }
                    Err(AnswerError::Overloaded) => conn.close(onemec_wire::CloseCode::Overloaded),
                }
            }
            Way::Stream(stream) => {
                let _gone = stream.send(frame);
            }
            Way::Local(_) => {}
        }
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if self.way.is_some() {
            self.fail_now(FailCode::NoAnswer.number(), "");
        }
    }
}

impl fmt::Debug for Replier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replier")
            .field("service", &self.service)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}

/// The error for a Fail frame.
pub(super) fn refused(code: u16, text: String) -> AskError {
    if code == FailCode::NoHandler.number() { AskError::NoHandler } else { AskError::Refused { code, text } }
}
