//! The commands: each asks, prints, and says by its exit code whether it went well (0 yes, 1 no, 2 could not be tried).

mod ca;
mod cluster;
mod config;
mod daytwo;
mod device;
mod failure;
mod up;

use std::process::ExitCode;
use std::time::Duration;

use onemec_device::Endpoint;
use serde::Serialize;

use crate::admin::{AdminClient, AdminFailure};
use crate::cli::{AeCommand, CaCommand, Cli, Command, ConfigCommand};
use crate::{demo, node, topology, up as cluster_up};

/// Why a command could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The node said no or cannot be reached.
    #[error(transparent)]
    Admin(#[from] AdminFailure),
    /// The topology cannot be used.
    #[error(transparent)]
    Topology(#[from] topology::TopologyError),
    /// The cluster does not run.
    #[error(transparent)]
    Up(#[from] cluster_up::UpError),
    /// The node does not run.
    #[error(transparent)]
    Node(#[from] node::NodeError),
    /// The demo could not be carried out.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// The address is none.
    #[error("--admin: {0}")]
    Address(#[from] onemec_device::http1::BadEndpoint),
    /// Files, sockets, signals.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates cannot be made or written.
    #[error("certificates: {0}")]
    Certificates(String),
}

/// What a command ends with.
pub type Done = Result<ExitCode, CommandError>;

/// How a command talks: to whom, and how it prints.
pub(crate) struct Context {
    json: bool,
    admin: Option<String>,
}

/// A call to a node may take so long: a move has its own, shorter deadline.
const ANSWER: Duration = Duration::from_secs(60);
/// Admin address of the first node of cluster-configs/local-3.toml.
const ADMIN: &str = "http://127.0.0.1:8091";

impl Context {
    pub(crate) fn admin(&self) -> Result<AdminClient, CommandError> {
        let url = self.admin.clone().or_else(|| std::env::var("ONEMEC_ADMIN").ok()).unwrap_or_else(|| ADMIN.to_owned());
        Ok(AdminClient::new(url.parse::<Endpoint>()?, ANSWER))
    }

    /// Prints JSON or, for people, what `text` makes.
    pub(crate) fn print<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> String) -> Done {
        if self.json {
            match serde_json::to_string_pretty(value) {
                Ok(json) => println!("{json}"),
                Err(e) => return Err(CommandError::System { what: "JSON".into(), source: std::io::Error::other(e) }),
            }
        } else {
            print!("{}", text(value));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Runs a command.
///
/// # Errors
/// If it could not be tried.
pub async fn run(cli: Cli) -> Done {
    let context = Context { json: cli.json, admin: cli.admin };
    match cli.command {
        Command::Demo(args) => demo::command(args, context.json).await.map_err(Into::into),
        Command::Up(args) => up::up(&context, args).await,
        Command::Node(args) => node::run(args).await.map(|()| ExitCode::SUCCESS).map_err(Into::into),
        Command::Status { all } => cluster::status(&context, all).await,
        Command::Ae { command: AeCommand::Ls { home } } => device::ls(&context, home.as_deref()).await,
        Command::Ae { command: AeCommand::Show { ae } } => device::show(&context, &ae).await,
        Command::Ae { command: AeCommand::Label { ae, label } } => device::label(&context, &ae, label).await,
        Command::Handover { ae, to, deadline_ms } => device::handover(&context, ae, to, deadline_ms).await,
        Command::Drain { node, to, undo } => cluster::drain(&context, node, to, undo).await,
        Command::Candidates { ae, n } => device::candidates(&context, &ae, n).await,
        Command::Handovers { last, here } => device::handovers(&context, last, here).await,
        Command::Voters { command } => daytwo::voters(&context, command).await,
        Command::Nodes { command } => daytwo::nodes(&context, command).await,
        Command::Force { group, on, accept_data_loss } => daytwo::force(&context, group, on, accept_data_loss).await,
        Command::ConfirmDeaths { nodes } => daytwo::confirm_deaths(&context, nodes).await,
        Command::Ca { command: CaCommand::Init { dir, domain } } => ca::init(&context, &dir, &domain),
        Command::Ca { command: CaCommand::Issue { dir, topology, name, out } } => {
            ca::issue(&context, &dir, &topology, &name, out)
        }
        Command::Ca { command: CaCommand::Client { dir, domain, id, out } } => {
            ca::client(&context, &dir, &domain, &id, out)
        }
        Command::Config { command: ConfigCommand::Check { file } } => config::check(&context, &file),
        Command::Capabilities => cluster::capabilities(&context).await,
    }
}
