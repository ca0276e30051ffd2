//! Connections come, cross, break and come back.

use std::time::Duration;

use bytes::Bytes;
use onemec_runtime::transport::{AskError, DownReason, Event, Lane, Message, SendError};
use onemec_wire::{CloseCode, Member, NodeId};
use tokio::sync::broadcast::Receiver;

use crate::world::*;

async fn next(events: &mut Receiver<Event>) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").unwrap()
}

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_end_with_one_connection_each() {
    for _ in 0..10 {
        let ca = ca("edge.test");
        let nodes: Vec<_> = (1..=3).map(|id| Node::start(&pki(&ca, id), options(1))).collect();
        for x in &nodes {
            for y in &nodes {
                if x.id() != y.id() {
                    x.knows(y);
                }
            }
        }
        for (n, x) in nodes.iter().enumerate() {
            for y in &nodes[n + 1..] {
                both_up(x, y).await;
            }
        }
        // Nothing flaps: whoever is up stays up.
        let mut events: Vec<_> = nodes.iter().map(|n| n.transport.events()).collect();
        for x in &nodes {
            for y in nodes.iter().filter(|y| y.id() != x.id()) {
                for _ in 0..50 {
                    x.transport.ask(y.id(), Lane::Message, hello(), PATIENCE).await.unwrap();
                }
            }
        }
        for events in &mut events {
            assert!(events.try_recv().is_err());
        }
        for node in nodes {
            node.transport.shutdown().await;
        }
    }
}

#[tokio::test]
async fn a_node_that_was_restarted_is_found_again_under_its_new_boot() {
    let ca = ca("edge.test");
    let (a, mut b) = (Node::start(&pki(&ca, 1), options(1)), Node::start(&pki(&ca, 2), options(1)));
    a.knows(&b);
    let mut events = a.transport.events();
    assert_eq!(next(&mut events).await, Event::Up(Member::new(2, 1)));
    for boot in 2..5 {
        let address = b.addr();
        let held = {
            let t = a.transport.clone();
            let message = Message::new(ECHO, 0, Bytes::from_static(b"H"));
            tokio::spawn(async move { t.ask(NodeId(2), Lane::Message, message, PATIENCE).await })
        };
        until("b holds the question", || b.echo.held.lock().len() == 1).await;
        b.transport.shutdown().await;
        let down = next(&mut events).await;
        let reason = DownReason::ClosedByPeer(CloseCode::Shutdown);
        assert_eq!(down, Event::Down(Member::new(2, boot - 1), reason));
        assert_eq!(held.await.unwrap().unwrap_err(), AskError::Disconnected { maybe_delivered: true });
        let error = a.transport.tell(NodeId(2), Lane::Control, hello()).unwrap_err();
        assert_eq!(error, SendError::NotConnected);
        drop(b);
        let mut options = options(boot);
        options.listen = address;
        // In one process the old socket is closed a moment after its last user.
        until("the address is free", || std::net::UdpSocket::bind(address).is_ok()).await;
        b = Node::start(&pki(&ca, 2), options);
        assert_eq!(next(&mut events).await, Event::Up(Member::new(2, boot)));
        a.transport.ask(NodeId(2), Lane::Message, hello(), PATIENCE).await.unwrap();
    }
    assert_eq!(a.transport.peer_stats(NodeId(2)).unwrap().member, Some(Member::new(2, 4)));
}

#[tokio::test]
async fn an_older_boot_is_refused_while_a_newer_one_is_known() {
    let ca = ca("edge.test");
    let a = Node::start(&pki(&ca, 1), options(1));
    let new = Node::start(&pki(&ca, 2), options(7));
    new.knows(&a);
    until("the new boot is up", || a.transport.member(NodeId(2)) == Some(Member::new(2, 7))).await;
    let old = Node::start(&pki(&ca, 2), options(6));
    old.knows(&a);
    until("the old one failed", || a.transport.stats().handshakes_failed > 1).await;
    assert_eq!(a.transport.member(NodeId(2)), Some(Member::new(2, 7)));
    let newer = Node::start(&pki(&ca, 2), options(8));
    newer.knows(&a);
    until("the newest took over", || a.transport.member(NodeId(2)) == Some(Member::new(2, 8))).await;
}

#[tokio::test]
async fn a_silent_peer_is_noticed_and_what_never_left_is_known_as_such() {
    let ca = ca("edge.test");
    // b runs on a runtime of its own, which is stopped like a machine that loses its power.
    let power = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut b_options = options(1);
    b_options.runtime = power.handle().clone();
    b_options.tuning.idle_timeout_ms = 1_000;
    let b = Node::start(&pki(&ca, 2), b_options);
    let a = Node::start(&pki(&ca, 1), options(1));
    a.knows(&b);
    let mut events = a.transport.events();
    assert_eq!(next(&mut events).await, Event::Up(Member::new(2, 1)));
    power.shutdown_background();
    // The other runtime finishes what it is at: the first questions may still be answered.
    let first_failure = async {
        loop {
            if let Err(e) = a.transport.ask(NodeId(2), Lane::Control, hello(), PATIENCE).await {
                return e;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE * 2, first_failure).await.unwrap();
    assert!(matches!(error, AskError::Disconnected { .. }), "{error:?}");
    assert!(matches!(next(&mut events).await, Event::Down(..)));
}

#[tokio::test]
async fn what_never_left_the_queue_was_certainly_not_delivered() {
    let (a, b) = pair().await;
    // Questions are queued, and the peer is removed before the writer's task runs: this test has one thread.
    let asks: Vec<_> = (0..10)
        .map(|_| {
            let (t, to) = (a.transport.clone(), b.id());
            Box::pin(async move { t.ask(to, Lane::Message, hello(), PATIENCE).await })
        })
        .collect();
    let all = async {
        let mut set = Vec::new();
        for ask in asks {
            set.push(ask.await);
        }
        set
    };
    tokio::pin!(all);
    let first = std::future::poll_fn(|cx| std::task::Poll::Ready(all.as_mut().poll(cx).is_pending())).await;
    assert!(first);
    a.transport.remove_peer(b.id());
    let results = all.await;
    // quinn closes at once: the first was queued and never taken.
    assert!(matches!(results[0], Err(AskError::Disconnected { .. })), "{results:?}");
    assert!(results[1..].iter().all(|r| r.as_ref().unwrap_err().is_certainly_not_done()), "{results:?}");
}

#[tokio::test]
async fn a_removed_peer_is_gone_and_a_new_address_is_followed() {
    let ca = ca("edge.test");
    let (a, b) = (Node::start(&pki(&ca, 1), options(1)), Node::start(&pki(&ca, 2), options(1)));
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    a.transport.set_peer(b.id(), vec![nobody.local_addr().unwrap()]);
    assert!(!a.transport.connected(b.id()));
    a.transport.set_peer(b.id(), vec![nobody.local_addr().unwrap(), b.addr()]);
    until("the second address was tried", || a.transport.connected(b.id())).await;
    let mut events = b.transport.events();
    a.transport.remove_peer(b.id());
    assert!(matches!(next(&mut events).await, Event::Down(_, DownReason::ClosedByPeer(CloseCode::PeerRemoved))));
    assert!(a.transport.peer_stats(b.id()).is_none());
    until("b forgets who was never configured", || b.transport.peer_stats(a.id()).is_none()).await;
}

#[tokio::test]
async fn statistics_count_what_was_sent() {
    let (a, b) = pair().await;
    let before = b.transport.peer_stats(a.id()).unwrap();
    for _ in 0..100 {
        a.transport.ask(b.id(), Lane::Message, hello(), Duration::from_secs(5)).await.unwrap();
    }
    let (at_a, at_b) = (a.transport.peer_stats(b.id()).unwrap(), b.transport.peer_stats(a.id()).unwrap());
    assert!(at_b.received_messages - before.received_messages >= 100);
    assert!(at_a.sent_bytes >= 100 * 37 && at_a.rtt_us > 0 && at_a.connections >= 2);
    assert_eq!(at_a.queued_bytes, [0; 5]);
    assert_eq!(a.transport.peers().len(), 1);
}
