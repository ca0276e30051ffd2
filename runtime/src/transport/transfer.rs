//! Transfers: one header, then raw bytes that nobody copies, then the receiver's verdict.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use onemec_wire::greeting::{self, TransferEnd};
use onemec_wire::{Channel, CloseCode, FailCode, Frame, Item, Kind, Role, Rope, ServiceId};
use tokio::sync::{mpsc, oneshot};

use super::call::Sending;
use super::conn::Conn;
use super::error::{SendError, TransferError};
use super::run::{self, End, PIECES};

/// Pieces under way between two ends in one node.
const LOCAL_PIECES_MAX: usize = 64;

/// The verdict of a local receiver: code, text, bytes taken, answer.
type Verdict = (u16, String, u64, Rope);

/// The sending end of a transfer. Dropped before `finish`, the receiver sees it aborted.
pub struct TransferSink {
    way: Out,
    sent: u64,
}

enum Out {
    Remote { conn: Arc<Conn>, send: Sending, recv: quinn::RecvStream },
    Local { chunks: mpsc::Sender<Bytes>, verdict: oneshot::Receiver<Verdict> },
}

impl std::fmt::Debug for TransferSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransferSink").field("sent", &self.sent).finish_non_exhaustive()
    }
}

impl TransferSink {
    /// Sends pieces, in order, without copying them. Waits while the receiver is slower. Pieces of 64 KiB and more are
    /// best; far smaller ones cost time (QUIC searches among them).
    pub async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), TransferError> {
        let bytes: u64 = pieces.iter().map(|p| p.len() as u64).sum();
        match &mut self.way {
            Out::Remote { send, conn, recv } => {
                if let Err(error) = send.write(pieces).await {
                    return Err(match error {
                        // The receiver wants no more: it may have said why.
                        quinn::WriteError::Stopped(_) => match read_end(conn, recv).await {
                            Ok((_, end)) => TransferError::Refused { code: end.code, text: end.text },
                            Err(error) => error,
                        },
                        _ => TransferError::Disconnected,
                    });
                }
            }
            Out::Local { chunks, verdict } => {
                for piece in pieces.iter_mut() {
                    if chunks.send(std::mem::take(piece)).await.is_err() {
                        return Err(match verdict.try_recv() {
                            Ok((code, text, _, _)) => TransferError::Refused { code, text },
                            Err(_) => TransferError::Aborted,
                        });
                    }
                }
            }
        }
        self.sent += bytes;
        Ok(())
    }

    /// Sends one piece.
    pub async fn write_one(&mut self, piece: Bytes) -> Result<(), TransferError> {
        self.write(&mut [piece]).await
    }

    /// Bytes written so far.
    pub const fn sent_bytes(&self) -> u64 {
        self.sent
    }

    /// Ends the transfer and waits for the receiver's verdict: its answer, if it took everything.
    pub async fn finish(self) -> Result<Rope, TransferError> {
        let sent = self.sent;
        let (code, text, taken, answer) = match self.way {
            Out::Remote { conn, mut send, mut recv } => {
                send.end();
                let (mut frame, end) = read_end(&conn, &mut recv).await?;
                (end.code, end.text, end.bytes, frame.attachments.pop().unwrap_or_default())
            }
            Out::Local { chunks, verdict } => {
                drop(chunks);
                verdict.await.map_err(|_| TransferError::Aborted)?
            }
        };
        match code {
            0 if taken == sent => Ok(answer),
            0 => Err(TransferError::Length { sent, taken }),
            code => Err(TransferError::Refused { code, text }),
        }
    }
}

async fn read_end(conn: &Conn, recv: &mut quinn::RecvStream) -> Result<(Frame, TransferEnd), TransferError> {
    let mut channel = Channel::new(Role::TransferSender);
    loop {
        match channel.next() {
            Ok(Some(Item::TransferEnd(frame, end))) => return Ok((frame, end)),
            Ok(_) => {}
            Err(error) => {
                conn.breach(error);
                return Err(TransferError::Protocol(error.code()));
            }
        }
        match run::fill(recv, &mut channel).await {
            Ok((true, _)) => {}
            Ok((false, _)) => return Err(TransferError::Aborted),
            Err(_) if conn.quic.close_reason().is_some() => return Err(TransferError::Disconnected),
            Err(_) => return Err(TransferError::Aborted),
        }
    }
}

/// The receiving end of a transfer. Dropped without `accept` or `refuse`, the sender sees it aborted.
pub struct TransferSource {
    /// For which service.
    pub service: ServiceId,
    /// Routing hash, as in messages.
    pub target: u64,
    /// The service's own header.
    pub header: Bytes,
    way: In,
    received: u64,
}

enum In {
    Remote { send: Sending, recv: quinn::RecvStream, ready: VecDeque<Bytes>, ended: bool, conn: Arc<Conn> },
    Local { chunks: mpsc::Receiver<Bytes>, verdict: oneshot::Sender<Verdict> },
}

impl std::fmt::Debug for TransferSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut f = f.debug_struct("TransferSource");
        f.field("service", &self.service).field("received", &self.received).finish_non_exhaustive()
    }
}

impl TransferSource {
    /// The next piece as it came; `None` when the sender has sent everything.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let piece = match &mut self.way {
            In::Remote { recv, ready, ended, conn, .. } => loop {
                if let Some(piece) = ready.pop_front() {
                    break Some(piece);
                }
                if *ended {
                    break None;
                }
                let mut pieces = [const { Bytes::new() }; PIECES];
                match recv.read_chunks(&mut pieces).await {
                    Ok(Some(n)) => ready.extend(pieces.into_iter().take(n)),
                    Ok(None) => *ended = true,
                    Err(quinn::ReadError::Reset(_)) => return Err(TransferError::Aborted),
                    Err(_) => {
                        let gone = conn.quic.close_reason().is_some();
                        return Err(if gone { TransferError::Disconnected } else { TransferError::Aborted });
                    }
                }
            },
            In::Local { chunks, .. } => chunks.recv().await,
        };
        self.received += piece.as_ref().map_or(0, |p| p.len() as u64);
        Ok(piece)
    }

    /// Bytes handed out so far.
    pub const fn received_bytes(&self) -> u64 {
        self.received
    }

    /// Takes the transfer, after everything was read; the sender gets `answer`.
    pub async fn accept(self, answer: impl Into<Rope>) {
        self.end(0, "", answer.into()).await;
    }

    /// Refuses it, at any time. `code` is a [`FailCode`], or the service's own from `SERVICE_CODE_MIN` on.
    pub async fn refuse(self, code: u16, text: &str) {
        self.end(code.max(1), text, Rope::new()).await;
    }

    /// Refuses it without waiting for that to be sent.
    pub fn refuse_soon(self, code: u16, text: &str) {
        match &self.way {
            In::Local { .. } => {
                if let In::Local { verdict, .. } = self.way {
                    let _gone = verdict.send((code.max(1), greeting::short_text(text), self.received, Rope::new()));
                }
            }
            In::Remote { .. } => {
                let text = text.to_owned();
                tokio::spawn(async move { self.refuse(code, &text).await });
            }
        }
    }

    async fn end(self, code: u16, text: &str, answer: Rope) {
        match self.way {
            In::Remote { mut send, mut recv, .. } => {
                let mut frame = greeting::transfer_end(self.service, code, self.received, text);
                if !answer.is_empty() {
                    frame.attachments.push(answer);
                }
                if send.write_frame(&frame).await.is_ok() {
                    send.end();
                }
                if code != 0 {
                    let _closed = recv.stop(CloseCode::Cancelled.number().into());
                }
            }
            In::Local { verdict, .. } => {
                let _gone = verdict.send((code, greeting::short_text(text), self.received, answer));
            }
        }
    }
}

/// Opens a transfer to a peer.
pub(super) async fn open(
    conn: Arc<Conn>,
    service: ServiceId,
    target: u64,
    header: Bytes,
) -> Result<TransferSink, TransferError> {
    conn.check(service)?;
    let limit = onemec_wire::limits::TRANSFER_FRAME_BYTES_MAX;
    let mut frame = Frame::new(Kind::Transfer, service, header);
    frame.target = target;
    frame.header(limit).map_err(|_| SendError::TooLong { len: frame.wire_len(), limit })?;
    let (send, recv) = conn.quic.open_bi().await.map_err(|_| SendError::NotConnected)?;
    let mut send = Sending::new(send);
    send.write_frame(&frame).await.map_err(|_| TransferError::Disconnected)?;
    Ok(TransferSink { way: Out::Remote { conn, send, recv }, sent: 0 })
}

/// Two ends in this node.
pub(super) fn local(service: ServiceId, target: u64, header: Bytes) -> (TransferSink, TransferSource) {
    let (chunks, receiver) = mpsc::channel(LOCAL_PIECES_MAX);
    let (sender, verdict) = oneshot::channel();
    let way = In::Local { chunks: receiver, verdict: sender };
    let sink = TransferSink { way: Out::Local { chunks, verdict }, sent: 0 };
    (sink, TransferSource { service, target, header, way, received: 0 })
}

/// Takes in the peer's transfers. How many at once is bounded by QUIC's stream limit.
pub(super) async fn accept(conn: &Arc<Conn>) {
    while let Ok((send, recv)) = conn.quic.accept_bi().await {
        run::guarded(conn, |conn| async move { begin(&conn, send, recv).await });
    }
}

async fn begin(conn: &Arc<Conn>, send: quinn::SendStream, mut recv: quinn::RecvStream) -> Result<(), End> {
    let mut channel = Channel::new(Role::TransferReceiver);
    let frame = loop {
        match channel.next()? {
            Some(Item::Transfer(frame)) => break frame,
            Some(_) => return Ok(()),
            None => {}
        }
        if !run::fill(&mut recv, &mut channel).await?.0 {
            return channel.end().map_err(End::from);
        }
    };
    let mut ready = VecDeque::new();
    if let Some(Item::Raw(rope)) = channel.next()? {
        ready.extend(rope.into_chunks());
    }
    let Frame { service, target, body: header, .. } = frame;
    if !run::allowed(conn, service) {
        return Ok(());
    }
    let way = In::Remote { send: Sending::new(send), recv, ready, ended: false, conn: conn.clone() };
    let mut source = Some(TransferSource { service, target, header, way, received: 0 });
    conn.shared.with_service(service, |s| {
        if let Some(source) = source.take() {
            s.transfer(conn.peer, source);
        }
    });
    if let Some(source) = source {
        source.refuse(FailCode::NoHandler.number(), "no such service").await;
    }
    Ok(())
}
