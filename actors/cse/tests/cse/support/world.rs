//! CSEs on an in-memory cluster, asked with primitives.

use std::sync::Arc;

use onemec_cse::testing::{Clock, Extras, MemoryCluster, MemoryNode, start_cse};
use onemec_cse::{Caller, Cse, CseOptions, Handled, PeerCse};
use onemec_onem2m::{Operation, Request, Response, Ty};
use onemec_wire::NodeId;
use serde_json::{Value, json};

/// 2026-01-01T00:00:00Z
pub const START_MS: u64 = 1_767_225_600_000;

pub struct World {
    pub cluster: Arc<MemoryCluster>,
    pub cse: Cse,
    pub node: Arc<MemoryNode>,
    /// All CSEs, the first being `cse`.
    pub all: Vec<(Cse, Arc<MemoryNode>)>,
}

pub fn options(letter: &str) -> CseOptions {
    CseOptions {
        base_name: format!("cse-{letter}"),
        cse_id: format!("/id-{letter}"),
        sp_id: "test.example".into(),
        poa: vec![format!("http://{letter}.example")],
        admins: vec!["CAdmin".into()],
        admins_proved: false,
        ..CseOptions::default()
    }
}

impl World {
    /// One CSE: `/id-a` with CSEBase `cse-a`.
    pub async fn one() -> Self {
        Self::of(&["a"], Clock::manual(START_MS), Extras::default()).await
    }

    pub async fn two() -> Self {
        Self::of(&["a", "b"], Clock::manual(START_MS), Extras::default()).await
    }

    pub async fn of(letters: &[&str], clock: Clock, extras: Extras) -> Self {
        Self::with(letters, clock, extras, |_| {}).await
    }

    /// CSEs whose options `change` has changed.
    pub async fn with(letters: &[&str], clock: Clock, extras: Extras, change: impl Fn(&mut CseOptions)) -> Self {
        let cluster = MemoryCluster::new(clock);
        let mut all = Vec::new();
        for (i, letter) in letters.iter().enumerate() {
            let mut options = options(letter);
            change(&mut options);
            all.push(start_cse(&cluster, i as u64 + 1, options, extras.clone()).await.unwrap());
        }
        for (cse, _) in &all {
            for (i, letter) in letters.iter().enumerate() {
                let o = options(letter);
                cse.learn_peer(NodeId(i as u64 + 1), PeerCse { identity: o.identity(), poa: o.poa });
            }
        }
        let (cse, node) = all[0].clone();
        Self { cluster, cse, node, all }
    }

    pub async fn ask(&self, request: Request) -> Handled {
        self.cse.handle(request, Caller::default()).await
    }

    pub async fn create(&self, to: &str, fr: &str, ty: Ty, content: Value) -> Out {
        self.send(Operation::Create, to, fr, Some(ty), Some(content)).await
    }
    pub async fn retrieve(&self, to: &str, fr: &str) -> Out {
        self.send(Operation::Retrieve, to, fr, None, None).await
    }
    pub async fn update(&self, to: &str, fr: &str, content: Value) -> Out {
        self.send(Operation::Update, to, fr, None, Some(content)).await
    }
    pub async fn delete(&self, to: &str, fr: &str) -> Out {
        self.send(Operation::Delete, to, fr, None, None).await
    }
    pub async fn send(&self, op: Operation, to: &str, fr: &str, ty: Option<Ty>, content: Option<Value>) -> Out {
        let mut request = Request::new(op, to, fr, "r1");
        request.ty = ty;
        request.pc = content.map(|c| c.to_string().into());
        Out::of(self.ask(request).await)
    }
    /// A filtered retrieve: `query` as in HTTP.
    pub async fn find(&self, to: &str, fr: &str, query: &str) -> Out {
        Out::of(self.ask(with_query(Request::new(Operation::Retrieve, to, fr, "r1"), query)).await)
    }

    /// Registers an AE with stem and name.
    pub async fn ae(&self, stem: &str, name: &str) -> Out {
        let body = json!({"m2m:ae": {"rn": name, "api": "Ntest", "rr": true, "srv": ["3"]}});
        let out = self.create("cse-a", stem, Ty::AE, body).await;
        assert_eq!(out.rsc, 2001, "{}", out.body);
        out
    }

    /// An AE with a container named `data`.
    pub async fn ae_with_container(&self, stem: &str, name: &str) {
        self.ae(stem, name).await;
        self.created(&format!("cse-a/{name}"), stem, Ty::CONTAINER, json!({"m2m:cnt": {"rn": "data"}})).await;
    }

    pub async fn created(&self, to: &str, fr: &str, ty: Ty, content: Value) -> Value {
        let out = self.create(to, fr, ty, content).await;
        assert_eq!(out.rsc, 2001, "{}", out.body);
        out.body
    }

    pub async fn instance(&self, container: &str, fr: &str, con: &str) -> Out {
        let out = self.create(container, fr, Ty::CONTENT_INSTANCE, json!({"m2m:cin": {"con": con}})).await;
        assert_eq!(out.rsc, 2001, "{}", out.body);
        out
    }
}

pub fn with_query(mut request: Request, query: &str) -> Request {
    let mut fc = onemec_onem2m::filter::FilterCriteria::default();
    for (k, v) in query.split('&').filter_map(|p| p.split_once('=')) {
        if k == "rcn" {
            request.rcn = v.parse().ok().and_then(onemec_onem2m::ResultContent::from_u8);
        } else if k == "drt" {
            request.drt = v.parse().ok().and_then(onemec_onem2m::IdFormat::from_u8);
        } else {
            assert!(fc.add_query(k, v).unwrap(), "{k}");
        }
    }
    request.fc = Some(Box::new(fc));
    request
}

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Out {
    pub rsc: u16,
    pub body: Value,
    pub handled: Handled,
}

impl Out {
    pub fn of(handled: Handled) -> Self {
        let response: &Response = &handled.response;
        let body = response.pc.as_ref().map(|b| serde_json::from_slice(b).unwrap()).unwrap_or(Value::Null);
        Self { rsc: response.rsc.0, body, handled }
    }
    /// The list of a discovery.
    pub fn uril(&self) -> Vec<String> {
        self.body["m2m:uril"]
            .as_array()
            .unwrap_or_else(|| panic!("{}", self.body))
            .iter()
            .map(|v| v.as_str().unwrap().to_owned())
            .collect()
    }
}
