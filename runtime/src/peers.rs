//! Whom this node talks to: the peers of its configuration, and every node that the directory knows, at the addresses that
//! it gave when it came up. So a node that joins need not stand in the configuration of the others.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use onemec_wire::NodeId;

use crate::directory::{Change, DirectoryHandle};
use crate::transport::Transport;

/// Name under which a node says its addresses (`HOST:PORT`, separated by commas) when it comes up.
pub const ADDRESSES: &str = "cluster";
/// So many of them are tried.
const ADDRESSES_MAX: usize = 8;

/// Follows the directory. Ends with it.
pub(crate) async fn follow(
    transport: Transport,
    directory: DirectoryHandle,
    configured: BTreeMap<NodeId, Vec<SocketAddr>>,
) {
    let mut feed = directory.changes();
    let mut told: BTreeMap<NodeId, String> = BTreeMap::new();
    loop {
        let (said, removed) = {
            let directory = directory.read();
            let text = |info: &BTreeMap<String, String>| info.get(ADDRESSES).cloned().unwrap_or_default();
            let said: Vec<_> = directory.nodes().map(|(node, entry)| (node, text(&entry.info))).collect();
            let known = told.keys().chain(configured.keys());
            (said, known.copied().filter(|n| directory.was_removed(*n)).collect::<Vec<_>>())
        };
        for node in removed {
            told.remove(&node);
            transport.remove_peer(node);
        }
        for (node, text) in said.into_iter().filter(|(n, _)| *n != directory.me()) {
            if told.get(&node) == Some(&text) {
                continue;
            }
            let mut addresses = configured.get(&node).cloned().unwrap_or_default();
            for name in text.split(',').filter(|n| !n.is_empty()).take(ADDRESSES_MAX) {
                match tokio::net::lookup_host(name).await {
                    Ok(found) => addresses.extend(found),
                    Err(e) => tracing::warn!(%node, name, "its address is not known here: {e}"),
                }
            }
            let mut seen = std::collections::BTreeSet::new();
            addresses.retain(|a| seen.insert(*a));
            transport.set_peer(node, addresses);
            told.insert(node, text);
        }
        loop {
            match feed.next().await {
                None => return,
                Some(Change::Set(set)) if set.nodes.is_empty() => {}
                Some(_) => break,
            }
        }
    }
}
