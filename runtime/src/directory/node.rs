//! How a node comes up (rule 4), and how it learns that it was declared dead.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use onemec_core::directory::{Command, CommandOutcome, StoreId};
use onemec_wire::Member;
use tokio::time::{Instant, timeout_at};

use super::error::NodeUpError;
use super::handle::DirectoryHandle;

/// How long one try takes at most.
const TRY: Duration = Duration::from_secs(2);
/// Pause between tries.
const PAUSE: Duration = Duration::from_millis(50);
/// So often the log says why this node is not up yet.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// This boot of the node.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Which.
    pub member: Member,
    /// Its data folder.
    pub store: StoreId,
    /// What others should know: addresses, roles, names.
    pub info: BTreeMap<String, String>,
    /// The former boot cannot act any more: the lock on its data folder was taken over, or it released its lease.
    /// Otherwise its lease must have run out: then the directory's leader declares it dead.
    pub former_is_gone: bool,
}

impl DirectoryHandle {
    /// Reports this boot as up, and returns when this node has applied that. Nothing may be served before (rule 4).
    pub async fn node_up(&self, boot: &Boot, time: Duration) -> Result<(), NodeUpError> {
        let expires = Instant::now() + time;
        let mut say_at = Instant::now() + SAY_EVERY;
        loop {
            let late = match self.try_node_up(boot, expires).await {
                Ok(()) => return Ok(()),
                Err(refused @ NodeUpError::Refused(_)) => return Err(refused),
                Err(NodeUpError::Late(reason)) => reason,
            };
            if self.inner.removed.load(Ordering::Relaxed) {
                return Err(NodeUpError::Refused(format!("{} was removed for good", boot.member.node)));
            }
            if Instant::now() + PAUSE >= expires {
                return Err(NodeUpError::Late(late));
            }
            if Instant::now() >= say_at {
                tracing::warn!(member = %boot.member, "not up yet: {late}");
                say_at += SAY_EVERY;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_node_up(&self, boot: &Boot, expires: Instant) -> Result<(), NodeUpError> {
        let late = |e: &dyn std::fmt::Display| NodeUpError::Late(e.to_string());
        let time = expires.saturating_duration_since(Instant::now()).min(TRY);
        self.linearizable(time).await.map_err(|e| late(&e))?;
        let former = self.read().node(boot.member.node).filter(|n| n.up).map(|n| n.member);
        match former {
            Some(member) if member == boot.member => return Ok(()),
            // Rule 4: not before the former boot's lease has run out, unless it is certain that it acts no more. Its
            // lease is the leader's business: once it has run out, the leader declares it dead.
            Some(member) if !boot.former_is_gone && member.incarnation < boot.member.incarnation => {
                return Err(NodeUpError::Late(format!("{member} may still hold a lease")));
            }
            _ => {}
        }
        let command = Command::NodeUp { member: boot.member, store: boot.store, info: boot.info.clone() };
        match self.propose_within(command, time).await {
            Ok(CommandOutcome::Refused(refusal)) => Err(NodeUpError::Refused(refusal.to_string())),
            // Proposing it twice is harmless: the second finds the boot up.
            Err(error) => Err(late(&error)),
            // Rule 4: the proposal waits until it is applied here, if it can; only what is applied counts.
            Ok(_) => {
                let mut feed = self.changes();
                loop {
                    if self.read().is_live(boot.member) {
                        return Ok(());
                    }
                    if timeout_at(expires, feed.next()).await.is_err() {
                        return Err(NodeUpError::Late("not yet applied here".into()));
                    }
                }
            }
        }
    }

    /// Ends when this node has applied that `member`, which was up, is dead or has been followed by a later boot: it must
    /// stop acting for it at once (its lease has run out long before), and may start a new incarnation.
    pub async fn declared_dead(&self, member: Member) {
        let mut feed = self.changes();
        while self.read().is_live(member) {
            if feed.next().await.is_none() {
                return;
            }
        }
    }
}
