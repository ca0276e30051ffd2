//! Bad input at the doors of a live cluster: a clear status, and it serves on as if nothing had been (I8).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::time::Duration;

use onemec_device::Endpoint;
use onemec_tests::client::{Ask, Client};
use onemec_tests::wait::PATIENCE;
use onemec_tests::{Cluster, Writer, history};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// Sends bytes and reads to the end. What came before the door closed. `ends`: the sending side is closed after them.
async fn raw(door: &Endpoint, bytes: &[u8], ends: bool) -> String {
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

/// A request of the registered device with this head and body.
async fn post(door: &Endpoint, content_type: &str, body: &[u8]) -> (u16, String) {
    let mut bytes = format!(
        "POST /-/meter/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: bad\r\nX-M2M-RVI: 3\r\n\
         Content-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    let answer = raw(door, &bytes, false).await;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, answer)
}

#[tokio::test]
async fn bad_input_at_the_http_door_gets_a_clear_status_and_the_cluster_serves_on() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(10).await;
    let door = cluster.door("edge1");
    let deep = |n: usize| format!("{{\"m2m:cin\":{{\"con\":{}1{}}}}}", "[".repeat(n), "]".repeat(n)).into_bytes();
    let huge = format!("{{\"m2m:cin\":{{\"con\":\"{}\"}}}}", "x".repeat(2 << 20)).into_bytes();
    let cin = "application/json;ty=4";
    let cases: Vec<(&str, &str, Vec<u8>, &[u16])> = vec![
        ("malformed JSON", cin, b"{\"m2m:cin\":{\"con\":".to_vec(), &[400]),
        ("no JSON", cin, b"hello".to_vec(), &[400]),
        ("empty body", cin, Vec::new(), &[400]),
        ("a list", cin, b"[]".to_vec(), &[400]),
        ("not UTF-8", cin, b"{\"m2m:cin\":{\"con\":\"\xff\xfe\"}}".to_vec(), &[400]),
        ("NUL in a name", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"rn\":\"a\\u0000b\"}}".to_vec(), &[400]),
        ("a slash in a name", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"rn\":\"a/b\"}}".to_vec(), &[400]),
        ("deep JSON", cin, deep(100), &[400]),
        ("very deep JSON", cin, deep(200_000), &[400]),
        ("too long", cin, huge, &[413]),
        ("unknown attribute", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"nonsense\":1}}".to_vec(), &[400]),
        ("read-only attribute", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"st\":7}}".to_vec(), &[400]),
        ("wrong type of attribute", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"lbl\":7}}".to_vec(), &[400]),
        ("number out of range", "application/json;ty=3", b"{\"m2m:cnt\":{\"mni\":-1}}".to_vec(), &[400]),
        (
            "number beyond 64 bits",
            "application/json;ty=3",
            b"{\"m2m:cnt\":{\"mni\":99999999999999999999}}".to_vec(),
            &[400],
        ),
        ("content is another type", cin, b"{\"m2m:cnt\":{\"rn\":\"x\"}}".to_vec(), &[400]),
        ("two resources", cin, b"{\"m2m:cin\":{\"con\":\"a\"},\"m2m:cnt\":{}}".to_vec(), &[400]),
        (
            "unknown resource type",
            "application/json;ty=9999",
            b"{\"m2m:cin\":{\"con\":\"a\"}}".to_vec(),
            &[400, 404, 501],
        ),
        ("type is no number", "application/json;ty=cin", b"{\"m2m:cin\":{\"con\":\"a\"}}".to_vec(), &[400]),
        ("other media type", "text/plain;ty=4", b"con=1".to_vec(), &[400, 415]),
    ];
    let mut wrong = Vec::new();
    for (what, content_type, body, wanted) in &cases {
        let (status, answer) = post(&door, content_type, body).await;
        let names_it = answer.to_ascii_lowercase().contains("x-m2m-rsc: ");
        if !wanted.contains(&status) || !names_it {
            wrong.push(format!("{what}: {}", answer.chars().take(400).collect::<String>()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));

    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: 1\r\n".repeat(2000));
    let cut =
        "POST /-/meter/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: c\r\nContent-Length: 50\r\n\r\n{";
    let garbage: Vec<u8> = (0..20_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let lines: [(&str, Vec<u8>); 9] = [
        ("garbage", garbage),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("half an HTTP/2 preface", b"PRI * HTTP".to_vec()),
        ("HTTP/2 preface and garbage", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxxxxxxxxxxxx".to_vec()),
        ("long line", long.into_bytes()),
        ("many headers", many.into_bytes()),
        ("body cut off", cut.as_bytes().to_vec()),
        ("two lengths", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in &lines {
        let answer = raw(&door, bytes, true).await;
        let line = answer.lines().next().unwrap_or_default();
        assert!(!line.contains(" 200 ") && !line.contains(" 201 ") && !line.contains(" 500 "), "{what}: {line}");
    }

    let mut client = Client::new(door, "Cmeter");
    for (what, path) in [
        ("bad escape", "/-/meter/%zz"),
        ("traversal", "/~/edge1/-/../../etc/passwd"),
        ("no such CSE", "/~/nowhere/-/meter"),
        ("bad filter", "/-/meter?rcn=99"),
        ("bad limit", "/-/meter?rcn=8&lim=-1"),
        ("long path", &format!("/-/{}", "a/".repeat(2000))),
    ] {
        let status = client.ask(&Ask::retrieve(path)).await.status.as_u16();
        assert!((400..=405).contains(&status) || status == 414, "{what}: HTTP {status}");
    }
    for (name, value) in
        [("x-onemec-repeat", "soon"), ("x-onemec-repeat", "99999999999999999999999"), ("x-onemec-repeat", "-1")]
    {
        let ask = Ask::reading("/-/meter/data", 1).with(name, value);
        let answer = client.ask(&ask).await;
        assert_eq!(answer.status, 400, "{name}: {value}: {}", answer.excerpt());
    }

    writer.writes(10).await;
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    cluster.assert_all_run();
    let place = cluster.placement("cloud", "Cmeter").await.unwrap();
    assert_eq!(place.epoch, 1, "nobody lost the lease over it");
    history::verify(&cluster, &[written]).await;
}

#[tokio::test]
async fn garbage_datagrams_at_the_cluster_port_change_nothing() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(10).await;
    let leader = cluster.directory_leader().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..1500u64 {
        let length = usize::try_from(next() % 1400).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[3]).collect();
        if let Some(first) = bytes.first_mut() {
            // Every third looks like a long QUIC header of version 1, every third like a short one.
            *first = [*first, 0xc3, 0x43][usize::try_from(round % 3).unwrap()];
        }
        if round % 3 == 1 && bytes.len() > 5 {
            bytes[1..5].copy_from_slice(&[0, 0, 0, 1]);
        }
        for node in &cluster.topology().node {
            socket.send_to(&bytes, node.cluster_listen).await.unwrap();
        }
        if round % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await; // the socket's buffer, not ours, is to be fed
        }
    }
    writer.writes(20).await;
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    cluster.assert_all_run();
    assert_eq!(cluster.directory_leader().await, leader, "no election");
    assert_eq!(cluster.placement("cloud", "Cmeter").await.unwrap().epoch, 1, "nobody lost the lease over it");
    history::verify(&cluster, &[written]).await;
}
