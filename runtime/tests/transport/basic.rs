//! Messages, questions, calls, transfers and datagrams between nodes that behave.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use onemec_runtime::transport::{AskError, Lane, Message, SendError, TransferError};
use onemec_wire::limits::{BODY_BYTES_MAX, LANE_FRAME_BYTES_MAX};
use onemec_wire::{CopyMeter, FailCode, NodeId, Rope, ServiceId};

use crate::world::*;

const LANES: [Lane; 4] = [Lane::Control, Lane::Replication, Lane::Move, Lane::Message];

#[tokio::test]
async fn tells_keep_their_order_on_each_lane() {
    let (a, b) = pair().await;
    b.echo.hold_tells.store(true, Ordering::Relaxed);
    let each = 2_000u64;
    for n in 0..each {
        for (l, lane) in LANES.into_iter().enumerate() {
            let body = Bytes::copy_from_slice(&[&n.to_le_bytes()[..], &[l as u8]].concat());
            let message = Message::new(ECHO, 5, body).with(Bytes::from(vec![l as u8; (n % 9) as usize * 1000]));
            a.transport.tell(b.id(), lane, message).unwrap();
        }
    }
    until("all tells came", || b.echo.told.lock().len() as u64 == each * 4).await;
    let told = b.echo.told.lock();
    for l in 0..4u8 {
        let lane: Vec<u64> = told
            .iter()
            .filter(|(_, m)| m.body[8] == l)
            .map(|(from, m)| {
                assert_eq!(*from, a.transport.me());
                let n = u64::from_le_bytes(m.body[..8].try_into().unwrap());
                assert_eq!(m.attachments[0], Rope::from(Bytes::from(vec![l; (n % 9) as usize * 1000])));
                n
            })
            .collect();
        assert!(lane.iter().copied().eq(0..each), "lane {l} lost its order");
    }
}

#[tokio::test]
async fn a_question_gets_its_answer_or_a_typed_error() {
    let (a, b) = pair().await;
    let ask = |text: &'static str, ms| {
        let message = Message::new(ECHO, 1, Bytes::from_static(text.as_bytes()));
        a.transport.ask(b.id(), Lane::Message, message, Duration::from_millis(ms))
    };
    assert_eq!(ask("ping", 10_000).await.unwrap().body, "ping");
    assert_eq!(ask("Hold", 30).await.unwrap_err(), AskError::Timeout);
    let no_answer = AskError::Refused { code: FailCode::NoAnswer.number(), text: String::new() };
    assert_eq!(ask("?", 10_000).await.unwrap_err(), no_answer);
    assert_eq!(ask("Panic", 10_000).await.unwrap_err(), no_answer);
    assert_eq!(b.transport.stats().service_panics, 1);
    assert_eq!(ask("X", 10_000).await.unwrap_err(), AskError::Refused { code: 0x123, text: "no".into() });
    let nobody = Message::new(ServiceId(999), 1, Bytes::new());
    let error = a.transport.ask(b.id(), Lane::Control, nobody, PATIENCE).await.unwrap_err();
    assert_eq!(error, AskError::NoHandler);
    assert!(error.is_certainly_not_done());
    let unknown = a.transport.ask(NodeId(99), Lane::Control, hello(), PATIENCE).await.unwrap_err();
    assert_eq!(unknown, AskError::NotSent(SendError::NotConnected));
    assert_eq!(ask("still here", 10_000).await.unwrap().body, "still here");
    assert_eq!(a.transport.peer_stats(b.id()).unwrap().asks_pending, 0, "a question that timed out is forgotten");
    let (_, late) = b.echo.held.lock().pop().unwrap();
    assert!(late.time_left().is_some());
    late.reply(Message::answer(Bytes::new()));
    assert_eq!(ask("again", 10_000).await.unwrap().body, "again");
}

#[tokio::test]
async fn many_questions_at_once_each_get_their_own_answer() {
    let (a, b) = pair().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..500u64 {
        let (t, to) = (a.transport.clone(), b.id());
        all.spawn(async move {
            let body = Bytes::from(format!("n{n}"));
            let answer = t.ask(to, Lane::Message, Message::new(ECHO, n, body.clone()), PATIENCE).await.unwrap();
            assert_eq!(answer.body, body);
        });
    }
    while let Some(done) = all.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
async fn peers_with_different_numbers_of_message_lanes_answer_each_other() {
    let ca = ca("edge.test");
    let (mut one, mut many) = (options(1), options(1));
    one.tuning.message_lanes = 1;
    many.tuning.message_lanes = 8;
    let (a, b) = (Node::start(&pki(&ca, 1), one), Node::start(&pki(&ca, 2), many));
    a.knows(&b);
    both_up_from(&a, &b).await;
    for (x, y) in [(&a, &b), (&b, &a)] {
        for target in 0..40 {
            let message = Message::new(ECHO, target, Bytes::from_static(b"x"));
            x.transport.ask(y.id(), Lane::Message, message, PATIENCE).await.unwrap();
        }
    }
}

async fn both_up_from(a: &Node, b: &Node) {
    until("connected", || a.transport.connected(b.id()) && b.transport.connected(a.id())).await;
}

#[tokio::test]
async fn a_large_call_comes_back_whole() {
    // Made before there are connections: one thread does everything here, and they would time out in the meantime.
    let payload = Bytes::from(b"all work and no play makes a dull edge".repeat(500_000));
    let (a, b) = pair().await;
    let message = Message::new(ECHO, 0, Bytes::from_static(b"big")).with(payload.clone());
    let answer = a.transport.call(b.id(), message, PATIENCE).await;
    let answer = answer.unwrap_or_else(|e| panic!("{e} {:?} {:?}", a.transport.stats(), b.transport.stats()));
    assert_eq!(answer.attachments, [Rope::from(payload.clone())]);
    assert!(answer.attachments[0].chunk_count() > 1);
    let meter = CopyMeter::new();
    assert_eq!(answer.attachments[0].to_contiguous(&meter), payload);

    let mut events = a.transport.events();
    let too_long = Message::new(ECHO, 0, Bytes::new()).with(Bytes::from(vec![0; 65 << 20]));
    let error = a.transport.call(b.id(), too_long, PATIENCE).await.unwrap_err();
    assert!(matches!(error, AskError::NotSent(SendError::TooLong { .. })));
    let held = Message::new(ECHO, 0, Bytes::from_static(b"H"));
    let error = a.transport.call(b.id(), held, Duration::from_millis(30)).await.unwrap_err();
    assert_eq!(error, AskError::Timeout);
    let refused = a.transport.call(b.id(), Message::new(ECHO, 0, Bytes::from_static(b"X")), PATIENCE).await;
    assert_eq!(refused.unwrap_err(), AskError::Refused { code: 0x123, text: "no".into() });
    let alive = a.transport.ask(b.id(), Lane::Control, hello(), PATIENCE).await;
    assert!(alive.is_ok(), "{alive:?} {:?}", events.try_recv());
    assert_eq!(b.transport.stats().breaches, 0, "a call that was given up is no breach");
}

#[tokio::test]
async fn a_transfer_of_64_mib_arrives_as_it_was_sent() {
    let chunk = Bytes::from((0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<_>>());
    let (a, b) = pair().await;
    let mut sink = a.transport.open_transfer(b.id(), ECHO, 0, Bytes::from_static(b"model")).await.unwrap();
    let mut sum = 0;
    for _ in 0..64 {
        sum = crc(sum, &chunk);
        sink.write_one(chunk.clone()).await.unwrap();
    }
    assert_eq!(sink.sent_bytes(), 64 << 20);
    let answer = sink.finish().await.unwrap();
    assert_eq!(answer, Rope::from(Bytes::copy_from_slice(&sum.to_le_bytes())));
}

#[tokio::test]
async fn a_transfer_can_be_refused_dropped_and_aborted() {
    let (a, b) = pair().await;
    for to in [b.id(), a.id()] {
        for (header, empty) in [("X", true), ("X", false), ("D", false)] {
            let header = Bytes::from_static(header.as_bytes());
            let refused = header == "X";
            let mut sink = a.transport.open_transfer(to, ECHO, 0, header).await.unwrap();
            let mut failed = None;
            for _ in 0..if empty { 0 } else { 200 } {
                if let Err(error) = sink.write_one(Bytes::from(vec![1; 1 << 20])).await {
                    failed = Some(error);
                    break;
                }
            }
            let error = match failed {
                Some(error) => error,
                None => sink.finish().await.unwrap_err(),
            };
            let expected = if refused {
                TransferError::Refused { code: 0x321, text: "not now".into() }
            } else {
                TransferError::Aborted
            };
            assert_eq!(error, expected);
        }
    }
    drop(a.transport.open_transfer(b.id(), ECHO, 0, Bytes::new()).await.unwrap());
    let nobody = a.transport.open_transfer(b.id(), ServiceId(999), 0, Bytes::new()).await.unwrap();
    let code = FailCode::NoHandler.number();
    assert!(matches!(nobody.finish().await.unwrap_err(), TransferError::Refused { code: c, .. } if c == code));
    let sink = a.transport.open_transfer(b.id(), ECHO, 0, Bytes::new()).await.unwrap();
    sink.finish().await.unwrap();
    assert_eq!(b.transport.stats().breaches, 0);
}

#[tokio::test]
async fn messages_to_oneself_take_the_short_way() {
    let (a, _b) = pair().await;
    let me = a.id();
    let payload = Bytes::from(vec![7; 100]);
    let message = Message::new(ECHO, 0, Bytes::from_static(b"x")).with(payload.clone());
    let answer = a.transport.ask(me, Lane::Message, message, PATIENCE).await.unwrap();
    let piece = answer.attachments[0].chunks().next().unwrap().clone();
    assert_eq!(piece.as_ptr(), payload.as_ptr(), "not even copied");
    a.transport.tell(me, Lane::Control, hello()).unwrap();
    assert_eq!(a.echo.tells.load(Ordering::Relaxed), 1);
    let held = Message::new(ECHO, 0, Bytes::from_static(b"H"));
    assert_eq!(
        a.transport.ask(me, Lane::Message, held, Duration::from_millis(5)).await.unwrap_err(),
        AskError::Timeout
    );
    let mut sink = a.transport.open_transfer(me, ECHO, 0, Bytes::new()).await.unwrap();
    sink.write_one(payload.clone()).await.unwrap();
    let sum = Bytes::copy_from_slice(&crc(0, &payload).to_le_bytes());
    assert_eq!(sink.finish().await.unwrap(), Rope::from(sum));
    assert!(a.transport.connected(me));
}

#[tokio::test]
async fn datagrams_arrive_or_are_refused_for_their_length() {
    let (a, b) = pair().await;
    until("one arrived", || {
        a.transport.datagram(b.id(), ECHO, Bytes::from_static(b"beat")).unwrap();
        b.echo.datagrams.lock().iter().any(|d| d == "beat")
    })
    .await;
    let error = a.transport.datagram(b.id(), ECHO, Bytes::from(vec![0; 70_000])).unwrap_err();
    assert!(matches!(error, SendError::TooLong { .. }));
}

#[tokio::test]
async fn a_full_queue_is_said_and_ends_when_messages_are_dropped() {
    let (a, b) = pair().await;
    b.echo.hold_tells.store(true, Ordering::Relaxed);
    let payload = Bytes::from(vec![1u8; 1 << 20]);
    let mut sent = 0u64;
    let end = tokio::time::Instant::now() + PATIENCE;
    // The service holds what it gets: after the window of credit nothing more is taken, however long one tries.
    let mut full_since: Option<u64> = None;
    while full_since != Some(b.echo.tells.load(Ordering::Relaxed)) || sent != b.echo.tells.load(Ordering::Relaxed) {
        assert!(tokio::time::Instant::now() < end);
        match a.transport.tell(b.id(), Lane::Message, Message::new(ECHO, 1, Bytes::new()).with(payload.clone())) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error, SendError::QueueFull);
                full_since = Some(b.echo.tells.load(Ordering::Relaxed));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
    assert!((24..=32).contains(&sent), "{sent} messages of 1 MiB for 32 MiB of credit");
    // What has its own lane does not notice.
    a.transport.ask(b.id(), Lane::Control, hello(), PATIENCE).await.unwrap();
    a.transport.tell(b.id(), Lane::Replication, hello()).unwrap();
    b.echo.told.lock().clear();
    let again = || a.transport.tell(b.id(), Lane::Message, Message::new(ECHO, 1, Bytes::new()).with(payload.clone()));
    until("credit came back", || again().is_ok()).await;

    let too_long = Message::new(ECHO, 1, Bytes::from(vec![0; BODY_BYTES_MAX + 1]));
    assert!(matches!(a.transport.tell(b.id(), Lane::Move, too_long), Err(SendError::TooLong { .. })));
    let too_long = Message::new(ECHO, 1, Bytes::new()).with(Bytes::from(vec![0; LANE_FRAME_BYTES_MAX]));
    assert!(matches!(a.transport.tell(b.id(), Lane::Move, too_long), Err(SendError::TooLong { .. })));
}

#[tokio::test]
async fn too_many_open_questions_are_refused() {
    let (a, b) = pair_with(|o| o.tuning.asks_pending_max = 3).await;
    let held = || Message::new(ECHO, 1, Bytes::from_static(b"H"));
    let asks: Vec<_> = (0..3)
        .map(|_| {
            let (t, to) = (a.transport.clone(), b.id());
            tokio::spawn(async move { t.ask(to, Lane::Move, held(), PATIENCE).await })
        })
        .collect();
    until("three wait", || b.echo.held.lock().len() == 3).await;
    let error = a.transport.ask(b.id(), Lane::Move, held(), PATIENCE).await.unwrap_err();
    assert_eq!(error, AskError::NotSent(SendError::QueueFull));
    b.echo.held.lock().drain(..).for_each(|(_, reply)| reply.reply(Message::answer(Bytes::new())));
    for ask in asks {
        ask.await.unwrap().unwrap();
    }
}
