//! What a user would write with quinn alone: long-lived streams, messages with a length before them, coalesced into the
//! same buffers as ours, with the same settings. No correlation, no routing, no credit, no deadlines, no supervision.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use onemec_runtime::pki::Pki;
use onemec_wire::limits::COALESCE_BYTES;
use quinn::congestion::CubicConfig;
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};

use super::ours::tuning;
use super::side::{ASK_BYTES, BURST_BYTES, Bulk, Outstanding, PIECE_BYTES, PIECES, Pace, Side, per_second};
use crate::latency::Latency;

/// As runtime/src/transport/endpoint.rs sets it on loopback.
const MTU: u16 = 65_000;
const FIRST_WINDOW: u64 = 16 << 20;
const FIRST_RTT: Duration = Duration::from_millis(20);
/// Pieces taken from a stream at once.
const READ_PIECES: usize = 32;
const LEN_BYTES: usize = 4;

/// What a stream is for: its first byte.
const ECHO: u8 = b'E';
const COUNT: u8 = b'C';
const BULK: u8 = b'B';

fn transport() -> anyhow::Result<Arc<TransportConfig>> {
    let t = tuning();
    let mut cubic = CubicConfig::default();
    cubic.initial_window(FIRST_WINDOW);
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(Some(Duration::from_millis(t.idle_timeout_ms.into()).try_into()?))
        .keep_alive_interval(Some(Duration::from_millis(t.keep_alive_ms.into())))
        .stream_receive_window(t.stream_window_bytes.into())
        .receive_window(t.transfers_window_bytes.into())
        .send_window(t.send_window_bytes.into())
        .max_concurrent_bidi_streams(VarInt::from_u32(64))
        .initial_mtu(MTU)
        .mtu_discovery_config(None)
        .enable_segmentation_offload(false)
        .initial_rtt(FIRST_RTT)
        .congestion_controller_factory(Arc::new(cubic));
    Ok(Arc::new(config))
}

fn endpoint(server: Option<ServerConfig>) -> anyhow::Result<Endpoint> {
    let socket = socket(tuning().socket_buffer_bytes as usize)?;
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MTU)?;
    Ok(Endpoint::new(config, server, socket, Arc::new(quinn::TokioRuntime))?)
}

fn socket(buffer_bytes: usize) -> anyhow::Result<std::net::UdpSocket> {
    let socket = std::net::UdpSocket::bind(("127.0.0.1", 0))?;
    let settings = socket2::SockRef::from(&socket);
    settings.set_recv_buffer_size(buffer_bytes)?;
    settings.set_send_buffer_size(buffer_bytes)?;
    Ok(socket)
}

/// Cuts a stream into messages; those that lie in one piece are not copied.
#[derive(Default)]
struct Cutter {
    rest: BytesMut,
}

impl Cutter {
    /// How long the message that has begun is, as far as its length is here; `None` between messages.
    fn wanted(&self) -> Option<usize> {
        if self.rest.is_empty() {
            return None;
        }
        Some(LEN_BYTES + self.rest.first_chunk::<LEN_BYTES>().map_or(0, |len| u32::from_le_bytes(*len) as usize))
    }

    fn push(&mut self, mut piece: Bytes, mut message: impl FnMut(&[u8])) {
        // A message that began in an earlier piece: first its length, then the rest of it.
        while let Some(wanted) = self.wanted() {
            let take = (wanted - self.rest.len()).min(piece.len());
            self.rest.extend_from_slice(&piece.split_to(take));
            if self.rest.len() >= LEN_BYTES && self.wanted() == Some(self.rest.len()) {
                message(&self.rest[LEN_BYTES..]);
                self.rest.clear();
            } else if take == 0 {
                return;
            }
        }
        let mut open = piece.as_ref();
        while let Some(len) = open.first_chunk::<LEN_BYTES>() {
            let end = LEN_BYTES + u32::from_le_bytes(*len) as usize;
            if open.len() < end {
                break;
            }
            message(&open[LEN_BYTES..end]);
            open = &open[end..];
        }
        self.rest.extend_from_slice(open);
    }
}

fn put(buffer: &mut BytesMut, message: &[u8]) {
    buffer.put_u32_le(u32::try_from(message.len()).unwrap_or(u32::MAX));
    buffer.extend_from_slice(message);
}

/// The far end.
pub(super) fn serve(pki: &Pki) -> anyhow::Result<Endpoint> {
    let mut config = ServerConfig::with_crypto(Arc::new(pki.quic_server()?));
    config.transport_config(transport()?);
    let endpoint = endpoint(Some(config))?;
    let listening = endpoint.clone();
    tokio::spawn(async move {
        while let Some(incoming) = listening.accept().await {
            tokio::spawn(async move {
                let Ok(connection) = incoming.await else { return };
                while let Ok((send, recv)) = connection.accept_bi().await {
                    tokio::spawn(async move {
                        // A stream that breaks ends its measurement at the near end, which says so.
                        let _broken = answer(send, recv).await;
                    });
                }
            });
        }
    });
    Ok(endpoint)
}

async fn answer(mut send: SendStream, mut recv: RecvStream) -> anyhow::Result<()> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await?;
    let mut cutter = Cutter::default();
    let mut pieces = [const { Bytes::new() }; READ_PIECES];
    let (mut count, mut out) = (0u64, BytesMut::new());
    while let Some(n) = recv.read_chunks(&mut pieces).await? {
        for piece in pieces.iter_mut().take(n).map(std::mem::take) {
            match kind[0] {
                ECHO => cutter.push(piece, |m| put(&mut out, m)),
                // An empty message: how many have come?
                COUNT => cutter.push(piece, |m| match m {
                    [] => put(&mut out, &count.to_le_bytes()),
                    _ => count += 1,
                }),
                _ => count += piece.len() as u64,
            }
        }
        if !out.is_empty() {
            send.write_chunk(out.split().freeze()).await?;
        }
    }
    if kind[0] == BULK {
        send.write_all(&count.to_le_bytes()).await?;
        send.finish()?;
    }
    Ok(())
}

struct Stream {
    send: SendStream,
    recv: RecvStream,
    cutter: Cutter,
}

impl Stream {
    async fn open(connection: &Connection, kind: u8) -> anyhow::Result<Self> {
        let (mut send, recv) = connection.open_bi().await?;
        send.write_all(&[kind]).await?;
        Ok(Self { send, recv, cutter: Cutter::default() })
    }

    /// The messages of the next pieces.
    async fn next(&mut self, mut message: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let mut pieces = [const { Bytes::new() }; READ_PIECES];
        let n = self.recv.read_chunks(&mut pieces).await?.context("the far end ended the stream")?;
        pieces.into_iter().take(n).for_each(|p| self.cutter.push(p, &mut message));
        Ok(())
    }

    async fn count(&mut self) -> anyhow::Result<u64> {
        let mut question = BytesMut::new();
        put(&mut question, &[]);
        self.send.write_chunk(question.freeze()).await?;
        let mut count = None;
        while count.is_none() {
            self.next(|mut m| count = (m.len() == 8).then(|| m.get_u64_le())).await?;
        }
        count.context("the far end's count")
    }
}

/// The near end: one connection for messages, one for bulk.
pub(crate) struct Near {
    echo: Stream,
    tell: Stream,
    bulk: Connection,
    _endpoint: Endpoint,
}

impl Near {
    pub(super) async fn connect(pki: &Pki, far: SocketAddr) -> anyhow::Result<Self> {
        let mut config = quinn::ClientConfig::new(Arc::new(pki.quic_client()?));
        config.transport_config(transport()?);
        let endpoint = endpoint(None)?;
        let dial = || endpoint.connect_with(config.clone(), far, "far");
        let (messages, bulk) = (dial()?.await?, dial()?.await?);
        messages.set_receive_window(tuning().lanes_window_bytes.into());
        let (echo, tell) = (Stream::open(&messages, ECHO).await?, Stream::open(&messages, COUNT).await?);
        Ok(Self { echo, tell, bulk, _endpoint: endpoint })
    }
}

impl Side for Near {
    async fn asks(&mut self, outstanding: usize, time: Duration) -> anyhow::Result<Outstanding> {
        let question = vec![7; ASK_BYTES];
        let begun = Instant::now();
        let end = begun + time;
        let mut latency = Latency::new();
        // Answers come in the order of the questions.
        let mut asked: VecDeque<Instant> = VecDeque::with_capacity(outstanding);
        let (mut want, mut out, mut count) = (outstanding, BytesMut::with_capacity(COALESCE_BYTES), 0);
        loop {
            let now = Instant::now();
            for _ in 0..want {
                put(&mut out, &question);
                asked.push_back(now);
            }
            if !out.is_empty() {
                self.echo.send.write_chunk(out.split().freeze()).await?;
                out.reserve(COALESCE_BYTES);
            }
            if asked.is_empty() {
                break;
            }
            let mut answers = 0;
            self.echo.next(|_| answers += 1).await?;
            let now = Instant::now();
            for _ in 0..answers {
                match asked.pop_front() {
                    Some(from) => latency.record(now - from),
                    None => bail!("an answer without a question"),
                }
            }
            count += answers as u64;
            want = if now < end { answers } else { 0 };
        }
        Ok(Outstanding { rate: per_second(count, begun), latency })
    }

    async fn tells(&mut self, bytes: usize, time: Duration) -> anyhow::Result<f64> {
        let message = vec![7; bytes];
        let before = self.tell.count().await?;
        let begun = Instant::now();
        while begun.elapsed() < time {
            let mut left = BURST_BYTES / bytes.max(1);
            while left > 0 {
                let mut buffer = BytesMut::with_capacity(COALESCE_BYTES);
                while left > 0 && buffer.len() + LEN_BYTES + bytes <= COALESCE_BYTES {
                    put(&mut buffer, &message);
                    left -= 1;
                }
                self.tell.send.write_chunk(buffer.freeze()).await?;
            }
            tokio::task::yield_now().await;
        }
        let after = self.tell.count().await?;
        Ok(per_second(after - before, begun))
    }

    fn bulk(&self, pace: Pace) -> Bulk {
        let connection = self.bulk.clone();
        Box::pin(async move {
            let piece = Bytes::from(vec![7; PIECE_BYTES]);
            let begun = Instant::now();
            let Stream { mut send, mut recv, .. } = Stream::open(&connection, BULK).await?;
            let mut sent = 0;
            while !pace.is_over() {
                let mut pieces: [Bytes; PIECES] = std::array::from_fn(|_| piece.clone());
                send.write_all_chunks(&mut pieces).await?;
                sent += (PIECES * PIECE_BYTES) as u64;
            }
            send.finish()?;
            let mut count = [0; 8];
            recv.read_exact(&mut count).await?;
            if u64::from_le_bytes(count) != sent {
                bail!("the far end has {} of {sent} bytes", u64::from_le_bytes(count));
            }
            Ok(per_second(sent, begun))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_wherever_pieces_end() {
        let mut stream = BytesMut::new();
        for n in 0..5u8 {
            put(&mut stream, &vec![n; usize::from(n) * 3]);
        }
        let stream = stream.freeze();
        for size in 1..stream.len() {
            let (mut cutter, mut got) = (Cutter::default(), Vec::new());
            for piece in stream.chunks(size) {
                cutter.push(Bytes::copy_from_slice(piece), |m| got.push(m.to_vec()));
            }
            let wanted: Vec<_> = (0..5u8).map(|n| vec![n; usize::from(n) * 3]).collect();
            assert_eq!(got, wanted, "pieces of {size}");
        }
    }
}
