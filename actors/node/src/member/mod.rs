//! One member of a cluster at work: the runtime's host, the CSE on it, the admin API beside it.

mod backend;
pub mod ca;
mod daytwo;
mod drains;
mod federation;
mod glue;
mod hosting;
mod journal;
mod metrics;
mod mover;
mod network;
mod nodes;
mod probe;
mod residency;
mod steward;
mod targets;
mod unburied;
mod views;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_core::context::ContextKind;
use onemec_core::group::GroupTiming;
use onemec_core::lease::LeaseTiming;
use onemec_cse::http::{HttpFigures, HttpLimits, Listener, ListenerOptions};
use onemec_cse::notify::{SendOptions, SendPolicy, Sender};
use onemec_cse::{AuthMode, Cse, CseIndex, CseOptions, CseParts, NotifyHandler, TreeFactory};
use onemec_runtime::exec::{Actors, ExecOptions, GroupLimits, MemoryOptions};
use onemec_runtime::host::{Host, HostOptions};
use onemec_runtime::peers;
use onemec_runtime::pki::{ClientAuth, Pki, Want, read_pem_certificates};
use onemec_runtime::supervise::Tree;
use onemec_runtime::transport::Profile;
use onemec_wire::NodeId;
use tokio::task::JoinSet;

use crate::admin;
use crate::node::{AUDIT_FILE, Member, NodeError};
use crate::steering::dns::{self, DnsOptions, DnsServer, Zone};
use crate::steering::takeover::{OpenDoor, SERVICE_ADDRESS, Takeover};
use crate::telemetry;
use crate::topology::{Auth, Durability, Node, Role, Topology};
use backend::Backend;
pub(crate) use federation::energy;
use journal::Journal;
use mover::Mover;
use network::Network;
use nodes::Nodes;
use residency::Rules;
pub(crate) use steward::AE_KEY;
use steward::Steward;
use targets::Targets;

/// Time for a node's first steps as a CSE, which need the other voters.
const BASE_MAX: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(200);
/// So often the log says why this node is not ready.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// How a boot of the node ended.
enum Ended {
    /// SIGTERM or Ctrl-C.
    Stopped,
    /// The cluster had declared it dead: it begins anew.
    Reborn,
    /// A part of it cannot go on: it gives its groups up and begins anew.
    Escalated(String),
}

/// Boots that may end by escalation within the time before the process gives up: whoever runs it starts it anew.
const ESCALATIONS_MAX: usize = 3;
const ESCALATIONS_WITHIN: Duration = Duration::from_secs(600);

/// Runs the node, boot after boot, until it is told to stop.
pub async fn run(member: Member) -> Result<(), NodeError> {
    if let Some(collector) = &member.topology.observability.otlp_endpoint {
        let collector = collector.parse().map_err(failed)?;
        telemetry::of_process().export_to(collector, member.node.name.clone());
    }
    // The admin API answers from the first moment on, and over all boots: who waits can see what for.
    let nodes = Arc::new(Nodes::new(&member.topology));
    let tree = Arc::new(Tree::default());
    let journal = Arc::new(Journal::open(&member.data_dir, nodes.clone(), tree.clone()));
    let backend = Arc::new(Backend::new(&member, nodes, journal, tree.clone()));
    let admin_listen = member.node.admin_listen;
    let mut admin_socket = Some(bind(admin_listen, "admin_listen").await?);
    let door = backend.clone();
    let mut tasks = JoinSet::new();
    tasks.spawn(tree.clone().keep("admin", move || {
        let (socket, backend) = (admin_socket.take(), door.clone());
        async move {
            let socket = match socket {
                Some(socket) => socket,
                None => bind(admin_listen, "admin_listen").await.map_err(|e| e.to_string())?,
            };
            let ended = admin::server::serve(socket, backend, std::future::pending()).await;
            Err(ended.map_or_else(|e| e.to_string(), |()| "it ended".into()))
        }
    }));
    let Member { topology, node, data_dir, ca_dir } = &member;
    let mut escalations: Vec<Instant> = Vec::new();
    loop {
        match serve(topology, node, data_dir, ca_dir, &backend).await? {
            Ended::Stopped => return Ok(()),
            Ended::Reborn => tracing::warn!(node = node.name, "declared dead by the cluster: starting anew"),
            Ended::Escalated(why) => {
                escalations.retain(|at| at.elapsed() < ESCALATIONS_WITHIN);
                escalations.push(Instant::now());
                if escalations.len() > ESCALATIONS_MAX {
                    return Err(NodeError::Escalated(why));
                }
                tracing::error!(node = node.name, "a part cannot go on, starting anew: {why}");
                backend.escalated(why);
            }
        }
    }
}

fn failed(e: impl std::fmt::Display) -> NodeError {
    NodeError::Start(e.to_string())
}

async fn bind(address: SocketAddr, key: &str) -> Result<tokio::net::TcpListener, NodeError> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| NodeError::System { what: format!("{key} {address}"), source })
}

async fn serve(
    topology: &Topology,
    node: &Node,
    data_dir: &std::path::Path,
    ca_dir: &std::path::Path,
    backend: &Arc<Backend>,
) -> Result<Ended, NodeError> {
    backend.waits_for("certificates");
    let certificates = Arc::new(ca::of_node(topology, node, ca_dir).map_err(failed)?);
    let pki = certificates.pki.clone();
    *backend.certificates.write() = Some(certificates.clone());
    let cluster = ca::cluster_of(topology, ca_dir).map_err(failed)?;
    backend.waits_for("the cluster: most of the voters must be up");
    let http_tls = http_tls(topology, node, &certificates)?;
    let host = Host::start(host_options(topology, node, data_dir, pki, cluster)?).await.map_err(failed)?;
    let runtime = host.runtime.clone();
    let tree = runtime.tree().clone();
    let mut tasks = JoinSet::new();
    let index = CseIndex::new();
    let rules = Arc::new(Rules::new(&topology.residency));
    let journal = backend.journal.clone();
    let targets = Arc::new(Targets {
        runtime: runtime.clone(),
        gossip: host.membership(),
        nodes: backend.nodes.clone(),
        topology: topology.clone(),
        rules: rules.clone(),
        places: parking_lot::Mutex::default(),
    });
    let move_max = Duration::from_millis(topology.timing.move_ms_max);
    let mover = Mover { runtime: runtime.clone(), targets, move_max };
    let network = Arc::new(Network::new(mover.clone(), topology.mobility.clone()));
    let buffer = match topology.limits.buffer_bytes_max {
        0 => None,
        bytes_max => Some(Arc::new(host.open_buffer(bytes_max).await.map_err(failed)?)),
    };
    let cse = Cse::new(CseParts {
        options: cse_options(topology, node),
        contexts: Arc::new(runtime.clone()),
        index: index.clone(),
        sender: Sender::new(send_options(topology)?),
        mobility: Some(Arc::new(glue::Attach { mover: mover.clone(), journal: journal.clone() })),
        tokens: Some(Arc::new(
            glue::HandoverTokens::new(runtime.clone(), topology.timing.token_ms, journal.clone()).await,
        )),
        buffer: buffer.clone().map(|b| b as _),
    });
    tasks.spawn(tree.clone().keep("cluster/nodes", {
        let (nodes, directory, cse) = (backend.nodes.clone(), host.directory(), cse.clone());
        let domain = topology.cluster.domain.clone();
        move || {
            let follow = nodes::follow(nodes.clone(), directory.clone(), cse.clone(), domain.clone());
            async move {
                follow.await;
                Ok(())
            }
        }
    }));
    tasks.spawn(tree.clone().keep("cluster/silent nodes", {
        let (directory, lease) = (host.directory(), host.lease.clone());
        move || {
            let run = unburied::run(directory.clone(), lease.clone());
            async move {
                run.await;
                Err("it ended".into())
            }
        }
    }));
    tasks.spawn(tree.clone().keep("cluster/federation", {
        let (rules, directory, gossip) = (federation::Rules::new(topology), host.directory(), host.membership());
        move || {
            let run = federation::run(rules.clone(), directory.clone(), gossip.clone());
            async move {
                run.await;
                Err("it ended".into())
            }
        }
    }));
    let factory = Arc::new(TreeFactory::new(index.clone()));
    let hosting = hosting::Host {
        runtime: runtime.clone(),
        lease: host.lease.clone(),
        gossip: host.membership(),
        index,
        journal: journal.clone(),
        rules: rules.clone(),
        topology: topology.clone(),
        node: node.clone(),
        data_dir: data_dir.to_owned(),
        ledger: parking_lot::Mutex::default(),
    };
    let notify = Arc::new(NotifyHandler::new(cse.clone()));
    let (ae, base) = (ContextKind::AE, ContextKind::CSE_BASE);
    runtime.begin(Actors {
        factories: Arc::new(BTreeMap::from([(ae, factory.clone() as _), (base, factory as _)])),
        effects: BTreeMap::from([(ae, notify.clone() as _), (base, notify as _)]),
        readers: BTreeMap::from([(ae, Arc::new(cse.clone()) as _), (base, Arc::new(cse.clone()) as _)]),
        hosting: Arc::new(hosting),
    });
    backend.waits_for("a lease");
    // Declared dead before it has its first lease, it never gets one: it must begin anew here as well.
    let alive = tokio::select! {
        valid = host.lease.valid() => valid.map(|()| true).map_err(failed)?,
        () = host.declared_dead() => false,
    };
    if !alive {
        host.abandon().await;
        return Ok(Ended::Reborn);
    }
    let doors = Arc::new(HttpFigures::default());
    backend.attach(&host, cse.clone(), mover.clone(), network.clone(), rules.clone(), doors.clone());
    backend.waits_for("its CSEBase");
    let begun = tokio::select! {
        begun = tokio::time::timeout(BASE_MAX, begin_cse(topology, node, &cse, &mut tasks, &tree)) => {
            begun.map_err(|_| NodeError::Start("the CSEBase could not be made: most of the voters must be up".into()))?;
            true
        }
        () = host.declared_dead() => false,
    };
    if !begun {
        backend.detach();
        host.abandon().await;
        return Ok(Ended::Reborn);
    }
    let door = listener_options(topology, node, http_tls, doors);
    let listener = Listener::bind(door.clone())
        .await
        .map_err(|source| NodeError::System { what: format!("http_listen {}", node.http_listen), source })?;
    let running = listener.serve(cse.clone()).map_err(failed)?;
    if let Some(options) = dns_options(topology, node).map_err(failed)? {
        let what = format!("dns_listen {}", options.listen);
        let (directory, lease) = (host.directory(), host.lease.clone());
        let server = DnsServer::bind(options.clone(), directory.clone(), lease.clone())
            .await
            .map_err(|source| NodeError::System { what, source })?;
        let mut server = Some(server);
        tasks.spawn(tree.clone().keep("steering/dns", move || {
            let (server, options) = (server.take(), options.clone());
            let (directory, lease) = (directory.clone(), lease.clone());
            async move {
                let server = match server {
                    Some(server) => server,
                    None => DnsServer::bind(options, directory, lease).await.map_err(|e| e.to_string())?,
                };
                server.run().await;
                Err("it ended".into())
            }
        }));
    }
    let (stop_takeover, takeover_stops) = tokio::sync::oneshot::channel();
    let takeover = match &node.service_address {
        None => None,
        Some(service) => {
            let open = service_doors(door, &cse);
            let (me, lease) = (runtime.member(), host.lease.clone());
            let takeover = Takeover::begin(&service.interface, me, host.directory(), lease, open);
            let takeover = takeover.await.map_err(failed)?;
            let (run, tree) = (tokio::spawn(takeover.run(tree.clone(), takeover_stops)), tree.clone());
            Some(tokio::spawn(async move {
                if run.await.is_err() {
                    tree.escalate("steering/takeover", "it panicked");
                }
            }))
        }
    };
    tree.started("cse");
    tree.started("cse/http");
    if buffer.is_some() {
        let cse = cse.clone();
        tasks.spawn(tree.clone().keep("cse/local-buffer", move || {
            let cse = cse.clone();
            async move {
                cse.append_buffered().await;
                Err("it ended".into())
            }
        }));
    }
    steward::start(
        &mut tasks,
        &tree,
        Steward {
            mover,
            gossip: host.membership(),
            audit: host.audit.clone(),
            journal,
            network,
            rules,
            name: node.name.clone(),
            moves_max: topology.limits.moves_max,
        },
    );
    backend.waits_for("");
    tracing::info!(node = node.name, poa = node.poa(), "serving");

    let ended = tokio::select! {
        () = stop_signal() => Ended::Stopped,
        () = host.declared_dead() => Ended::Reborn,
        why = tree.escalated() => Ended::Escalated(why),
        why = backend.tree.escalated() => Ended::Escalated(why),
        why = host.failed() => {
            // What is on the disk is not known any more: the process ends, and looks when it comes back.
            tracing::error!("the directory has stopped: {why}");
            std::process::exit(74);
        }
    };
    backend.waits_for("it is stopping");
    tasks.shutdown().await;
    // Given up before the lease is: nobody else holds the address yet.
    drop(stop_takeover);
    if let Some(takeover) = takeover {
        drop(takeover.await);
    }
    backend.detach();
    if let Some(buffer) = buffer {
        // What a request still brings is told that it is closed; the next boot opens it anew.
        buffer.close();
    }
    match ended {
        Ended::Stopped | Ended::Escalated(_) => {
            running.stop().await;
            host.stop().await;
        }
        Ended::Reborn => {
            drop(running);
            host.abandon().await;
        }
    }
    Ok(ended)
}

async fn begin_cse(topology: &Topology, node: &Node, cse: &Cse, tasks: &mut JoinSet<()>, tree: &Arc<Tree>) {
    let mut say_at = Instant::now() + SAY_EVERY;
    while let Err(e) = cse.ensure_base().await {
        // Whoever took it over may have died since, before it had a second copy: then its return is waited for.
        if Instant::now() >= say_at {
            tracing::warn!("not ready: this node's CSEBase cannot be written yet: {} {}", e.rsc.0, e.debug);
            say_at += SAY_EVERY;
        }
        tokio::time::sleep(AGAIN).await;
    }
    let registrar = topology.node.iter().find(|n| n.roles.contains(&Role::InCse) && n.id != node.id);
    if let Some(registrar) = registrar.filter(|_| !node.roles.contains(&Role::InCse)) {
        let (cse, id) = (cse.clone(), registrar.cse_id.clone());
        // The IN-CSE may come up later: this CSE serves meanwhile.
        tasks.spawn(tree.clone().keep("cse/registration", move || {
            let (cse, id) = (cse.clone(), id.clone());
            async move {
                while let Err(e) = cse.register_at(&id).await {
                    tracing::debug!("registration at {id}: {} {}", e.rsc.0, e.debug);
                    tokio::time::sleep(AGAIN * 5).await;
                }
                Ok(())
            }
        }));
    }
}

/// Ends with SIGTERM or Ctrl-C.
pub async fn stop_signal() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(e) => {
            tracing::error!("SIGTERM cannot be caught: {e}");
            return;
        }
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn host_options(
    topology: &Topology,
    node: &Node,
    data_dir: &std::path::Path,
    pki: Pki,
    cluster: onemec_wire::Cluster,
) -> Result<HostOptions, NodeError> {
    let mut peers = BTreeMap::new();
    for other in topology.node.iter().filter(|n| n.id != node.id) {
        let addresses = match &other.cluster_address {
            Some(name) => name
                .to_socket_addrs()
                .map_err(|source| NodeError::System { what: format!("cluster_address {name}"), source })?
                .collect(),
            None => vec![other.cluster_listen],
        };
        peers.insert(NodeId(other.id), addresses);
    }
    let voters: BTreeSet<NodeId> =
        topology.node.iter().filter(|n| n.roles.contains(&Role::Voter)).map(|n| NodeId(n.id)).collect();
    let lease = LeaseTiming { lease: Duration::from_millis(topology.timing.lease_ms) };
    let timing = GroupTiming {
        freeze_max: Duration::from_millis(topology.timing.freeze_ms_max),
        ack_patience: lease.dead_after() + Duration::from_millis(50),
        ..GroupTiming::default()
    };
    let exec = ExecOptions {
        timing,
        limits: GroupLimits {
            park_max: lease.lease * 4,
            repeat_window_ms: topology.timing.repeat_window_ms,
            ..GroupLimits::default()
        },
        durability: match topology.storage.durability {
            Durability::Memory => onemec_core::directory::Durability::Memory,
            Durability::Replicated => onemec_core::directory::Durability::Replicated,
            Durability::Disk => onemec_core::directory::Durability::Disk,
        },
        replicas_wanted: u8::try_from(topology.storage.replicas).unwrap_or(u8::MAX),
        permit_bytes: usize::try_from(topology.limits.requests_bytes_max).unwrap_or(usize::MAX >> 4),
        memory: MemoryOptions {
            passive_after: Duration::from_millis(topology.limits.passive_after_ms),
            bytes_max: usize::try_from(topology.limits.resources_bytes_max).unwrap_or(usize::MAX),
            ..MemoryOptions::default()
        },
    };
    let cluster_address = node.cluster_address.clone().unwrap_or_else(|| node.cluster_listen.to_string());
    let mut info = BTreeMap::from([
        (peers::ADDRESSES.to_owned(), cluster_address),
        (dns::ADDRESSES.to_owned(), node.addresses().iter().map(ToString::to_string).collect::<Vec<_>>().join(",")),
    ]);
    info.extend(nodes::info(node));
    info.extend(residency::info(&topology.cluster.domain, &node.capabilities.region, &node.capabilities.trust));
    if let Some(service) = &node.service_address {
        info.insert(SERVICE_ADDRESS.to_owned(), service.address.clone());
    }
    let loopback = topology.node.iter().all(|n| n.cluster_listen.ip().is_loopback());
    Ok(HostOptions {
        node: NodeId(node.id),
        name: node.name.clone(),
        data_dir: data_dir.to_owned(),
        listen: node.cluster_listen,
        peers,
        voters,
        cluster,
        lease,
        profile: if loopback { Profile::Loopback } else { Profile::Wan },
        exec,
        segment_bytes: usize::try_from(topology.storage.segment_bytes).unwrap_or(usize::MAX >> 4),
        audit: topology.observability.audit.then(|| data_dir.join(AUDIT_FILE)),
        info,
        capabilities: probe::capabilities(topology, node, data_dir),
        pki,
    })
}

/// What its DNS server is told; `None` if the topology wants none.
fn dns_options(topology: &Topology, node: &Node) -> Result<Option<DnsOptions>, dns::ZoneError> {
    let steering = &topology.steering;
    let (Some(name), Some(listen)) = (&steering.dns_zone, topology.dns_server(node)) else {
        return Ok(None);
    };
    Ok(Some(DnsOptions { listen, zone: Zone::new(name, steering.dns_ttl_s)? }))
}

fn cse_options(topology: &Topology, node: &Node) -> CseOptions {
    let poa = std::iter::once(node.poa()).chain(node.second_addresses.iter().cloned()).collect();
    CseOptions {
        base_name: node.cse_base.clone(),
        cse_id: node.cse_id.clone(),
        sp_id: topology.cluster.domain.clone(),
        requests_per_s_max: topology.limits.requests_per_s_max,
        verify_subscriptions: topology.notifications.verify,
        verify_ms_max: topology.notifications.verify_ms_max,
        cse_type: if node.roles.contains(&Role::InCse) { 1 } else { 2 },
        poa,
        admins: topology.cse.admins.clone(),
        admins_proved: topology.node.iter().any(|n| n.security.auth == Auth::Required),
        ..CseOptions::default()
    }
}

fn send_options(topology: &Topology) -> Result<SendOptions, NodeError> {
    let n = &topology.notifications;
    let authorities = n.ca.as_ref().map(|file| -> Result<_, NodeError> {
        let mut roots = rustls::RootCertStore::empty();
        for certificate in read_pem_certificates(file).map_err(failed)? {
            roots.add(certificate).map_err(|e| failed(format!("{}: {e}", file.display())))?;
        }
        Ok(Arc::new(roots))
    });
    Ok(SendOptions {
        keep_ms: n.keep_ms,
        policy: SendPolicy { allow: n.allow.clone(), deny: n.deny.clone() },
        authorities: authorities.transpose()?,
        ..SendOptions::default()
    })
}

fn listener_options(
    topology: &Topology,
    node: &Node,
    tls: Option<Arc<rustls::ServerConfig>>,
    figures: Arc<HttpFigures>,
) -> ListenerOptions {
    let bound = |n: u64| usize::try_from(n).unwrap_or(usize::MAX >> 4);
    let tokens: HashMap<String, String> =
        node.security.tokens.iter().map(|(ae, token)| (token.clone(), ae.clone())).collect();
    ListenerOptions {
        address: Some(node.http_listen),
        tls,
        auth: match node.security.auth {
            Auth::None => AuthMode::None,
            Auth::Optional => AuthMode::Optional,
            Auth::Required => AuthMode::Required,
        },
        bearer_tokens: Arc::new(tokens),
        figures,
        limits: HttpLimits {
            connections_max: topology.limits.connections_max as usize,
            connections_per_address_max: topology.limits.connections_per_address_max as usize,
            header_ms_max: topology.limits.header_ms_max,
            body_bytes_max: bound(topology.limits.request_bytes_max),
            body_bytes_in_flight_max: bound(topology.limits.requests_bytes_max),
            ..HttpLimits::default()
        },
    }
}

/// Doors at the service addresses that this node holds, unless its own one serves every address.
fn service_doors(options: ListenerOptions, cse: &Cse) -> Option<OpenDoor> {
    if options.address.is_none_or(|a| a.ip().is_unspecified()) {
        return None;
    }
    let cse = cse.clone();
    Some(Box::new(move |ip| {
        let (mut options, cse) = (options.clone(), cse.clone());
        options.address = options.address.map(|a| SocketAddr::new(ip, a.port()));
        Box::pin(async move { Listener::bind(options).await?.serve(cse) })
    }))
}

fn http_tls(
    topology: &Topology,
    node: &Node,
    certificates: &ca::Certificates,
) -> Result<Option<Arc<rustls::ServerConfig>>, NodeError> {
    let Some(door) = &certificates.door else { return Ok(None) };
    let clients = match node.security.auth {
        Auth::None => ClientAuth::Off,
        // A bearer token will do as well: the door itself asks for one of the two.
        Auth::Optional | Auth::Required => ClientAuth::Optional(Want::Client),
    };
    let pki = match &node.security.client_ca {
        None => certificates.pki.clone(),
        Some(file) => certificates.pki.trusting(ca::trust_in(&topology.cluster.domain, file).map_err(failed)?),
    };
    let mut config = pki.tls_server(door.clone(), clients).map_err(failed)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Some(Arc::new(config)))
}
