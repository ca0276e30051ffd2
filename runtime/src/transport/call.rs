//! Calls: a request with a large body or reply, on a bidirectional stream of its own.

use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::encode::Encoder;
use onemec_wire::greeting;
use onemec_wire::limits::CALL_FRAME_BYTES_MAX;
use onemec_wire::{Channel, CloseCode, FailCode, Frame, Item, Kind, Role, ServiceId};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::conn::Conn;
use super::error::{AskError, SendError};
use super::message::{Message, Permit};
use super::run::{self, End};
use super::service::{Way, refused};

/// A sending stream that is reset when it is dropped before its end: a dropped quinn stream would end as if whole.
pub(super) struct Sending {
    stream: quinn::SendStream,
    ended: bool,
}

impl Sending {
    pub(super) const fn new(stream: quinn::SendStream) -> Self {
        Self { stream, ended: false }
    }
    /// Writes pieces without copying them.
    pub(super) async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), quinn::WriteError> {
        self.stream.write_all_chunks(pieces).await
    }
    pub(super) async fn write_frame(&mut self, frame: &Frame) -> Result<(), quinn::WriteError> {
        let mut encoder = Encoder::new();
        let mut pieces = Vec::new();
        if encoder.push(frame, CALL_FRAME_BYTES_MAX).is_err() {
            return Err(quinn::WriteError::ClosedStream);
        }
        encoder.take(&mut pieces);
        self.write(&mut pieces).await
    }
    /// The other side wants no more of it.
    pub(super) async fn given_up(&self) {
        let _why = self.stream.stopped().await;
    }
    pub(super) fn end(&mut self) {
        self.ended = true;
        let _closed = self.stream.finish();
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        if !self.ended {
            let _closed = self.stream.reset(CloseCode::Cancelled.number().into());
        }
    }
}

/// Makes a call. Dropping the future gives the call up.
pub(super) async fn call(conn: &Conn, message: Message, deadline_ms: u32) -> Result<Message, AskError> {
    let mut frame = message.into_frame(Kind::Call);
    frame.deadline_ms = deadline_ms;
    frame
        .header(CALL_FRAME_BYTES_MAX)
        .map_err(|_| SendError::TooLong { len: frame.wire_len(), limit: CALL_FRAME_BYTES_MAX })?;
    let Ok((send, mut recv)) = conn.quic.open_bi().await else {
        return Err(AskError::Disconnected { maybe_delivered: false });
    };
    let mut send = Sending::new(send);
    // A peer that refuses before it has read everything stops the stream; its answer is read all the same.
    if send.write_frame(&frame).await.is_ok() {
        send.end();
    }
    drop(frame);
    let mut channel = Channel::new(Role::Caller);
    loop {
        match channel.next() {
            Ok(Some(Item::Reply(frame))) => return Ok(Message::from_frame(frame, Permit::Free)),
            Ok(Some(Item::Fail(_, fail))) => return Err(refused(fail.code, fail.text)),
            Ok(_) => {}
            Err(error) => {
                conn.breach(error);
                return Err(AskError::Disconnected { maybe_delivered: true });
            }
        }
        match run::fill(&mut recv, &mut channel).await {
            Ok((true, _)) => {}
            Ok((false, _)) => {
                if let Err(error) = channel.end() {
                    conn.breach(error);
                }
                return Err(AskError::Disconnected { maybe_delivered: true });
            }
            Err(_) => return Err(AskError::Disconnected { maybe_delivered: true }),
        }
    }
}

/// Serves the peer's calls. How many at once is bounded by QUIC's stream limit, their bytes by the budget:
/// without room a call is refused before it is read.
pub(super) async fn accept(conn: &Arc<Conn>) {
    while let Ok((send, recv)) = conn.quic.accept_bi().await {
        run::guarded(conn, |conn| async move { serve(&conn, send, recv).await });
    }
}

async fn serve(conn: &Arc<Conn>, send: quinn::SendStream, mut recv: quinn::RecvStream) -> Result<(), End> {
    let mut send = Sending::new(send);
    let mut channel = Channel::new(Role::Called);
    let mut permit = Permit::Free;
    let frame = loop {
        match channel.next()? {
            Some(Item::Call(frame)) => break frame,
            Some(_) => return Ok(()),
            None => {}
        }
        if matches!(permit, Permit::Free) && channel.missing() > 0 {
            // Refused rather than kept waiting: unread bytes would use up the window that the lanes need.
            let permits = conn.shared.budget_permits(channel.missing());
            match conn.shared.call_budget.clone().try_acquire_many_owned(permits) {
                Ok(room) => permit = Permit::Budget(room),
                Err(_) => {
                    let _gone =
                        send.write_frame(&greeting::fail_code(ServiceId::TRANSPORT, 0, 0, FailCode::Overloaded)).await;
                    send.end();
                    let _closed = recv.stop(CloseCode::Overloaded.number().into());
                    return Ok(());
                }
            }
        }
        if !run::fill(&mut recv, &mut channel).await?.0 {
            return channel.end().map_err(End::from);
        }
    };
    let (service, target) = (frame.service, frame.target);
    let (way, answer) = oneshot::channel();
    run::answer(conn, &conn.shared.services.load(), frame, permit, Way::Stream(way), Instant::now());
    let mut frame = tokio::select! {
        biased;
        Ok(frame) = answer => frame,
        // The caller gave up, or the service's way to answer is gone.
        () = send.given_up() => return Ok(()),
    };
    if frame.header(CALL_FRAME_BYTES_MAX).is_err() {
        frame = greeting::fail_code(service, 0, target, FailCode::AnswerTooLong);
    }
    if send.write_frame(&frame).await.is_ok() {
        send.end();
    }
    Ok(())
}
