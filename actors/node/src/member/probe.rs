//! What this machine has, asked of the machine itself; the topology overrides it. Linux: /proc and /sys.

use std::path::Path;

use onemec_runtime::membership::{Capabilities, Energy, Location};

use crate::topology::{Node, Topology};

/// What the node says of itself to all others (row O01).
pub(super) fn capabilities(topology: &Topology, node: &Node, data_dir: &Path) -> Capabilities {
    let c = &node.capabilities;
    let cores = || std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(u32::MAX));
    Capabilities {
        roles: node.role_names().into_iter().collect(),
        domain: topology.cluster.domain.clone(),
        location: c.location.map(|l| Location { latitude_deg: l.lat, longitude_deg: l.lon }),
        cpu_cores: c.cpu_cores.unwrap_or_else(cores),
        memory_bytes: c.memory_mib.map_or_else(memory_bytes, |mib| mib << 20),
        gpus: c.gpus.unwrap_or_else(accelerators),
        storage_bytes: c.storage_gib.map_or_else(|| storage_bytes(data_dir), |gib| gib << 30),
        energy: match c.energy.as_deref() {
            Some("mains") => Energy::Grid,
            Some("solar") => Energy::Renewable,
            Some("battery") => Energy::Battery,
            Some(_) => Energy::Unknown,
            None => energy(&supplies()),
        },
        apis: c.apis.iter().cloned().collect(),
        trust: c.trust.iter().cloned().collect(),
        latency_ms: None,
    }
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0);
    kib << 10
}

/// The file system of the data folder.
fn storage_bytes(data_dir: &Path) -> u64 {
    rustix::fs::statvfs(data_dir).map_or(0, |s| s.f_blocks.saturating_mul(s.f_frsize))
}

/// Graphics processors that can compute (render nodes), and other accelerators.
fn accelerators() -> u32 {
    let count = |folder: &str, prefix: &str| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(prefix)).count()
    };
    u32::try_from(count("/sys/class/drm", "renderD") + count("/sys/class/accel", "accel")).unwrap_or(u32::MAX)
}

/// A power supply as the kernel shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Supply {
    kind: String,
    online: bool,
    capacity_percent: Option<u32>,
}

fn supplies() -> Vec<Supply> {
    let entries = std::fs::read_dir("/sys/class/power_supply").into_iter().flatten().flatten();
    entries
        .map(|e| {
            let read = |name: &str| std::fs::read_to_string(e.path().join(name)).unwrap_or_default().trim().to_owned();
            Supply {
                kind: read("type"),
                online: read("online") == "1",
                capacity_percent: read("capacity").parse().ok(),
            }
        })
        .collect()
}

/// A machine that shows no supply at all does not say where its electricity comes from.
fn energy(supplies: &[Supply]) -> Energy {
    let mains = supplies.iter().any(|s| s.kind != "Battery" && s.online);
    match (mains, supplies.iter().any(|s| s.kind == "Battery")) {
        (true, _) => Energy::Grid,
        (false, true) => Energy::Battery,
        (false, false) => Energy::Unknown,
    }
}

/// What is left in this machine's batteries, 0 to 1; `None` without one.
pub(super) fn battery() -> Option<f64> {
    let left: Vec<u32> = supplies().iter().filter(|s| s.kind == "Battery").filter_map(|s| s.capacity_percent).collect();
    let count = u32::try_from(left.len()).ok().filter(|n| *n > 0)?;
    Some((f64::from(left.iter().sum::<u32>()) / f64::from(count) / 100.0).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_comes_from_where_the_kernel_says() {
        let supply = |kind: &str, online| Supply { kind: kind.into(), online, capacity_percent: None };
        assert_eq!(energy(&[]), Energy::Unknown);
        assert_eq!(energy(&[supply("Mains", true), supply("Battery", false)]), Energy::Grid);
        assert_eq!(energy(&[supply("Mains", false), supply("Battery", false)]), Energy::Battery);
    }

    #[test]
    fn the_machine_is_asked_and_the_topology_overrides() {
        let text = include_str!("../../../../cluster-configs/local-3.toml");
        let topology = crate::topology::parse(text).unwrap();
        let mut node = topology.node[1].clone();
        node.capabilities = crate::topology::Capabilities::default();
        let said = capabilities(&topology, &node, Path::new("/"));
        assert!(said.cpu_cores > 0 && said.memory_bytes > 1 << 20 && said.storage_bytes > 1 << 20, "{said:?}");
        node.capabilities.cpu_cores = Some(77);
        assert_eq!(capabilities(&topology, &node, Path::new("/")).cpu_cores, 77);
    }
}
