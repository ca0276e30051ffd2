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
    /// Stores another value than the one that it acknowledged.
    Alter,
    /// Puts a device's reading into another device's container as well.
    Misplace,
    /// Puts a write before one that was acknowledged earlier.
    Reorder,
    /// Acknowledges one place of a group's log twice.
    SamePlace,
    /// At the end two nodes say that they are a device's registrar.
    TwoRegistrars,
    /// A move of a group leaves one of its contexts behind.
    SplitGroup,
    /// Makes a group of its own for each AE of a node.
    NoBundles,
}

#[derive(Debug, Clone)]
pub(crate) struct Ae {
    pub(crate) name: String,
    /// AEs with the same one move together.
    pub(crate) group: String,
    pub(crate) home: String,
    pub(crate) epoch: u64,
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
    /// Last place of each group's log.
    pub(crate) places: BTreeMap<String, u64>,
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

    /// AEs of a group.
    pub(crate) fn members(&self, group: &str) -> Vec<String> {
        self.aes.iter().filter(|(_, a)| a.group == group).map(|(id, _)| id.clone()).collect()
    }

    /// Makes `to` the home of an AE's group.
    pub(crate) fn place(&mut self, ae: &str, to: &str, reason: MoveReason) {
        let at_ns = self.now_ns();
        let Some(a) = self.aes.get(ae) else { return };
        let (group, from, epoch) = (a.group.clone(), a.home.clone(), a.epoch + 1);
        let aes = self.members(&group);
        for a in self.aes.values_mut().filter(|a| a.group == group) {
            (a.home, a.epoch) = (to.to_owned(), epoch);
        }
        let followed = |a: &&String| *a == ae || self.fault != Fault::SplitGroup;
        let contexts = aes.iter().filter(followed).map(|a| format!("c-{a}")).collect();
        self.log(to, AuditEvent::Serving { group, contexts, epoch, at_ns });
        for ae in &aes {
            let (ae, context) = (ae.clone(), format!("c-{ae}"));
            self.log(to, AuditEvent::Registrar { ae, context, epoch, at_ns });
        }
        let id = u64::try_from(self.handovers.len()).unwrap() + 1;
        let to = to.to_owned();
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
        match fault {
            Fault::Lose if strikes => {}
            Fault::Double if strikes => a.instances.extend([content.clone(), content.clone()]),
            Fault::Alter if strikes => a.instances.push(content.replace("\"unit\"", "\"Unit\"")),
            Fault::Reorder if strikes => a.instances.insert(0, content.clone()),
            _ => a.instances.push(content.clone()),
        }
        let (home, epoch, group) = (a.home.clone(), a.epoch, a.group.clone());
        if strikes && fault == Fault::Misplace {
            let other = self.aes.iter_mut().find(|(id, _)| *id != ae).map(|(_, a)| a);
            other.unwrap().instances.push(content);
        }
        let place = self.places.entry(group.clone()).or_default();
        *place += u64::from(!(strikes && fault == Fault::SamePlace));
        let (context, seq) = (format!("c-{ae}"), *place);
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
        places: BTreeMap::new(),
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
