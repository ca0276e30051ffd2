//! Whoever comes to the cluster's own port: with no certificate of ours, with a good one and bad manners, over a link
//! that damages packets. Each is turned away, and the nodes serve on (RELIABILITY.md, fault 12; I8). What exactly each
//! breach is answered with: `runtime/tests/transport/hostile.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onemec_runtime::pki::{CaAuthority, Credentials, Pki, Trust, Validity};
use onemec_tests::client::Ask;
use onemec_tests::wait::PATIENCE;
use onemec_tests::{Client, Cluster, Writer, history};
use onemec_wire::encode::Encoder;
use onemec_wire::greeting::{self, BODY_VERSION};
use onemec_wire::limits::{CREDIT_WINDOW_BYTES_MIN, LANE_FRAME_BYTES_MAX};
use onemec_wire::{Frame, Greeting, Member, NodeId};
use quinn::{Connection, Endpoint};
use tokio::net::UdpSocket;

const HOUR: Duration = Duration::from_secs(3600);
const DOMAIN: &str = "local.onemec";
/// In no topology.
const STRANGER: u64 = 99;

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn good() -> Validity {
    Validity::starting(now_s(), HOUR)
}

/// The cluster's own authority.
fn authority(cluster: &Cluster) -> CaAuthority {
    let read = |name| std::fs::read_to_string(cluster.ca_dir().join(name)).unwrap();
    CaAuthority::load(DOMAIN, &read("ca.pem"), &read("ca.key")).unwrap()
}

/// A node's certificate by `issuer`, with trust in the cluster's authority; it dials at the time that `then` says.
fn pki(issuer: &CaAuthority, cluster: &Cluster, node: u64, validity: Validity) -> Pki {
    let issued = issuer.issue_node(NodeId(node), validity).unwrap();
    let credentials = Credentials::from_pem(&issued.certificate_pem, &issued.key_pem).unwrap();
    let ours = authority(cluster);
    Pki::new(Arc::new(credentials), Arc::new(Trust::new(DOMAIN, ours.certificate_pem()).unwrap())).unwrap()
}

async fn dial(pki: &Pki, to: SocketAddr) -> Result<(Endpoint, Connection), String> {
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(pki.quic_client().unwrap())));
    let connecting = endpoint.connect(to, "onemec").map_err(|e| e.to_string())?;
    let connection = tokio::time::timeout(PATIENCE, connecting).await.expect("an answer").map_err(|e| e.to_string())?;
    Ok((endpoint, connection))
}

/// Turned away: the handshake fails, or the connection is closed although nothing was said. TLS 1.3 lets a client believe
/// that it is in before the server has looked at its certificate.
async fn is_turned_away(what: &str, pki: &Pki, to: SocketAddr) {
    match dial(pki, to).await {
        Err(e) => println!("{what}: {e}"),
        Ok((_endpoint, connection)) => {
            let why = tokio::time::timeout(PATIENCE, connection.closed()).await;
            println!("{what}: {}", why.unwrap_or_else(|_| panic!("{what}: the node keeps the connection")));
        }
    }
}

fn bytes(frame: &Frame) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.push(frame, LANE_FRAME_BYTES_MAX).unwrap();
    let mut pieces = Vec::new();
    encoder.take(&mut pieces);
    pieces.concat()
}

fn hello(cluster: &Cluster, node: u64) -> Vec<u8> {
    let dir = cluster.ca_dir();
    bytes(&greeting::hello(&Greeting {
        body_version: BODY_VERSION,
        protocol_min: 1,
        protocol_max: 1,
        purpose: 1,
        message_lanes: 2,
        features: 0,
        required: 0,
        member: Member::new(node, 1),
        domain: DOMAIN.into(),
        cluster: onemec_node::member::ca::cluster_of(cluster.topology(), &dir).unwrap(),
        credit_bytes: CREDIT_WINDOW_BYTES_MIN,
    }))
}

struct Scene {
    cluster: Cluster,
    writer: Writer,
}

impl Scene {
    async fn new() -> Self {
        let cluster = Cluster::start().await;
        let writer = Writer::start(&cluster, "meter", "edge1").await;
        writer.writes(10).await;
        cluster.replicated("cloud", "Cmeter").await;
        Self { cluster, writer }
    }

    fn victim(&self) -> SocketAddr {
        self.cluster.topology().node("edge1").unwrap().cluster_listen
    }

    async fn serves(&self, what: &str) {
        self.writer.writes(5).await;
        Client::new(self.cluster.door("edge1"), "Cmeter").expect(200, &Ask::retrieve("/-/meter/data")).await;
        let place = self.cluster.placement("cloud", "Cmeter").await.unwrap();
        assert_eq!(place.epoch, 1, "{what}: somebody lost the lease over it");
    }

    async fn end(mut self) {
        let written = [self.writer.finish().await];
        written[0].assert_all_acknowledged();
        self.cluster.assert_all_run();
        for name in self.cluster.names() {
            assert!(!self.cluster.logged(&name).contains("panicked"), "{name} has panicked");
        }
        history::verify(&self.cluster, &written).await;
    }
}

#[tokio::test]
async fn bad_certificates_are_turned_away() {
    let scene = Scene::new().await;
    let (cluster, to) = (&scene.cluster, scene.victim());
    let ours = authority(cluster);
    let foreign = CaAuthority::create(DOMAIN, good()).unwrap();
    let expired = Validity { from_s: now_s() - 7200, until_s: now_s() - 3600 };
    let early = Validity { from_s: now_s() + 3600, until_s: now_s() + 7200 };
    let other_domain = CaAuthority::load("other.onemec", ours.certificate_pem(), ours.key_pem());
    is_turned_away("another authority of the same name", &pki(&foreign, cluster, STRANGER, good()), to).await;
    is_turned_away("another authority, a node's own number", &pki(&foreign, cluster, 3, good()), to).await;
    is_turned_away("expired", &pki(&ours, cluster, STRANGER, expired), to).await;
    is_turned_away("not valid yet", &pki(&ours, cluster, STRANGER, early), to).await;
    if let Ok(other) = other_domain {
        is_turned_away("our authority's key, another domain", &pki(&other, cluster, STRANGER, good()), to).await;
    }
    // Who has no certificate at all.
    let provider = Arc::new(quinn::rustls::crypto::ring::default_provider());
    let mut bare = quinn::rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&quinn::rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    bare.alpn_protocols = vec![b"onemec/1".to_vec()];
    let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let config = quinn::crypto::rustls::QuicClientConfig::try_from(bare).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(config)));
    match endpoint.connect(to, "onemec").unwrap().await {
        Err(e) => println!("no certificate: {e}"),
        Ok(c) => println!("no certificate: {}", tokio::time::timeout(PATIENCE, c.closed()).await.expect("closed")),
    }
    scene.serves("bad certificates").await;
    scene.end().await;
}

/// Believes every server.
#[derive(Debug)]
struct Anybody(Arc<quinn::rustls::crypto::CryptoProvider>);

impl quinn::rustls::client::danger::ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &quinn::rustls::pki_types::CertificateDer<'_>,
        _: &[quinn::rustls::pki_types::CertificateDer<'_>],
        _: &quinn::rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: quinn::rustls::pki_types::UnixTime,
    ) -> Result<quinn::rustls::client::danger::ServerCertVerified, quinn::rustls::Error> {
        Ok(quinn::rustls::client::danger::ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &quinn::rustls::pki_types::CertificateDer<'_>,
        _: &quinn::rustls::DigitallySignedStruct,
    ) -> Result<quinn::rustls::client::danger::HandshakeSignatureValid, quinn::rustls::Error> {
        Ok(quinn::rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &quinn::rustls::pki_types::CertificateDer<'_>,
        _: &quinn::rustls::DigitallySignedStruct,
    ) -> Result<quinn::rustls::client::danger::HandshakeSignatureValid, quinn::rustls::Error> {
        Ok(quinn::rustls::client::danger::HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<quinn::rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A good certificate of the cluster's own authority, and then whatever a program gone mad would say.
#[tokio::test]
async fn breach_of_protocol_after_a_good_handshake() {
    let scene = Scene::new().await;
    let (cluster, to) = (&scene.cluster, scene.victim());
    let ours = authority(cluster);
    let noise: Vec<u8> = (0..60_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let hello = |n| hello(cluster, n);
    let lane = |rest: &[u8]| [bytes(&greeting::lane_open(3)), rest.to_vec()].concat();
    let mut cut = hello(STRANGER);
    cut.truncate(40);
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = vec![
        ("noise instead of a hello", noise.clone(), vec![]),
        ("half a hello", cut, vec![]),
        ("a hello that is another node's", hello(3), vec![]),
        ("noise on a lane", hello(STRANGER + 2), lane(&noise)),
        ("a lane without end", hello(STRANGER + 3), lane(&[0xff; 40])),
        ("noise on a stream", hello(STRANGER + 4), noise.clone()),
        ("hello again", hello(STRANGER + 5), lane(&hello(STRANGER + 5))),
    ];
    for (i, (what, first, then)) in cases.iter().enumerate() {
        let node = STRANGER + u64::try_from(i).unwrap().saturating_sub(1);
        let (_endpoint, connection) = dial(&pki(&ours, cluster, node, good()), to).await.unwrap();
        let talk = async {
            let (mut send, _recv) = connection.open_bi().await?;
            send.write_all(first).await?;
            let mut uni = connection.open_uni().await?;
            uni.write_all(then).await?;
            // Open streams and datagrams until it is enough.
            for _ in 0..200 {
                connection.send_datagram(noise[..1000].to_vec().into()).ok();
                connection.open_uni().await?.write_all(&noise).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        let _closed_in_the_middle = tokio::time::timeout(PATIENCE, talk).await;
        let why = tokio::time::timeout(PATIENCE, connection.closed()).await;
        println!("{what}: {}", why.unwrap_or_else(|_| panic!("{what}: the node keeps the connection")));
        scene.serves(what).await;
    }
    scene.end().await;
}

/// Real packets of a real handshake, each third cut short, each fifth with a bit turned: nothing but failed attempts.
#[tokio::test]
async fn damaged_packets_harm_nobody() {
    let scene = Scene::new().await;
    let (cluster, to) = (&scene.cluster, scene.victim());
    let relay = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = relay.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let (mut packet, mut client, mut n) = ([0; 65_536], None, 0usize);
        loop {
            let Ok((len, from)) = relay.recv_from(&mut packet).await else { continue };
            let target = if from == to {
                let Some(client) = client else { continue };
                client
            } else {
                client = Some(from);
                to
            };
            n += 1;
            let len = if n % 3 == 0 { len * (n % 7) / 7 } else { len };
            if n % 5 == 0 && len > 0 {
                packet[n % len] ^= 1 << (n % 8);
            }
            let _ = relay.send_to(&packet[..len], target).await;
        }
    });
    let ours = authority(cluster);
    for attempt in 0..5 {
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        let pki = pki(&ours, cluster, STRANGER + attempt, good());
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(pki.quic_client().unwrap())));
        let dial = async {
            let connection = endpoint.connect(address, "onemec").unwrap().await?;
            let (mut send, _recv) = connection.open_bi().await?;
            for _ in 0..50 {
                send.write_all(&[0xAA; 2000]).await?;
            }
            Ok::<_, Box<dyn std::error::Error>>(())
        };
        match tokio::time::timeout(Duration::from_secs(3), dial).await {
            Ok(Ok(())) => println!("attempt {attempt}: got through"),
            Ok(Err(e)) => println!("attempt {attempt}: {e}"),
            Err(_) => println!("attempt {attempt}: no answer"),
        }
    }
    task.abort();
    scene.serves("damaged packets").await;
    scene.end().await;
}
