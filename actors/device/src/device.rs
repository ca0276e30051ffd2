//! A device: an [`AeClient`] behind a bounded buffer, with a worker that writes without pause.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::buffer::{Buffer, Offered, Reading};
use crate::client::{AeClient, MoveSeen, Opened, Switch};
use crate::error::DeviceError;
use crate::http1::Endpoint;
use crate::meter::{Counters, Meter};
use crate::sink::Sink;

/// Orders that wait for the worker.
const ORDERS_MAX: usize = 8;

struct MoveOrder(Endpoint, oneshot::Sender<Result<(), DeviceError>>);

struct Shared {
    buffer: Mutex<Buffer>,
    offered: Mutex<(u64, u64)>,
    wake: Notify,
    state: Mutex<Snapshot>,
}

/// The worker's state as the last write left it.
#[derive(Debug, Clone)]
struct Snapshot {
    counters: Counters,
    at: Endpoint,
    peers: Vec<Endpoint>,
    last_ack_us: Option<u64>,
}

/// What a device measured.
#[derive(Debug, Clone)]
pub struct DeviceReport {
    /// The AE.
    pub ae_id: String,
    /// Gaps and counters.
    pub meter: Meter,
    /// Moves as the device felt them.
    pub moves: Vec<MoveSeen>,
    /// Readings that were still in the buffer at the end.
    pub left_in_buffer: usize,
}

/// A running device. Dropping it stops the worker at once; [`Device::finish`] lets it empty its buffer.
pub struct Device {
    shared: Arc<Shared>,
    orders: mpsc::Sender<MoveOrder>,
    /// Until when the worker may empty its buffer, once it is to end.
    end: watch::Sender<Option<Instant>>,
    worker: Option<JoinHandle<DeviceReport>>,
    ae_id: String,
}

impl Drop for Device {
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.abort();
        }
    }
}

impl Device {
    /// Starts the worker of a registered client; readings go into `container` (a resource id).
    ///
    /// # Errors
    /// If the client is not registered.
    pub fn start(client: AeClient, container: String, sink: Arc<dyn Sink>) -> Result<Self, DeviceError> {
        let ae_id = client.ae_id().ok_or(DeviceError::NotReady("register the AE first"))?.to_owned();
        let shared = Arc::new(Shared {
            buffer: Mutex::new(Buffer::new(client.options.buffer_readings_max, client.options.overflow)),
            offered: Mutex::new((0, 0)),
            wake: Notify::new(),
            state: Mutex::new(snapshot(&client)),
        });
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let (end, ending) = watch::channel(None);
        let worker =
            Worker { client, container, sink, shared: shared.clone(), orders: receiver, end: ending, asked: None };
        let worker = Some(tokio::spawn(worker.run()));
        Ok(Self { shared, orders, end, worker, ae_id })
    }

    /// Hands over a reading; never waits.
    pub fn offer(&self, reading: Reading) -> Offered {
        let offered = self.shared.buffer.lock().offer(reading);
        {
            let mut counts = self.shared.offered.lock();
            match offered {
                Offered::Buffered => counts.0 += 1,
                Offered::DroppedOldest => {
                    counts.0 += 1;
                    counts.1 += 1;
                }
                Offered::Refused => counts.1 += 1,
            }
        }
        self.shared.wake.notify_one();
        offered
    }

    /// Moves to another host by the device's own choice while it writes on (make before break).
    ///
    /// # Errors
    /// See [`AeClient::move_to`].
    pub async fn move_to(&self, target: Endpoint) -> Result<(), DeviceError> {
        let (reply, answer) = oneshot::channel();
        self.orders.send(MoveOrder(target, reply)).await.map_err(|_| DeviceError::Stopped)?;
        answer.await.unwrap_or(Err(DeviceError::Stopped))
    }

    /// Writes what is in the buffer, at most for `within`, then ends. A write that is under way when the time is up is
    /// recorded as [`crate::Outcome::Unknown`]; what was never sent is counted in [`DeviceReport::left_in_buffer`].
    ///
    /// # Errors
    /// [`DeviceError::Stopped`] if the worker has ended before.
    pub async fn finish(mut self, within: Duration) -> Result<DeviceReport, DeviceError> {
        self.end.send_replace(Some(Instant::now() + within));
        let Some(worker) = self.worker.take() else { return Err(DeviceError::Stopped) };
        worker.await.map_err(|_| DeviceError::Stopped)
    }

    /// The AE-ID.
    pub fn ae_id(&self) -> &str {
        &self.ae_id
    }
    /// Where it writes to.
    pub fn at(&self) -> Endpoint {
        self.shared.state.lock().at.clone()
    }
    /// The points of access that the cluster told.
    pub fn peers(&self) -> Vec<Endpoint> {
        self.shared.state.lock().peers.clone()
    }
    /// Counters so far.
    pub fn counters(&self) -> Counters {
        let (buffered, dropped) = *self.shared.offered.lock();
        Counters { buffered, dropped, ..self.shared.state.lock().counters }
    }
    /// The last acknowledgement.
    pub fn last_ack_us(&self) -> Option<u64> {
        self.shared.state.lock().last_ack_us
    }
    /// How many readings wait.
    pub fn waiting(&self) -> usize {
        self.shared.buffer.lock().len()
    }
}

fn snapshot(client: &AeClient) -> Snapshot {
    Snapshot {
        counters: client.meter().counters,
        at: client.at().clone(),
        peers: client.peers().to_vec(),
        last_ack_us: client.meter().last_ack_us(),
    }
}

/// Ends when the end was ordered and its time has come.
pub(crate) async fn time_is_up(mut end: watch::Receiver<Option<Instant>>) {
    let at = end.wait_for(Option::is_some).await.ok().and_then(|at| *at);
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        // Nobody is left who could order it.
        None => std::future::pending().await,
    }
}

struct Worker {
    client: AeClient,
    container: String,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<MoveOrder>,
    end: watch::Receiver<Option<Instant>>,
    asked: Option<oneshot::Sender<Result<(), DeviceError>>>,
}

enum Happened {
    Order(Option<MoveOrder>),
    Opened(Result<Opened, DeviceError>),
    Woken,
}

impl Worker {
    async fn run(mut self) -> DeviceReport {
        loop {
            while let Ok(order) = self.orders.try_recv() {
                self.obey(order);
            }
            self.settle_own_move();
            let end = *self.end.borrow();
            if end.is_some_and(|at| Instant::now() >= at) {
                break;
            }
            let reading = self.shared.buffer.lock().take();
            match reading {
                Some(reading) => {
                    let cut = time_is_up(self.end.clone());
                    let event = self.client.write_until(&self.container, reading.number, &reading.content, cut).await;
                    self.sink.record(event);
                    *self.shared.state.lock() = snapshot(&self.client);
                }
                None if end.is_some() => break,
                None => match self.wait().await {
                    Happened::Woken => {}
                    Happened::Order(None) => break,
                    Happened::Order(Some(order)) => self.obey(order),
                    Happened::Opened(opened) => self.opened(opened),
                },
            }
        }
        let (buffered, dropped) = *self.shared.offered.lock();
        self.client.meter.counters.buffered = buffered;
        self.client.meter.counters.dropped = dropped;
        DeviceReport {
            ae_id: self.client.ae_id().unwrap_or_default().to_owned(),
            moves: self.client.moves(),
            meter: self.client.meter.clone(),
            left_in_buffer: self.shared.buffer.lock().len(),
        }
    }

    fn obey(&mut self, MoveOrder(target, reply): MoveOrder) {
        match self.client.begin_move(target) {
            Ok(()) => self.asked = Some(reply),
            Err(e) => {
                let _ = reply.send(Err(e));
            }
        }
    }

    async fn wait(&mut self) -> Happened {
        match &mut self.client.opening {
            None => tokio::select! {
                order = self.orders.recv() => Happened::Order(order),
                () = self.shared.wake.notified() => Happened::Woken,
                _ = self.end.changed() => Happened::Woken,
            },
            Some(opening) => tokio::select! {
                order = self.orders.recv() => Happened::Order(order),
                () = self.shared.wake.notified() => Happened::Woken,
                _ = self.end.changed() => Happened::Woken,
                opened = opening.ended() => Happened::Opened(opened),
            },
        }
    }

    fn settle_own_move(&mut self) {
        if let Some(opened) = self.client.own_move_ended() {
            self.opened(opened);
        }
    }

    fn opened(&mut self, opened: Result<Opened, DeviceError>) {
        let Some(opening) = self.client.opening.take() else { return };
        let result = self.client.adopt(&opening, opened);
        if opening.kind() == Switch::Own
            && let Some(reply) = self.asked.take()
        {
            let _ = reply.send(result);
        }
        *self.shared.state.lock() = snapshot(&self.client);
    }
}
