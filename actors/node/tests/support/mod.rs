//! A cluster that exists only in this process: every node has its HTTP door and its admin API, and all share one state.
//! It keeps the conventions of docs/extensions.md, so that the demo's course can be tested without the runtime; and it can
//! be told to break an invariant.

#![allow(dead_code)] // each test program uses a part of it

pub(crate) mod backend;
pub(crate) mod cse;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_node::admin::serve;
use onemec_node::admin::types::{AuditEvent, AuditLine, Handover, MoveReason};
use onemec_node::demo::run::Hosts;
use onemec_node::topology::{PortBase, Topology, parse, with_ports};
use onemec_node::up::UpError;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

/// What the cluster does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Acknowledges a write and forgets it.
    Lose,
    /// Applies a write twice.
    Double,
    /// A former primary goes on in the new epoch.
    TwoPrimaries,
}

#[derive(Debug, Clone)]
pub(crate) struct Ae {
    pub(crate) name: String,
    pub(crate) home: String,
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
    /// Contents in order.
    pub(crate) instances: Vec<String>,
    /// First answers of repeatable requests.
    pub(crate) answered: BTreeSet<String>,
}

pub(crate) struct State {
    pub(crate) topology: Topology,
    pub(crate) aes: BTreeMap<String, Ae>,
    pub(crate) dead: BTreeSet<String>,
    pub(crate) draining: BTreeSet<String>,
    pub(crate) audit: BTreeMap<String, Vec<AuditLine>>,
    pub(crate) handovers: Vec<Handover>,
    pub(crate) fault: Fault,
    pub(crate) begun: Instant,
    writes: u64,
}

impl State {
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_nanos()).unwrap() + 1
    }

    pub(crate) fn log(&mut self, node: &str, event: AuditEvent) {
        let lines = self.audit.entry(node.to_owned()).or_default();
        let n = u64::try_from(lines.len()).unwrap() + 1;
        lines.push(AuditLine { n, node: node.into(), incarnation: 1, event });
    }

    /// Makes `to` the home.
    pub(crate) fn place(&mut self, ae: &str, to: &str, reason: MoveReason) {
        let at_ns = self.now_ns();
        let Some(a) = self.aes.get_mut(ae) else { return };
        let from = std::mem::replace(&mut a.home, to.to_owned());
        a.epoch += 1;
        let epoch = a.epoch;
        let (group, context) = (format!("g-{ae}"), format!("c-{ae}"));
        let contexts = vec![context.clone()];
        self.log(to, AuditEvent::Serving { group, contexts, epoch, at_ns });
        self.log(to, AuditEvent::Registrar { ae: ae.into(), context, epoch, at_ns });
        let id = u64::try_from(self.handovers.len()).unwrap() + 1;
        let (aes, from, to) = (vec![ae.to_owned()], from, to.to_owned());
        let outcome = "done".into();
        let (key, begun_ms) = (format!("move-{id}"), id);
        self.handovers.push(Handover {
            id,
            key,
            begun_ms,
            aes,
            from,
            to,
            epoch,
            reason,
            outcome,
            ..Handover::default()
        });
    }

    /// Appends a write as primary.
    pub(crate) fn append(&mut self, ae: &str, content: String, repeat: Option<String>) {
        self.writes += 1;
        let at_ns = self.now_ns();
        let strikes = self.writes == 100;
        let fault = self.fault;
        let names: Vec<String> = self.topology.node.iter().map(|n| n.name.clone()).collect();
        let Some(a) = self.aes.get_mut(ae) else { return };
        if let Some(key) = repeat
            && !a.answered.insert(key)
        {
            return;
        }
        a.seq += 1;
        if !(strikes && fault == Fault::Lose) {
            a.instances.push(content.clone());
        }
        if strikes && fault == Fault::Double {
            a.instances.push(content);
        }
        let (home, epoch, seq) = (a.home.clone(), a.epoch, a.seq);
        let (context, group) = (format!("c-{ae}"), format!("g-{ae}"));
        let event = AuditEvent::Acknowledged { context, group, epoch, seq, last_seq: None, received_ns: at_ns, at_ns };
        if strikes && fault == Fault::TwoPrimaries {
            let other = names.iter().find(|n| **n != home).unwrap();
            self.log(other, event.clone());
        }
        self.log(&home, event);
    }

    /// A living edge host other than `not`.
    pub(crate) fn other(&self, not: &str) -> Option<String> {
        let mut edges = self.topology.edges().map(|n| n.name.clone());
        edges.find(|n| n != not && !self.dead.contains(n) && !self.draining.contains(n))
    }
}

pub(crate) type Shared = Arc<Mutex<State>>;

/// An empty cluster.
pub(crate) fn state(topology: Topology) -> Shared {
    Arc::new(Mutex::new(State {
        topology,
        aes: BTreeMap::new(),
        dead: BTreeSet::new(),
        draining: BTreeSet::new(),
        audit: BTreeMap::new(),
        handovers: Vec::new(),
        fault: Fault::None,
        begun: Instant::now(),
        writes: 0,
    }))
}

pub(crate) struct Fake {
    pub(crate) state: Shared,
    topology: Topology,
    doors: BTreeMap<String, JoinHandle<()>>,
    admins: Vec<JoinHandle<()>>,
}

impl Fake {
    pub(crate) async fn start(fault: Fault) -> Self {
        let text = include_str!("../../../../cluster-configs/local-3.toml");
        let topology = with_ports(parse(text).unwrap(), PortBase::Free).unwrap();
        let state = state(topology.clone());
        state.lock().fault = fault;
        let mut fake = Self { state, topology: topology.clone(), doors: BTreeMap::new(), admins: Vec::new() };
        for node in &topology.node {
            let at_ns = 1;
            let ceased = AuditEvent::Ceased { group: "none".into(), epoch: 0, at_ns };
            fake.state.lock().log(&node.name, ceased);
            fake.open(&node.name).await;
            let listener = tokio::net::TcpListener::bind(node.admin_listen).await.unwrap();
            let backend = Arc::new(backend::Backend { node: node.name.clone(), state: fake.state.clone() });
            fake.admins.push(tokio::spawn(async move {
                serve(listener, backend, std::future::pending()).await.unwrap();
            }));
        }
        fake
    }

    async fn open(&mut self, name: &str) {
        let address = self.topology.node(name).unwrap().http_listen;
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        self.doors.insert(name.to_owned(), tokio::spawn(cse::door(listener, name.to_owned(), self.state.clone())));
    }
}

impl Hosts for Fake {
    fn topology(&self) -> &Topology {
        &self.topology
    }
    async fn kill(&mut self, name: &str) -> Result<(), UpError> {
        if let Some(door) = self.doors.remove(name) {
            door.abort();
            let _ = door.await;
        }
        let mut s = self.state.lock();
        s.dead.insert(name.to_owned());
        let Some(heir) = s.other(name) else { return Ok(()) };
        let orphans: Vec<String> = s.aes.iter().filter(|(_, a)| a.home == name).map(|(id, _)| id.clone()).collect();
        for ae in orphans {
            s.place(&ae, &heir, MoveReason::Failover);
        }
        Ok(())
    }
    async fn restart(&mut self, name: &str, _within: Duration) -> Result<(), UpError> {
        self.open(name).await;
        self.state.lock().dead.remove(name);
        Ok(())
    }
    fn audit_file(&self, _name: &str) -> Option<PathBuf> {
        None
    }
}
