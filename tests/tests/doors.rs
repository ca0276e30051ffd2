//! Bad input at the doors of a live cluster: a clear status, and it serves on as if nothing had been (I8).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::net::IpAddr;
use std::time::Duration;

use onemec_device::Endpoint;
use onemec_node::admin::types::{ErrorBody, LabelOrder};
use onemec_tests::client::{Ask, Client};
use onemec_tests::raw::{raw, status};
use onemec_tests::wait::until;
use onemec_tests::{Cluster, Writer, history};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

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
    (status(&answer), answer)
}

#[tokio::test]
async fn bad_input_at_the_http_door_gets_a_clear_status_and_the_cluster_serves_on() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(10).await;
    let door = cluster.door("edge1");
    let deep = |n: usize| format!("{{\"m2m:cin\":{{\"con\":{}1{}}}}}", "[".repeat(n), "]".repeat(n)).into_bytes();
    let huge = format!("{{\"m2m:cin\":{{\"con\":\"{}\"}}}}", "x".repeat(2 << 20)).into_bytes();
    let members: String = (0..20_000).map(|n| format!(",\"a{n}\":0")).collect();
    let many_members = format!("{{\"m2m:cin\":{{\"con\":\"a\"{members}}}}}");
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
        ("a member twice", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"con\":\"b\"}}".to_vec(), &[400]),
        ("a member twice, once escaped", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"c\\u006fn\":\"b\"}}".to_vec(), &[400]),
        ("half a surrogate", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"rn\":\"\\ud800\"}}".to_vec(), &[400]),
        ("a number where a list belongs", cin, b"{\"m2m:cin\":{\"con\":\"a\",\"lbl\":{\"0\":\"x\"}}}".to_vec(), &[400]),
        ("too many members", cin, many_members.into_bytes(), &[400]),
        ("trailing bytes", cin, b"{\"m2m:cin\":{\"con\":\"a\"}} {}".to_vec(), &[400]),
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

/// What a proxy before us and we could take for different requests: at most one answer, and nothing of the second request.
#[tokio::test]
async fn ambiguous_requests_smuggle_nothing() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(5).await;
    let door = cluster.door("edge1");
    // The hidden request deletes the device's container.
    let hidden =
        "DELETE /-/meter/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: h\r\nX-M2M-RVI: 3\r\n\r\n";
    let head = "POST /-/nothing HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: s\r\nX-M2M-RVI: 3\r\n";
    let n = hidden.len();
    let cases = [
        (
            "length and chunks",
            format!("{head}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("two lengths", format!("{head}Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{hidden}")),
        ("a list of lengths", format!("{head}Content-Length: 0, {n}\r\n\r\n{hidden}")),
        ("a length with a sign", format!("{head}Content-Length: +{n}\r\n\r\n{hidden}")),
        ("a negative length", format!("{head}Content-Length: -1\r\n\r\n{hidden}")),
        ("a length beyond 64 bits", format!("{head}Content-Length: 18446744073709551617\r\n\r\n{hidden}")),
        ("an unknown coding", format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{hidden}")),
        (
            "chunked, then another coding",
            format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{hidden}"),
        ),
        ("a space before the colon", format!("{head}Content-Length : {n}\r\n\r\n{hidden}")),
        ("a folded header", format!("{head}X-A: b\r\n Content-Length: {n}\r\n\r\n{hidden}")),
        ("a bare carriage return", format!("{head}X-A: b\rContent-Length: {n}\r\n\r\n{hidden}")),
        ("a NUL in a header", format!("{head}X-A: b\0\r\nContent-Length: {n}\r\n\r\n{hidden}")),
        ("a bad chunk length", format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n{hidden}")),
        ("no chunk length", format!("{head}Transfer-Encoding: chunked\r\n\r\n\r\n{hidden}")),
    ];
    let mut client = Client::new(door.clone(), "Cmeter");
    let container = client.expect(200, &Ask::retrieve("/-/meter/data")).await["m2m:cnt"]["ri"].clone();
    for (what, text) in &cases {
        let answer = raw(&door, text.as_bytes(), true).await;
        let first = answer.lines().next().unwrap_or_default();
        assert!(!first.contains(" 200 "), "{what}: {answer}");
        assert!(!answer.contains("X-M2M-RI: h") && !answer.contains("x-m2m-ri: h"), "{what}: the hidden one: {answer}");
        let now = client.expect(200, &Ask::retrieve("/-/meter/data")).await;
        assert_eq!(now["m2m:cnt"]["ri"], container, "{what}: the container was deleted");
    }
    writer.writes(5).await;
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    history::verify(&cluster, &written).await;
}

/// Open file descriptors of a node: its connections, above all.
fn descriptors(cluster: &Cluster, node: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", cluster.pid(node))).unwrap().count()
}

/// Resident memory of a node in KiB.
fn resident(cluster: &Cluster, node: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.pid(node))).unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Reads until the other side closes or says something; what it said.
async fn first_words(stream: &mut TcpStream) -> String {
    let mut out = [0; 512];
    let read = tokio::time::timeout(onemec_tests::wait::PATIENCE, stream.read(&mut out)).await;
    let n = read.expect("an answer or a closed connection").unwrap_or(0);
    String::from_utf8_lossy(&out[..n]).into_owned()
}

/// As many silent connections as the door takes: who was there goes on, one more is told 503, and when they are gone
/// there is room again, and nothing is left of them.
#[tokio::test]
async fn idle_connections_are_bounded_and_those_that_exist_go_on() {
    const MAX: u32 = 1000;
    let mut cluster = Cluster::start_with(|t| {
        t.limits.connections_max = MAX;
        t.limits.connections_per_address_max = MAX;
        t.limits.header_ms_max = 60_000;
    })
    .await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(10).await;
    let admin_too = {
        let a = cluster.topology().node("edge1").unwrap().admin_listen;
        Endpoint { tls: false, host: a.ip().to_string(), port: a.port() }
    };
    for (what, door, words) in [
        ("silent", cluster.door("edge1"), &b""[..]),
        ("half a request line", cluster.door("edge1"), b"GET /-/met"),
        ("half a header", cluster.door("edge1"), b"GET /-/meter HTTP/1.1\r\nHost: x\r\nX-M2M-Orig"),
        ("half a body", cluster.door("edge1"), b"POST /-/meter/data HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"),
        ("half a preface", cluster.door("edge1"), b"PR"),
        ("admin", admin_too, b"GET /admin/v1/sta"),
    ] {
        let (fds, before) = (descriptors(&cluster, "edge1"), resident(&cluster, "edge1"));
        let mut idle = Vec::new();
        let mut refused = 0;
        for _ in 0..MAX + 200 {
            let mut stream = TcpStream::connect((door.host.as_str(), door.port)).await.unwrap();
            // One that is one too many may be closed already.
            let _ = stream.write_all(words).await;
            idle.push(stream);
        }
        // The last ones came when the door was full.
        for stream in idle.iter_mut().rev().take(50) {
            let said = first_words(stream).await;
            assert!(said.starts_with("HTTP/1.1 503") || said.is_empty(), "{what}: {said}");
            refused += usize::from(said.starts_with("HTTP/1.1 503"));
        }
        assert!(refused > 0, "{what}: nobody was told that there are too many");
        assert!(descriptors(&cluster, "edge1") <= fds + MAX as usize + 64, "{what}: more than the limit");
        // The device's connection was there before them.
        writer.writes(20).await;
        let full = resident(&cluster, "edge1");
        drop(idle);
        until(&format!("{what}: nothing is left of them"), async || {
            (descriptors(&cluster, "edge1") <= fds + 16).then_some(())
        })
        .await;
        Client::new(cluster.door("edge1"), "Cmeter").expect(200, &Ask::retrieve("/-/meter")).await;
        assert!(cluster.admin("edge1").health().await.unwrap().ready);
        println!(
            "{what}: {before} KiB before, {full} KiB with {MAX} connections, {} after",
            resident(&cluster, "edge1")
        );
    }
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    assert_eq!(cluster.placement("cloud", "Cmeter").await.unwrap().epoch, 1, "nobody lost the lease over it");
    history::verify(&cluster, &written).await;
}

/// Opens a connection from an address of this machine.
async fn connect_from(from: [u8; 4], door: &Endpoint) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((from, 0).into()).unwrap();
    socket.connect((door.host.parse::<IpAddr>().unwrap(), door.port).into()).await.unwrap()
}

/// Whether a whole request from there is answered with 200.
async fn is_served_from(from: [u8; 4], door: &Endpoint, path: &str) -> bool {
    let mut stream = connect_from(from, door).await;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: s\r\nX-M2M-RVI: 3\r\nConnection: close\r\n\r\n"
    );
    // One that is one too many may be closed already.
    let _ = stream.write_all(request.as_bytes()).await;
    first_words(&mut stream).await.starts_with("HTTP/1.1 200")
}

/// One address holds as many connections as it may, with heads that never end: another address is served meanwhile, and
/// the heads are cut. So at the HTTP door and at the admin door.
#[tokio::test]
async fn slow_heads_of_one_address_take_nothing_from_others_and_are_cut() {
    const MAX: u32 = 20;
    const SLOW: [u8; 4] = [127, 0, 0, 2];
    const OTHER: [u8; 4] = [127, 0, 0, 3];
    let mut cluster = Cluster::start_with(|t| {
        t.limits.connections_per_address_max = MAX;
        t.limits.header_ms_max = 4_000;
    })
    .await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(5).await;
    let a = cluster.topology().node("edge1").unwrap().admin_listen;
    let admin = Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
    for (door, max, path) in [(cluster.door("edge1"), MAX, "/-/meter"), (admin, 64, "/admin/v1/status")] {
        let mut slow = Vec::new();
        for _ in 0..max {
            let mut stream = connect_from(SLOW, &door).await;
            stream.write_all(b"GET /-/meter HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
            slow.push(stream);
        }
        assert!(!is_served_from(SLOW, &door, path).await, "{path}: its share is used up");
        assert!(is_served_from(OTHER, &door, path).await, "{path}: another address has a share of its own");
        writer.writes(5).await;
        // Byte by byte, as long as the door takes it: slowness is the fault itself.
        for stream in slow {
            let (mut read, mut write) = stream.into_split();
            let drip = tokio::spawn(async move {
                while write.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
            let mut said = Vec::new();
            let cut = tokio::time::timeout(onemec_tests::wait::PATIENCE, read.read_to_end(&mut said)).await;
            assert!(cut.is_ok(), "{path}: still open");
            let said = String::from_utf8_lossy(&said);
            assert!(said.is_empty() || status(&said) == 408, "{path}: {said}");
            drip.abort();
        }
        until(&format!("{path}: the slow address is served again"), async || {
            is_served_from(SLOW, &door, path).await.then_some(())
        })
        .await;
    }
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    history::verify(&cluster, &written).await;
}

/// A body that comes a byte at a time is cut off with 408; those of others are not kept waiting by it.
#[tokio::test]
async fn slow_bodies_are_cut_off() {
    const SLOW: usize = 20;
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(5).await;
    let door = cluster.door("edge1");
    let mut tasks = Vec::new();
    for _ in 0..SLOW {
        let door = door.clone();
        tasks.push(tokio::spawn(async move {
            let mut stream = TcpStream::connect((door.host.as_str(), door.port)).await.unwrap();
            let head = "POST /-/meter/data HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cmeter\r\nX-M2M-RI: slow\r\n\
                        X-M2M-RVI: 3\r\nContent-Type: application/json;ty=4\r\nContent-Length: 100000\r\n\r\n";
            stream.write_all(head.as_bytes()).await.unwrap();
            let (mut read, mut write) = stream.into_split();
            let drip = async {
                // Slowness is the fault itself.
                while write.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let mut out = [0; 512];
            tokio::select! {
                () = drip => String::new(),
                read = tokio::time::timeout(Duration::from_secs(40), read.read(&mut out)) => {
                    String::from_utf8_lossy(&out[..read.expect("cut off").unwrap_or(0)]).into_owned()
                }
            }
        }));
    }
    writer.writes(50).await;
    for task in tasks {
        let said = task.await.unwrap();
        assert!(said.is_empty() || status(&said) == 408, "{said}");
    }
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    history::verify(&cluster, &written).await;
}

#[tokio::test]
async fn bad_input_at_the_admin_door_gets_a_clear_status() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(5).await;
    let a = cluster.topology().node("edge1").unwrap().admin_listen;
    let door = Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
    let post = |path: &str, body: &[u8]| {
        let mut bytes = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n",
            body.len()
        )
        .into_bytes();
        bytes.extend_from_slice(body);
        bytes
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").into_bytes();
    let label = "/admin/v1/aes/Cmeter/label";
    let given = LabelOrder { label: Some("hosts:edge1,cloud".into()) };
    cluster.admin("edge1").label("Cmeter", &given).await.unwrap();
    let deep = format!("{{\"ae\":{}1{}}}", "[".repeat(20_000), "]".repeat(20_000));
    let cases: Vec<(&str, Vec<u8>, &[u16])> = vec![
        ("malformed JSON", post("/admin/v1/moves", b"{\"ae\":"), &[400]),
        ("no JSON", post("/admin/v1/moves", b"hello"), &[400]),
        ("empty body", post("/admin/v1/moves", b""), &[400]),
        ("not UTF-8", post("/admin/v1/moves", b"{\"ae\":\"\xff\"}"), &[400]),
        ("wrong type", post("/admin/v1/moves", b"{\"ae\":7}"), &[422]),
        ("unknown reason", post("/admin/v1/moves", b"{\"ae\":\"x\",\"reason\":\"whim\"}"), &[422]),
        ("unknown field of a move", post("/admin/v1/moves", b"{\"ae\":\"Cmeter\",\"too\":\"edge2\"}"), &[422]),
        ("an order with a query", post("/admin/v1/moves?dry_run=1", b"{\"ae\":\"Cmeter\",\"to\":\"edge2\"}"), &[400]),
        ("unknown field of a drain", post("/admin/v1/drains", b"{\"node\":\"edge1\",\"till\":1}"), &[422]),
        ("unknown field of an undrain", post("/admin/v1/undrain", b"{\"node\":\"edge1\",\"till\":1}"), &[422]),
        ("a label mistyped", post(label, b"{\"lable\":\"hosts:edge2\"}"), &[422]),
        ("a label and more", post(label, b"{\"label\":null,\"why\":1}"), &[422]),
        ("no label", post(label, b"{}"), &[422]),
        ("a label that cannot be read", post(label, b"{\"label\":\"planet:earth\"}"), &[400]),
        ("a label with a host that nobody knows", post(label, b"{\"label\":\"hosts:edge1,edge9\"}"), &[404]),
        (
            "no JSON declared",
            b"POST /admin/v1/moves HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}".to_vec(),
            &[415],
        ),
        ("deep JSON", post("/admin/v1/moves", deep.as_bytes()), &[400, 422]),
        ("too long", post("/admin/v1/moves", &vec![b' '; 1 << 20]), &[413]),
        (
            "no such AE",
            post("/admin/v1/moves", b"{\"ae\":\"Cnobody\",\"to\":\"edge2\",\"reason\":\"operator\"}"),
            &[404],
        ),
        ("no such node", post("/admin/v1/drains", b"{\"node\":\"nowhere\"}"), &[404]),
        ("bad number", get("/admin/v1/handovers?after=soon"), &[400]),
        ("bad limit", get("/admin/v1/aes?limit=-1"), &[400]),
        ("limit is no number", get("/admin/v1/audit?limit=abc"), &[400]),
        ("bad n", get("/admin/v1/aes/Cmeter/candidates?n=many"), &[400]),
        ("unknown parameter", get("/admin/v1/aes?hime=edge1"), &[400]),
        ("a parameter of another path", get("/admin/v1/handovers?home=edge1"), &[400]),
        ("a parameter where there is none", get("/admin/v1/status?all=1"), &[400]),
        ("bad id", get("/admin/v1/moves/none"), &[400]),
        ("no such path", get("/admin/v1/../../etc/passwd"), &[400, 404]),
        ("bad escape", get("/admin/v1/aes/%ff%fe"), &[400, 404]),
        ("other method", b"DELETE /admin/v1/moves HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(), &[405]),
        ("long line", get(&format!("/{}", "a".repeat(100_000))), &[414, 431]),
        ("garbage", (0..5000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(), &[400, 0]),
    ];
    let mut wrong = Vec::new();
    for (what, bytes, wanted) in &cases {
        // The sending side stays open: hyper drops a request whose client has closed its half before the answer.
        let answer = raw(&door, bytes, false).await;
        // What hyper itself refuses has no body; all that reaches the API has code, sentence and cure.
        let by_hyper = ["long line", "garbage"].contains(what);
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        let says_why = serde_json::from_str::<ErrorBody>(body)
            .is_ok_and(|e| !e.code.is_empty() && !e.message.is_empty() && !e.next_step.is_empty());
        if !wanted.contains(&status(&answer)) || !(says_why || by_hyper) {
            wrong.push(format!("{what}: {}", answer.chars().take(500).collect::<String>()));
        }
        if *what == "other method" {
            assert!(answer.to_ascii_lowercase().contains("\r\nallow: post"), "{answer}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    writer.writes(5).await;
    let written = [writer.finish().await];
    written[0].assert_all_acknowledged();
    cluster.assert_all_run();
    let ae = cluster.ae("cloud", "meter").await;
    assert_eq!(ae.home, "edge1", "nothing was moved");
    assert_eq!(ae.residency, given.label, "the label is what it was");
    history::verify(&cluster, &written).await;
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
