//! `bench`: prints tables of ratios, each measured in one run beside what a user would pick instead or beside the physical
//! limit (DESIGN.md section 10; docs/bench.md says how to read them). Asserts nothing: targets are printed beside.
//!
//! - [`tables`]: one file per table, and their list
//! - [`report`]: rows, targets, what is printed and written; [`latency`]: histograms; [`rounds`]: medians over rounds that
//!   alternate between the two sides
//! - [`messaging`]: our transport and a bare quinn program of the same shape, in two processes
//! - [`cluster`], [`device`]: real nodes, and devices that write without pause

mod cli;
mod cluster;
mod device;
mod latency;
mod machine;
mod messaging;
mod report;
mod rounds;
mod tables;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

use cli::{Args, Plan};
use machine::Machine;

fn main() -> ExitCode {
    // The nodes of a cluster and the far end of messaging are this program again, under another first argument.
    let role = std::env::args().nth(1);
    let ended = match role.as_deref() {
        Some(cluster::ROLE) => cluster::run_node(),
        Some(messaging::ROLE) => messaging::far_end(),
        _ => run(Args::parse()),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench: {e:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: Args) -> anyhow::Result<()> {
    let plan = Plan::of(&args);
    std::fs::create_dir_all(&plan.out).with_context(|| format!("folder {}", plan.out.display()))?;
    // Nodes get their death signal when the thread that started them ends: they are started from this one.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("threads")?;
    let chosen = tables::chosen(&args.tables)?;
    let mut all = Vec::new();
    for table in chosen {
        eprintln!("{}: {} ...", table.name, table.about);
        let before = Machine::now();
        let mut report = runtime.block_on((table.run)(&plan)).with_context(|| format!("table {}", table.name))?;
        report.begun = Some(before);
        report.ended = Some(Machine::now());
        report.write(&plan.out)?;
        if !args.json {
            println!("{}", report.text());
        }
        all.push(report);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&all)?);
    } else {
        println!("histograms (.hgrm) and JSON: {}", plan.out.display());
    }
    Ok(())
}
