//! Serves the admin API from an [`AdminBackend`].

use std::future::Future;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};

use super::extract::{Asked, Named, NoQuery, Order};
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
/// Candidates when no number is asked for, and at most.
const CANDIDATES: usize = 3;
const CANDIDATES_MAX: usize = 100;

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

/// `GET /admin/v1/aes?home=&after=&limit=`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AesQuery {
    home: Option<String>,
    after: Option<String>,
    limit: Option<usize>,
}

/// `?after=&limit=` of numbered lists.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct PageQuery {
    after: u64,
    limit: Option<usize>,
}

/// `?n=` of candidates.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CandidatesQuery {
    n: Option<usize>,
}

/// Length of a page, when so much is asked for.
fn page(asked: Option<usize>) -> usize {
    asked.unwrap_or(PAGE).clamp(1, PAGE_MAX)
}

type Backend<B> = State<Arc<B>>;

/// The routes.
pub fn router<B: AdminBackend>(backend: Arc<B>) -> Router {
    Router::new()
        .route("/admin/v1/health", get(health::<B>))
        .route("/admin/v1/status", get(async |State(b): Backend<B>, _: NoQuery| reply(b.status().await)))
        .route("/admin/v1/directory", get(async |State(b): Backend<B>, _: NoQuery| reply(b.directory().await)))
        .route(
            "/admin/v1/aes",
            get(async |State(b): Backend<B>, Asked(q): Asked<AesQuery>| {
                reply(b.aes(q.home, q.after, page(q.limit)).await)
            }),
        )
        .route(
            "/admin/v1/aes/{ae}",
            get(async |State(b): Backend<B>, Named(ae): Named<String>, _: NoQuery| reply(b.ae(ae).await)),
        )
        .route(
            "/admin/v1/aes/{ae}/candidates",
            get(async |State(b): Backend<B>, Named(ae): Named<String>, Asked(q): Asked<CandidatesQuery>| {
                reply(b.candidates(ae, q.n.unwrap_or(CANDIDATES).clamp(1, CANDIDATES_MAX)).await)
            }),
        )
        .route(
            "/admin/v1/aes/{ae}/label",
            post(async |State(b): Backend<B>, Named(ae): Named<String>, Order(o): Order<LabelOrder>| {
                reply(b.label(ae, o).await)
            }),
        )
        .route(
            "/admin/v1/moves",
            post(async |State(b): Backend<B>, Order(o): Order<MoveOrder>| reply(b.order_move(o).await)),
        )
        .route(
            "/admin/v1/moves/{id}",
            get(async |State(b): Backend<B>, Named(id): Named<u64>, _: NoQuery| reply(b.move_result(id).await)),
        )
        .route(
            "/admin/v1/handovers",
            get(async |State(b): Backend<B>, Asked(q): Asked<PageQuery>| {
                reply(b.handovers(q.after, page(q.limit)).await)
            }),
        )
        .route(
            "/admin/v1/drains",
            post(async |State(b): Backend<B>, Order(o): Order<DrainOrder>| reply(b.drain(o).await)),
        )
        .route(
            "/admin/v1/drains/{id}",
            get(async |State(b): Backend<B>, Named(id): Named<u64>, _: NoQuery| reply(b.drain_progress(id).await)),
        )
        .route(
            "/admin/v1/undrain",
            post(async |State(b): Backend<B>, Order(o): Order<DrainOrder>| reply(b.undrain(o).await)),
        )
        .route(
            "/admin/v1/measurements",
            post(async |State(b): Backend<B>, Order(o): Order<Measurements>| reply(b.measure(o).await)),
        )
        .route(
            "/admin/v1/voters",
            get(async |State(b): Backend<B>, _: NoQuery| reply(b.voters().await))
                .post(async |State(b): Backend<B>, Order(o): Order<VoterOrder>| reply(b.change_voters(o).await)),
        )
        .route(
            "/admin/v1/nodes/remove",
            post(async |State(b): Backend<B>, Order(o): Order<NodeOrder>| reply(b.remove_node(o).await)),
        )
        .route(
            "/admin/v1/groups/{group}/force",
            post(async |State(b): Backend<B>, Named(group): Named<String>, Order(o): Order<ForceOrder>| {
                reply(b.force(group, o).await)
            }),
        )
        .route(
            "/admin/v1/deaths",
            post(async |State(b): Backend<B>, Order(o): Order<DeathsOrder>| reply(b.confirm_deaths(o).await)),
        )
        .route(
            "/admin/v1/audit",
            get(async |State(b): Backend<B>, Asked(q): Asked<PageQuery>| reply(b.audit(q.after, page(q.limit)).await)),
        )
        .route("/admin/v1/capabilities", get(async |State(b): Backend<B>, _: NoQuery| reply(b.capabilities().await)))
        .route("/metrics", get(metrics::<B>))
        .fallback(async || {
            AdminError::new(404, "admin-no-such-path", "no such path", "docs/operations.md lists the admin API")
        })
        .method_not_allowed_fallback(async || {
            let cure = "the header Allow names those that it has; docs/operations.md lists the admin API";
            AdminError::new(405, "admin-bad-method", "this path has no such method", cure)
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

async fn health<B: AdminBackend>(State(b): State<Arc<B>>) -> Response {
    let health = b.health();
    let status = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn metrics<B: AdminBackend>(State(b): State<Arc<B>>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], b.metrics().await).into_response()
}
