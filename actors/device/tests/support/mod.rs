//! A small HTTP server whose answers a test programs: what arrived can be looked at afterwards.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use onemec_device::Endpoint;
use parking_lot::Mutex;
use tokio::net::TcpListener;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: serde_json::Value,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }
}

/// What the server does with a request.
pub(crate) enum Action {
    Answer(u16, Vec<(&'static str, String)>, String),
    /// Closes the connection without an answer.
    Break,
    /// Never answers.
    Hang,
}

pub(crate) type Handler = Arc<dyn Fn(&Seen) -> Action + Send + Sync>;

pub(crate) struct Mock {
    pub(crate) endpoint: Endpoint,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Mock {
    pub(crate) async fn start(handler: Handler) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let task = tokio::spawn(async move {
            // Connections end with the server: a killed host takes them along.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (handler, log) = (handler.clone(), log.clone());
                connections.spawn(async move {
                    let service = service_fn(move |r| serve(r, handler.clone(), log.clone()));
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { endpoint, seen, task }
    }

    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    pub(crate) fn writes(&self) -> Vec<Seen> {
        self.seen.lock().iter().filter(|s| s.header("content-type").ends_with("ty=4")).cloned().collect()
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.kill();
    }
}

#[derive(Debug)]
struct Closed;
impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}
impl std::error::Error for Closed {}

async fn serve(
    request: Request<Incoming>,
    handler: Handler,
    log: Arc<Mutex<Vec<Seen>>>,
) -> Result<Response<Full<Bytes>>, Closed> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let seen = Seen {
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    };
    log.lock().push(seen.clone());
    match handler(&seen) {
        Action::Answer(status, headers, body) => {
            let mut r = Response::builder().status(status);
            for (name, value) in headers {
                r = r.header(name, value);
            }
            Ok(r.body(Full::new(Bytes::from(body))).unwrap())
        }
        Action::Break => Err(Closed),
        Action::Hang => {
            std::future::pending::<Infallible>().await;
            Err(Closed)
        }
    }
}

/// An ordinary CSE's answer to what a device does first; `None` for anything else.
pub(crate) fn first_steps(seen: &Seen, extra: &[(&'static str, String)]) -> Option<Action> {
    let headers = |rsc: &str| {
        let mut h = vec![("x-m2m-rsc", rsc.to_owned())];
        h.extend(extra.iter().cloned());
        h
    };
    let content_type = seen.header("content-type");
    if content_type.ends_with("ty=2") {
        let body = r#"{"m2m:ae":{"aei":"Cdev","ri":"Cdev"}}"#;
        return Some(Action::Answer(201, headers("2001"), body.into()));
    }
    if content_type.ends_with("ty=3") {
        return Some(Action::Answer(201, headers("2001"), r#"{"m2m:cnt":{"ri":"cnt1"}}"#.into()));
    }
    None
}

/// A CSE that says yes to everything.
pub(crate) fn yes(extra: Vec<(&'static str, String)>) -> Handler {
    Arc::new(move |seen| first_steps(seen, &extra).unwrap_or_else(|| created(&extra)))
}

pub(crate) fn created(extra: &[(&'static str, String)]) -> Action {
    let mut headers = vec![("x-m2m-rsc", "2001".to_owned())];
    headers.extend(extra.iter().cloned());
    Action::Answer(201, headers, r#"{"m2m:cin":{"ri":"cin1"}}"#.into())
}

/// Polls until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < deadline, "timed out: {what}");
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}
