//! Sends what waits to the collector, in batches. While the collector is away batches are lost and counted, never kept.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use onemec_device::{Connection, Connector, Endpoint, HttpError};
use tokio::sync::mpsc;

use super::{Span, Telemetry, otlp};

/// Path of traces (OTLP/HTTP).
const PATH: &str = "/v1/traces";
/// Spans in one request.
const BATCH_MAX: usize = 512;
/// A batch is sent after so long even if it is small.
const PAUSE: Duration = Duration::from_millis(200);
/// The collector answers within this time.
const ANSWER: Duration = Duration::from_secs(5);
/// After a failure it is left alone for so long.
const AGAIN: Duration = Duration::from_secs(1);

pub(super) async fn run(telemetry: Telemetry, collector: Endpoint, node: String, mut waiting: mpsc::Receiver<Span>) {
    let mut connection = None;
    let mut failing = false;
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        batch.clear();
        if waiting.recv_many(&mut batch, BATCH_MAX).await == 0 {
            return;
        }
        tokio::time::sleep(PAUSE).await;
        while batch.len() < BATCH_MAX
            && let Ok(span) = waiting.try_recv()
        {
            batch.push(span);
        }
        let sent = send(&mut connection, &collector, &node, &batch).await;
        telemetry.count(batch.len(), sent.is_ok());
        match sent {
            Ok(()) => failing = false,
            Err(why) => {
                connection = None;
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%collector, "traces are lost until the collector takes them: {why}");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn send(kept: &mut Option<Connection>, collector: &Endpoint, node: &str, spans: &[Span]) -> Result<(), String> {
    let body = Bytes::from(otlp::request(node, spans).to_string());
    let words = |e: HttpError| e.to_string();
    let mut connection = match kept.take().filter(|c| !c.is_closed()) {
        Some(connection) => connection,
        None => Connector::default().connect(collector, ANSWER).await.map_err(words)?,
    };
    let request = Request::post(PATH).header("content-type", "application/json").body(Full::new(body));
    let answer = connection.send(request.map_err(|e| e.to_string())?, ANSWER).await.map_err(words)?;
    if !answer.status.is_success() {
        return Err(format!("it answers {}: {}", answer.status, answer.excerpt()));
    }
    *kept = Some(connection);
    Ok(())
}
