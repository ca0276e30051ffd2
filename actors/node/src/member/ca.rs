//! Certificates of a topology's nodes: made where the authority's key is at hand (local topologies, `onemec ca`), else read.
//!
//! ```text
//! <ca_dir>/ca.pem      the authority's certificate            NAME.pem, NAME.key   a node's certificate and key
//! <ca_dir>/ca.key      its key (0600); not on the nodes of a real cluster
//! ```

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onemec_runtime::pki::{CaAuthority, Credentials, Pki, PkiError, Trust, Validity, write_private, write_public};
use onemec_wire::{Cluster, NodeId};

use crate::topology::{Node, Topology};

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Node certificates are short-lived; running nodes renew theirs after two thirds of this.
const NODE_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);
/// Certificates of devices: one year, since they are renewed by hand.
const CLIENT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often a node looks whether its certificate wants renewal.
const RENEW_LOOK: Duration = Duration::from_secs(60);

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

fn io(what: &Path) -> impl Fn(std::io::Error) -> PkiError + '_ {
    move |e| PkiError::Pem(format!("{}: {e}", what.display()))
}

/// The authority in `dir`, made if there is none. Several processes may come at once.
pub fn authority(dir: &Path, domain: &str) -> Result<CaAuthority, PkiError> {
    std::fs::create_dir_all(dir).map_err(io(dir))?;
    let lock_path = dir.join("ca.lock");
    let lock = File::create(&lock_path).map_err(io(&lock_path))?;
    lock.lock().map_err(io(&lock_path))?;
    let (pem, key) = (dir.join("ca.pem"), dir.join("ca.key"));
    if pem.exists() {
        let pem_text = std::fs::read_to_string(&pem).map_err(io(&pem))?;
        let key_text = std::fs::read_to_string(&key).map_err(io(&key))?;
        return CaAuthority::load(domain, &pem_text, &key_text);
    }
    let ca = CaAuthority::create(domain, Validity::starting(now_s(), CA_LIFETIME))?;
    write_private(&key, ca.key_pem())?;
    write_public(&pem, ca.certificate_pem())?;
    Ok(ca)
}

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")))
}

/// Issues a node's certificate into `out`.
pub fn issue(ca: &CaAuthority, node: &Node, out: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
    std::fs::create_dir_all(out).map_err(io(out))?;
    let issued = ca.issue_node(NodeId(node.id), Validity::starting(now_s(), NODE_LIFETIME))?;
    let (pem, key) = paths(out, &node.name);
    write_private(&key, &issued.key_pem)?;
    write_public(&pem, &issued.certificate_pem)?;
    Ok((pem, key))
}

/// Issues the certificate of a client, an AE-ID or a CSE-ID with its slash, into `out`.
pub fn issue_client(ca: &CaAuthority, id: &str, out: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
    std::fs::create_dir_all(out).map_err(io(out))?;
    let validity = Validity::starting(now_s(), CLIENT_LIFETIME);
    let (issued, name) = match id.strip_prefix('/') {
        Some(cse) => (ca.issue_cse(cse, validity)?, cse),
        None => (ca.issue_ae(id, validity)?, id),
    };
    let (pem, key) = paths(out, name);
    write_private(&key, &issued.key_pem)?;
    write_public(&pem, &issued.certificate_pem)?;
    Ok((pem, key))
}

/// Is the authority's key at hand, or may it be made here?
fn is_local(topology: &Topology, dir: &Path) -> bool {
    topology.cluster.ca_dir.is_none() || dir.join("ca.key").exists()
}

/// Certificate and trust of a node, renewed while it runs.
pub fn node_pki(topology: &Topology, node: &Node, dir: &Path) -> Result<Pki, PkiError> {
    let local = is_local(topology, dir);
    if local {
        let ca = authority(dir, &topology.cluster.domain)?;
        issue(&ca, node, dir)?;
    }
    let (pem, key) = paths(dir, &node.name);
    let credentials = Arc::new(Credentials::from_files(&pem, &key)?);
    let ca_file = dir.join("ca.pem");
    let ca_pem = std::fs::read_to_string(&ca_file).map_err(io(&ca_file))?;
    let trust = Arc::new(Trust::new(&topology.cluster.domain, &ca_pem)?);
    let pki = Pki::new(credentials.clone(), trust)?;
    tokio::spawn(renew(credentials, topology.clone(), node.clone(), dir.to_owned(), local));
    Ok(pki)
}

/// Renews in time: issues where the authority is at hand, else takes what somebody has put into the files.
async fn renew(credentials: Arc<Credentials>, topology: Topology, node: Node, dir: PathBuf, local: bool) {
    loop {
        tokio::time::sleep(RENEW_LOOK).await;
        if credentials.renew_at_s().is_ok_and(|at| now_s() < at) {
            continue;
        }
        let renewed = (|| {
            if local {
                issue(&authority(&dir, &topology.cluster.domain)?, &node, &dir)?;
            }
            let (pem, key) = paths(&dir, &node.name);
            let pem = std::fs::read_to_string(&pem).map_err(io(&pem))?;
            let key = std::fs::read_to_string(&key).map_err(io(&key))?;
            credentials.replace(&pem, &key)
        })();
        match renewed {
            Ok(()) => tracing::info!("certificate renewed"),
            Err(e) => tracing::error!("certificate not renewed: {e}"),
        }
    }
}

/// The certificate that devices see.
pub fn http_credentials(topology: &Topology, node: &Node, dir: &Path) -> Result<Arc<Credentials>, PkiError> {
    if let (Some(pem), Some(key)) = (&node.security.certificate, &node.security.key) {
        return Ok(Arc::new(Credentials::from_files(pem, key)?));
    }
    let ca = authority(dir, &topology.cluster.domain)?;
    let names = ["localhost".to_owned(), node.name.clone()];
    let issued = ca.issue_server(&names, &[node.http_listen.ip()], Validity::starting(now_s(), NODE_LIFETIME))?;
    Ok(Arc::new(Credentials::from_pem(&issued.certificate_pem, &issued.key_pem)?))
}

/// Trust in an authority other than the cluster's, for clients of the door.
pub fn trust_in(domain: &str, file: &Path) -> Result<Arc<Trust>, PkiError> {
    let pem = std::fs::read_to_string(file).map_err(io(file))?;
    Ok(Arc::new(Trust::new(domain, &pem)?))
}

/// The cluster that an authority stands for: its certificate is what all nodes have in common.
pub fn cluster_of(topology: &Topology, dir: &Path) -> Result<Cluster, PkiError> {
    let ca_file = dir.join("ca.pem");
    let pem = std::fs::read(&ca_file).map_err(io(&ca_file))?;
    let digest = ring::digest::digest(&ring::digest::SHA256, &pem);
    let mut id = [0; 16];
    id.iter_mut().zip(digest.as_ref()).for_each(|(to, from)| *to = *from);
    Ok(Cluster { id, generation: u32::try_from(topology.cluster.generation).unwrap_or(u32::MAX) })
}
