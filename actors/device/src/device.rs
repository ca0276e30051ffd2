//! A device: an [`AeClient`] behind a bounded buffer, with a worker that writes without pause.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::buffer::{Buffer, Offered, Reading};
use crate::client::{AeClient, MoveSeen, Opened, Switch};
use crate::error::DeviceError;
use crate::http1::Endpoint;
use crate::meter::{Counters, Meter};
use crate::sink::Sink;

/// Orders that wait for the worker.
const ORDERS_MAX: usize = 8;

enum Order {
    Move(Endpoint, oneshot::Sender<Result<(), DeviceError>>),
    Finish,
}

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
    orders: mpsc::Sender<Order>,
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
        let worker = Worker { client, container, sink, shared: shared.clone(), orders: receiver, asked: None };
        let worker = Some(tokio::spawn(worker.run()));
        Ok(Self { shared, orders, worker, ae_id })
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
        self.orders.send(Order::Move(target, reply)).await.map_err(|_| DeviceError::Stopped)?;
        answer.await.unwrap_or(Err(DeviceError::Stopped))
    }

    /// Writes what is in the buffer, at most for `within`, then ends.
    ///
    /// # Errors
    /// [`DeviceError::Stopped`] if it did not end in time (it is stopped then) or has ended before.
    pub async fn finish(mut self, within: Duration) -> Result<DeviceReport, DeviceError> {
        let _ = self.orders.try_send(Order::Finish);
        let Some(worker) = self.worker.as_mut() else { return Err(DeviceError::Stopped) };
        match tokio::time::timeout(within, worker).await {
            Ok(Ok(report)) => Ok(report),
            _ => Err(DeviceError::Stopped),
        }
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

struct Worker {
    client: AeClient,
    container: String,
    sink: Arc<dyn Sink>,
    shared: Arc<Shared>,
    orders: mpsc::Receiver<Order>,
    asked: Option<oneshot::Sender<Result<(), DeviceError>>>,
}

enum Happened {
    Order(Option<Order>),
    Opened(Result<Opened, DeviceError>),
    Woken,
}

impl Worker {
    async fn run(mut self) -> DeviceReport {
        let mut finishing = false;
        loop {
            while let Ok(order) = self.orders.try_recv() {
                finishing |= self.obey(order);
            }
            self.settle_own_move();
            let reading = self.shared.buffer.lock().take();
            match reading {
                Some(reading) => {
                    let event = self.client.write(&self.container, reading.number, &reading.content).await;
                    self.sink.record(event);
                    *self.shared.state.lock() = snapshot(&self.client);
                }
                None if finishing => break,
                None => match self.wait().await {
                    Happened::Woken => {}
                    Happened::Order(None) => break,
                    Happened::Order(Some(order)) => finishing |= self.obey(order),
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

    fn obey(&mut self, order: Order) -> bool {
        match order {
            Order::Finish => return true,
            Order::Move(target, reply) => match self.client.begin_move(target) {
                Ok(()) => self.asked = Some(reply),
                Err(e) => {
                    let _ = reply.send(Err(e));
                }
            },
        }
        false
    }

    async fn wait(&mut self) -> Happened {
        match &mut self.client.opening {
            None => tokio::select! {
                order = self.orders.recv() => Happened::Order(order),
                () = self.shared.wake.notified() => Happened::Woken,
            },
            Some(opening) => tokio::select! {
                order = self.orders.recv() => Happened::Order(order),
                () = self.shared.wake.notified() => Happened::Woken,
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
