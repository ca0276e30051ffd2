//! Interruption when a node dies (DESIGN.md section 10).

use std::time::Duration;

use anyhow::Context as _;
use onemec_device::meter::gap_through;

use crate::cli::Plan;
use crate::cluster::Nodes;
use crate::device::{Client, Device, acknowledgements};
use crate::latency::Latency;
use crate::report::{Report, Row, Target};
use crate::rounds::Spread;
use crate::tables::{Measured, Table};

pub(super) const TABLE: Table = Table {
    name: "failover",
    about: "longest gap between acknowledgements of a device (library client) when a node is killed with SIGKILL",
    run: |plan| Box::pin(run(plan)) as Measured<'_>,
};

const BEFORE: Duration = Duration::from_millis(200);
/// After the death a device writes on for so long: more than any gap that is expected.
const AFTER: Duration = Duration::from_millis(4_000);
const INSTANCES: u64 = 1_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// Serves the device; another node leads the directory.
    Primary,
    /// Serves the device and leads the directory.
    PrimaryAndLeader,
    /// Holds a replica; another node leads the directory.
    Replica,
}

impl Victim {
    const ALL: [Self; 3] = [Self::Primary, Self::PrimaryAndLeader, Self::Replica];

    const fn name(self) -> &'static str {
        match self {
            Self::Primary => "primary, not the directory's leader",
            Self::PrimaryAndLeader => "primary and the directory's leader",
            Self::Replica => "replica, not the directory's leader",
        }
    }

    fn target(self, lease: Duration) -> Target {
        let ms = lease.as_secs_f64() * 1e3;
        Target::ValueAtMost(match self {
            Self::Primary => ms + 100.0,
            Self::PrimaryAndLeader => 1_000.0,
            Self::Replica => ms + 50.0,
        })
    }
}

async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let deaths = plan.pick(2, 7);
    let mut nodes = Nodes::start(plan).await?;
    let lease = nodes.lease();
    let mut device = Device::new(&nodes, Client::Library, INSTANCES, "edge1").await?;
    let mut gaps = vec![Vec::new(); Victim::ALL.len()];
    let mut silent = Vec::new();
    for death in 0..deaths {
        for (victim, gaps) in Victim::ALL.into_iter().zip(&mut gaps) {
            eprintln!("  death {} of {deaths}: {}", death + 1, victim.name());
            match one_death(&mut nodes, &mut device, victim).await? {
                Ok(gap) => gaps.push(gap),
                Err(why) => {
                    gaps.push(AFTER);
                    silent.push(format!("{}, death {}: {why}", victim.name(), death + 1));
                }
            }
        }
    }
    nodes.stop().await;
    let rows = Victim::ALL.into_iter().zip(gaps).map(|(victim, gaps)| row(victim, lease, &gaps)).collect();
    let mut notes = vec![
        format!("{deaths} deaths per row; figures are medians in ms, with the lease beside; {INSTANCES} instances"),
        "the node is started again after each death, and the next one waits until the group is complete".into(),
    ];
    notes.extend(silent);
    Ok(Report { table: TABLE.name, about: TABLE.about, beside: "lease", rows, notes, ..Report::default() })
}

/// Brings the group to where the victim plays its part, kills it, starts it again. The gap; or in words that the device was
/// not acknowledged any more while it was watched, which is a finding and must not end the table.
async fn one_death(nodes: &mut Nodes, device: &mut Device, victim: Victim) -> anyhow::Result<Result<Duration, String>> {
    let leader = nodes.leader().await?;
    let now = nodes.placed(&device.ae_id, |p| p.in_sync.len() >= 2 && p.primary.is_some()).await?;
    let primary = now.primary.unwrap_or_default();
    let wanted = match victim {
        Victim::Primary => nodes.names().into_iter().find(|n| *n != leader).context("another node")?,
        Victim::PrimaryAndLeader => leader.clone(),
        // The replica must not be the leader, so the primary is it.
        Victim::Replica => leader.clone(),
    };
    if primary != wanted {
        let moved = nodes.move_to(&device.ae_id, &wanted).await?;
        anyhow::ensure!(moved.state == "done", "move to {wanted}: {} {}", moved.code, moved.text);
    }
    // The set is trimmed some time after a move; only then its members are those that stay.
    let placed = nodes
        .placed(&device.ae_id, |p| p.in_sync.len() == 2 && p.primary.as_ref() == Some(&wanted) && !p.moving)
        .await?;
    let dies = match victim {
        Victim::Primary | Victim::PrimaryAndLeader => wanted.clone(),
        Victim::Replica => placed.in_sync.into_iter().find(|n| *n != wanted).context("a replica")?,
    };
    let clock = device.clock();
    let (kill, killed) = tokio::sync::oneshot::channel();
    let observed = tokio::spawn(async move {
        let from = killed.await?;
        tokio::time::sleep(AFTER).await;
        Ok(from)
    });
    let at = device.clock();
    let writing = device.write_during(observed);
    let killing = async {
        tokio::time::sleep(BEFORE).await;
        let from = at();
        let dead = nodes.kill(&dies).await;
        // Gone only if the observer has ended, which then says so.
        let _gone = kill.send(from);
        dead
    };
    let (written, dead) = tokio::join!(writing, killing);
    dead?;
    let (events, from) = written?;
    let gap = gap_through(acknowledgements(&events), from, clock()).map(Duration::from_micros).ok_or_else(|| {
        let last = events.last().map(|e| format!("{:?}, HTTP status {}, {} attempts", e.outcome, e.status, e.attempts));
        let last = last.unwrap_or_else(|| "none".into());
        format!("no acknowledgement within {} ms (counted as that); the last write: {last}", AFTER.as_millis())
    });
    nodes.restart(&dies).await?;
    Ok(gap)
}

fn row(victim: Victim, lease: Duration, gaps: &[Duration]) -> Row {
    let ms = |d: &Duration| d.as_secs_f64() * 1e3;
    let ours = Spread::of(&gaps.iter().map(ms).collect::<Vec<_>>());
    let lease_ms = ms(&lease);
    let mut latency = Latency::new();
    gaps.iter().for_each(|g| latency.record(*g));
    let mut row = Row {
        what: victim.name().into(),
        unit: "ms",
        ours,
        theirs: Some(Spread::single(lease_ms)),
        ratio: ours.map(|o| Spread { median: o.median / lease_ms, min: o.min / lease_ms, max: o.max / lease_ms }),
        targets: vec![victim.target(lease)],
        latencies: Vec::new(),
    };
    row.latency("gap", &latency);
    row
}
