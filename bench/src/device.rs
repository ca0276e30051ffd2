//! A device whose container holds so many instances, and which writes without pause while something happens to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use http::Method;
use onemec_device::plain::{Pace, PlainClient, PlainOptions};
use onemec_device::primitive::{self, Primitive, ty};
use onemec_device::{AeClient, Connector, DeviceOptions, Endpoint, Event, MemorySink, Outcome};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::cluster::Nodes;

const CONTAINER: &str = "data";
/// Connections that fill a container.
const LOADERS: u64 = 32;
/// An answer takes no longer while a container is filled; beyond, the loader gives up.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// So often a refused instance is offered again.
const TRIES_MAX: u32 = 50;
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Writes that one observation may hold.
const EVENTS_MAX: usize = 1_000_000;
/// After an observation a write under way may take so long.
const CUT: Duration = Duration::from_secs(2);

/// With what a device talks to the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    /// The device library: follows the cluster's hints.
    Library,
    /// An ordinary HTTP client that knows addresses and nothing else.
    Unmodified,
}

impl Client {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Library => "library",
            Self::Unmodified => "unmodified",
        }
    }
}

/// One device.
pub(crate) struct Device {
    pub(crate) client: Client,
    pub(crate) instances: u64,
    pub(crate) ae_id: String,
    library: AeClient,
    container: String,
    plain: PlainOptions,
    number: u64,
    origin: Instant,
}

impl Device {
    /// Registers it at `home` and fills its container, which keeps as many instances from then on.
    pub(crate) async fn new(nodes: &Nodes, client: Client, instances: u64, home: &str) -> anyhow::Result<Self> {
        let name = format!("{}{instances}", client.name());
        let ae_id = format!("C{name}");
        let origin = Instant::now();
        let door = nodes.door(home)?;
        let more: anyhow::Result<Vec<Endpoint>> =
            nodes.names().iter().filter(|n| *n != home).map(|n| nodes.door(n)).collect();
        let mut options = DeviceOptions::new(door.clone(), ae_id.clone(), name.clone());
        options.more = more?;
        options.origin = origin;
        let mut addresses = vec![door.clone()];
        addresses.extend(options.more.clone());
        let mut library = AeClient::new(options);
        library.register().await?;
        let container = library.create_container(CONTAINER, Some(instances)).await?;
        fill(&door, &ae_id, &container, instances).await?;
        let plain = PlainOptions {
            addresses,
            connector: Connector::default(),
            originator: ae_id.clone(),
            name,
            node_link: None,
            container: CONTAINER.into(),
            cse_id: nodes.cse_id(home),
            bearer: None,
            pace: Pace::new(Duration::ZERO),
            answer_ms_max: 10_000,
            reconnect_ms: 5,
            window_ms: 1000,
            origin,
        };
        Ok(Self { client, instances, ae_id, library, container, plain, number: 0, origin })
    }

    /// Microseconds since the zero of this device's events.
    pub(crate) fn clock(&self) -> impl Fn() -> u64 + Send + 'static {
        let origin = self.origin;
        move || u64::try_from(origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Writes one reading after the other until `meanwhile` has ended.
    pub(crate) async fn write_during<T: Send>(
        &mut self,
        meanwhile: JoinHandle<anyhow::Result<T>>,
    ) -> anyhow::Result<(Vec<Event>, T)> {
        match self.client {
            Client::Library => {
                let mut events = Vec::new();
                while !meanwhile.is_finished() && events.len() < EVENTS_MAX {
                    self.number += 1;
                    let reading = json!({ "n": self.number });
                    events.push(self.library.write(&self.container, self.number, &reading).await);
                }
                Ok((events, meanwhile.await??))
            }
            Client::Unmodified => {
                let sink = Arc::new(MemorySink::new(EVENTS_MAX));
                let (end, ended) = watch::channel(None);
                let client = PlainClient::new(self.plain.clone());
                let writer = tokio::spawn(client.run(|n| json!({ "n": n }), sink.clone(), ended));
                let result = meanwhile.await;
                end.send_replace(Some(tokio::time::Instant::now() + CUT));
                writer.await?;
                Ok((sink.events(), result??))
            }
        }
    }
}

/// Times of the acknowledgements in `events`, rising.
pub(crate) fn acknowledgements(events: &[Event]) -> impl Iterator<Item = u64> + '_ {
    events.iter().filter(|e| e.outcome == Outcome::Acknowledged).map(|e| e.ended_us)
}

/// Writes that were not acknowledged.
pub(crate) fn failures(events: &[Event]) -> usize {
    events.iter().filter(|e| e.outcome != Outcome::Acknowledged).count()
}

async fn fill(door: &Endpoint, ae_id: &str, container: &str, instances: u64) -> anyhow::Result<()> {
    let mut loaders = JoinSet::new();
    for first in 0..LOADERS.min(instances) {
        let (door, ae_id, path) = (door.clone(), ae_id.to_owned(), format!("/{container}"));
        loaders.spawn(async move {
            let mut connection = Connector::default().connect(&door, ANSWER_MAX).await?;
            let mut number = first;
            let mut tries = 0;
            while number < instances {
                let request = Primitive {
                    what: "load",
                    method: Method::POST,
                    path: path.clone(),
                    ty: Some(ty::CONTENT_INSTANCE),
                    body: primitive::content_instance(&json!({ "n": number })),
                    originator: ae_id.clone(),
                    request: format!("load-{number}"),
                    repeat_until_ms: None,
                    handover: None,
                    bearer: None,
                };
                let answer = connection.send(request.to_http()?, ANSWER_MAX).await.context("filling a container")?;
                match answer.status.as_u16() {
                    201 => (number, tries) = (number + LOADERS, 0),
                    // Not applied; the CSE asks for patience.
                    429 | 503 => {
                        tries += 1;
                        ensure!(tries < TRIES_MAX, "filling a container: {}", answer.excerpt());
                        tokio::time::sleep(TRY_AGAIN).await;
                    }
                    status => bail!("filling a container: {status} {}", answer.excerpt()),
                }
            }
            Ok(())
        });
    }
    while let Some(ended) = loaders.join_next().await {
        ended??;
    }
    Ok(())
}
