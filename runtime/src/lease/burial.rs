//! Proposes the deaths that the grantor found, on the runtime of the directory, so that the thread for leases never waits
//! for Raft.

use std::collections::BTreeSet;
use std::sync::Arc;

use onemec_core::directory::{Command, CommandOutcome, Refusal};
use onemec_core::lease::{LeaseTiming, Term};
use onemec_wire::Member;
use tokio::sync::mpsc;

use crate::directory::DirectoryHandle;
use crate::supervise::Tree;

/// Deaths that wait to be proposed. The grantor repeats what was lost.
const QUEUE_MAX: usize = 1_024;
/// A proposal is waited for so many leases at most.
const PATIENCE_LEASES: u32 = 4;

/// A boot to be declared dead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    pub(super) member: Member,
    /// An operator confirmed it.
    pub(super) forced: bool,
    /// The leadership whose leases it did not renew.
    pub(super) reign: Term,
}

/// Both ends of the undertaker.
pub(super) struct Burials {
    pub(super) deaths: mpsc::Sender<Death>,
    /// Boots whose burial was refused by the brake on mass deaths.
    pub(super) refused: mpsc::Receiver<Member>,
}

/// Its place in the supervision tree.
const BRANCH: &str = "lease/burials";

pub(super) fn start(directory: DirectoryHandle, timing: LeaseTiming, tree: Arc<Tree>) -> Burials {
    let (deaths, queue) = mpsc::channel(QUEUE_MAX);
    let (report, refused) = mpsc::channel(QUEUE_MAX);
    // Ends when the thread for leases has ended.
    drop(tokio::spawn(async move {
        let burying = tokio::spawn(run(directory, timing, queue, report));
        tree.started(BRANCH);
        if burying.await.is_err() {
            tree.escalate(BRANCH, "it panicked");
        }
        tree.stopped(BRANCH);
    }));
    Burials { deaths, refused }
}

async fn run(
    directory: DirectoryHandle,
    timing: LeaseTiming,
    mut queue: mpsc::Receiver<Death>,
    refused: mpsc::Sender<Member>,
) {
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE_MAX).await > 0 {
        // What belongs to a former leadership is void.
        let Some(reign) = batch.iter().map(|d| d.reign).max() else { continue };
        let mut seen = BTreeSet::new();
        batch.retain(|d| d.reign == reign && seen.insert(d.member));
        // Rule 15: all that are dead now go in one entry.
        let commands = batch.iter().map(|d| Command::NodeDead { member: d.member, forced: d.forced }).collect();
        match directory.propose_only_in(commands, reign, timing.lease * PATIENCE_LEASES).await {
            Ok(outcomes) => {
                for (death, outcome) in batch.iter().zip(outcomes) {
                    tell(death, &outcome);
                    if matches!(outcome, CommandOutcome::Refused(Refusal::MassDeath { .. })) {
                        let _ = refused.try_send(death.member);
                    }
                }
            }
            // It may still be applied: the grantor proposes again after a lease, and grants nothing meanwhile.
            Err(error) => tracing::warn!(%error, "deaths may not be declared"),
        }
        batch.clear();
    }
}

fn tell(death: &Death, outcome: &CommandOutcome) {
    match outcome {
        CommandOutcome::Refused(refusal) => {
            tracing::warn!(member = %death.member, %refusal, "a silent boot is not declared dead");
        }
        _ => tracing::info!(member = %death.member, "declared dead: its lease has run out"),
    }
}
