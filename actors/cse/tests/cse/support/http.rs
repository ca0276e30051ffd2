//! An HTTP client as simple as a device's: one connection per request, no library's cleverness.

use std::net::SocketAddr;

use onemec_cse::Cse;
use onemec_cse::http::{Listener, ListenerOptions, Running};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub struct Http {
    pub address: SocketAddr,
    _running: Running,
}

pub struct Answer {
    pub status: u16,
    pub rsc: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
    pub fn text(&self) -> String {
        format!("{} {}", self.head, String::from_utf8_lossy(&self.body))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .find_map(|l| l.split_once(':').filter(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()))
    }
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&raw[..end]).into_owned();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let mut answer = Self { status, rsc: 0, head, body: raw[end + 4..].to_vec() };
        answer.rsc = answer.header("x-m2m-rsc").and_then(|v| v.parse().ok()).unwrap_or(0);
        Some(answer)
    }
}

impl Http {
    pub async fn serve(cse: &Cse, options: ListenerOptions) -> Self {
        let running = Listener::bind(options).await.unwrap().serve(cse.clone()).unwrap();
        Self { address: running.address(), _running: running }
    }
    pub async fn post(&self, path: &str, fr: &str, ty: u16, body: Value) -> Answer {
        self.call("POST", path, fr, &format!("Content-Type: application/json;ty={ty}\r\n"), body.to_string().as_bytes())
            .await
    }
    pub async fn get(&self, path: &str, fr: &str) -> Answer {
        self.call("GET", path, fr, "", b"").await
    }
    pub async fn call(&self, method: &str, path: &str, fr: &str, more: &str, body: &[u8]) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\nX-M2M-Origin: {fr}\r\nX-M2M-RI: r1\r\nX-M2M-RVI: 3\r\nConnection: close\r\n{more}Content-Length: {}\r\n\r\n",
            body.len()
        );
        self.raw(&[head.as_bytes(), body].concat()).await
    }
    pub async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        let mut raw = Vec::new();
        let _ = tokio::time::timeout(std::time::Duration::from_secs(20), stream.read_to_end(&mut raw)).await;
        Answer::parse(&raw).unwrap_or_else(|| panic!("no answer: {:?}", String::from_utf8_lossy(&raw)))
    }
}
