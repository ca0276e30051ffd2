//! How a device is set up.

use std::sync::Arc;
use std::time::Instant;

use crate::buffer::Overflow;
use crate::http1::Endpoint;

/// Options of an [`crate::AeClient`] and of the [`crate::Device`] around it.
#[derive(Debug, Clone)]
pub struct DeviceOptions {
    /// Where it registers.
    pub home: Endpoint,
    /// Further points of access that it may try when no answer has taught it any.
    pub more: Vec<Endpoint>,
    /// `X-M2M-Origin` of the registration: a whole stem (`Cmeter7`, `Smeter7`), or `C` or `S`, and the CSE picks.
    pub originator: String,
    /// Name of the AE resource.
    pub name: String,
    /// `nodeLink` (`nl`): the node that the AE runs on, with which its other AEs move; `None` (default): it moves alone.
    pub node_link: Option<String>,
    /// App-ID (`api`): `R...` or `N...`.
    pub app_id: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// For `https`.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Readings that wait at most (default 1024).
    pub buffer_readings_max: usize,
    /// What a full buffer does.
    pub overflow: Overflow,
    /// One attempt takes no longer (default 1000): a silent host is left after it.
    pub attempt_ms_max: u64,
    /// Opening a connection takes no longer (default 500), TLS included.
    pub connect_ms_max: u64,
    /// For how long a write is repeated before its outcome counts as unknown (default 30,000); the CSE keeps answers at
    /// least as long, or refuses the mark.
    pub repeat_ms: u64,
    /// Backoff after all points of access failed (default 5).
    pub backoff_ms_min: u64,
    /// Its maximum (default 500).
    pub backoff_ms_max: u64,
    /// One histogram value per window (default 1000).
    pub window_ms: u64,
    /// Seed of the jitter and of the request identifiers.
    pub seed: u64,
    /// Zero of all times that are recorded; the same for all devices of a run.
    pub origin: Instant,
}

impl DeviceOptions {
    /// Defaults for an AE called `name` with the originator `originator` at `home`.
    pub fn new(home: Endpoint, originator: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            home,
            more: Vec::new(),
            originator: originator.into(),
            name: name.into(),
            node_link: None,
            app_id: "Nonemec.device".into(),
            bearer: None,
            tls: None,
            buffer_readings_max: 1024,
            overflow: Overflow::DropOldest,
            attempt_ms_max: 1000,
            connect_ms_max: 500,
            repeat_ms: 30_000,
            backoff_ms_min: 5,
            backoff_ms_max: 500,
            window_ms: 1000,
            seed: fastrand::u64(..),
            origin: Instant::now(),
        }
    }
}
