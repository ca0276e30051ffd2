//! HTTP/2 at the door: what it carries, and what is done about clients that abuse it. Frames are written by hand.

use std::time::Duration;

use onemec_cse::http::{HttpLimits, ListenerOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Http, World};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

/// Nothing that a test waits for takes longer on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// A header field as HPACK writes it without its tables.
fn field(name: &str, value: &str) -> Vec<u8> {
    let length = |out: &mut Vec<u8>, n: usize| match n {
        0..127 => out.push(n as u8),
        _ => {
            out.push(127);
            let mut rest = n - 127;
            while rest >= 128 {
                out.push((rest % 128 + 128) as u8);
                rest /= 128;
            }
            out.push(rest as u8);
        }
    };
    let mut out = vec![0];
    length(&mut out, name.len());
    out.extend(name.bytes());
    length(&mut out, value.len());
    out.extend(value.bytes());
    out
}

fn request(method: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let fixed = [
        (":method", method),
        (":scheme", "http"),
        (":path", "/cse-a/one"),
        (":authority", "x"),
        ("x-m2m-ri", "r1"),
        ("x-m2m-rvi", "3"),
        ("x-m2m-origin", "Cone"),
    ];
    fixed.iter().chain(more).flat_map(|(name, value)| field(name, value)).collect()
}

struct Peer(TcpStream);

impl Peer {
    async fn connect(http: &Http) -> Self {
        let mut stream = TcpStream::connect(http.address).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    /// The door may have closed already.
    async fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).await.is_ok()
    }

    /// The next frame that is no greeting: kind, flags, stream, payload. `None`: closed.
    async fn next(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        loop {
            let mut head = [0u8; 9];
            let read = tokio::time::timeout(PATIENCE, self.0.read_exact(&mut head)).await;
            read.expect("the door says nothing").ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let mut payload = vec![0; length];
            self.0.read_exact(&mut payload).await.ok()?;
            match (head[3], head[4]) {
                (SETTINGS, flags) if flags & ACK == 0 => {
                    self.send(&frame(SETTINGS, ACK, 0, &[])).await;
                }
                (SETTINGS | 6 | 8, _) => {}
                (kind, flags) => {
                    return Some((kind, flags, u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload));
                }
            }
        }
    }

    /// Reads to the end; the code of the GOAWAY, if there is one.
    async fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some((kind, _, _, payload)) = self.next().await {
            if kind == GOAWAY {
                code = payload.get(4..8).map(|c| u32::from_be_bytes(c.try_into().unwrap()));
            }
        }
        code
    }
}

async fn served() -> (World, Http) {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let limits = HttpLimits { header_ms_max: 3000, idle_ms_max: 3000, ..HttpLimits::default() };
    let http = Http::serve(&world.cse, ListenerOptions { limits, ..ListenerOptions::default() }).await;
    (world, http)
}

async fn still_well(http: &Http) {
    assert_eq!(http.get("/cse-a/one", "Cone").await.status, 200);
}

#[tokio::test]
async fn many_requests_on_one_connection() {
    let (_world, http) = served().await;
    let mut peer = Peer::connect(&http).await;
    for i in 0..50u32 {
        peer.send(&frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, &request("GET", &[]))).await;
    }
    let mut ended = 0;
    while ended < 50 {
        let (kind, flags, _, payload) = peer.next().await.expect("answers");
        assert!(matches!(kind, HEADERS | DATA), "{kind} {payload:?}");
        if kind == DATA && flags & END_STREAM != 0 {
            assert!(String::from_utf8_lossy(&payload).contains("m2m:ae"));
            ended += 1;
        }
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_end_the_connection() {
    let (_world, http) = served().await;
    let peer = Peer::connect(&http).await;
    let mut burst = Vec::new();
    for i in 0..20_000u32 {
        burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, 2 * i + 1, &request("GET", &[])));
        burst.extend(frame(RST_STREAM, 0, 2 * i + 1, &8u32.to_be_bytes()));
    }
    let (mut read, mut write) = peer.0.into_split();
    let sending = tokio::spawn(async move {
        let _ = write.write_all(&burst).await;
    });
    let mut said = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut said)).await.expect("the door goes on and on");
    // ENHANCE_YOUR_CALM
    assert!(said.windows(4).any(|w| w == 11u32.to_be_bytes()), "no GOAWAY that says why");
    drop(sending.await);
    still_well(&http).await;
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let (_world, http) = served().await;
    let mut peer = Peer::connect(&http).await;
    peer.send(&frame(HEADERS, END_STREAM, 1, &request("GET", &[]))).await;
    let more = field("x-more", &"y".repeat(8000));
    for _ in 0..10_000 {
        if !peer.send(&frame(CONTINUATION, 0, 1, &more)).await {
            break;
        }
    }
    peer.ended().await;
    still_well(&http).await;
}

#[tokio::test]
async fn headers_that_are_too_long_are_refused() {
    let (_world, http) = served().await;
    let mut peer = Peer::connect(&http).await;
    let long = "y".repeat(8000);
    let block = request("GET", &[("x-a", &long), ("x-b", &long), ("x-c", &long)]);
    let (first, rest) = block.split_at(16_000);
    peer.send(&frame(HEADERS, END_STREAM, 1, first)).await;
    peer.send(&frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    let (kind, _, stream, payload) = peer.next().await.expect("an answer");
    // HPACK's form of `:status: 431`.
    assert_eq!((kind, stream, payload.as_slice()), (HEADERS, 1, &[0x48, 0x83, 0x69, 0x90, 0xff][..]));
    still_well(&http).await;
}

#[tokio::test]
async fn what_is_no_http2_ends_the_connection() {
    let (_world, http) = served().await;
    for bytes in [
        frame(HEADERS, END_HEADERS | END_STREAM, 2, &request("GET", &[])),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 40]),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
        frame(DATA, 0, 0, b"x"),
        vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0],
    ] {
        let mut peer = Peer::connect(&http).await;
        peer.send(&bytes).await;
        let code = peer.ended().await;
        assert!(code.is_some_and(|c| c > 0), "{bytes:?}: {code:?}");
    }
    still_well(&http).await;
}

/// A body that does not come is a 408, as over HTTP/1.1.
#[tokio::test]
async fn a_body_that_does_not_come() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let limits = HttpLimits { body_ms_max: 200, ..HttpLimits::default() };
    let http = Http::serve(&world.cse, ListenerOptions { limits, ..ListenerOptions::default() }).await;
    let mut peer = Peer::connect(&http).await;
    peer.send(&frame(HEADERS, END_HEADERS, 1, &request("POST", &[("content-type", "application/json;ty=3")]))).await;
    peer.send(&frame(DATA, 0, 1, b"{")).await;
    loop {
        let (kind, _, _, payload) = peer.next().await.expect("an answer");
        if kind == DATA {
            assert!(String::from_utf8_lossy(&payload).contains("did not arrive in time"), "{payload:?}");
            break;
        }
        assert_eq!(kind, HEADERS);
    }
    still_well(&http).await;
}
