//! What a name of the zone stands for, by the directory.

use std::net::IpAddr;

use onemec_core::context::Key;
use onemec_core::directory::{Directory, NodeEntry};
use onemec_device::Endpoint;
use onemec_wire::NodeId;

use super::label;
use crate::member::AE_KEY;

/// Label below which the AEs have their names. No node may be called so.
pub const AES: &str = "ae";
/// Key under which a node tells the directory its addresses, separated by commas.
pub const ADDRESSES: &str = "addresses";

/// Name of an AE in a zone; `None` if its AE-ID stem is too long for one.
pub fn name_of_ae(stem: &str, zone: &str) -> Option<String> {
    Some(format!("{}.{AES}.{}", label::of_stem(stem)?, zone.trim_end_matches('.')))
}

/// A node as the zone shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Its label.
    pub(super) name: String,
    /// Where its HTTP door is.
    pub(super) addresses: Vec<IpAddr>,
    /// Port of the door.
    pub(super) port: u16,
    /// It speaks HTTPS.
    pub(super) tls: bool,
}

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Nothing: no such name.
    Nothing,
    /// The name is there, and has no records of its own (there are names below it).
    Branch,
    /// The zone itself: these nodes are up.
    Zone(Vec<Host>),
    /// These nodes serve it.
    Hosts(Vec<Host>),
    /// The same, asked for as a service with (`true`) or without TLS.
    Service(bool, Vec<Host>),
}

/// Looks up a name, given as its labels inside the zone, first label first, in small letters.
pub(super) fn look_up(directory: &Directory, labels: &[&[u8]]) -> Meaning {
    match labels {
        [b"_http", b"_tcp", owner @ ..] => service(directory, owner, Some(false)),
        [b"_https", b"_tcp", owner @ ..] => service(directory, owner, Some(true)),
        [b"_tcp", owner @ ..] => service(directory, owner, None),
        [] => Meaning::Zone(live(directory)),
        [one] if *one == AES.as_bytes() => Meaning::Branch,
        [ae @ .., last] if *last == AES.as_bytes() => match serving(directory, ae) {
            Some(hosts) => Meaning::Hosts(hosts),
            None => Meaning::Nothing,
        },
        [node] => match named(directory, node) {
            // Whoever knows only a dead node's name is served by the others: any node forwards.
            Some((host, up)) => Meaning::Hosts(if up { vec![host] } else { live(directory) }),
            None => Meaning::Nothing,
        },
        _ => Meaning::Nothing,
    }
}

fn service(directory: &Directory, owner: &[&[u8]], tls: Option<bool>) -> Meaning {
    match (look_up(directory, owner), tls) {
        // A service of a service or of a branch is none.
        (Meaning::Nothing | Meaning::Branch | Meaning::Service(..), _) => Meaning::Nothing,
        (_, None) => Meaning::Branch,
        (Meaning::Zone(hosts) | Meaning::Hosts(hosts), Some(tls)) => {
            Meaning::Service(tls, hosts.into_iter().filter(|h| h.tls == tls).collect())
        }
    }
}

fn host(entry: &NodeEntry) -> Option<Host> {
    let door: Endpoint = entry.info.get("poa")?.parse().ok()?;
    let addresses = entry.info.get(ADDRESSES)?.split(',').filter_map(|a| a.parse().ok()).collect();
    Some(Host { name: entry.info.get("name")?.to_ascii_lowercase(), addresses, port: door.port, tls: door.tls })
}

fn live(directory: &Directory) -> Vec<Host> {
    directory.nodes().filter(|(_, n)| n.up).filter_map(|(_, n)| host(n)).collect()
}

/// Label of a node that is up.
pub(super) fn any_server(directory: &Directory) -> Option<String> {
    directory.nodes().filter(|(_, n)| n.up).find_map(|(_, n)| host(n)).map(|h| h.name)
}

fn named(directory: &Directory, label: &[u8]) -> Option<(Host, bool)> {
    directory.nodes().filter_map(|(_, n)| Some((host(n)?, n.up))).find(|(h, _)| h.name.as_bytes() == label)
}

/// The node that serves an AE; while that one is dead and nobody can take over, the others: they say why.
fn serving(directory: &Directory, labels: &[&[u8]]) -> Option<Vec<Host>> {
    let name = format!("{AE_KEY}{}", label::to_stem(labels.iter().copied())?);
    let primary = primary(directory, &name)?;
    let entry = directory.node(primary).filter(|n| n.up);
    Some(entry.and_then(host).map_or_else(|| live(directory), |h| vec![h]))
}

/// S-type AE-IDs are unique in the cluster; a C-type one is looked for at each CSE, present names before former ones.
fn primary(directory: &Directory, name: &str) -> Option<NodeId> {
    let global = Key::global(name);
    let at = directory.nodes().map(|(id, _)| Key::at(id, name));
    let found = std::iter::once(global).chain(at).filter_map(|key| directory.place_by_key(&key));
    found.min_by_key(|place| place.alias).map(|place| place.primary)
}
