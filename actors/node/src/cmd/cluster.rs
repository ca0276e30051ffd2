//! `onemec status`, `drain`, `capabilities`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{CommandError, Context, Done};
use crate::admin::AdminClient;
use crate::admin::types::{Drain, DrainOrder, Status, Supervised};
use crate::table::Table;

/// Pause between two looks at a drain.
const POLL: Duration = Duration::from_millis(200);
/// A drain that makes no progress for so long is not watched further.
const STALL: Duration = Duration::from_secs(60);

pub(super) async fn status(context: &Context, all: bool) -> Done {
    let admin = context.admin()?;
    let first = admin.status().await?;
    let mut statuses = vec![first];
    if all {
        let others: Vec<_> =
            statuses.iter().flat_map(|s| s.members.iter()).filter(|m| !m.admin.is_empty()).cloned().collect();
        for m in others {
            if statuses.iter().any(|s| s.node == m.name) {
                continue;
            }
            let client = AdminClient::new(m.admin.parse()?, Duration::from_secs(5));
            match client.status().await {
                Ok(s) => statuses.push(s),
                Err(e) => eprintln!("onemec: {}: {e}", m.name),
            }
        }
    }
    if all {
        context.print(&statuses, |list| list.iter().map(text).collect::<Vec<_>>().join("\n"))
    } else if let Some(one) = statuses.first() {
        context.print(one, text)
    } else {
        Ok(ExitCode::FAILURE)
    }
}

fn text(s: &Status) -> String {
    let mut out = format!(
        "node {} of cluster {} (onemec {}), up {} s, lease {}, directory led by {}, entry {}\nleads {} groups, replica of {}; {} in memory ({} KiB), {} passive\n\n",
        s.node,
        s.cluster,
        s.version,
        s.uptime_s,
        if s.has_lease { "valid" } else { "LOST" },
        s.directory_leader.as_deref().unwrap_or("nobody"),
        s.directory_applied,
        s.groups_led,
        s.groups_replicated,
        s.memory.active,
        s.memory.bytes >> 10,
        s.memory.passive
    );
    let mut table = Table::new(&["node", "id", "state", "roles", "AEs", "load", "seen", "point of access"]);
    for m in &s.members {
        let (load, seen) = (format!("{:.2}", m.load), format!("{} ms", m.seen_ms_ago));
        table.row([&m.name, &m.id.to_string(), &m.state, &m.roles.join(","), &m.aes.to_string(), &load, &seen, &m.poa]);
    }
    let _ = write!(out, "{table}");
    for g in &s.federation.groups {
        let _ = writeln!(out, "\nfederation group {}: {}", g.name, g.members.join(", "));
    }
    for r in s.federation.roles.iter().filter(|r| !r.holders.is_empty()) {
        let _ = writeln!(out, "role {}: {}", r.role, r.holders.join(", "));
    }
    if let Some(b) = &s.buffer {
        let _ = writeln!(
            out,
            "\nlocal buffer: {} waiting ({} of {} bytes), {} accepted, {} appended, {} refused, {} found no room",
            b.waiting, b.bytes, b.bytes_max, b.accepted, b.appended, b.refused, b.overflowed
        );
    }
    for a in &s.alarms {
        let _ = writeln!(out, "\nALARM {}: {} (docs/errors/{}.md)", a.code, a.text, a.code);
    }
    if let Some(root) = &s.supervision {
        out.push('\n');
        tree(root, 0, &mut out);
    }
    out
}

fn tree(part: &Supervised, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    let restarts = if part.restarts > 0 { format!(", restarted {} times", part.restarts) } else { String::new() };
    let _ = writeln!(out, "{indent}{} [{}{restarts}]", part.name, part.state);
    if let Some(failure) = &part.last_failure {
        let _ = writeln!(out, "{indent}    last failure: {failure}");
    }
    for child in &part.children {
        tree(child, depth + 1, out);
    }
    if part.more > 0 {
        let _ = writeln!(out, "{indent}  ... and {} more", part.more);
    }
}

pub(super) async fn drain(context: &Context, node: String, to: Option<String>, undo: bool) -> Done {
    let admin = context.admin()?;
    let order = DrainOrder { node, to };
    if undo {
        let result = admin.undrain(&order).await?;
        return context.print(&result, |d| format!("node {} takes devices again\n", d.node));
    }
    let begun = admin.drain(&order).await?;
    let bar = if context.json { ProgressBar::hidden() } else { ProgressBar::new(begun.total) };
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} groups gone, {elapsed}") {
        bar.set_style(style);
    }
    let last = watch(&admin, begun, &bar).await?;
    bar.finish_and_clear();
    let done = last.state == "done";
    context.print(&last, drained)?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn drained(d: &Drain) -> String {
    let mut out = format!("node {}: {}, {} of {} groups moved", d.node, d.state, d.moved, d.total);
    if d.failed_over > 0 {
        let _ = write!(out, ", {} failed over to other nodes", d.failed_over);
    }
    out.push('\n');
    if !d.code.is_empty() {
        let _ = writeln!(out, "    the node died during the drain (docs/errors/{}.md)", d.code);
    }
    for f in &d.failed {
        let _ = writeln!(out, "  {}: {} ({})", f.aes.join(", "), f.text, f.code);
    }
    match d.state.as_str() {
        "done" => {}
        "running" => {
            let _ = writeln!(
                out,
                "    -> {} under way, {} waiting, no progress for {} s: it goes on by itself, GET /admin/v1/drains/{} tells",
                d.running,
                d.waiting,
                STALL.as_secs(),
                d.id
            );
        }
        _ if d.failed.iter().any(|f| f.code != d.code) => {
            out.push_str("    -> `onemec candidates AE` says why a device has nowhere to go\n");
        }
        _ => out.push_str("    -> start the node: what it alone has leaves it then\n"),
    }
    out
}

async fn watch(admin: &AdminClient, begun: Drain, bar: &ProgressBar) -> Result<Drain, CommandError> {
    let (mut last, mut progress) = (begun, Instant::now());
    while last.state == "running" && progress.elapsed() < STALL {
        tokio::time::sleep(POLL).await;
        let now = admin.drain_progress(last.id).await?;
        if now != last {
            progress = Instant::now();
        }
        bar.set_length(now.total);
        bar.set_position(now.moved + now.failed_over);
        last = now;
    }
    Ok(last)
}

pub(super) async fn capabilities(context: &Context) -> Done {
    let file = context.admin()?.capabilities().await?;
    context.print(&file, |f| {
        let mut out = format!("onemec {}\n\nresource types\n", f.version);
        for (name, value) in [&f.resource_types, &f.areas].into_iter().filter_map(|v| v.as_object()).flatten() {
            let _ = writeln!(out, "  {name}: {value}");
        }
        let mut table =
            Table::new(&["node", "cores", "memory MiB", "accelerators", "storage GiB", "energy", "load", "age"]);
        for n in &f.nodes {
            let c = &n.capabilities;
            table.row([
                n.node.clone(),
                c.cpu_cores.to_string(),
                (c.memory_bytes >> 20).to_string(),
                c.gpus.to_string(),
                (c.storage_bytes >> 30).to_string(),
                format!("{:?}", c.energy).to_lowercase(),
                format!("{:.2}", n.load.cpu),
                format!("{} ms{}", n.age_ms, if n.fresh { "" } else { " (too old)" }),
            ]);
        }
        let _ = write!(out, "\n{table}");
        out
    })
}
