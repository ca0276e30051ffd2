//! Sends requests to AEs and CSEs over HTTP, with bounded connections per host.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::Uri;
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use onemec_onem2m::http_binding::{request_to_http, response_from_http};
use onemec_onem2m::{Refusal, Request, Response, Rsc};
use tokio::sync::Semaphore;

use super::policy::SendOptions;

/// Hosts whose permits are kept.
const HOSTS_MAX: usize = 4096;
/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// The HTTP client of a node. Share one.
pub struct Sender {
    options: SendOptions,
    client: Client<HttpConnector, Full<Bytes>>,
    all: Arc<Semaphore>,
    hosts: DashMap<String, Arc<Semaphore>>,
}

impl Sender {
    /// A client. Call it inside a tokio runtime.
    pub fn new(options: SendOptions) -> Arc<Self> {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(options.per_host_max)
            .build(connector);
        let all = Arc::new(Semaphore::new(options.requests_max));
        Arc::new(Self { options, client, all, hosts: DashMap::new() })
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
    ) -> Result<Response, Refusal> {
        let until = tokio::time::Instant::now() + deadline;
        let mut why = String::from("it has no point of access for HTTP");
        for poa in points_of_access {
            match tokio::time::timeout_at(until, self.send(poa, request)).await {
                Ok(Ok(response)) => return Ok(response),
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
    pub async fn send(&self, url: &str, request: &Request) -> Result<Response, Refusal> {
        let bad = |what: String| Refusal::new(Rsc::TARGET_NOT_REACHABLE, what);
        // `?ct=json` picks the serialisation and is not for the receiver (TS-0001 9.6.8).
        let plain = url.split_once("?ct=").map_or(url, |(u, _)| u);
        let uri: Uri = plain.parse().map_err(|_| bad("not a URL".into()))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("only http is supported".into()));
        }
        if !self.options.policy.permits(&uri) {
            return Err(bad("requests to this host are not permitted".into()));
        }
        let authority = uri.authority().ok_or_else(|| bad("no host".into()))?.as_str().to_owned();
        let mut message = request_to_http(request, &authority)?;
        let path = uri.path_and_query().filter(|p| p.as_str() != "/").cloned();
        let path = path.or_else(|| message.uri().path_and_query().cloned());
        *message.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(authority.as_str())
            .path_and_query(path.ok_or_else(|| bad("no path".into()))?)
            .build()
            .map_err(|e| bad(e.to_string()))?;
        let permits = self.permits(&authority);
        let _host = permits.acquire().await.map_err(|e| bad(e.to_string()))?;
        let _all = self.all.acquire().await.map_err(|e| bad(e.to_string()))?;
        let answer = self.client.request(message.map(Full::new)).await.map_err(|e| bad(e.to_string()))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, self.options.response_bytes_max).collect().await;
        let body = body.map_err(|e| bad(e.to_string()))?.to_bytes();
        if !head.headers.contains_key("x-m2m-rsc") {
            // A plain web server: its status is all that it says.
            let rsc = if head.status.is_success() { Rsc::OK } else { Rsc::TARGET_NOT_REACHABLE };
            return Ok(Response::new(rsc, request.rqi.clone(), request.rvi));
        }
        response_from_http(&head, body)
    }

    fn permits(&self, host: &str) -> Arc<Semaphore> {
        if self.hosts.len() > HOSTS_MAX {
            self.hosts.retain(|_, s| Arc::strong_count(s) > 1);
        }
        let new = || Arc::new(Semaphore::new(self.options.per_host_max));
        Arc::clone(&self.hosts.entry(host.to_owned()).or_insert_with(new))
    }
}
