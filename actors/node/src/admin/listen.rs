//! The admin API's socket, with a bound on connections and on every wait (I8).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http_body_util::LengthLimitError;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use onemec_cse::http::Addresses;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::server::{AdminError, BODY_BYTES_MAX};

/// Open connections; further ones are answered 503 and closed.
const CONNECTIONS_MAX: usize = 256;
/// Open connections of one client address (IPv6: of one /64); likewise.
const CONNECTIONS_PER_ADDRESS_MAX: usize = 64;
/// Request line and headers.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Time for a whole header to arrive, and for a kept-alive connection to stay silent.
const HEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// Time for a whole body to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// Pause after accepting failed for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A refused client gets so long to take its answer.
const REFUSAL_MAX: Duration = Duration::from_millis(500);
const TOO_MANY: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves the routes until `stop` resolves; requests under way then finish by themselves.
pub(super) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let router = router.layer(middleware::from_fn(whole_body));
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let addresses = Addresses::new(CONNECTIONS_PER_ADDRESS_MAX);
    // Dropped when this function ends: connections then close after the request under way.
    let (_running, stopped) = watch::channel(());
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection to the admin API was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let permit = Arc::clone(&connections).try_acquire_owned();
        let Some(places) = permit.ok().zip(addresses.take(peer.ip())) else {
            tokio::spawn(turn_away(stream));
            continue;
        };
        let (router, mut stopped) = (router.clone(), stopped.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .max_buf_size(HEADER_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stopped.changed() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a connection to the admin API ended early");
            }
            drop(places);
        });
    }
}

async fn turn_away(mut stream: TcpStream) {
    let _ = tokio::time::timeout(REFUSAL_MAX, async {
        let _ = stream.write_all(TOO_MANY).await;
        let _ = stream.shutdown().await;
    })
    .await;
}

/// Reads the body before the handler runs: bounded in length and in time.
async fn whole_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let refused = |status, code: &str, message: &str| {
        AdminError::new(status, code, message, "docs/operations.md shows the JSON").into_response()
    };
    match tokio::time::timeout(BODY_TIME_MAX, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => next.run(Request::from_parts(head, Body::from(body))).await,
        Ok(Err(e)) if std::error::Error::source(&e).is_some_and(|s| s.is::<LengthLimitError>()) => {
            refused(413, "admin-bad-body", "the body is too long")
        }
        Ok(Err(_)) => refused(400, "admin-bad-body", "the body was cut off"),
        Err(_) => refused(408, "admin-bad-body", "the body did not come in time"),
    }
}
