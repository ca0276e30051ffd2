//! Voters and nodes at run time: what an operator changes while the cluster runs (rules 6, 14 and 15). Every order says what
//! is to be, so that giving it twice does no harm, and ends within its deadline.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use onemec_core::context::Contexts as _;
use onemec_core::directory::{Command, CommandOutcome, Placement};
use onemec_runtime::directory::{ChangeError, DirectoryHandle, MemberChange, MemberState};
use onemec_wire::{GroupId, Member, NodeId};

use super::backend::{Backend, Live};
use super::drains;
use super::views::{group_named, set_fact};
use crate::admin::server::{AdminError, Answer};
use crate::admin::types::{
    Deaths, DeathsOrder, ForceOrder, Forced, HeldCopy, NodeOrder, NodeRemoved, Voter, VoterAction, VoterOrder, Voters,
};

/// An order takes no longer, whatever it says.
const ORDER_MAX: Duration = Duration::from_secs(50);
/// Without a deadline of its own.
const ORDER: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);
/// A death that was confirmed is in the directory by then, if the node is dead.
const DEATH_MAX: Duration = Duration::from_secs(8);
/// Groups named in one answer.
const GROUPS_LISTED_MAX: usize = 20;
/// Nodes in one order.
const NODES_MAX: usize = 1_000;

fn within(deadline_ms: u64) -> Duration {
    if deadline_ms == 0 { ORDER } else { Duration::from_millis(deadline_ms).min(ORDER_MAX) }
}

fn changed(result: Result<(), ChangeError>) -> Answer<()> {
    result.map_err(|e| match e {
        ChangeError::Refused { .. } => {
            let next = "`onemec voters list` shows who votes; try again when the reason is gone";
            AdminError::new(409, "voters-refused", e.to_string(), next)
        }
        ChangeError::Unknown(_) => {
            let next = "`onemec voters list` shows whether it happened; giving the order again does no harm";
            AdminError::new(504, "voters-unknown", e.to_string(), next)
        }
    })
}

/// Who votes and who learns.
pub(super) fn voters(backend: &Backend, live: &Live) -> Voters {
    let status = live.runtime.directory().status();
    let directory = live.runtime.directory().read();
    let members = status.members.iter().map(|m| Voter {
        node: backend.name_of(m.node),
        store: format!("{:016x}", m.raft.0),
        votes: m.voter,
        leads: m.voter && status.leader == Some(m.node),
        up: directory.node(m.node).is_some_and(|n| n.up),
    });
    let mut members: Vec<Voter> = members.collect();
    members.sort_by(|a, b| (!a.votes, &a.node).cmp(&(!b.votes, &b.node)));
    Voters { members }
}

/// The stores of a node among the directory's members: one, or two for a moment while a lost one is replaced.
fn stores_of(directory: &DirectoryHandle, node: NodeId) -> Vec<MemberState> {
    directory.members().into_iter().filter(|m| m.node == node).collect()
}

fn learner_of(directory: &DirectoryHandle, node: NodeId, name: &str) -> Answer<MemberState> {
    let stores = stores_of(directory, node);
    let one = stores.iter().find(|m| m.voter).or_else(|| stores.first()).copied();
    one.ok_or_else(|| {
        let text = format!("node `{name}` has not joined the directory");
        AdminError::new(409, "not-joined", text, "start the node first: it joins by itself")
    })
}

fn voter_of(directory: &DirectoryHandle, node: NodeId, name: &str) -> Answer<MemberState> {
    stores_of(directory, node).into_iter().find(|m| m.voter).ok_or_else(|| {
        let text = format!("node `{name}` does not vote");
        AdminError::new(404, "no-such-voter", text, "`onemec voters list` shows who votes")
    })
}

/// Who is to vote must be up: a voter that is dead only makes it harder to find a quorum (rule 14). That it has caught up
/// is asked by the leader, which knows.
fn up_to_vote(directory: &DirectoryHandle, node: NodeId, name: &str) -> Answer<()> {
    if directory.read().node(node).is_some_and(|n| n.up) {
        return Ok(());
    }
    let text = format!("node `{name}` is not up: who votes does not change");
    Err(AdminError::new(409, "not-up", text, "start it, or choose a node that `onemec voters list` shows as up"))
}

/// Changes who votes by one step (rule 14).
pub(super) async fn change_voters(backend: &Backend, live: &Live, order: &VoterOrder) -> Answer<Voters> {
    let directory = live.runtime.directory();
    let node = backend.node_named(&order.node)?;
    let time = within(order.deadline_ms);
    match order.action {
        VoterAction::Add => {
            let one = learner_of(directory, node, &order.node)?;
            if !one.voter {
                up_to_vote(directory, node, &order.node)?;
                changed(directory.change_members(MemberChange::AddVoter { raft: one.raft }, time).await)?;
            }
        }
        VoterAction::Remove => {
            if let Some(one) = stores_of(directory, node).into_iter().find(|m| m.voter) {
                changed(directory.change_members(MemberChange::RemoveVoter { raft: one.raft }, time).await)?;
            }
        }
        VoterAction::Replace => {
            let Some(by) = &order.by else {
                let text = "`replace` needs `by`: the node that votes from now on";
                return Err(AdminError::new(400, "admin-bad-body", text, "docs/operations.md shows the JSON"));
            };
            let by_node = backend.node_named(by)?;
            let new = learner_of(directory, by_node, by)?;
            if !(new.voter && stores_of(directory, node).iter().all(|m| !m.voter)) {
                let old = voter_of(directory, node, &order.node)?;
                up_to_vote(directory, by_node, by)?;
                let change = MemberChange::ReplaceVoter { old: old.raft, new: new.raft };
                changed(directory.change_members(change, time).await)?;
            }
        }
    }
    Ok(voters(backend, live))
}

/// Takes a node out for good. What its groups need is done by their primaries; this waits for them.
pub(super) async fn remove_node(backend: &Backend, live: &Live, order: &NodeOrder) -> Answer<NodeRemoved> {
    let handle = live.runtime.directory();
    let removed = |node: &str| NodeRemoved { node: node.to_owned(), done: true, waiting_for: Vec::new() };
    let Ok(node) = backend.node_named(&order.node) else {
        // Somebody gave the order before, perhaps this caller.
        let known =
            live.runtime.directory().read().facts(REMOVED_NAME).any(|(fact, _)| fact == removed_name(&order.node));
        return if known { Ok(removed(&order.node)) } else { backend.node_named(&order.node).map(|_| removed("")) };
    };
    let until = Instant::now() + within(order.deadline_ms);
    loop {
        let (up, groups) = {
            let directory = handle.read();
            let up = directory.node(node).is_some_and(|n| n.up);
            let groups: Vec<String> = directory.counting_on(node).map(|(g, p)| waits(&directory, g, p)).collect();
            (up, groups)
        };
        if up {
            let text = format!("node `{}` is up", order.node);
            let next = format!("`onemec drain {}`, stop it, and give the order again", order.node);
            return Err(AdminError::new(409, "node-up", text, next));
        }
        if stores_of(handle, node).iter().any(|m| m.voter) {
            let text = format!("node `{}` votes in the directory", order.node);
            let next = format!("`onemec voters replace {} OTHER` or `onemec voters remove {0}` first", order.node);
            return Err(AdminError::new(409, "node-votes", text, next));
        }
        if groups.is_empty() {
            break;
        }
        if Instant::now() + POLL > until {
            let waiting_for = groups.into_iter().take(GROUPS_LISTED_MAX).collect();
            return Ok(NodeRemoved { node: order.node.clone(), done: false, waiting_for });
        }
        tokio::time::sleep(POLL).await;
    }
    set_fact(live, &removed_name(&order.node), Some(String::new())).await?;
    let left = until.saturating_duration_since(Instant::now()).max(Duration::from_secs(3));
    changed(handle.remove_node(node, left).await)?;
    set_fact(live, &drains::fact_of(node), None).await?;
    Ok(removed(&order.node))
}

/// Names of nodes that were removed, so that the order can be given twice.
const REMOVED_NAME: &str = "removed-name/";

fn removed_name(name: &str) -> String {
    format!("{REMOVED_NAME}{name}")
}

/// Why a group still counts on a node, in words.
fn waits(directory: &onemec_core::directory::Directory, group: GroupId, p: &Placement) -> String {
    if directory.is_live(p.primary) {
        format!("{group}: its primary is replacing the node")
    } else {
        format!("{group}: nobody leads it (`onemec force {group}`)")
    }
}

/// What a node holds of a group that nobody leads: asked before the order, which changes it.
async fn copy_at(live: &Live, node: NodeId, group: GroupId) -> Answer<Option<HeldCopy>> {
    let figures = live.runtime.group_figures(node, vec![group]).await.map_err(|e| {
        let text = format!("how old its copy is could not be asked: {e}");
        AdminError::new(503, "unreachable", text, "nothing was changed: try again, or choose another node")
    })?;
    let end = figures.get(&group).and_then(|view| view.end);
    Ok(end.map(|end| HeldCopy { seq: end.seq, epoch: end.epoch, at_ms: end.at_ms }))
}

/// An operator lets a node lead a group of which no member is left (rule 6).
pub(super) async fn force(backend: &Backend, live: &Live, name: &str, order: &ForceOrder) -> Answer<Forced> {
    let group = group_named(name)?;
    let node = backend.node_named(&order.node)?;
    let (base, primary, members, aes) = {
        let directory = live.runtime.directory().read();
        let Some(p) = directory.group(group) else {
            let next = "`onemec force` lists the groups that nobody leads";
            return Err(AdminError::new(404, "no-group", format!("there is no group `{name}`"), next));
        };
        if directory.is_live(p.primary) {
            if p.primary.node == node {
                let text = "it is led by that node already".to_owned();
                let (group, node) = (group.to_string(), order.node.clone());
                return Ok(Forced { group, node, epoch: p.epoch.0, copy: None, text });
            }
            let text = format!("group {group} is led by {}", backend.name_of(p.primary.node));
            let next = "`onemec handover` moves a group that is led";
            return Err(AdminError::new(409, "group-led", text, next));
        }
        let Some(primary) = directory.node(node).filter(|n| n.up).map(|n| n.member) else {
            let text = format!("node `{}` is not up", order.node);
            return Err(AdminError::new(409, "not-up", text, "choose a node that `onemec status` shows as up"));
        };
        let nodes: BTreeSet<NodeId> =
            p.in_sync.iter().map(|m| m.node).chain(p.synced.iter().map(|(n, _)| *n)).collect();
        (p.base(group), primary, nodes, p.contexts.len())
    };
    let members: Vec<String> = members.into_iter().map(|n| backend.name_of(n)).collect();
    let copy = copy_at(live, node, group).await?;
    let age =
        copy.as_ref().map_or_else(|| format!("`{}` holds no copy", order.node), |c| c.text(live.runtime.now_ms()));
    if !order.accept_data_loss {
        let text = format!(
            "everything acknowledged in group {group} ({aes} contexts, epoch {}) that `{}` does not hold would be lost: \
             {age}; its last members are {}",
            base.epoch.0,
            order.node,
            members.join(", ")
        );
        let next = "bring one of them back, and nothing is lost; or say --accept-data-loss";
        return Err(AdminError::new(409, "data-loss", text, next));
    }
    let command = Command::Force { base, primary };
    match live.runtime.directory().propose_within(command, ORDER).await {
        Ok(CommandOutcome::Refused(refusal)) => {
            let next = "look at `onemec force` again: somebody changed the group meanwhile";
            Err(AdminError::new(409, "refused", refusal.to_string(), next))
        }
        Ok(_) => {
            let epoch = live.runtime.directory().read().group(group).map_or(0, |p| p.epoch.0);
            tracing::warn!(%group, node = order.node, "led by order of an operator: what it does not hold is lost");
            let members = members.join(", ");
            let text = format!("what {members} had acknowledged and {} does not hold is lost: {age}", order.node);
            Ok(Forced { group: group.to_string(), node: order.node.clone(), epoch, copy, text })
        }
        Err(e) => Err(AdminError::new(504, "directory", e.to_string(), "look at `onemec force`, and try again")),
    }
}

/// An operator confirms that these nodes are dead, although many are (rule 15). At the directory's leader only.
pub(super) async fn confirm_deaths(backend: &Backend, live: &Live, order: &DeathsOrder) -> Answer<Deaths> {
    let directory = live.runtime.directory();
    if order.nodes.is_empty() || order.nodes.len() > NODES_MAX {
        let text = format!("{} nodes; 1 to {NODES_MAX} are possible", order.nodes.len());
        return Err(AdminError::new(400, "admin-bad-body", text, "docs/operations.md shows the JSON"));
    }
    if !directory.leads() {
        let leader = directory.leader().map_or_else(|| "nobody".to_owned(), |n| backend.name_of(n));
        let next = "ask that node (`onemec confirm-deaths` does so by itself)";
        return Err(AdminError::new(409, "not-leader", format!("the directory is led by {leader}"), next));
    }
    let nodes = order.nodes.iter().map(|n| backend.node_named(n)).collect::<Answer<Vec<NodeId>>>()?;
    let up = |members: &[Member]| {
        let directory = directory.read();
        members.iter().copied().filter(|m| directory.is_live(*m)).collect::<Vec<_>>()
    };
    let asked: Vec<Member> = {
        let directory = directory.read();
        nodes.iter().filter_map(|n| directory.node(*n)).map(|n| n.member).collect()
    };
    let until = Instant::now() + DEATH_MAX;
    let confirmed: BTreeSet<Member> = up(&asked).into_iter().collect();
    live.lease.confirm_dead(confirmed).await.map_err(|e| {
        AdminError::new(503, "not-ready", e.to_string(), "the node is stopping: ask `onemec status` of another one")
    })?;
    while !up(&asked).is_empty() && Instant::now() < until && directory.leads() {
        tokio::time::sleep(POLL).await;
    }
    let alive: BTreeSet<NodeId> = up(&asked).iter().map(|m| m.node).collect();
    let (alive, dead): (Vec<NodeId>, Vec<NodeId>) = nodes.into_iter().partition(|n| alive.contains(n));
    let names = |nodes: Vec<NodeId>| nodes.into_iter().map(|n| backend.name_of(n)).collect();
    Ok(Deaths { dead: names(dead), alive: names(alive) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_says_how_old_it_is() {
        let copy = HeldCopy { seq: 120, epoch: 3, at_ms: Some(1_000) };
        assert_eq!(copy.text(8_900), "its copy ends at place 120 of epoch 3, written 7 s ago");
        let sealed = HeldCopy { at_ms: None, ..copy };
        assert_eq!(sealed.text(8_900), "its copy ends at place 120 of epoch 3, in a checkpoint");
    }
}
