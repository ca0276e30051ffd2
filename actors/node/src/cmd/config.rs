//! `onemec config check`.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::{Context, Done};
use crate::member::ca;
use crate::topology::{self, Topology, TopologyError};

pub(super) fn check(context: &Context, file: &Path) -> Done {
    match topology::load(file) {
        Ok(t) => {
            let notes = missing_certificates(&t);
            let answer = json!({"file": file, "ok": true, "nodes": t.node.len(), "problems": [], "notes": notes});
            context.print(&answer, |_| {
                let (cluster, nodes, names) = (&t.cluster.name, t.node.len(), t.names());
                let notes: String = notes.iter().map(|n| format!("note: {n}\n")).collect();
                format!("{}: cluster `{cluster}`, {nodes} nodes ({names}), all right\n{notes}", file.display())
            })
        }
        Err(TopologyError::Wrong { path, problems }) => {
            context.print(&json!({"file": path, "ok": false, "problems": problems}), |_| {
                let list: String = problems.iter().map(|p| format!("{p}\n")).collect();
                format!("{path}: {} problem(s)\n{list}", problems.len())
            })?;
            Ok(ExitCode::FAILURE)
        }
        Err(e) => Err(e.into()),
    }
}

/// What no node could start without, and is not on this machine. It may be on the node's own: hence no problem, but a note.
fn missing_certificates(t: &Topology) -> Vec<String> {
    let Some(dir) = t.cluster.ca_dir.as_ref().filter(|dir| !dir.join("ca.key").exists()) else { return Vec::new() };
    let issue = |name: &str| format!("onemec ca issue CA_DIR --topology FILE --name {name}, where the authority is");
    let here: Vec<_> = t.node.iter().filter(|n| ca::node_pair(dir, n).pem.exists()).collect();
    if here.is_empty() {
        let name = t.node.first().map_or("NAME", |n| &n.name);
        let dir = dir.display();
        return vec![format!(
            "{dir} on this machine holds neither the authority's key (ca.key) nor a node's certificate (for example {name}.pem): \
             no node starts here\n    -> {}, then copy what it made to {dir}",
            issue(name)
        )];
    }
    let without = here.into_iter().filter(|n| n.security.tls && n.security.certificate.is_none());
    let without = without.filter(|n| !ca::door_pair(dir, n).pem.exists());
    without
        .map(|n| {
            let file = ca::door_pair(dir, n).pem;
            format!(
                "node `{}` has tls = true, and neither {} nor ca.key is on this machine\n    -> {}; or give certificate and key \
                 under [node.security]",
                n.name,
                file.display(),
                issue(&n.name)
            )
        })
        .collect()
}
