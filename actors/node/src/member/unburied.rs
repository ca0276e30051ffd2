//! Nodes that are silent, and whose death an operator must confirm since too many are dead (rule 15). Only the directory's
//! leader hears of leases: it writes them into the directory, where every node can say why a device waits.

use std::time::Duration;

use onemec_core::directory::{Command, Directory};
use onemec_runtime::directory::DirectoryHandle;
use onemec_runtime::lease::LeaseHandle;
use onemec_wire::{Member, NodeId};

/// The fact: boots as `node:incarnation`, with commas between them.
const FACT: &str = "unburied";
/// Time between two looks of the leader.
const LOOK: Duration = Duration::from_millis(500);
const FACT_MAX: Duration = Duration::from_secs(3);

fn text(member: Member) -> String {
    format!("{}:{}", member.node.0, member.incarnation.0)
}

/// This boot counts as up and is silent: an operator must confirm that it is dead.
pub(super) fn is_silent(directory: &Directory, member: Member) -> bool {
    let listed = directory.fact(FACT).is_some_and(|all| all.split(',').any(|one| one == text(member)));
    listed && directory.is_live(member)
}

/// All of them.
pub(super) fn silent(directory: &Directory) -> Vec<NodeId> {
    directory.live().filter(|m| is_silent(directory, *m)).map(|m| m.node).collect()
}

/// The command that makes the fact what it should be. Pure.
fn due(directory: &Directory, unburied: impl IntoIterator<Item = Member>) -> Option<Command> {
    let live = unburied.into_iter().filter(|m| directory.is_live(*m)).map(text);
    let value = Some(live.collect::<Vec<_>>().join(",")).filter(|all| !all.is_empty());
    (directory.fact(FACT) != value.as_deref()).then(|| Command::SetFact { name: FACT.into(), value })
}

/// Runs on every node; the one that leads the directory acts. Never ends.
pub(super) async fn run(directory: DirectoryHandle, lease: LeaseHandle) {
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !directory.leads() {
            continue;
        }
        let due = due(&directory.read(), lease.unburied());
        // What was not written is due again.
        if let Some(command) = due
            && let Err(e) = directory.propose_within(command, FACT_MAX).await
        {
            tracing::debug!("silent nodes: {e}");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // tests
mod tests {
    use onemec_core::directory::{Entry, StoreId};

    use super::*;

    fn apply(directory: &mut Directory, command: Command) {
        let index = directory.index() + 1;
        directory.apply(index, &Entry { time_ms: index, commands: vec![command] });
    }

    #[test]
    fn the_fact_names_boots_that_count_as_up() {
        let mut directory = Directory::new(1);
        let boots = [Member::new(1, 4), Member::new(2, 7)];
        for member in boots {
            let (store, info) = (StoreId(member.node.0), Default::default());
            apply(&mut directory, Command::NodeUp { member, store, info });
        }
        assert!(due(&directory, []).is_none(), "nothing to say, nothing to write");
        let fact = due(&directory, [boots[1], Member::new(3, 1)]).unwrap();
        apply(&mut directory, fact);
        assert_eq!(silent(&directory), [NodeId(2)]);
        assert!(!is_silent(&directory, Member::new(2, 6)), "another boot");
        assert!(due(&directory, [boots[1]]).is_none());
        apply(&mut directory, Command::NodeDead { member: boots[1], forced: true });
        assert!(silent(&directory).is_empty(), "confirmed");
        let gone = due(&directory, [boots[1]]).unwrap();
        apply(&mut directory, gone);
        assert!(due(&directory, []).is_none());
    }
}
