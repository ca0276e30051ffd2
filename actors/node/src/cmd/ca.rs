//! `onemec ca init|issue`.

use std::path::{Path, PathBuf};

use super::{CommandError, Context, Done};
use crate::member::ca;
use crate::topology;

fn failed(e: impl std::fmt::Display) -> CommandError {
    CommandError::Certificates(e.to_string())
}

pub(super) fn init(context: &Context, dir: &Path, domain: &str) -> Done {
    let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let there = pem.exists();
    ca::authority(dir, domain).map_err(failed)?;
    let text = if there {
        format!("the authority of {domain} is in {} already; nothing was changed", dir.display())
    } else {
        format!(
            "authority of {domain} made\n  certificate {}  (every node needs it)\n  key         {}  (keep it off the nodes)",
            pem.display(),
            key.display()
        )
    };
    let json = serde_json::json!({ "domain": domain, "certificate": pem, "key": key, "made": !there });
    context.print(&json, |_| text + "\n")
}

pub(super) fn issue(context: &Context, dir: &Path, file: &Path, name: &str, out: Option<PathBuf>) -> Done {
    let topology = topology::load(file)?;
    let Some(node) = topology.node(name) else {
        let (name, names) = (name.to_owned(), topology.names());
        return Err(crate::node::NodeError::NoSuchNode { file: file.display().to_string(), name, names }.into());
    };
    if !dir.join("ca.key").exists() {
        return Err(failed(format!(
            "{} holds no authority\n    -> make one: onemec ca init --dir {} --domain {}",
            dir.display(),
            dir.display(),
            topology.cluster.domain
        )));
    }
    let authority = ca::authority(dir, &topology.cluster.domain).map_err(failed)?;
    let out = out.unwrap_or_else(|| dir.join(name));
    let (pem, key) = ca::issue(&authority, node, &out).map_err(failed)?;
    let trust = out.join("ca.pem");
    onemec_runtime::pki::write_public(&trust, authority.certificate_pem()).map_err(failed)?;
    let json = serde_json::json!({ "node": name, "certificate": pem, "key": key, "ca": trust });
    context.print(&json, |_| {
        format!(
            "certificate of {name} issued: copy {} to the node's ca_dir\n  a running node takes renewed files by itself\n",
            out.display()
        )
    })
}
