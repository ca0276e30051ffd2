//! `onemec ca init|issue|client`.

use std::path::{Path, PathBuf};

use onemec_onem2m::id::EntityId;
use onemec_runtime::pki::{CaAuthority, PkiError};

use super::{CommandError, Context, Done};
use crate::member::ca;
use crate::topology;

fn failed(e: impl std::fmt::Display) -> CommandError {
    CommandError::Certificates(e.to_string())
}

pub(super) fn init(context: &Context, dir: &Path, domain: &str) -> Done {
    let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    let there = pem.exists();
    let authority = ca::authority(dir, domain).map_err(failed)?;
    if there {
        checked(&authority, dir)?;
    }
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

/// The authority in a folder; none is made here.
fn existing(dir: &Path, domain: &str) -> Result<CaAuthority, CommandError> {
    if !dir.join("ca.key").exists() {
        let dir = dir.display();
        let fix = format!("make one: onemec ca init {dir} --domain {domain}");
        return Err(failed(format!("{dir} holds no authority\n    -> {fix}")));
    }
    let authority = ca::authority(dir, domain).map_err(failed)?;
    checked(&authority, dir)?;
    Ok(authority)
}

/// What an authority of another domain issued would be believed by nobody.
fn checked(authority: &CaAuthority, dir: &Path) -> Result<(), CommandError> {
    authority.check_domain().map_err(|e| match e {
        PkiError::WrongDomain { found } => {
            let (dir, domain) = (dir.display(), authority.domain());
            let fix = format!("nothing was issued: use the authority of {domain}, or correct the domain");
            failed(format!("{dir} holds the authority of {found}, not of {domain}\n    -> {fix}"))
        }
        e => failed(e),
    })
}

pub(super) fn client(context: &Context, dir: &Path, domain: &str, id: &str, out: Option<PathBuf>) -> Done {
    if !matches!(EntityId::parse(id), Some(EntityId::AeC { cse: None, .. } | EntityId::AeS { .. } | EntityId::Cse(_))) {
        return Err(failed(format!("`{id}` is no AE-ID and no CSE-ID\n    -> write Cmeter7, Smeter7 or /mn-7")));
    }
    let authority = existing(dir, domain)?;
    let out = out.unwrap_or_else(|| dir.join("clients"));
    let (pem, key) = ca::issue_client(&authority, id, &out).map_err(failed)?;
    let json = serde_json::json!({ "id": id, "certificate": pem, "key": key });
    context.print(&json, |_| {
        format!("certificate of {id} issued\n  certificate {}\n  key         {}\n", pem.display(), key.display())
    })
}

pub(super) fn issue(context: &Context, dir: &Path, file: &Path, name: &str, out: Option<PathBuf>) -> Done {
    let topology = topology::load(file)?;
    let Some(node) = topology.node(name) else {
        let (name, names) = (name.to_owned(), topology.names());
        return Err(crate::node::NodeError::NoSuchNode { file: file.display().to_string(), name, names }.into());
    };
    let authority = existing(dir, &topology.cluster.domain)?;
    let out = out.unwrap_or_else(|| dir.join(name));
    let pairs = ca::issue(&authority, &topology, node, &out).map_err(failed)?;
    let trust = out.join("ca.pem");
    onemec_runtime::pki::write_public(&trust, authority.certificate_pem()).map_err(failed)?;
    let files: Vec<_> = pairs.iter().map(|p| serde_json::json!({ "certificate": p.pem, "key": p.key })).collect();
    let json = serde_json::json!({ "node": name, "issued": files, "ca": trust });
    context.print(&json, |_| {
        format!(
            "certificates of {name} issued: copy what is in {} to the node's ca_dir\n{}  a running node takes renewed files by itself\n",
            out.display(),
            pairs.iter().map(|p| format!("  {}\n", p.pem.display())).collect::<String>()
        )
    })
}
