//! The operators' listener: purge, explain, status, metrics. Never reachable from the public one.

mod auth;
mod coherence;
mod explain;
mod purge;
mod token;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde_json::json;

pub use token::Token;

use crate::balance::Pool;
use crate::coherence::{Coherence, Moment};
use crate::error::Problem;
use crate::metrics::Metrics;
use crate::purge::Journal;
use crate::refill::Refills;
use crate::refusals::Refusals;
use crate::site::Site;
use crate::store::Store;

/// A purge names at most this many bytes of URLs and groups.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the operators' calls work on.
pub struct Admin {
    /// Answers only who knows it.
    pub token: Token,
    /// Reads the URLs that a purge names.
    pub site: Arc<Site>,
    /// What is purged.
    pub store: Arc<Store>,
    /// Whose state is told.
    pub pool: Arc<Pool>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The last purges.
    pub journal: Arc<Journal>,
    /// The last refusals to keep an answer.
    pub refusals: Arc<Refusals>,
    /// What the stream of changes tells, if it is followed.
    pub coherence: Option<Arc<Coherence>>,
    /// Where a purge leaves what is to be fetched again.
    pub refills: Arc<Refills>,
    /// Targeted fields (RFC 9213), for explanations.
    pub targeted: Vec<HeaderName>,
    /// When the gateway started.
    pub started: Instant,
}

/// Serves the operators' calls until the gateway stops.
pub struct AdminService {
    listener: TcpListener,
    admin: Arc<Admin>,
}

impl AdminService {
    /// Serves on a listener that is bound already, so that a busy port is known before anything starts.
    pub fn new(listener: TcpListener, admin: Admin) -> Self {
        Self {
            listener,
            admin: Arc::new(admin),
        }
    }

    async fn serve(&self, mut shutdown: ShutdownWatch) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, router(Arc::clone(&self.admin)))
            .with_graceful_shutdown(async move {
                let _ = shutdown.changed().await;
            })
            .await
    }
}

#[async_trait]
impl BackgroundService for AdminService {
    async fn start(&self, shutdown: ShutdownWatch) {
        if let Err(error) = self.serve(shutdown).await {
            tracing::error!(%error, "the admin listener ended");
        }
    }
}

/// Every operators' call; each but `/healthz` and the question of other gateways asks for the token.
pub fn router(admin: Arc<Admin>) -> Router {
    let guarded = Router::new()
        .route("/purge", post(purge::purge))
        .route("/explain", get(explain::explain))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route_layer(middleware::from_fn_with_state(
            Arc::clone(&admin),
            auth::require_token,
        ));
    Router::new()
        .merge(guarded)
        .route("/healthz", get(|| async { "ok" }))
        .route("/coherence/includes", get(coherence::includes))
        .fallback(|| async { Failed(Problem::new(StatusCode::NOT_FOUND, "No such call.")) })
        .method_not_allowed_fallback(|| async {
            let detail = "The call has another method.";
            Failed(Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail))
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(admin)
}

async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let now = Instant::now();
    let stats = admin.store.stats();
    let nodes: Vec<_> = admin
        .pool
        .nodes()
        .iter()
        .map(|node| node.status(now))
        .collect();
    let requests: serde_json::Map<_, _> = admin
        .metrics
        .results()
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": now.duration_since(admin.started).as_secs(),
        "connections": admin.metrics.connections.load(Ordering::Relaxed),
        "requests": requests,
        "cache": {
            "objects": stats.objects,
            "used_bytes": stats.used_bytes,
            "budget_bytes": stats.budget_bytes,
            "evictions": stats.evictions,
            "tags": stats.tags,
            "purge_sequence": admin.store.sequence(),
        },
        "coherence": admin.coherence.as_ref().map(|coherence| coherence.status(Moment::now())),
        "refill": admin.refills.stats(),
        "balance": admin.pool.status(),
        "nodes": nodes,
    }))
    .into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(coherence) = &admin.coherence {
        coherence.observe(Moment::now());
    }
    match admin.metrics.expose() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "metrics cannot be exposed");
            Failed(Problem::of_status(StatusCode::INTERNAL_SERVER_ERROR)).into_response()
        }
    }
}

/// A refused call, as a problem document.
struct Failed(Problem);

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let content_type = [(header::CONTENT_TYPE, "application/problem+json")];
        (self.0.status, content_type, self.0.to_json()).into_response()
    }
}
