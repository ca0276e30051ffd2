//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Turns boxes into one mobile IoT edge.
///
/// Start with `onemec demo`, or run a cluster with `onemec up cluster-configs/local-3.toml`.
#[derive(Debug, Parser)]
#[command(
    name = "onemec",
    version,
    max_term_width = 100,
    after_help = "Example:\n  onemec demo\n  onemec up cluster-configs/local-3.toml\n  onemec status"
)]
pub struct Cli {
    /// Print JSON for machines instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Admin API of the node to ask (or set ONEMEC_ADMIN) [default: http://127.0.0.1:8091]
    #[arg(long, global = true, value_name = "URL")]
    pub admin: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the main job: a cluster on this machine, real devices that move, a killed host, and nothing lost
    #[command(
        after_help = "Exit code 1: an invariant was broken, something was not shown (a kind of move of which none \
                      succeeded, a device that cannot be read back, no move of a group of several AEs), or more than \
                      one in ten moves failed.\n\n\
                      Example:\n  onemec demo\n  onemec demo --headless --json --devices 50 --seconds 60 --seed 7"
    )]
    Demo(DemoArgs),
    /// Start every node of a topology as a process of its own; Ctrl-C stops all
    #[command(after_help = "Example:\n  onemec up cluster-configs/local-3.toml\n  \
                            onemec up cluster-configs/local-3.toml --port-base 0 --dir /tmp/trial")]
    Up(UpArgs),
    /// Run one node of a topology, as systemd would
    #[command(after_help = "Example:\n  onemec node /etc/onemec/topology.toml --name edge1 --dir /var/lib/onemec")]
    Node(NodeArgs),
    /// Show the cluster and the supervision tree of a node
    #[command(after_help = "Example:\n  onemec status\n  onemec status --all\n  \
                            onemec status --admin http://127.0.0.1:8092 --json")]
    Status {
        /// The supervision tree of every node
        #[arg(long)]
        all: bool,
    },
    /// List devices (AEs) or show one
    #[command(after_help = "Example:\n  onemec ae ls\n  onemec ae show meter7")]
    Ae {
        /// What to do.
        #[command(subcommand)]
        command: AeCommand,
    },
    /// Move a device with everything it has to another node
    #[command(after_help = "Example:\n  onemec handover meter7 --to edge2\n  \
                            onemec handover Cmeter7                 to the best candidate")]
    Handover {
        /// AE-ID or name
        ae: String,
        /// Target node; left out: the best candidate
        #[arg(long)]
        to: Option<String>,
        /// Give up after so many milliseconds
        #[arg(long, value_name = "MS", default_value_t = 0)]
        deadline_ms: u64,
    },
    /// Move all devices away from a node, for maintenance
    #[command(
        after_help = "Example:\n  onemec drain edge1\n  onemec drain edge1 --undo           it takes devices again"
    )]
    Drain {
        /// The node to empty
        node: String,
        /// Move everything there; left out: the best candidate of each device
        #[arg(long)]
        to: Option<String>,
        /// The node takes devices again
        #[arg(long)]
        undo: bool,
    },
    /// Where a device could go, with scores and reasons
    #[command(after_help = "Example:\n  onemec candidates meter7 -n 3")]
    Candidates {
        /// AE-ID or name
        ae: String,
        /// How many
        #[arg(short, default_value_t = 3, value_parser = at_least_one)]
        n: usize,
    },
    /// The moves so far with their times, of all nodes
    #[command(after_help = "Example:\n  onemec handovers\n  onemec handovers --last 20 --json")]
    Handovers {
        /// Only the last ones
        #[arg(long, value_name = "N", value_parser = at_least_one)]
        last: Option<usize>,
        /// Only what the asked node has recorded
        #[arg(long)]
        here: bool,
    },
    /// Who votes in the directory: one node of three may die, two of five
    #[command(after_help = "Example:\n  onemec voters list\n  onemec voters replace edge1 edge3")]
    Voters {
        /// What to do.
        #[command(subcommand)]
        command: VotersCommand,
    },
    /// The nodes of the cluster: list them, or take one out for good
    #[command(after_help = "Example:\n  onemec nodes ls\n  onemec nodes remove edge1")]
    Nodes {
        /// What to do.
        #[command(subcommand)]
        command: NodesCommand,
    },
    /// Let a node lead a group of which no member is left; without arguments: list such groups
    #[command(
        after_help = "Example:\n  onemec force\n  onemec force 1.6.0 --on edge2                     what would be lost\n  \
                      onemec force 1.6.0 --on edge2 --accept-data-loss"
    )]
    Force {
        /// The group
        group: Option<String>,
        /// The node that is to lead it
        #[arg(long, value_name = "NODE")]
        on: Option<String>,
        /// What was acknowledged and that node does not hold is lost
        #[arg(long, requires = "on")]
        accept_data_loss: bool,
    },
    /// Say that nodes are dead, when so many are that the cluster does not decide it alone
    #[command(after_help = "Example:\n  onemec confirm-deaths edge3 edge4")]
    ConfirmDeaths {
        /// The nodes; one that lives is not harmed
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// The cluster's certificate authority
    #[command(after_help = "Example:\n  onemec ca init /root/onemec-ca --domain iot.example")]
    Ca {
        /// What to do.
        #[command(subcommand)]
        command: CaCommand,
    },
    /// Look at configuration
    #[command(after_help = "Example:\n  onemec config check cluster-configs/local-3.toml")]
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// What a node can do: resource types, operations, APIs, strategies
    #[command(after_help = "Example:\n  onemec capabilities --json")]
    Capabilities,
}

/// `onemec demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// No progress bars
    #[arg(long)]
    pub headless: bool,
    /// Devices; every fourth is an unmodified client, the others use the library; of every eight four are two pairs, AEs
    /// of one oneM2M node that move together
    #[arg(long, default_value_t = 56, value_parser = clap::value_parser!(u32).range(8..=2000))]
    pub devices: u32,
    /// About how long devices write: the planned moves share it; a kill and its recovery take what they take
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=600))]
    pub seconds: u64,
    /// Seed of mobility and choice: the same seed gives the same orders
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Another topology than the built-in local-3 (one IN-CSE, two edge hosts or more)
    #[arg(long, value_name = "FILE")]
    pub topology: Option<PathBuf>,
    /// First port; 0: whatever is free
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port_base: u16,
    /// Keep data and logs here; left out: a temporary folder
    #[arg(long)]
    pub dir: Option<PathBuf>,
}

/// `onemec up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// The topology
    pub topology: PathBuf,
    /// First port instead of those in the file; 0: whatever is free
    #[arg(long, value_name = "N")]
    pub port_base: Option<u16>,
    /// Data and logs; left out: a temporary folder that is removed at the end
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// How long the nodes may take to become ready
    #[arg(long, value_name = "MS", default_value_t = 20_000)]
    pub ready_ms: u64,
}

/// `onemec node`.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// The topology
    pub topology: PathBuf,
    /// Which of its nodes
    #[arg(long)]
    pub name: String,
    /// Run folder: the node's data is in a folder named after it, unless the topology says otherwise
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// End when this process ends (set by `onemec up`)
    #[arg(long, value_name = "PID", hide = true)]
    pub die_with: Option<u32>,
}

/// `onemec ae`.
#[derive(Debug, Subcommand)]
pub enum AeCommand {
    /// All devices with their homes
    #[command(after_help = "Example:\n  onemec ae ls --home edge1")]
    Ls {
        /// Only those at home on this node
        #[arg(long)]
        home: Option<String>,
    },
    /// One device
    #[command(after_help = "Example:\n  onemec ae show meter7")]
    Show {
        /// AE-ID or name
        ae: String,
    },
    /// Say where the data of a device may be: what may not have it gives it away
    #[command(after_help = "Example:\n  onemec ae label Cmeter7 'region:berlin;trust:operator'\n  \
                            onemec ae label Cmeter7      the topology's rules hold again")]
    Label {
        /// AE-ID; it need not be registered yet
        ae: String,
        /// hosts:NAME,NAME  region:NAME,NAME  domain:NAME  trust:WORD,WORD  device; several with `;` between them
        label: Option<String>,
    },
}

/// `onemec voters`.
#[derive(Debug, Subcommand)]
pub enum VotersCommand {
    /// Who votes and who learns
    #[command(after_help = "Example:\n  onemec voters list")]
    List,
    /// A node that has joined votes from now on
    #[command(after_help = "Example:\n  onemec voters add edge3")]
    Add {
        /// The node
        node: String,
    },
    /// A node votes no longer; it goes on as a learner
    #[command(after_help = "Example:\n  onemec voters remove edge3")]
    Remove {
        /// The node
        node: String,
    },
    /// Another node votes in the place of one, in one step; the old one leaves the directory
    #[command(after_help = "Example:\n  onemec voters replace edge1 edge3      edge1 does not come back")]
    Replace {
        /// The node that votes now
        node: String,
        /// The node that votes from now on
        by: String,
    },
}

/// `onemec nodes`.
#[derive(Debug, Subcommand)]
pub enum NodesCommand {
    /// All nodes that the asked one knows
    #[command(after_help = "Example:\n  onemec nodes ls")]
    Ls,
    /// Take a stopped node out for good, once its groups are repaired elsewhere
    #[command(after_help = "Example:\n  onemec drain edge1\n  (stop it)\n  onemec nodes remove edge1")]
    Remove {
        /// The node
        node: String,
    },
}

/// `onemec ca`.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a certificate authority
    #[command(after_help = "Example:\n  onemec ca init /root/onemec-ca --domain iot.example")]
    Init {
        /// New folder for it; keep it safe
        dir: PathBuf,
        /// The cluster's domain
        #[arg(long)]
        domain: String,
    },
    /// Issue a certificate for a node of a topology
    #[command(
        after_help = "Example:\n  onemec ca issue /root/onemec-ca --topology topology.toml --name edge1 --out edge1/"
    )]
    Issue {
        /// Folder of the authority
        dir: PathBuf,
        /// The topology
        #[arg(long)]
        topology: PathBuf,
        /// Which of its nodes
        #[arg(long)]
        name: String,
        /// Where ca.pem, node.pem and node.key are written; left out: DIR/NAME
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Issue a certificate for a device, or for a CSE outside the cluster
    #[command(after_help = "Example:\n  onemec ca client /root/onemec-ca --domain iot.example --id Cmeter7")]
    Client {
        /// Folder of the authority
        dir: PathBuf,
        /// The cluster's domain
        #[arg(long)]
        domain: String,
        /// AE-ID, or CSE-ID with its slash
        #[arg(long)]
        id: String,
        /// Where ID.pem and ID.key are written; left out: DIR/clients
        #[arg(long)]
        out: Option<PathBuf>,
    },
}

/// `onemec config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say what is wrong with a topology, with the line and what to do
    #[command(after_help = "Example:\n  onemec config check cluster-configs/local-3.toml")]
    Check {
        /// The topology
        file: PathBuf,
    },
}

/// Nothing at all is no answer that anybody wants.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(e) => Err(format!("{e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_has_help_with_an_example() {
        let mut cli = Cli::command();
        cli.build();
        cli.clone().debug_assert();
        let mut open = vec![cli];
        while let Some(c) = open.pop() {
            assert!(c.get_about().is_some(), "{} says what it does", c.get_name());
            let example = c.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(example.contains("Example:\n  onemec "), "{} has an example", c.get_name());
            open.extend(c.get_subcommands().filter(|n| n.get_name() != "help").cloned());
        }
    }
}
