//! An ordinary oneM2M client over HTTP/1.1 keep-alive, as anybody would write it: it knows one host (and whatever second
//! address or name the topology gives it), sends no extension header and reads none.
//!
//! It writes at an interval and waits for each answer. After an error it reconnects and goes on with the next reading under
//! a new request identifier. A reading whose connection broke before the answer is *unknown*: it is not sent again. Only
//! when the request certainly never left (the connection could not be opened, or was closed while idle) the same reading
//! is sent on the next connection, as every HTTP client does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Method;
use serde_json::Value;
use tokio::sync::watch;

use crate::device::time_is_up;
use crate::error::DeviceError;
use crate::http1::{Answer, Connection, Connector, Endpoint, HttpError};
use crate::meter::Meter;
use crate::primitive::{self, Primitive, ty};
use crate::sink::{self, Event, Outcome, Sink};

/// A pause that can be changed while the client runs.
#[derive(Debug, Clone)]
pub struct Pace(Arc<AtomicU64>);

impl Pace {
    /// Begins with `pause`.
    pub fn new(pause: Duration) -> Self {
        let pace = Self(Arc::new(AtomicU64::new(0)));
        pace.set(pause);
        pace
    }
    /// From the next write on.
    pub fn set(&self, pause: Duration) {
        self.0.store(u64::try_from(pause.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
    /// The pause now.
    pub fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }
}

/// Options of a [`PlainClient`].
#[derive(Debug, Clone)]
pub struct PlainOptions {
    /// Addresses in the order in which they are tried; the first one is where it registers.
    pub addresses: Vec<Endpoint>,
    /// Name resolution and TLS.
    pub connector: Connector,
    /// `X-M2M-Origin`.
    pub originator: String,
    /// Name of the AE resource.
    pub name: String,
    /// `nodeLink` (`nl`): the node that the AE runs on, with which its other AEs move; `None`: it moves alone.
    pub node_link: Option<String>,
    /// Name of its container.
    pub container: String,
    /// CSE-ID of the CSE where it registers, with its slash (`/edge1`): it addresses its container SP-relative.
    pub cse_id: String,
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<String>,
    /// Pause between a write's answer and the next write.
    pub pace: Pace,
    /// Waits so long for an answer (default of ordinary clients is many seconds; here 10).
    pub answer_ms_max: u64,
    /// Pause after a failed connection.
    pub reconnect_ms: u64,
    /// One histogram value per window.
    pub window_ms: u64,
    /// Zero of all recorded times.
    pub origin: Instant,
}

/// What a plain client measured.
#[derive(Debug, Clone)]
pub struct PlainReport {
    /// Gaps and counters.
    pub meter: Meter,
    /// Errors that its program would have seen (answers other than success, broken connections).
    pub errors_seen: u64,
}

/// The client.
pub struct PlainClient {
    options: PlainOptions,
    connection: Option<Connection>,
    address: usize,
    requests: u64,
    ae_id: String,
    meter: Meter,
    errors_seen: u64,
}

impl PlainClient {
    /// Nothing is sent yet.
    pub fn new(options: PlainOptions) -> Self {
        Self {
            connection: None,
            address: 0,
            requests: 0,
            ae_id: options.originator.clone(),
            meter: Meter::new(options.window_ms.saturating_mul(1000)),
            errors_seen: 0,
            options,
        }
    }

    /// Registers the AE and creates its container. Both may be there already.
    ///
    /// # Errors
    /// Refused, or no answer.
    pub async fn register(&mut self) -> Result<String, DeviceError> {
        let body = primitive::ae(&self.options.name, "Nonemec.plain", self.options.node_link.as_deref());
        let base = primitive::CSE_BASE.to_owned();
        let answer = self.ask("registration", base.clone(), ty::AE, body).await?;
        if answer.status.is_success() {
            self.ae_id = primitive::attribute("registration", &answer.body, "m2m:ae", "aei")?;
        } else if answer.rsc() != 4117 && answer.rsc() != 4105 {
            return Err(refused("registration", &answer));
        }
        let body = primitive::container(&self.options.container, None);
        let path = format!("{base}/{}", primitive::segment(&self.options.name));
        let answer = self.ask("creation of a container", path, ty::CONTAINER, body).await?;
        if !answer.status.is_success() && answer.rsc() != 4105 {
            return Err(refused("creation of a container", &answer));
        }
        Ok(self.ae_id.clone())
    }

    /// Writes what `source` gives until `end` says something: then no write begins any more, and one that is still under
    /// way at the instant it names is recorded as unknown. The number that `source` gets rises by one from 1.
    pub async fn run(
        mut self,
        mut source: impl FnMut(u64) -> Value + Send,
        sink: Arc<dyn Sink>,
        mut end: watch::Receiver<Option<tokio::time::Instant>>,
    ) -> PlainReport {
        let mut number = 0;
        while end.borrow().is_none() {
            number += 1;
            self.meter.counters.buffered += 1;
            let event = self.write(number, &source(number), &end).await;
            sink.record(event);
            tokio::select! {
                _ = end.changed() => {}
                () = tokio::time::sleep(self.options.pace.get()) => {}
            }
        }
        PlainReport { meter: self.meter, errors_seen: self.errors_seen }
    }

    async fn write(
        &mut self,
        number: u64,
        content: &Value,
        end: &watch::Receiver<Option<tokio::time::Instant>>,
    ) -> Event {
        let o = &self.options;
        let (ae, cnt) = (primitive::segment(&o.name), primitive::segment(&o.container));
        let path = format!("/~{}{}/{ae}/{cnt}", o.cse_id, primitive::CSE_BASE);
        let request = self.primitive("write", path, ty::CONTENT_INSTANCE, primitive::content_instance(content));
        let invoked_us = self.now_us();
        let mut attempts = 0;
        let cut = time_is_up(end.clone());
        let (outcome, status) = tokio::select! {
            biased;
            ended = self.exchange(&request, end, &mut attempts) => ended,
            () = cut => (Outcome::Unknown, 0),
        };
        let ended_us = self.now_us();
        match outcome {
            Outcome::Acknowledged => self.meter.acknowledged(ended_us),
            Outcome::Refused => self.meter.counters.refused += 1,
            Outcome::Unknown => self.meter.counters.unknown += 1,
        }
        self.errors_seen += u64::from(outcome != Outcome::Acknowledged);
        Event {
            number,
            request: request.request,
            digest: sink::digest(&primitive::content_text(content)),
            invoked_us,
            ended_us,
            attempts,
            outcome,
            status,
        }
    }

    async fn exchange(
        &mut self,
        request: &Primitive,
        end: &watch::Receiver<Option<tokio::time::Instant>>,
        attempts: &mut u32,
    ) -> (Outcome, u16) {
        loop {
            *attempts += 1;
            match self.send(request).await {
                Ok(a) if a.status.is_success() => return (Outcome::Acknowledged, a.status.as_u16()),
                // 4xx and 503: the CSE says that it was not applied. Anything else may have been.
                Ok(a) if a.status.is_client_error() || a.status.as_u16() == 503 => {
                    return (Outcome::Refused, a.status.as_u16());
                }
                Ok(a) => return (Outcome::Unknown, a.status.as_u16()),
                Err(e) if e.never_sent() && end.borrow().is_none() => {
                    if matches!(e, HttpError::Connect { .. }) {
                        tokio::time::sleep(Duration::from_millis(self.options.reconnect_ms)).await;
                    }
                }
                Err(e) if e.never_sent() => return (Outcome::Refused, 0),
                Err(_) => return (Outcome::Unknown, 0),
            }
        }
    }

    async fn ask(&mut self, what: &'static str, path: String, ty: u16, body: Bytes) -> Result<Answer, DeviceError> {
        let request = self.primitive(what, path, ty, body);
        Ok(self.send(&request).await?)
    }

    async fn send(&mut self, request: &Primitive) -> Result<Answer, HttpError> {
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(c) => c,
            None => self.connect().await?,
        };
        let timeout = Duration::from_millis(self.options.answer_ms_max);
        let answer = connection.send(request.to_http()?, timeout).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    async fn connect(&mut self) -> Result<Connection, HttpError> {
        let timeout = Duration::from_millis(self.options.answer_ms_max);
        let mut last = HttpError::BadRequest("the client was given no address".into());
        for _ in 0..self.options.addresses.len() {
            let Some(address) = self.options.addresses.get(self.address) else { break };
            match self.options.connector.connect(address, timeout).await {
                Ok(c) => {
                    self.meter.counters.connections += 1;
                    return Ok(c);
                }
                Err(e) => {
                    last = e;
                    self.address = (self.address + 1) % self.options.addresses.len();
                    self.meter.counters.switches += u64::from(self.options.addresses.len() > 1);
                }
            }
        }
        Err(last)
    }

    fn primitive(&mut self, what: &'static str, path: String, ty: u16, body: Bytes) -> Primitive {
        self.requests += 1;
        Primitive {
            what,
            method: Method::POST,
            path,
            ty: Some(ty),
            body,
            originator: self.ae_id.clone(),
            request: format!("{}-{}", self.options.name, self.requests),
            repeat_until_ms: None,
            handover: None,
            bearer: self.options.bearer.clone(),
        }
    }

    fn now_us(&self) -> u64 {
        u64::try_from(self.options.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

fn refused(what: &'static str, answer: &Answer) -> DeviceError {
    DeviceError::Refused {
        what,
        status: answer.status.as_u16(),
        rsc: answer.rsc(),
        detail: answer.excerpt(),
        home: None,
    }
}
