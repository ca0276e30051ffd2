//! Address take-over: each node has a service address in one network; while a node is dead, its successor holds its address
//! and serves what comes there (any node forwards).
//!
//! Who holds what follows from the directory ([`duty`]), which also records it: a living holder gives an address up before
//! the next one takes it. A node without a lease holds nothing: it gives its addresses up by itself, and since a process may
//! be killed or stopped, each address is given to the kernel only for [`ADDRESS_S`] seconds and renewed while the lease is
//! valid: the kernel takes it away from the dead. Until then two boxes may have it, one of which serves nothing; the new
//! holder says by gratuitous ARP or unsolicited neighbour advertisement that the address is here ([`announce`]), several
//! times, since the former holder's kernel may still answer for it.

mod announce;
pub mod duty;
mod interface;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use onemec_core::context::BoxFuture;
use onemec_cse::http::Running;
use onemec_runtime::directory::DirectoryHandle;
use onemec_runtime::lease::LeaseHandle;
use onemec_runtime::supervise::{Health, Tree};
use onemec_wire::Member;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::duty::Address;
pub use self::duty::SERVICE_ADDRESS;
use self::interface::Interface;

/// The kernel takes an address away that was not renewed for so long, seconds (its clock has no finer step).
pub const ADDRESS_S: u32 = 2;
/// Lease and directory are looked at this often, and addresses renewed.
const LOOK: Duration = Duration::from_millis(100);
/// An address is announced in so many looks after it came: longer than a dead process' kernel may keep it.
const ANNOUNCED_LOOKS: u32 = 40;
/// The directory answers within this time, or is told again.
const TELL_MAX: Duration = Duration::from_secs(2);
/// Name in the supervision tree.
const BRANCH: &str = "steering/takeover";

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// No such interface.
    #[error("interface `{0}` is not there: {1}")]
    Interface(String, String),
    /// Nothing can be served there.
    #[error("no door at {address}: {source}")]
    Door {
        /// Which.
        address: IpAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel said no.
    #[error(
        "{address} cannot be held at `{interface}`: {source}\n    -> the process needs CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    Refused {
        /// Which.
        address: IpAddr,
        /// Where.
        interface: String,
        /// What it said.
        source: std::io::Error,
    },
}

/// Opens a door at an address that is held.
pub type OpenDoor = Box<dyn Fn(IpAddr) -> BoxFuture<'static, std::io::Result<Running>> + Send + Sync>;

/// An address that is held.
#[derive(Default)]
struct Held {
    /// Announcements that are still to be made.
    announcements: u32,
    /// Its own door, where the node's does not serve every address.
    door: Option<Running>,
}

/// Holds addresses while it runs.
pub struct Takeover {
    interface: Interface,
    me: Member,
    directory: DirectoryHandle,
    lease: LeaseHandle,
    open: Option<OpenDoor>,
    held: BTreeMap<Address, Held>,
    /// The directory is being told.
    telling: Option<JoinHandle<()>>,
}

impl Takeover {
    /// Finds the interface and takes away what a former life of this process left there. `open`: opens a door at each
    /// address that is held; `None` where the node's door serves all addresses.
    ///
    /// # Errors
    /// If there is no such interface or the kernel refuses: then nothing is held.
    pub async fn begin(
        interface: &str,
        me: Member,
        directory: DirectoryHandle,
        lease: LeaseHandle,
        open: Option<OpenDoor>,
    ) -> Result<Self, TakeoverError> {
        let interface = Interface::open(interface).await?;
        let known = duty::all(&directory.read());
        for address in known {
            interface.remove(address).await?;
        }
        Ok(Self { interface, me, directory, lease, open, held: BTreeMap::new(), telling: None })
    }

    /// Runs until `stop`, and then gives up what it holds.
    pub async fn run(mut self, tree: Arc<Tree>, mut stop: tokio::sync::oneshot::Receiver<()>) {
        tree.started(BRANCH);
        let (mut health, mut failing) = (Health::default(), false);
        let mut applied = self.directory.applied();
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let renew = tokio::select! {
                _ = &mut stop => break,
                _ = tick.tick() => true,
                changed = applied.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => break,
                },
            };
            match self.look(renew).await {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tree.started(BRANCH);
                    }
                }
                Err(e) => {
                    if !std::mem::replace(&mut failing, true) {
                        health.crashed();
                        tracing::error!("{e}");
                    }
                    tree.crashed(BRANCH, &e.to_string(), &health);
                }
            }
        }
        for address in self.held.keys().copied().collect::<Vec<_>>() {
            if let Err(e) = self.give_up(address).await {
                // The kernel takes it away by itself a moment later.
                tracing::warn!("{e}");
            }
        }
        tree.stopped(BRANCH);
    }

    /// Holds what this node should hold at this moment, and nothing else.
    async fn look(&mut self, renew: bool) -> Result<(), TakeoverError> {
        let duty =
            if self.lease.is_valid() { duty::of(self.me, &self.directory.read()) } else { duty::Duty::default() };
        let surplus: Vec<Address> = self.held.keys().filter(|a| !duty.hold.contains(a)).copied().collect();
        for address in surplus {
            self.give_up(address).await?;
        }
        for address in duty.hold {
            if renew || !self.held.contains_key(&address) {
                self.hold(address).await?;
            }
        }
        if !duty.tell.is_empty() && self.telling.as_ref().is_none_or(JoinHandle::is_finished) {
            let directory = self.directory.clone();
            self.telling = Some(tokio::spawn(async move {
                if let Err(e) = directory.propose_all(duty.tell, TELL_MAX).await {
                    // The next look finds what is still to be told.
                    tracing::debug!("holder of a service address: {e}");
                }
            }));
        }
        Ok(())
    }

    async fn hold(&mut self, address: Address) -> Result<(), TakeoverError> {
        self.interface.hold(address, ADDRESS_S).await?;
        let held = self.held.entry(address).or_insert_with(|| {
            tracing::info!(address = %address.0, "service address held");
            Held { announcements: ANNOUNCED_LOOKS, door: None }
        });
        if let Some(open) = self.open.as_ref().filter(|_| held.door.is_none()) {
            let refused = |source| TakeoverError::Door { address: address.0, source };
            held.door = Some(open(address.0).await.map_err(refused)?);
        }
        if held.announcements > 0 {
            held.announcements -= 1;
            announce::send(&self.interface, address.0).map_err(|e| self.interface.refused(address.0, e))?;
        }
        Ok(())
    }

    async fn give_up(&mut self, address: Address) -> Result<(), TakeoverError> {
        // First of all: if the kernel refuses, it is not renewed any more and goes by itself.
        let held = self.held.remove(&address);
        if let Some(door) = held.and_then(|h| h.door) {
            door.stop().await;
        }
        tracing::info!(address = %address.0, "service address given up");
        self.interface.remove(address).await
    }
}
