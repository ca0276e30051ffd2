//! Remote messages beside a bare quinn program of the same shape (DESIGN.md section 10).

use std::time::Duration;

use crate::cli::Plan;
use crate::latency::Latency;
use crate::messaging::{Pace, Side, with_pair};
use crate::report::{Report, Row, Target};
use crate::rounds::{Spread, ours_first, ratios};
use crate::tables::{Measured, Table};

pub(super) const TABLE: Table = Table {
    name: "messaging",
    about: "messages between two processes, ours beside bare quinn (same TLS, packets, windows, threads, CPUs)",
    run: |plan| Box::pin(run(plan)) as Measured<'_>,
};

const BESIDE: &str = "bare quinn";
/// Not measured: caches, congestion windows and branch predictors get warm.
const WARM_UP: Duration = Duration::from_millis(100);

#[derive(Clone, Copy)]
enum Load {
    Asks(usize),
    Tells(usize),
    Bulk,
    /// Two rows: pings, and the bulk beside which they ran.
    Beside,
}

/// What one side did in one round.
#[derive(Default)]
struct Figures {
    latency: Option<Latency>,
    /// Answers, messages or bytes per second.
    rate: f64,
}

async fn one(side: &mut impl Side, load: Load, time: Duration) -> anyhow::Result<Figures> {
    Ok(match load {
        Load::Asks(outstanding) => {
            let o = side.asks(outstanding, time).await?;
            Figures { latency: Some(o.latency), rate: o.rate }
        }
        Load::Tells(bytes) => Figures { latency: None, rate: side.tells(bytes, time).await? },
        Load::Bulk => {
            let pace = Pace::begin();
            let end = pace.clone();
            let timer = async move {
                tokio::time::sleep(time).await;
                end.end();
            };
            let ((), rate) = tokio::join!(timer, side.bulk(pace));
            Figures { latency: None, rate: rate? }
        }
        Load::Beside => {
            let pace = Pace::begin();
            let bulk = side.bulk(pace.clone());
            let pings = async {
                let pings = side.asks(1, time).await;
                pace.end();
                pings
            };
            let (pings, rate) = tokio::join!(pings, bulk);
            Figures { latency: Some(pings?.latency), rate: rate? }
        }
    })
}

/// Rounds of both sides in turn.
async fn rounds(
    ours: &mut impl Side,
    bare: &mut impl Side,
    load: Load,
    count: usize,
    time: Duration,
) -> anyhow::Result<(Vec<Figures>, Vec<Figures>)> {
    one(ours, load, WARM_UP.min(time)).await?;
    one(bare, load, WARM_UP.min(time)).await?;
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for round in 0..count {
        if ours_first(round) {
            a.push(one(ours, load, time).await?);
            b.push(one(bare, load, time).await?);
        } else {
            b.push(one(bare, load, time).await?);
            a.push(one(ours, load, time).await?);
        }
    }
    Ok((a, b))
}

fn row(what: &str, unit: &'static str, targets: Vec<Target>, ours: &[f64], bare: &[f64]) -> Row {
    Row {
        what: what.into(),
        unit,
        ours: Spread::of(ours),
        theirs: Spread::of(bare),
        ratio: Spread::of(&ratios(ours, bare)),
        targets,
        latencies: Vec::new(),
    }
}

fn medians(figures: &[Figures]) -> Vec<f64> {
    figures.iter().filter_map(|f| f.latency.as_ref()).map(|l| l.quantile_us(0.5)).collect()
}

fn rates(figures: &[Figures], scale: f64) -> Vec<f64> {
    figures.iter().map(|f| f.rate / scale).collect()
}

fn with_latencies(mut row: Row, ours: &[Figures], bare: &[Figures]) -> Row {
    for (name, figures) in [("onemec", ours), (BESIDE, bare)] {
        let mut all = Latency::new();
        figures.iter().filter_map(|f| f.latency.as_ref()).for_each(|l| all.add(l));
        row.latency(name, &all);
    }
    row
}

async fn run(plan: &Plan) -> anyhow::Result<Report> {
    let (count, time) = plan.pick((5, Duration::from_millis(300)), (21, Duration::from_secs(1)));
    let rows =
        tokio::task::block_in_place(|| with_pair(async move |ours, bare| measure(ours, bare, count, time).await))?;
    Ok(Report {
        table: TABLE.name,
        about: TABLE.about,
        beside: BESIDE,
        rows,
        notes: vec![format!(
            "{count} rounds of {} ms per side and row, the two sides in turn; figures and ratios are medians of rounds",
            time.as_millis()
        )],
        ..Report::default()
    })
}

async fn measure(mut ours: impl Side, mut bare: impl Side, count: usize, time: Duration) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let loads = [
        ("ask 64 B, 1 outstanding", Load::Asks(1)),
        ("ask 64 B, 64 outstanding", Load::Asks(64)),
        ("one-way 64 B", Load::Tells(64)),
        ("one-way 256 B", Load::Tells(256)),
        ("bulk", Load::Bulk),
        ("ping 64 B beside bulk", Load::Beside),
    ];
    for (what, load) in loads {
        eprintln!("  {what}");
        let (a, b) = rounds(&mut ours, &mut bare, load, count, time).await?;
        let thousands = (rates(&a, 1e3), rates(&b, 1e3));
        let gigabytes = (rates(&a, 1e9), rates(&b, 1e9));
        match load {
            Load::Asks(1) => {
                let row = row(what, "us", vec![Target::RatioAtMost(1.3)], &medians(&a), &medians(&b));
                rows.push(with_latencies(row, &a, &b));
            }
            Load::Asks(_) => {
                let row = row(what, "k/s", vec![Target::RatioAtLeast(0.6)], &thousands.0, &thousands.1);
                rows.push(with_latencies(row, &a, &b));
            }
            Load::Tells(_) => {
                rows.push(row(what, "k/s", vec![Target::RatioAtLeast(0.7)], &thousands.0, &thousands.1));
            }
            Load::Bulk => {
                rows.push(row(what, "GB/s", vec![Target::RatioAtLeast(0.9)], &gigabytes.0, &gigabytes.1));
            }
            Load::Beside => {
                let pings = row(what, "us", Vec::new(), &medians(&a), &medians(&b));
                rows.push(with_latencies(pings, &a, &b));
                rows.push(row("bulk beside ping", "GB/s", Vec::new(), &gigabytes.0, &gigabytes.1));
            }
        }
    }
    Ok(rows)
}
