//! The figures as Prometheus text.

use std::fmt::{self, Write};

use super::phases::Durations;
use super::{MoveKpis, PerReason};

/// Name, help and value of a counter per reason.
type Counter = (&'static str, &'static str, fn(&PerReason) -> u64);

/// Upper ends of the buckets, in microseconds and as Prometheus writes them in seconds.
const BUCKETS: [(u64, &str); 14] = [
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
    (10_000_000, "10"),
    (60_000_000, "60"),
];

pub(super) fn render(kpis: &mut MoveKpis, now_ms: u64) -> String {
    let mut out = String::with_capacity(4_096);
    // Writing to a string cannot fail.
    let _ = write_all(&mut out, kpis, now_ms);
    out
}

fn write_all(out: &mut String, kpis: &mut MoveKpis, now_ms: u64) -> fmt::Result {
    head(out, "onemec_moves_total", "counter", "Moves of groups that ended, by reason and outcome.")?;
    for (reason, r) in &kpis.reasons {
        writeln!(out, "onemec_moves_total{{reason=\"{reason}\",outcome=\"moved\"}} {}", r.moved)?;
        writeln!(out, "onemec_moves_total{{reason=\"{reason}\",outcome=\"failed\"}} {}", r.failed)?;
    }
    head(out, "onemec_move_failures_total", "counter", "Moves that failed, by code.")?;
    for (code, n) in &kpis.codes {
        // Codes hold letters, digits, `-` and `_` only: nothing to escape.
        writeln!(out, "onemec_move_failures_total{{code=\"{code}\"}} {n}")?;
    }
    let counters: [Counter; 4] = [
        ("onemec_move_parked_total", "Operations that were parked and forwarded by moves.", |r| r.parked),
        ("onemec_move_bytes_total", "Bytes sent to targets of moves.", |r| r.bytes),
        ("onemec_move_lost_total", "Messages that moves are known to have lost.", |r| r.lost),
        ("onemec_move_over_budget_total", "Moves that interrupted a device for more than 200 ms.", |r| r.over_budget),
    ];
    for (name, help, value) in counters {
        head(out, name, "counter", help)?;
        for (reason, r) in &kpis.reasons {
            writeln!(out, "{name}{{reason=\"{reason}\"}} {}", value(r))?;
        }
    }
    head(out, "onemec_move_seconds", "histogram", "Durations of the phases of moves.")?;
    for (reason, r) in &kpis.reasons {
        for (phase, durations) in r.phases.iter() {
            let labels = format!("reason=\"{reason}\",phase=\"{}\"", phase.as_str());
            histogram(out, &labels, durations)?;
        }
    }
    head(out, "onemec_move_alarms", "gauge", "Alarms about moves that are on, by code.")?;
    let alarms = kpis.alarms.on(now_ms);
    for code in ["moves-failed", "moves-frequent", "moves-slow"] {
        let on = alarms.iter().filter(|a| a.code == code).count();
        writeln!(out, "onemec_move_alarms{{code=\"{code}\"}} {on}")?;
    }
    Ok(())
}

fn head(out: &mut String, name: &str, kind: &str, help: &str) -> fmt::Result {
    writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}")
}

fn histogram(out: &mut String, labels: &str, d: &Durations) -> fmt::Result {
    for (us, le) in BUCKETS {
        writeln!(out, "onemec_move_seconds_bucket{{{labels},le=\"{le}\"}} {}", d.count_to(us))?;
    }
    writeln!(out, "onemec_move_seconds_bucket{{{labels},le=\"+Inf\"}} {}", d.count())?;
    writeln!(out, "onemec_move_seconds_sum{{{labels}}} {}.{:06}", d.sum_us / 1_000_000, d.sum_us % 1_000_000)?;
    writeln!(out, "onemec_move_seconds_count{{{labels}}} {}", d.count())
}
