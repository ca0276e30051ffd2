//! A target of notifications: an HTTP server that agrees to subscriptions, answers OK and keeps what came, unless it is told
//! otherwise.

use std::collections::VecDeque;
use std::io;
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

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// HTTP status and `X-M2M-RSC` of the next answers to notifications; what is answered so is not kept.
    refusals: VecDeque<(u16, &'static str)>,
    refused: usize,
    gone: bool,
}

/// A running server.
pub struct Listener {
    /// What to put into `nu`.
    pub url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Listener {
    /// Listens on a free port.
    pub async fn start() -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/heard", socket.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let kept = state.clone();
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
        Self { url, state, task }
    }

    /// Everything so far, in the order of arrival.
    pub fn heard(&self) -> Vec<Heard> {
        self.state.lock().unwrap().heard.clone()
    }

    /// Answers the next notifications with these HTTP statuses and response status codes.
    pub fn refuses(&self, answers: impl IntoIterator<Item = (u16, &'static str)>) {
        self.state.lock().unwrap().refusals.extend(answers);
    }

    /// How many notifications were answered so, or not at all.
    pub fn refused(&self) -> usize {
        self.state.lock().unwrap().refused
    }

    /// Breaks every connection that brings a notification, or no longer.
    pub fn is_gone(&self, gone: bool) {
        self.state.lock().unwrap().gone = gone;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<Mutex<State>>, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let request = text("x-m2m-ri");
    let mut status = (200, "2000");
    if let Ok(body) = body.collect().await {
        let body: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        // It agrees to every subscription.
        if body.pointer("/m2m:sgn/vrq") != Some(&Value::Bool(true)) {
            let mut state = state.lock().unwrap();
            if state.gone {
                state.refused += 1;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            match state.refusals.pop_front() {
                Some(refusal) => {
                    state.refused += 1;
                    status = refusal;
                }
                None => state.heard.push(Heard { request: request.clone(), body }),
            }
        }
    }
    let answer = Response::builder()
        .status(status.0)
        .header("x-m2m-rsc", status.1)
        .header("x-m2m-ri", request)
        .header("x-m2m-rvi", "3")
        .body(Full::default());
    Ok(answer.unwrap())
}
