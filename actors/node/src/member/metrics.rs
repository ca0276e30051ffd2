//! `/metrics`: what an operator watches, as Prometheus text. docs/metrics.md explains each; a test holds the two together.

use std::fmt::{Display, Write as _};

use onemec_runtime::exec::group::GroupStatus;
use onemec_runtime::meter::{BOUNDS_US, Counted};

use super::backend::{Backend, Live};
use super::targets::age_ms;
use crate::telemetry;

/// What is always there: before the node serves as well.
pub(super) async fn render(backend: &Backend, live: Option<&Live>) -> String {
    let mut text = Text::default();
    let (cluster, node) = (&backend.topology.cluster.name, &backend.node.name);
    let labels = format!("cluster=\"{cluster}\",node=\"{node}\",version=\"{}\"", env!("CARGO_PKG_VERSION"));
    text.gauge("onemec_node_info", "1; its labels say who answers.", [(labels, 1)]);
    let (seconds, none) = (backend.began.elapsed().as_secs(), String::new);
    text.gauge("onemec_uptime_seconds", "Time since the process was started.", [(none(), seconds)]);
    if let Some(memory) = resident_bytes() {
        text.gauge("process_resident_memory_bytes", "Memory of the process.", [(none(), memory)]);
    }
    let spans = telemetry::of_process().figures();
    let outcomes = [("exported", spans.exported), ("dropped", spans.dropped), ("failed", spans.failed)];
    let outcomes = outcomes.map(|(outcome, n)| (format!("outcome=\"{outcome}\""), n));
    let help = "Spans by what became of them: dropped by a full queue, failed at the collector.";
    text.counter("onemec_trace_spans_total", help, outcomes);
    let certificates = backend.certificates.read().clone();
    let ends = certificates.iter().flat_map(|c| c.ends_s()).map(|(what, at)| (format!("certificate=\"{what}\""), at));
    let help = "When the certificates in use end, in seconds since 1970.";
    text.gauge("onemec_certificate_end_timestamp_seconds", help, ends);
    let ready = live.is_some_and(|l| l.lease.is_valid());
    text.gauge("onemec_lease_valid", "1 while this node holds its lease.", [(none(), u8::from(ready))]);
    if let Some(live) = live {
        directory(&mut text, live);
        groups(&mut text, live).await;
        store(&mut text, live);
        doors(&mut text, live);
        buffer(&mut text, live);
        peers(&mut text, backend, live);
        tasks(&mut text, live);
        text.0.push_str(&backend.journal.render(live.runtime.clock().wall_ms()));
    }
    text.0
}

fn directory(text: &mut Text, live: &Live) {
    let directory = live.runtime.directory();
    let (status, none) = (directory.status(), String::new);
    text.gauge("onemec_directory_applied", "Highest directory entry applied here.", [(none(), status.applied)]);
    let leads = u8::from(directory.leads());
    text.gauge("onemec_directory_leads", "1 while this node leads the directory.", [(none(), leads)]);
    let known = u8::from(status.leader.is_some());
    text.gauge("onemec_directory_leader_known", "1 while this node knows a leader.", [(none(), known)]);
    text.gauge("onemec_directory_term", "Raft's term of the directory.", [(none(), status.term)]);
    let (up, dead, contexts) = {
        let d = directory.read();
        let up = d.nodes().filter(|(_, n)| n.up).count();
        (up, d.nodes().count() - up, d.contexts_after(None).count())
    };
    let states = [("state=\"up\"".to_owned(), up), ("state=\"dead\"".to_owned(), dead)];
    text.gauge("onemec_nodes", "Nodes of the cluster, as the directory knows them.", states);
    text.gauge("onemec_contexts", "Contexts in the directory.", [(none(), contexts)]);
    let help = "From a proposal of this node to its application here.";
    text.histogram("onemec_directory_commit_seconds", help, &directory.commits());
}

async fn groups(text: &mut Text, live: &Live) {
    let all = live.runtime.status().await;
    let led: Vec<&GroupStatus> = all.iter().filter(|g| g.role == "primary").collect();
    let (closed, none) = (led.iter().filter(|g| !g.serving).count(), String::new);
    let roles = [("role=\"primary\"".to_owned(), led.len()), ("role=\"replica\"".to_owned(), all.len() - led.len())];
    text.gauge("onemec_groups", "Groups on this node by its role in them.", roles);
    let help = "Groups that this node leads and does not answer for: freeze, takeover, no lease.";
    text.gauge("onemec_groups_closed", help, [(none(), closed)]);
    let behind = |g: &&GroupStatus| {
        let held = g.replicas.iter().map(|(_, held, _)| *held).min();
        held.map_or(0, |held| g.last.saturating_sub(held))
    };
    let lag = led.iter().map(behind).max().unwrap_or(0);
    let help = "Records that the replica furthest behind lacks, of all groups that this node leads.";
    text.gauge("onemec_replication_lag_records", help, [(none(), lag)]);
    let unsynced = all.iter().map(|g| g.last.saturating_sub(g.synced)).sum::<u64>();
    text.gauge("onemec_unsynced_records", "Records that wait for this node's disk.", [(none(), unsynced)]);
    let sum = |of: fn(&GroupStatus) -> usize| all.iter().map(of).sum::<usize>();
    let help = "Operations that wait for their commitment.";
    text.gauge("onemec_operations_waiting", help, [(none(), sum(|g| g.waiting))]);
    let help = "Operations that are parked by a move or a takeover.";
    text.gauge("onemec_operations_parked", help, [(none(), sum(|g| g.parked))]);
    let led_sum = |of: fn(&GroupStatus) -> usize| led.iter().map(|g| of(g)).sum::<usize>();
    let help = "Notifications and other effects of groups led here that wait for their delivery.";
    text.gauge("onemec_outbox_effects", help, [(none(), led_sum(|g| g.outbox))]);
    text.gauge("onemec_outbox_bytes", "Bytes that they take.", [(none(), led_sum(|g| g.outbox_bytes))]);
    let moving = all.iter().filter(|g| g.moving).count();
    let memory = live.runtime.memory();
    let states = [("state=\"active\"".to_owned(), memory.active), ("state=\"passive\"".to_owned(), memory.passive)];
    text.gauge("onemec_groups_resident", "Groups in memory, and those that left it until they are asked for.", states);
    let help = "Resources and open logs in memory, roughly; bounded by resources_bytes_max.";
    text.gauge("onemec_resources_bytes", help, [(none(), memory.bytes)]);
    let help = "Groups that came back into memory.";
    text.counter("onemec_group_activations_total", help, [(none(), memory.activations)]);
    text.counter("onemec_group_passivations_total", "Groups that left memory.", [(none(), memory.passivations)]);
    let (refused, expired) = live.cse.notifications_dropped();
    let dropped = [("full", memory.effects_dropped), ("refused", refused), ("expired", expired)];
    let dropped = dropped.map(|(reason, n)| (format!("reason=\"{reason}\""), n));
    text.counter("onemec_notifications_dropped_total", "Notifications that will never be delivered.", dropped);
    text.gauge("onemec_moves_running", "Moves away from this node that are under way.", [(none(), moving)]);
}

fn store(text: &mut Text, live: &Live) {
    let (figures, none) = (live.runtime.figures(), String::new);
    let parts = [("log", figures.log_bytes), ("history", figures.history_bytes)];
    let parts = parts.map(|(part, bytes)| (format!("part=\"{part}\""), bytes));
    text.gauge("onemec_store_bytes", "Use of the disk: log files at full length, sealed history.", parts);
    text.histogram("onemec_store_sync_seconds", "Syncs of the store's log.", &figures.syncs);
    let help = "Bytes of operations under way; at the bound they are answered 503.";
    text.gauge("onemec_request_bytes", help, [(none(), figures.request_bytes)]);
    text.gauge("onemec_request_bytes_max", "That bound.", [(none(), figures.request_bytes_max)]);
}

fn doors(text: &mut Text, live: &Live) {
    let (doors, none) = (&live.doors, String::new);
    let by_status = doors.by_status().into_iter().map(|(status, n)| (format!("status=\"{status}\""), n));
    text.counter("onemec_http_requests_total", "Requests at the HTTP doors by the status of the answer.", by_status);
    let help = "Open connections at the HTTP doors.";
    text.gauge("onemec_http_connections", help, [(none(), doors.connections_open())]);
    let help = "Connections that were one too many: answered 503 and closed.";
    text.counter("onemec_http_connections_refused_total", help, [(none(), doors.connections_refused())]);
    let help = "TLS handshakes of clients that failed.";
    text.counter("onemec_http_handshakes_failed_total", help, [(none(), doors.handshakes_failed())]);
}

/// Samples only where the topology gives the node a local buffer.
fn buffer(text: &mut Text, live: &Live) {
    let fill = live.cse.buffer_fill();
    let one = |value: u64| fill.iter().map(move |_| (String::new(), value));
    let f = fill.unwrap_or_default();
    text.gauge("onemec_buffer_waiting", "Operations that wait in the local buffer.", one(f.waiting));
    text.gauge("onemec_buffer_bytes", "Bytes that wait in the local buffer.", one(f.bytes));
    text.gauge("onemec_buffer_bytes_max", "Limit of the local buffer in bytes.", one(f.bytes_max));
    text.counter("onemec_buffer_accepted_total", "Operations taken into the local buffer.", one(f.accepted));
    text.counter("onemec_buffer_overflowed_total", "Operations for which it had no room.", one(f.overflowed));
    text.counter("onemec_buffer_appended_total", "Operations that their contexts have got from it.", one(f.appended));
    text.counter("onemec_buffer_refused_total", "Operations that their contexts refused.", one(f.refused));
}

fn peers(text: &mut Text, backend: &Backend, live: &Live) {
    let figures = live.runtime.figures();
    let peers: Vec<(String, _)> =
        figures.peers.iter().map(|p| (format!("peer=\"{}\"", backend.name_of(p.node)), p)).collect();
    macro_rules! each {
        ($kind:ident, $name:literal, $help:literal, $p:ident => $value:expr) => {
            text.$kind($name, $help, peers.iter().map(|(label, $p)| (label.clone(), $value)))
        };
    }
    each!(gauge, "onemec_peer_up", "1 while the connection to the peer stands.", p => u8::from(p.member.is_some()));
    each!(gauge, "onemec_peer_rtt_seconds", "Smoothed round-trip time; 0 without a connection.", p => seconds(p.rtt_us));
    each!(counter, "onemec_peer_connections_total", "Connections made.", p => p.connections);
    each!(counter, "onemec_peer_sent_messages_total", "Messages given to lanes.", p => p.sent_messages);
    each!(counter, "onemec_peer_sent_bytes_total", "Their bytes.", p => p.sent_bytes);
    each!(counter, "onemec_peer_received_messages_total", "Messages that came on lanes.", p => p.received_messages);
    each!(counter, "onemec_peer_received_bytes_total", "Their bytes.", p => p.received_bytes);
    each!(gauge, "onemec_peer_queued_bytes", "Bytes that wait in lanes.", p => p.queued_bytes.iter().sum::<usize>());
    each!(gauge, "onemec_peer_asks_pending", "Questions that wait for an answer.", p => p.asks_pending);
    each!(gauge, "onemec_peer_credit_bytes", "Bytes that may be sent before the peer gives more credit.", p => p.credit_bytes);
    each!(gauge, "onemec_peer_lost_packets", "QUIC packets lost on the present connections.", p => p.lost_packets);
    let t = figures.transport;
    let refused = [
        ("breach", t.breaches),
        ("handshake", t.handshakes_failed),
        ("too-many", t.handshakes_refused),
        ("no-service", t.messages_dropped),
        ("panic", t.service_panics),
    ];
    let refused = refused.map(|(why, n)| (format!("why=\"{why}\""), n));
    let help = "Connections closed or refused, handshakes failed, messages dropped between nodes, by reason.";
    text.counter("onemec_cluster_refused_total", help, refused);
    let heard: Vec<_> =
        live.gossip.heard().into_iter().map(|h| (format!("peer=\"{}\"", backend.name_of(h.node)), h)).collect();
    #[allow(clippy::cast_precision_loss)] // ages are small
    let age = heard.iter().map(|(label, h)| (label.clone(), age_ms(h) as f64 / 1000.0));
    text.gauge("onemec_gossip_age_seconds", "Age of what gossip last said of a node.", age);
    let load = heard.iter().map(|(label, h)| (label.clone(), h.facts.load.cpu));
    text.gauge("onemec_gossip_cpu_ratio", "Share of its processors in use, as it says.", load);
}

fn tasks(text: &mut Text, live: &Live) {
    let branches = live.runtime.tree().branches();
    let restarts = branches.iter().map(|b| (format!("task=\"{}\"", escaped(&b.path)), b.restarts));
    text.counter("onemec_task_restarts_total", "Restarts of parts of the node, by their place in the tree.", restarts);
    let loops = branches.iter().filter(|b| b.state == "crash-loop").count();
    text.gauge("onemec_crash_loops", "Parts of the node that crash again and again.", [(String::new(), loops)]);
}

fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', " ")
}

#[allow(clippy::cast_precision_loss)] // microseconds of short times
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

/// Of this process, as the kernel counts it.
fn resident_bytes() -> Option<u64> {
    let pages: u64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// Prometheus text as it grows. Writing to a string cannot fail.
#[derive(Default)]
struct Text(String);

impl Text {
    fn gauge<V: Display>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, V)>) {
        self.family(name, "gauge", help, values);
    }

    fn counter<V: Display>(&mut self, name: &str, help: &str, values: impl IntoIterator<Item = (String, V)>) {
        self.family(name, "counter", help, values);
    }

    fn family<V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        values: impl IntoIterator<Item = (String, V)>,
    ) {
        self.head(name, kind, help);
        for (labels, value) in values {
            let _never = match labels.as_str() {
                "" => writeln!(self.0, "{name} {value}"),
                labels => writeln!(self.0, "{name}{{{labels}}} {value}"),
            };
        }
    }

    fn histogram(&mut self, name: &str, help: &str, counted: &Counted) {
        self.head(name, "histogram", help);
        let mut sum = 0;
        let ends = BOUNDS_US.iter().map(|us| seconds(*us).to_string()).chain(["+Inf".to_owned()]);
        for (end, n) in ends.zip(counted.counts) {
            sum += n;
            let _never = writeln!(self.0, "{name}_bucket{{le=\"{end}\"}} {sum}");
        }
        let _never = writeln!(self.0, "{name}_sum {}\n{name}_count {sum}", seconds(counted.sum_us));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _never = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_upwards() {
        let mut text = Text::default();
        let mut counted = Counted { sum_us: 1_500_000, ..Counted::default() };
        (counted.counts[0], counted.counts[14]) = (2, 1);
        text.histogram("onemec_x_seconds", "X.", &counted);
        let lines: Vec<&str> = text.0.lines().collect();
        assert_eq!(lines[2], "onemec_x_seconds_bucket{le=\"0.0001\"} 2");
        assert_eq!(lines[16], "onemec_x_seconds_bucket{le=\"+Inf\"} 3");
        assert_eq!(lines[17..], ["onemec_x_seconds_sum 1.5", "onemec_x_seconds_count 3"]);
    }
}
