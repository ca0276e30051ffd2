//! Subscriptions and notifications (rules.md 8), received by a real HTTP server.

use std::sync::Arc;

use onemec_onem2m::Ty;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::{World, until};

/// What a [`Receiver`] does with a request.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    /// Answers with this status.
    Answer(u16),
    /// Closes the connection.
    HangUp,
    /// Takes the request and says nothing.
    Silence,
}

/// An AE's server: keeps what it gets, verification requests apart from notifications.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<(String, Value)>>>,
    asked: Arc<Mutex<Vec<Value>>>,
    refused: Arc<Mutex<usize>>,
    mood: Arc<Mutex<Mood>>,
}

impl Receiver {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let got: Arc<Mutex<Vec<(String, Value)>>> = Arc::default();
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let refused: Arc<Mutex<usize>> = Arc::default();
        let mood = Arc::new(Mutex::new(Mood::Answer(2000)));
        let (seen, verify, hung_up, now) = (got.clone(), asked.clone(), refused.clone(), mood.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (seen, verify, hung_up, now) = (seen.clone(), verify.clone(), hung_up.clone(), now.clone());
                tokio::spawn(async move {
                    let mut raw = Vec::new();
                    let mut buffer = [0u8; 4096];
                    while let Ok(n) = stream.read(&mut buffer).await {
                        if n == 0 {
                            return;
                        }
                        raw.extend_from_slice(&buffer[..n]);
                        let Some(end) = raw.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
                        let head = String::from_utf8_lossy(&raw[..end]).to_lowercase();
                        let length: usize = head
                            .lines()
                            .find_map(|l| l.strip_prefix("content-length:"))
                            .map_or(0, |v| v.trim().parse().unwrap());
                        if raw.len() < end + 4 + length {
                            continue;
                        }
                        let body: Value = serde_json::from_slice(&raw[end + 4..end + 4 + length]).unwrap();
                        raw.drain(..end + 4 + length);
                        let rqi =
                            head.lines().find_map(|l| l.strip_prefix("x-m2m-ri:")).unwrap_or("").trim().to_owned();
                        let rsc = match *now.lock() {
                            Mood::Answer(rsc) => rsc,
                            Mood::HangUp => {
                                *hung_up.lock() += 1;
                                return;
                            }
                            Mood::Silence => continue,
                        };
                        if body["m2m:sgn"]["vrq"] == true {
                            verify.lock().push(body["m2m:sgn"].clone());
                        } else {
                            seen.lock().push((rqi, body));
                        }
                        let status = if rsc == 2000 { "200 OK" } else { "403 Forbidden" };
                        let answer = format!(
                            "HTTP/1.1 {status}\r\nX-M2M-RSC: {rsc}\r\nX-M2M-RI: x\r\nContent-Length: 0\r\n\r\n"
                        );
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                });
            }
        });
        Self { url, got, asked, refused, mood }
    }

    fn answers(&self, rsc: u16) {
        *self.mood.lock() = Mood::Answer(rsc);
    }

    /// Waits until there are `count` notifications.
    async fn wait(&self, count: usize) -> Vec<Value> {
        until("notifications", || self.got.lock().len() >= count).await;
        let got: Vec<Value> = self.got.lock().iter().map(|(_, v)| v["m2m:sgn"].clone()).collect();
        assert_eq!(got.len(), count, "{got:?}");
        got
    }
}

async fn subscribed(net: Value, more: Value) -> (World, Receiver) {
    let world = World::one().await;
    let receiver = Receiver::start().await;
    world.ae_with_container("Cone", "one").await;
    let mut sub = json!({"rn": "sub", "nu": [receiver.url], "enc": {"net": net}});
    sub.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.created("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, json!({"m2m:sub": sub})).await;
    (world, receiver)
}

#[tokio::test]
async fn net_3_tells_of_children_in_order() {
    let (world, receiver) = subscribed(json!([3]), json!({})).await;
    for i in 0..20 {
        world.instance("cse-a/one/data", "Cone", &i.to_string()).await;
    }
    let got = receiver.wait(20).await;
    for (i, sgn) in got.iter().enumerate() {
        assert_eq!(sgn["nev"]["rep"]["m2m:cin"]["con"], i.to_string(), "{sgn}");
        assert_eq!((&sgn["nev"]["net"], &sgn["sur"]), (&json!(3), &json!("/id-a/cse-a/one/data/sub")));
    }
    let mut ids: Vec<String> = receiver.got.lock().iter().map(|(id, _)| id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 20, "each has an id of its own");
}

#[tokio::test]
async fn net_1_with_modified_attributes_and_atr() {
    let (world, receiver) = subscribed(json!([1]), json!({"nct": 2, "enc": {"net": [1], "atr": ["mni"]}})).await;
    world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"lbl": ["x"]}})).await;
    world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"mni": 7}})).await;
    let got = receiver.wait(1).await;
    let rep = &got[0]["nev"]["rep"]["m2m:cnt"];
    assert!(rep["mni"] == 7 && rep["ri"].is_null() && rep["lbl"].is_null(), "{rep}");
}

#[tokio::test]
async fn net_4_and_nct_3_and_chty() {
    let (world, receiver) = subscribed(json!([4]), json!({"nct": 3, "enc": {"net": [4], "chty": [3]}})).await;
    world.created("cse-a/one/data", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "sub1"}})).await;
    world.instance("cse-a/one/data", "Cone", "x").await;
    assert_eq!(world.delete("cse-a/one/data/la", "Cone").await.rsc, 2002);
    assert_eq!(world.delete("cse-a/one/data/sub1", "Cone").await.rsc, 2002);
    let got = receiver.wait(1).await;
    assert_eq!(got[0]["nev"]["rep"], json!({"m2m:uri": "/id-a/cse-a/one/data/sub1"}), "{}", got[0]);
}

#[tokio::test]
async fn net_2_comes_before_the_deletion_notice() {
    let su = Receiver::start().await;
    let (world, receiver) = subscribed(json!([2]), json!({"su": su.url})).await;
    assert_eq!(world.delete("cse-a/one/data", "Cone").await.rsc, 2002);
    assert_eq!(receiver.wait(1).await[0]["nev"]["net"], 2);
    let notice = su.wait(1).await;
    assert_eq!((&notice[0]["sud"], &notice[0]["sur"]), (&json!(true), &json!("/id-a/cse-a/one/data/sub")));
}

#[tokio::test]
async fn evictions_are_silent() {
    let (world, receiver) = subscribed(json!([3, 4]), json!({})).await;
    world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"mni": 1}})).await;
    for i in 0..3 {
        world.instance("cse-a/one/data", "Cone", &i.to_string()).await;
    }
    assert!(receiver.wait(3).await.iter().all(|s| s["nev"]["net"] == 3));
}

#[tokio::test]
async fn exc_counts_down_and_ends_the_subscription() {
    let (world, receiver) = subscribed(json!([3]), json!({"exc": 2})).await;
    world.instance("cse-a/one/data", "Cone", "1").await;
    receiver.wait(1).await;
    until("the outbox is empty", || world.node.outbox_is_empty()).await;
    assert_eq!(world.retrieve("cse-a/one/data/sub", "Cone").await.body["m2m:sub"]["exc"], 1);
    world.instance("cse-a/one/data", "Cone", "2").await;
    receiver.wait(2).await;
    until("the outbox is empty", || world.node.outbox_is_empty()).await;
    assert_eq!(world.retrieve("cse-a/one/data/sub", "Cone").await.rsc, 4004);
    world.instance("cse-a/one/data", "Cone", "3").await;
    receiver.wait(2).await;
}

#[tokio::test]
async fn a_target_that_is_away_gets_everything_later() {
    let (world, receiver) = subscribed(json!([3]), json!({})).await;
    *receiver.mood.lock() = Mood::HangUp;
    for i in 0..3 {
        world.instance("cse-a/one/data", "Cone", &i.to_string()).await;
    }
    until("an attempt fails", || *receiver.refused.lock() > 0).await;
    receiver.answers(2000);
    let got = receiver.wait(3).await;
    let order: Vec<_> = got.iter().map(|s| s["nev"]["rep"]["m2m:cin"]["con"].as_str().unwrap().to_owned()).collect();
    assert_eq!(order, ["0", "1", "2"]);
}

#[tokio::test]
async fn another_resource_is_asked_whether_it_agrees() {
    let world = World::one().await;
    let receiver = Receiver::start().await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    assert_eq!(world.update("cse-a/two", "Ctwo", json!({"m2m:ae": {"poa": [receiver.url]}})).await.rsc, 2004);
    let sub = json!({"m2m:sub": {"rn": "s", "nu": ["Ctwo"], "enc": {"net": [3]}}});
    for (answer, rsc) in [(4101, 4101), (5205, 5205), (4000, 5204), (5000, 5204)] {
        receiver.answers(answer);
        let refused = world.create("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub.clone()).await;
        assert_eq!(refused.rsc, rsc, "{}", refused.body);
        assert_eq!(world.retrieve("cse-a/one/data/s", "Cone").await.rsc, 4004);
    }
    receiver.answers(2000);
    world.created("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub).await;
    let asked = receiver.asked.lock().last().unwrap().clone();
    assert_eq!(
        (&asked["vrq"], &asked["sur"], &asked["cr"]),
        (&json!(true), &json!("/id-a/cse-a/one/data/s"), &json!("/id-a/Cone")),
        "{asked}"
    );
    world.instance("cse-a/one/data", "Cone", "x").await;
    assert_eq!(receiver.wait(1).await[0]["nev"]["rep"]["m2m:cin"]["con"], "x");
    // The originator itself is not asked.
    let before = receiver.asked.lock().len();
    let own = json!({"m2m:sub": {"nu": ["Cone", "/id-a/Cone"], "enc": {"net": [3]}}});
    world.created("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, own).await;
    assert_eq!(receiver.asked.lock().len(), before);
}

#[tokio::test]
async fn a_url_is_asked_whether_it_agrees() {
    let world = World::one().await;
    let receiver = Receiver::start().await;
    world.ae_with_container("Cone", "one").await;
    let sub = |nu: Value| json!({"m2m:sub": {"rn": "s", "nu": nu, "enc": {"net": [3]}}});
    let create = async |nu: Value| world.create("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub(nu)).await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = create(json!([format!("http://{nobody}")])).await;
    assert_eq!(gone.rsc, 5204, "{}", gone.body);
    // One that does not agree is enough.
    let one_of_two = create(json!([receiver.url, format!("http://{nobody}")])).await;
    assert_eq!(one_of_two.rsc, 5204, "{}", one_of_two.body);
    for (mood, rsc) in
        [(Mood::Answer(4101), 4101), (Mood::Answer(5205), 5205), (Mood::HangUp, 5204), (Mood::Silence, 5204)]
    {
        *receiver.mood.lock() = mood;
        let refused = create(json!([receiver.url])).await;
        assert_eq!(refused.rsc, rsc, "{}", refused.body);
    }
    assert_eq!(world.retrieve("cse-a/one/data/s", "Cone").await.rsc, 4004);
    receiver.answers(2000);
    assert_eq!(create(json!([receiver.url])).await.rsc, 2001);
    // A target that an update adds is asked as well.
    receiver.answers(5205);
    let update = async |nu: Value| world.update("cse-a/one/data/s", "Cone", json!({"m2m:sub": {"nu": nu}})).await.rsc;
    assert_eq!(update(json!([receiver.url, format!("{}/other", receiver.url)])).await, 5205);
    assert_eq!(update(json!([receiver.url])).await, 2004, "it has agreed before");
}

/// Whoever waits for a silent target holds up nobody else.
#[tokio::test]
async fn others_are_served_while_a_target_is_silent() {
    let world = World::one().await;
    let receiver = Receiver::start().await;
    world.ae_with_container("Cone", "one").await;
    *receiver.mood.lock() = Mood::Silence;
    let sub = json!({"m2m:sub": {"nu": [receiver.url]}});
    let waiting = world.create("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, sub);
    let others = async {
        for i in 0..50 {
            world.instance("cse-a/one/data", "Cone", &i.to_string()).await;
        }
    };
    tokio::pin!(waiting);
    tokio::select! {
        biased;
        refused = &mut waiting => panic!("answered before the others were served: {}", refused.rsc),
        () = others => {}
    }
    assert_eq!(waiting.await.rsc, 5204);
}

#[tokio::test]
async fn what_a_subscription_may_say() {
    let world = World::one().await;
    world.ae_with_container("Cone", "one").await;
    let receiver = Receiver::start().await;
    let nu = json!([receiver.url]);
    for (sub, rsc) in [
        (json!({"nu": []}), 4000),
        (json!({}), 4000),
        (json!({"nu": nu, "enc": {"net": [99]}}), 4000),
        (json!({"nu": nu, "enc": {"net": [8]}}), 5001),
        (json!({"nu": nu, "enc": {"net": [3]}, "nct": 2}), 4000),
        (json!({"nu": nu, "enc": {"net": [3], "chty": [2]}}), 4000),
        (json!({"nu": nu, "enc": {"net": [1], "chty": [4]}}), 4000),
        (json!({"nu": nu, "exc": 0}), 4000),
        (json!({"nu": nu, "bn": {"num": 3}}), 5001),
        (json!({"nu": nu, "ln": true}), 5001),
        (json!({"nu": nu, "pn": 1}), 5001),
        (json!({"nu": nu, "nec": 2}), 5001),
        (json!({"nu": ["Cnobody"]}), 5204),
        (json!({"nu": (0..65).map(|i| format!("http://127.0.0.1:1/{i}")).collect::<Vec<_>>()}), 4000),
    ] {
        let out = world.create("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, json!({"m2m:sub": sub.clone()})).await;
        assert_eq!(out.rsc, rsc, "{sub} {}", out.body);
    }
    let plain = world.created("cse-a/one/data", "Cone", Ty::SUBSCRIPTION, json!({"m2m:sub": {"nu": nu}})).await;
    assert_eq!(plain["m2m:sub"]["nct"], 1);
}
