//! `onemec`: see `onemec --help`.

use std::process::ExitCode;

use clap::Parser;
use onemec_node::cli::Cli;
use onemec_node::{cmd, telemetry};
use tracing_subscriber::prelude::*;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.json;
    // Standard output belongs to what the command prints; the log goes to standard error (`RUST_LOG` chooses).
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    let log = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(filter);
    tracing_subscriber::registry().with(log).with(telemetry::of_process().layer()).init();
    // Children are started from this thread: they get their death signal when the thread that started them ends.
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => {
            eprintln!("onemec: cli-system: cannot start threads: {e}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(cmd::run(cli)) {
        Ok(code) => code,
        Err(e) => {
            let body = e.body();
            if json {
                println!("{}", serde_json::json!({ "error": body }));
            } else {
                eprintln!("onemec: {}: {}\n    -> {}", body.code, body.message, body.next_step);
            }
            ExitCode::from(2)
        }
    }
}
