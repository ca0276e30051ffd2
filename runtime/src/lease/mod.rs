//! Leases at work: executes the machines of `onemec_core::lease` on a thread of its own, apart from Raft, from the disks
//! and from everything else that may keep a node busy (rules 1 and 3).
//!
//! Every node runs a holder. A node with a store that votes answers rounds from its vote cell, and runs a grantor that
//! works while it leads the directory. Messages are datagrams of [`ServiceId::LEASE`]; those of a node to itself take no
//! detour. What the rest of the node sees is one atomic: until when the lease is valid.

mod burial;
mod clock;
mod executor;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use onemec_core::lease::{LeaseMessage, LeaseState, LeaseTiming};
use onemec_core::time::Mono;
use onemec_wire::service::ServiceId;
use onemec_wire::{Member, NodeId, codec};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::clock::boottime;

use crate::directory::{DatagramHandler, DirectoryHandle, Net};
use crate::supervise::Tree;

/// Messages that wait for the thread; more are dropped, as datagrams may be.
const INBOX_MAX: usize = 4_096;
/// Orders that wait for the thread.
const ORDERS_MAX: usize = 64;
/// The thread's nice value: a lease must not run out because other work fills the CPUs.
const PRIORITY: i32 = -15;
/// Version of the messages.
const VERSION: u8 = 1;

/// The thread did not start. Nothing runs.
#[derive(Debug, thiserror::Error)]
#[error("the thread for leases did not start: {0}")]
pub struct LeaseStartError(#[from] std::io::Error);

/// The thread for leases has ended: the lease is not renewed any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("leases have stopped")]
pub struct LeaseStopped;

/// What the node sees of its lease.
#[derive(Debug, Default)]
struct Shared {
    until: AtomicU64,
    /// Boots whose burial was refused, and when (rule 15).
    unburied: Mutex<BTreeMap<Member, Mono>>,
}

impl Shared {
    fn note_unburied(&self, now: Mono, member: Member) {
        let mut unburied = self.unburied.lock();
        if unburied.len() >= UNBURIED_MAX {
            unburied.retain(|_, at| now.since(*at) < UNBURIED_HOLDS);
        }
        if unburied.len() < UNBURIED_MAX {
            unburied.insert(member, now);
        }
    }
}

enum Order {
    /// Ask for leases for this boot from now on; a lease of a former one is over.
    Begin(Member, oneshot::Sender<()>),
    /// Give the lease up.
    Release(oneshot::Sender<()>),
    /// An operator says that these boots are dead indeed.
    Confirm(BTreeSet<Member>),
}

/// Access to this node's lease. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LeaseHandle {
    shared: Arc<Shared>,
    renewed: watch::Receiver<Mono>,
    orders: mpsc::Sender<Order>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin(..) => "Begin",
            Self::Release(_) => "Release",
            Self::Confirm(_) => "Confirm",
        })
    }
}

impl LeaseHandle {
    /// May this node act as primary at this moment? One atomic read and one clock read; no lock.
    pub fn is_valid(&self) -> bool {
        // Rule 1: counted from the sending of the request; rule 3: on CLOCK_BOOTTIME.
        boottime().0 < self.shared.until.load(Ordering::Acquire)
    }

    /// The lease as it is.
    pub fn state(&self) -> LeaseState {
        LeaseState { until: Mono(self.shared.until.load(Ordering::Acquire)) }
    }

    /// Tells of every renewal: until when the lease is valid.
    pub fn renewals(&self) -> watch::Receiver<Mono> {
        self.renewed.clone()
    }

    /// Waits until the lease is valid.
    pub async fn valid(&self) -> Result<(), LeaseStopped> {
        let mut renewed = self.renewed.clone();
        renewed.wait_for(|until| boottime() < *until).await.map(|_| ()).map_err(|_| LeaseStopped)
    }

    /// Asks for leases for `member` from now on (a new incarnation after the old one was declared dead). When this
    /// returns, a lease of the former boot is no longer valid here.
    pub async fn begin(&self, member: Member) -> Result<(), LeaseStopped> {
        let (done, wait) = oneshot::channel();
        self.orders.send(Order::Begin(member, done)).await.map_err(|_| LeaseStopped)?;
        wait.await.map_err(|_| LeaseStopped)
    }

    /// Gives the lease up for good (clean stop). When this returns, the node may be declared dead at once: it may propose
    /// that itself.
    pub async fn release(&self) -> Result<(), LeaseStopped> {
        let (done, wait) = oneshot::channel();
        self.orders.send(Order::Release(done)).await.map_err(|_| LeaseStopped)?;
        wait.await.map_err(|_| LeaseStopped)
    }

    /// On the directory's leader: boots that are silent and were not declared dead, since too many are dead (rule 15).
    pub fn unburied(&self) -> BTreeSet<Member> {
        let now = boottime();
        let unburied = self.shared.unburied.lock();
        unburied.iter().filter(|(_, at)| now.since(**at) < UNBURIED_HOLDS).map(|(m, _)| *m).collect()
    }

    /// On the directory's leader: an operator confirms that these boots are dead, although many are (rule 15). Each is
    /// declared dead as soon as its lease has run out; one that still asks for leases is not dead and stays.
    pub async fn confirm_dead(&self, members: BTreeSet<Member>) -> Result<(), LeaseStopped> {
        self.orders.send(Order::Confirm(members)).await.map_err(|_| LeaseStopped)
    }
}

/// Its place in the supervision tree.
const BRANCH: &str = "lease";
/// A refused burial is tried again well within this time; what is older is over.
const UNBURIED_HOLDS: Duration = Duration::from_secs(10);
/// So many are remembered.
const UNBURIED_MAX: usize = 1_024;

/// The running thread. Dropping it ends it: the lease then runs out.
pub struct LeaseService {
    handle: LeaseHandle,
    net: Arc<dyn Net>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LeaseService {
    /// Starts the thread; it asks for leases for `member`. Call it inside the runtime that the directory runs on: deaths
    /// are proposed there.
    pub fn start(
        net: Arc<dyn Net>,
        directory: DirectoryHandle,
        member: Member,
        timing: LeaseTiming,
        tree: Arc<Tree>,
    ) -> Result<Self, LeaseStartError> {
        let (inbox, messages) = mpsc::channel(INBOX_MAX);
        let (orders, ordered) = mpsc::channel(ORDERS_MAX);
        let (renew, renewed) = watch::channel(Mono(0));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::new(Shared::default());
        let burials = burial::start(directory.clone(), timing, tree.clone());
        let executor = executor::Executor::new(net.clone(), directory, member, timing, shared.clone(), renew, burials);
        net.on_datagram(ServiceId::LEASE, Arc::new(Inbox(inbox)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("onemec-lease".into()).spawn(move || {
            // Best effort: it needs CAP_SYS_NICE or a limit that admits it (the unit file sets one). On Linux this is the
            // priority of the calling thread alone, which runs for microseconds per second.
            if let Err(error) = rustix::process::setpriority_process(None, PRIORITY) {
                tracing::debug!(%error, "the thread for leases has no raised priority");
            }
            tree.started(BRANCH);
            let run = || runtime.block_on(executor.run(messages, ordered, stopped));
            // It ends only when it is told to. What a panic leaves behind is not used again.
            if std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err() {
                tree.escalate(BRANCH, "the thread for leases panicked");
            }
        })?;
        let handle = LeaseHandle { shared, renewed, orders };
        Ok(Self { handle, net, stop: Some(stop), thread: Some(thread) })
    }

    /// Access to the lease.
    pub fn handle(&self) -> LeaseHandle {
        self.handle.clone()
    }
}

impl Drop for LeaseService {
    fn drop(&mut self) {
        self.net.off(ServiceId::LEASE);
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // Ends within one message. Its panic would have been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Hands datagrams to the thread.
struct Inbox(mpsc::Sender<(NodeId, LeaseMessage)>);

impl DatagramHandler for Inbox {
    fn datagram(&self, from: NodeId, body: Bytes) {
        match codec::decode::<(u8, LeaseMessage)>(&body) {
            // A full inbox loses it: the next request comes in a third of a lease.
            Ok((VERSION, message)) => drop(self.0.try_send((from, message))),
            _ => tracing::debug!(%from, "lease message is not readable"),
        }
    }
}

fn encode(message: LeaseMessage) -> Option<Bytes> {
    codec::encode(&(VERSION, message)).ok()
}
