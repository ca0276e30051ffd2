//! Peers that break the protocol: each gets a coded close, and the endpoint lives on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use onemec_runtime::pki::{CaAuthority, Pki};
use onemec_runtime::transport::{AskError, Lane, Message, SendError, Transport};
use onemec_wire::encode::Encoder;
use onemec_wire::greeting::{self, BODY_VERSION};
use onemec_wire::limits::{CONTROL_FRAME_BYTES_MAX, CREDIT_WINDOW_BYTES_MIN, LANE_FRAME_BYTES_MAX};
use onemec_wire::{CloseCode, Cluster, Frame, Greeting, Kind, Member, ServiceId};
use quinn::{Connection, ConnectionError};

use crate::world::*;

/// A node with a good certificate and bad manners.
struct Rogue {
    endpoint: quinn::Endpoint,
    connection: Connection,
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.push(frame, LANE_FRAME_BYTES_MAX).unwrap();
    let mut pieces = Vec::new();
    encoder.take(&mut pieces);
    pieces.concat()
}

fn manners(id: u64) -> Greeting {
    Greeting {
        body_version: BODY_VERSION,
        protocol_min: 1,
        protocol_max: 1,
        purpose: 1,
        message_lanes: 2,
        features: 0,
        required: 0,
        member: Member::new(id, 1),
        domain: "edge.test".into(),
        cluster: Cluster { id: [7; 16], generation: 1 },
        credit_bytes: CREDIT_WINDOW_BYTES_MIN,
    }
}

impl Rogue {
    async fn connect(pki: &Pki, victim: &Node) -> Self {
        let mut endpoint = quinn::Endpoint::client(anywhere()).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(pki.quic_client().unwrap())));
        let connection = endpoint.connect(victim.addr(), "onemec").unwrap().await.unwrap();
        Self { endpoint, connection }
    }
    /// Opens a bidirectional stream, sends `first`, and leaves it open.
    async fn say(&self, first: &[u8]) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(first).await.unwrap();
        (send, recv)
    }
    async fn say_uni(&self, first: &[u8]) -> quinn::SendStream {
        let mut send = self.connection.open_uni().await.unwrap();
        // The victim may close in the middle of it.
        let _closed = send.write_all(first).await;
        send
    }
    async fn expect(&self, code: CloseCode) {
        match tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("closed in time") {
            ConnectionError::ApplicationClosed(close) => {
                assert_eq!(CloseCode::from_number(close.error_code.into_inner()), Some(code));
            }
            other => panic!("closed with {other:?} instead of {code:?}"),
        }
        self.endpoint.wait_idle().await;
    }
}

type Change = fn(&mut Greeting);

struct Scene {
    ca: CaAuthority,
    victim: Node,
    friend: Node,
    next: u64,
}

impl Scene {
    async fn new() -> Self {
        let ca = ca("edge.test");
        let mut options = options(1);
        options.tuning.handshake_timeout_ms = 500;
        let victim = Node::start(&pki(&ca, 1), options.clone());
        let friend = Node::start(&pki(&ca, 2), options);
        friend.knows(&victim);
        until("connected", || friend.transport.connected(victim.id()) && victim.transport.connected(friend.id())).await;
        Self { ca, victim, friend, next: 10 }
    }
    /// A rogue that has not said anything; each has its own node id.
    async fn rogue(&mut self) -> (Rogue, u64) {
        self.next += 1;
        (Rogue::connect(&pki(&self.ca, self.next), &self.victim).await, self.next)
    }
    /// A rogue that was welcomed.
    async fn insider(&mut self) -> (Rogue, quinn::SendStream, quinn::RecvStream) {
        let (rogue, id) = self.rogue().await;
        let (send, mut recv) = rogue.say(&bytes(&greeting::hello(&manners(id)))).await;
        let mut header = [0; 32];
        recv.read_exact(&mut header).await.unwrap();
        assert_eq!(header[3], Kind::Welcome as u8);
        (rogue, send, recv)
    }
    async fn still_serves(&self) {
        let (t, to) = (&self.friend.transport, self.victim.id());
        t.ask(to, Lane::Message, hello(), PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn a_broken_hello_is_closed_with_its_code() {
    let mut scene = Scene::new().await;
    let with = |id: u64, change: Change| {
        let mut greeting = manners(id);
        change(&mut greeting);
        bytes(&greeting::hello(&greeting))
    };
    let mut bad_version = bytes(&greeting::ping(1));
    bad_version[2] = 9;
    let mut bad_kind = bytes(&greeting::ping(1));
    bad_kind[3] = 200;
    let mut long = bytes(&greeting::ping(1));
    long[8..12].copy_from_slice(&(CONTROL_FRAME_BYTES_MAX as u32).to_le_bytes());
    let mut body = bytes(&greeting::hello(&manners(0)));
    body.truncate(34);
    body[8..12].copy_from_slice(&2u32.to_le_bytes());
    let fixed = [
        (vec![0xAA; 64], CloseCode::BadMagic),
        (bad_version, CloseCode::BadVersion),
        (bad_kind, CloseCode::BadKind),
        (long, CloseCode::TooLong),
        (body, CloseCode::BadBody),
        (bytes(&greeting::ping(1)), CloseCode::UnexpectedFrame),
        (bytes(&greeting::credit(1)), CloseCode::UnexpectedFrame),
    ];
    for (said, code) in fixed {
        let (rogue, _) = scene.rogue().await;
        let _open = rogue.say(&said).await;
        rogue.expect(code).await;
    }
    let changes: [(Change, CloseCode); 7] = [
        (|g| g.purpose = 7, CloseCode::BadBody),
        (|g| g.message_lanes = 0, CloseCode::BadBody),
        (|g| g.credit_bytes = u64::MAX, CloseCode::BadBody),
        (|g| g.member.node.0 = 999, CloseCode::WrongNode),
        (|g| g.domain = "other.test".into(), CloseCode::WrongDomain),
        (|g| g.cluster.generation = 2, CloseCode::WrongCluster),
        (|g| g.required = 1 << 60, CloseCode::VersionMismatch),
    ];
    for (change, code) in changes {
        let (rogue, id) = scene.rogue().await;
        let _open = rogue.say(&with(id, change)).await;
        rogue.expect(code).await;
    }
    let (rogue, id) = scene.rogue().await;
    let (mut send, _recv) = rogue.say(&with(id, |_| {})[..50]).await;
    send.finish().unwrap();
    rogue.expect(CloseCode::Truncated).await;
    scene.still_serves().await;
}

#[tokio::test]
async fn a_silent_handshake_is_cut_off() {
    let mut scene = Scene::new().await;
    let (mute, _) = scene.rogue().await;
    let (slow, id) = scene.rogue().await;
    let _open = slow.say(&bytes(&greeting::hello(&manners(id)))[..40]).await;
    mute.expect(CloseCode::HandshakeTimeout).await;
    slow.expect(CloseCode::HandshakeTimeout).await;
    scene.still_serves().await;
}

#[tokio::test]
async fn an_insider_that_breaks_the_rules_is_closed_with_the_code() {
    let mut scene = Scene::new().await;
    let tell = |len: usize| {
        let mut frame = Frame::new(Kind::Tell, ECHO, Bytes::from_static(b"x"));
        frame.attachments.push(Bytes::from(vec![0; len]).into());
        frame
    };
    let mut numbered = tell(0);
    numbered.correlation = 5;
    let mut oversize = bytes(&tell(1));
    oversize[32..36].copy_from_slice(&(LANE_FRAME_BYTES_MAX as u32).to_le_bytes());
    let mut attachments = bytes(&tell(1));
    attachments[6..8].copy_from_slice(&60_000u16.to_le_bytes());
    let lane = |n: u8, rest: Vec<u8>| [bytes(&greeting::lane_open(n)), rest].concat();
    let on_lanes = [
        (bytes(&tell(1)), CloseCode::UnexpectedFrame),
        (lane(5, vec![]), CloseCode::BadLane),
        (lane(200, vec![]), CloseCode::BadLane),
        (lane(3, vec![1; 40]), CloseCode::BadMagic),
        (lane(3, bytes(&greeting::lane_open(3))), CloseCode::UnexpectedFrame),
        (lane(3, bytes(&greeting::hello(&manners(1)))), CloseCode::UnexpectedFrame),
        (lane(3, bytes(&numbered)), CloseCode::BadField),
        (lane(0, oversize), CloseCode::TooLong),
        (lane(0, attachments), CloseCode::TooLong),
    ];
    for (n, (said, code)) in on_lanes.into_iter().enumerate() {
        let (rogue, _send, _recv) = scene.insider().await;
        let _open = rogue.say_uni(&said).await;
        rogue.expect(code).await;
        assert_eq!(scene.victim.transport.stats().breaches, n as u64 + 1);
    }

    let (rogue, _send, _recv) = scene.insider().await;
    let _one = rogue.say_uni(&lane(4, vec![])).await;
    let _two = rogue.say_uni(&lane(4, vec![])).await;
    rogue.expect(CloseCode::BadLane).await;

    let (rogue, _send, _recv) = scene.insider().await;
    rogue.say_uni(&lane(4, bytes(&tell(9))[..30].to_vec())).await.finish().unwrap();
    rogue.expect(CloseCode::Truncated).await;

    let (rogue, mut send, _recv) = scene.insider().await;
    send.write_all(&bytes(&tell(9))).await.unwrap();
    rogue.expect(CloseCode::UnexpectedFrame).await;

    let (rogue, _send, _recv) = scene.insider().await;
    let _call = rogue.say(&bytes(&tell(1))).await;
    rogue.expect(CloseCode::UnexpectedFrame).await;

    let (rogue, _send, _recv) = scene.insider().await;
    rogue.connection.send_datagram(Bytes::from_static(b"garbage")).unwrap();
    rogue.expect(CloseCode::Truncated).await;
    scene.still_serves().await;
}

#[tokio::test]
async fn who_sends_beyond_its_credit_is_closed() {
    let mut scene = Scene::new().await;
    scene.victim.echo.hold_tells.store(true, std::sync::atomic::Ordering::Relaxed);
    let (rogue, _send, _recv) = scene.insider().await;
    let mut frame = Frame::new(Kind::Tell, ECHO, Bytes::new());
    frame.attachments.push(Bytes::from(vec![0; 1 << 20]).into());
    let said: Vec<u8> = bytes(&greeting::lane_open(3));
    let mut send = rogue.say_uni(&said).await;
    for _ in 0..40 {
        if send.write_all(&bytes(&frame)).await.is_err() {
            break;
        }
    }
    rogue.expect(CloseCode::CreditExceeded).await;
    scene.victim.echo.told.lock().clear();
    scene.still_serves().await;
}

#[tokio::test]
async fn a_node_that_breaks_the_protocol_again_and_again_is_barred() {
    let scene = Scene::new().await;
    let id = pki(&scene.ca, 77);
    for _ in 0..5 {
        let rogue = Rogue::connect(&id, &scene.victim).await;
        let _open = rogue.say(&[0xAA; 64]).await;
        rogue.expect(CloseCode::BadMagic).await;
    }
    let rogue = Rogue::connect(&id, &scene.victim).await;
    rogue.expect(CloseCode::RateLimited).await;
    scene.still_serves().await;
}

#[tokio::test]
async fn garbage_packets_change_nothing() {
    let scene = Scene::new().await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut n = 1u64;
    for len in (1..1500).step_by(7) {
        let garbage: Vec<u8> = (0..len)
            .map(|_| {
                n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (n >> 56) as u8
            })
            .collect();
        socket.send_to(&garbage, scene.victim.addr()).unwrap();
        // And something that looks like a first packet.
        let mut initial = vec![0xC0, 0, 0, 0, 1, 8];
        initial.extend_from_slice(&garbage);
        initial.resize(1200, 0);
        socket.send_to(&initial, scene.victim.addr()).unwrap();
    }
    scene.still_serves().await;
    assert_eq!(scene.victim.transport.stats().breaches, 0);
}

#[tokio::test]
async fn another_domain_may_use_federation_only() {
    let (ours, theirs) = (ca("edge.test"), ca("other.test"));
    let (pki_a, pki_b) = (pki(&ours, 1), pki(&theirs, 2));
    pki_a.trust().set("other.test", theirs.certificate_pem()).unwrap();
    pki_b.trust().set("edge.test", ours.certificate_pem()).unwrap();
    let mut far = options(1);
    far.cluster = Cluster { id: [9; 16], generation: 3 };
    let (a, b) = (Node::start(&pki_a, options(1)), Node::start(&pki_b, far));
    a.transport.register(ServiceId::FEDERATION, a.echo.clone());
    b.transport.set_foreign_peer("edge.test", a.id(), vec![a.addr()]);
    until("connected", || a.transport.connected(b.id()) && b.transport.connected(a.id())).await;
    let federation = || Message::new(ServiceId::FEDERATION, 0, Bytes::from_static(b"hi"));
    b.transport.ask(a.id(), Lane::Message, federation(), PATIENCE).await.unwrap();
    let error = b.transport.ask(a.id(), Lane::Message, hello(), PATIENCE).await.unwrap_err();
    assert_eq!(error, AskError::NotSent(SendError::Forbidden));
    assert_eq!(b.transport.datagram(a.id(), ECHO, Bytes::new()), Err(SendError::Forbidden));

    // One that does not keep to it is closed.
    let pki_c = pki(&theirs, 3);
    pki_c.trust().set("edge.test", ours.certificate_pem()).unwrap();
    let rogue = Rogue::connect(&pki_c, &a).await;
    let mut greeting = manners(3);
    greeting.domain = "other.test".into();
    let (_send, mut recv) = rogue.say(&bytes(&greeting::hello(&greeting))).await;
    recv.read_exact(&mut [0; 32]).await.unwrap();
    let tell = Frame::new(Kind::Tell, ECHO, Bytes::new());
    let _open = rogue.say_uni(&[bytes(&greeting::lane_open(0)), bytes(&tell)].concat()).await;
    rogue.expect(CloseCode::FederationOnly).await;

    // And cannot take the place of a node of ours.
    let d = Node::start(&pki(&ours, 4), options(1));
    d.knows(&a);
    until("connected", || a.transport.connected(d.id())).await;
    let pki_e = pki(&theirs, 4);
    pki_e.trust().set("edge.test", ours.certificate_pem()).unwrap();
    let rogue = Rogue::connect(&pki_e, &a).await;
    let mut greeting = manners(4);
    greeting.domain = "other.test".into();
    greeting.member.incarnation.0 = 99;
    let _open = rogue.say(&bytes(&greeting::hello(&greeting))).await;
    rogue.expect(CloseCode::WrongDomain).await;
    alive(&d.transport, &a).await;
}

async fn alive(t: &Transport, to: &Node) {
    t.ask(to.id(), Lane::Message, hello(), Duration::from_secs(5)).await.unwrap();
}
