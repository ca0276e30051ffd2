//! Certificates of a topology's nodes: made where the authority's key is at hand (local topologies, `onemec ca`), else read
//! from files that somebody renews. A running node takes what is new in its files without a restart.
//!
//! ```text
//! <ca_dir>/ca.pem      the authority's certificate
//! <ca_dir>/ca.key      its key (0600); not on the nodes of a real cluster
//! <ca_dir>/NAME.pem, NAME.key             a node's certificate and key, for the other nodes
//! <ca_dir>/NAME-http.pem, NAME-http.key   those of its HTTPS door, unless the topology names others
//! ```

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use onemec_device::Endpoint;
use onemec_runtime::pki::{CaAuthority, Credentials, Pki, PkiError, Trust, Validity, write_private, write_public};
use onemec_wire::{Cluster, NodeId};

use crate::steering::dns::AES;
use crate::topology::{Node, ServiceAddress, Topology};

const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates of devices: one year, since they are renewed by hand.
const CLIENT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// A node looks at its files this often, or ten times in the lifetime of a certificate if that is more often.
const LOOK_MAX_S: u64 = 60;
/// One word about a certificate that nobody renews in so many looks.
const LOOKS_PER_WORD: u32 = 60;

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

/// Files of a certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub pem: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Those of a node for the other nodes.
pub fn node_pair(dir: &Path, node: &Node) -> Pair {
    Pair { pem: dir.join(format!("{}.pem", node.name)), key: dir.join(format!("{}.key", node.name)) }
}

/// Issues the certificate of a client, an AE-ID or a CSE-ID with its slash, into `out`.
pub fn issue_client(ca: &CaAuthority, id: &str, out: &Path) -> Result<(PathBuf, PathBuf), PkiError> {
    std::fs::create_dir_all(out).map_err(io(out))?;
    let validity = Validity::starting(now_s(), CLIENT_LIFETIME);
    let (issued, name) = match id.strip_prefix('/') {
        Some(cse) => (ca.issue_cse(cse, validity)?, cse),
        None => (ca.issue_ae(id, validity)?, id),
    };
    let (pem, key) = (out.join(format!("{name}.pem")), out.join(format!("{name}.key")));
    write_private(&key, &issued.key_pem)?;
    write_public(&pem, &issued.certificate_pem)?;
    Ok((pem, key))
}

/// Those of its HTTPS door, where the topology names no others.
pub fn door_pair(dir: &Path, node: &Node) -> Pair {
    Pair { pem: dir.join(format!("{}-http.pem", node.name)), key: dir.join(format!("{}-http.key", node.name)) }
}

/// Trust in an authority other than the cluster's, for clients of the door.
///
/// # Errors
/// If the file holds no certificate of an authority.
pub fn trust_in(domain: &str, file: &Path) -> Result<Arc<Trust>, PkiError> {
    let pem = std::fs::read_to_string(file).map_err(io(file))?;
    Ok(Arc::new(Trust::new(domain, &pem)?))
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// The other nodes.
    Node,
    /// Devices at the HTTPS door.
    Door,
}

impl Use {
    const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Door => "http",
        }
    }
}

/// Issues what a node needs into `out`: its certificate and, with TLS and without files of its own, its door's.
///
/// # Errors
/// If something cannot be made or written.
pub fn issue(ca: &CaAuthority, topology: &Topology, node: &Node, out: &Path) -> Result<Vec<Pair>, PkiError> {
    let mut pairs = vec![issue_one(ca, topology, node, out, Use::Node)?];
    if node.security.tls && node.security.certificate.is_none() {
        pairs.push(issue_one(ca, topology, node, out, Use::Door)?);
    }
    Ok(pairs)
}

fn issue_one(ca: &CaAuthority, topology: &Topology, node: &Node, out: &Path, what: Use) -> Result<Pair, PkiError> {
    std::fs::create_dir_all(out).map_err(io(out))?;
    let validity = Validity::starting(now_s(), Duration::from_secs(topology.cluster.certificate_s));
    let (issued, pair) = match what {
        Use::Node => (ca.issue_node(NodeId(node.id), validity)?, node_pair(out, node)),
        Use::Door => {
            let (names, addresses) = door_names(topology, node);
            (ca.issue_server(&names, &addresses, validity)?, door_pair(out, node))
        }
    };
    write_private(&pair.key, &issued.key_pem)?;
    write_public(&pair.pem, &issued.certificate_pem)?;
    Ok(pair)
}

/// Under which names and addresses clients may come to a node's door: its own, and those of the other nodes that lead to
/// it while they are dead.
fn door_names(topology: &Topology, node: &Node) -> (Vec<String>, Vec<IpAddr>) {
    let mut names = vec!["localhost".to_owned(), node.name.clone()];
    let mut addresses: Vec<IpAddr> = node.addresses();
    addresses.extend(Some(node.http_listen.ip()).filter(|a| !a.is_unspecified()));
    if let Ok(door) = node.poa().parse::<Endpoint>() {
        match door.host.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(door.host),
        }
    }
    if let Some(zone) = topology.steering.dns_zone.as_deref().map(|z| z.trim_end_matches('.')) {
        names.push(zone.to_owned());
        names.extend(topology.node.iter().map(|n| format!("{}.{zone}", n.name)));
        names.push(format!("*.{AES}.{zone}"));
    }
    addresses.extend(topology.node.iter().filter_map(|n| n.service_address.as_ref().and_then(ServiceAddress::ip)));
    names.sort();
    names.dedup();
    addresses.sort();
    addresses.dedup();
    (names, addresses)
}

/// What a node shows and whom it believes. Renewed until it is dropped.
pub struct Certificates {
    /// For the other nodes.
    pub pki: Pki,
    /// For devices, with TLS.
    pub door: Option<Arc<Credentials>>,
    renewal: tokio::task::JoinHandle<()>,
}

impl Drop for Certificates {
    fn drop(&mut self) {
        self.renewal.abort();
    }
}

/// A certificate that is watched.
struct Watched {
    what: Use,
    credentials: Arc<Credentials>,
    pair: Pair,
    /// The certificate's text as it was last taken.
    taken: String,
    /// Issued by this node itself.
    issued: bool,
    looks: u32,
}

impl Watched {
    fn read(what: Use, pair: Pair, issued: bool) -> Result<Self, PkiError> {
        let credentials = Arc::new(Credentials::from_files(&pair.pem, &pair.key)?);
        let taken = std::fs::read_to_string(&pair.pem).map_err(io(&pair.pem))?;
        Ok(Self { what, credentials, pair, taken, issued, looks: 0 })
    }

    /// Takes what is new in the files. On an error the old one stays in use.
    fn look(&mut self) -> Result<bool, PkiError> {
        let pem = std::fs::read_to_string(&self.pair.pem).map_err(io(&self.pair.pem))?;
        if pem == self.taken {
            return Ok(false);
        }
        let key = std::fs::read_to_string(&self.pair.key).map_err(io(&self.pair.key))?;
        self.credentials.replace(&pem, &key)?;
        self.taken = pem;
        Ok(true)
    }

    fn is_due(&self) -> bool {
        self.credentials.renew_at_s().is_ok_and(|at| now_s() >= at)
    }
}

/// The certificates of a node: issued here where the authority's key is at hand, else read.
///
/// # Errors
/// If there are none that can be used; it says which file is missing and how to get it.
pub fn of_node(topology: &Topology, node: &Node, dir: &Path) -> Result<Certificates, PkiError> {
    // The authority's key is at hand, or may be made here.
    let local = topology.cluster.ca_dir.is_none() || dir.join("ca.key").exists();
    if local {
        issue(&authority(dir, &topology.cluster.domain)?, topology, node, dir)?;
    }
    let missing = |pair: &Pair| {
        let (dir, name) = (dir.display(), &node.name);
        PkiError::Pem(format!(
            "{} is missing\n    -> where the authority is: onemec ca issue CA_DIR --topology FILE --name {name} --out {name}; \
             then copy what is in {name} to {dir}",
            pair.pem.display()
        ))
    };
    let mut watched = Vec::new();
    let pair = node_pair(dir, node);
    if !pair.pem.exists() {
        return Err(missing(&pair));
    }
    watched.push(Watched::read(Use::Node, pair, local)?);
    if node.security.tls {
        let given = node.security.certificate.clone().zip(node.security.key.clone());
        let issued = given.is_none() && local;
        let pair = given.map_or_else(|| door_pair(dir, node), |(pem, key)| Pair { pem, key });
        if !pair.pem.exists() {
            return Err(missing(&pair));
        }
        watched.push(Watched::read(Use::Door, pair, issued)?);
    }
    let of = |what: Use| watched.iter().find(|w| w.what == what).map(|w| w.credentials.clone());
    let ca_file = dir.join("ca.pem");
    let ca_pem = std::fs::read_to_string(&ca_file).map_err(io(&ca_file))?;
    let trust = Arc::new(Trust::new(&topology.cluster.domain, &ca_pem)?);
    let node_credentials = of(Use::Node).ok_or_else(|| PkiError::Pem("no certificate".into()))?;
    let pki = Pki::new(node_credentials, trust)?;
    let door = of(Use::Door);
    let renewal = tokio::spawn(renew(watched, topology.clone(), node.clone(), dir.to_owned()));
    Ok(Certificates { pki, door, renewal })
}

impl Certificates {
    /// Until when each is valid, in seconds since 1970.
    pub fn ends_s(&self) -> Vec<(&'static str, u64)> {
        let door = self.door.iter().map(|c| (Use::Door, c));
        let all = std::iter::once((Use::Node, self.pki.credentials())).chain(door);
        all.filter_map(|(what, c)| Some((what.word(), c.validity().ok()?.until_s))).collect()
    }
}

async fn renew(mut all: Vec<Watched>, topology: Topology, node: Node, dir: PathBuf) {
    loop {
        let shortest = all.iter().filter_map(|w| w.credentials.validity().ok()).map(Validity::lifetime_s).min();
        let pause = (shortest.unwrap_or(LOOK_MAX_S) / 10).clamp(1, LOOK_MAX_S);
        tokio::time::sleep(Duration::from_secs(pause)).await;
        for watched in &mut all {
            let what = watched.what.word();
            let looked = (|| {
                if watched.issued && watched.is_due() {
                    let ca = authority(&dir, &topology.cluster.domain)?;
                    issue_one(&ca, &topology, &node, &dir, watched.what)?;
                }
                watched.look()
            })();
            match looked {
                Ok(true) => tracing::info!(certificate = what, "certificate renewed"),
                Ok(false) if watched.is_due() => {
                    if watched.looks % LOOKS_PER_WORD == 0 {
                        let file = watched.pair.pem.display().to_string();
                        tracing::warn!(
                            certificate = what,
                            file,
                            "certificate not renewed: nobody has put a new one there"
                        );
                    }
                    watched.looks = watched.looks.wrapping_add(1);
                }
                Ok(false) => watched.looks = 0,
                Err(e) => tracing::error!(certificate = what, "certificate not renewed: {e}"),
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::parse;

    #[test]
    fn a_door_has_the_names_that_lead_to_it() {
        let t = parse(include_str!("../../../../cluster-configs/local-dns-3.toml")).unwrap();
        let (names, addresses) = door_names(&t, &t.node[1]);
        for name in ["edge1.iot.example", "cloud.iot.example", "iot.example", "*.ae.iot.example", "localhost"] {
            assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
        }
        assert_eq!(addresses, [IpAddr::from([127, 0, 0, 2])]);
        let t = parse(include_str!("../../../../cluster-configs/local-takeover-3.toml")).unwrap();
        let (_, addresses) = door_names(&t, &t.node[1]);
        assert!(addresses.contains(&IpAddr::from([127, 0, 1, 1])), "of a node that may be dead: {addresses:?}");
    }
}
