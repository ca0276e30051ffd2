//! A target of notifications: an HTTP server that agrees to subscriptions, answers OK and keeps what came.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One notification.
#[derive(Debug, Clone)]
pub struct Heard {
    /// `X-M2M-RI`.
    pub request: String,
    /// The content.
    pub body: Value,
}

/// A running server.
pub struct Listener {
    /// What to put into `nu`.
    pub url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/heard", socket.local_addr().unwrap());
        let heard: Arc<Mutex<Vec<Heard>>> = Arc::default();
        let kept = heard.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |r| answer(kept.clone(), r));
                    // A connection that breaks is the sender's business: it sends again.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, heard, task }
    }

    /// Everything so far, in the order of arrival.
    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(kept: Arc<Mutex<Vec<Heard>>>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let request = text("x-m2m-ri");
    if let Ok(body) = body.collect().await {
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        // It agrees to every subscription.
        if body.pointer("/m2m:sgn/vrq") != Some(&Value::Bool(true)) {
            kept.lock().unwrap().push(Heard { request: request.clone(), body });
        }
    }
    let answer = Response::builder()
        .header("x-m2m-rsc", "2000")
        .header("x-m2m-ri", request)
        .header("x-m2m-rvi", "3")
        .body(Full::default());
    Ok(answer.unwrap())
}
