//! `onemec voters`, `nodes`, `force`, `confirm-deaths`: what an operator changes while the cluster runs.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{ANSWER, CommandError, Context, Done};
use crate::admin::AdminClient;
use crate::admin::types::{DeathsOrder, ForceOrder, NodeOrder, VoterAction, VoterOrder, Voters};
use crate::cli::{NodesCommand, VotersCommand};
use crate::table::Table;

/// One question while a node is being removed.
const LOOK_MS: u64 = 5_000;
/// A removal that does not end is not watched further.
const REMOVAL_MAX: Duration = Duration::from_secs(120);

pub(super) async fn voters(context: &Context, command: VotersCommand) -> Done {
    let admin = context.admin()?;
    let order = |action, node, by| VoterOrder { action, node, by, deadline_ms: 0 };
    let voters = match command {
        VotersCommand::List => admin.voters().await?,
        VotersCommand::Add { node } => admin.change_voters(&order(VoterAction::Add, node, None)).await?,
        VotersCommand::Remove { node } => admin.change_voters(&order(VoterAction::Remove, node, None)).await?,
        VotersCommand::Replace { node, by } => {
            admin.change_voters(&order(VoterAction::Replace, node, Some(by))).await?
        }
    };
    context.print(&voters, text)
}

fn text(voters: &Voters) -> String {
    let mut table = Table::new(&["node", "votes", "leads", "up", "store"]);
    let word = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    for m in &voters.members {
        table.row([m.node.clone(), word(m.votes), word(m.leads), word(m.up), m.store.clone()]);
    }
    let count = voters.members.iter().filter(|m| m.votes).count();
    let up = voters.members.iter().filter(|m| m.votes && m.up).count();
    let quorum = count / 2 + 1;
    let mut out = format!("{table}\n{count} vote, {up} of them up: {} more may die\n", up.saturating_sub(quorum));
    if count % 2 == 0 {
        let _ = writeln!(out, "    -> an even number bears no more deaths than one less: add or remove one");
    }
    out
}

pub(super) async fn nodes(context: &Context, command: NodesCommand) -> Done {
    match command {
        NodesCommand::Ls => {
            let status = context.admin()?.status().await?;
            context.print(&status.members, |members| {
                let mut table = Table::new(&["node", "id", "state", "roles", "AEs", "point of access", "admin API"]);
                for m in members {
                    let (id, aes) = (m.id.to_string(), m.aes.to_string());
                    table.row([&m.name, &id, &m.state, &m.roles.join(","), &aes, &m.poa, &m.admin]);
                }
                table.to_string()
            })
        }
        NodesCommand::Remove { node } => remove(context, node).await,
    }
}

async fn remove(context: &Context, node: String) -> Done {
    let admin = context.admin()?;
    let begun = Instant::now();
    let mut said = Vec::new();
    let last = loop {
        let last = admin.remove_node(&NodeOrder { node: node.clone(), deadline_ms: LOOK_MS }).await?;
        if last.done || begun.elapsed() > REMOVAL_MAX {
            break last;
        }
        if !context.json && last.waiting_for != said {
            eprintln!("waiting for {} groups: {}", last.waiting_for.len(), last.waiting_for.join("; "));
            said.clone_from(&last.waiting_for);
        }
    };
    context.print(&last, |r| match r.done {
        true => format!(
            "node {} is out for good; its number is never used again. Take it out of the topology files when you next \
             change them\n",
            r.node
        ),
        false => format!(
            "node {} is still counted on, nothing was changed (node-counted):\n  {}\n    -> see docs/errors/node-counted.md\n",
            r.node,
            r.waiting_for.join("\n  ")
        ),
    })?;
    Ok(if last.done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn force(
    context: &Context,
    group: Option<String>,
    on: Option<String>,
    accept_data_loss: bool,
) -> Done {
    let admin = context.admin()?;
    let (Some(group), Some(node)) = (&group, on) else {
        let directory = admin.directory().await?;
        let wanted = |g: &&crate::admin::types::Placement| group.as_ref().is_none_or(|name| *name == g.group);
        let dead: Vec<_> = directory.groups.iter().filter(|g| g.primary.is_none()).filter(wanted).collect();
        return context.print(&dead, |groups| {
            if groups.is_empty() {
                return "every group is led: nothing needs this\n".into();
            }
            let mut table = Table::new(&["group", "AEs", "last members", "synced at"]);
            for g in groups {
                table.row([&g.group, &g.aes.join(","), &g.in_sync.join(","), &g.synced.join(",")]);
            }
            format!(
                "{table}\nnobody leads these. Bring one of the last members back with its disk, and nothing is lost; or\n\
                 onemec force GROUP --on NODE --accept-data-loss\n"
            )
        });
    };
    let forced = admin.force(group, &ForceOrder { node, accept_data_loss }).await?;
    context.print(&forced, |f| format!("group {} is led by {} in epoch {}: {}\n", f.group, f.node, f.epoch, f.text))
}

pub(super) async fn confirm_deaths(context: &Context, nodes: Vec<String>) -> Done {
    let admin = leader(&context.admin()?).await?;
    let deaths = admin.confirm_deaths(&DeathsOrder { nodes }).await?;
    let none_alive = deaths.alive.is_empty();
    context.print(&deaths, |d| {
        let mut out = String::new();
        if !d.dead.is_empty() {
            let _ = writeln!(out, "dead now: {}", d.dead.join(", "));
        }
        if !d.alive.is_empty() {
            let _ = writeln!(out, "not dead: {} (they ask for leases)", d.alive.join(", "));
        }
        out
    })?;
    Ok(if none_alive { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The admin API of the directory's leader, which alone hears of leases.
async fn leader(admin: &AdminClient) -> Result<AdminClient, CommandError> {
    let status = admin.status().await?;
    let leader = status.directory_leader.filter(|name| *name != status.node);
    let url = leader.and_then(|name| status.members.into_iter().find(|m| m.name == name)).map(|m| m.admin);
    match url.filter(|u| !u.is_empty()) {
        Some(url) => Ok(AdminClient::new(url.parse().map_err(CommandError::from)?, ANSWER)),
        None => Ok(admin.clone()),
    }
}
