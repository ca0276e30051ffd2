//! Bad input at the HTTP door: a clear status, nothing lost, nothing grows (issue 2, section 7).

use std::time::{Duration, Instant};

use onemec_cse::http::{HttpLimits, ListenerOptions};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Answer, Http, World};

async fn served(limits: HttpLimits) -> (World, Http) {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let http = Http::serve(&world.cse, ListenerOptions { limits, ..ListenerOptions::default() }).await;
    (world, http)
}

async fn still_well(world: &World, http: &Http) {
    let answer = http.post("/cse-a/one/data", "Cone", 4, json!({"m2m:cin": {"con": "fine"}})).await;
    assert_eq!(answer.rsc, 2001, "{}", answer.text());
    assert_eq!(world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"]["cni"], 1, "nothing else was stored");
}

/// Asks until the answer is the wanted one.
async fn answered(mut ask: impl AsyncFnMut() -> Option<Answer>) -> Answer {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < end, "not within 20 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until the door takes connections again.
async fn served_again(http: &Http) {
    answered(async || Some(http.get("/cse-a", "Cone").await).filter(|a| a.status == 200)).await;
}

#[tokio::test]
async fn bodies_that_are_no_content_instances() {
    let (world, http) = served(HttpLimits::default()).await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"{}".to_vec(),
        b"\xff\xfe\x00".to_vec(),
        br#"{"m2m:cin":{"con":"x"}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x"}} trailing"#.to_vec(),
        br#"{"m2m:cin":{"con":"x"},"m2m:cin":{"con":"y"}}"#.to_vec(),
        br#"{"m2m:cin":{}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","nonsense":1}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","lbl":"not a list"}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","rn":"../evil"}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","rn":"la"}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","et":"tomorrow"}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","cs":5}}"#.to_vec(),
        br#"{"m2m:cin":{"con":"x","cr":"Cother"}}"#.to_vec(),
        br#"{"m2m:cnt":{}}"#.to_vec(),
        format!(r#"{{"m2m:cin":{{"con":{deep}}}}}"#).into_bytes(),
    ];
    for body in bodies {
        let more = "Content-Type: application/json;ty=4\r\n";
        let answer = http.call("POST", "/cse-a/one/data", "Cone", more, &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(80)]).into_owned();
        assert_eq!((answer.status, answer.rsc), (400, 4000), "{shown}: {}", answer.text());
    }
    still_well(&world, &http).await;
}

#[tokio::test]
async fn heads_that_are_no_requests() {
    let (world, http) = served(HttpLimits::default()).await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(500));
    for (raw, status) in
        [("GET\r\n\r\n", 400), ("\u{0}\u{1}\u{2}\r\n\r\n", 400), (long.as_str(), 431), (many.as_str(), 431)]
    {
        let answer = http.raw(raw.as_bytes()).await;
        assert!(answer.status == status || answer.status == 414, "{}: {}", &raw[..raw.len().min(30)], answer.head);
    }
    // What the binding does not have is refused, and the answer says what it has.
    for method in ["HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"] {
        let answer = http.call(method, "/cse-a", "Cone", "", b"").await;
        assert_eq!((answer.status, answer.rsc), (405, 4005), "{method}: {}", answer.text());
        assert_eq!(answer.header("allow"), Some("GET, POST, PUT, DELETE"), "{method}");
    }
    for (accept, status) in [
        ("application/xml", 406),
        ("application/json;q=0", 406),
        ("text/html, */*;q=0.1", 200),
        ("application/vnd.onem2m-res+json", 200),
        ("", 200),
    ] {
        let answer = http.call("GET", "/cse-a/one", "Cone", &format!("Accept: {accept}\r\n"), b"").await;
        assert_eq!(answer.status, status, "{accept}: {}", answer.text());
    }
    let cases: [(&str, &str, &str, &str, u16); 8] = [
        ("PATCH", "/cse-a", "Cone", "", 405),
        ("GET", "/cse-a?fu=9", "Cone", "", 400),
        ("GET", "/cse-a?crb=yesterday", "Cone", "", 400),
        ("GET", "/cse-a?rcn=77", "Cone", "", 400),
        ("GET", "/cse-a?nonsense=1", "Cone", "", 400),
        ("GET", "/cse-a/%2e%2e%2fetc", "Cone", "", 400),
        ("POST", "/cse-a/one/data", "Cone", "Content-Type: text/html;ty=4\r\n", 415),
        ("GET", "/cse-a", "Cone", "X-Onemec-Repeat: soon\r\n", 400),
    ];
    for (method, path, fr, more, status) in cases {
        let answer = http.call(method, path, fr, more, b"").await;
        let unknown_parameter = path.contains("nonsense") && answer.status == 501;
        assert!(
            answer.status == status || unknown_parameter || answer.status == 400,
            "{method} {path}: {}",
            answer.text()
        );
        assert!(answer.rsc >= 4000, "{method} {path}: {}", answer.text());
    }
    still_well(&world, &http).await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_before_it_is_read() {
    let (world, http) = served(HttpLimits { body_bytes_max: 1000, ..HttpLimits::default() }).await;
    let head = "POST /cse-a/one/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cone\r\nX-M2M-RI: r\r\nX-M2M-RVI: 3\r\nContent-Type: application/json;ty=4\r\n";
    let declared = http.raw(format!("{head}Content-Length: 1000000000\r\n\r\n").as_bytes()).await;
    assert_eq!(declared.status, 413, "{}", declared.text());
    let chunk = "x".repeat(4096);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n1000\r\n{chunk}\r\n0\r\n\r\n");
    assert_eq!(http.raw(chunked.as_bytes()).await.status, 413);
    still_well(&world, &http).await;
}

#[tokio::test]
async fn a_slow_head_and_a_slow_body_end() {
    let limits = HttpLimits { header_ms_max: 300, body_ms_max: 300, ..HttpLimits::default() };
    let (world, http) = served(limits).await;
    let half_body = "POST /cse-a/one/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cone\r\nX-M2M-RI: r\r\nX-M2M-RVI: 3\r\nContent-Type: application/json;ty=4\r\nContent-Length: 100\r\n\r\n{\"m2m:cin\"";
    let started = Instant::now();
    for (start, status) in [("", 0), ("P", 0), ("PRI", 0), ("GET /cse-a HT", 408), (half_body, 408)] {
        let mut stream = TcpStream::connect(http.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        let mut raw = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut raw))
            .await
            .expect("the server ends it");
        let got = Answer::parse(&raw).map_or(0, |a| a.status);
        assert!(got == status || got == 0, "{start}: {got}");
    }
    assert!(started.elapsed() < Duration::from_secs(9));
    still_well(&world, &http).await;
}

#[tokio::test]
async fn one_connection_too_many_is_told_so() {
    let (world, http) = served(HttpLimits { connections_max: 2, ..HttpLimits::default() }).await;
    let held = [TcpStream::connect(http.address).await.unwrap(), TcpStream::connect(http.address).await.unwrap()];
    // The door accepts in the order of connecting, so both places are taken when this one comes.
    let answer = http.raw(b"GET /cse-a HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    drop(held);
    served_again(&http).await;
    still_well(&world, &http).await;
}

#[tokio::test]
async fn bytes_under_way_are_bounded() {
    let limits = HttpLimits { body_bytes_in_flight_max: 10_000, body_bytes_max: 8_000, ..HttpLimits::default() };
    let (world, http) = served(limits).await;
    let mut slow = TcpStream::connect(http.address).await.unwrap();
    slow.write_all(b"POST /cse-a/one/data HTTP/1.1\r\nHost: x\r\nContent-Type: application/json;ty=4\r\nContent-Length: 7000\r\n\r\n{").await.unwrap();
    // One that never fits beside the slow one, and is refused for its content where it gets in: nothing is stored.
    let body = format!(r#"{{"m2m:cin":{{"nonsense":"{}"}}}}"#, "x".repeat(6000));
    let call =
        || http.call("POST", "/cse-a/one/data", "Cone", "Content-Type: application/json;ty=4\r\n", body.as_bytes());
    // The slow one's head is read some moment after it was sent.
    let answer = answered(async || Some(call().await).filter(|a| a.status == 503)).await;
    assert!(answer.header("x-onemec-retry-ms").is_some());
    drop(slow);
    answered(async || Some(call().await).filter(|a| a.status == 400)).await;
    still_well(&world, &http).await;
}

#[tokio::test]
async fn a_withdrawn_write_is_a_503_that_says_when_to_come_back() {
    let (world, http) = served(HttpLimits::default()).await;
    world.cluster.fail_writes(1);
    let answer = http.post("/cse-a/one/data", "Cone", 4, json!({"m2m:cin": {"con": "x"}})).await;
    assert_eq!(
        (answer.status, answer.header("x-onemec-retry-ms"), answer.header("retry-after")),
        (503, Some("7"), Some("1")),
        "{}",
        answer.text()
    );
    still_well(&world, &http).await;
}
