//! One request and its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use onemec_onem2m::http_binding::{METHODS, request_from_http, response_to_http};
use onemec_onem2m::{Refusal, Response, Rsc};
use tokio::sync::OwnedSemaphorePermit;

use super::connection::Client;
use super::credential;
use super::listener::{PERMIT_BYTES, Shared};
use crate::front::{Caller, Failure, Handled};

/// Request headers of the extension (docs/extensions.md).
const REPEAT: &str = "x-onemec-repeat";
const HANDOVER: &str = "x-onemec-handover";
/// Response headers of the extension.
const HOME: HeaderName = HeaderName::from_static("x-onemec-home");
const TOKEN: HeaderName = HeaderName::from_static("x-onemec-token");
const PEERS: HeaderName = HeaderName::from_static("x-onemec-peers");
const BUFFERED: HeaderName = HeaderName::from_static("x-onemec-buffered");
const INCOMPLETE: HeaderName = HeaderName::from_static("x-onemec-incomplete");
const RETRY_MS: HeaderName = HeaderName::from_static("x-onemec-retry-ms");
const REQUEST_ID: &str = "x-m2m-ri";
/// A longer handover token is no token.
const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// When to come back after the byte permits ran out.
const BUSY_RETRY_MS: u64 = 100;

/// A request that did not get as far as the CSE.
struct Early {
    status: StatusCode,
    refusal: Refusal,
    retry_ms: Option<u64>,
    close: bool,
    allow: bool,
}

pub(super) async fn answer(
    shared: Arc<Shared>,
    client: Client,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Infallible> {
    let rqi = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
    let answer = match run(&shared, client, request).await {
        Ok(handled) => finish(handled),
        Err(early) => {
            let mut http = response_to_http(Response::refusal(rqi, None, &early.refusal), None);
            *http.status_mut() = early.status;
            if let Some(ms) = early.retry_ms {
                retry(&mut http, ms);
            }
            if early.allow {
                http.headers_mut().insert(http::header::ALLOW, HeaderValue::from_static(METHODS));
            }
            if early.close {
                http.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
            }
            http
        }
    };
    shared.options.figures.answered(answer.status());
    Ok(answer.map(Full::new))
}

async fn run(shared: &Shared, client: Client, request: http::Request<Incoming>) -> Result<Handled, Early> {
    let (head, body) = request.into_parts();
    let (_permit, body) = receive(shared, &head, body).await?;
    let too_deep = crate::http::depth_exceeds(&body, shared.options.limits.json_depth_max);
    if too_deep {
        return Err(Early::refused(StatusCode::BAD_REQUEST, Rsc::BAD_REQUEST, "the JSON is nested too deeply"));
    }
    let proof = match client.proof {
        Some(proof) => Some(proof),
        None => credential::from_headers(&shared.options, &head.headers).map_err(|_| {
            Early::refused(StatusCode::FORBIDDEN, Rsc::ORIGINATOR_NOT_AUTHENTICATED, "the bearer token is not known")
        })?,
    };
    let text = |name: &str| head.headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
    let repeat_until_ms = match text(REPEAT).map(str::parse::<u64>) {
        None => None,
        Some(Ok(ms)) => Some(ms),
        Some(Err(_)) => {
            let text = "X-Onemec-Repeat is a number of milliseconds since 1970";
            return Err(Early::refused(StatusCode::BAD_REQUEST, Rsc::BAD_REQUEST, text));
        }
    };
    // Not as if there were none: that would register a second AE instead of moving the first.
    let handover = match head.headers.get(HANDOVER) {
        None => None,
        Some(token) if token.len() > TOKEN_BYTES_MAX => return Err(bad_token()),
        Some(token) => Some(token.to_str().map_err(|_| bad_token())?.trim().to_owned()),
    };
    let caller = Caller { proof, auth: shared.options.auth, ip: Some(client.peer.ip()), repeat_until_ms, handover };
    match request_from_http(&head, body) {
        Ok(request) => Ok(shared.cse.handle(request, caller).await),
        // RFC 9110 15.5.6: the answer to an unknown method names those that there are.
        Err(bad) if bad.refusal.rsc == Rsc::OPERATION_NOT_ALLOWED => Err(Early {
            allow: true,
            ..Early::refused(StatusCode::METHOD_NOT_ALLOWED, bad.refusal.rsc, &bad.refusal.debug)
        }),
        Err(bad) => {
            let rqi = bad.rqi.unwrap_or_default();
            Ok(Handled::from(Response::refusal(rqi, bad.rvi, &bad.refusal)))
        }
    }
}

/// Takes the body in, within its limits of size, time and permits.
async fn receive(
    shared: &Shared,
    head: &http::request::Parts,
    body: Incoming,
) -> Result<(OwnedSemaphorePermit, Bytes), Early> {
    let limits = &shared.options.limits;
    let declared = head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    let is_empty = hyper::body::Body::is_end_stream(&body);
    let most = if is_empty { 0 } else { declared.unwrap_or(limits.body_bytes_max) };
    if most > limits.body_bytes_max {
        return Err(Early::too_large(limits.body_bytes_max));
    }
    // Fails rather than waits: whoever waits here holds a connection (DESIGN.md section 4, back-pressure).
    let units = u32::try_from(most.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
    let permit = Arc::clone(&shared.body_permits).try_acquire_many_owned(units).map_err(|_| Early {
        status: StatusCode::SERVICE_UNAVAILABLE,
        refusal: Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "not applied, try again: too many bytes under way"),
        retry_ms: Some(BUSY_RETRY_MS),
        close: true,
        allow: false,
    })?;
    if is_empty {
        return Ok((permit, Bytes::new()));
    }
    let whole = Limited::new(body, limits.body_bytes_max).collect();
    match tokio::time::timeout(Duration::from_millis(limits.body_ms_max), whole).await {
        Ok(Ok(collected)) => Ok((permit, collected.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Early::too_large(limits.body_bytes_max)),
        Ok(Err(_)) => Err(Early::refused(StatusCode::BAD_REQUEST, Rsc::BAD_REQUEST, "the body is cut off").closing()),
        Err(_) => {
            let text = "the body did not arrive in time";
            Err(Early::refused(StatusCode::REQUEST_TIMEOUT, Rsc::REQUEST_TIMEOUT, text).closing())
        }
    }
}

impl Early {
    fn refused(status: StatusCode, rsc: Rsc, text: &str) -> Self {
        Self { status, refusal: Refusal::new(rsc, text), retry_ms: None, close: false, allow: false }
    }
    fn too_large(max: usize) -> Self {
        let text = format!("the body is longer than {max} bytes");
        Self::refused(StatusCode::PAYLOAD_TOO_LARGE, Rsc::BAD_REQUEST, &text).closing()
    }
    fn closing(mut self) -> Self {
        self.close = true;
        self
    }
}

fn finish(handled: Handled) -> http::Response<Bytes> {
    let Handled { response, location, home, token, peers, buffered, incomplete, failure } = handled;
    let mut http = response_to_http(response, location.as_deref());
    match failure {
        None => {}
        Some(Failure::NotApplied { retry_ms }) => {
            *http.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            retry(&mut http, retry_ms);
        }
        Some(Failure::TooMany { retry_ms }) => {
            *http.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            retry(&mut http, retry_ms);
        }
        Some(Failure::Unknown) => *http.status_mut() = StatusCode::GATEWAY_TIMEOUT,
    }
    if let Some((poa, epoch)) = home {
        put(&mut http, HOME, format!("{poa};epoch={epoch}"));
    }
    if let Some(token) = token {
        put(&mut http, TOKEN, token);
    }
    if let Some(key) = buffered {
        put(&mut http, BUFFERED, key.to_string());
    }
    if incomplete > 0 {
        put(&mut http, INCOMPLETE, incomplete.to_string());
    }
    if !peers.is_empty() {
        put(&mut http, PEERS, peers.join(", "));
    }
    http
}

fn retry(http: &mut http::Response<Bytes>, ms: u64) {
    put(http, RETRY_AFTER, ms.div_ceil(1000).max(1).to_string());
    put(http, RETRY_MS, ms.to_string());
}

/// A value that no header can carry is left out.
fn put(http: &mut http::Response<Bytes>, name: HeaderName, value: String) {
    if let Ok(value) = HeaderValue::from_str(&value) {
        http.headers_mut().insert(name, value);
    }
}

fn bad_token() -> Early {
    let text = "the handover token cannot be read: ask the AE's home for another one";
    Early::refused(StatusCode::FORBIDDEN, Rsc::ORIGINATOR_HAS_NO_PRIVILEGE, text)
}
