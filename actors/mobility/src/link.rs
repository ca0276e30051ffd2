//! Network-controlled handover (COVERAGE.md rows H01, H05, S02): what the network measures of the link between devices and
//! nodes becomes move requests.
//!
//! A device is moved when another node was better than the serving one by a hysteresis, without a break, for a trigger time
//! (event A3 of 3GPP TS 36.331 5.5.4.4), and neither this device nor the cluster moved too much just before. A position
//! counts as the signal that the macro-cell model of 3GPP TR 36.942 4.5.2 gives at that distance, so that both kinds of
//! report share one rule.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use onemec_wire::{ContextId, NodeId};

use crate::strategy::MoveRequest;

/// Devices that are remembered; beyond it the one that was measured least recently is forgotten.
pub const DEVICES_MAX: usize = 65_536;
/// Nodes that are remembered per device.
pub const NODES_PER_DEVICE_MAX: usize = 32;
/// Received power that can be meant, in dBm.
const DBM: std::ops::RangeInclusive<f64> = -200.0..=50.0;

/// When a device is moved.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LinkOptions {
    /// What another node must be better by, in dB.
    pub hysteresis_db: f64,
    /// It must be better for so long.
    pub trigger_ms: u64,
    /// A report holds for so long.
    pub valid_ms: u64,
    /// A device that was moved stays for so long.
    pub rest_ms: u64,
    /// Moves that begin within one second.
    pub moves_per_s_max: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self { hysteresis_db: 3.0, trigger_ms: 640, valid_ms: 5_000, rest_ms: 3_000, moves_per_s_max: 16 }
    }
}

/// A report that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a received power lies between -200 and 50 dBm")]
pub struct BadReport;

/// Received power in dBm at a distance, by the macro-cell model of 3GPP TR 36.942 4.5.2 (urban, 2 GHz): path loss
/// 128.1 + 37.6 log10(km), 18 dBm per resource element and 15 dBi. Nearer than 10 m counts as 10 m.
pub fn expected_dbm(km: f64) -> f64 {
    18.0 + 15.0 - (128.1 + 37.6 * km.max(0.01).log10())
}

#[derive(Debug, Default)]
struct Device {
    reports: BTreeMap<NodeId, (u64, f64)>,
    /// The node that is better, and since when.
    better: Option<(NodeId, u64)>,
    moved_ms: Option<u64>,
    heard_ms: u64,
}

/// Measurements, and what follows from them. Times may not run back between calls.
#[derive(Debug, Default)]
pub struct LinkWatch {
    options: LinkOptions,
    devices: BTreeMap<ContextId, Device>,
    /// When the latest moves began, at most `moves_per_s_max`.
    begun: std::collections::VecDeque<u64>,
}

impl LinkWatch {
    /// With thresholds of its own.
    pub fn new(options: LinkOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Devices that are remembered.
    pub fn len(&self) -> usize {
        self.devices.len()
    }
    /// None is.
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// A device was received by (or receives) a node with `dbm`.
    ///
    /// # Errors
    /// If that cannot be; nothing is remembered.
    pub fn report(&mut self, now_ms: u64, device: ContextId, node: NodeId, dbm: f64) -> Result<(), BadReport> {
        if !DBM.contains(&dbm) {
            return Err(BadReport);
        }
        if self.devices.len() >= DEVICES_MAX
            && !self.devices.contains_key(&device)
            && let Some(oldest) = self.devices.iter().min_by_key(|(_, d)| d.heard_ms).map(|(c, _)| *c)
        {
            self.devices.remove(&oldest);
        }
        let known = self.devices.entry(device).or_default();
        known.heard_ms = now_ms;
        if known.reports.len() >= NODES_PER_DEVICE_MAX
            && !known.reports.contains_key(&node)
            && let Some(oldest) = known.reports.iter().min_by_key(|(_, (at, _))| *at).map(|(n, _)| *n)
        {
            known.reports.remove(&oldest);
        }
        known.reports.insert(node, (now_ms, dbm));
        Ok(())
    }

    /// The moves that begin now. Call it at any pace, at least several times per trigger time. `serving` says who serves a
    /// device (`None`: there is no such device any more), `may` whether it may go to a node.
    pub fn plan(
        &mut self,
        now_ms: u64,
        serving: impl Fn(ContextId) -> Option<NodeId>,
        may: impl Fn(ContextId, NodeId) -> bool,
    ) -> Vec<MoveRequest> {
        let o = self.options;
        while self.begun.front().is_some_and(|at| now_ms.saturating_sub(*at) >= 1_000) {
            self.begun.pop_front();
        }
        let mut due: Vec<(f64, ContextId, NodeId)> = Vec::new();
        self.devices.retain(|device, known| {
            known.reports.retain(|_, (at, _)| now_ms.saturating_sub(*at) < o.valid_ms);
            let resting = known.moved_ms.is_some_and(|at| now_ms.saturating_sub(at) < o.rest_ms);
            let Some(serving) = serving(*device).filter(|_| resting || !known.reports.is_empty()) else { return false };
            // A serving node that does not hear the device any more is worse than any that does.
            let here = known.reports.get(&serving).map_or(f64::NEG_INFINITY, |(_, dbm)| *dbm);
            let best = known
                .reports
                .iter()
                .filter(|(node, (_, dbm))| **node != serving && *dbm > here + o.hysteresis_db && may(*device, **node))
                .max_by(|a, b| a.1.1.total_cmp(&b.1.1).then(b.0.cmp(a.0)))
                .map(|(node, (_, dbm))| (*node, *dbm));
            let Some((node, dbm)) = best else {
                known.better = None;
                return true;
            };
            let since = match known.better {
                Some((before, since)) if before == node => since,
                _ => now_ms,
            };
            known.better = Some((node, since));
            if !resting && now_ms.saturating_sub(since) >= o.trigger_ms {
                due.push((dbm - here, *device, node));
            }
            true
        });
        // Who gains most goes first; the others are looked at again next time.
        due.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        due.truncate(o.moves_per_s_max.saturating_sub(self.begun.len()));
        for (_, device, _) in &due {
            self.begun.push_back(now_ms);
            if let Some(known) = self.devices.get_mut(device) {
                known.moved_ms = Some(now_ms);
                known.better = None;
            }
        }
        due.into_iter().map(|(_, device, node)| MoveRequest::network(device, Some(node))).collect()
    }
}
