//! What the demo found, for people and for machines.

use std::fmt;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::checker::Verdict;
use crate::admin::types::MoveReason;
use crate::table::{Table, ms};

/// The two kinds of client; results are never mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientKind {
    /// With the device library.
    Library,
    /// An ordinary HTTP client.
    Unmodified,
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Library => "library",
            Self::Unmodified => "unmodified",
        })
    }
}

/// What one device felt of one move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Felt {
    /// The device.
    pub device: String,
    /// Its kind of client.
    pub client: ClientKind,
    /// Why it moved.
    pub kind: MoveReason,
    /// It arrived.
    pub done: bool,
    /// Longest gap between acknowledgements through the move; `None` if it never wrote again.
    pub gap_us: Option<u64>,
    /// Writes in that time that its program saw fail (unmodified clients).
    pub errors: u64,
    /// Why not, if it did not arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

/// Why a move failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The move's reason code (docs/errors), `rsc-` and oneM2M's code, or one of the demo's own.
    pub code: String,
    /// In words.
    pub text: String,
}

impl Problem {
    /// A problem with a code and words.
    pub fn new(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into() }
    }
}

/// A reason for which moves failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// See [`Problem::code`].
    pub code: String,
    /// How many moves of devices.
    pub count: u64,
    /// The first of them: kind, device and words.
    pub example: String,
}

/// Moves that failed, by reason; the most frequent first.
pub fn failures(felt: &[Felt]) -> Vec<Failure> {
    let mut all: Vec<Failure> = Vec::new();
    for f in felt {
        let silent = (f.done && f.gap_us.is_none())
            .then(|| Problem::new("not-acknowledged", "no write was acknowledged before or after the move"));
        let Some(problem) = f.problem.clone().or(silent) else { continue };
        match all.iter_mut().find(|known| known.code == problem.code) {
            Some(known) => known.count += 1,
            None => {
                let example = format!("{}, {}: {}", word(f.kind), f.device, problem.text);
                all.push(Failure { code: problem.code, count: 1, example });
            }
        }
    }
    all.sort_by_key(|f| std::cmp::Reverse(f.count));
    all
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Kind of move.
    pub kind: MoveReason,
    /// Kind of client.
    pub client: ClientKind,
    /// Devices that moved (each move of each device).
    pub moves: u64,
    /// Those that did not arrive.
    pub failed: u64,
    /// Median interruption.
    pub p50_us: u64,
    /// 99th percentile.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Errors that the clients' programs saw during these moves.
    pub errors: u64,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Nothing was broken and everything was tried.
    pub ok: bool,
    /// Seed.
    pub seed: u64,
    /// Nodes.
    pub nodes: Vec<String>,
    /// Devices with the library.
    pub devices_library: u64,
    /// Unmodified clients.
    pub devices_unmodified: u64,
    /// Distinct sources of their measurements.
    pub sources: u64,
    /// How the devices moved about.
    pub mobility: String,
    /// How unmodified clients find a living host.
    pub steering: String,
    /// Milliseconds in which devices wrote.
    pub wrote_ms: u64,
    /// The table.
    pub rows: Vec<Row>,
    /// Why moves failed.
    pub failures: Vec<Failure>,
    /// Readings read back through the IN-CSE.
    pub read_back: u64,
    /// Attempts of the library beyond the first.
    pub retried: u64,
    /// Readings that a full buffer lost before they were sent.
    pub dropped: u64,
    /// Readings that were still in the devices' buffers at the end: never sent.
    pub unsent: u64,
    /// The checker's verdict.
    pub verdict: Verdict,
    /// What else went wrong.
    pub problems: Vec<String>,
    /// Run folder, if it was kept.
    pub dir: Option<String>,
}

/// The table's lines: kinds of move in their order, library first.
pub fn rows(felt: &[Felt]) -> Vec<Row> {
    let mut keys: Vec<(MoveReason, ClientKind)> = felt.iter().map(|f| (f.kind, f.client)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter()
        .map(|(kind, client)| {
            let of: Vec<&Felt> = felt.iter().filter(|f| f.kind == kind && f.client == client).collect();
            let mut gaps: Vec<u64> = of.iter().filter(|f| f.done).filter_map(|f| f.gap_us).collect();
            gaps.sort_unstable();
            let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            Row {
                kind,
                client,
                moves: count(of.len()),
                failed: count(of.iter().filter(|f| !f.done || f.gap_us.is_none()).count()),
                p50_us: percentile(&gaps, 50),
                p99_us: percentile(&gaps, 99),
                max_us: gaps.last().copied().unwrap_or(0),
                errors: of.iter().map(|f| f.errors).sum(),
            }
        })
        .collect()
}

/// Nearest rank; `sorted` is rising. 0 if it is empty.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn word(kind: MoveReason) -> &'static str {
    match kind {
        MoveReason::Operator => "operator",
        MoveReason::Device => "device",
        MoveReason::Network => "network",
        MoveReason::Drain => "drain",
        MoveReason::Failback => "failback",
        MoveReason::Residency => "residency",
        MoveReason::LoadBalance => "load balance",
        MoveReason::Failover => "failover (kill -9)",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = String::new();
        let _ = writeln!(
            head,
            "{} nodes ({}), {} devices with the library, {} unmodified clients, {} sources, {:.1} s of writing, seed {}",
            self.nodes.len(),
            self.nodes.join(", "),
            self.devices_library,
            self.devices_unmodified,
            self.sources,
            self.wrote_ms as f64 / 1000.0,
            self.seed
        );
        let _ = writeln!(head, "mobility: {}; unmodified clients come back by {}\n", self.mobility, self.steering);
        let mut table =
            Table::new(&["moves by", "client", "moves", "failed", "gap p50 ms", "p99 ms", "max ms", "errors seen"]);
        for r in &self.rows {
            table.row([
                word(r.kind).to_owned(),
                r.client.to_string(),
                r.moves.to_string(),
                r.failed.to_string(),
                ms(r.p50_us),
                ms(r.p99_us),
                ms(r.max_us),
                r.errors.to_string(),
            ]);
        }
        let v = &self.verdict;
        writeln!(f, "{head}{table}")?;
        for failure in &self.failures {
            writeln!(f, "failed {} times, {}: {}", failure.count, failure.code, failure.example)?;
        }
        writeln!(f, "gap: longest time between two acknowledgements of a device that writes without pause\n")?;
        for (name, value) in [
            ("acknowledged", v.acknowledged),
            ("read back", self.read_back),
            ("lost", v.lost),
            ("doubled", v.doubled),
            ("out_of_order", v.out_of_order),
            ("phantom", v.phantom),
            ("altered", v.altered),
            ("unknown to the client", v.unknown),
            ("refused", v.refused),
            ("retried", self.retried),
            ("dropped by full buffers", self.dropped),
            ("never sent", self.unsent),
            ("bundles", v.bundles),
            ("bundle moves checked", v.bundle_moves),
            ("audit lines checked", v.log_lines),
            ("violations", v.violations()),
        ] {
            writeln!(f, "{name:<24} {value:>9}")?;
        }
        for (invariant, violations) in &v.violations {
            writeln!(f, "\nBROKEN {invariant}: {} times", violations.count)?;
            for example in &violations.examples {
                writeln!(f, "  {example}")?;
            }
        }
        for problem in &self.problems {
            writeln!(f, "\nPROBLEM {problem}")?;
        }
        if let Some(dir) = &self.dir {
            writeln!(f, "\ndata and logs: {dir}")?;
        }
        writeln!(f, "\n{}", if self.ok { "all invariants held" } else { "FAILED" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_keep_kinds_and_clients_apart() {
        let felt = |kind, client, gap_us, done| Felt {
            device: "d".into(),
            client,
            kind,
            done,
            gap_us,
            errors: 1,
            problem: None,
        };
        let mut all: Vec<Felt> =
            (1..=100).map(|i| felt(MoveReason::Operator, ClientKind::Library, Some(i), true)).collect();
        all.push(felt(MoveReason::Operator, ClientKind::Unmodified, Some(7), true));
        all.push(felt(MoveReason::Failover, ClientKind::Library, None, true));
        let rows = rows(&all);
        assert_eq!(rows.len(), 3);
        assert_eq!((rows[0].moves, rows[0].p50_us, rows[0].p99_us, rows[0].max_us), (100, 50, 99, 100));
        assert_eq!((rows[1].client, rows[1].max_us), (ClientKind::Unmodified, 7));
        assert_eq!((rows[2].kind, rows[2].failed), (MoveReason::Failover, 1));
        assert_eq!(percentile(&[], 99), 0);
    }

    #[test]
    fn failures_are_counted_by_reason() {
        let felt = |device: &str, code: &str, gap_us| Felt {
            device: device.into(),
            client: ClientKind::Library,
            kind: MoveReason::Network,
            done: code.is_empty(),
            gap_us,
            errors: 0,
            problem: (!code.is_empty()).then(|| Problem::new(code, "words")),
        };
        let all = [felt("d1", "", Some(5)), felt("d2", "move-x", Some(5)), felt("d3", "move-y", None)];
        let all = [all.as_slice(), &[felt("d4", "move-y", Some(5)), felt("d5", "", None)]].concat();
        let found = failures(&all);
        let short: Vec<_> = found.iter().map(|f| (f.code.as_str(), f.count)).collect();
        assert_eq!(short, [("move-y", 2), ("move-x", 1), ("not-acknowledged", 1)]);
        assert_eq!(found[0].example, "network, d3: words");
    }
}
