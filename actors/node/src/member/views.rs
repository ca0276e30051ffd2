//! What the admin API shows, made from the directory and the executor.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use onemec_core::context::{ContextKind, Key};
use onemec_core::directory::{Command, ContextEntry};
use onemec_runtime::exec::body::GroupView;
use onemec_runtime::exec::group::GroupStatus;
use onemec_runtime::lease::boottime;
use onemec_runtime::membership::Heard;
use onemec_wire::{ContextId, GroupId, NodeId};

use super::backend::{Backend, Live};
use super::nodes::NodeView;
use super::steward::AE_KEY;
use super::targets::age_ms;
use super::{drains, federation, unburied};
use crate::admin::server::{AdminError, Answer};
use crate::admin::types::{
    Ae, AePage, Alarm, Candidate, Candidates, CapabilityFile, Directory, Excluded, GroupMemory, Member,
    NodeCapabilities, Placement, Status, Supervised,
};
use crate::steering::dns;

const NAME_KEY: &str = "rn:";
const FACT_MAX: Duration = Duration::from_secs(3);
const GROUPS_LISTED_MAX: usize = 50;

/// An AE that was asked for.
pub(super) struct Found {
    pub(super) ae_id: String,
    pub(super) context: ContextId,
    pub(super) group: GroupId,
    pub(super) primary: NodeId,
}

fn stem(entry: &ContextEntry) -> String {
    entry.keys.iter().find_map(|k| k.name.strip_prefix(AE_KEY)).unwrap_or_default().to_owned()
}

fn name(entry: &ContextEntry) -> String {
    entry.keys.iter().find_map(|k| k.name.strip_prefix(NAME_KEY)).unwrap_or_default().to_owned()
}

/// Finds an AE by AE-ID or name, through the directory's keys.
pub(super) fn find_ae(live: &Live, ae: &str) -> Answer<Found> {
    let directory = live.runtime.directory().read();
    let wanted = ae.rsplit('/').next().unwrap_or(ae);
    let by = |key: &Key| directory.place_by_key(key).filter(|p| p.kind == ContextKind::AE && !p.alias);
    let names = [format!("{AE_KEY}{wanted}"), format!("{NAME_KEY}{wanted}")];
    let at_home = |name: &String| directory.nodes().find_map(|(node, _)| by(&Key::at(node, name.as_str())));
    let found = by(&Key::global(names[0].as_str())).or_else(|| names.iter().find_map(at_home));
    let Some((place, entry)) = found.and_then(|p| Some((p.clone(), directory.context(p.context)?))) else {
        let next = "`onemec ae ls` lists them";
        return Err(AdminError::new(404, "no-such-ae", format!("there is no AE `{ae}`"), next));
    };
    Ok(Found { ae_id: stem(entry), context: place.context, group: place.group, primary: place.primary })
}

/// The group of that id.
pub(super) fn group_named(name: &str) -> Answer<GroupId> {
    name.parse().map_err(|_| {
        let next = "write it as `onemec force` lists it, for example 1.6.0";
        AdminError::new(404, "no-group", format!("`{name}` is no group"), next)
    })
}

/// AE-IDs of a group.
pub(super) fn aes_of(live: &Live, group: GroupId) -> Vec<String> {
    let directory = live.runtime.directory().read();
    let Some(p) = directory.group(group) else { return Vec::new() };
    p.contexts.iter().filter_map(|c| directory.context(*c)).filter(|c| c.kind == ContextKind::AE).map(stem).collect()
}

/// Sets a fact in the directory.
pub(super) async fn set_fact(live: &Live, name: &str, value: Option<String>) -> Answer<()> {
    let command = Command::SetFact { name: name.into(), value };
    match live.runtime.directory().propose_within(command, FACT_MAX).await {
        Ok(_) => Ok(()),
        Err(e) => Err(AdminError::new(503, "directory", e.to_string(), "try again in a moment")),
    }
}

/// The nodes that could take an AE's group, each of those that would be tried asked whether it would (row G07).
pub(super) async fn candidates(live: &Live, found: &Found, n: usize) -> Candidates {
    let ranking = live.mover.targets.ranking(found.group);
    let mut out = Candidates { ae_id: found.ae_id.clone(), policy: ranking.policy, ..Candidates::default() };
    let asked = ranking.candidates.iter().map(|c| live.runtime.would_take(found.group, c.node, "operator"));
    let answers = futures_util::future::join_all(asked).await;
    for (c, answer) in ranking.candidates.into_iter().zip(answers) {
        match answer {
            Ok(()) if out.candidates.len() < n => out.candidates.push(Candidate {
                node: c.name,
                score: c.score,
                terms: c.terms.into_iter().map(|(t, v)| (t.to_owned(), v)).collect(),
                has_replica: c.has_replica,
                age_ms: c.age_ms,
            }),
            Ok(()) => {}
            Err(e) => out.excluded.push(Excluded { node: c.name, code: e.code, text: e.reason }),
        }
    }
    let excluded = ranking.excluded.into_iter();
    out.excluded.extend(excluded.map(|e| Excluded { node: e.name, code: e.code.as_str().into(), text: e.text }));
    out
}

/// What gossip last said of a node.
fn heard(live: &Live, node: NodeId) -> Option<Heard> {
    live.gossip.heard().into_iter().find(|h| h.node == node)
}

/// A page of AEs, each with what its primary says of it.
pub(super) async fn aes(
    backend: &Backend,
    live: &Live,
    home: Option<NodeId>,
    after: Option<&str>,
    limit: usize,
) -> AePage {
    let mut all: Vec<(String, ContextId)> = {
        let directory = live.runtime.directory().read();
        let homes: Vec<NodeId> = home.map_or_else(|| directory.nodes().map(|(id, _)| id).collect(), |h| vec![h]);
        let at_home = homes.iter().flat_map(|h| directory.at_home(*h, ContextKind::AE, None));
        at_home.map(|(id, c)| (stem(c), id)).collect()
    };
    all.sort();
    let from = after.map_or(0, |a| all.partition_point(|(s, _)| s.as_str() <= a));
    let page: Vec<ContextId> = all.iter().skip(from).take(limit).map(|(_, c)| *c).collect();
    let figures = figures_of(live, &page).await;
    let page: Vec<Ae> = page
        .into_iter()
        .map(|c| {
            let mut ae = ae(backend, live, c);
            if let Some(view) = ae.group.parse().ok().and_then(|group: GroupId| figures.get(&group)) {
                fill(&mut ae, view, c);
            }
            ae
        })
        .collect();
    let next = (from + page.len() < all.len()).then(|| page.last().map(|a| a.ae_id.clone())).flatten();
    AePage { aes: page, next }
}

/// What the primaries of these contexts say of their groups; who does not answer is left out.
async fn figures_of(live: &Live, contexts: &[ContextId]) -> BTreeMap<GroupId, GroupView> {
    let mut by_primary: BTreeMap<NodeId, BTreeSet<GroupId>> = BTreeMap::new();
    {
        let directory = live.runtime.directory().read();
        for place in contexts.iter().filter_map(|c| directory.place(*c)) {
            by_primary.entry(place.primary).or_default().insert(place.group);
        }
    }
    let asked =
        by_primary.into_iter().map(|(node, groups)| live.runtime.group_figures(node, groups.into_iter().collect()));
    futures_util::future::join_all(asked).await.into_iter().flatten().flatten().collect()
}

/// What its primary says of an AE.
fn fill(ae: &mut Ae, view: &GroupView, context: ContextId) {
    ae.committed = Some(view.committed);
    ae.bytes = Some(view.bytes);
    ae.instances = view.held.iter().find(|(c, _)| *c == context).map(|(_, n)| *n);
    if view.moving {
        ae.state = "moving".into();
    }
}

/// One AE.
pub(super) fn ae(backend: &Backend, live: &Live, context: ContextId) -> Ae {
    let directory = live.runtime.directory().read();
    let Some(entry) = directory.context(context) else { return Ae::default() };
    let Some(p) = directory.group(entry.group) else { return Ae::default() };
    let unconfirmed = unburied::is_silent(&directory, p.primary);
    let state = match directory.is_live(p.primary) {
        true if unconfirmed => "unconfirmed",
        true => "active",
        false => "unavailable",
    };
    let primary = backend.name_of(p.primary.node);
    let former: BTreeSet<NodeId> = entry.aliases.iter().filter_map(|k| k.home).collect();
    let bundle = p.contexts.iter().filter(|c| **c != context).filter_map(|c| directory.context(*c)).map(stem);
    Ae {
        ae_id: stem(entry),
        name: name(entry),
        context: context.to_string(),
        group: entry.group.to_string(),
        home: backend.name_of(entry.home),
        epoch: p.epoch.0,
        in_sync: p.in_sync.iter().map(|m| backend.name_of(m.node)).collect(),
        state: state.into(),
        waits_for: unconfirmed
            .then(|| format!("the death of {primary} to be confirmed: onemec confirm-deaths {primary}")),
        primary,
        aliases: former.into_iter().map(|n| backend.name_of(n)).collect(),
        bundle: bundle.collect(),
        residency: live.rules.text_of(&directory, &stem(entry)),
        dns_name: backend.topology.steering.dns_zone.as_deref().and_then(|z| dns::name_of_ae(&stem(entry), z)),
        ..Ae::default()
    }
}

/// One AE with what only its primary knows.
pub(super) async fn ae_whole(backend: &Backend, live: &Live, found: &Found) -> Ae {
    let mut ae = ae(backend, live, found.context);
    if let Ok(view) = live.runtime.view(found.group).await {
        fill(&mut ae, &view, found.context);
    }
    ae
}

/// All placements.
pub(super) fn directory(backend: &Backend, live: &Live) -> Directory {
    let directory = live.runtime.directory().read();
    let groups = directory
        .groups()
        .map(|(id, p)| Placement {
            group: id.to_string(),
            contexts: p.contexts.iter().map(ToString::to_string).collect(),
            aes: p
                .contexts
                .iter()
                .filter_map(|c| directory.context(*c))
                .filter(|c| c.kind == ContextKind::AE)
                .map(stem)
                .collect(),
            epoch: p.epoch.0,
            version: p.version.0,
            primary: directory.is_live(p.primary).then(|| backend.name_of(p.primary.node)),
            in_sync: p.in_sync.iter().map(|m| backend.name_of(m.node)).collect(),
            synced: p.synced.iter().map(|(n, _)| backend.name_of(*n)).collect(),
            moving: false,
        })
        .collect();
    Directory { node: backend.node.name.clone(), applied: directory.index(), groups }
}

/// The node and its cluster.
pub(super) async fn status(backend: &Backend, live: &Live) -> Status {
    let groups = live.runtime.status().await;
    let (leader, applied) = {
        let status = live.runtime.directory().status();
        (status.leader.map(|n| backend.name_of(n)), status.applied)
    };
    let members = backend.nodes.all().into_iter().map(|n| member(live, n)).collect();
    let federation = federation::view(&live.runtime.directory().read(), &backend.nodes);
    let led = groups.iter().filter(|g| g.role == "primary").count() as u64;
    let memory = live.runtime.memory();
    Status {
        cluster: backend.topology.cluster.name.clone(),
        node: backend.node.name.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: backend.began.elapsed().as_secs(),
        has_lease: live.lease.is_valid(),
        directory_leader: leader,
        directory_applied: applied,
        members,
        supervision: Some(tree(backend, live, &groups)),
        groups_led: led,
        groups_replicated: groups.len() as u64 - led,
        federation,
        buffer: live.cse.buffer_fill(),
        memory: GroupMemory {
            active: memory.active as u64,
            passive: memory.passive as u64,
            bytes: memory.bytes as u64,
            activations: memory.activations,
            passivations: memory.passivations,
        },
        alarms: alarms(backend, live),
    }
}

fn alarms(backend: &Backend, live: &Live) -> Vec<Alarm> {
    let on = backend.journal.alarms(live.runtime.clock().wall_ms());
    let moves = on.into_iter().map(|a| Alarm { code: a.code.into(), text: a.text, since_ms: a.since_ms });
    let silent: Vec<String> =
        unburied::silent(&live.runtime.directory().read()).into_iter().map(|node| backend.name_of(node)).collect();
    let mass_death = (!silent.is_empty()).then(|| Alarm {
        code: "mass-death".into(),
        text: format!("{0} silent, and so many are dead that an operator must confirm it", silent.join(", ")),
        since_ms: live.runtime.clock().wall_ms(),
    });
    moves.chain(backend.crash_loops()).chain(mass_death).collect()
}

fn member(live: &Live, node: NodeView) -> Member {
    let id = node.id;
    let aes = drains::aes_at(&live.runtime, id);
    let heard = heard(live, id);
    let directory = live.runtime.directory().read();
    let known = directory.node(id);
    let state = match known {
        None => "joining",
        Some(n) if !n.up => "dead",
        Some(n) if unburied::is_silent(&directory, n.member) => "silent",
        Some(_) if directory.fact(&drains::fact_of(id)).is_some() => "draining",
        Some(_) => "up",
    };
    Member {
        name: node.name,
        id: id.0,
        incarnation: known.map_or(0, |n| n.member.incarnation.0),
        state: state.into(),
        roles: node.roles,
        poa: node.poa,
        admin: node.admin,
        aes,
        load: heard.as_ref().map_or(0.0, |h| h.facts.load.cpu),
        seen_ms_ago: heard.as_ref().map_or(0, age_ms),
    }
}

fn tree(backend: &Backend, live: &Live, groups: &[GroupStatus]) -> Supervised {
    let mut root = Supervised { name: backend.node.name.clone(), state: "running".into(), ..Supervised::default() };
    for branch in backend.tree.branches().into_iter().chain(live.runtime.tree().branches()) {
        insert(&mut root, &branch.path, &branch);
    }
    let listed = groups.iter().take(GROUPS_LISTED_MAX).map(|g| Supervised {
        name: format!("{} {} e{} seq {}", g.group, g.role, g.epoch, g.committed),
        state: if g.serving || g.role == "replica" { "running" } else { "closed" }.into(),
        ..Supervised::default()
    });
    if let Some(branch) = root.children.iter_mut().find(|c| c.name == "groups") {
        branch.children.extend(listed);
        branch.more = groups.len().saturating_sub(GROUPS_LISTED_MAX) as u64;
    }
    root
}

fn insert(parent: &mut Supervised, path: &str, branch: &onemec_runtime::supervise::Branch) {
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let at = match parent.children.iter().position(|c| c.name == first) {
        Some(at) => at,
        None => {
            parent.children.push(Supervised { name: first.into(), state: "running".into(), ..Supervised::default() });
            parent.children.len() - 1
        }
    };
    let Some(child) = parent.children.get_mut(at) else { return };
    if rest.is_empty() {
        child.state = branch.state.into();
        child.restarts = u64::from(branch.restarts);
        child.last_failure.clone_from(&branch.last_error);
    } else {
        insert(child, rest, branch);
    }
}

/// What this build can do, as the running CSE says it.
pub(super) fn capabilities(backend: &Backend, live: &Live) -> CapabilityFile {
    let types: serde_json::Map<String, serde_json::Value> = onemec_onem2m::tables::IMPLEMENTED
        .iter()
        .map(|ty| {
            let info = ty.info();
            let name = info.map_or_else(|| ty.0.to_string(), |i| i.name.to_owned());
            let operations = serde_json::json!({
                "create": info.is_some_and(|i| i.creatable), "retrieve": true,
                "update": info.is_some_and(|i| i.updatable), "delete": info.is_some_and(|i| i.creatable),
            });
            (name, serde_json::json!({ "ty": ty.0, "operations": operations }))
        })
        .collect();
    CapabilityFile {
        version: env!("CARGO_PKG_VERSION").into(),
        resource_types: types.into(),
        areas: serde_json::json!({
            "cse_id": &*live.cse.identity().cse_id,
            "bindings": ["http"], "serialisations": ["json"],
            "event_types": [1, 2, 3, 4], "notification_content_types": [1, 2, 3],
            "handover": onemec_mobility::strategy::MoveReason::ALL.map(onemec_mobility::strategy::MoveReason::as_str),
        }),
        nodes: said(backend, live),
    }
}

/// What all nodes said of themselves (row O02).
fn said(backend: &Backend, live: &Live) -> Vec<NodeCapabilities> {
    let now = boottime();
    let heard = live.gossip.heard().into_iter().map(|h| NodeCapabilities {
        node: backend.name_of(h.node),
        age_ms: age_ms(&h),
        fresh: h.is_fresh(now),
        capabilities: h.facts.capabilities,
        load: h.facts.load,
    });
    heard.collect()
}
