//! Local buffering while the node is cut off (docs/extensions.md).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use onemec_core::buffer::{Buffer, BufferError, BufferFill, BufferKey, Left};
use onemec_core::context::{BoxFuture, Op};
use onemec_cse::http::ListenerOptions;
use onemec_cse::testing::{Clock, Extras, MemoryBuffer};
use onemec_onem2m::Ty;
use onemec_wire::ContextId;
use serde_json::json;

use crate::support::{Http, START_MS, World, until};

async fn world(operations_max: u64) -> (World, Http) {
    world_with(Arc::new(MemoryBuffer::new(operations_max))).await
}

async fn world_with(buffer: Arc<dyn Buffer>) -> (World, Http) {
    let extras = Extras { buffer: Some(buffer), ..Extras::default() };
    let world = World::of(&["a"], Clock::manual(START_MS), extras).await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    let http = Http::serve(&world.cse, ListenerOptions::default()).await;
    let cse = world.cse.clone();
    tokio::spawn(async move { cse.append_buffered().await });
    (world, http)
}

fn cin(con: &str) -> serde_json::Value {
    json!({"m2m:cin": {"con": con}})
}

async fn contents(world: &World) -> Vec<String> {
    let all = world.find("cse-a/one/data", "Cone", "rcn=4").await.body;
    let all = all["m2m:cnt"]["m2m:cin"].as_array().cloned().unwrap_or_default();
    all.iter().map(|c| c["con"].as_str().unwrap().to_owned()).collect()
}

async fn drained(world: &World) {
    until("the buffer is empty", || world.cse.buffer_fill().unwrap().waiting == 0).await;
}

#[tokio::test]
async fn readings_are_accepted_and_appended_once_in_order() {
    let (world, http) = world(100).await;
    world.instance("cse-a/one/data", "Cone", "before").await;
    world.node.set_cut_off(true);
    for i in 0..5 {
        let answer = http.post("/cse-a/one/data", "Cone", 4, cin(&i.to_string())).await;
        assert_eq!((answer.status, answer.rsc, answer.body.len()), (202, 1000, 0), "{}", answer.text());
        assert_eq!(answer.header("x-onemec-buffered"), Some(format!("1-1-{}", i + 1).as_str()));
    }
    assert_eq!(contents(&world).await, ["before"], "accepted is not committed");
    // The first attempts fail; nothing is lost, nothing doubled.
    world.cluster.fail_writes(2);
    world.node.set_cut_off(false);
    // A reading that comes now waits behind those that were accepted.
    let answer = http.post("/cse-a/one/data", "Cone", 4, cin("after")).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    assert_eq!(contents(&world).await, ["before", "0", "1", "2", "3", "4", "after"]);
    let fill = world.cse.buffer_fill().unwrap();
    assert_eq!((fill.waiting, fill.accepted, fill.appended, fill.refused), (0, 5, 5, 0));
}

#[tokio::test]
async fn what_is_not_append_only_or_not_allowed_is_not_accepted() {
    let (world, http) = world(100).await;
    world.node.set_cut_off(true);
    // Somebody without privilege, a target that is not there, content that is none: refused as ever.
    assert_eq!(http.post("/cse-a/one/data", "Ctwo", 4, cin("x")).await.rsc, 4103);
    assert_eq!(http.post("/cse-a/one/nothing", "Cone", 4, cin("x")).await.rsc, 4004);
    assert_eq!(http.post("/cse-a/one/data", "Cone", 4, json!({"m2m:cin": {"nonsense": 1}})).await.rsc, 4000);
    assert_eq!(world.cse.buffer_fill().unwrap().accepted, 0);
    // A repeatable request is its sender's to repeat; anything but a contentInstance is not append-only. The in-memory
    // runtime has no lease to lose, so it takes them.
    let until = format!("Content-Type: application/json;ty=4\r\nX-Onemec-Repeat: {}\r\n", START_MS + 10_000);
    let marked = http.call("POST", "/cse-a/one/data", "Cone", &until, cin("x").to_string().as_bytes()).await;
    assert_eq!(marked.rsc, 2001);
    assert_eq!(http.post("/cse-a/one", "Cone", 3, json!({"m2m:cnt": {"rn": "more"}})).await.rsc, 2001);
    assert_eq!(world.cse.buffer_fill().unwrap().accepted, 0);
}

#[tokio::test]
async fn a_full_buffer_says_when_to_come_back() {
    let (world, http) = world(2).await;
    world.node.set_cut_off(true);
    for i in 0..2 {
        assert_eq!(http.post("/cse-a/one/data", "Cone", 4, cin(&i.to_string())).await.status, 202);
    }
    let answer = http.post("/cse-a/one/data", "Cone", 4, cin("x")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{}", answer.text());
    world.node.set_cut_off(false);
    drained(&world).await;
    assert_eq!(contents(&world).await, ["0", "1"]);
}

/// Privileges may change between acceptance and append: then they decide who has them by then.
#[tokio::test]
async fn privileges_are_checked_again_at_the_append() {
    let (world, http) = world(100).await;
    let grant = json!({"m2m:acp": {"rn": "open",
        "pv": {"acr": [{"acor": ["Ctwo", "Cone"], "acop": 63}]}, "pvs": {"acr": [{"acor": ["Cone"], "acop": 63}]}}});
    let acp = world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, grant).await;
    let acpi = json!({"m2m:cnt": {"acpi": [acp["m2m:acp"]["ri"]]}});
    assert_eq!(world.update("cse-a/one/data", "Cone", acpi).await.rsc, 2004);
    world.node.set_cut_off(true);
    for (who, con) in [("Ctwo", "not any more"), ("Cone", "still")] {
        assert_eq!(http.post("/cse-a/one/data", who, 4, cin(con)).await.status, 202);
    }
    let close = json!({"m2m:acp": {"pv": {"acr": [{"acor": ["Cone"], "acop": 63}]}}});
    assert_eq!(world.update("cse-a/one/open", "Cone", close).await.rsc, 2004);
    world.node.set_cut_off(false);
    drained(&world).await;
    assert_eq!(contents(&world).await, ["still"]);
    assert_eq!(world.cse.buffer_fill().unwrap().refused, 1);
}

/// A buffer that forgets once that something has left, as one on disk does when the node dies before that is written.
struct Forgetful(MemoryBuffer, AtomicBool);

impl Buffer for Forgetful {
    fn put(&self, context: ContextId, op: Op) -> BoxFuture<'_, Result<BufferKey, BufferError>> {
        self.0.put(context, op)
    }
    fn holds(&self, context: ContextId) -> bool {
        self.0.holds(context)
    }
    fn contexts(&self, limit: usize) -> Vec<ContextId> {
        self.0.contexts(limit)
    }
    fn first(&self, context: ContextId) -> Option<(BufferKey, Op)> {
        self.0.first(context)
    }
    fn left(&self, context: ContextId, key: BufferKey, how: Left) {
        if self.1.swap(true, Ordering::Relaxed) {
            self.0.left(context, key, how);
        }
    }
    fn fill(&self) -> BufferFill {
        self.0.fill()
    }
}

#[tokio::test]
async fn what_is_appended_twice_is_there_once() {
    let forgetful = Arc::new(Forgetful(MemoryBuffer::new(100), AtomicBool::new(false)));
    let (world, http) = world_with(forgetful.clone()).await;
    world.node.set_cut_off(true);
    for con in ["first", "second"] {
        assert_eq!(http.post("/cse-a/one/data", "Cone", 4, cin(con)).await.status, 202);
    }
    world.node.set_cut_off(false);
    drained(&world).await;
    assert!(forgetful.1.load(Ordering::Relaxed), "the first one was appended twice");
    assert_eq!(contents(&world).await, ["first", "second"]);
}
