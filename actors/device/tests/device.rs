//! The device against a programmed CSE: what it sends, and what it does when things go wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs, helpers included

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use onemec_device::{
    AeClient, Device, DeviceError, DeviceOptions, MemorySink, Outcome, Pace, PlainClient, PlainOptions, Reading, Switch,
};
use serde_json::json;
use support::{Action, Mock, created, first_steps, until, yes};

fn options(mock: &Mock) -> DeviceOptions {
    let mut o = DeviceOptions::new(mock.endpoint.clone(), "C", "dev");
    o.attempt_ms_max = 150;
    o.backoff_ms_max = 20;
    o.seed = 7;
    o
}

async fn ready(o: DeviceOptions) -> (AeClient, String) {
    let mut client = AeClient::new(o);
    assert_eq!(client.register().await.unwrap(), "Cdev");
    let container = client.create_container("data", None).await.unwrap();
    (client, container)
}

#[tokio::test]
async fn a_write_after_trouble_is_the_same_request_with_the_same_mark() {
    let troubles = Arc::new(AtomicU32::new(0));
    let count = troubles.clone();
    let mock = Mock::start(Arc::new(move |seen| {
        first_steps(seen, &[]).unwrap_or_else(|| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Action::Answer(503, vec![("x-onemec-retry-ms", "3".into())], String::new()),
            1 => Action::Answer(504, vec![("retry-after", "0".into())], String::new()),
            2 => Action::Break,
            3 => Action::Hang,
            _ => created(&[]),
        })
    }))
    .await;
    let (mut client, container) = ready(options(&mock)).await;
    let event = client.write(&container, 1, &json!({"n": 1})).await;
    assert_eq!((event.outcome, event.attempts), (Outcome::Acknowledged, 5));
    let writes = mock.writes();
    assert_eq!(writes.len(), 5);
    for w in &writes {
        assert_eq!(w.path, "/cnt1");
        assert_eq!(w.body["m2m:cin"]["con"], r#"{"n":1}"#);
        assert_eq!(w.header("x-m2m-origin"), "Cdev");
        assert_eq!(w.header("x-m2m-ri"), event.request);
        assert_eq!(w.header("x-onemec-repeat"), writes[0].header("x-onemec-repeat"));
        assert!(w.header("x-onemec-repeat").parse::<u64>().unwrap() > 1_600_000_000_000);
    }
    assert_eq!(client.meter().counters.retried, 4);
    let next = client.write(&container, 2, &json!({"n": 2})).await;
    assert_ne!(next.request, event.request);
}

#[tokio::test]
async fn no_answer_until_the_mark_runs_out_is_unknown_not_lost() {
    let mock = Mock::start(Arc::new(|seen| {
        first_steps(seen, &[]).unwrap_or(Action::Answer(503, vec![("x-onemec-retry-ms", "1".into())], "no".into()))
    }))
    .await;
    let mut o = options(&mock);
    o.repeat_ms = 100;
    let (mut client, container) = ready(o).await;
    let event = client.write(&container, 1, &json!(1)).await;
    assert_eq!(event.outcome, Outcome::Unknown);
    assert!(event.attempts > 1);
    assert_eq!(client.meter().counters.unknown, 1);
}

#[tokio::test]
async fn steering_is_followed_make_before_break() {
    let target = Mock::start(yes(vec![])).await;
    let steer = vec![("x-onemec-home", format!("{};epoch=2", target.endpoint))];
    let source = Mock::start(Arc::new(move |seen| first_steps(seen, &[]).unwrap_or_else(|| created(&steer)))).await;
    let (client, container) = ready(options(&source)).await;
    let sink = Arc::new(MemorySink::new(10_000));
    let device = Device::start(client, container, sink.clone()).unwrap();
    let mut n = 0;
    until("writes arrive at the new home", || {
        n += 1;
        device.offer(Reading { number: n, content: json!({"n": n}) });
        target.writes().len() > 3
    })
    .await;
    let report = device.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.moves.len(), 1);
    let seen = &report.moves[0];
    assert_eq!((seen.kind, seen.epoch, seen.to.clone()), (Switch::Steered, 2, target.endpoint.to_string()));
    assert!(seen.first_ack_us >= seen.noticed_us && seen.gap_us > 0);
    let events = sink.events();
    assert!(events.iter().all(|e| e.outcome == Outcome::Acknowledged && e.attempts == 1));
    assert!(events.windows(2).all(|w| w[0].number + 1 == w[1].number), "order is kept");
}

#[tokio::test]
async fn a_dead_host_is_left_for_a_peer() {
    let peer = Mock::start(yes(vec![])).await;
    let host = Mock::start(yes(vec![("x-onemec-peers", format!("http://127.0.0.1:1, {}", peer.endpoint))])).await;
    let (mut client, container) = ready(options(&host)).await;
    assert_eq!(client.write(&container, 1, &json!(1)).await.outcome, Outcome::Acknowledged);
    host.kill();
    let event = client.write(&container, 2, &json!(2)).await;
    assert_eq!(event.outcome, Outcome::Acknowledged);
    assert_eq!(peer.writes()[0].header("x-m2m-ri"), event.request);
    assert_eq!(client.moves()[0].kind, Switch::Fallback);
    assert_eq!(client.at(), &peer.endpoint);
}

#[tokio::test]
async fn row_h04_s04_device_moves_itself_with_its_token() {
    let target = Mock::start(yes(vec![("x-onemec-token", "t2".into())])).await;
    let source = Mock::start(yes(vec![("x-onemec-token", "t1".into())])).await;
    let (client, container) = ready(options(&source)).await;
    let device = Device::start(client, container, Arc::new(MemorySink::new(1000))).unwrap();
    device.move_to(target.endpoint.clone()).await.unwrap();
    device.offer(Reading { number: 1, content: json!(1) });
    until("the write arrives", || !target.writes().is_empty()).await;
    let registration = target.seen.lock()[0].clone();
    assert_eq!((registration.method.as_str(), registration.path.as_str()), ("POST", "/-"));
    assert_eq!(registration.header("x-onemec-handover"), "t1");
    assert_eq!(registration.header("x-m2m-origin"), "Cdev");
    let report = device.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(report.moves[0].kind, Switch::Own);
}

#[tokio::test]
async fn a_token_that_holds_no_longer_is_replaced_by_a_fresh_one() {
    let target = Mock::start(Arc::new(|seen| match (seen.method.as_str(), seen.header("x-onemec-handover")) {
        ("GET", _) if seen.path == "/Cdev" => {
            Action::Answer(200, vec![("x-onemec-token", "fresh".into())], r#"{"m2m:ae":{"aei":"Cdev"}}"#.into())
        }
        ("POST", "fresh") => Action::Answer(201, vec![("x-onemec-token", "next".into())], "{}".into()),
        _ => Action::Answer(403, vec![("x-m2m-rsc", "4106".into())], "token-expired".into()),
    }))
    .await;
    let source = Mock::start(yes(vec![("x-onemec-token", "old".into())])).await;
    let (mut client, _) = ready(options(&source)).await;
    client.move_to(target.endpoint.clone()).await.unwrap();
    assert_eq!((client.at(), client.token()), (&target.endpoint, Some("next")));
    let requests: Vec<_> = target.seen.lock().iter().map(|s| s.header("x-m2m-ri").to_owned()).collect();
    assert_eq!(requests.len(), 3);
    assert_ne!(requests[0], requests[2], "another request, not a repeated one");
}

#[tokio::test]
async fn row_g05_a_lost_race_names_the_winner_and_the_device_goes_on() {
    let target = Mock::start(Arc::new(|_| {
        Action::Answer(409, vec![("x-onemec-home", "http://127.0.0.1:9;epoch=9".into())], "taken".into())
    }))
    .await;
    let source = Mock::start(yes(vec![("x-onemec-token", "t1".into())])).await;
    let (mut client, container) = ready(options(&source)).await;
    match client.move_to(target.endpoint.clone()).await {
        Err(DeviceError::Refused { status: 409, home: Some(home), .. }) => assert_eq!(home, "http://127.0.0.1:9"),
        other => panic!("{other:?}"),
    }
    assert_eq!(client.write(&container, 1, &json!(1)).await.outcome, Outcome::Acknowledged);
}

#[tokio::test]
async fn registration_that_exists_is_taken_up() {
    let mock = Mock::start(Arc::new(|seen| match (seen.method.as_str(), seen.path.as_str()) {
        ("GET", "/-/dev") => Action::Answer(200, vec![], r#"{"m2m:ae":{"aei":"Cdev"}}"#.into()),
        ("GET", "/-/dev/data") => Action::Answer(200, vec![], r#"{"m2m:cnt":{"ri":"cnt9"}}"#.into()),
        _ if seen.header("content-type").ends_with("ty=2") => {
            Action::Answer(403, vec![("x-m2m-rsc", "4117".into())], String::new())
        }
        _ => Action::Answer(409, vec![("x-m2m-rsc", "4105".into())], String::new()),
    }))
    .await;
    let mut o = options(&mock);
    o.originator = "Cdev".into();
    let mut client = AeClient::new(o);
    assert_eq!(client.register().await.unwrap(), "Cdev");
    assert_eq!(client.create_container("data", Some(10)).await.unwrap(), "cnt9");
    let mut other = options(&mock);
    other.originator = "Cother".into();
    assert!(matches!(AeClient::new(other).register().await, Err(DeviceError::Refused { rsc: 4117, .. })));
}

#[tokio::test]
async fn a_write_that_is_cut_off_at_the_end_is_in_the_history() {
    let silent = Mock::start(Arc::new(|seen| first_steps(seen, &[]).unwrap_or(Action::Hang))).await;
    let mut o = options(&silent);
    o.attempt_ms_max = 60_000;
    let (client, container) = ready(o).await;
    let sink = Arc::new(MemorySink::new(1000));
    let device = Device::start(client, container, sink.clone()).unwrap();
    device.offer(Reading { number: 1, content: json!(1) });
    device.offer(Reading { number: 2, content: json!(2) });
    until("the write arrives", || !silent.writes().is_empty()).await;
    let report = device.finish(Duration::from_millis(20)).await.unwrap();
    let outcomes: Vec<_> = sink.events().iter().map(|e| (e.number, e.outcome, e.attempts)).collect();
    assert_eq!(outcomes, [(1, Outcome::Unknown, 1)]);
    assert_eq!(report.left_in_buffer, 1);

    let mut o = plain(&silent, &silent);
    o.answer_ms_max = 60_000;
    let mut client = PlainClient::new(o);
    client.register().await.unwrap();
    let (end, ended) = tokio::sync::watch::channel(None);
    let sink = Arc::new(MemorySink::new(1000));
    let run = tokio::spawn(client.run(|n| json!({"n": n}), sink.clone(), ended));
    until("the write arrives", || silent.writes().len() > 1).await;
    end.send(Some(tokio::time::Instant::now())).unwrap();
    run.await.unwrap();
    let outcomes: Vec<_> = sink.events().iter().map(|e| (e.number, e.outcome)).collect();
    assert_eq!(outcomes, [(1, Outcome::Unknown)]);
}

#[tokio::test]
async fn a_refusal_after_an_attempt_whose_end_was_not_seen_is_unknown() {
    let count = Arc::new(AtomicU32::new(0));
    let mock = Mock::start(Arc::new(move |seen| {
        first_steps(seen, &[]).unwrap_or_else(|| match count.fetch_add(1, Ordering::SeqCst) {
            0 => Action::Break,
            _ => Action::Answer(403, vec![], "no".into()),
        })
    }))
    .await;
    let (mut client, container) = ready(options(&mock)).await;
    assert_eq!(client.write(&container, 1, &json!(1)).await.outcome, Outcome::Unknown);
    assert_eq!(client.write(&container, 2, &json!(2)).await.outcome, Outcome::Refused);
}

fn plain(first: &Mock, second: &Mock) -> PlainOptions {
    PlainOptions {
        addresses: vec![first.endpoint.clone(), second.endpoint.clone()],
        connector: Default::default(),
        originator: "Cdev".into(),
        name: "dev".into(),
        node_link: None,
        container: "data".into(),
        cse_id: "/edge1".into(),
        bearer: None,
        pace: Pace::new(Duration::from_millis(1)),
        answer_ms_max: 1000,
        reconnect_ms: 5,
        window_ms: 100,
        origin: std::time::Instant::now(),
    }
}

#[tokio::test]
async fn the_plain_client_never_repeats_and_ignores_steering() {
    let count = Arc::new(AtomicU32::new(0));
    let counter = count.clone();
    let steer = vec![("x-onemec-home", "http://127.0.0.1:1;epoch=5".to_owned())];
    let host = Mock::start(Arc::new(move |seen| {
        first_steps(seen, &[]).unwrap_or_else(|| match counter.fetch_add(1, Ordering::SeqCst) {
            2 => Action::Answer(503, vec![], String::new()),
            4 => Action::Break,
            _ => created(&steer),
        })
    }))
    .await;
    let second = Mock::start(yes(vec![])).await;
    let mut client = PlainClient::new(plain(&host, &second));
    client.register().await.unwrap();
    let (end, ended) = tokio::sync::watch::channel(None);
    let sink = Arc::new(MemorySink::new(1_000_000));
    let run = tokio::spawn(client.run(|n| json!({"n": n}), sink.clone(), ended));
    until("ten writes", || sink.len() >= 10).await;
    host.kill();
    until("the second address is used", || second.writes().len() > 3).await;
    end.send(Some(tokio::time::Instant::now() + Duration::from_secs(5))).unwrap();
    let report = run.await.unwrap();
    let events = sink.events();
    let outcomes: Vec<_> = events.iter().take(6).map(|e| e.outcome).collect();
    use Outcome::{Acknowledged as A, Refused as R, Unknown as U};
    assert_eq!(outcomes, [A, A, R, A, U, A]);
    assert!(report.errors_seen >= 2 && report.meter.counters.switches >= 1);
    for w in host.writes().iter().chain(&second.writes()) {
        assert_eq!(w.path, "/~/edge1/-/dev/data");
        assert!(w.headers.keys().all(|k| !k.as_str().starts_with("x-onemec")));
    }
    let mut requests: Vec<_> = events.iter().map(|e| e.request.clone()).collect();
    requests.dedup();
    assert_eq!(requests.len(), events.len());
}
