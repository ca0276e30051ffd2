//! The directory on Raft: the pure state machine of `onemec_core::directory`, replicated by openraft.
//!
//! | file | what |
//! | --- | --- |
//! | `handle` | what the rest of the node uses |
//! | `propose` | many commands, one entry; forwarding; what is known about an outcome |
//! | `read` | reads that are not stale |
//! | `changes` | the feed of changes |
//! | `node` | NodeUp (rule 4) and "declared dead" |
//! | `join`, `members` | making a cluster, joining it, changing its voters (rule 14) |
//! | `machine`, `log`, `storage`, `disk` | openraft's state machine and log, and where they lie |
//! | `net`, `network`, `serve`, `message`, `codec` | the Raft service on the network |
//! | `elections` | when this voter stands for election |
//! | `view` | openraft's metrics as the lease machines see them |

mod changes;
mod codec;
mod disk;
mod elections;
mod error;
mod handle;
mod join;
mod log;
mod machine;
mod members;
mod message;
pub mod net;
mod network;
mod node;
mod options;
mod propose;
mod read;
mod serve;
mod storage;
mod types;
mod view;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use onemec_core::election::Candidacy;
use onemec_wire::service::ServiceId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use self::changes::{Change, ChangeFeed, ChangeSet};
pub use self::disk::{DiskOpenError, DiskStorage};
pub use self::error::{ChangeError, NodeUpError, NotProposed, ProposeError, ReadError, StartError};
pub use self::handle::{DirectoryHandle, DirectoryStatus, MemberState};
pub use self::log::{LogError, SharedVoteCell};
pub use self::machine::{Applied, SnapshotError};
pub use self::message::MemberChange;
pub use self::net::{AskHandler, DatagramHandler, Net, NetError};
pub use self::node::Boot;
pub use self::options::DirectoryOptions;
pub use self::storage::{DiskFailed, Opened, Storage, Synced};
pub use self::types::{Peer, RaftId};

pub(crate) use self::types::Metrics;

use self::handle::Inner;
use self::log::LogStore;
use self::machine::Machine;
use self::network::Network;
use self::serve::Server;
use crate::lease::boottime;

/// The running directory of one node. Dropping it stops it.
pub struct DirectoryService {
    handle: DirectoryHandle,
    tasks: JoinSet<()>,
}

impl DirectoryService {
    /// Starts Raft on what was found in the store, answers the Raft service, and gets into the cluster: by making it
    /// with the other first voters, or by asking to be taken in.
    pub async fn start(net: Arc<dyn Net>, opened: Opened, options: DirectoryOptions) -> Result<Self, StartError> {
        let config = options.raft_config()?;
        let log = LogStore::open(&opened, options.fresh_raft).await?;
        let (machine, shared) = Machine::open(opened.storage.clone(), opened.snapshot.as_ref(), options.changes_max)?;
        let out_of_touch = Arc::new(AtomicBool::new(false));
        let network = Network { net: net.clone(), me: log.id(), out_of_touch: out_of_touch.clone() };
        let raft = openraft::Raft::new(log.id().0, Arc::new(config), network, log.clone(), machine)
            .await
            .map_err(|e| StartError::Raft(e.to_string()))?;
        let (proposals, proposed) = mpsc::channel(options.proposals_max.max(1));
        let (reads, asked) = mpsc::channel(options.reads_max.max(1));
        let inner = Arc::new(Inner {
            me: net.me(),
            raft_id: log.id(),
            metrics: raft.metrics(),
            server: raft.server_metrics(),
            net,
            raft,
            shared,
            proposals,
            reads,
            candidacy: parking_lot::Mutex::new(Candidacy::new(boottime(), options.lease, log.id().0)),
            out_of_touch,
            log,
            options,
            changing: tokio::sync::Mutex::new(()),
            commits: crate::meter::Histogram::default(),
            removed: AtomicBool::new(false),
        });
        let mut tasks = JoinSet::new();
        let tree = inner.options.tree.clone();
        // Their queues end with them, so they cannot be made anew.
        tasks.spawn(tree.clone().vital("directory/proposals", propose::run(inner.clone(), proposed)));
        tasks.spawn(tree.clone().vital("directory/reads", read::run(inner.clone(), asked)));
        let joining = inner.clone();
        tasks.spawn(tree.clone().keep("directory/membership", move || {
            let run = join::run(joining.clone());
            async move {
                run.await;
                Ok(())
            }
        }));
        let electing = inner.clone();
        tasks.spawn(tree.keep("directory/elections", move || {
            let run = elections::run(electing.clone());
            async move {
                run.await;
                Ok(())
            }
        }));
        inner.net.on_ask(ServiceId::RAFT, Arc::new(Server::new(inner.clone())));
        Ok(Self { handle: DirectoryHandle { inner }, tasks })
    }

    /// Access to it.
    pub fn handle(&self) -> DirectoryHandle {
        self.handle.clone()
    }

    /// Stops Raft and everything around it; the store is closed when the last handle is gone.
    pub async fn stop(mut self) {
        self.handle.inner.net.off(ServiceId::RAFT);
        self.tasks.shutdown().await;
        if let Err(error) = self.handle.inner.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not end well");
        }
    }
}

impl Drop for DirectoryService {
    fn drop(&mut self) {
        self.handle.inner.net.off(ServiceId::RAFT);
        let raft = self.handle.inner.raft.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { raft.shutdown().await });
        }
    }
}
