//! What a listener is told (STYLE.md 10): every bound has a default and its unit in its name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::figures::HttpFigures;
use crate::front::AuthMode;

/// Limits of one listener.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpLimits {
    /// Open connections; further ones are answered 503 and closed.
    pub connections_max: usize,
    /// Open connections of one client address (IPv6: of one /64); further ones are answered 503 and closed.
    pub connections_per_address_max: usize,
    /// Length of request line and headers together.
    pub header_bytes_max: usize,
    /// Number of headers.
    pub headers_max: usize,
    /// Length of a body.
    pub body_bytes_max: usize,
    /// Bodies of all requests under way together; beyond it requests are answered 503.
    pub body_bytes_in_flight_max: usize,
    /// Depth of nesting in a JSON body.
    pub json_depth_max: usize,
    /// Time for a request's whole head to arrive: the first one's from the connection's beginning, that of a further one
    /// from its first byte. At most `idle_ms_max`.
    pub header_ms_max: u64,
    /// Time for a kept-alive connection to stay silent; over HTTP/2 a client is asked after it whether it is there.
    pub idle_ms_max: u64,
    /// Time for a whole body to arrive.
    pub body_ms_max: u64,
    /// Time for the TLS handshake.
    pub handshake_ms_max: u64,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            connections_per_address_max: 1024,
            header_bytes_max: 16 << 10,
            headers_max: 64,
            body_bytes_max: 1 << 20,
            body_bytes_in_flight_max: 64 << 20,
            json_depth_max: 64,
            header_ms_max: 10_000,
            idle_ms_max: 60_000,
            body_ms_max: 10_000,
            handshake_ms_max: 5_000,
        }
    }
}

/// One listener.
#[derive(Clone, Default)]
pub struct ListenerOptions {
    /// Where it listens; port 0 takes a free one.
    pub address: Option<SocketAddr>,
    /// TLS, with the client verifier that the owner wants; plain if absent.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether originators must prove who they are.
    pub auth: AuthMode,
    /// Bearer tokens and the AE-ID that each stands for.
    pub bearer_tokens: Arc<HashMap<String, String>>,
    /// Limits.
    pub limits: HttpLimits,
    /// Where it counts.
    pub figures: Arc<HttpFigures>,
}
