//! A cluster's CA, nodes with their transports, and a service that remembers.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use onemec_runtime::pki::{CaAuthority, Credentials, Pki, Trust, Validity};
use onemec_runtime::transport::{Message, Options, Profile, Replier, Service, TransferSource, Transport, Tuning};
use onemec_wire::{Cluster, Incarnation, Member, NodeId, ServiceId};
use parking_lot::Mutex;

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// The service of the tests.
pub const ECHO: ServiceId = ServiceId(300);
pub const HOUR: Duration = Duration::from_secs(3600);

pub fn now_s() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

pub fn anywhere() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

pub fn ca(domain: &str) -> CaAuthority {
    CaAuthority::create(domain, Validity::starting(now_s(), HOUR)).unwrap()
}

pub fn pki(ca: &CaAuthority, node: u64) -> Pki {
    pki_valid(ca, node, Validity::starting(now_s(), HOUR))
}

pub fn pki_valid(ca: &CaAuthority, node: u64, validity: Validity) -> Pki {
    let issued = ca.issue_node(NodeId(node), validity).unwrap();
    let credentials = Credentials::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
    Pki::new(Arc::new(credentials), Arc::new(Trust::new(ca.domain(), ca.certificate_pem()).unwrap())).unwrap()
}

pub fn tuning() -> Tuning {
    Tuning {
        profile: Profile::Loopback,
        dial_backoff_min_ms: 10,
        dial_backoff_max_ms: 100,
        dial_backoff_lasting_ms: 200,
        // Long: on a busy machine the one thread of a test may stand still for seconds.
        idle_timeout_ms: 10_000,
        keep_alive_ms: 200,
        ..Tuning::default()
    }
}

pub fn options(incarnation: u64) -> Options {
    let cluster = Cluster { id: [7; 16], generation: 1 };
    let mut options = Options::new(anywhere(), Incarnation(incarnation), cluster, tokio::runtime::Handle::current());
    options.tuning = tuning();
    options
}

/// A node: its transport and its service.
pub struct Node {
    pub transport: Transport,
    pub echo: Arc<Echo>,
}

impl Node {
    pub fn start(pki: &Pki, options: Options) -> Self {
        let transport = Transport::start(options, pki).unwrap();
        let echo = Arc::new(Echo::default());
        transport.register(ECHO, echo.clone());
        Self { transport, echo }
    }
    pub fn id(&self) -> NodeId {
        self.transport.me().node
    }
    pub fn addr(&self) -> SocketAddr {
        self.transport.local_addr().unwrap()
    }
    pub fn knows(&self, other: &Self) {
        self.transport.set_peer(other.id(), vec![other.addr()]);
    }
}

/// Two nodes, 1 and 2, connected with both connections.
pub async fn pair() -> (Node, Node) {
    pair_with(|_| {}).await
}

pub async fn pair_with(change: impl Fn(&mut Options)) -> (Node, Node) {
    let ca = ca("edge.test");
    let start = |id| {
        let mut options = options(1);
        change(&mut options);
        Node::start(&pki(&ca, id), options)
    };
    let (a, b) = (start(1), start(2));
    a.knows(&b);
    b.knows(&a);
    both_up(&a, &b).await;
    (a, b)
}

pub async fn both_up(a: &Node, b: &Node) {
    until("both connections stand at both ends", || {
        [(a, b), (b, a)].iter().all(|(x, y)| x.transport.connected(y.id()) && x.transport.transfers_connected(y.id()))
    })
    .await;
    // Two that crossed: until nothing changes any more an ask may still be cut off.
    let echo = |x: &Node, y: NodeId| {
        let t = x.transport.clone();
        async move { t.ask(y, onemec_runtime::transport::Lane::Control, hello(), PATIENCE).await.is_ok() }
    };
    for (x, y) in [(a, b), (b, a)] {
        while !echo(x, y.id()).await {
            tokio::task::yield_now().await;
        }
    }
}

pub fn hello() -> Message {
    Message::new(ECHO, 0, Bytes::from_static(b"hello"))
}

/// Polls a condition until it holds.
pub async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = tokio::time::Instant::now() + PATIENCE;
    while !condition() {
        assert!(tokio::time::Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Remembers what it is told, answers what it is asked, by the first byte of the body:
/// `!` never answers, `?` drops the replier, `X` refuses with 0x123, `P` panics, `H` holds message and replier for ever.
#[derive(Default)]
pub struct Echo {
    pub told: Mutex<Vec<(Member, Message)>>,
    pub held: Mutex<Vec<(Message, Replier)>>,
    pub hold_tells: std::sync::atomic::AtomicBool,
    pub tells: AtomicU64,
    pub datagrams: Mutex<Vec<Bytes>>,
}

impl Service for Echo {
    fn tell(&self, from: Member, message: Message) {
        self.tells.fetch_add(1, Ordering::Relaxed);
        if self.hold_tells.load(Ordering::Relaxed) {
            self.told.lock().push((from, message));
        }
    }
    fn ask(&self, _: Member, message: Message, reply: Replier) {
        match message.body.first() {
            Some(b'?') => drop(reply),
            Some(b'X') => reply.fail(0x123, "no"),
            Some(b'P') => panic!("told to"),
            Some(b'H') => self.held.lock().push((message, reply)),
            _ => {
                let mut answer = Message::answer(message.body.clone());
                answer.attachments.clone_from(&message.attachments);
                reply.reply(answer);
            }
        }
    }
    fn datagram(&self, _: Member, body: Bytes) {
        self.datagrams.lock().push(body);
    }
    fn transfer(&self, _: Member, mut source: TransferSource) {
        match source.header.first() {
            Some(b'X') => source.refuse_soon(0x321, "not now"),
            Some(b'D') => drop(source),
            _ => {
                tokio::spawn(async move {
                    let mut sum = 0u32;
                    while let Ok(Some(piece)) = source.next().await {
                        sum = crc(sum, &piece);
                    }
                    source.accept(Bytes::copy_from_slice(&sum.to_le_bytes())).await;
                });
            }
        }
    }
}

/// A sum that depends on each byte and its place.
pub fn crc(sum: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(sum, |s, b| s.rotate_left(5) ^ u32::from(*b).wrapping_mul(0x9E37_79B1))
}
