//! What a client of no good manners, but within HTTP/1.1, sees of planned moves: one connection, requests sent before the
//! answers to earlier ones (pipelining), chunked bodies, `Expect: 100-continue`. And what it sees of a CSEBase whose AEs are
//! passive or served elsewhere.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onemec_tests::client::Ask;
use onemec_tests::wait::{PATIENCE, until};
use onemec_tests::{Cluster, writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Requests that are under way on the connection.
const PIPELINED: u64 = 6;

/// One reading as a CREATE, its body in one of three forms.
fn create(container: &str, n: u64) -> Vec<u8> {
    let body = format!(r#"{{"m2m:cin":{{"con":"{n}"}}}}"#);
    let head = format!(
        "POST {container} HTTP/1.1\r\nHost: x\r\nX-M2M-Origin: Cplain\r\nX-M2M-RI: q{n}\r\nX-M2M-RVI: 3\r\n\
         Content-Type: application/json;ty=4\r\nIf-None-Match: *\r\nAccept: */*\r\n"
    );
    let length = body.len();
    match n % 3 {
        0 => format!("{head}Content-Length: {length}\r\n\r\n{body}"),
        1 => {
            let (first, rest) = body.split_at(7);
            format!("{head}Transfer-Encoding: chunked\r\n\r\n7\r\n{first}\r\n{:x}\r\n{rest}\r\n0\r\n\r\n", rest.len())
        }
        _ => format!("{head}Expect: 100-continue\r\nContent-Length: {length}\r\n\r\n{body}"),
    }
    .into_bytes()
}

/// The next final answer on a connection: its head in lower case.
async fn answer(stream: &mut TcpStream, rest: &mut Vec<u8>) -> String {
    loop {
        while let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&rest[..end]).to_lowercase();
            let length =
                head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |v| v.parse().unwrap());
            if rest.len() < end + 4 + length {
                break;
            }
            rest.drain(..end + 4 + length);
            if !head.starts_with("http/1.1 100") {
                return head;
            }
        }
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an answer").unwrap();
        assert!(read > 0, "the door closed a connection that was in use");
        rest.extend_from_slice(&buffer[..read]);
    }
}

#[tokio::test]
async fn one_pipelined_connection_outlives_planned_moves() {
    let mut cluster = Cluster::start().await;
    let device = writer::device(&cluster, "plain", "edge1").await;
    let door = cluster.door("edge1");
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, container) = (stop.clone(), device.container.clone());
    let writing = tokio::spawn(async move {
        let mut stream = TcpStream::connect((door.host.as_str(), door.port)).await.unwrap();
        let (mut rest, mut sent, mut answered) = (Vec::new(), 0, 0);
        loop {
            let done = ended.load(Ordering::Relaxed);
            while !done && sent < answered + PIPELINED {
                sent += 1;
                stream.write_all(&create(&container, sent)).await.unwrap();
            }
            if done && answered == sent {
                return sent;
            }
            let head = answer(&mut stream, &mut rest).await;
            answered += 1;
            assert!(head.starts_with("http/1.1 201"), "reading {answered}: {head}");
            assert!(head.contains(&format!("x-m2m-ri: q{answered}\r\n")), "in the order of the requests: {head}");
            assert!(!head.contains("connection: close"), "{head}");
        }
    });
    for to in ["edge2", "edge1", "edge2"] {
        let before = count(&cluster, &device.container).await;
        cluster.move_to("cloud", "plain", to).await;
        until("the connection goes on", async || {
            assert!(!writing.is_finished(), "the writer has failed");
            (count(&cluster, &device.container).await > before + 20).then_some(())
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    // None lost, none doubled, in order.
    let all = format!("{}?rcn=8", device.container);
    let kept = cluster.client("edge2", "Cplain").expect(200, &Ask::retrieve(&all)).await;
    let kept: Vec<u64> = kept["m2m:cnt"]["m2m:cin"].as_array().unwrap().iter().map(|i| number(&i["con"])).collect();
    assert_eq!(kept, (1..=written).collect::<Vec<_>>());
    cluster.assert_all_run();
}

async fn count(cluster: &Cluster, container: &str) -> u64 {
    let found = cluster.client("cloud", "Cplain").expect(200, &Ask::retrieve(container)).await;
    found["m2m:cnt"]["cni"].as_u64().unwrap()
}

fn number(con: &serde_json::Value) -> u64 {
    con.as_str().unwrap().parse().unwrap()
}

/// Whichever CSE is asked, and whether the AEs are in memory or not.
#[tokio::test]
async fn a_cse_base_shows_all_its_aes() {
    let cluster = Cluster::start_with(|t| t.limits.passive_after_ms = 400).await;
    for i in 0..5 {
        writer::device(&cluster, &format!("n{i}"), "edge1").await;
    }
    cluster.move_to("cloud", "n4", "edge2").await;
    let names = |list: &serde_json::Value, key: &str| -> Vec<String> {
        let all = list.as_array().cloned().unwrap_or_default();
        let mut names: Vec<String> = all.iter().map(|v| v[key].as_str().unwrap().to_owned()).collect();
        names.sort();
        names
    };
    for round in 0..3 {
        for node in cluster.names() {
            if round > 0 {
                until("its AEs leave memory", async || {
                    let status = cluster.admin("edge1").status().await.ok()?;
                    (status.memory.passive >= 4).then_some(())
                })
                .await;
            }
            let mut client = cluster.client(&node, "CAdmin");
            let nested = client.expect(200, &Ask::retrieve("/~/edge1/-?rcn=4")).await;
            assert_eq!(names(&nested["m2m:cb"]["m2m:ae"], "rn"), ["n0", "n1", "n2", "n3"], "{node}: {nested}");
            assert_eq!(nested["m2m:cb"]["m2m:ae"][0]["m2m:cnt"][0]["rn"], "data", "{node}: {nested}");
            let listed = client.expect(200, &Ask::retrieve("/~/edge1/-?rcn=6&ty=2")).await;
            assert_eq!(names(&listed["m2m:cb"]["ch"], "nm"), ["n0", "n1", "n2", "n3"], "{node}: {listed}");
            let found = client.expect(200, &Ask::retrieve("/~/edge2/-?fu=1&ty=3")).await;
            assert_eq!(found["m2m:uril"], serde_json::json!(["edge2-base/n4/data"]), "{node}");
        }
    }
}
