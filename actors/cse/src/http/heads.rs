//! A limit on the time that a request's head takes, from its first byte on. hyper has one limit for that and for the
//! silence before it; a device that is silent for a while between two readings keeps its connection, a client that sends
//! a head byte by byte does not.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a client is told whose head did not come in time.
const TOO_SLOW: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Counts the beginnings and ends of requests on one HTTP/1.1 connection: odd while one is served.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<AtomicU64>);

/// A request that is served.
pub(super) struct Turn(Turns);

impl Turns {
    /// The head is there.
    pub(super) fn begin(&self) -> Turn {
        self.0.fetch_add(1, Ordering::Relaxed);
        Turn(self.clone())
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection over which heads must come in time.
pub(super) struct Heads<S> {
    stream: S,
    limit: Duration,
    turns: Turns,
    /// The turn that was seen last.
    seen: u64,
    /// When the head that has begun must be complete.
    due: Option<Pin<Box<Sleep>>>,
}

impl<S> Heads<S> {
    /// The first head is due at `first`, also if nothing of it has come.
    pub(super) fn new(stream: S, first: Instant, limit: Duration, turns: Turns) -> Self {
        Self { stream, limit, turns, seen: 0, due: Some(Box::pin(tokio::time::sleep_until(first))) }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Heads<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        let turn = me.turns.0.load(Ordering::Relaxed);
        if turn != me.seen {
            (me.seen, me.due) = (turn, None);
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut me.stream).poll_read(cx, buffer);
        let serving = turn % 2 == 1;
        if !serving && me.due.is_none() && buffer.filled().len() > before {
            me.due = Some(Box::pin(tokio::time::sleep(me.limit)));
        }
        let late = read.is_pending() && me.due.as_mut().is_some_and(|due| due.as_mut().poll(cx).is_ready());
        if !late {
            return read;
        }
        // What does not fit into the socket's buffer is lost: this client does not read either.
        let _ = Pin::new(&mut me.stream).poll_write(cx, TOO_SLOW);
        let _ = Pin::new(&mut me.stream).poll_flush(cx);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head did not arrive in time")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);
    /// The test has failed by then.
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_head_that_drips_is_cut_and_silence_between_requests_is_not() {
        let (mut client, server) = tokio::io::duplex(1024);
        let turns = Turns::default();
        let mut heads = Heads::new(server, Instant::now() + LIMIT, LIMIT, turns.clone());
        let mut byte = [0; 1];
        client.write_all(b"a").await.unwrap();
        heads.read_exact(&mut byte).await.unwrap();
        // Complete: its body, the answer and the silence after it have limits of their own.
        let turn = turns.begin();
        let silent = tokio::time::timeout(LIMIT * 4, heads.read_exact(&mut byte)).await;
        assert!(silent.is_err(), "still open while the request is served");
        drop(turn);
        let silent = tokio::time::timeout(LIMIT * 4, heads.read_exact(&mut byte)).await;
        assert!(silent.is_err(), "still open between two requests");
        // The next head drips.
        let dripping = async {
            while client.write_all(b"b").await.is_ok() {
                tokio::time::sleep(LIMIT / 10).await;
            }
        };
        let reading = async { while heads.read_exact(&mut byte).await.is_ok() {} };
        tokio::select! {
            () = reading => {}
            () = dripping => panic!("the reader is gone"),
            () = tokio::time::sleep(PATIENCE) => panic!("it drips on and on"),
        }
        drop(heads);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.unwrap();
        assert_eq!(said, TOO_SLOW);
    }

    #[tokio::test]
    async fn a_connection_that_never_says_anything_is_cut() {
        let (_client, server) = tokio::io::duplex(64);
        let mut heads = Heads::new(server, Instant::now() + LIMIT, LIMIT, Turns::default());
        let ended = tokio::time::timeout(PATIENCE, async { heads.read(&mut [0; 8]).await }).await;
        assert_eq!(ended.expect("it is still open").unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
