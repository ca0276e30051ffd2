//! Sends requests to AEs and CSEs over HTTP, with bounded connections per host.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::header::RETRY_AFTER;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use onemec_onem2m::http_binding::{request_to_http, response_from_http};
use onemec_onem2m::{Refusal, Request, Response, Rsc};
use tokio::sync::Semaphore;

use super::dropped::Dropped;
use super::policy::SendOptions;
use super::tls::{self, Secure};

/// Hosts whose permits are kept.
const HOSTS_MAX: usize = 4096;
/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_connect_timeout(Some(CONNECT));
    connector.set_nodelay(true);
    connector
}

fn pool(options: &SendOptions) -> hyper_util::client::legacy::Builder {
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(options.per_host_max);
    builder
}

/// A certificate that is not good stands at the end of the chain.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// What a receiver said, and how its HTTP server put it.
#[derive(Debug)]
pub struct Answered {
    /// The answer; a plain web server's is made from its status: OK or TARGET_NOT_REACHABLE.
    pub response: Response,
    /// Of HTTP.
    pub status: StatusCode,
    /// It speaks oneM2M: it gave a response status code.
    pub has_rsc: bool,
    /// When it wants to be asked again (RFC 9110 10.2.3, seconds).
    pub retry_after: Option<Duration>,
}

/// The HTTP client of a node. Share one.
pub struct Sender {
    options: SendOptions,
    client: Client<HttpConnector, Full<Bytes>>,
    /// Made with the first `https://` target: this machine's authorities are read from its disk.
    secure: OnceLock<Result<Secure, String>>,
    all: Arc<Semaphore>,
    hosts: DashMap<String, Arc<Semaphore>>,
    pub(crate) dropped: Dropped,
}

impl Sender {
    /// A client. Call it inside a tokio runtime.
    pub fn new(options: SendOptions) -> Arc<Self> {
        let client = pool(&options).build(tcp());
        let all = Arc::new(Semaphore::new(options.requests_max));
        Arc::new(Self {
            options,
            client,
            secure: OnceLock::new(),
            all,
            hosts: DashMap::new(),
            dropped: Dropped::default(),
        })
    }

    /// Its limits.
    pub fn options(&self) -> &SendOptions {
        &self.options
    }

    /// Sends a request to the first of the points of access that can be reached, in their order. Whatever it answers is
    /// the answer; TARGET_NOT_REACHABLE if none does.
    pub async fn to_entity(
        &self,
        points_of_access: &[String],
        request: &Request,
        deadline: Duration,
    ) -> Result<Answered, Refusal> {
        let until = tokio::time::Instant::now() + deadline;
        let mut why = String::from("it has no point of access for HTTP");
        for poa in points_of_access {
            match tokio::time::timeout_at(until, self.send(poa, request)).await {
                Ok(Ok(answered)) => return Ok(answered),
                Ok(Err(refusal)) => why = format!("{poa}: {}", refusal.debug),
                Err(_) => {
                    why = format!("{poa}: the deadline passed");
                    break;
                }
            }
        }
        Err(Refusal::new(Rsc::TARGET_NOT_REACHABLE, why))
    }

    /// Sends a request to one URL: its path is the target's if it has one.
    pub async fn send(&self, url: &str, request: &Request) -> Result<Answered, Refusal> {
        let bad = |what: String| Refusal::new(Rsc::TARGET_NOT_REACHABLE, what);
        // `?ct=json` picks the serialisation and is not for the receiver (TS-0001 9.6.8).
        let plain = url.split_once("?ct=").map_or(url, |(u, _)| u);
        let uri: Uri = plain.parse().map_err(|_| bad("not a URL".into()))?;
        let scheme = match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => scheme,
            _ => return Err(bad("only http and https are supported".into())),
        };
        if !self.options.policy.permits(&uri) {
            return Err(bad("requests to this host are not permitted".into()));
        }
        let authority = uri.authority().ok_or_else(|| bad("no host".into()))?.as_str().to_owned();
        let mut message = request_to_http(request, &authority)?;
        let path = uri.path_and_query().filter(|p| p.as_str() != "/").cloned();
        let path = path.or_else(|| message.uri().path_and_query().cloned());
        *message.uri_mut() = Uri::builder()
            .scheme(scheme)
            .authority(authority.as_str())
            .path_and_query(path.ok_or_else(|| bad("no path".into()))?)
            .build()
            .map_err(|e| bad(e.to_string()))?;
        let permits = self.permits(&authority);
        let _host = permits.acquire().await.map_err(|e| bad(e.to_string()))?;
        let _all = self.all.acquire().await.map_err(|e| bad(e.to_string()))?;
        let message = message.map(Full::new);
        let answer = match scheme {
            "https" => self.secure().map_err(bad)?.request(message).await,
            _ => self.client.request(message).await,
        };
        let answer = answer.map_err(|e| bad(with_causes(&e)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.options.response_bytes_max).collect().await;
        let body = body.map_err(|e| bad(e.to_string()))?.to_bytes();
        let (status, has_rsc) = (head.status, head.headers.contains_key("x-m2m-rsc"));
        let seconds = head.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()?.trim().parse().ok());
        let response = if has_rsc {
            response_from_http(&head, body)?
        } else {
            // A plain web server: its status is all that it says.
            let rsc = if status.is_success() { Rsc::OK } else { Rsc::TARGET_NOT_REACHABLE };
            Response::new(rsc, request.rqi.clone(), request.rvi)
        };
        Ok(Answered { response, status, has_rsc, retry_after: seconds.map(Duration::from_secs) })
    }

    fn secure(&self) -> Result<&Secure, String> {
        let make = || tls::connector(tcp(), self.options.authorities.as_ref()).map(|c| pool(&self.options).build(c));
        self.secure.get_or_init(make).as_ref().map_err(String::clone)
    }

    fn permits(&self, host: &str) -> Arc<Semaphore> {
        if self.hosts.len() > HOSTS_MAX {
            self.hosts.retain(|_, s| Arc::strong_count(s) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.options.per_host_max));
        Arc::clone(&self.hosts.entry(host.to_owned()).or_insert_with(new))
    }
}
