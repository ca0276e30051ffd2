//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Measures onemec beside what a user would pick instead, in one run, and prints the ratios beside their targets.
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    version,
    max_term_width = 100,
    after_help = "Example:\n  cargo run --release -p onemec-bench -- --quick\n  \
                  cargo run --release -p onemec-bench -- messaging --out /tmp/results\n  \
                  cargo run --release -p onemec-bench -- handover --json"
)]
pub(crate) struct Args {
    /// Which tables; none: all (messaging, handover, failover)
    #[arg(value_name = "TABLE")]
    pub(crate) tables: Vec<String>,
    /// Print JSON instead of text
    #[arg(long)]
    pub(crate) json: bool,
    /// A small run: shows that it works and the order of magnitude
    #[arg(long)]
    pub(crate) quick: bool,
    /// Histograms (.hgrm) and JSON are written here
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) out: PathBuf,
    /// First port of the nodes; 0: whatever is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) port_base: u16,
}

/// What a table needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// A small run.
    pub(crate) quick: bool,
    /// Where results go.
    pub(crate) out: PathBuf,
    /// First port of the nodes; 0: whatever is free.
    pub(crate) port_base: u16,
}

impl Plan {
    pub(crate) fn of(args: &Args) -> Self {
        Self { quick: args.quick, out: args.out.clone(), port_base: args.port_base }
    }

    /// `small` in a quick run, else `full`.
    pub(crate) fn pick<T>(&self, small: T, full: T) -> T {
        if self.quick { small } else { full }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_help_has_an_example_and_names_every_table() {
        let help = Args::command().render_long_help().to_string();
        assert!(help.contains("Example:"));
        for table in crate::tables::ALL {
            assert!(help.contains(table.name), "{}", table.name);
        }
    }
}
