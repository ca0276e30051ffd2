//! An AE's session with the cluster: one request at a time, repeated until it is answered, wherever its context lives.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use crate::error::DeviceError;
use crate::extensions::Hints;
use crate::http1::{Answer, Connection, Connector, Endpoint, HttpError};
use crate::meter::Meter;
use crate::options::DeviceOptions;
use crate::points::Points;
use crate::primitive::{self, Primitive, ty};
use crate::retry::{Backoff, spread_ms};
use crate::sink::{self, Event, Outcome};

/// So many of the latest moves are kept.
pub const MOVES_MAX: usize = 1024;
/// After a failed attempt to open a connection to a new home, wait so long before the next.
const REOPEN: Duration = Duration::from_millis(200);
/// oneM2M: CONFLICT, ORIGINATOR_HAS_ALREADY_REGISTERED.
const TAKEN: [u32; 2] = [4105, 4117];

/// Why the device goes on at another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    /// An answer said where the AE is served now.
    Steered,
    /// The device asked for it.
    Own,
    /// Its host did not answer any more.
    Fallback,
}

/// A move as the device felt it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveSeen {
    /// Why.
    pub kind: Switch,
    /// From where.
    pub from: String,
    /// To where.
    pub to: String,
    /// Epoch of the new home, 0 if it was not said.
    pub epoch: u64,
    /// Start of the exchange in which the device noticed.
    pub noticed_us: u64,
    /// First acknowledgement through the new connection.
    pub first_ack_us: u64,
    /// Longest gap between acknowledgements from noticing to that first one, new connection and TLS included.
    pub gap_us: u64,
}

/// A connection being opened beside the one in use.
pub(crate) struct Opening {
    pub(crate) to: Endpoint,
    kind: Switch,
    noticed_us: u64,
    task: JoinHandle<Result<Opened, DeviceError>>,
}

pub(crate) struct Opened {
    connection: Connection,
    answer: Option<Answer>,
}

impl Opening {
    /// Waits for the end of the opening.
    pub(crate) async fn ended(&mut self) -> Result<Opened, DeviceError> {
        (&mut self.task).await.unwrap_or(Err(DeviceError::Stopped))
    }
    fn is_finished(&self) -> bool {
        self.task.is_finished()
    }
    pub(crate) fn kind(&self) -> Switch {
        self.kind
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One AE. Calls take `&mut self`: an AE has one request under way, which keeps its readings in order.
pub struct AeClient {
    pub(crate) options: DeviceOptions,
    connector: Connector,
    points: Points,
    connection: Option<Connection>,
    pub(crate) opening: Option<Opening>,
    reopen_at: Instant,
    served_by: Endpoint,
    switching: Option<(Switch, u64)>,
    moves: VecDeque<MoveSeen>,
    pub(crate) meter: Meter,
    backoff: Backoff,
    random: fastrand::Rng,
    session: u64,
    requests: u64,
    ae_id: Option<String>,
    token: Option<String>,
}

impl AeClient {
    /// Nothing is sent before [`AeClient::register`].
    pub fn new(options: DeviceOptions) -> Self {
        let mut random = fastrand::Rng::with_seed(options.seed);
        let session = random.u64(..);
        Self {
            connector: Connector { tls: options.tls.clone(), ..Connector::default() },
            points: Points::new(options.home.clone(), options.more.clone()),
            connection: None,
            opening: None,
            reopen_at: Instant::now(),
            served_by: options.home.clone(),
            switching: None,
            moves: VecDeque::new(),
            meter: Meter::new(options.window_ms.saturating_mul(1000)),
            backoff: Backoff::new(options.backoff_ms_min, options.backoff_ms_max),
            random,
            session,
            requests: 0,
            ae_id: None,
            token: None,
            options,
        }
    }

    /// Registers the AE, or takes up the registration that this originator already has. Its AE-ID.
    ///
    /// # Errors
    /// Refused (also when somebody else has the name), or no answer in time.
    pub async fn register(&mut self) -> Result<String, DeviceError> {
        let what = "registration";
        let body = primitive::ae(&self.options.name, &self.options.app_id, self.options.node_link.as_deref());
        let request = self.primitive(what, Method::POST, primitive::CSE_BASE.into(), Some(ty::AE), body);
        let answer = self.exchange(&request).await?;
        let (id, new) = if answer.status.is_success() {
            (primitive::attribute(what, &answer.body, "m2m:ae", "aei")?, true)
        } else if TAKEN.contains(&answer.rsc()) {
            let path = format!("{}/{}", primitive::CSE_BASE, primitive::segment(&self.options.name));
            let own = self.retrieve("registration", path).await.map_err(|_| refused(what, &answer))?;
            (primitive::attribute(what, &own.body, "m2m:ae", "aei")?, false)
        } else {
            return Err(refused(what, &answer));
        };
        if !new && id != self.options.originator {
            return Err(refused(what, &answer));
        }
        self.ae_id = Some(id.clone());
        Ok(id)
    }

    /// Creates a container below the AE, or finds the one that is there. Its resource id, which stays valid wherever the
    /// AE moves.
    ///
    /// # Errors
    /// Refused, or no answer in time.
    pub async fn create_container(&mut self, name: &str, instances_max: Option<u64>) -> Result<String, DeviceError> {
        let what = "creation of a container";
        let ae = self.ae_id.clone().ok_or(DeviceError::NotReady("register the AE first"))?;
        let body = primitive::container(name, instances_max);
        let request = self.primitive(what, Method::POST, format!("/{ae}"), Some(ty::CONTAINER), body);
        let answer = self.exchange(&request).await?;
        if answer.status.is_success() {
            return primitive::attribute(what, &answer.body, "m2m:cnt", "ri");
        }
        if !TAKEN.contains(&answer.rsc()) {
            return Err(refused(what, &answer));
        }
        let (ae, cnt) = (primitive::segment(&self.options.name), primitive::segment(name));
        let found = self.retrieve(what, format!("{}/{ae}/{cnt}", primitive::CSE_BASE)).await?;
        primitive::attribute(what, &found.body, "m2m:cnt", "ri")
    }

    /// Writes one reading and says what became of it.
    pub async fn write(&mut self, container: &str, number: u64, content: &serde_json::Value) -> Event {
        self.write_until(container, number, content, std::future::pending()).await
    }

    /// As [`AeClient::write`]; a write under way when `cut` ends is given up, and its outcome is unknown: whoever keeps a
    /// history must hear of every request that went out.
    pub(crate) async fn write_until(
        &mut self,
        container: &str,
        number: u64,
        content: &serde_json::Value,
        cut: impl Future<Output = ()>,
    ) -> Event {
        let invoked_us = self.now_us();
        let body = primitive::content_instance(content);
        let path = format!("/{container}");
        let request = self.primitive("write", Method::POST, path, Some(ty::CONTENT_INSTANCE), body);
        let mut tried = Tried::default();
        let result = tokio::select! {
            biased;
            result = self.exchange_counted(&request, &mut tried) => Some(result),
            () = cut => None,
        };
        let ended_us = self.now_us();
        let (outcome, status) = match &result {
            Some(Ok(a)) if a.status.is_success() => (Outcome::Acknowledged, a.status.as_u16()),
            // An earlier attempt whose end nobody saw may have been applied, whatever the last answer says.
            Some(Ok(a)) if a.status.is_client_error() && !tried.unseen => (Outcome::Refused, a.status.as_u16()),
            Some(Ok(a)) => (Outcome::Unknown, a.status.as_u16()),
            Some(Err(_)) | None => (Outcome::Unknown, 0),
        };
        match outcome {
            Outcome::Acknowledged => self.write_acknowledged(ended_us),
            Outcome::Refused => self.meter.counters.refused += 1,
            Outcome::Unknown => self.meter.counters.unknown += 1,
        }
        let attempts = tried.attempts;
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

    /// Retrieves a resource.
    ///
    /// # Errors
    /// Refused, or no answer in time.
    pub async fn retrieve(&mut self, what: &'static str, path: String) -> Result<Answer, DeviceError> {
        let mut request = self.primitive(what, Method::GET, path, None, Bytes::new());
        request.repeat_until_ms = None;
        let answer = self.exchange(&request).await?;
        if answer.status.is_success() { Ok(answer) } else { Err(refused(what, &answer)) }
    }

    /// Moves to `target` by the device's own choice (rows H04, S04): re-registers there with the handover token, then goes
    /// on there.
    ///
    /// # Errors
    /// No token yet; or the target refused, and if another registration has won, the error names its home. The device
    /// goes on where it was.
    pub async fn move_to(&mut self, target: Endpoint) -> Result<(), DeviceError> {
        self.begin_move(target)?;
        let Some(mut opening) = self.opening.take() else { return Err(DeviceError::Stopped) };
        let opened = opening.ended().await;
        self.adopt(&opening, opened)
    }

    /// The AE-ID, once registered.
    pub fn ae_id(&self) -> Option<&str> {
        self.ae_id.as_deref()
    }
    /// Where requests go.
    pub fn at(&self) -> &Endpoint {
        self.points.at()
    }
    /// The points of access that the cluster told.
    pub fn peers(&self) -> &[Endpoint] {
        self.points.peers()
    }
    /// The newest handover token.
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
    /// What was measured.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }
    /// The latest moves.
    pub fn moves(&self) -> Vec<MoveSeen> {
        self.moves.iter().cloned().collect()
    }

    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.options.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn primitive(
        &mut self,
        what: &'static str,
        method: Method,
        path: String,
        ty: Option<u16>,
        body: Bytes,
    ) -> Primitive {
        self.requests += 1;
        Primitive {
            what,
            method,
            path,
            ty,
            body,
            originator: self.ae_id.clone().unwrap_or_else(|| self.options.originator.clone()),
            // Unique for all sessions of all devices: `C` and `S` are shared originators.
            request: format!("{}-{:016x}-{}", self.options.name, self.session, self.requests),
            repeat_until_ms: Some(wall_ms().saturating_add(self.options.repeat_ms)),
            handover: None,
            bearer: self.options.bearer.clone(),
        }
    }

    /// Sends until there is a final answer or the time is up.
    async fn exchange(&mut self, request: &Primitive) -> Result<Answer, DeviceError> {
        self.exchange_counted(request, &mut Tried::default()).await
    }

    async fn exchange_counted(&mut self, request: &Primitive, tried: &mut Tried) -> Result<Answer, DeviceError> {
        let begun = Instant::now();
        let begun_us = self.now_us();
        let until = begun + Duration::from_millis(self.options.repeat_ms);
        let mut last = String::from("none");
        loop {
            self.adopt_if_open();
            if Instant::now() >= until {
                let waited_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                return Err(DeviceError::Unknown { what: request.what, waited_ms, last });
            }
            let mut connection = match self.connected().await {
                Ok(c) => c,
                Err(e) => {
                    last = e.to_string();
                    self.trouble(begun_us);
                    self.leave_point().await;
                    continue;
                }
            };
            let http = request.to_http()?;
            tried.attempts += 1;
            self.meter.counters.retried += u64::from(tried.attempts > 1);
            match connection.send(http, Duration::from_millis(self.options.attempt_ms_max)).await {
                Ok(answer) => {
                    let from = connection.endpoint().clone();
                    self.connection = Some(connection);
                    let hints = Hints::of(&answer.headers);
                    let retry_ms = hints.retry_ms;
                    self.learn(hints, begun_us);
                    if matches!(answer.status.as_u16(), 429 | 503 | 504) {
                        last = format!("{} from {from}: {}", answer.status, answer.excerpt());
                        tried.unseen |= answer.status.as_u16() == 504;
                        self.not_now(retry_ms, begun_us).await;
                        continue;
                    }
                    self.points.answered();
                    self.backoff.reset();
                    self.answered_by(from, begun_us);
                    return Ok(answer);
                }
                Err(e) => {
                    last = e.to_string();
                    tried.unseen |= !e.never_sent();
                    self.trouble(begun_us);
                    // A broken connection says little about its host, so it is tried once more; silence says enough.
                    if matches!(e, HttpError::Timeout { .. }) || self.points.busy() {
                        self.leave_point().await;
                    }
                }
            }
        }
    }

    async fn connected(&mut self) -> Result<Connection, HttpError> {
        if let Some(c) = self.connection.take()
            && !c.is_closed()
        {
            return Ok(c);
        }
        let timeout = Duration::from_millis(self.options.connect_ms_max);
        let connection = self.connector.connect(self.points.at(), timeout).await?;
        self.meter.counters.connections += 1;
        Ok(connection)
    }

    async fn not_now(&mut self, retry_ms: Option<u64>, begun_us: u64) {
        if self.points.busy() {
            self.trouble(begun_us);
            self.connection = None;
            self.leave_point().await;
            return;
        }
        let ms = match retry_ms {
            Some(ms) => spread_ms(ms, self.options.backoff_ms_max, &mut self.random),
            None => self.backoff.next_ms(&mut self.random),
        };
        self.wait(ms).await;
    }

    async fn leave_point(&mut self) {
        if self.points.failed() {
            let ms = self.backoff.next_ms(&mut self.random);
            self.wait(ms).await;
        }
    }

    /// Waits, but no longer than until a connection that is being opened is there.
    async fn wait(&mut self, ms: u64) {
        let pause = tokio::time::sleep(Duration::from_millis(ms));
        let Some(opening) = self.opening.as_mut().filter(|o| o.kind != Switch::Own) else { return pause.await };
        let opened = tokio::select! {
            () = pause => return,
            opened = opening.ended() => opened,
        };
        if let Some(opening) = self.opening.take() {
            self.adopt_quietly(&opening, opened);
        }
    }

    fn trouble(&mut self, begun_us: u64) {
        self.switching.get_or_insert((Switch::Fallback, begun_us));
    }

    fn learn(&mut self, hints: Hints, begun_us: u64) {
        if let Some(token) = hints.token {
            self.token = Some(token);
        }
        self.points.learn_peers(hints.peers);
        let Some(home) = hints.home else { return };
        if let Some(to) = self.points.learn_home(&home)
            && self.opening.is_none()
            && Instant::now() >= self.reopen_at
        {
            let (connector, target) = (self.connector.clone(), to.clone());
            let timeout = Duration::from_millis(self.options.connect_ms_max);
            let task = tokio::spawn(async move {
                Ok(Opened { connection: connector.connect(&target, timeout).await?, answer: None })
            });
            let kind = if self.switching.is_some() { Switch::Fallback } else { Switch::Steered };
            self.opening = Some(Opening { to, kind, noticed_us: begun_us, task });
        }
    }

    /// Starts a move of the device's own choice beside the traffic.
    pub(crate) fn begin_move(&mut self, target: Endpoint) -> Result<(), DeviceError> {
        let token = self.token.clone().ok_or(DeviceError::NotReady("the CSE gave no handover token yet"))?;
        let body = primitive::ae(&self.options.name, &self.options.app_id, self.options.node_link.as_deref());
        let mut request = self.primitive("handover", Method::POST, primitive::CSE_BASE.into(), Some(ty::AE), body);
        request.handover = Some(token);
        let ae_id = self.ae_id.clone().ok_or(DeviceError::NotReady("the AE is not registered"))?;
        let mut itself = self.primitive("retrieve AE", Method::GET, format!("/{ae_id}"), None, Bytes::new());
        itself.repeat_until_ms = None;
        let again =
            self.primitive("handover", Method::POST, primitive::CSE_BASE.into(), Some(ty::AE), Bytes::new()).request;
        let (connector, to) = (self.connector.clone(), target.clone());
        let mut attempt = Attempt {
            connect: Duration::from_millis(self.options.connect_ms_max),
            until: Instant::now() + Duration::from_millis(self.options.repeat_ms),
            backoff: Backoff::new(self.options.backoff_ms_min, self.options.backoff_ms_max),
            random: self.random.fork(),
        };
        let task = tokio::spawn(async move {
            let opened = attempt.run(&connector, &to, &request).await?;
            // A token that was used or has expired: the AE, when it retrieves itself, gets a fresh one (docs/extensions.md).
            if opened.answer.as_ref().is_none_or(|a| a.status != StatusCode::FORBIDDEN) {
                return Ok(opened);
            }
            let read = attempt.run(&connector, &to, &itself).await?.answer.filter(|a| a.status.is_success());
            let Some(fresh) = read.and_then(|a| Hints::of(&a.headers).token) else { return Ok(opened) };
            request.handover = Some(fresh);
            request.request = again;
            attempt.run(&connector, &to, &request).await
        });
        let noticed_us = self.now_us();
        self.opening = Some(Opening { to: target, kind: Switch::Own, noticed_us, task });
        Ok(())
    }

    pub(crate) fn adopt_if_open(&mut self) {
        if self.opening.as_ref().is_none_or(|o| !o.is_finished() || o.kind == Switch::Own) {
            return; // the end of the device's own move is awaited by whoever asked for it
        }
        if let Some(mut opening) = self.opening.take() {
            // Finished: polled once without waiting.
            if let std::task::Poll::Ready(opened) = poll_once(opening.ended()) {
                self.adopt_quietly(&opening, opened);
            }
        }
    }

    /// The outcome of the device's own move, if it has ended; the opening stays for [`AeClient::adopt`].
    pub(crate) fn own_move_ended(&mut self) -> Option<Result<Opened, DeviceError>> {
        let opening = self.opening.as_mut().filter(|o| o.kind == Switch::Own && o.is_finished())?;
        match poll_once(opening.ended()) {
            std::task::Poll::Ready(opened) => Some(opened),
            std::task::Poll::Pending => None,
        }
    }

    fn adopt_quietly(&mut self, opening: &Opening, opened: Result<Opened, DeviceError>) {
        // A failure is not lost: requests go on where they went, and the next answer names the home again.
        let _ = self.adopt(opening, opened);
    }

    /// Goes on through the opened connection.
    pub(crate) fn adopt(&mut self, opening: &Opening, opened: Result<Opened, DeviceError>) -> Result<(), DeviceError> {
        let opened = match opened {
            Ok(o) => o,
            Err(e) => {
                self.reopen_at = Instant::now() + REOPEN;
                return Err(e);
            }
        };
        self.meter.counters.connections += 1;
        let hints = opened.answer.as_ref().map(|a| Hints::of(&a.headers));
        if let Some(answer) = opened.answer.as_ref().filter(|a| !a.status.is_success()) {
            self.learn(hints.unwrap_or_default(), opening.noticed_us);
            return Err(refused("handover", answer));
        }
        self.switching.get_or_insert((opening.kind, opening.noticed_us));
        self.points.arrive(opening.to.clone());
        if let Some(hints) = hints {
            self.learn(hints, opening.noticed_us);
        }
        self.connection = Some(opened.connection);
        Ok(())
    }

    fn answered_by(&mut self, from: Endpoint, begun_us: u64) {
        if from == self.served_by {
            // Trouble that ended at the same host is no move.
            if self.switching.is_some_and(|(kind, _)| kind == Switch::Fallback) {
                self.switching = None;
            }
            return;
        }
        let (kind, noticed_us) = self.switching.take().unwrap_or((Switch::Fallback, begun_us));
        self.meter.counters.switches += 1;
        if self.moves.len() == MOVES_MAX {
            self.moves.pop_front();
        }
        let epoch = self.points.home().filter(|h| h.endpoint == from).map_or(0, |h| h.epoch);
        self.moves.push_back(MoveSeen {
            kind,
            from: self.served_by.to_string(),
            to: from.to_string(),
            epoch,
            noticed_us,
            first_ack_us: 0,
            gap_us: 0,
        });
        self.served_by = from;
    }

    fn write_acknowledged(&mut self, now_us: u64) {
        self.meter.acknowledged(now_us);
        if let Some(last) = self.moves.back_mut()
            && last.first_ack_us == 0
        {
            last.first_ack_us = now_us;
            last.gap_us = self.meter.gap_through(last.noticed_us, now_us).unwrap_or(0);
        }
    }
}

/// How a request was sent so far.
#[derive(Debug, Default)]
struct Tried {
    attempts: u32,
    /// The end of at least one attempt was not seen: it may have been applied.
    unseen: bool,
}

/// A re-registration at a target: repeated there until it is answered.
struct Attempt {
    connect: Duration,
    until: Instant,
    backoff: Backoff,
    random: fastrand::Rng,
}

impl Attempt {
    async fn run(&mut self, connector: &Connector, to: &Endpoint, request: &Primitive) -> Result<Opened, DeviceError> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            let ended = left.is_zero();
            let result = match connector.connect(to, self.connect).await {
                Ok(mut connection) => connection.send(request.to_http()?, left).await.map(|a| (connection, a)),
                Err(e) => Err(e),
            };
            let retry_ms = match result {
                Ok((connection, answer)) if ended || !matches!(answer.status.as_u16(), 429 | 503 | 504) => {
                    return Ok(Opened { connection, answer: Some(answer) });
                }
                Ok((_, answer)) => Hints::of(&answer.headers).retry_ms,
                Err(e) if ended => return Err(e.into()),
                Err(_) => None,
            };
            let wait = self.backoff.next_ms(&mut self.random).max(retry_ms.unwrap_or(0));
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}

fn refused(what: &'static str, answer: &Answer) -> DeviceError {
    DeviceError::Refused {
        what,
        status: answer.status.as_u16(),
        rsc: answer.rsc(),
        detail: answer.excerpt(),
        home: Hints::of(&answer.headers).home.map(|h| h.endpoint.to_string()),
    }
}

fn poll_once<F: Future>(future: F) -> std::task::Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(future).poll(&mut context)
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
