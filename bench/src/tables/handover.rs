//! Handover interruption by the size of the context (DESIGN.md sections 5 and 10).

use std::collections::BTreeMap;
use std::time::Duration;

use onemec_device::meter::gap_through;
use onemec_node::admin::types::Handover;

use crate::cli::Plan;
use crate::cluster::{Nodes, order_move};
use crate::device::{Client, Device, acknowledgements, failures};
use crate::latency::Latency;
use crate::report::{Report, Row, Target};
use crate::rounds::Spread;
use crate::tables::{Measured, Table};

pub(super) const TABLE: Table = Table {
    name: "handover",
    about: "longest gap between acknowledgements of a device that writes without pause through a move, 3 nodes on loopback",
    run: |plan| Box::pin(run(plan)) as Measured<'_>,
};

/// The device writes from so long before the order to so long after the end of the move: long enough for a client that
/// follows the steering to have changed its connection.
const BEFORE: Duration = Duration::from_millis(60);
const AFTER: Duration = Duration::from_millis(150);
/// Gaps of each row are looked at in so many blocks, whose percentiles give the spread.
const BLOCKS: usize = 5;
/// "Flat in the size of the history": the largest context is no slower than this, compared with the smallest.
const FLAT: f64 = 1.25;

/// All moves of one device.
#[derive(Default)]
struct Felt {
    gaps: Vec<Duration>,
    writes: Latency,
    moves: Vec<Handover>,
    refused: BTreeMap<String, usize>,
    failed_writes: usize,
}

async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let sizes: &[u64] = plan.pick(&[10, 1_000, 10_000], &[10, 1_000, 100_000]);
    let moves = plan.pick(10, 200);
    let nodes = Nodes::start(plan).await?;
    let mut devices = Vec::new();
    for size in sizes {
        for client in [Client::Library, Client::Unmodified] {
            eprintln!("  {} client, {size} instances: loading", client.name());
            devices.push((Device::new(&nodes, client, *size, "edge1").await?, Felt::default()));
        }
    }
    for (device, _) in &devices {
        nodes.placed(&device.ae_id, |p| p.in_sync.len() >= 2).await?;
    }
    for round in 0..moves {
        if round % 10 == 0 {
            eprintln!("  move {round} of {moves} of each device");
        }
        let to = if round % 2 == 0 { "edge2" } else { "edge1" };
        // In turn, so that noise hits all sizes; only the device that moves writes.
        for (device, felt) in &mut devices {
            one_move(&nodes, device, to, felt).await?;
        }
    }
    nodes.stop().await;
    Ok(report(&devices, moves))
}

async fn one_move(nodes: &Nodes, device: &mut Device, to: &str, felt: &mut Felt) -> anyhow::Result<()> {
    let (admin, ae, to, clock) = (nodes.admin("cloud")?, device.ae_id.clone(), to.to_owned(), device.clock());
    let order = tokio::spawn(async move {
        tokio::time::sleep(BEFORE).await;
        let from = clock();
        let result = order_move(admin, ae, to).await?;
        let upto = clock();
        tokio::time::sleep(AFTER).await;
        Ok((from, upto, result))
    });
    let (events, (from, upto, result)) = device.write_during(order).await?;
    if result.state != "done" {
        *felt.refused.entry(format!("{} {}", result.state, result.code)).or_default() += 1;
        return Ok(());
    }
    felt.failed_writes += failures(&events);
    let after = u64::try_from(AFTER.as_micros()).unwrap_or(u64::MAX);
    let gap = gap_through(acknowledgements(&events), from, upto + after);
    felt.gaps.extend(gap.map(Duration::from_micros));
    for event in events.iter().filter(|e| e.ended_us < from) {
        felt.writes.record(Duration::from_micros(event.ended_us - event.invoked_us));
    }
    felt.moves.push(result.handover);
    Ok(())
}

fn histogram(values: impl IntoIterator<Item = Duration>) -> Latency {
    let mut all = Latency::new();
    values.into_iter().for_each(|v| all.record(v));
    all
}

/// The 99th percentile of all values, with that of the blocks of consecutive moves as its spread; milliseconds.
fn p99_ms(values: &[Duration]) -> Option<Spread> {
    let of = |v: &[Duration]| histogram(v.iter().copied()).quantile_us(0.99) / 1e3;
    let blocks: Vec<f64> = values.chunks(values.len().div_ceil(BLOCKS).max(1)).map(of).collect();
    Spread::of(&blocks).map(|s| Spread { median: of(values), ..s })
}

fn report(devices: &[(Device, Felt)], moves: usize) -> Report {
    let micros = Duration::from_micros;
    let commits: Vec<Duration> =
        devices.iter().flat_map(|(_, f)| &f.moves).map(|m| micros(m.commit_us)).filter(|c| !c.is_zero()).collect();
    let commit = p99_ms(&commits);
    let mut rows = Vec::new();
    for (device, felt) in devices {
        let ours = p99_ms(&felt.gaps);
        let ratio = ours.zip(commit).map(|(o, c)| Spread {
            median: o.median / c.median,
            min: o.min / c.median,
            max: o.max / c.median,
        });
        let mut row = Row {
            what: format!("{} client, {} instances", device.client.name(), device.instances),
            unit: "ms",
            ours,
            theirs: commit,
            ratio,
            targets: vec![Target::RatioAtMost(5.0), Target::ValueAtMost(10.0)],
            latencies: Vec::new(),
        };
        row.latency("gap", &histogram(felt.gaps.iter().copied()));
        row.latency("source frozen", &histogram(felt.moves.iter().map(|m| micros(m.interruption_us))));
        row.latency("until ready", &histogram(felt.moves.iter().map(|m| micros(m.prepare_us))));
        row.latency("write before", &felt.writes);
        rows.push(row);
    }
    rows.extend(flatness(devices));
    let mut all = Row { what: "one directory commit".into(), unit: "ms", ours: commit, ..Row::default() };
    all.latency("commit", &histogram(commits.iter().copied()));
    rows.push(all);
    Report {
        table: TABLE.name,
        about: TABLE.about,
        beside: "dir. commit",
        rows,
        notes: notes(devices, moves),
        ..Report::default()
    }
}

/// The median gap of the largest context beside that of the smallest.
fn flatness(devices: &[(Device, Felt)]) -> Vec<Row> {
    let one = |client: Client| {
        let mut of_client = devices.iter().filter(|(d, _)| d.client == client);
        let (small, large) = (of_client.next()?, of_client.next_back()?);
        let median = |f: &Felt| histogram(f.gaps.iter().copied()).quantile_us(0.5) / 1e3;
        let (base, value) = (median(&small.1), median(&large.1));
        Some(Row {
            what: format!(
                "{} client, p50: {} beside {} instances",
                client.name(),
                large.0.instances,
                small.0.instances
            ),
            unit: "ms",
            ours: Some(Spread::single(value)),
            theirs: Some(Spread::single(base)),
            ratio: Some(Spread::single(value / base)),
            targets: vec![Target::RatioAtMost(FLAT)],
            latencies: Vec::new(),
        })
    };
    [Client::Library, Client::Unmodified].into_iter().filter_map(one).collect()
}

fn notes(devices: &[(Device, Felt)], moves: usize) -> Vec<String> {
    let mut notes = vec![
        format!("{moves} moves per row between edge1 and edge2, the rows in turn; figures are 99th percentiles in ms"),
        "the directory commit is the transfer's own: from its proposal at the source until the source has applied it"
            .into(),
    ];
    for (device, felt) in devices {
        for (why, times) in &felt.refused {
            notes.push(format!("{}: {times} orders ended as {why}", device.ae_id));
        }
        if felt.failed_writes > 0 {
            notes.push(format!("{}: {} writes were not acknowledged", device.ae_id, felt.failed_writes));
        }
    }
    notes
}
