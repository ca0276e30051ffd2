//! The demo's devices: each is a oneM2M client of its own with a source of its own.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onemec_device::http1::Resolve;
use onemec_device::{
    AeClient, Device, DeviceOptions, Endpoint, Event, MemorySink, Outcome, Pace, PlainClient, PlainOptions,
    PlainReport, Reading,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::DemoError;
use super::report::ClientKind;
use super::sources::{self, Source};
use crate::steering::dns::client::StubResolver;
use crate::topology::{Node, Topology};

/// Every fourth device is an unmodified client.
pub const UNMODIFIED_EVERY: usize = 4;
/// Of so many devices four are pairs: an unmodified client with a device of the library, and two of the library.
const PAIRS_EVERY: usize = 8;
/// Name of each device's container.
pub const CONTAINER: &str = "data";
/// Events kept per device: many times what a run makes.
const EVENTS_MAX: usize = 2_000_000;
/// How long a device may empty its buffer at the end.
const FINISH: Duration = Duration::from_secs(20);

/// One device.
pub struct Member {
    /// Its name: also the name of its AE.
    pub name: String,
    /// Its AE-ID.
    pub ae_id: String,
    /// Its kind of client.
    pub client: ClientKind,
    /// SP-relative address of its container, as its first registrar gave it.
    pub address: String,
    /// Pause between its readings.
    pub pace: Pace,
    /// What became of its writes.
    pub sink: Arc<MemorySink>,
    /// Index of the other AE of its oneM2M node, with which it moves.
    pub mate: Option<usize>,
    /// Held while it moves: a device moves once at a time, and a pair is one device.
    pub moving: Arc<tokio::sync::Mutex<()>>,
    runner: Runner,
}

/// Says when a device must have ended.
type End = watch::Sender<Option<tokio::time::Instant>>;

enum Runner {
    Library { device: Arc<Device>, end: End, feeder: JoinHandle<()> },
    Plain { end: End, task: JoinHandle<PlainReport> },
}

/// What a fleet starts with.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Number of devices.
    pub devices: usize,
    /// Pause between readings when nothing is being measured.
    pub pace: Duration,
    /// Seed.
    pub seed: u64,
    /// Zero of all times.
    pub origin: Instant,
}

/// All devices.
pub struct Fleet {
    /// In the order of the mobility trace.
    pub members: Vec<Member>,
    /// Distinct sources.
    pub sources: usize,
    /// Zero of all times.
    pub origin: Instant,
}

/// What the fleet counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Attempts beyond the first.
    pub retried: u64,
    /// Lost by full buffers.
    pub dropped: u64,
    /// Still in the devices' buffers when the run ended: never sent.
    pub unsent: u64,
}

impl Fleet {
    /// Registers the devices at `homes` and starts them.
    ///
    /// # Errors
    /// If one cannot register.
    pub async fn start(t: &Topology, homes: &[&Node], options: &FleetOptions) -> Result<Self, DemoError> {
        let all = sources::catalogue(Path::new("/"));
        let mut members: Vec<Member> = Vec::new();
        for (i, home) in homes.iter().enumerate().take(options.devices) {
            let name = format!("device-{:03}", i + 1);
            let Some(mut source) = all.get(i % all.len().max(1)).cloned() else { break };
            if i >= all.len() {
                source.name = format!("{}-{}", source.name, i / all.len() + 1);
            }
            let fault = |source| DemoError::Device { device: name.clone(), source };
            let unmodified = i % UNMODIFIED_EVERY == UNMODIFIED_EVERY - 1;
            let link = node_link(i);
            let link = link.as_deref();
            let mut member = if unmodified {
                plain(t, home, &name, link, source, options).await.map_err(fault)?
            } else {
                library(home, &name, link, source, options, i).await.map_err(fault)?
            };
            member.mate = mate(i).filter(|m| *m < homes.len().min(options.devices));
            if let Some(first) = member.mate.and_then(|m| members.get(m)) {
                member.moving = first.moving.clone();
            }
            members.push(member);
        }
        let sources = members.len().min(all.len());
        Ok(Self { members, sources, origin: options.origin })
    }

    /// A device, and its mate if it has one: what a move of it carries.
    pub fn together(&self, device: usize) -> Vec<usize> {
        let mate = self.members.get(device).and_then(|m| m.mate);
        std::iter::once(device).chain(mate).collect()
    }

    /// AE-IDs of the pairs.
    pub fn bundles(&self) -> Vec<Vec<String>> {
        let first = self.members.iter().enumerate().filter_map(|(i, m)| Some((m, m.mate.filter(|mate| i < *mate)?)));
        first.filter_map(|(m, mate)| Some(vec![m.ae_id.clone(), self.members.get(mate)?.ae_id.clone()])).collect()
    }

    /// Microseconds since the origin.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Stops everything; buffers are emptied first.
    pub async fn stop(self) -> (Vec<Stopped>, Totals) {
        let mut totals = Totals::default();
        let mut stopped = Vec::new();
        let mut ending = Vec::new();
        for member in self.members {
            ending.push(tokio::spawn(member.stop()));
        }
        for end in ending {
            if let Ok((member, of_member)) = end.await {
                totals.retried += of_member.retried;
                totals.dropped += of_member.dropped;
                totals.unsent += of_member.unsent;
                stopped.push(member);
            }
        }
        (stopped, totals)
    }
}

/// The other one of the pair that the device with this index belongs to.
pub fn mate(device: usize) -> Option<usize> {
    match device % PAIRS_EVERY {
        2 | 4 => Some(device + 1),
        3 | 5 => Some(device - 1),
        _ => None,
    }
}

/// `nl` of a pair.
fn node_link(device: usize) -> Option<String> {
    mate(device).map(|mate| format!("/cloud/demo-pair-{}", device.min(mate) + 1))
}

/// A device that has ended.
#[derive(Debug, Clone)]
pub struct Stopped {
    /// Its name.
    pub name: String,
    /// Its AE-ID.
    pub ae_id: String,
    /// Where its readings are.
    pub address: String,
    /// All its writes.
    pub events: Vec<Event>,
    /// It did not end as it should: the history may miss its last write.
    pub problem: Option<String>,
}

impl Member {
    /// The device, unless this is an unmodified client.
    pub fn device(&self) -> Option<Arc<Device>> {
        match &self.runner {
            Runner::Library { device, .. } => Some(device.clone()),
            Runner::Plain { .. } => None,
        }
    }

    /// The longest gap that touches the time from `from_us` to `to_us`, and the errors that its program saw then.
    pub fn gap(&self, from_us: u64, to_us: u64) -> (Option<u64>, u64) {
        gap(&self.sink.events(), from_us, to_us)
    }

    /// A write that began after `since_us` was acknowledged.
    pub fn wrote_since(&self, since_us: u64) -> bool {
        self.sink.any_since(since_us)
    }

    async fn stop(self) -> (Stopped, Totals) {
        let (mut totals, mut problem) = (Totals::default(), None);
        let until = tokio::time::Instant::now() + FINISH;
        match self.runner {
            Runner::Library { device, end, feeder } => {
                end.send_replace(Some(until));
                let _ = feeder.await;
                match Arc::into_inner(device) {
                    Some(device) => match device.finish(FINISH).await {
                        Ok(report) => {
                            totals.retried = report.meter.counters.retried;
                            totals.dropped = report.meter.counters.dropped;
                            totals.unsent = u64::try_from(report.left_in_buffer).unwrap_or(u64::MAX);
                        }
                        Err(_) => problem = Some("it crashed".to_owned()),
                    },
                    None => problem = Some("it was still in use".to_owned()),
                }
            }
            Runner::Plain { end, task } => {
                end.send_replace(Some(until));
                if task.await.is_err() {
                    problem = Some("it crashed".to_owned());
                }
            }
        }
        if self.sink.overflowed() > 0 {
            problem = Some("its history is longer than can be kept".into());
        }
        let events = self.sink.events();
        let stopped = Stopped { name: self.name, ae_id: self.ae_id, address: self.address, events, problem };
        (stopped, totals)
    }
}

/// See [`Member::gap`].
pub fn gap(events: &[Event], from_us: u64, to_us: u64) -> (Option<u64>, u64) {
    let acks = events.iter().filter(|e| e.outcome == Outcome::Acknowledged).map(|e| e.ended_us);
    let errors = events
        .iter()
        .filter(|e| e.outcome != Outcome::Acknowledged && e.ended_us >= from_us && e.invoked_us <= to_us)
        .count();
    (onemec_device::meter::gap_through(acks, from_us, to_us), u64::try_from(errors).unwrap_or(u64::MAX))
}

async fn library(
    home: &Node,
    name: &str,
    node_link: Option<&str>,
    mut source: Source,
    options: &FleetOptions,
    index: usize,
) -> Result<Member, onemec_device::DeviceError> {
    let mut o = DeviceOptions::new(endpoint(&home.poa())?, format!("C{name}"), name);
    o.origin = options.origin;
    o.seed = options.seed.wrapping_add(index as u64).wrapping_mul(0x2545_F491_4F6C_DD1D);
    o.bearer = home.security.tokens.get(&format!("C{name}")).cloned();
    o.node_link = node_link.map(str::to_owned);
    let mut client = AeClient::new(o);
    let ae_id = client.register().await?;
    let container = client.create_container(CONTAINER, None).await?;
    let address = format!("/~{}/{container}", home.cse_id);
    let sink = Arc::new(MemorySink::new(EVENTS_MAX));
    let device = Arc::new(Device::start(client, container, sink.clone())?);
    let (end, ended) = watch::channel(None);
    let pace = Pace::new(options.pace);
    let (feed, feed_pace, feed_name) = (device.clone(), pace.clone(), name.to_owned());
    let usual = options.pace;
    let feeder = tokio::spawn(async move {
        let mut number = 0;
        while ended.borrow().is_none() {
            let pause = feed_pace.get();
            // Faster than usual means "without pause": the next reading when the last one is answered.
            if pause >= usual || feed.waiting() == 0 {
                number += 1;
                feed.offer(Reading { number, content: source.content(&feed_name, number) });
            }
            tokio::time::sleep(pause).await;
        }
    });
    Ok(Member {
        name: name.to_owned(),
        ae_id,
        client: ClientKind::Library,
        address,
        pace,
        sink,
        mate: None,
        moving: Arc::default(),
        runner: Runner::Library { device, end, feeder },
    })
}

async fn plain(
    t: &Topology,
    home: &Node,
    name: &str,
    node_link: Option<&str>,
    mut source: Source,
    options: &FleetOptions,
) -> Result<Member, onemec_device::DeviceError> {
    let mut addresses = Vec::new();
    for address in t.client_addresses(home) {
        addresses.push(endpoint(&address)?);
    }
    // What the system's resolver would do, were our servers known to it.
    let servers = t.dns_servers();
    let resolver = (!servers.is_empty()).then(|| Arc::new(StubResolver::new(servers)) as Arc<dyn Resolve>);
    let pace = Pace::new(options.pace);
    let mut client = PlainClient::new(PlainOptions {
        addresses,
        connector: onemec_device::Connector { resolver, ..Default::default() },
        originator: format!("C{name}"),
        name: name.to_owned(),
        node_link: node_link.map(str::to_owned),
        container: CONTAINER.to_owned(),
        cse_id: home.cse_id.clone(),
        bearer: home.security.tokens.get(&format!("C{name}")).cloned(),
        pace: pace.clone(),
        answer_ms_max: 10_000,
        reconnect_ms: 10,
        window_ms: 1000,
        origin: options.origin,
    });
    let ae_id = client.register().await?;
    let sink = Arc::new(MemorySink::new(EVENTS_MAX));
    let (end, ended) = watch::channel(None);
    let device = name.to_owned();
    let task = tokio::spawn(client.run(move |n| source.content(&device, n), sink.clone(), ended));
    Ok(Member {
        name: name.to_owned(),
        ae_id,
        client: ClientKind::Unmodified,
        address: format!("/~{}/-/{name}/{CONTAINER}", home.cse_id),
        pace,
        sink,
        mate: None,
        moving: Arc::default(),
        runner: Runner::Plain { end, task },
    })
}

pub(crate) fn endpoint(url: &str) -> Result<Endpoint, onemec_device::DeviceError> {
    url.parse().map_err(|e: onemec_device::http1::BadEndpoint| onemec_device::DeviceError::BadAnswer {
        what: "point of access",
        detail: e.to_string(),
    })
}
