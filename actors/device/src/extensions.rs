//! The extension headers of the HTTP binding (docs/extensions.md). All are optional: without them everything is plain
//! oneM2M.

use http::HeaderMap;

use crate::http1::Endpoint;

/// Request: this request may be repeated; milliseconds since 1970 until which the answer is to be kept.
pub const REPEAT: &str = "x-onemec-repeat";
/// Answer: `<point of access>;epoch=<n>` of the CSE that serves the AE now.
pub const HOME: &str = "x-onemec-home";
/// Answer: how long to wait before the next attempt, in milliseconds (finer than `Retry-After`).
pub const RETRY_MS: &str = "x-onemec-retry-ms";
/// Request: re-registration with the token that [`TOKEN`] gave.
pub const HANDOVER: &str = "x-onemec-handover";
/// Answer: a fresh handover token, opaque to the device.
pub const TOKEN: &str = "x-onemec-token";
/// Answer: further points of access in the order in which to try them, separated by commas.
pub const PEERS: &str = "x-onemec-peers";

/// More points of access than this are not learned.
pub const PEERS_MAX: usize = 16;
/// A longer token is ignored.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// The library never waits longer than this because a server said so.
pub const RETRY_MS_MAX: u64 = 10_000;

/// The serving CSE as an answer names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// Under which epoch it serves the AE; a lower epoch than the one known is old news.
    pub epoch: u64,
}

impl Home {
    /// Reads the value of [`HOME`]. `None` if it is malformed.
    pub fn parse(value: &str) -> Option<Self> {
        let (url, epoch) = value.rsplit_once(";epoch=")?;
        Some(Self { endpoint: url.trim().parse().ok()?, epoch: epoch.trim().parse().ok()? })
    }
}

impl std::fmt::Display for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{};epoch={}", self.endpoint, self.epoch)
    }
}

/// What the extension headers of one answer say. Malformed ones count as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    /// [`HOME`].
    pub home: Option<Home>,
    /// [`RETRY_MS`], or else `Retry-After` in seconds; at most [`RETRY_MS_MAX`].
    pub retry_ms: Option<u64>,
    /// [`TOKEN`].
    pub token: Option<String>,
    /// [`PEERS`].
    pub peers: Vec<Endpoint>,
}

impl Hints {
    /// Reads them.
    pub fn of(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let retry_ms = text(RETRY_MS)
            .and_then(|v| v.parse::<u64>().ok())
            .or_else(|| text("retry-after").and_then(|v| v.parse::<u64>().ok()).map(|s| s.saturating_mul(1000)))
            .map(|ms| ms.min(RETRY_MS_MAX));
        Self {
            home: text(HOME).and_then(Home::parse),
            retry_ms,
            token: text(TOKEN).filter(|t| !t.is_empty() && t.len() <= TOKEN_BYTES_MAX).map(str::to_owned),
            peers: text(PEERS)
                .map(|v| v.split(',').filter_map(|p| p.trim().parse().ok()).take(PEERS_MAX).collect())
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_read() {
        let mut h = HeaderMap::new();
        h.insert(HOME, "http://127.0.0.1:8082;epoch=7".parse().unwrap());
        h.insert(RETRY_MS, "15".parse().unwrap());
        h.insert("retry-after", "1".parse().unwrap());
        h.insert(PEERS, "http://a:1, nonsense, https://b:2".parse().unwrap());
        let hints = Hints::of(&h);
        assert_eq!(hints.home.unwrap().epoch, 7);
        assert_eq!(hints.retry_ms, Some(15));
        assert_eq!(hints.peers.len(), 2);
    }

    #[test]
    fn malformed_hints_count_as_absent() {
        let mut h = HeaderMap::new();
        h.insert(HOME, "http://x:1;epoch=minus".parse().unwrap());
        h.insert(RETRY_MS, "soon".parse().unwrap());
        h.insert("retry-after", "99999999999999999".parse().unwrap());
        h.insert(TOKEN, "x".repeat(TOKEN_BYTES_MAX + 1).parse().unwrap());
        let hints = Hints::of(&h);
        assert_eq!(hints, Hints { retry_ms: Some(RETRY_MS_MAX), ..Hints::default() });
    }

    #[test]
    fn home_prints_as_it_is_read() {
        let home = Home::parse("https://edge.example:443;epoch=12").unwrap();
        assert_eq!(Home::parse(&home.to_string()), Some(home));
    }
}
