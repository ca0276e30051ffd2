//! Serves the admin API from an [`AdminBackend`].

use std::future::Future;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, Query, State, rejection::JsonRejection};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::types::{
    Ae, AePage, AuditPage, Candidates, CapabilityFile, Deaths, DeathsOrder, Directory, Drain, DrainOrder, ErrorBody,
    ForceOrder, Forced, HandoverPage, Health, LabelOrder, Measurements, MeasurementsTaken, MoveOrder, MoveResult,
    NodeOrder, NodeRemoved, Status, VoterOrder, Voters,
};

/// Orders with a longer body are refused.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// No page is longer.
pub const PAGE_MAX: usize = 10_000;
/// Page length when none is asked for.
const PAGE: usize = 1000;

/// An answer that is no success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminError {
    /// HTTP status: 404 unknown, 409 conflict or refused, 503 not now, 504 outcome unknown.
    pub status: u16,
    /// What the caller reads.
    pub body: ErrorBody,
}

impl AdminError {
    /// Makes one.
    pub fn new(status: u16, code: &str, message: impl Into<String>, next_step: impl Into<String>) -> Self {
        let body =
            ErrorBody { code: code.into(), message: message.into(), next_step: next_step.into(), retry_after_ms: None };
        Self { status, body }
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self.body)).into_response()
    }
}

/// What an answer of the backend is.
pub type Answer<T> = Result<T, AdminError>;

/// What the node offers to the admin API. Every call has a bound on its time of its own.
pub trait AdminBackend: Send + Sync + 'static {
    /// Is the node ready?
    fn health(&self) -> Health;
    /// The node and the cluster as it sees it.
    fn status(&self) -> impl Future<Output = Answer<Status>> + Send;
    /// All placements, applied locally.
    fn directory(&self) -> impl Future<Output = Answer<Directory>> + Send;
    /// AEs by AE-ID after `after`, at most `limit`; of one home if given.
    fn aes(
        &self,
        home: Option<String>,
        after: Option<String>,
        limit: usize,
    ) -> impl Future<Output = Answer<AePage>> + Send;
    /// One AE by AE-ID or name.
    fn ae(&self, ae: String) -> impl Future<Output = Answer<Ae>> + Send;
    /// The `n` best targets for an AE.
    fn candidates(&self, ae: String, n: usize) -> impl Future<Output = Answer<Candidates>> + Send;
    /// Runs a move to its end.
    fn order_move(&self, order: MoveOrder) -> impl Future<Output = Answer<MoveResult>> + Send;
    /// What became of a move.
    fn move_result(&self, id: u64) -> impl Future<Output = Answer<MoveResult>> + Send;
    /// KPIs of the moves after `after`.
    fn handovers(&self, after: u64, limit: usize) -> impl Future<Output = Answer<HandoverPage>> + Send;
    /// Starts to empty a node.
    fn drain(&self, order: DrainOrder) -> impl Future<Output = Answer<Drain>> + Send;
    /// How far a drain is.
    fn drain_progress(&self, id: u64) -> impl Future<Output = Answer<Drain>> + Send;
    /// The node takes devices again.
    fn undrain(&self, order: DrainOrder) -> impl Future<Output = Answer<Drain>> + Send;
    /// Says where the data of an AE may be.
    fn label(&self, ae: String, order: LabelOrder) -> impl Future<Output = Answer<LabelOrder>> + Send;
    /// Takes what the network measured.
    fn measure(&self, measurements: Measurements) -> impl Future<Output = Answer<MeasurementsTaken>> + Send;
    /// Who votes in the directory.
    fn voters(&self) -> impl Future<Output = Answer<Voters>> + Send;
    /// Changes who votes.
    fn change_voters(&self, order: VoterOrder) -> impl Future<Output = Answer<Voters>> + Send;
    /// Takes a node out for good.
    fn remove_node(&self, order: NodeOrder) -> impl Future<Output = Answer<NodeRemoved>> + Send;
    /// Lets a node lead a group of which no member is left.
    fn force(&self, group: String, order: ForceOrder) -> impl Future<Output = Answer<Forced>> + Send;
    /// Confirms that nodes are dead.
    fn confirm_deaths(&self, order: DeathsOrder) -> impl Future<Output = Answer<Deaths>> + Send;
    /// Lines of the audit log after `after`.
    fn audit(&self, after: u64, limit: usize) -> impl Future<Output = Answer<AuditPage>> + Send;
    /// The capability file.
    fn capabilities(&self) -> impl Future<Output = Answer<CapabilityFile>> + Send;
    /// Prometheus text.
    fn metrics(&self) -> impl Future<Output = String> + Send;
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Page {
    home: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
    n: Option<usize>,
}

impl Page {
    fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX)
    }
    fn after_number(&self) -> Answer<u64> {
        self.after.as_deref().map_or(Ok(0), str::parse).map_err(|_| {
            AdminError::new(400, "admin-bad-query", "`after` is no number", "give the `next` of the page before")
        })
    }
}

/// The routes.
pub fn router<B: AdminBackend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/admin/v1/health", get(health::<B>))
        .route("/admin/v1/status", get(async |State(b): State<Arc<B>>| reply(b.status().await)))
        .route("/admin/v1/directory", get(async |State(b): State<Arc<B>>| reply(b.directory().await)))
        .route("/admin/v1/aes", get(aes::<B>))
        .route("/admin/v1/aes/{ae}", get(async |State(b): State<Arc<B>>, Path(ae): Path<String>| reply(b.ae(ae).await)))
        .route("/admin/v1/aes/{ae}/candidates", get(candidates::<B>))
        .route("/admin/v1/moves", post(order_move::<B>))
        .route(
            "/admin/v1/moves/{id}",
            get(async |State(b): State<Arc<B>>, Path(id): Path<u64>| reply(b.move_result(id).await)),
        )
        .route("/admin/v1/handovers", get(handovers::<B>))
        .route("/admin/v1/drains", post(drain::<B>))
        .route(
            "/admin/v1/drains/{id}",
            get(async |State(b): State<Arc<B>>, Path(id): Path<u64>| reply(b.drain_progress(id).await)),
        )
        .route("/admin/v1/undrain", post(undrain::<B>))
        .route("/admin/v1/aes/{ae}/label", post(label::<B>))
        .route("/admin/v1/measurements", post(measure::<B>))
        .route(
            "/admin/v1/voters",
            get(async |State(b): State<Arc<B>>| reply(b.voters().await)).post(change_voters::<B>),
        )
        .route("/admin/v1/nodes/remove", post(remove_node::<B>))
        .route("/admin/v1/groups/{group}/force", post(force::<B>))
        .route("/admin/v1/deaths", post(confirm_deaths::<B>))
        .route("/admin/v1/audit", get(audit::<B>))
        .route("/admin/v1/capabilities", get(async |State(b): State<Arc<B>>| reply(b.capabilities().await)))
        .route("/metrics", get(metrics::<B>))
        .fallback(async || {
            AdminError::new(404, "admin-no-such-path", "no such path", "docs/operations.md lists the admin API")
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(backend)
}

/// Serves the routes until `stop` resolves.
///
/// # Errors
/// If the socket fails.
pub async fn serve<B: AdminBackend>(
    listener: tokio::net::TcpListener,
    backend: Arc<B>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    super::listen::serve(listener, router(backend), stop).await;
    Ok(())
}

fn reply<T: Serialize>(answer: Answer<T>) -> Response {
    match answer {
        Ok(body) => Json(body).into_response(),
        Err(e) => e.into_response(),
    }
}

fn body<T>(json: Result<Json<T>, JsonRejection>) -> Answer<T> {
    json.map(|Json(b)| b).map_err(|e| {
        AdminError::new(e.status().as_u16(), "admin-bad-body", e.body_text(), "docs/operations.md shows the JSON")
    })
}

async fn health<B: AdminBackend>(State(b): State<Arc<B>>) -> Response {
    let health = b.health();
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn aes<B: AdminBackend>(State(b): State<Arc<B>>, Query(p): Query<Page>) -> Response {
    let limit = p.limit();
    reply(b.aes(p.home, p.after, limit).await)
}

async fn candidates<B: AdminBackend>(
    State(b): State<Arc<B>>,
    Path(ae): Path<String>,
    Query(p): Query<Page>,
) -> Response {
    reply(b.candidates(ae, p.n.unwrap_or(3).clamp(1, 100)).await)
}

async fn order_move<B: AdminBackend>(
    State(b): State<Arc<B>>,
    order: Result<Json<MoveOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.order_move(order).await),
        Err(e) => e.into_response(),
    }
}

async fn drain<B: AdminBackend>(State(b): State<Arc<B>>, order: Result<Json<DrainOrder>, JsonRejection>) -> Response {
    match body(order) {
        Ok(order) => reply(b.drain(order).await),
        Err(e) => e.into_response(),
    }
}

async fn undrain<B: AdminBackend>(State(b): State<Arc<B>>, order: Result<Json<DrainOrder>, JsonRejection>) -> Response {
    match body(order) {
        Ok(order) => reply(b.undrain(order).await),
        Err(e) => e.into_response(),
    }
}

async fn label<B: AdminBackend>(
    State(b): State<Arc<B>>,
    Path(ae): Path<String>,
    order: Result<Json<LabelOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.label(ae, order).await),
        Err(e) => e.into_response(),
    }
}

async fn measure<B: AdminBackend>(
    State(b): State<Arc<B>>,
    measurements: Result<Json<Measurements>, JsonRejection>,
) -> Response {
    match body(measurements) {
        Ok(measurements) => reply(b.measure(measurements).await),
        Err(e) => e.into_response(),
    }
}

async fn handovers<B: AdminBackend>(State(b): State<Arc<B>>, Query(p): Query<Page>) -> Response {
    match p.after_number() {
        Ok(after) => reply(b.handovers(after, p.limit()).await),
        Err(e) => e.into_response(),
    }
}

async fn audit<B: AdminBackend>(State(b): State<Arc<B>>, Query(p): Query<Page>) -> Response {
    match p.after_number() {
        Ok(after) => reply(b.audit(after, p.limit()).await),
        Err(e) => e.into_response(),
    }
}

async fn change_voters<B: AdminBackend>(
    State(b): State<Arc<B>>,
    order: Result<Json<VoterOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.change_voters(order).await),
        Err(e) => e.into_response(),
    }
}

async fn remove_node<B: AdminBackend>(
    State(b): State<Arc<B>>,
    order: Result<Json<NodeOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.remove_node(order).await),
        Err(e) => e.into_response(),
    }
}

async fn force<B: AdminBackend>(
    State(b): State<Arc<B>>,
    Path(group): Path<String>,
    order: Result<Json<ForceOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.force(group, order).await),
        Err(e) => e.into_response(),
    }
}

async fn confirm_deaths<B: AdminBackend>(
    State(b): State<Arc<B>>,
    order: Result<Json<DeathsOrder>, JsonRejection>,
) -> Response {
    match body(order) {
        Ok(order) => reply(b.confirm_deaths(order).await),
        Err(e) => e.into_response(),
    }
}

async fn metrics<B: AdminBackend>(State(b): State<Arc<B>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], b.metrics().await).into_response()
}
