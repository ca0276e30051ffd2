//! Where this CSE may send requests: a client names the targets, so the operator has the last word.

use std::sync::Arc;

use http::Uri;

/// Limits of outgoing requests.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Requests under way to one host.
    pub per_host_max: usize,
    /// Requests under way to all hosts.
    pub requests_max: usize,
    /// Length of an answer.
    pub response_bytes_max: usize,
    /// How long a notification is tried before it is dropped.
    pub keep_ms: u64,
    /// Targets.
    pub policy: SendPolicy,
    /// Whose certificates `https://` targets must have; `None`: the authorities that this machine trusts.
    pub authorities: Option<Arc<rustls::RootCertStore>>,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            per_host_max: 8,
            requests_max: 1024,
            response_bytes_max: 1 << 20,
            keep_ms: 300_000,
            policy: SendPolicy::default(),
            authorities: None,
        }
    }
}

/// Hosts that are allowed or refused: names, addresses, or `*.suffix`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SendPolicy {
    /// If not empty, only these.
    pub allow: Vec<String>,
    /// Never these.
    pub deny: Vec<String>,
}

impl SendPolicy {
    /// Whether requests may go there.
    pub fn permits(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_ascii_lowercase();
        let named = |list: &[String]| list.iter().any(|p| matches(p, &host));
        !named(&self.deny) && (self.allow.is_empty() || named(&self.allow))
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some(suffix) => host.ends_with(&suffix.to_ascii_lowercase()),
        None => host == pattern.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deny_beats_allow() {
        let policy =
            SendPolicy { allow: vec!["*.example".into(), "10.0.0.1".into()], deny: vec!["bad.example".into()] };
        let permits = |u: &str| policy.permits(&u.parse().unwrap());
        assert!(permits("http://good.example/x") && permits("http://10.0.0.1:80/"));
        assert!(!permits("http://BAD.example/x") && !permits("http://elsewhere/"));
        assert!(SendPolicy::default().permits(&"http://[::1]:80/".parse().unwrap()));
    }
}
