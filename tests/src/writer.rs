//! A device that writes numbered readings without pause and repeats each one until it knows what became of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use onemec_device::sink::digest;
use onemec_device::{Endpoint, Event, MemorySink, Outcome, Sink as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Ask, Client, reading_text};
use crate::cluster::Cluster;
use crate::wait::until;

/// A silent host is left after this time.
const ATTEMPT: Duration = Duration::from_millis(800);
/// A reading is repeated for so long.
const REPEAT: Duration = Duration::from_secs(20);
/// Pause after a reading and before a repetition: a device, not a flood.
const PACE: Duration = Duration::from_millis(4);
/// A history is no longer.
const EVENTS_MAX: usize = 100_000;

/// What identifies a device and where its readings are.
#[derive(Debug, Clone)]
pub struct Device {
    /// Name of the AE.
    pub name: String,
    /// AE-ID.
    pub ae_id: String,
    /// SP-relative address of its container, by its first registrar.
    pub container: String,
}

/// A running writer.
pub struct Writer {
    /// Who writes.
    pub device: Device,
    sink: Arc<MemorySink>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    origin: Instant,
}

/// A writer that has ended.
#[derive(Debug, Clone)]
pub struct Written {
    /// Who wrote.
    pub device: Device,
    /// Everything in order.
    pub events: Vec<Event>,
}

/// Registers an AE with a container at a node.
pub async fn device(cluster: &Cluster, name: &str, at: &str) -> Device {
    let ae_id = format!("C{name}");
    cluster.client(at, &ae_id).register_with_data(name).await;
    let cse_id = &cluster.topology().node(at).unwrap().cse_id;
    Device { name: name.into(), container: format!("/~{cse_id}/-/{name}/data"), ae_id }
}

impl Writer {
    /// Registers a device at a node and writes through that node's door, or the others' when it fails.
    pub async fn start(cluster: &Cluster, name: &str, at: &str) -> Self {
        let device = device(cluster, name, at).await;
        Self::of(cluster, device, cluster.doors(at))
    }

    /// Writes for a device that is registered, through these doors.
    pub fn of(cluster: &Cluster, device: Device, doors: Vec<Endpoint>) -> Self {
        let sink = Arc::new(MemorySink::new(EVENTS_MAX));
        let (stop, stopped) = watch::channel(false);
        let origin = cluster.origin;
        let mut clients: Vec<Client> = doors.into_iter().map(|d| cluster.client_of(d, &device.ae_id)).collect();
        clients.iter_mut().for_each(|c| c.patience = ATTEMPT);
        let task = tokio::spawn(run(device.clone(), clients, sink.clone(), stopped, origin));
        Self { device, sink, stop, task, origin }
    }

    /// Waits until `n` further readings that begin from now on are acknowledged.
    pub async fn writes(&self, n: usize) {
        let since = micros(self.origin);
        let fresh = |e: &&Event| e.outcome == Outcome::Acknowledged && e.invoked_us >= since;
        until(&format!("{} writes {n} readings", self.device.name), async || {
            assert!(!self.task.is_finished(), "the writer has ended");
            (self.sink.events().iter().rev().take_while(|e| e.invoked_us >= since).filter(fresh).count() >= n)
                .then_some(())
        })
        .await;
    }

    /// Ends after the reading under way.
    pub async fn finish(self) -> Written {
        self.stop.send_replace(true);
        self.task.await.unwrap();
        assert_eq!(self.sink.overflowed(), 0);
        Written { device: self.device, events: self.sink.events() }
    }
}

/// Waits until each has `n` further readings acknowledged.
pub async fn all_write(writers: &[Writer], n: usize) {
    for writer in writers {
        writer.writes(n).await;
    }
}

impl Written {
    /// The longest time between two neighbouring acknowledgements.
    pub fn longest_gap(&self) -> Duration {
        let ends: Vec<u64> =
            self.events.iter().filter(|e| e.outcome == Outcome::Acknowledged).map(|e| e.ended_us).collect();
        let gap = ends.iter().zip(ends.iter().skip(1)).map(|(a, b)| b.saturating_sub(*a)).max();
        Duration::from_micros(gap.unwrap_or(0))
    }

    /// Every reading was acknowledged.
    pub fn assert_all_acknowledged(&self) {
        for e in &self.events {
            assert_eq!(e.outcome, Outcome::Acknowledged, "{}: {e:?}", self.device.name);
        }
    }
}

fn micros(origin: Instant) -> u64 {
    u64::try_from(origin.elapsed().as_micros()).unwrap()
}

/// Now plus `more`, as `X-Onemec-Repeat` counts.
pub fn repeat_until(more: Duration) -> u128 {
    (SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + more).as_millis()
}

async fn run(
    device: Device,
    mut clients: Vec<Client>,
    sink: Arc<MemorySink>,
    stop: watch::Receiver<bool>,
    origin: Instant,
) {
    let (mut at, mut number) = (0, 0);
    while !*stop.borrow() {
        number += 1;
        let request = format!("{}-{number}", device.name);
        let ask = Ask::reading(&device.container, number)
            .named(&request)
            .with("x-onemec-repeat", repeat_until(REPEAT + Duration::from_secs(10)));
        let (begun, invoked_us) = (Instant::now(), micros(origin));
        let (mut attempts, mut status) = (0, 0);
        let outcome = loop {
            attempts += 1;
            let answer = clients[at].send(&ask).await;
            status = answer.as_ref().map_or(status, |a| a.status.as_u16());
            match answer {
                Ok(a) if a.status.is_success() => break Outcome::Acknowledged,
                Ok(a) if a.status.is_client_error() && status != 429 => break Outcome::Refused,
                // 5xx, 429, silence, a broken connection: the same request again, at the next door.
                _ if begun.elapsed() > REPEAT => break Outcome::Unknown,
                _ => {}
            }
            at = (at + 1) % clients.len();
            tokio::time::sleep(PACE).await;
        };
        let (digest, ended_us) = (digest(&reading_text(number)), micros(origin));
        sink.record(Event { number, request, digest, invoked_us, ended_us, attempts, outcome, status });
        tokio::time::sleep(PACE).await;
    }
}
