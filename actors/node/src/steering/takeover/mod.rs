//! Address take-over: each node has a service address in one network; while a node is dead, its successor holds its address
//! and serves what comes there (any node forwards).
//!
//! Who holds what follows from the directory ([`duty`]), so nobody has to agree on it. A node without a lease holds
//! nothing: it gives its addresses up by itself, and since a process may be killed or stopped, each address is given to the
//! kernel only for [`ADDRESS_S`] seconds and renewed while the lease is valid: the kernel takes it away from the dead.
//! The new holder says by gratuitous ARP or unsolicited neighbour advertisement that the address is here ([`announce`]),
//! several times, since the former holder's kernel may still answer for it.

mod announce;
pub mod duty;
mod interface;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use onemec_runtime::directory::DirectoryHandle;
use onemec_runtime::lease::LeaseHandle;
use onemec_runtime::supervise::{Health, Tree};
use onemec_wire::NodeId;
use tokio::time::MissedTickBehavior;

pub use self::duty::SERVICE_ADDRESS;
use self::interface::Interface;

/// The kernel takes an address away that was not renewed for so long, seconds (its clock has no finer step).
pub const ADDRESS_S: u32 = 2;
/// Lease and directory are looked at this often, and addresses renewed.
const LOOK: Duration = Duration::from_millis(100);
/// An address is announced in so many looks after it came: longer than a dead process' kernel may keep it.
const ANNOUNCED_LOOKS: u32 = 40;
/// Name in the supervision tree.
const BRANCH: &str = "service-address";

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum TakeoverError {
    /// No such interface.
    #[error("interface `{0}` is not there: {1}")]
    Interface(String, String),
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

/// Holds addresses while it runs.
pub struct Takeover {
    interface: Interface,
    me: NodeId,
    directory: DirectoryHandle,
    lease: LeaseHandle,
    /// What is held, and how often it is still to be announced.
    held: BTreeMap<(IpAddr, u8), u32>,
}

impl Takeover {
    /// Finds the interface, and holds this node's own address if the directory says so.
    ///
    /// # Errors
    /// If there is no such interface or the kernel refuses: then nothing is held.
    pub async fn begin(
        interface: &str,
        me: NodeId,
        directory: DirectoryHandle,
        lease: LeaseHandle,
    ) -> Result<Self, TakeoverError> {
        let interface = Interface::open(interface).await?;
        let mut this = Self { interface, me, directory, lease, held: BTreeMap::new() };
        this.look().await?;
        Ok(this)
    }

    /// Runs until `stop`, and then gives up what it holds.
    pub async fn run(mut self, tree: Arc<Tree>, mut stop: tokio::sync::oneshot::Receiver<()>) {
        tree.started(BRANCH);
        let (mut health, mut failing) = (Health::default(), false);
        let mut changes = self.directory.changes();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stop => break,
                _ = look.tick() => {}
                change = changes.next() => if change.is_none() { break },
            }
            match self.look().await {
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
        self.release().await;
        tree.stopped(BRANCH);
    }

    /// Holds what this node should hold at this moment, and nothing else.
    async fn look(&mut self) -> Result<(), TakeoverError> {
        let wanted = if self.lease.is_valid() { duty::held_by(self.me, &self.directory.read()) } else { Vec::new() };
        let surplus: Vec<(IpAddr, u8)> = self.held.keys().filter(|a| !wanted.contains(a)).copied().collect();
        for address in surplus {
            self.held.remove(&address);
            tracing::info!(address = %address.0, "service address given up");
            self.interface.remove(address).await?;
        }
        for address in wanted {
            self.interface.hold(address, ADDRESS_S).await?;
            let left = self.held.entry(address).or_insert_with(|| {
                tracing::info!(address = %address.0, "service address held");
                ANNOUNCED_LOOKS
            });
            if *left > 0 {
                *left -= 1;
                announce::send(&self.interface, address.0)
                    .map_err(|source| self.interface.refused(address.0, source))?;
            }
        }
        Ok(())
    }

    async fn release(&mut self) {
        for address in std::mem::take(&mut self.held).into_keys() {
            if let Err(e) = self.interface.remove(address).await {
                // The kernel takes it away by itself a moment later.
                tracing::warn!("{e}");
            }
        }
    }
}
