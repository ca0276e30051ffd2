//! Certificates: who gets in.

use std::sync::Arc;
use std::time::Duration;

use onemec_runtime::pki::{
    CaAuthority, ClientAuth, Credentials, Identity, NodeRequest, PkiError, Trust, Validity, Want,
    read_pem_certificates, read_pem_key, write_private, write_public,
};
use onemec_wire::NodeId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::world::*;

fn der(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
}

#[test]
fn a_chain_is_believed_only_within_its_domain_its_time_and_its_use() {
    let (ours, theirs, twin) = (ca("edge.test"), ca("other.test"), ca("edge.test"));
    let trust = Trust::new("edge.test", ours.certificate_pem()).unwrap();
    let now = now_s();
    let valid = Validity::starting(now, HOUR);
    let node = der(&ours.issue_node(NodeId(5), valid).unwrap().certificate_pem);
    for client in [true, false] {
        assert_eq!(trust.verify(&node, &[], now, client), Ok(Identity::node("edge.test", NodeId(5))));
    }
    assert_eq!(trust.verify(&node, &[], now + 3601, true), Err(PkiError::Expired));
    assert_eq!(trust.verify(&node, &[], now - 4000, true), Err(PkiError::NotYetValid));
    let foreign = der(&theirs.issue_node(NodeId(5), valid).unwrap().certificate_pem);
    assert_eq!(trust.verify(&foreign, &[], now, true), Err(PkiError::WrongDomain { found: "other.test".into() }));
    let forged = der(&twin.issue_node(NodeId(5), valid).unwrap().certificate_pem);
    assert_eq!(trust.verify(&forged, &[], now, true), Err(PkiError::WrongCa));
    let ae = der(&ours.issue_ae("Csensor", valid).unwrap().certificate_pem);
    assert_eq!(trust.verify(&ae, &[], now, true), Ok(Identity::ae("edge.test", "Csensor")));
    assert_eq!(trust.verify(&ae, &[], now, false), Err(PkiError::WrongUsage));
    let server = ours.issue_server(&["cse.edge.test".into()], &[[127, 0, 0, 1].into()], valid).unwrap();
    assert!(matches!(trust.verify(&der(&server.certificate_pem), &[], now, false), Err(PkiError::NoIdentity(_))));

    // A CA of another domain is trusted for names of that domain only.
    trust.set("other.test", theirs.certificate_pem()).unwrap();
    assert_eq!(trust.verify(&foreign, &[], now, true), Ok(Identity::node("other.test", NodeId(5))));
    let liar = CaAuthority::load("edge.test", theirs.certificate_pem(), theirs.key_pem()).unwrap();
    let lie = der(&liar.issue_node(NodeId(5), valid).unwrap().certificate_pem);
    assert_eq!(trust.verify(&lie, &[], now, true), Err(PkiError::WrongCa));
    trust.remove("other.test");
    assert!(trust.verify(&foreign, &[], now, true).is_err());
}

#[test]
fn keys_stay_with_their_owner() {
    use std::os::unix::fs::PermissionsExt;
    let folder = std::env::temp_dir().join(format!("onemec-pki-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (cert, key) = (folder.join("node.pem"), folder.join("node.key"));
    let ca = ca("edge.test");
    let request = NodeRequest::new().unwrap();
    let issued = ca.sign_node(&request.request_pem, NodeId(3), Validity::starting(now_s(), HOUR)).unwrap();
    assert!(issued.key_pem.is_empty());
    std::fs::write(&key, "old and readable").unwrap();
    write_public(&cert, &issued.certificate_pem).unwrap();
    write_private(&key, &request.key_pem).unwrap();
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read_pem_certificates(&cert).unwrap(), [der(&issued.certificate_pem)]);
    read_pem_key(&key).unwrap();
    let credentials = Credentials::from_files(&cert, &key).unwrap();
    let v = credentials.validity().unwrap();
    assert!(v.from_s < credentials.renew_at_s().unwrap() && credentials.renew_at_s().unwrap() < v.until_s);
    assert!(matches!(read_pem_key(&folder.join("none")), Err(PkiError::File { .. })));
    assert!(matches!(read_pem_key(&cert), Err(PkiError::Pem(_))));
    let other = NodeRequest::new().unwrap();
    assert!(matches!(credentials.replace(&issued.certificate_pem, &other.key_pem), Err(PkiError::Key(_))));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn certificates_are_renewed_while_running() {
    let ca = ca("edge.test");
    let short = Validity { from_s: now_s() - 10, until_s: now_s() + 2 };
    let (pki_a, pki_b) = (pki_valid(&ca, 1, short), pki_valid(&ca, 2, short));
    let mut soon = options(1);
    soon.tuning.dial_backoff_lasting_ms = 20;
    let a = Node::start(&pki_a, soon.clone());
    let b = Node::start(&pki_b, soon.clone());
    a.knows(&b);
    both_up_one_way(&a, &b).await;
    // Renewed, as the node does it after two thirds of the lifetime: the next connection uses the new certificates.
    for (pki, id) in [(&pki_a, 1), (&pki_b, 2)] {
        let new = ca.issue_node(NodeId(id), Validity::starting(now_s(), HOUR)).unwrap();
        pki.credentials().replace(&new.certificate_pem, &new.key_pem).unwrap();
    }
    until("the old certificates have expired", || now_s() > short.until_s).await;
    a.transport.ask(b.id(), onemec_runtime::transport::Lane::Control, hello(), PATIENCE).await.unwrap();
    let mut events = a.transport.events();
    b.transport.shutdown().await;
    loop {
        let event = tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().unwrap();
        if matches!(event, onemec_runtime::transport::Event::Down(..)) {
            break;
        }
    }
    soon.incarnation.0 = 2;
    let b = Node::start(&pki_b, soon);
    a.knows(&b);
    both_up_one_way(&a, &b).await;
}

async fn both_up_one_way(a: &Node, b: &Node) {
    until("connected", || a.transport.member(b.id()) == Some(b.transport.me()) && b.transport.connected(a.id())).await;
}

#[tokio::test]
async fn strangers_do_not_get_in() {
    let ours = ca("edge.test");
    let a = Node::start(&pki(&ours, 1), options(1));
    let expired = Validity { from_s: now_s() - 100, until_s: now_s() - 50 };
    let strangers = [
        ("another CA with the same domain", pki(&ca("edge.test"), 2)),
        ("another domain", pki(&ca("other.test"), 3)),
        ("expired", pki_valid(&ours, 4, expired)),
    ];
    for (what, pki) in strangers {
        // It believes us, to see that we do not believe it.
        pki.trust().set("edge.test", ours.certificate_pem()).unwrap();
        let before = a.transport.stats().handshakes_failed;
        let stranger = Node::start(&pki, options(1));
        stranger.knows(&a);
        until(what, || a.transport.stats().handshakes_failed > before + 1).await;
        assert!(!a.transport.connected(stranger.id()), "{what}");
        assert!(!stranger.transport.connected(a.id()), "{what}");
        stranger.transport.shutdown().await;
    }
    let friend = Node::start(&pki(&ours, 9), options(1));
    friend.knows(&a);
    both_up_one_way(&friend, &a).await;
}

#[tokio::test]
async fn an_impostor_at_the_address_is_not_taken_for_the_peer() {
    let ours = ca("edge.test");
    let (a, b) = (Node::start(&pki(&ours, 1), options(1)), Node::start(&pki(&ours, 2), options(1)));
    a.transport.set_peer(NodeId(3), vec![b.addr()]);
    until("b saw the dial fail", || b.transport.stats().handshakes_failed > 0).await;
    assert!(!a.transport.connected(NodeId(3)));
    // The right address comes later.
    let c = Node::start(&pki(&ours, 3), options(1));
    a.transport.set_peer(NodeId(3), vec![b.addr(), c.addr()]);
    both_up_one_way(&a, &c).await;
}

#[tokio::test]
async fn a_listener_knows_its_ae() {
    let ours = ca("edge.test");
    let pki = pki(&ours, 1);
    let valid = Validity::starting(now_s(), HOUR);
    let server = ours.issue_server(&["localhost".into()], &[], valid).unwrap();
    let server = Arc::new(Credentials::from_pem(&server.certificate_pem, &server.key_pem).unwrap());
    let config = pki.tls_server(server, ClientAuth::Required(Want::Client)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(ours.certificate_pem())).unwrap();
    let handshake = |issued: onemec_runtime::pki::Issued| {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(
                vec![der(&issued.certificate_pem)],
                rustls::pki_types::PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
            )
            .unwrap();
        let mut client = rustls::ClientConnection::new(Arc::new(client), "localhost".try_into().unwrap()).unwrap();
        let mut server = rustls::ServerConnection::new(Arc::new(config.clone())).unwrap();
        for _ in 0..10 {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            server.write_tls(&mut wire).unwrap();
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        Ok::<_, rustls::Error>(Identity::of(&server.peer_certificates().unwrap()[0]).unwrap())
    };
    let ae = handshake(ours.issue_ae("/cse-1/Csensor", valid).unwrap()).unwrap();
    assert_eq!(ae, Identity::ae("edge.test", "/cse-1/Csensor"));
    assert!(handshake(ours.issue_node(NodeId(4), valid).unwrap()).is_err(), "a node is no AE");
    let past = Validity::starting(now_s() - 7200, Duration::from_secs(60));
    assert!(matches!(
        handshake(ours.issue_ae("Cold", past).unwrap()),
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Expired))
    ));
}
