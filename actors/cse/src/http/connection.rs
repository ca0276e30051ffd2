//! One connection: TLS if asked for, HTTP/1.1 or (by its preface or ALPN) HTTP/2, with a limit on every wait.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::heads::{Heads, Turns};
use super::listener::Shared;
use super::{credential, exchange, preface};
use crate::front::Proof;

/// Streams of one HTTP/2 connection.
const STREAMS_MAX: u32 = 128;
/// Smallest read buffer that hyper takes.
const BUFFER_BYTES_MIN: usize = 8192;

pub(super) async fn run(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<TlsAcceptor>,
    shared: &Arc<Shared>,
    stopped: watch::Receiver<bool>,
) {
    let limits = &shared.options.limits;
    let _ = stream.set_nodelay(true);
    let header = Duration::from_millis(limits.header_ms_max);
    match tls {
        None => {
            let due = Instant::now() + header;
            let Ok(Some((stream, http2))) = tokio::time::timeout_at(due, preface::begin(stream)).await else { return };
            talk(stream, http2, due, Client { peer, proof: None }, shared, stopped).await;
        }
        Some(acceptor) => {
            let handshake = Duration::from_millis(limits.handshake_ms_max);
            let stream = match tokio::time::timeout(handshake, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                failed => {
                    let why = failed.map_or_else(
                        |_| "it took too long".into(),
                        |r| r.err().map_or_else(String::new, |e| e.to_string()),
                    );
                    shared.options.figures.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(%peer, "a client's TLS handshake failed: {why}");
                    return;
                }
            };
            let (_, session) = stream.get_ref();
            let http2 = session.alpn_protocol() == Some(b"h2");
            let proof = session
                .peer_certificates()
                .and_then(|chain| chain.first())
                .and_then(|certificate| credential::from_certificate(certificate));
            talk(stream, http2, Instant::now() + header, Client { peer, proof }, shared, stopped).await;
        }
    }
}

/// Who is at the other end.
#[derive(Debug, Clone)]
pub(super) struct Client {
    pub(super) peer: SocketAddr,
    pub(super) proof: Option<Proof>,
}

/// `due`: the first head must be there by then.
async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    http2: bool,
    due: Instant,
    client: Client,
    shared: &Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) {
    let limits = shared.options.limits.clone();
    let (header, idle) = (Duration::from_millis(limits.header_ms_max), Duration::from_millis(limits.idle_ms_max));
    let shared = Arc::clone(shared);
    let answer = move |request| exchange::answer(Arc::clone(&shared), client.clone(), request);
    let done = if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
            .keep_alive_interval(Some(idle))
            .keep_alive_timeout(header)
            .serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::pin!(connection);
        tokio::select! {
            done = connection.as_mut() => done,
            () = told_to_stop(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let turns = Turns::default();
        let io = TokioIo::new(Heads::new(stream, due, header, turns.clone()));
        let service = service_fn(move |request| {
            let turn = turns.begin();
            let answered = answer(request);
            async move {
                let answered = answered.await;
                drop(turn);
                answered
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(limits.header_bytes_max.max(BUFFER_BYTES_MIN))
            .max_headers(limits.headers_max)
            .serve_connection(io, service);
        tokio::pin!(connection);
        tokio::select! {
            done = connection.as_mut() => done,
            () = told_to_stop(&mut stopped) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Also when the listener is gone. The value is not kept: it holds a lock.
async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|s| *s).await;
}
