//! A oneM2M client over HTTP/1.1 (TS-0009) with one kept-alive connection.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::Full;
use onemec_device::{Answer, Connection, Connector, Endpoint, HttpError};
use serde_json::{Value, json};

/// An answer takes no longer.
const ANSWER: Duration = Duration::from_secs(10);

/// One originator at one door.
pub struct Client {
    door: Endpoint,
    originator: String,
    connection: Option<Connection>,
    /// How it connects.
    pub connector: Connector,
    /// Its bearer token, where doors want one.
    pub bearer: Option<String>,
    /// An answer takes no longer; a device leaves a silent host sooner.
    pub patience: Duration,
}

/// A request before it is HTTP.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// HTTP method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// Type of what is created.
    pub ty: Option<u16>,
    /// Content.
    pub body: Option<Value>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
    /// `X-M2M-RI`; empty: a fresh one.
    pub request: String,
}

fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Ask {
    /// CREATE.
    pub fn create(path: impl Into<String>, ty: u16, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), ty: Some(ty), body: Some(body), ..Self::default() }
    }
    /// CREATE of a contentInstance that holds reading `n`.
    pub fn reading(container: &str, n: u64) -> Self {
        Self::create(container, 4, json!({"m2m:cin": {"cnf": "application/json:0", "con": reading_text(n)}}))
    }
    /// RETRIEVE.
    pub fn retrieve(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
    /// UPDATE.
    pub fn update(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::PUT, path: path.into(), body: Some(body), ..Self::default() }
    }
    /// With a header.
    pub fn with(mut self, name: &'static str, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }
    /// With this request identifier.
    pub fn named(mut self, request: impl Into<String>) -> Self {
        self.request = request.into();
        self
    }
    /// As HTTP.
    pub fn http(&self, originator: &str) -> Request<Full<Bytes>> {
        let request = if self.request.is_empty() { fresh() } else { self.request.clone() };
        let mut http = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("x-m2m-origin", originator)
            .header("x-m2m-ri", request)
            .header("x-m2m-rvi", "3")
            .header("accept", "application/json");
        http = match (self.ty, &self.body) {
            (Some(ty), _) => http.header("content-type", format!("application/json;ty={ty}")),
            (None, Some(_)) => http.header("content-type", "application/json"),
            (None, None) => http,
        };
        for (name, value) in &self.headers {
            http = http.header(*name, value);
        }
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        http.body(Full::new(Bytes::from(body))).unwrap()
    }
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(door: Endpoint, originator: impl Into<String>) -> Self {
        Self {
            door,
            originator: originator.into(),
            connection: None,
            connector: Connector::default(),
            bearer: None,
            patience: ANSWER,
        }
    }

    fn http(&self, ask: &Ask) -> Request<Full<Bytes>> {
        let mut request = ask.http(&self.originator);
        if let Some(token) = &self.bearer {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    }

    /// Where it asks.
    pub fn door(&self) -> &Endpoint {
        &self.door
    }

    /// Asks once.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn send(&mut self, ask: &Ask) -> Result<Answer, HttpError> {
        let mut connection = match self.connection.take().filter(|c| !c.is_closed()) {
            Some(c) => c,
            None => self.connector.connect(&self.door, self.patience).await?,
        };
        let answer = connection.send(self.http(ask), self.patience).await?;
        self.connection = Some(connection);
        Ok(answer)
    }

    /// Asks once and wants an answer.
    pub async fn ask(&mut self, ask: &Ask) -> Answer {
        let answer = self.send(ask).await;
        answer.unwrap_or_else(|e| panic!("{} {} at {}: {e}", ask.method, ask.path, self.door))
    }

    /// Asks once and wants this status; the body as JSON.
    pub async fn expect(&mut self, status: u16, ask: &Ask) -> Value {
        let answer = self.ask(ask).await;
        assert_status(&answer, status, &format!("{} {} at {}", ask.method, ask.path, self.door));
        json_of(&answer)
    }

    /// Registers the originator as an AE called `name` at this door.
    pub async fn register(&mut self, name: &str) -> Answer {
        let answer = self.ask(&registration(name)).await;
        assert_status(&answer, 201, &format!("registration of {name}"));
        answer
    }

    /// An AE called `name` with a container `data`.
    pub async fn register_with_data(&mut self, name: &str) -> Answer {
        let answer = self.register(name).await;
        self.expect(201, &Ask::create(format!("/-/{name}"), 3, json!({"m2m:cnt": {"rn": "data"}}))).await;
        answer
    }
}

/// The registration of an AE.
pub fn registration(name: &str) -> Ask {
    let ae = json!({"rn": name, "api": "Nonemec.tests", "rr": false, "srv": ["3"], "lbl": ["kept"]});
    Ask::create("/-", 2, json!({ "m2m:ae": ae }))
}

/// The body, `Null` if it is empty.
pub fn json_of(answer: &Answer) -> Value {
    if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(&answer.body).unwrap() }
}

/// Wants a status.
pub fn assert_status(answer: &Answer, status: u16, what: &str) {
    let wanted = StatusCode::from_u16(status).unwrap();
    assert_eq!(answer.status, wanted, "{what}: RSC {}: {}", answer.rsc(), answer.excerpt());
}

/// A header's text.
pub fn header(answer: &Answer, name: &str) -> Option<String> {
    answer.headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_owned)
}

/// The content of reading `n`.
pub fn reading_text(n: u64) -> String {
    json!({ "n": n }).to_string()
}

/// The number of the reading in a contentInstance.
pub fn reading_of(instance: &Value) -> Option<u64> {
    let con = instance.get("con")?.as_str()?;
    serde_json::from_str::<Value>(con).ok()?.get("n")?.as_u64()
}
