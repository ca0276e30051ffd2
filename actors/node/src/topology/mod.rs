//! One TOML file describes one cluster; `cluster-configs/local-3.toml` is the commented manual.
//!
//! [`load`] parses and checks a file: every problem comes with its line and with what to do. [`ports`] puts a topology on
//! other ports of the loopback interface.

mod check;
mod load;
mod ports;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use onemec_device::Endpoint;
use serde::{Deserialize, Serialize};

use crate::steering::takeover::duty;

pub use load::{Problem, TopologyError, load, parse};
pub use ports::{PortBase, with_ports};

/// A cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Name and generation.
    pub cluster: Cluster,
    /// Leases and moves.
    #[serde(default)]
    pub timing: Timing,
    /// Durability and segments.
    #[serde(default)]
    pub storage: Storage,
    /// Bounds.
    #[serde(default)]
    pub limits: Limits,
    /// The oneM2M CSEs.
    #[serde(default)]
    pub cse: Cse,
    /// Notifications to subscribers.
    #[serde(default)]
    pub notifications: Notifications,
    /// How clients find the serving node.
    #[serde(default)]
    pub steering: Steering,
    /// When the network moves devices by itself.
    #[serde(default)]
    pub mobility: Mobility,
    /// Where AEs' data may be; the first rule that names an AE counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub residency: Vec<ResidencyRule>,
    /// Which nodes belong together, by what they say of themselves (row O03).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub federation_group: Vec<FederationRule>,
    /// How many nodes have each role (row O04).
    #[serde(default)]
    pub federation_roles: Roles,
    /// Where measurements go.
    #[serde(default)]
    pub observability: Observability,
    /// The nodes.
    pub node: Vec<Node>,
}

/// What the cluster is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Short name, for messages and folders.
    pub name: String,
    /// Domain (service provider); stands in every certificate. A connection from another domain is federation only.
    pub domain: String,
    /// Raised by an operator who restores a backup: nodes of another generation are refused.
    #[serde(default = "one")]
    pub generation: u64,
    /// Validity of the certificates that are issued, seconds; those that issue themselves renew after two thirds.
    #[serde(default = "week")]
    pub certificate_s: u64,
    /// Folder of the cluster's certificate authority; absent: made in the run folder (local topologies).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_dir: Option<PathBuf>,
}

/// Times of leases and moves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// A node that did not renew its lease for so long serves nothing, and its groups are taken over.
    pub lease_ms: u64,
    /// A move parks writes at most so long.
    pub freeze_ms_max: u64,
    /// A move that is not ready by then is given up.
    pub move_ms_max: u64,
    /// The widest expiry of a repeatable request, and how long its answer is kept.
    pub repeat_window_ms: u64,
    /// Validity of a handover token.
    pub token_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { lease_ms: 300, freeze_ms_max: 50, move_ms_max: 30_000, repeat_window_ms: 60_000, token_ms: 3_600_000 }
    }
}

/// When a write counts as kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// In the memory of the serving node.
    Memory,
    /// In the memory of all in-sync replicas, at least two.
    Replicated,
    /// In addition on the disks of the synced members.
    #[default]
    Disk,
}

/// How contexts are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Storage {
    /// Default of new contexts.
    pub durability: Durability,
    /// Wished number of replicas of a group, the primary included.
    pub replicas: u32,
    /// Usual size of a segment; a log's tail of this length is sealed into one.
    pub segment_bytes: u64,
}

impl Default for Storage {
    fn default() -> Self {
        Self { durability: Durability::Disk, replicas: 2, segment_bytes: 256 * 1024 }
    }
}

/// Bounds of one node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Body of one request.
    pub request_bytes_max: u64,
    /// Requests under way, all together.
    pub requests_bytes_max: u64,
    /// Open client connections.
    pub connections_max: u32,
    /// Open client connections of one address (IPv6: of one /64).
    pub connections_per_address_max: u32,
    /// A request's head (request line and headers) takes no longer.
    pub header_ms_max: u64,
    /// AEs at home on one node.
    pub aes_max: u32,
    /// Moves under way at once, as source or target.
    pub moves_max: u32,
    /// What a node that is cut off takes from its own devices and keeps on its disk until it may append it; 0: nothing.
    pub buffer_bytes_max: u64,
    /// Requests per second of one originator, and registrations per second from one address; 0: no limit.
    pub requests_per_s_max: u32,
    /// An AE that nobody asked for so long leaves memory, and comes back with the next request.
    pub passive_after_ms: u64,
    /// Resources in memory, roughly; beyond it the AEs that were not asked for longest leave memory.
    pub resources_bytes_max: u64,
    /// With a higher load (0 to 1) nothing moves here that nobody waits for.
    pub load_max: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes_max: 1024 * 1024,
            requests_bytes_max: 64 * 1024 * 1024,
            connections_max: 4096,
            connections_per_address_max: 1024,
            header_ms_max: 10_000,
            aes_max: 100_000,
            moves_max: 32,
            buffer_bytes_max: 0,
            requests_per_s_max: 0,
            passive_after_ms: 60_000,
            resources_bytes_max: 512 * 1024 * 1024,
            load_max: 0.85,
        }
    }
}

/// What all CSEs of the cluster have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cse {
    /// AE-ID stems of originators that no access control policy holds back; nobody registers under them. As soon as one
    /// node has `auth = "required"` they need a credential at every door. Empty: there are none.
    pub admins: Vec<String>,
}

/// Notifications to subscribers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Notifications {
    /// Ask every target whether it agrees before a subscription is made.
    pub verify: bool,
    /// A target that has not agreed by then does not agree.
    pub verify_ms_max: u64,
    /// A notification that cannot be delivered is tried so long.
    pub keep_ms: u64,
    /// PEM file of the authorities of `https://` targets; absent: those that the machine trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Hosts to which requests may go (names, addresses, `*.suffix`); empty: all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Hosts to which none may go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { verify: true, verify_ms_max: 2000, keep_ms: 300_000, ca: None, allow: Vec::new(), deny: Vec::new() }
    }
}

/// How a client without the device library reaches the new node when its host is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnmodifiedSteering {
    /// It knows a name, and our DNS server answers with the node that serves.
    Dns,
    /// It knows a second address, and any node forwards.
    #[default]
    SecondAddress,
    /// A living node takes over the dead node's address.
    AddressTakeover,
}

/// How clients find the serving node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Steering {
    /// For clients without the device library.
    pub unmodified: UnmodifiedSteering,
    /// Address of each node's DNS server (UDP and TCP); a node may have its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_listen: Option<SocketAddr>,
    /// Zone that they answer for; absent: there are no DNS servers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_zone: Option<String>,
    /// Resolvers may keep an answer so long, seconds.
    pub dns_ttl_s: u32,
}

/// By what load is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// Not at all.
    #[default]
    Off,
    /// Devices at home, as a share of `limits.aes_max`.
    Aes,
    /// Load of the machines' processors.
    Cpu,
}

/// When the network moves devices by itself (rows H05, S03, S06, O10).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mobility {
    /// A node that carries too much gives devices away.
    pub balance: Balance,
    /// Too much: 0 to 1.
    pub balance_hot: f64,
    /// It gives until it is below this, and only to nodes that stay below it.
    pub balance_calm: f64,
    /// It must carry too much for so long.
    pub balance_trigger_ms: u64,
    /// Time between two rounds.
    pub balance_round_ms: u64,
    /// Another node's signal must be better by this, in dB.
    pub link_hysteresis_db: f64,
    /// For so long without a break.
    pub link_trigger_ms: u64,
    /// A measurement holds for so long.
    pub link_valid_ms: u64,
    /// A device that was moved for its link stays for so long.
    pub rest_ms: u64,
    /// Moves for links that one node begins within a second.
    pub moves_per_s_max: u32,
}

impl Default for Mobility {
    fn default() -> Self {
        Self {
            balance: Balance::Off,
            balance_hot: 0.8,
            balance_calm: 0.65,
            balance_trigger_ms: 5_000,
            balance_round_ms: 10_000,
            link_hysteresis_db: 3.0,
            link_trigger_ms: 640,
            link_valid_ms: 5_000,
            rest_ms: 3_000,
            moves_per_s_max: 16,
        }
    }
}

/// Where the data of some AEs may be (row G15).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidencyRule {
    /// AE-IDs; `*` stands for any text.
    pub aes: String,
    /// Parts separated by `;`, all of which must hold: `hosts:NAME,NAME`, `region:NAME,NAME`, `domain:NAME`,
    /// `trust:WORD,WORD`, `device` (the host where it is at home, and no other).
    pub label: String,
}

/// A circle on the earth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Circle {
    /// Degrees, north is positive.
    pub lat: f64,
    /// Degrees, east is positive.
    pub lon: f64,
    /// Radius in kilometres.
    pub km: f64,
}

/// A federation group: the live nodes that satisfy everything that is said here (row O03).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FederationRule {
    /// Its name.
    pub name: String,
    /// Within this circle.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<Circle>,
    /// One of these domains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// All of these roles of the topology.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// All of these APIs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<String>,
    /// All of these trust words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trust: Vec<String>,
    /// One of `mains`, `battery`, `solar`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub energy: Vec<String>,
    /// At least.
    pub cpu_cores_min: u32,
    /// At least.
    pub gpus_min: u32,
    /// At least.
    pub memory_mib_min: u64,
    /// At least.
    pub storage_gib_min: u64,
    /// Load of the processors at most, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_load_max: Option<f64>,
}

/// How many nodes have each role; the fittest get it (row O04).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Roles {
    /// Take devices over that lose their host.
    pub handover_anchors: u32,
    /// Compute tasks of swarm jobs.
    pub swarm_workers: u32,
    /// Train models.
    pub learning_participants: u32,
}

impl Default for Roles {
    fn default() -> Self {
        Self { handover_anchors: 1, swarm_workers: 2, learning_participants: 2 }
    }
}

/// Where measurements go, beside `/metrics` of each node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Observability {
    /// OTLP collector for traces, OTLP over HTTP, for example `http://127.0.0.1:4318`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Keep each node's audit log (`audit.jsonl`) for the history checker.
    pub audit: bool,
}

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The infrastructure CSE: one per cluster.
    InCse,
    /// A middle-node CSE: an edge host where devices register.
    MnCse,
    /// Votes in the directory: one, three or five nodes.
    Voter,
}

/// Whether originators must prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Nobody is asked.
    #[default]
    None,
    /// A certificate or token that is shown must fit the originator; none need be shown.
    Optional,
    /// A client certificate or a bearer token bound to the AE-ID is needed.
    Required,
}

/// The HTTP door of a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Serve HTTPS.
    pub tls: bool,
    /// Originators.
    pub auth: Auth,
    /// PEM file of the server's certificate; absent with `tls`: issued by the cluster's authority at start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// PEM file of the authority of client certificates; absent: the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Bearer tokens by AE-ID.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tokens: BTreeMap<String, String>,
}

/// A place.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// Degrees, north is positive.
    pub lat: f64,
    /// Degrees, east is positive.
    pub lon: f64,
}

/// What a node offers; gossiped to all. What is left out is asked of the machine at the start, where it can be.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capabilities {
    /// Processor cores; absent: asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<u32>,
    /// Graphics processors and other accelerators; absent: asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Memory for workloads; absent: asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Disk for workloads; absent: asked (that of the data folder).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_gib: Option<u64>,
    /// `mains`, `battery`, `solar`; absent: asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<String>,
    /// Where the node stands; absent: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// APIs beyond oneM2M that it serves.
    pub apis: Vec<String>,
    /// Words that residency and trust policies ask for.
    pub trust: Vec<String>,
    /// The region that it stands in, for residency policies.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
}

/// An address that clients use, held by its node or, while that one is dead, by the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAddress {
    /// The node's interface in the clients' network; there it needs an address of its own as well.
    pub interface: String,
    /// `ADDRESS/PREFIX`.
    pub address: String,
}

impl ServiceAddress {
    /// The address alone, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        Some(duty::parse(&self.address)?.0)
    }
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name in commands and logs.
    pub name: String,
    /// Its number; stands in its certificate and never changes or is used again.
    pub id: u64,
    /// What it is for.
    pub roles: Vec<Role>,
    /// CSE-ID, with its slash.
    pub cse_id: String,
    /// Resource name of its CSEBase.
    pub cse_base: String,
    /// QUIC (UDP) address for the other nodes.
    pub cluster_listen: SocketAddr,
    /// Address under which the others reach it, where that differs (`HOST:PORT`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_address: Option<String>,
    /// HTTP address for devices and applications.
    pub http_listen: SocketAddr,
    /// Point of access that it advertises; absent: made from `http_listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_poa: Option<String>,
    /// Admin API and `/metrics`; keep it private.
    pub admin_listen: SocketAddr,
    /// Where its data lies; absent: a folder named after the node in the run folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Its HTTP door.
    #[serde(default)]
    pub security: Security,
    /// What it offers.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Where its DNS server listens, where that differs from `steering.dns_listen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_listen: Option<SocketAddr>,
    /// Its addresses in our DNS; absent: that of `http_poa` or `http_listen`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_addresses: Vec<IpAddr>,
    /// Its address for clients (mode `address-takeover`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_address: Option<ServiceAddress>,
    /// Second addresses of its unmodified clients (mode `second-address`); absent: the other nodes in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub second_addresses: Vec<String>,
}

const fn week() -> u64 {
    7 * 24 * 3600
}

const fn one() -> u64 {
    1
}

impl Node {
    /// The point of access that it advertises.
    pub fn poa(&self) -> String {
        let scheme = if self.security.tls { "https" } else { "http" };
        let service = self.service_address.as_ref().and_then(ServiceAddress::ip);
        let door = service.map_or(self.http_listen, |ip| SocketAddr::new(ip, self.http_listen.port()));
        self.http_poa.clone().unwrap_or_else(|| format!("{scheme}://{door}"))
    }
    /// Addresses of its HTTP door for our DNS; none if they are not known.
    pub fn addresses(&self) -> Vec<IpAddr> {
        if !self.dns_addresses.is_empty() {
            return self.dns_addresses.clone();
        }
        let poa = self.http_poa.as_ref().and_then(|p| p.parse::<Endpoint>().ok()?.host.parse().ok());
        let service = self.service_address.as_ref().and_then(ServiceAddress::ip);
        let listen = Some(self.http_listen.ip()).filter(|a| !a.is_unspecified());
        poa.or(service).or(listen).into_iter().collect()
    }
    /// URL of its admin API.
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_listen)
    }
    /// Its roles as the topology writes them.
    pub fn role_names(&self) -> Vec<String> {
        let name = |r: &Role| serde_json::to_value(r).ok()?.as_str().map(str::to_owned);
        self.roles.iter().filter_map(name).collect()
    }
    /// True if it has the role.
    pub fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

impl Topology {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.node.iter().find(|n| n.name == name)
    }
    /// The names, for messages.
    pub fn names(&self) -> String {
        self.node.iter().map(|n| n.name.as_str()).collect::<Vec<_>>().join(", ")
    }
    /// The node with the IN-CSE.
    pub fn in_cse(&self) -> Option<&Node> {
        self.node.iter().find(|n| n.is(Role::InCse))
    }
    /// The edge hosts.
    pub fn edges(&self) -> impl Iterator<Item = &Node> {
        self.node.iter().filter(|n| n.is(Role::MnCse))
    }
    /// Points of access for an unmodified client of `node`, in the order in which it tries them.
    pub fn client_addresses(&self, node: &Node) -> Vec<String> {
        let mut all = vec![node.poa()];
        match self.steering.unmodified {
            UnmodifiedSteering::SecondAddress if node.second_addresses.is_empty() => {
                all.extend(self.node.iter().filter(|n| n.name != node.name).map(Node::poa));
            }
            UnmodifiedSteering::SecondAddress => all.extend(node.second_addresses.iter().cloned()),
            // One name: whoever serves behind it is the DNS server's business.
            UnmodifiedSteering::Dns => {
                let door = node.poa().parse::<Endpoint>().ok();
                let zone = self.steering.dns_zone.as_deref().unwrap_or_default();
                all = door
                    .map(|d| Endpoint { host: format!("{}.{zone}", node.name), ..d }.to_string())
                    .into_iter()
                    .collect();
            }
            UnmodifiedSteering::AddressTakeover => {}
        }
        all
    }

    /// Where a node's DNS server listens; none without a zone.
    pub fn dns_server(&self, node: &Node) -> Option<SocketAddr> {
        self.steering.dns_zone.as_ref().and_then(|_| node.dns_listen.or(self.steering.dns_listen))
    }

    /// The DNS servers that a client on this machine may ask.
    pub fn dns_servers(&self) -> Vec<SocketAddr> {
        self.node.iter().filter_map(|n| self.dns_server(n)).collect()
    }
}
