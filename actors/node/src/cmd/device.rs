//! `onemec ae ls|show|label`, `handover`, `candidates`, `handovers`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use super::{Context, Done};
use crate::admin::AdminClient;
use crate::admin::merge::merge;
use crate::admin::types::{Handover, LabelOrder, MoveOrder, MoveReason};
use crate::table::{Table, ms};

pub(super) async fn ls(context: &Context, home: Option<&str>) -> Done {
    let aes = context.admin()?.aes(home).await?;
    context.print(&aes, |aes| {
        if aes.is_empty() {
            return "no device is registered\n    -> register one: docs/extensions.md, or `onemec demo`\n".into();
        }
        let mut table =
            Table::new(&["AE-ID", "name", "home", "state", "epoch", "log", "instances", "bytes", "replicas"]);
        for a in aes {
            let (epoch, set) = (a.epoch.to_string(), a.in_sync.join(","));
            let (log, instances, bytes) = (known(a.committed), known(a.instances), known(a.bytes));
            table.row([&a.ae_id, &a.name, &a.home, &a.state, &epoch, &log, &instances, &bytes, &set]);
        }
        let mut out = format!("{table}\n{} devices\n", aes.len());
        let waits: BTreeSet<_> = aes.iter().filter_map(|a| a.waits_for.as_ref()).collect();
        for what in waits {
            let _ = writeln!(out, "waits for {what}");
        }
        out
    })
}

/// A figure that the primary may not have said.
fn known(figure: Option<u64>) -> String {
    figure.map_or_else(|| "-".to_owned(), |n| n.to_string())
}

pub(super) async fn show(context: &Context, ae: &str) -> Done {
    let ae = context.admin()?.ae(ae).await?;
    context.print(&ae, |a| {
        let mut out = String::new();
        let mut line = |key: &str, value: String| {
            if !value.is_empty() {
                let _ = writeln!(out, "{key:<12} {value}");
            }
        };
        line("AE-ID", a.ae_id.clone());
        line("name", a.name.clone());
        line("home", a.home.clone());
        line("served by", if a.primary == a.home { String::new() } else { a.primary.clone() });
        line("state", a.state.clone());
        line("waits for", a.waits_for.clone().unwrap_or_default());
        line("context", a.context.clone());
        line("group", format!("{} (epoch {}, committed {})", a.group, a.epoch, known(a.committed)));
        line("replicas", a.in_sync.join(", "));
        line("instances", known(a.instances));
        line("bytes", known(a.bytes));
        line("moves with", a.bundle.join(", "));
        line("former homes", a.aliases.join(", "));
        line("DNS name", a.dns_name.clone().unwrap_or_default());
        line("residency", a.residency.clone().unwrap_or_default());
        out
    })
}

pub(super) async fn label(context: &Context, ae: &str, label: Option<String>) -> Done {
    let given = context.admin()?.label(ae, &LabelOrder { label }).await?;
    context.print(&given, |g| match &g.label {
        Some(label) => format!("the data of {ae} may be at {label} alone; what lies elsewhere leaves\n"),
        None => format!("the topology's rules hold for {ae} again\n"),
    })
}

pub(super) async fn handover(context: &Context, ae: String, to: Option<String>, deadline_ms: u64) -> Done {
    let order = MoveOrder { ae, to, reason: MoveReason::Operator, deadline_ms };
    let result = context.admin()?.order_move(&order).await?;
    let done = result.state == "done";
    context.print(&result, |r| {
        let h = &r.handover;
        if !done {
            return format!(
                "{}: {} ({})\n    -> the device stays at {}; `onemec candidates {}` lists other targets\n",
                r.state, r.text, r.code, h.from, order.ae
            );
        }
        format!(
            "{} moved from {} to {} in epoch {}\nprepared in {} ms, interrupted for {} ms (commit {} ms), {} operations parked, {} bytes\n",
            h.aes.join(", "),
            h.from,
            h.to,
            h.epoch,
            ms(h.prepare_us),
            ms(h.interruption_us),
            ms(h.commit_us),
            h.parked,
            h.bytes
        )
    })?;
    Ok(if done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

pub(super) async fn candidates(context: &Context, ae: &str, n: usize) -> Done {
    let answer = context.admin()?.candidates(ae, n).await?;
    context.print(&answer, |c| {
        let mut table = Table::new(&["#", "node", "score", "replica", "data age", "score made of"]);
        for (i, candidate) in c.candidates.iter().enumerate() {
            let terms: Vec<_> = candidate.terms.iter().map(|(k, v)| format!("{k} {v:+.2}")).collect();
            table.row([
                (i + 1).to_string(),
                candidate.node.clone(),
                format!("{:.3}", candidate.score),
                if candidate.has_replica { "yes" } else { "no" }.to_owned(),
                format!("{} ms", candidate.age_ms),
                terms.join(", "),
            ]);
        }
        let mut out = format!("targets for {} by policy `{}`, best first\n\n{table}", c.ae_id, c.policy);
        for e in &c.excluded {
            let _ = writeln!(out, "not {}: {} ({})", e.node, e.text, e.code);
        }
        out
    })
}

/// For the journal of one of the other nodes.
const JOURNAL_MAX: Duration = Duration::from_secs(5);

pub(super) async fn handovers(context: &Context, last: Option<usize>, here: bool) -> Done {
    let admin = context.admin()?;
    let mut all = admin.handovers().await?;
    if !here {
        let asked = admin.status().await?;
        let mut journals = vec![all];
        for other in asked.members.iter().filter(|m| m.name != asked.node && !m.admin.is_empty()) {
            match AdminClient::new(other.admin.parse()?, JOURNAL_MAX).handovers().await {
                Ok(journal) => journals.push(journal),
                // Its moves have another end, which has most of the figures.
                Err(e) => eprintln!("onemec: {}: {e}; what it alone has recorded is missing", other.name),
            }
        }
        all = merge(journals);
    }
    if let Some(last) = last {
        all.drain(..all.len().saturating_sub(last));
    }
    context.print(&all, |all| {
        let head = [
            "#",
            "devices",
            "reason",
            "from",
            "to",
            "outcome",
            "prepare",
            "gap",
            "commit",
            "activate",
            "auth",
            "attach",
            "latency before",
            "after",
        ];
        let mut table = Table::new(&head);
        for h in all {
            table.row(row(h));
        }
        if table.is_empty() { "no moves yet\n".into() } else { format!("times in ms\n\n{table}") }
    })
}

fn row(h: &Handover) -> [String; 14] {
    let reason = h.reason.to_string();
    let known = |us: Option<u64>| us.map_or_else(|| "-".to_owned(), ms);
    [
        h.id.to_string(),
        h.aes.join(","),
        reason,
        h.from.clone(),
        h.to.clone(),
        h.outcome.clone(),
        ms(h.prepare_us),
        ms(h.interruption_us),
        ms(h.commit_us),
        ms(h.activate_us),
        known(Some(h.authentication_us).filter(|us| *us > 0)),
        known(h.attach_us),
        known(h.latency_before_us),
        known(h.latency_after_us),
    ]
}
