//! What the demo's devices measure: this machine's own counters, and recorded data sets (data/sensors/LICENCE.md).
//!
//! Every source is a distinct quantity. Live ones are read anew at each sample; recorded ones are played from their
//! beginning.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
const SF_TEMPS: &str = include_str!("../../data/sensors/sf-temps.csv");
const SEATTLE: &str = include_str!("../../data/sensors/seattle-weather.csv");
const CO2: &str = include_str!("../../data/sensors/co2.csv");
const EL_NINO: &str = include_str!("../../data/sensors/elnino.csv");

/// One quantity that can be measured.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its name, unique.
    pub name: String,
    /// Unit of its values.
    pub unit: &'static str,
    probe: Probe,
}

#[derive(Debug, Clone)]
enum Probe {
    /// The `column`-th number of the line that begins with `row` in a file that the kernel makes.
    Live { file: PathBuf, row: String, column: usize, scale: f64 },
    /// Values in their order, again from the start when they end.
    Recorded { values: Arc<[f64]>, next: usize },
}

impl Source {
    /// Takes a sample. `None` if the kernel does not give it any more.
    pub fn sample(&mut self) -> Option<f64> {
        match &mut self.probe {
            Probe::Live { file, row, column, scale } => number_at(&read(file)?, row, *column).map(|v| v * *scale),
            Probe::Recorded { values, next } => {
                let value = values.get(*next % values.len().max(1)).copied();
                *next += 1;
                value
            }
        }
    }

    /// The content of one reading.
    pub fn content(&mut self, device: &str, number: u64) -> Value {
        json!({"device": device, "n": number, "source": self.name, "value": self.sample(), "unit": self.unit})
    }
}

/// Everything that can be measured here: live sources first, taken in turn from all files, then recorded ones.
pub fn catalogue(root: &Path) -> Vec<Source> {
    let mut all = live(root);
    all.extend(recorded());
    all
}

fn read(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    (u64::try_from(text.len()).ok()? <= FILE_BYTES_MAX).then_some(text)
}

fn row_of<'a>(text: &'a str, row: &str) -> Option<&'a str> {
    text.lines().find_map(|l| {
        let rest = l.trim_start().strip_prefix(row)?;
        (row.is_empty() || rest.starts_with([' ', ':', '\t', '='])).then_some(rest)
    })
}

fn number_at(text: &str, row: &str, column: usize) -> Option<f64> {
    let rest = row_of(text, row)?;
    // Numbers only: keys of `key=value` and units are skipped.
    let words = rest.split([' ', ':', '\t', '=', '\n']).filter(|w| !w.is_empty());
    words.filter_map(|w| w.split('/').next()?.parse::<f64>().ok()).nth(column)
}

fn live(root: &Path) -> Vec<Source> {
    let mut groups: Vec<Vec<Source>> = Vec::new();
    let mut group = |file: &str, rows: &[(&str, &str, usize, &'static str, f64)]| {
        let path = root.join(file);
        let Some(text) = read(&path) else { return };
        let found = rows.iter().filter(|(_, row, column, ..)| number_at(&text, row, *column).is_some());
        groups.push(
            found
                .map(|(name, row, column, unit, scale)| Source {
                    name: (*name).to_owned(),
                    unit,
                    probe: Probe::Live { file: path.clone(), row: (*row).to_owned(), column: *column, scale: *scale },
                })
                .collect(),
        );
    };
    let tick = 0.01; // USER_HZ is 100 on every Linux
    group(
        "proc/loadavg",
        &[
            ("load-1min", "", 0, "1", 1.0),
            ("load-5min", "", 1, "1", 1.0),
            ("load-15min", "", 2, "1", 1.0),
            ("tasks-runnable", "", 3, "1", 1.0),
        ],
    );
    group(
        "proc/stat",
        &[
            ("cpu-user", "cpu", 0, "s", tick),
            ("cpu-system", "cpu", 2, "s", tick),
            ("cpu-idle", "cpu", 3, "s", tick),
            ("cpu-iowait", "cpu", 4, "s", tick),
            ("cpu-steal", "cpu", 7, "s", tick),
            ("interrupts", "intr", 0, "1", 1.0),
            ("context-switches", "ctxt", 0, "1", 1.0),
            ("processes-started", "processes", 0, "1", 1.0),
            ("processes-running", "procs_running", 0, "1", 1.0),
            ("processes-blocked", "procs_blocked", 0, "1", 1.0),
            ("softirqs", "softirq", 0, "1", 1.0),
            ("cpu0-user", "cpu0", 0, "s", tick),
            ("cpu0-system", "cpu0", 2, "s", tick),
            ("cpu1-user", "cpu1", 0, "s", tick),
            ("cpu1-system", "cpu1", 2, "s", tick),
        ],
    );
    let memory = [
        "MemFree",
        "MemAvailable",
        "Buffers",
        "Cached",
        "Active",
        "Inactive",
        "Dirty",
        "Writeback",
        "AnonPages",
        "Mapped",
        "Shmem",
        "Slab",
        "SReclaimable",
        "KernelStack",
        "PageTables",
        "Committed_AS",
    ];
    let names: Vec<String> = memory.iter().map(|m| format!("memory-{}", m.to_lowercase())).collect();
    let rows: Vec<_> = names.iter().zip(memory).map(|(n, m)| (n.as_str(), m, 0, "KiB", 1.0)).collect();
    group("proc/meminfo", &rows);
    for resource in ["cpu", "memory", "io"] {
        let names =
            ["some-avg10", "some-total", "full-avg10", "full-total"].map(|n| format!("pressure-{resource}-{n}"));
        let [a, b, c, d] = &names;
        group(
            &format!("proc/pressure/{resource}"),
            &[
                (a.as_str(), "some", 0, "%", 1.0),
                (b.as_str(), "some", 3, "us", 1.0),
                (c.as_str(), "full", 0, "%", 1.0),
                (d.as_str(), "full", 3, "us", 1.0),
            ],
        );
    }
    for interface in rows_of(&root.join("proc/net/dev"), 0, 2).iter().take(4) {
        let names = ["rx-bytes", "rx-packets", "tx-bytes", "tx-packets"].map(|n| format!("net-{interface}-{n}"));
        let [a, b, c, d] = &names;
        group(
            "proc/net/dev",
            &[
                (a.as_str(), interface.as_str(), 0, "B", 1.0),
                (b.as_str(), interface.as_str(), 1, "1", 1.0),
                (c.as_str(), interface.as_str(), 8, "B", 1.0),
                (d.as_str(), interface.as_str(), 9, "1", 1.0),
            ],
        );
    }
    groups.extend(disks(root));
    groups.extend(temperatures(root));
    interleave(groups)
}

/// Names of the rows of a kernel table: the word at `column`, after `skip` lines of head.
fn rows_of(path: &Path, column: usize, skip: usize) -> Vec<String> {
    let text = read(path).unwrap_or_default();
    let word = |l: &str| l.split_whitespace().nth(column).map(|w| w.trim_end_matches(':').to_owned());
    text.lines().skip(skip).filter_map(word).collect()
}

fn disks(root: &Path) -> Vec<Vec<Source>> {
    let path = root.join("proc/diskstats");
    let is_disk = |n: &String| !n.starts_with("loop") && !n.starts_with("ram");
    let text = read(&path).unwrap_or_default();
    let disk = |name: &String| {
        // The row is found by "major minor name".
        let line = text.lines().find(|l| l.split_whitespace().nth(2) == Some(name))?;
        let row = line.trim_start().split_inclusive(name.as_str()).next()?.to_owned();
        let one = |what: &str, column, unit, scale| Source {
            name: format!("disk-{name}-{what}"),
            unit,
            probe: Probe::Live { file: path.clone(), row: row.clone(), column, scale },
        };
        Some(vec![
            one("reads", 0, "1", 1.0),
            one("read-bytes", 2, "B", 512.0),
            one("writes", 4, "1", 1.0),
            one("written-bytes", 6, "B", 512.0),
            one("busy", 9, "ms", 1.0),
        ])
    };
    rows_of(&path, 2, 0).iter().filter(|n| is_disk(n)).take(3).filter_map(disk).collect()
}

fn temperatures(root: &Path) -> Vec<Vec<Source>> {
    let zone = |i: usize| {
        let file = root.join(format!("sys/class/thermal/thermal_zone{i}/temp"));
        number_at(&read(&file)?, "", 0)?;
        let probe = Probe::Live { file, row: String::new(), column: 0, scale: 0.001 };
        Some(vec![Source { name: format!("temperature-zone{i}"), unit: "Cel", probe }])
    };
    (0..8).filter_map(zone).collect()
}

fn interleave(groups: Vec<Vec<Source>>) -> Vec<Source> {
    let longest = groups.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|i| groups.iter().filter_map(move |g| g.get(i).cloned())).collect()
}

fn recorded() -> Vec<Source> {
    let one = |name: &str, unit, text: &str, column: usize| Source {
        name: name.to_owned(),
        unit,
        probe: Probe::Recorded { values: column_of(text, column).into(), next: 0 },
    };
    let mut all = vec![
        one("sf-air-temperature", "[degF]", SF_TEMPS, 0),
        one("mauna-loa-co2", "[ppm]", CO2, 1),
        one("seattle-precipitation", "mm", SEATTLE, 1),
        one("seattle-temperature-max", "Cel", SEATTLE, 2),
        one("seattle-temperature-min", "Cel", SEATTLE, 3),
        one("seattle-wind", "m/s", SEATTLE, 4),
    ];
    let months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    for (i, month) in months.iter().enumerate() {
        all.push(one(&format!("pacific-sea-temperature-{month}"), "Cel", EL_NINO, i + 1));
    }
    all
}

fn column_of(text: &str, column: usize) -> Vec<f64> {
    text.lines().skip(1).filter_map(|l| l.split(',').nth(column)?.trim_matches('"').parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn at_least_fifty_distinct_sources_that_give_values() {
        let mut all = catalogue(Path::new("/"));
        let names: BTreeSet<_> = all.iter().map(|s| s.name.clone()).collect();
        assert_eq!(names.len(), all.len(), "names are distinct");
        assert!(all.len() >= 50, "{} sources: {names:?}", all.len());
        for s in &mut all {
            assert!(s.sample().is_some_and(f64::is_finite), "{}", s.name);
        }
    }

    #[test]
    fn recorded_sets_are_complete_and_begin_anew() {
        for (name, rows) in [("sf-air-temperature", 8759), ("seattle-wind", 1461), ("pacific-sea-temperature-dec", 61)]
        {
            let mut source = recorded().into_iter().find(|s| s.name == name).unwrap();
            let first = source.sample();
            let rest = (1..rows).filter(|_| source.sample().is_some()).count();
            assert_eq!((rest + 1, source.sample()), (rows, first), "{name}");
        }
    }

    #[test]
    fn kernel_tables_are_read() {
        let psi =
            "some avg10=0.12 avg60=0.05 avg300=0.01 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(number_at(psi, "some", 0), Some(0.12));
        assert_eq!(number_at(psi, "full", 3), Some(7.0));
        assert_eq!(number_at("cpu  1 2 3\ncpu0 9 8 7\n", "cpu0", 1), Some(8.0));
        assert_eq!(number_at("cpu  1 2 3\n", "cpu", 2), Some(3.0));
        assert_eq!(number_at("0.5 0.6 0.7 2/300 999\n", "", 3), Some(2.0));
        assert_eq!(number_at(" eth0: 100 2 0 0\n", "eth0", 1), Some(2.0));
        assert_eq!(number_at("", "x", 0), None);
    }
}
