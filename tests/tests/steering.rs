//! How an unmodified client finds the node that serves (row H12): by our DNS, and by an address that another node takes
//! over. It knows one name or one address, and goes on there through kills, moves, returns and stops of its host.
//!
//! Address take-over needs root and network namespaces: skipped with a message where there are none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use onemec_device::Endpoint;
use onemec_node::steering::dns::client::StubResolver;
use onemec_tests::net::{Family, Net};
use onemec_tests::wait::until;
use onemec_tests::writer::device;
use onemec_tests::{Cluster, Writer, history};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const AE: &str = "Cmeter0";
const NODES: [&str; 3] = ["cloud", "edge1", "edge2"];

/// The DNS server of one node.
fn server(cluster: &Cluster, name: &str) -> StubResolver {
    StubResolver::new(vec![cluster.topology().node(name).unwrap().dns_listen.unwrap()])
}

/// Waits until a node's DNS server says that a name has exactly these addresses.
async fn says(cluster: &Cluster, at: &str, name: &str, wanted: &[&str]) {
    let mut last = Vec::new();
    until(&format!("{at} says that {name} is {wanted:?}; it said last {last:?}"), async || {
        let answer = server(cluster, at).ask(name, RecordType::A).await.ok()?;
        last = answer.answers.iter().map(|r| r.data.to_string()).collect();
        last.sort();
        (last == wanted).then_some(())
    })
    .await;
}

/// A writer that knows the host by this name or address alone.
async fn writer(cluster: &Cluster, at: &str, host: &str) -> Writer {
    let device = device(cluster, "meter0", at).await;
    let door = Endpoint { host: host.into(), ..cluster.door(at) };
    Writer::of(cluster, device, vec![door])
}

#[tokio::test]
async fn row_h12_a_client_that_knows_one_name_goes_on_through_death_move_return_and_stop() {
    let mut cluster = Cluster::start_dns(|_| {}).await;
    let writer = writer(&cluster, "edge1", "edge1.iot.example").await;
    writer.writes(20).await;
    cluster.replicated("cloud", AE).await;
    assert_eq!(cluster.ae("cloud", AE).await.dns_name.as_deref(), Some("cmeter0.ae.iot.example"));
    says(&cluster, "cloud", "cmeter0.ae.iot.example", &["127.0.0.2"]).await;

    cluster.kill("edge1");
    writer.writes(20).await;
    says(&cluster, "cloud", "edge1.iot.example", &["127.0.0.1", "127.0.0.3"]).await;
    let primary = cluster.placed("cloud", AE, "a new primary", |p| p.primary.as_ref().is_some_and(|n| n != "edge1"));
    let (address, other, from) = match primary.await.primary.unwrap().as_str() {
        "cloud" => ("127.0.0.1", "127.0.0.3", "edge2"),
        _ => ("127.0.0.3", "127.0.0.1", "cloud"),
    };
    says(&cluster, "edge2", "cmeter0.ae.iot.example", &[address]).await;

    // A planned move to the other one: the AE's name follows.
    cluster.replicated(from, AE).await;
    cluster.move_to(from, AE, from).await;
    says(&cluster, "cloud", "cmeter0.ae.iot.example", &[other]).await;
    writer.writes(20).await;

    cluster.restart("edge1").await;
    for at in NODES {
        says(&cluster, at, "edge1.iot.example", &["127.0.0.2"]).await;
    }
    writer.writes(20).await;

    // Stopped past its lease: its server says nothing, its host's name leads elsewhere.
    cluster.stop("edge1");
    says(&cluster, "edge2", "edge1.iot.example", &["127.0.0.1", "127.0.0.3"]).await;
    writer.writes(20).await;
    cluster.cont("edge1");
    says(&cluster, "edge1", "edge1.iot.example", &["127.0.0.2"]).await;
    writer.writes(20).await;
    cluster.assert_all_run();
    history::finish("one name", &mut cluster, vec![writer]).await;
}

#[tokio::test]
async fn row_h12_nodes_with_ipv6_have_aaaa_records() {
    let cluster = Cluster::start_dns(|t| {
        for (i, node) in (1..).zip(&mut t.node) {
            node.dns_addresses = vec![node.http_listen.ip(), format!("2001:db8::{i}").parse().unwrap()];
        }
    })
    .await;
    let answer = server(&cluster, "cloud").ask("edge1.iot.example", RecordType::AAAA).await.unwrap();
    let said: Vec<String> = answer.answers.iter().map(|r| r.data.to_string()).collect();
    assert_eq!(said, ["2001:db8::2"]);
    let all = server(&cluster, "edge2").ask("_http._tcp.iot.example", RecordType::SRV).await.unwrap();
    assert_eq!(all.answers.iter().filter(|r| matches!(r.data, RData::SRV(_))).count(), 3);
    assert_eq!(all.additionals.len(), 6, "both addresses of each");
}

/// What comes to the DNS server's port from outside: nothing large comes back, and it serves on.
#[tokio::test]
async fn hostile_questions_get_little_and_the_dns_server_answers_on() {
    let mut cluster = Cluster::start_dns(|_| {}).await;
    let at = cluster.topology().node("edge1").unwrap().dns_listen.unwrap();
    let mut head = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let with = |tail: &[u8]| [head.as_slice(), tail].concat();
    let garbage: Vec<u8> = (0..9_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8 & 0x7f).collect();
    let name = b"\x05edge1\x03iot\x07example\x00";
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half a header", head[..6].to_vec()),
        ("a header alone", head.clone()),
        ("a name cut off", with(b"\x05edg")),
        ("a name that points to itself", with(b"\xc0\x0c\x00\x01\x00\x01")),
        ("names that point to each other", with(b"\xc0\x0e\xc0\x0c\x00\x01\x00\x01")),
        ("a pointer behind the end", with(b"\xff\xff\x00\x01\x00\x01")),
        ("a reserved kind of label", with(b"\x85edge1\x00\x00\x01\x00\x01")),
        ("a name of 300 octets", with(&[b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5))),
        ("an answer", {
            let mut a = with(&[name.as_slice(), b"\x00\x01\x00\x01"].concat());
            a[2] |= 0x80;
            a
        }),
        ("65,535 questions in one", {
            let mut a = with(name);
            (a[4], a[5]) = (255, 255);
            a
        }),
        ("oversized", [with(&[name.as_slice(), b"\x00\x01\x00\x01"].concat()), vec![0; 8_000]].concat()),
        ("garbage", garbage),
    ];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(at).await.unwrap();
    for (_, bytes) in &cases {
        socket.send(bytes).await.unwrap();
    }
    // Behind all of them an ordinary question; what came before its answer was little, and no address.
    head[0] = 0xee;
    let last = [head.as_slice(), name, b"\x00\x01\x00\x01"].concat();
    let mut buffer = vec![0; 65_536];
    let sane = until("an answer to the ordinary question", async || {
        socket.send(&last).await.ok()?;
        let received = async {
            loop {
                let length = socket.recv(&mut buffer).await.unwrap();
                let message = Message::from_vec(&buffer[..length]).unwrap();
                if message.metadata.id == 0xee34 {
                    return message;
                }
                assert!(length <= 512, "{length} bytes for nothing");
                assert_ne!(message.metadata.response_code, ResponseCode::NoError, "{message:?}");
            }
        };
        tokio::time::timeout(Duration::from_secs(1), received).await.ok()
    })
    .await;
    assert_eq!(sane.answers.len(), 1);

    // More slow connections than it holds, which send half a length each.
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(&[0]).await.unwrap();
        slow.push(stream);
    }
    until("an answer over TCP beside slow connections", async || {
        let mut stream = TcpStream::connect(at).await.ok()?;
        let framed = [&u16::try_from(last.len()).unwrap().to_be_bytes(), last.as_slice()].concat();
        stream.write_all(&framed).await.ok()?;
        let answered = async {
            let length = stream.read_u16().await.ok()?;
            let mut bytes = vec![0; length.into()];
            stream.read_exact(&mut bytes).await.ok()?;
            Message::from_vec(&bytes).ok().filter(|m| m.answers.len() == 1)
        };
        tokio::time::timeout(Duration::from_secs(15), answered).await.ok().flatten()
    })
    .await;
    says(&cluster, "edge1", "edge1.iot.example", &["127.0.0.2"]).await;
    cluster.assert_all_run();
    let status = cluster.admin("edge1").status().await.unwrap().supervision.unwrap();
    let steering = status.children.iter().find(|c| c.name == "steering");
    let dns =
        steering.and_then(|s| s.children.iter().find(|c| c.name == "dns")).expect("it is in the supervision tree");
    assert_eq!((dns.state.as_str(), dns.restarts), ("running", 0));
}

/// Looks all the time which box has which service address: two living ones never have the same.
struct Watcher {
    absent: Arc<Mutex<BTreeSet<String>>>,
    end: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Vec<String>)>,
}

impl Watcher {
    fn start(net: &Arc<Net>, family: Family) -> Self {
        let (absent, end) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let (net, dead, stop) = (net.clone(), absent.clone(), end.clone());
        let thread = std::thread::spawn(move || {
            let service: Vec<IpAddr> = NODES.iter().map(|n| net.service_address(n, family)).collect();
            let (mut looks, mut broken) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let mut seen: BTreeMap<IpAddr, &str> = BTreeMap::new();
                for node in NODES {
                    for address in net.addresses_now(node).into_iter().filter(|a| service.contains(a)) {
                        let Some(before) = seen.insert(address, node) else { continue };
                        // The other one may have given it up between the two looks; has it still?
                        let both = net.addresses_now(before).contains(&address);
                        let dead = dead.lock().unwrap();
                        if both && !dead.contains(before) && !dead.contains(node) {
                            broken.push(format!("{address} on {before} and {node}"));
                        }
                    }
                }
                looks += 1;
            }
            (looks, broken)
        });
        Self { absent, end, thread }
    }

    /// The process of a node does not run: its kernel may keep an address for a moment.
    fn absent(&self, node: &str) {
        self.absent.lock().unwrap().insert(node.into());
    }

    fn present(&self, node: &str) {
        self.absent.lock().unwrap().remove(node);
    }

    fn finish(self) {
        self.end.store(true, Ordering::Relaxed);
        let (looks, broken) = self.thread.join().unwrap();
        println!("{looks} looks at who has which address");
        assert!(looks > 10, "{looks}");
        assert!(broken.is_empty(), "{broken:#?}");
    }
}

async fn held(net: &Net, node: &str, address: IpAddr, wanted: bool) {
    let what = if wanted { "has" } else { "has not" };
    until(&format!("{node} {what} {address}"), async || {
        (net.addresses_now(node).contains(&address) == wanted).then_some(())
    })
    .await;
}

async fn takeover(family: Family) {
    let Some(net) = Net::new(&NODES) else { return };
    let mut cluster = Cluster::start_takeover(net, family).await;
    let net = cluster.shared_net();
    let own = net.service_address("edge1", family);
    held(&net, "edge1", own, true).await;
    let watcher = Watcher::start(&net, family);
    let writer = writer(&cluster, "edge1", &own.to_string()).await;
    writer.writes(20).await;
    cluster.replicated("cloud", AE).await;

    // Its host dies: the next node takes the address over, and the client finds it there.
    watcher.absent("edge1");
    cluster.kill("edge1");
    held(&net, "edge2", own, true).await;
    writer.writes(20).await;

    // A planned move does not move the address; the client sees nothing of it.
    let home = cluster.replicated("cloud", AE).await.primary.unwrap();
    let target = if home == "cloud" { "edge2" } else { "cloud" };
    cluster.move_to("cloud", AE, target).await;
    writer.writes(20).await;
    held(&net, "edge2", own, true).await;

    // Its host is back: it has the address after the other one has given it up.
    cluster.restart("edge1").await;
    watcher.present("edge1");
    held(&net, "edge1", own, true).await;
    held(&net, "edge2", own, false).await;
    writer.writes(20).await;

    // Stopped past its lease: nobody renews the address, so that its kernel drops it, and the other box serves there.
    watcher.absent("edge1");
    cluster.stop("edge1");
    held(&net, "edge2", own, true).await;
    held(&net, "edge1", own, false).await;
    writer.writes(20).await;
    watcher.present("edge1");
    cluster.cont("edge1");
    held(&net, "edge1", own, true).await;
    writer.writes(20).await;
    cluster.ready("edge1").await;
    watcher.finish();
    cluster.assert_all_run();
    history::finish(&format!("address take-over, {family:?}"), &mut cluster, vec![writer]).await;
}

#[tokio::test]
async fn row_h12_a_client_that_knows_one_address_goes_on_through_death_move_return_and_stop() {
    takeover(Family::V4).await;
}

#[tokio::test]
async fn row_h12_the_same_with_ipv6() {
    takeover(Family::V6).await;
}
