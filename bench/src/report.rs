//! What a table says: rows with their targets, as text, JSON and `.hgrm` files.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;

use crate::latency::{Latency, Percentiles};
use crate::machine::Machine;
use crate::rounds::Spread;

/// A table that was measured.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Its name.
    pub(crate) table: &'static str,
    /// In words.
    pub(crate) about: &'static str,
    /// What stands in the column beside ours.
    pub(crate) beside: &'static str,
    /// What was measured.
    pub(crate) rows: Vec<Row>,
    /// What a reader must know.
    pub(crate) notes: Vec<String>,
    /// The machine before it.
    pub(crate) begun: Option<Machine>,
    /// And after it.
    pub(crate) ended: Option<Machine>,
}

/// One comparison.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) what: String,
    /// Unit of the figures.
    pub(crate) unit: &'static str,
    /// Ours.
    pub(crate) ours: Option<Spread>,
    /// What is compared with.
    pub(crate) theirs: Option<Spread>,
    /// Ours by theirs.
    pub(crate) ratio: Option<Spread>,
    /// What DESIGN.md section 10 wants.
    pub(crate) targets: Vec<Target>,
    /// Latencies, where a row has them; written as `.hgrm`.
    pub(crate) latencies: Vec<Named>,
}

/// A target.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Of the ratio.
    RatioAtMost(f64),
    /// Of the ratio.
    RatioAtLeast(f64),
    /// Of our median.
    ValueAtMost(f64),
}

/// A histogram with whose it is.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Named {
    /// Whose.
    pub(crate) name: String,
    /// In microseconds.
    pub(crate) percentiles: Percentiles,
    /// File in the results' folder.
    pub(crate) file: String,
    #[serde(skip)]
    latency: Latency,
}

impl Target {
    /// Met? `None` where nothing was measured.
    pub(crate) fn met(self, row: &Row) -> Option<bool> {
        match self {
            Self::RatioAtMost(x) => row.ratio.map(|r| r.median <= x),
            Self::RatioAtLeast(x) => row.ratio.map(|r| r.median >= x),
            Self::ValueAtMost(x) => row.ours.map(|o| o.median <= x),
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Self::RatioAtMost(x) => format!("<= {x} x"),
            Self::RatioAtLeast(x) => format!(">= {x} x"),
            Self::ValueAtMost(x) => format!("<= {x} {unit}"),
        }
    }
}

impl Row {
    /// With a histogram.
    pub(crate) fn latency(&mut self, name: &str, latency: &Latency) {
        if !latency.is_empty() {
            let percentiles = latency.percentiles();
            self.latencies.push(Named {
                name: name.into(),
                percentiles,
                file: String::new(),
                latency: latency.clone(),
            });
        }
    }
}

impl Report {
    /// Writes `TABLE.json` and one `.hgrm` per histogram.
    pub(crate) fn write(&mut self, dir: &Path) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
        };
        for row in &mut self.rows {
            for one in &mut row.latencies {
                one.file = format!("{}-{}-{}.hgrm", self.table, slug(&row.what), slug(&one.name));
                write(&one.file, one.latency.hgrm())?;
            }
        }
        write(&format!("{}.json", self.table), serde_json::to_string_pretty(&self)?)
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("\n{}: {}\n", self.table, self.about);
        if let (Some(begun), Some(ended)) = (&self.begun, &self.ended) {
            let Machine { cpus, kernel, profile, .. } = begun;
            let (before, after) = (&begun.load, &ended.load);
            let _never = writeln!(out, "{cpus} CPUs, {kernel}, {profile} build, load before {before}, after {after}");
            if *profile == "debug" {
                out.push_str("a debug build: these figures say nothing; use --release\n");
            }
        }
        let head = ["path", "unit", "onemec", self.beside, "ratio", "lowest..highest", "target", "met"];
        let mut lines = vec![head.map(str::to_owned).to_vec()];
        for row in &self.rows {
            let mut targets = row.targets.iter();
            lines.push(row.line(targets.next().copied()));
            for more in targets {
                let mut line = vec![String::new(); 8];
                line[6] = more.text(row.unit);
                line[7] = yes_no(more.met(row));
                lines.push(line);
            }
        }
        out.push_str(&aligned(&lines));
        let mut lines =
            vec![["latency in us", "of", "n", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned).to_vec()];
        for (row, one) in self.rows.iter().flat_map(|r| r.latencies.iter().map(move |l| (r, l))) {
            let p = one.percentiles;
            let mut line = vec![row.what.clone(), one.name.clone(), p.count.to_string()];
            line.extend([p.p50, p.p90, p.p99, p.p99_9, p.max].map(number));
            lines.push(line);
        }
        if lines.len() > 1 {
            out.push('\n');
            out.push_str(&aligned(&lines));
        }
        for note in &self.notes {
            let _never = writeln!(out, "- {note}");
        }
        out
    }
}

impl Row {
    fn line(&self, target: Option<Target>) -> Vec<String> {
        let value = |s: Option<Spread>| s.map_or_else(String::new, |s| number(s.median));
        let range = |s: Spread| format!("{:.2}..{:.2}", s.min, s.max);
        vec![
            self.what.clone(),
            self.unit.to_owned(),
            value(self.ours),
            value(self.theirs),
            self.ratio.map_or_else(String::new, |r| format!("{:.2}", r.median)),
            self.ratio.map_or_else(String::new, range),
            target.map_or_else(String::new, |t| t.text(self.unit)),
            target.map_or_else(String::new, |t| yes_no(t.met(self))),
        ]
    }
}

fn yes_no(met: Option<bool>) -> String {
    match met {
        Some(true) => "yes".into(),
        Some(false) => "NO".into(),
        None => "?".into(),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 1000.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

/// The first column to the left, all others to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |c: usize| lines.iter().filter_map(|l| l.get(c)).map(|x| x.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for line in lines {
        let cells = line.iter().zip(&widths).enumerate();
        let text: Vec<String> =
            cells.map(|(c, (x, w))| if c == 0 { format!("{x:<w$}") } else { format!("{x:>w$}") }).collect();
        out.push_str(text.join("  ").trim_end());
        out.push('\n');
    }
    out
}

fn slug(text: &str) -> String {
    let dashed: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    dashed.split('-').filter(|p| !p.is_empty()).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn report() -> Report {
        let mut latency = Latency::new();
        latency.record(Duration::from_micros(50));
        let mut row = Row {
            what: "ask 64 B".into(),
            unit: "us",
            ours: Some(Spread::single(50.0)),
            theirs: Some(Spread::single(40.0)),
            ratio: Some(Spread { median: 1.25, min: 1.0, max: 1.5 }),
            targets: vec![Target::RatioAtMost(1.3), Target::ValueAtMost(49.0)],
            latencies: Vec::new(),
        };
        row.latency("onemec", &latency);
        Report { table: "t", about: "a table", beside: "bare quinn", rows: vec![row], ..Report::default() }
    }

    #[test]
    fn a_missed_target_is_seen() {
        let text = report().text();
        let line = |has: &str| text.lines().find(|l| l.contains(has)).unwrap_or_else(|| panic!("{has}: {text}"));
        assert!(line("<= 1.3 x").ends_with("yes"), "{text}");
        assert!(line("<= 49 us").ends_with("NO"), "{text}");
        assert!(line("1.00..1.50").contains("1.25"), "{text}");
    }

    #[test]
    fn results_are_written() {
        let dir = tempfile::tempdir().unwrap();
        report().write(dir.path()).unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&std::fs::read(dir.path().join("t.json")).unwrap()).unwrap();
        let file = json["rows"][0]["latencies"][0]["file"].as_str().unwrap();
        assert_eq!(file, "t-ask-64-b-onemec.hgrm");
        assert!(std::fs::read_to_string(dir.path().join(file)).unwrap().contains("Total count    =            1]"));
    }
}
