//! The main job: `onemec demo`.
//!
//! A cluster of one cloud node and edge hosts on this machine; at least fifty devices that publish real measurements
//! ([`sources`]); devices that wander ([`mobility`]); moves by operator, network, device and drain; a host that is killed
//! and returns ([`run`]); every acknowledged reading read back through the IN-CSE and every node's log checked
//! ([`checker`]); and a table ([`report`]).

pub mod checker;
mod command;
pub mod evidence;
pub mod fleet;
pub mod mobility;
pub mod report;
pub mod run;
pub mod sources;

pub use command::command;

use crate::admin::AdminFailure;
use crate::up::UpError;

/// Why the demo could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The cluster.
    #[error(transparent)]
    Up(#[from] UpError),
    /// A node said no.
    #[error("{what}: {source}")]
    Admin {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: AdminFailure,
    },
    /// A device could not start.
    #[error("device {device}: {source}")]
    Device {
        /// Which.
        device: String,
        /// Why.
        #[source]
        source: onemec_device::DeviceError,
    },
    /// The topology does not fit.
    #[error("the demo needs one IN-CSE and two edge hosts with a location: {0}")]
    Topology(String),
    /// The topology cannot be used.
    #[error(transparent)]
    File(#[from] crate::topology::TopologyError),
    /// Something did not happen in time.
    #[error("{0}")]
    Late(String),
    /// Files, sockets.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl DemoError {
    pub(crate) fn admin(what: &'static str) -> impl FnOnce(AdminFailure) -> Self {
        move |source| Self::Admin { what, source }
    }
}
