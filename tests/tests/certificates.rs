//! Certificates of running nodes: short-lived ones are renewed while devices write and nobody notices; wrong ones at the
//! HTTPS door are refused with a word about why.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onemec_device::{Connector, tls};
use onemec_node::topology::{Auth, Topology};
use onemec_runtime::pki::{CaAuthority, Validity};
use onemec_tests::client::{Ask, Client};
use onemec_tests::wait::until;
use onemec_tests::{Cluster, Writer, history};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn https(t: &mut Topology) {
    for node in &mut t.node {
        node.security.tls = true;
        node.security.auth = Auth::Optional;
    }
}

/// A new client at the door, which verifies the certificate that the door shows now, its end included.
async fn comes_in(cluster: &Cluster, node: &str) -> bool {
    let mut client = cluster.client(node, "Cmeter");
    client.send(&Ask::retrieve("/~/edge1/-/meter/data")).await.is_ok_and(|a| a.status.is_success())
}

#[tokio::test]
async fn certificates_are_renewed_while_devices_write() {
    /// Long enough for a busy machine to be in time.
    const VALID_S: u64 = 15;
    let mut cluster = Cluster::start_with(|t| {
        https(t);
        t.cluster.certificate_s = VALID_S;
    })
    .await;
    let first_end = now_s() + VALID_S;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    for node in cluster.names() {
        // One of the two certificates of each node may be renewed a look earlier than the other.
        until(&format!("{node} has renewed both certificates"), async || {
            let log = cluster.logged(&node);
            let both = ["\"node\"", "\"http\""];
            both.iter().all(|c| log.contains(&format!("certificate renewed certificate={c}"))).then_some(())
        })
        .await;
    }
    // What was shown at the start has ended by now: who comes now sees the new one, also the other nodes.
    until("the first certificates have ended", async || (now_s() > first_end).then_some(())).await;
    for node in cluster.names() {
        assert!(comes_in(&cluster, &node).await, "{node}");
    }
    writer.writes(20).await;
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    assert!(written.events.iter().all(|e| e.attempts == 1), "no request failed");
    cluster.kill("edge2");
    cluster.restart("edge2").await;
    until("edge2 serves with its peers' renewed certificates", async || {
        comes_in(&cluster, "edge2").await.then_some(())
    })
    .await;
    cluster.assert_all_run();
    history::verify(&cluster, &[written]).await;
}

/// A client that shows this certificate.
fn showing(cluster: &Cluster, issuer: &CaAuthority, ae: &str, validity: Validity) -> Client {
    let issued = issuer.issue_ae(ae, validity).unwrap();
    let ca = std::fs::read(cluster.ca_dir().join("ca.pem")).unwrap();
    let identity = (issued.certificate_pem.as_bytes(), issued.key_pem.as_bytes());
    let tls = Some(tls::client_config(&ca, Some(identity)).unwrap());
    let mut client = Client::new(cluster.door("edge1"), ae);
    client.connector = Connector { tls, ..Connector::default() };
    client
}

fn authority(cluster: &Cluster, domain: &str) -> CaAuthority {
    let read = |name: &str| std::fs::read_to_string(cluster.ca_dir().join(name)).unwrap();
    CaAuthority::load(domain, &read("ca.pem"), &read("ca.key")).unwrap()
}

#[tokio::test]
async fn wrong_client_certificates_are_refused_at_the_https_door() {
    let mut cluster = Cluster::start_with(https).await;
    let ours = authority(&cluster, "local.onemec");
    let good = Validity::starting(now_s() - 60, DAY);
    let old = Validity { from_s: now_s() - 7200, until_s: now_s() - 3600 };
    let coming = Validity { from_s: now_s() + 3600, until_s: now_s() + 7200 };
    let foreign = CaAuthority::create("local.onemec", good).unwrap();
    let elsewhere = authority(&cluster, "elsewhere.example");

    let mut meter = showing(&cluster, &ours, "Cmeter", good);
    meter.register_with_data("meter").await;

    let refused = [
        ("expired", showing(&cluster, &ours, "Cmeter", old), "xpired"),
        ("not valid yet", showing(&cluster, &ours, "Cmeter", coming), "NotValidYet"),
        ("of another authority", showing(&cluster, &foreign, "Cmeter", good), "UnknownIssuer"),
        ("of another domain", showing(&cluster, &elsewhere, "Cmeter", good), "UnknownIssuer"),
    ];
    for (what, mut client, why) in refused {
        let answer = client.send(&Ask::retrieve("/-/meter/data")).await;
        // TLS 1.3: the client hears of it when it has sent already; the words are in the node's log.
        assert!(answer.is_err(), "{what}: {:?}", answer.map(|a| a.status));
        until(&format!("edge1's log says why a certificate that is {what} was refused"), async || {
            let log = cluster.logged("edge1");
            log.lines()
                .any(|l| l.contains("TLS handshake failed") && l.to_lowercase().contains(&why.to_lowercase()))
                .then_some(())
        })
        .await;
    }
    // A good certificate of somebody else: the door is open, the meter's data are not.
    let mut other = Client::new(cluster.door("edge1"), "Cmeter");
    other.connector = showing(&cluster, &ours, "Cother", good).connector;
    assert_eq!(other.ask(&Ask::retrieve("/-/meter/data")).await.status, 403);
    // Plain HTTP at the HTTPS door gets no answer, and harms nobody.
    let plain = onemec_tests::raw::raw(&cluster.door("edge1"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", false).await;
    assert!(!plain.contains("200"), "{plain}");
    meter.expect(201, &Ask::reading("/-/meter/data", 1)).await;
    cluster.assert_all_run();
}

/// A node takes devices of another authority than the cluster's where the topology says so, and then no others.
#[tokio::test]
async fn an_authority_of_devices_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("devices.pem");
    let good = Validity::starting(now_s() - 60, DAY);
    let devices = CaAuthority::create("local.onemec", good).unwrap();
    std::fs::write(&file, devices.certificate_pem()).unwrap();
    let cluster = Cluster::start_with(|t| {
        https(t);
        for node in &mut t.node {
            node.security.client_ca = Some(file.clone());
        }
    })
    .await;
    showing(&cluster, &devices, "Cmeter", good).register("meter").await;
    let mut stranger = showing(&cluster, &authority(&cluster, "local.onemec"), "Cother", good);
    assert!(stranger.send(&Ask::retrieve("/-")).await.is_err(), "the cluster's own authority is not believed");
}
