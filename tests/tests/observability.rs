//! What an operator sees: metrics that docs/metrics.md explains, traces of moves at a collector, and no secret in any log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // test programs

use std::collections::{BTreeMap, BTreeSet};

use onemec_device::{Connector, Endpoint};
use onemec_tests::wait::{PATIENCE, until};
use onemec_tests::{Cluster, Listener, Writer, history};
use serde_json::Value;

/// One family of metrics: its kind, and its samples with their labels.
type Families = BTreeMap<String, (String, Vec<(String, f64)>)>;

async fn text(cluster: &Cluster, node: &str) -> String {
    let a = cluster.topology().node(node).unwrap().admin_listen;
    let door = Endpoint { tls: false, host: a.ip().to_string(), port: a.port() };
    let mut connection = Connector::default().connect(&door, PATIENCE).await.unwrap();
    let request = http::Request::get("/metrics").body(http_body_util::Full::default()).unwrap();
    let answer = connection.send(request, PATIENCE).await.unwrap();
    assert_eq!(answer.status, 200);
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// Reads the text as Prometheus does; every sample must belong to a family that was announced before it.
fn parse(text: &str) -> Families {
    let mut families = Families::new();
    let mut helped = BTreeSet::new();
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect(line);
            assert!(!help.is_empty() && helped.insert(name.to_owned()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect(line);
            assert!(helped.contains(name), "no HELP: {line}");
            families.insert(name.into(), (kind.into(), Vec::new()));
        } else {
            let (sample, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            let family = if families.contains_key(name) { name } else { stem };
            let (_, samples) = families.get_mut(family).unwrap_or_else(|| panic!("not announced: {line}"));
            samples.push((format!("{name}{{{labels}"), value.parse().expect(line)));
        }
    }
    families
}

fn value(families: &Families, sample: &str) -> f64 {
    let all = families.values().flat_map(|(_, samples)| samples);
    all.filter(|(name, _)| name.contains(sample)).map(|(_, value)| value).sum()
}

#[tokio::test]
async fn every_metric_is_documented_and_says_what_happened() {
    let mut cluster = Cluster::start().await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    cluster.move_to("cloud", "Cmeter", "edge2").await;
    writer.writes(20).await;
    let refused = cluster.client("edge2", "Cnobody").ask(&onemec_tests::client::Ask::retrieve("/-/nowhere")).await;
    assert!(refused.status.is_client_error());

    let mut shown = BTreeMap::new();
    for node in cluster.names() {
        for (name, (kind, _)) in parse(&text(&cluster, &node).await) {
            shown.insert(name, kind);
        }
    }
    let page = include_str!("../../docs/metrics.md");
    let rows = page.lines().filter_map(|l| l.strip_prefix("| `")).map(|row| {
        let mut cells = row.split('|').map(str::trim);
        let name = cells.next().unwrap().trim_end_matches('`').to_owned();
        (name, cells.next().unwrap().to_owned())
    });
    let documented: BTreeMap<String, String> = rows.collect();
    assert_eq!(shown, documented, "docs/metrics.md and the program differ");

    let (cloud, edge1, edge2) =
        (text(&cluster, "cloud").await, text(&cluster, "edge1").await, text(&cluster, "edge2").await);
    let (cloud, edge1, edge2) = (parse(&cloud), parse(&edge1), parse(&edge2));
    assert_eq!(value(&cloud, "onemec_lease_valid"), 1.0);
    assert_eq!(value(&cloud, "onemec_nodes{state=\"up\"}"), 3.0);
    assert!(value(&edge1, "onemec_http_requests_total{status=\"201\"}") >= 20.0);
    let status = refused.status.as_u16();
    assert!(value(&edge2, &format!("onemec_http_requests_total{{status=\"{status}\"}}")) >= 1.0);
    assert!(value(&edge1, "onemec_moves_total{reason=\"operator\",outcome=\"moved\"}") >= 1.0);
    assert!(value(&edge1, "onemec_directory_commit_seconds_count") >= 1.0);
    assert!(value(&edge2, "onemec_store_sync_seconds_count") >= 1.0);
    assert_eq!(value(&edge2, "onemec_peer_up{peer=\"cloud\"}"), 1.0);
    assert!(value(&edge2, "onemec_groups{role=\"primary\"}") >= 1.0);
    assert!(value(&edge1, "onemec_http_connections{") >= 1.0, "the writer's");

    // A peer that is gone is seen.
    cluster.kill("edge1");
    until("cloud's metrics say that edge1 is gone", async || {
        let now = parse(&text(&cluster, "cloud").await);
        (value(&now, "onemec_peer_up{peer=\"edge1\"}") == 0.0 && value(&now, "onemec_nodes{state=\"dead\"}") == 1.0)
            .then_some(())
    })
    .await;
    cluster.restart("edge1").await;
    history::verify(&cluster, &[writer.finish().await]).await;
}

/// A span as it came to the collector.
#[derive(Debug, Clone)]
struct Span {
    node: String,
    name: String,
    trace: String,
    id: String,
    parent: String,
    ended: u64,
    began: u64,
}

fn spans(collector: &Listener) -> Vec<Span> {
    let mut all = Vec::new();
    for request in collector.heard() {
        for resource in request.body["resourceSpans"].as_array().expect("OTLP") {
            let attributes = resource["resource"]["attributes"].as_array().unwrap();
            let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
            let of = |key: &str| attributes.iter().find(|a| a["key"] == key).map(|a| text(&a["value"]["stringValue"]));
            assert_eq!(of("service.name").as_deref(), Some("onemec"));
            for span in resource["scopeSpans"][0]["spans"].as_array().unwrap() {
                let number = |key: &str| text(&span[key]).parse().unwrap();
                all.push(Span {
                    node: of("service.instance.id").unwrap(),
                    name: text(&span["name"]),
                    trace: text(&span["traceId"]),
                    id: text(&span["spanId"]),
                    parent: text(&span["parentSpanId"]),
                    began: number("startTimeUnixNano"),
                    ended: number("endTimeUnixNano"),
                });
            }
        }
    }
    all
}

#[tokio::test]
async fn a_move_is_one_trace_over_all_nodes_that_took_part() {
    let collector = Listener::start().await;
    let url = collector.url.trim_end_matches("/heard").to_owned();
    let cluster = Cluster::start_with(move |t| t.observability.otlp_endpoint = Some(url.clone())).await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(20).await;
    cluster.replicated("cloud", "Cmeter").await;
    // On a machine that is too busy a takeover may be quicker than the order: then another move is ordered.
    let moved = until("a move that was carried out", async || {
        let at = cluster.replicated("cloud", "Cmeter").await.primary?;
        let to = if at == "edge2" { "edge1" } else { "edge2" };
        cluster.move_to("cloud", "Cmeter", to).await;
        let all = cluster.admin(&at).handovers().await.ok()?;
        all.into_iter().rev().find(|h| h.outcome == "done" && !h.trace_id.is_empty())
    })
    .await;
    let (trace, from, to) = (&moved.trace_id, moved.from.as_str(), moved.to.as_str());
    let wanted: BTreeSet<(&str, &str)> = BTreeSet::from([
        ("cloud", "order"),
        (from, "move"),
        (from, "admission"),
        (from, "prepare"),
        (from, "freeze"),
        (from, "transfer"),
        (from, "activate"),
        (from, "settle"),
        (to, "admit"),
        (to, "serve"),
        (to, "settle"),
    ]);
    let of_move = until("all spans of the move at the collector", async || {
        let all: Vec<Span> = spans(&collector).into_iter().filter(|s| s.trace == *trace).collect();
        let names: BTreeSet<(&str, &str)> = all.iter().map(|s| (s.node.as_str(), s.name.as_str())).collect();
        names.is_superset(&wanted).then_some(all)
    })
    .await;
    let ids: BTreeSet<&str> = of_move.iter().map(|s| s.id.as_str()).collect();
    assert_eq!(ids.len(), of_move.len(), "ids are unique: {of_move:#?}");
    for span in &of_move {
        let root = span.name == "order";
        assert_eq!(span.parent.is_empty(), root, "{span:?}");
        assert!(root || ids.contains(span.parent.as_str()), "its parent is in the trace: {span:?}");
        assert!(span.ended >= span.began && span.began > 0, "{span:?}");
    }
    // Each end tells each of its steps once. What the target has told of the next move came after all that it tells of this.
    let next = until("the next move", async || {
        cluster.replicated("cloud", "Cmeter").await;
        cluster.move_to("cloud", "Cmeter", from).await;
        let all = cluster.admin(to).handovers().await.ok()?;
        all.into_iter().rev().find(|h| h.outcome == "done" && h.from == to && !h.trace_id.is_empty())
    })
    .await;
    until("the spans of the next move", async || {
        let of_next = |s: &Span| s.trace == next.trace_id && s.node == to && s.name == "settle";
        spans(&collector).iter().any(of_next).then_some(())
    })
    .await;
    for (node, name) in wanted {
        let same = |s: &Span| s.trace == *trace && s.node == node && s.name == name;
        assert_eq!(spans(&collector).into_iter().filter(same).count(), 1, "{name} at {node}");
    }
    let written = writer.finish().await;
    written.assert_all_acknowledged();
    history::verify(&cluster, &[written]).await;
}

/// Nobody is there, or somebody who never answers: that costs spans, which are counted, and nothing else.
#[tokio::test]
async fn a_collector_that_is_away_or_silent_harms_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses = [silent.local_addr().unwrap(), closed.local_addr().unwrap()];
    drop(closed);
    for address in addresses {
        let cluster =
            Cluster::start_with(move |t| t.observability.otlp_endpoint = Some(format!("http://{address}"))).await;
        let writer = Writer::start(&cluster, "meter", "edge1").await;
        writer.writes(20).await;
        cluster.replicated("cloud", "Cmeter").await;
        for to in ["edge2", "edge1", "edge2"] {
            cluster.move_to("cloud", "Cmeter", to).await;
            cluster.replicated("cloud", "Cmeter").await;
        }
        writer.writes(20).await;
        until("lost spans are counted", async || {
            let now = parse(&text(&cluster, "edge1").await);
            (value(&now, "onemec_trace_spans_total{outcome=\"failed\"}") > 0.0).then_some(())
        })
        .await;
        let written = writer.finish().await;
        written.assert_all_acknowledged();
        history::verify(&cluster, &[written]).await;
    }
}

/// The cluster's key for handover tokens, read from the disk of a node, where it must be.
fn token_key(cluster: &Cluster, node: &str) -> Option<String> {
    const NAME: &[u8] = b"secret/handover-token-key";
    let folder = cluster.data_dir(node).join("raft/log");
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap_or_default();
        let found = bytes.windows(NAME.len()).position(|w| w == NAME);
        // The value follows after its length (8 bytes).
        let Some(at) = found.map(|p| p + NAME.len() + 8) else { continue };
        let key = String::from_utf8(bytes[at..at + 64].to_vec()).unwrap();
        assert!(key.bytes().all(|b| b.is_ascii_hexdigit()), "{key}");
        return Some(key);
    }
    None
}

#[tokio::test]
async fn no_log_shows_a_key_however_much_is_logged() {
    const TOKEN: &str = "a-bearer-token-of-the-meter";
    let mut cluster = Cluster::start_logging("trace", |t| {
        for node in &mut t.node {
            node.security.auth = onemec_node::topology::Auth::Optional;
            node.security.tokens.insert("Cmeter".into(), TOKEN.into());
        }
    })
    .await;
    let writer = Writer::start(&cluster, "meter", "edge1").await;
    writer.writes(5).await;
    cluster.replicated("cloud", "Cmeter").await;
    cluster.move_to("cloud", "Cmeter", "edge2").await;
    // A node that comes back reads its log, and gets what it lacks from the others.
    cluster.kill("edge1");
    cluster.restart("edge1").await;
    writer.writes(5).await;
    let key = token_key(&cluster, "cloud").or_else(|| token_key(&cluster, "edge2")).expect("the key is on the disk");
    let list = |bytes: &[u8]| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let raw: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&key[2 * i..2 * i + 2], 16).unwrap()).collect();
    let forms = [
        ("as text", key[..16].to_owned()),
        ("as text in capitals", key[..16].to_uppercase()),
        ("its text as a list of bytes", list(&key.as_bytes()[..16])),
        ("its bytes as a list", list(&raw)),
        ("a bearer token", TOKEN.to_owned()),
        ("a bearer token as a list of bytes", list(TOKEN.as_bytes())),
        ("a private key", "BEGIN PRIVATE KEY".to_owned()),
    ];
    for node in cluster.names() {
        let log = cluster.logged(&node);
        assert!(log.contains("TRACE"), "{node} logs at this level");
        for (what, form) in &forms {
            let shown = log.lines().find(|l| l.contains(form.as_str()));
            assert!(shown.is_none(), "{node} logs a key {what}: {}", &shown.unwrap()[..200.min(shown.unwrap().len())]);
        }
        // Nobody else on the machine reads them either.
        use std::os::unix::fs::PermissionsExt as _;
        let mode = |path: std::path::PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(cluster.data_dir(&node)), 0o700);
        assert_eq!(mode(cluster.ca_dir().join(format!("{node}.key"))), 0o600);
    }
    history::verify(&cluster, &[writer.finish().await]).await;
}
