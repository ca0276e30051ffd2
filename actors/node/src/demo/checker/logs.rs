//! I1, I5, I6 (and I4 of the logs) from the nodes' audit logs and the directory's views.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Evidence, Invariant, Verdict};
use crate::admin::types::{AuditEvent, AuditLine};

pub(super) fn check(evidence: &Evidence, verdict: &mut Verdict) {
    verdict.log_lines = u64::try_from(evidence.logs.len()).unwrap_or(u64::MAX);
    presence(evidence, verdict);
    primaries(&evidence.logs, verdict);
    places(&evidence.logs, verdict);
    registrars(evidence, verdict);
    groups(evidence, verdict);
}

/// No log, no proof.
fn presence(evidence: &Evidence, verdict: &mut Verdict) {
    let wrote: BTreeSet<&str> = evidence.logs.iter().map(|l| l.node.as_str()).collect();
    for node in &evidence.nodes {
        if !wrote.contains(node.as_str()) {
            verdict.broken(Invariant::Evidence, || format!("node {node} left no audit log"));
        }
    }
    if evidence.torn_lines > evidence.torn_lines_allowed {
        let (torn, allowed) = (evidence.torn_lines, evidence.torn_lines_allowed);
        verdict.broken(Invariant::Evidence, || format!("{torn} audit lines are damaged, kills explain {allowed}"));
    }
    if evidence.views.is_empty() {
        verdict.broken(Invariant::Evidence, || "the directory was never seen".into());
    }
}

#[derive(Default)]
struct Reign<'a> {
    nodes: BTreeSet<&'a str>,
    first_answer_ns: Option<u64>,
    last_reception: Option<(u64, &'a str)>,
}

/// I1: one node per (group, epoch); and no request that came in after the first answer of a later epoch is answered in an
/// earlier one.
fn primaries(logs: &[AuditLine], verdict: &mut Verdict) {
    let mut reigns: BTreeMap<(&str, u64), Reign<'_>> = BTreeMap::new();
    for line in logs {
        match &line.event {
            AuditEvent::Acknowledged { group, epoch, received_ns, at_ns, .. } => {
                let reign = reigns.entry((group, *epoch)).or_default();
                reign.nodes.insert(&line.node);
                reign.first_answer_ns = Some(reign.first_answer_ns.map_or(*at_ns, |f| f.min(*at_ns)));
                reign.last_reception = reign.last_reception.max(Some((*received_ns, &line.node)));
            }
            AuditEvent::Serving { group, epoch, .. } => {
                reigns.entry((group, *epoch)).or_default().nodes.insert(&line.node);
            }
            _ => {}
        }
    }
    for ((group, epoch), reign) in &reigns {
        if reign.nodes.len() > 1 {
            let nodes = reign.nodes.iter().copied().collect::<Vec<_>>().join(" and ");
            verdict.broken(Invariant::I1OnePrimary, || format!("group {group}: epoch {epoch} has primaries {nodes}"));
        }
    }
    // Earliest answer of any later epoch, walked from the highest epoch down within each group.
    let mut later: Option<(&str, u64)> = None;
    for ((group, epoch), reign) in reigns.iter().rev() {
        let first_later = later.filter(|(g, _)| g == group).map(|(_, ns)| ns);
        if let (Some(first), Some((received, node))) = (first_later, reign.last_reception)
            && received > first
        {
            verdict.broken(Invariant::I1OnePrimary, || {
                format!("group {group}: {node} answered in epoch {epoch} what it received {} us after a later epoch's first answer", (received - first) / 1000)
            });
        }
        let first = [first_later, reign.first_answer_ns].into_iter().flatten().min();
        later = first.map(|ns| (*group, ns));
    }
}

/// One place of a group's log is acknowledged for one context in one epoch.
fn places(logs: &[AuditLine], verdict: &mut Verdict) {
    let mut spans: HashMap<&str, Vec<(u64, u64, &str, u64)>> = HashMap::new();
    for line in logs {
        if let AuditEvent::Acknowledged { context, group, epoch, seq, last_seq, .. } = &line.event {
            spans.entry(group).or_default().push((*seq, last_seq.unwrap_or(*seq), context, *epoch));
        }
    }
    for (group, mut spans) in spans {
        spans.sort_unstable();
        for pair in spans.windows(2) {
            let [(_, last, context, epoch), (seq, _, other, later)] = pair else { continue };
            if seq <= last {
                verdict.broken(Invariant::I4Order, || {
                    format!("group {group}: place {seq} was acknowledged twice: {context} in epoch {epoch}, {other} in epoch {later}")
                });
            }
            if epoch > later {
                verdict.broken(Invariant::I4Order, || {
                    format!("group {group}: place {seq} of epoch {later} follows one of epoch {epoch}")
                });
            }
        }
    }
}

/// I5: from the logs (one node per AE and epoch) and from what the nodes say at the end.
fn registrars(evidence: &Evidence, verdict: &mut Verdict) {
    let mut by_epoch: BTreeMap<(&str, &str, u64), BTreeSet<&str>> = BTreeMap::new();
    for line in &evidence.logs {
        if let AuditEvent::Registrar { ae, context, epoch, .. } = &line.event {
            by_epoch.entry((ae, context, *epoch)).or_default().insert(&line.node);
        }
    }
    for ((ae, _, epoch), nodes) in &by_epoch {
        if nodes.len() > 1 {
            let nodes = nodes.iter().copied().collect::<Vec<_>>().join(" and ");
            verdict.broken(Invariant::I5OneRegistrar, || format!("{ae} is registered at {nodes} in epoch {epoch}"));
        }
    }
    let mut claims: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, aes) in &evidence.registrars {
        for ae in aes {
            claims.entry(ae).or_default().push(node);
        }
    }
    for (ae, nodes) in claims {
        if nodes.len() > 1 {
            verdict.broken(Invariant::I5OneRegistrar, || format!("{ae} is registered at {}", nodes.join(" and ")));
        }
    }
}

/// I6: what belongs together is never seen apart.
fn groups(evidence: &Evidence, verdict: &mut Verdict) {
    // In the directory: a context is in one group, a bundle is in one group.
    for view in &evidence.views {
        let mut group_of: HashMap<&str, &str> = HashMap::new();
        let mut place_of: HashMap<&str, (&str, Option<&str>)> = HashMap::new();
        for p in &view.groups {
            for context in &p.contexts {
                if group_of.insert(context, &p.group).is_some_and(|other| other != p.group) {
                    verdict.broken(Invariant::I6AllOrNone, || format!("context {context} is in two groups"));
                }
            }
            for ae in &p.aes {
                place_of.insert(ae, (&p.group, p.primary.as_deref()));
            }
        }
        for bundle in &evidence.bundles {
            let at: BTreeSet<_> = bundle.iter().filter_map(|ae| place_of.get(ae.as_str())).collect();
            if at.len() > 1 {
                verdict.broken(Invariant::I6AllOrNone, || {
                    format!("the bundle {} is split at directory entry {}", bundle.join(", "), view.applied)
                });
            }
        }
    }
    verdict.bundles = u64::try_from(evidence.bundles.len()).unwrap_or(u64::MAX);
    served_together(&evidence.logs, verdict);
    one_group_at_a_time(&evidence.logs, verdict);
}

/// The contexts that a new primary serves are those that the old one served. One that is missing was regrouped: then its
/// other group served it, in a later epoch (rule 16: a regroup's epoch is beyond both).
fn served_together(logs: &[AuditLine], verdict: &mut Verdict) {
    let mut serving: BTreeMap<(&str, u64), BTreeSet<&str>> = BTreeMap::new();
    let mut latest: HashMap<(&str, &str), u64> = HashMap::new();
    for line in logs {
        if let AuditEvent::Serving { group, contexts, epoch, .. } = &line.event {
            for context in contexts {
                serving.entry((group, *epoch)).or_default().insert(context);
                let at = latest.entry((context, group)).or_default();
                *at = (*at).max(*epoch);
            }
        }
    }
    let mut last: Option<(&(&str, u64), &BTreeSet<&str>)> = None;
    for (key, now) in &serving {
        if let Some(((group, before), then)) = last.filter(|((g, _), _)| *g == key.0) {
            verdict.bundle_moves += u64::from(then.len() > 1);
            let elsewhere = |c: &str| latest.iter().any(|((x, g), epoch)| *x == c && g != group && epoch > before);
            let left: Vec<_> = then.difference(now).copied().filter(|c| !elsewhere(c)).collect();
            if !left.is_empty() {
                verdict.broken(Invariant::I6AllOrNone, || {
                    format!("group {group}: {} did not follow into epoch {}", left.join(", "), key.1)
                });
            }
        }
        last = Some((key, now));
    }
}

/// A context is written to in one group per epoch; and in none any more once a later epoch's group, which must have said
/// that it serves it, has answered for it.
fn one_group_at_a_time(logs: &[AuditLine], verdict: &mut Verdict) {
    let mut reigns: BTreeMap<(&str, u64, &str), (u64, u64)> = BTreeMap::new();
    let mut said: BTreeSet<(&str, &str)> = BTreeSet::new();
    for line in logs {
        match &line.event {
            AuditEvent::Acknowledged { context, group, epoch, received_ns, at_ns, .. } => {
                let (first, last) = reigns.entry((context, *epoch, group)).or_insert((*at_ns, *received_ns));
                (*first, *last) = ((*first).min(*at_ns), (*last).max(*received_ns));
            }
            AuditEvent::Serving { group, contexts, .. } | AuditEvent::Regrouped { group, contexts, .. } => {
                said.extend(contexts.iter().map(|c| (c.as_str(), group.as_str())));
            }
            _ => {}
        }
    }
    let reigns: Vec<_> = reigns.into_iter().collect();
    for pair in reigns.windows(2) {
        let [((context, epoch, group), (_, last)), ((other, later, next), (first, _))] = pair else { continue };
        if context != other || group == next {
            continue;
        }
        let broken = if epoch == later {
            Some(format!("in groups {group} and {next}, both in epoch {epoch}"))
        } else if last > first {
            Some(format!("in group {group} (epoch {epoch}) after group {next} had answered in epoch {later}"))
        } else if !said.contains(&(*context, *next)) {
            Some(format!("in groups {group} and {next}, which never said that it serves it"))
        } else {
            None
        };
        if let Some(text) = broken {
            verdict.broken(Invariant::I6AllOrNone, || format!("context {context} was written to {text}"));
        }
    }
}
