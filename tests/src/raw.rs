//! Bytes at a door, as no client of good manners would send them.

use onemec_device::Endpoint;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::wait::PATIENCE;

/// Sends bytes and reads to the end. What came before the door closed. `ends`: the sending side is closed after them.
///
/// # Panics
/// If the door neither answers nor closes.
pub async fn raw(door: &Endpoint, bytes: &[u8], ends: bool) -> String {
    let mut stream = TcpStream::connect((door.host.as_str(), door.port)).await.unwrap();
    // The door may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    if ends {
        let _ = stream.shutdown().await;
    }
    let mut out = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut out)).await;
    assert!(read.is_ok(), "the door neither answers nor closes: {}", String::from_utf8_lossy(&out));
    String::from_utf8_lossy(&out).into_owned()
}

/// The status of an HTTP answer, 0 if there is none.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0)
}
