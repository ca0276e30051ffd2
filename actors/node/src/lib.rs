//! The program `onemec`, as a library so that tests can drive its parts.
//!
//! - [`topology`]: one TOML per cluster, checked, with the line of each problem
//! - [`admin`]: the HTTP API by which commands talk to running nodes
//! - [`up`]: every node of a topology as a child process of its own
//! - [`demo`]: the main job: real measurements, moves, kills, history check, report
//! - [`cmd`]: the commands; [`cli`]: their arguments; [`table`]: what they print
//! - [`node`], [`member`]: one member of a cluster
//! - [`telemetry`]: traces for an OpenTelemetry collector
//! - [`steering`]: how clients without the device library reach the node that serves them

pub mod admin;
pub mod cli;
pub mod cmd;
pub mod demo;
pub mod member;
pub mod node;
pub mod steering;
pub mod table;
pub mod telemetry;
pub mod topology;
pub mod up;
