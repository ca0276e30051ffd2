//! The machines of `onemec-core` as a small cluster, simulated from a seed: a storm of faults with the invariants I1 to I8
//! checked throughout, then a heal after which progress is demanded. FOUND.md lists what it found.
//!
//! One seed again, with its story: `ONEMEC_SEED=<seed> cargo nextest run -p onemec-core --test simulation one_seed --no-capture`.
//! More seeds: `ONEMEC_SEEDS=<from>..<to>` or `ONEMEC_SEEDS=<number>`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may")]

mod checker;
mod clients;
mod faults;
mod front;
mod glue_group;
mod glue_raft;
mod net;
mod node;
mod raft;
mod regroup;
mod rest;
mod rng;
mod toy;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use self::world::{Report, World};

/// Takes about 40 s on two quiet cores (5 to 7 seeds a second).
const SEEDS: u64 = 200;

fn run(seed: u64, talk: bool) -> Report {
    let outcome = std::panic::catch_unwind(|| World::new(seed, talk).run());
    outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
            .unwrap_or_default();
        Report { violation: Some(format!("panic: {text}")), ..Report::default() }
    })
}

fn replay(seed: u64) -> String {
    format!("ONEMEC_SEED={seed} cargo nextest run -p onemec-core --test simulation one_seed --no-capture")
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ONEMEC_SEEDS") else { return 0..SEEDS };
    match text.split_once("..") {
        Some((a, b)) => a.parse().unwrap()..b.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

/// All seeds on two threads; the failures in order of their seeds.
fn run_many(range: std::ops::Range<u64>) -> (Vec<(u64, String)>, BTreeMap<&'static str, u64>, u64) {
    let next = AtomicU64::new(range.start);
    let results = std::thread::scope(|scope| {
        let work = || {
            let mut mine = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= range.end {
                    return mine;
                }
                mine.push((seed, run(seed, false)));
            }
        };
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect::<Vec<_>>()
    });
    let mut failures = Vec::new();
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut simulated_ms = 0;
    for (seed, report) in results {
        simulated_ms += report.simulated_ms;
        for (what, n) in report.counts {
            *counts.entry(what).or_default() += n;
        }
        *counts.entry("steps of replicas").or_default() += report.steps;
        *counts.entry("events").or_default() += report.events;
        if let Some(violation) = report.violation {
            failures.push((seed, violation));
        }
    }
    failures.sort();
    (failures, counts, simulated_ms)
}

#[test]
fn many_seeds() {
    let range = seeds();
    let number = range.end - range.start;
    let began = std::time::Instant::now();
    let (failures, counts, simulated_ms) = run_many(range);
    let took = began.elapsed().as_secs_f64();
    println!(
        "{number} seeds, {:.1} simulated hours, {took:.1} s, {:.1} seeds/s\n{counts:#?}",
        simulated_ms as f64 / 3.6e6,
        number as f64 / took
    );
    for (seed, violation) in failures.iter().take(20) {
        println!("seed {seed}: {violation}\n  {}", replay(*seed));
    }
    assert!(failures.is_empty(), "{} of {number} seeds failed", failures.len());
}

#[test]
fn one_seed() {
    let Some(seed) = std::env::var("ONEMEC_SEED").ok().map(|s| s.parse().unwrap()) else { return };
    let report = run(seed, true);
    println!("{report:#?}");
    assert_eq!(report.violation, None, "replay: {}", replay(seed));
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..8 {
        let (a, b) = (run(seed, false), run(seed, false));
        assert_eq!((a.hash, a.events, a.violation), (b.hash, b.events, b.violation), "seed {seed}");
    }
}

#[cfg(test)]
mod planted_bugs;
