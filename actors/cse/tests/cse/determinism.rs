//! The same records give the same state on every replica, also from a snapshot in the middle of the log.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use onemec_core::context::{ContextKind, Env, Gate, History, MachineFactory, Op, Outcome};
use onemec_cse::testing::{Clock, Extras};
use onemec_cse::{CseIndex, CseOptions, TreeFactory};
use onemec_onem2m::{Operation, Ty};
use onemec_wire::{ContextId, Epoch, GroupId, Record, RecordKind, Seq};
use parking_lot::RwLock;
use proptest::prelude::*;
use serde_json::json;

use crate::support::{START_MS, World};

#[derive(Default)]
struct Kept(RwLock<HashMap<Seq, Record>>);

impl History for Kept {
    fn record(&self, seq: Seq) -> Option<Record> {
        self.0.read().get(&seq).cloned()
    }
}

struct Open;

impl Gate for Open {
    fn is_open(&self) -> bool {
        true
    }
    fn epoch(&self) -> Epoch {
        Epoch(1)
    }
}

/// Applies a log on a fresh machine, which is replaced by one from its snapshot after `cut` records.
fn replay(context: ContextId, kind: ContextKind, log: &[Record], cut: usize) -> Bytes {
    let factory = TreeFactory::new(CseIndex::new());
    let history = Arc::new(Kept::default());
    let env = Env { group: GroupId::made(1, 1, 0), context, kind, history: history.clone(), gate: Arc::new(Open) };
    let mut machine = factory.create(env.clone());
    for (i, record) in log.iter().enumerate() {
        if i == cut {
            machine = factory.restore(env.clone(), &machine.snapshot()).unwrap();
        }
        let mut outcome = Outcome::default();
        if record.kind() == RecordKind::Timers {
            machine.run_timers(record, &mut outcome);
        } else {
            machine.apply(record, &Op { head: record.head(), body: record.body() }, &mut outcome);
        }
        if outcome.keep {
            history.0.write().insert(record.seq(), record.clone());
        }
        for seq in outcome.released {
            history.0.write().remove(&seq);
        }
    }
    machine.snapshot()
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Container(u8, Option<u8>),
    Instance(u8, Option<u8>, Option<u64>),
    Update(u8, Option<u64>),
    DeleteContainer(u8),
    DeleteLatest(u8),
    Subscribe(u8),
    Wait(u64),
    Nonsense,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0..4u8, proptest::option::of(0..4u8)).prop_map(|(a, b)| Step::Container(a, b)),
        8 => (0..4u8, proptest::option::of(0..6u8), proptest::option::of(1..100u64)).prop_map(|(c, n, et)| Step::Instance(c, n, et)),
        2 => (0..4u8, proptest::option::of(0..5u64)).prop_map(|(c, m)| Step::Update(c, m)),
        1 => (0..4u8).prop_map(Step::DeleteContainer),
        2 => (0..4u8).prop_map(Step::DeleteLatest),
        1 => (0..4u8).prop_map(Step::Subscribe),
        2 => (0..50_000u64).prop_map(Step::Wait),
        1 => Just(Step::Nonsense),
    ]
}

async fn take(world: &World, step: &Step) {
    let at = |c: u8| format!("cse-a/one/c{c}");
    match step {
        Step::Container(name, below) => {
            let parent = below.map_or("cse-a/one".to_owned(), at);
            world.create(&parent, "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": format!("c{name}")}})).await;
        }
        Step::Instance(c, name, et) => {
            let mut cin = json!({"con": "content", "cr": null});
            if let Some(n) = name {
                cin["rn"] = json!(format!("cin-{n}"));
            }
            if let Some(s) = et {
                cin["et"] = json!(onemec_onem2m::Timestamp::from_ms(world.cluster.now_ms() + s * 1000).to_string());
            }
            world.create(&at(*c), "Cone", Ty::CONTENT_INSTANCE, json!({"m2m:cin": cin})).await;
        }
        Step::Update(c, mni) => {
            world.update(&at(*c), "Cone", json!({"m2m:cnt": {"mni": mni}})).await;
        }
        Step::DeleteContainer(c) => drop(world.delete(&at(*c), "Cone").await),
        Step::DeleteLatest(c) => drop(world.delete(&format!("{}/la", at(*c)), "Cone").await),
        Step::Subscribe(c) => {
            let sub = json!({"m2m:sub": {"nu": ["http://127.0.0.1:9"], "enc": {"net": [1, 2, 3, 4]}}});
            world.create(&at(*c), "Cone", Ty::SUBSCRIPTION, sub).await;
        }
        Step::Wait(ms) => world.cluster.advance(*ms),
        Step::Nonsense => {
            world.create("cse-a/one", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"nonsense": 1}})).await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_has_one_outcome(steps in proptest::collection::vec(step(), 1..60), cut in any::<proptest::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Nobody listens where these subscriptions point to.
            let unasked = |o: &mut CseOptions| o.verify_subscriptions = false;
            let world = World::with(&["a"], Clock::manual(START_MS), Extras::default(), unasked).await;
            world.ae("Cone", "one").await;
            for c in 0..2 {
                world.create("cse-a/one", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": format!("c{c}")}})).await;
            }
            for step in &steps {
                take(&world, step).await;
            }
            let context = ContextId::made(1, 2, 0);
            let (snapshot, log) = world.cluster.dump(context).unwrap();
            assert_eq!(replay(context, ContextKind::AE, &log, usize::MAX), snapshot);
            assert_eq!(replay(context, ContextKind::AE, &log, cut.index(log.len())), snapshot);
            // What is kept is exactly what can be read.
            let all = world.find("cse-a/one", "CAdmin", "fu=1&ty=4").await.uril();
            assert_eq!(all.len(), world.node.kept(context));
            for to in all {
                let out = world.send(Operation::Retrieve, &to, "Cone", None, None).await;
                assert_eq!((out.rsc, &out.body["m2m:cin"]["con"]), (2000, &json!("content")), "{to} {}", out.body);
            }
        });
    }
}

#[tokio::test]
async fn the_base_has_one_outcome_as_well() {
    let world = World::one().await;
    world.ae("Cone", "one").await;
    for i in 0..5 {
        world.created("cse-a", "Cone", Ty::CONTAINER, json!({"m2m:cnt": {"rn": format!("c{i}"), "lbl": ["x"]}})).await;
    }
    world
        .created("cse-a", "Cone", Ty::GROUP, json!({"m2m:grp": {"mnm": 3, "mid": ["cse-a/c1", "cse-a/one"], "mt": 3}}))
        .await;
    world.cse.ensure_base().await.unwrap();
    let context = ContextId::made(1, 1, 0);
    let (snapshot, log) = world.cluster.dump(context).unwrap();
    for cut in [1, 3, usize::MAX] {
        assert_eq!(replay(context, ContextKind::CSE_BASE, &log, cut), snapshot);
    }
}

#[test]
fn damaged_snapshots_are_refused() {
    let factory = TreeFactory::new(CseIndex::new());
    let context = ContextId::made(1, 1, 0);
    let env = Env {
        group: GroupId::made(1, 1, 0),
        context,
        kind: ContextKind::AE,
        history: Arc::new(Kept::default()),
        gate: Arc::new(Open),
    };
    let good = factory.create(env.clone()).snapshot();
    assert!(factory.restore(env.clone(), &good).is_ok());
    for len in 0..good.len() {
        assert!(factory.restore(env.clone(), &good.slice(..len)).is_err(), "{len}");
    }
    let mut newer = good.to_vec();
    newer[0] = 9;
    assert!(factory.restore(env, &newer.into()).is_err());
}
