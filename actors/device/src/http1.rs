//! One HTTP/1.1 connection, with or without TLS: bounded answers, typed errors that say whether the request left.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// An answer with a longer body is an error.
pub const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Scheme, host and port of a point of access.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// `https`.
    pub tls: bool,
    /// Name or address; an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A text that is no URL of a point of access.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no point of access; write http://HOST:PORT or https://HOST:PORT")]
pub struct BadEndpoint(pub String);

impl FromStr for Endpoint {
    type Err = BadEndpoint;
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let bad = || BadEndpoint(text.chars().take(100).collect());
        let uri: http::Uri = text.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad()),
        };
        let host = uri.host().filter(|h| !h.is_empty()).ok_or_else(bad)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { tls, host, port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) })
    }
}

impl Endpoint {
    /// `host:port`, as it stands in `Host`.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.tls { "https" } else { "http" }, self.authority())
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Nobody listens there, or the name is unknown. Nothing was sent.
    #[error("cannot connect to {endpoint}: {source}")]
    Connect {
        /// Where to.
        endpoint: Endpoint,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS is asked for and the connector has no configuration for it. Nothing was sent.
    #[error("{0} wants TLS and this client has no TLS configuration (certificate authority) for it")]
    NoTls(Endpoint),
    /// The connection was gone before the request left. Nothing was sent.
    #[error("connection to {0} was closed before the request left")]
    NotSent(Endpoint),
    /// The connection broke while the answer was awaited: the request may have been applied.
    #[error("connection to {endpoint} broke before the answer: {detail}")]
    Broken {
        /// Where to.
        endpoint: Endpoint,
        /// What happened.
        detail: String,
    },
    /// No answer in time: the request may have been applied.
    #[error("no answer from {endpoint} within {ms} ms")]
    Timeout {
        /// Where to.
        endpoint: Endpoint,
        /// How long it was waited for.
        ms: u64,
    },
    /// The request cannot be written as HTTP.
    #[error("request cannot be written as HTTP: {0}")]
    BadRequest(String),
}

impl HttpError {
    /// True if the request has certainly not been applied.
    pub fn never_sent(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::NoTls(_) | Self::NotSent(_) | Self::BadRequest(_))
    }
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// The oneM2M response status code (`X-M2M-RSC`), 0 if there is none.
    pub fn rsc(&self) -> u32 {
        self.headers.get("x-m2m-rsc").and_then(|v| v.to_str().ok()).and_then(|v| v.trim().parse().ok()).unwrap_or(0)
    }
    /// The beginning of the body for messages.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(self.body.get(..self.body.len().min(200)).unwrap_or_default()).into_owned()
    }
}

/// The addresses of a host, asked anew for each connection.
pub trait Resolve: Send + Sync {
    /// Looks a name up.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>>;
}

/// A future of a [`Resolve`].
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Makes connections.
#[derive(Clone, Default)]
pub struct Connector {
    /// Needed for `https`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Names that are not asked of anybody: host to addresses.
    pub hosts: BTreeMap<String, Vec<SocketAddr>>,
    /// Who is asked for the other names; absent: the system.
    pub resolver: Option<Arc<dyn Resolve>>,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connector").field("tls", &self.tls.is_some()).field("hosts", &self.hosts).finish()
    }
}

impl Connector {
    /// Opens a connection within `timeout`, TLS handshake included.
    ///
    /// # Errors
    /// [`HttpError::Connect`], [`HttpError::NoTls`] or [`HttpError::Timeout`]: nothing was sent.
    pub async fn connect(&self, endpoint: &Endpoint, timeout: Duration) -> Result<Connection, HttpError> {
        match tokio::time::timeout(timeout, self.open(endpoint)).await {
            Ok(r) => r,
            Err(_) => Err(HttpError::Connect {
                endpoint: endpoint.clone(),
                source: std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!("no connection within {} ms", timeout.as_millis()),
                ),
            }),
        }
    }

    async fn open(&self, endpoint: &Endpoint) -> Result<Connection, HttpError> {
        let failed = |source: std::io::Error| HttpError::Connect { endpoint: endpoint.clone(), source };
        let is_address = endpoint.host.parse::<IpAddr>().is_ok();
        let tcp = match (self.hosts.get(&endpoint.host), &self.resolver) {
            (Some(addresses), _) => TcpStream::connect(addresses.as_slice()).await,
            (None, Some(resolver)) if !is_address => {
                let found = resolver.resolve(&endpoint.host).await.map_err(failed)?;
                let addresses: Vec<SocketAddr> = found.into_iter().map(|a| (a, endpoint.port).into()).collect();
                TcpStream::connect(addresses.as_slice()).await
            }
            _ => TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await,
        }
        .map_err(failed)?;
        tcp.set_nodelay(true).map_err(failed)?;
        if !endpoint.tls {
            return Connection::over(endpoint, TokioIo::new(tcp)).await;
        }
        let config = self.tls.clone().ok_or_else(|| HttpError::NoTls(endpoint.clone()))?;
        let name = rustls::pki_types::ServerName::try_from(endpoint.host.clone())
            .map_err(|e| failed(std::io::Error::new(std::io::ErrorKind::InvalidInput, e)))?;
        let tls = TlsConnector::from(config).connect(name, tcp).await.map_err(failed)?;
        Connection::over(endpoint, TokioIo::new(tls)).await
    }
}

/// One open connection: one request at a time.
#[derive(Debug)]
pub struct Connection {
    endpoint: Endpoint,
    sender: SendRequest<Full<Bytes>>,
    driver: tokio::task::JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    async fn over<T>(endpoint: &Endpoint, io: T) -> Result<Self, HttpError>
    where
        T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|e| HttpError::Connect { endpoint: endpoint.clone(), source: std::io::Error::other(e) })?;
        let driver = tokio::spawn(async move {
            // Its error reaches whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(Self { endpoint: endpoint.clone(), sender, driver })
    }

    /// Where it leads.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// True once it can carry no further request.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Sends a request (its URI in origin form) and reads the whole answer. After an error the connection is to be
    /// dropped.
    ///
    /// # Errors
    /// See [`HttpError::never_sent`] for what is known about the request.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>, timeout: Duration) -> Result<Answer, HttpError> {
        let host = self.endpoint.authority();
        request
            .headers_mut()
            .insert(http::header::HOST, host.parse().map_err(|_| HttpError::BadRequest(format!("host {host}")))?);
        if self.sender.ready().await.is_err() {
            return Err(HttpError::NotSent(self.endpoint.clone()));
        }
        match tokio::time::timeout(timeout, self.exchange(request)).await {
            Ok(r) => r,
            Err(_) => Err(HttpError::Timeout {
                endpoint: self.endpoint.clone(),
                ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
            }),
        }
    }

    async fn exchange(&mut self, request: Request<Full<Bytes>>) -> Result<Answer, HttpError> {
        let endpoint = self.endpoint.clone();
        let response = self.sender.try_send_request(request).await.map_err(|mut e| match e.take_message() {
            Some(_) => HttpError::NotSent(endpoint.clone()),
            None => HttpError::Broken { endpoint: endpoint.clone(), detail: e.into_error().to_string() },
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|e| HttpError::Broken { endpoint, detail: e.to_string() })?
            .to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let e: Endpoint = "http://127.0.0.1:8080".parse().unwrap();
        assert_eq!((e.tls, e.host.as_str(), e.port), (false, "127.0.0.1", 8080));
        assert_eq!("https://edge.example/x".parse::<Endpoint>().unwrap().to_string(), "https://edge.example:443");
        assert_eq!("http://[::1]:81".parse::<Endpoint>().unwrap().to_string(), "http://[::1]:81");
        for bad in ["", "edge:80", "ftp://x", "http://", "mqtt://a:1"] {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }
}
