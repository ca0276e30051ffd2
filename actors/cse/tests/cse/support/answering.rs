//! Somebody else's HTTP server: gives every request the same answer and keeps the heads of what it got, in lower case.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

pub struct Answering {
    pub url: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Answering {
    pub async fn start(body: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads: Arc<Mutex<Vec<String>>> = Arc::default();
        let seen = heads.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let seen = seen.clone();
                tokio::spawn(async move {
                    let (mut raw, mut buffer) = (Vec::new(), [0u8; 4096]);
                    while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                        raw.extend_from_slice(&buffer[..n]);
                        let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                        let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
                        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
                        if raw.len() >= end + 4 + length.map_or(0, |l| l.trim().parse().unwrap()) {
                            seen.lock().push(head);
                            raw.clear();
                            let answer = format!(
                                "HTTP/1.1 200 OK\r\nX-M2M-RSC: 2000\r\nX-M2M-RI: x\r\nContent-Type: application/json\r\n\
                                 Content-Length: {}\r\n\r\n{body}",
                                body.len()
                            );
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { url, heads }
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().clone()
    }
}
