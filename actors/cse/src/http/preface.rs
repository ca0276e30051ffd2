//! Which HTTP a plain connection speaks: by its first bytes, which are read and given back to whoever reads next.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// First bytes of HTTP/2 with prior knowledge; no method of HTTP/1.1 begins like that.
const HTTP2: [u8; 4] = *b"PRI ";

/// A connection whose first bytes were looked at.
pub(super) struct Begun<S> {
    stream: S,
    first: [u8; HTTP2.len()],
    /// Of `first`: what was read, and how much of it was given back.
    read: usize,
    given: usize,
}

/// Reads until the version is certain. `None` if the client goes away before that: reading sees the end of the stream,
/// peeking at it would not.
pub(super) async fn begin<S: AsyncRead + Unpin>(mut stream: S) -> Option<(Begun<S>, bool)> {
    let (mut first, mut read) = ([0; HTTP2.len()], 0);
    while read < HTTP2.len() && first.get(..read) == HTTP2.get(..read) {
        match stream.read(first.get_mut(read..)?).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => read += n,
        }
    }
    let http2 = read == HTTP2.len() && first == HTTP2;
    Some((Begun { stream, first, read, given: 0 }, http2))
}

impl<S: AsyncRead + Unpin> AsyncRead for Begun<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let me = &mut *self;
        match me.first.get(me.given..me.read) {
            None | Some([]) => Pin::new(&mut me.stream).poll_read(cx, buffer),
            Some(rest) => {
                let taken = rest.len().min(buffer.remaining());
                buffer.put_slice(rest.get(..taken).unwrap_or_default());
                me.given += taken;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Begun<S> {
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
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What the version was taken for, and what is read after that.
    async fn seen(pieces: &[&[u8]]) -> Option<(bool, Vec<u8>)> {
        let (mut client, server) = tokio::io::duplex(1);
        let sending = async {
            for piece in pieces {
                client.write_all(piece).await.unwrap();
            }
            drop(client);
        };
        let reading = async {
            let (mut begun, http2) = begin(server).await?;
            let mut all = Vec::new();
            begun.read_to_end(&mut all).await.unwrap();
            Some((http2, all))
        };
        tokio::join!(sending, reading).1
    }

    #[tokio::test]
    async fn the_first_bytes_tell_and_are_not_lost() {
        for (bytes, http2) in
            [(&b"PRI * HTTP/2.0\r\n\r\nSM"[..], true), (b"PUT /-/x", false), (b"GET / HTTP/1.1", false)]
        {
            assert_eq!(seen(&[bytes]).await, Some((http2, bytes.to_vec())));
        }
        assert_eq!(seen(&[b"P", b"R", b"I", b" *"]).await, Some((true, b"PRI *".to_vec())));
    }

    #[tokio::test]
    async fn a_client_that_goes_away_is_seen_to_go() {
        for words in [&b""[..], b"P", b"PRI"] {
            assert_eq!(seen(&[words]).await, None);
        }
    }
}
