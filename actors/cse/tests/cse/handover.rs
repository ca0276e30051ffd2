//! What an AE keeps when its context moves (rows G01, G02, G04, H04), on the in-memory cluster.

use std::sync::Arc;

use onemec_core::context::BoxFuture;
use onemec_core::directory::Attachment;
use onemec_cse::front::{AttachError, Mobility, Tokens};
use onemec_cse::testing::{Clock, Extras, MemoryCluster};
use onemec_cse::{Caller, Handled};
use onemec_onem2m::{Operation, Request, Ty};
use onemec_wire::{ContextId, NodeId};
use serde_json::json;

use crate::support::{Out, START_MS, World};

async fn at(world: &World, cse: usize, op: Operation, to: &str, fr: &str, body: Option<serde_json::Value>) -> Out {
    let mut request = Request::new(op, to, fr, "r1");
    request.pc = body.map(|b| b.to_string().into());
    request.ty = (op == Operation::Create).then_some(Ty::CONTENT_INSTANCE);
    Out::of(world.all[cse].0.handle(request, Caller::default()).await)
}

#[tokio::test]
async fn row_g04_every_old_address_leads_to_the_new_home() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    world.instance("cse-a/one/data", "Cone", "before").await;
    let ri = world.retrieve("cse-a/one/data", "Cone").await.body["m2m:cnt"]["ri"].as_str().unwrap().to_owned();
    let context = onemec_cse::rid::parse(&ri).unwrap().0;
    world.cluster.move_context(context, NodeId(2)).unwrap();
    let la = format!("{ri}/la");
    // At both CSEs: the names it had, the names it has, and the client that does not know that it moved.
    for cse in [0, 1] {
        for to in ["cse-a/one/data/la", "/id-a/cse-a/one/data/la", "/id-b/cse-b/one/data/la", "Cone/data/la", &la] {
            let out = at(&world, cse, Operation::Retrieve, to, "Cone", None).await;
            assert_eq!(
                (out.rsc, out.body["m2m:cin"]["con"].as_str()),
                (2000, Some("before")),
                "{cse} {to} {}",
                out.body
            );
        }
    }
    let out =
        at(&world, 0, Operation::Create, "cse-a/one/data", "Cone", Some(json!({"m2m:cin": {"con": "after"}}))).await;
    assert_eq!(out.rsc, 2001, "{}", out.body);
    assert_eq!(out.handled.home, Some(("http://b.example".into(), 2)), "steering");
    let out = at(&world, 1, Operation::Retrieve, "cse-b/one/data/la", "Cone", None).await;
    assert_eq!((out.body["m2m:cin"]["con"].as_str(), out.handled.home), (Some("after"), None));
    let ae = at(&world, 1, Operation::Retrieve, "cse-b/one", "Cone", None).await;
    assert_eq!((&ae.body["m2m:ae"]["aei"], &ae.body["m2m:ae"]["pi"]), (&json!("Cone"), &json!("id-b")));
    let all = world.all[1]
        .0
        .handle(
            crate::support::with_query(Request::new(Operation::Retrieve, "cse-b", "CAdmin", "r"), "fu=1&ty=3"),
            Caller::default(),
        )
        .await;
    assert_eq!(Out::of(all).uril(), ["cse-b/one/data"], "structured addresses follow");
}

#[tokio::test]
async fn an_originator_keeps_its_privileges_elsewhere() {
    let world = World::two().await;
    world.ae_with_container("Cone", "one").await;
    world.ae("Ctwo", "two").await;
    let policy = json!({"m2m:acp": {"rn": "acp", "pv": {"acr": [{"acor": ["/id-a/Ctwo"], "acop": 2}]},
        "pvs": {"acr": [{"acor": ["Cone"], "acop": 63}]}}});
    world.created("cse-a/one", "Cone", Ty::ACCESS_CONTROL_POLICY, policy).await;
    assert_eq!(world.update("cse-a/one/data", "Cone", json!({"m2m:cnt": {"acpi": ["cse-a/one/acp"]}})).await.rsc, 2004);
    world.created("cse-a", "Ctwo", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "own"}})).await;
    let two = world.retrieve("Ctwo", "CAdmin").await.body["m2m:ae"]["aei"].as_str().unwrap().to_owned();
    assert_eq!(two, "Ctwo");
    world.cluster.move_context(ContextId::made(1, 4, 0), NodeId(2)).unwrap();
    for cse in [0, 1] {
        let out = at(&world, cse, Operation::Retrieve, "/id-a/cse-a/one/data", "Ctwo", None).await;
        assert_eq!(out.rsc, 2000, "granted to the identifier of its former registrar: {cse} {}", out.body);
        let out = at(&world, cse, Operation::Retrieve, "/id-a/cse-a/own", "Ctwo", None).await;
        assert_eq!(out.rsc, 2000, "what it created is its own: {cse} {}", out.body);
    }
    let stranger = at(&world, 0, Operation::Retrieve, "/id-a/cse-a/own", "Cone", None).await;
    assert_eq!(stranger.rsc, 4103);
}

struct Moves(Arc<MemoryCluster>);

impl Mobility for Moves {
    fn attach(&self, attachment: Attachment, target: NodeId) -> BoxFuture<'_, Result<(), AttachError>> {
        let done = self.0.move_context(attachment.context, target).map_err(AttachError::NotAdmitted);
        Box::pin(async move { done })
    }
}

struct Plain;

impl Tokens for Plain {
    fn issue(&self, context: ContextId, ae: &str, _: Option<&str>) -> Option<String> {
        Some(format!("{context}/{ae}"))
    }
    fn verify(&self, token: &str, ae: &str, _: Option<&str>) -> Result<Attachment, String> {
        let context = token.split_once('/').filter(|(_, for_ae)| *for_ae == ae).and_then(|(c, _)| c.parse().ok());
        context.map(|context| Attachment { context, number: 0 }).ok_or_else(|| "another AE's".to_owned())
    }
}

async fn register(world: &World, cse: usize, fr: &str, token: Option<&str>) -> Handled {
    let mut request = Request::new(Operation::Create, if cse == 0 { "cse-a" } else { "cse-b" }, fr, "r1");
    request.ty = Some(Ty::AE);
    request.pc = Some(json!({"m2m:ae": {"rn": "one", "api": "N", "rr": true, "srv": ["3"]}}).to_string().into());
    let caller = Caller { handover: token.map(str::to_owned), ..Caller::default() };
    world.all[cse].0.handle(request, caller).await
}

#[tokio::test]
async fn row_h04_a_device_comes_with_its_token() {
    // The mobility of each CSE needs the cluster, which exists only later: both share one cluster by hand.
    let cluster = MemoryCluster::new(Clock::manual(START_MS));
    let extras =
        Extras { mobility: Some(Arc::new(Moves(cluster.clone()))), tokens: Some(Arc::new(Plain)), ..Extras::default() };
    let mut all = Vec::new();
    for (i, letter) in ["a", "b"].iter().enumerate() {
        let options = crate::support::options(letter);
        all.push(onemec_cse::testing::start_cse(&cluster, i as u64 + 1, options, extras.clone()).await.unwrap());
    }
    let (cse, node) = all[0].clone();
    let world = World { cluster, cse, node, all };
    let token = register(&world, 0, "Cone", None).await.token.unwrap();
    world.created("cse-a/one", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": "data"}})).await;
    world.instance("cse-a/one/data", "Cone", "kept").await;
    assert_eq!(register(&world, 1, "Cother", Some(&token)).await.response.rsc.0, 4106);
    let moved = Out::of(register(&world, 1, "Cone", Some(&token)).await);
    assert_eq!((moved.rsc, &moved.body["m2m:ae"]["aei"]), (2001, &json!("Cone")), "{}", moved.body);
    assert!(moved.handled.token.is_some());
    let out = at(&world, 1, Operation::Retrieve, "cse-b/one/data/la", "Cone", None).await;
    assert_eq!(out.body["m2m:cin"]["con"], "kept");
}
