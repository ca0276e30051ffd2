//! Asks nodes over the admin API: one request per connection, with a deadline, errors that say what to do next.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::Full;
use onemec_device::primitive::segment;
use onemec_device::{Connector, Endpoint, HttpError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::types::{
    Ae, AePage, AuditLine, AuditPage, Candidates, CapabilityFile, Deaths, DeathsOrder, Directory, Drain, DrainOrder,
    ErrorBody, ForceOrder, Forced, Handover, HandoverPage, Health, LabelOrder, Measurements, MeasurementsTaken,
    MoveOrder, MoveResult, NodeOrder, NodeRemoved, Status, VoterOrder, Voters,
};

/// Opening a connection takes no longer.
const CONNECT: Duration = Duration::from_secs(2);
/// Pause before a node that starts is asked again.
const STARTING_PAUSE: Duration = Duration::from_millis(50);
/// Lines per page that is asked for.
const PAGE: usize = 5000;

/// Why a node did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminFailure {
    /// It cannot be reached or does not answer.
    #[error(
        "{source}\n    -> is the node running? `onemec up TOPOLOGY` starts a cluster, `--admin URL` names another node"
    )]
    Http {
        /// Why.
        #[from]
        source: HttpError,
    },
    /// It said no.
    #[error("{}: {}\n    -> {}", body.code, body.message, body.next_step)]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said.
        body: Box<ErrorBody>,
    },
    /// It answered something else than the admin API answers.
    #[error(
        "{endpoint} answers HTTP {status}, which is no answer of a onemec node: {detail}\n    -> check the address: it must be `admin_listen` of the topology"
    )]
    Foreign {
        /// Who.
        endpoint: Endpoint,
        /// HTTP status.
        status: u16,
        /// The beginning of its answer.
        detail: String,
    },
}

/// A node's admin API.
#[derive(Debug, Clone)]
pub struct AdminClient {
    endpoint: Endpoint,
    timeout: Duration,
    patient: bool,
}

impl AdminClient {
    /// Asks `endpoint`; an answer may take `timeout`.
    pub fn new(endpoint: Endpoint, timeout: Duration) -> Self {
        Self { endpoint, timeout, patient: false }
    }

    /// Waits for a node that starts (it may also be starting anew, after the cluster had given it up), as long as an answer
    /// may take: such a node has done nothing of what was asked.
    #[must_use]
    pub fn patient(mut self) -> Self {
        self.patient = true;
        self
    }

    /// Where it asks.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// # Errors
    /// See [`AdminFailure`]; so for all calls. A node that is not ready answers as well.
    pub async fn health(&self) -> Result<Health, AdminFailure> {
        self.get("/health").await
    }
    /// `GET /status`. # Errors: see [`AdminFailure`].
    pub async fn status(&self) -> Result<Status, AdminFailure> {
        self.get("/status").await
    }
    /// `GET /directory`. # Errors: see [`AdminFailure`].
    pub async fn directory(&self) -> Result<Directory, AdminFailure> {
        self.get("/directory").await
    }
    /// All pages of `GET /aes`. # Errors: see [`AdminFailure`].
    pub async fn aes(&self, home: Option<&str>) -> Result<Vec<Ae>, AdminFailure> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut query = format!("/aes?limit={PAGE}");
            for (key, value) in [("home", home), ("after", after.as_deref())] {
                if let Some(value) = value {
                    query.push_str(&format!("&{key}={}", segment(value)));
                }
            }
            let page: AePage = self.get(&query).await?;
            all.extend(page.aes);
            match page.next {
                Some(next) if after.as_ref() != Some(&next) => after = Some(next),
                _ => return Ok(all),
            }
        }
    }
    /// `GET /aes/{ae}`. # Errors: see [`AdminFailure`].
    pub async fn ae(&self, ae: &str) -> Result<Ae, AdminFailure> {
        self.get(&format!("/aes/{}", segment(ae))).await
    }
    /// `GET /aes/{ae}/candidates`. # Errors: see [`AdminFailure`].
    pub async fn candidates(&self, ae: &str, n: usize) -> Result<Candidates, AdminFailure> {
        self.get(&format!("/aes/{}/candidates?n={n}", segment(ae))).await
    }
    /// `POST /moves`. # Errors: see [`AdminFailure`].
    pub async fn order_move(&self, order: &MoveOrder) -> Result<MoveResult, AdminFailure> {
        self.post("/moves", order).await
    }
    /// All pages of `GET /handovers`. # Errors: see [`AdminFailure`].
    pub async fn handovers(&self) -> Result<Vec<Handover>, AdminFailure> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page: HandoverPage = self.get(&format!("/handovers?limit={PAGE}&after={after}")).await?;
            all.extend(page.handovers);
            match page.next {
                Some(next) if next > after => after = next,
                _ => return Ok(all),
            }
        }
    }
    /// `POST /drains`. # Errors: see [`AdminFailure`].
    pub async fn drain(&self, order: &DrainOrder) -> Result<Drain, AdminFailure> {
        self.post("/drains", order).await
    }
    /// `GET /drains/{id}`. # Errors: see [`AdminFailure`].
    pub async fn drain_progress(&self, id: u64) -> Result<Drain, AdminFailure> {
        self.get(&format!("/drains/{id}")).await
    }
    /// `POST /undrain`. # Errors: see [`AdminFailure`].
    pub async fn undrain(&self, order: &DrainOrder) -> Result<Drain, AdminFailure> {
        self.post("/undrain", order).await
    }
    /// `POST /aes/{ae}/label`. # Errors: see [`AdminFailure`].
    pub async fn label(&self, ae: &str, order: &LabelOrder) -> Result<LabelOrder, AdminFailure> {
        self.post(&format!("/aes/{}/label", segment(ae)), order).await
    }
    /// `POST /measurements`. # Errors: see [`AdminFailure`].
    pub async fn measure(&self, measurements: &Measurements) -> Result<MeasurementsTaken, AdminFailure> {
        self.post("/measurements", measurements).await
    }
    /// `GET /voters`. # Errors: see [`AdminFailure`].
    pub async fn voters(&self) -> Result<Voters, AdminFailure> {
        self.get("/voters").await
    }
    /// `POST /voters`. # Errors: see [`AdminFailure`].
    pub async fn change_voters(&self, order: &VoterOrder) -> Result<Voters, AdminFailure> {
        self.post("/voters", order).await
    }
    /// `POST /nodes/remove`. # Errors: see [`AdminFailure`].
    pub async fn remove_node(&self, order: &NodeOrder) -> Result<NodeRemoved, AdminFailure> {
        self.post("/nodes/remove", order).await
    }
    /// `POST /groups/{group}/force`. # Errors: see [`AdminFailure`].
    pub async fn force(&self, group: &str, order: &ForceOrder) -> Result<Forced, AdminFailure> {
        self.post(&format!("/groups/{}/force", segment(group)), order).await
    }
    /// `POST /deaths`. # Errors: see [`AdminFailure`].
    pub async fn confirm_deaths(&self, order: &DeathsOrder) -> Result<Deaths, AdminFailure> {
        self.post("/deaths", order).await
    }
    /// All pages of `GET /audit`. # Errors: see [`AdminFailure`].
    pub async fn audit(&self) -> Result<Vec<AuditLine>, AdminFailure> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let page: AuditPage = self.get(&format!("/audit?limit={PAGE}&after={after}")).await?;
            all.extend(page.lines);
            match page.next {
                Some(next) if next > after => after = next,
                _ => return Ok(all),
            }
        }
    }
    /// `GET /capabilities`. # Errors: see [`AdminFailure`].
    pub async fn capabilities(&self) -> Result<CapabilityFile, AdminFailure> {
        self.get("/capabilities").await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, AdminFailure> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, AdminFailure> {
        let body = serde_json::to_vec(body).map_err(|e| HttpError::BadRequest(e.to_string()))?;
        self.ask(Method::POST, path, Bytes::from(body)).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, AdminFailure> {
        let until = Instant::now() + self.timeout;
        loop {
            match self.ask_once(method.clone(), path, body.clone()).await {
                Err(AdminFailure::Refused { body, .. })
                    if self.patient && body.code == "node-starting" && Instant::now() < until =>
                {
                    tokio::time::sleep(STARTING_PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    async fn ask_once<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T, AdminFailure> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/admin/v1{path}"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| HttpError::BadRequest(e.to_string()))?;
        let mut connection = Connector::default().connect(&self.endpoint, CONNECT).await?;
        let answer = connection.send(request, self.timeout).await?;
        let foreign = || AdminFailure::Foreign {
            endpoint: self.endpoint.clone(),
            status: answer.status.as_u16(),
            detail: answer.excerpt(),
        };
        // A node that is not ready says so with 503 and an ordinary body.
        if answer.status.is_success() || (answer.status.as_u16() == 503 && path == "/health") {
            return serde_json::from_slice(&answer.body).map_err(|_| foreign());
        }
        match serde_json::from_slice::<ErrorBody>(&answer.body) {
            Ok(body) => Err(AdminFailure::Refused { status: answer.status.as_u16(), body: Box::new(body) }),
            Err(_) => Err(foreign()),
        }
    }
}
