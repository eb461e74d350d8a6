//! The operators' listener: purge, explain, status, metrics. Never reachable from the public one.

mod auth;
mod coherence;
mod explain;
mod listener;
mod log;
mod nodes;
mod openapi;
mod purge;
mod reload;
mod token;
mod upgrade;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use serde_json::json;

pub use listener::AdminBounds;
pub use token::{Token, Tokens};

use crate::access_log::AccessLog;
use crate::balance::Pool;
use crate::coherence::{Coherence, Moment};
use crate::error::Problem;
use crate::log_level::LogLevel;
use crate::metrics::{Look, Metrics};
use crate::proxy::Current;
use crate::purge::Journal;
use crate::refill::Refills;
use crate::refusals::Refusals;
use crate::reload::Reloader;
use crate::store::Store;
use crate::upgrade::Upgrader;
use listener::Pausable;

/// A purge names at most this many bytes of URLs and groups.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// What the operators' calls work on.
pub struct Admin {
    /// Answers only who knows one of them.
    pub tokens: Tokens,
    /// What is logged.
    pub log: Arc<LogLevel>,
    /// The gateway that serves now: its settings read the URLs that a call names.
    pub current: Arc<Current>,
    /// Takes over changed settings.
    pub reloader: Arc<Reloader>,
    /// Starts the process that takes over.
    pub upgrader: Arc<Upgrader>,
    /// What is purged.
    pub store: Arc<Store>,
    /// Whose state is told.
    pub pool: Arc<Pool>,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// The access log, if there is one.
    pub access_log: Option<Arc<AccessLog>>,
    /// The last purges.
    pub journal: Arc<Journal>,
    /// The last refusals to keep an answer.
    pub refusals: Arc<Refusals>,
    /// What the stream of changes tells, if it is followed.
    pub coherence: Option<Arc<Coherence>>,
    /// Where a purge leaves what is to be fetched again.
    pub refills: Arc<Refills>,
    /// When the gateway started.
    pub started: Instant,
}

/// Serves the operators' calls until the gateway stops.
pub struct AdminService {
    listener: TcpListener,
    admin: Arc<Admin>,
    bounds: AdminBounds,
}

impl AdminService {
    /// Serves on a listener that is bound already, so that a busy port is known before anything starts.
    pub fn new(listener: TcpListener, admin: Admin, bounds: AdminBounds) -> Self {
        Self {
            listener,
            admin: Arc::new(admin),
            bounds,
        }
    }

    async fn serve(&self, shutdown: ShutdownWatch) -> std::io::Result<()> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let listener = Pausable::new(listener, self.admin.upgrader.is_paused());
        let calls = router(Arc::clone(&self.admin));
        listener::serve(listener, calls, self.bounds, shutdown).await;
        Ok(())
    }
}

#[async_trait]
impl BackgroundService for AdminService {
    async fn start(&self, shutdown: ShutdownWatch) {
        if let Err(error) = self.serve(shutdown).await {
            tracing::error!(%error, "there is no admin listener");
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
        .route("/nodes", get(nodes::list).post(nodes::add))
        .route("/nodes/{node}", delete(nodes::remove))
        .route("/nodes/{node}/drain", post(nodes::drain))
        .route("/nodes/{node}/enable", post(nodes::enable))
        .route("/nodes/{node}/weight", post(nodes::weigh))
        .route("/log", get(log::show).put(log::set))
        .route("/openapi.json", get(openapi::document))
        .route("/reload", post(reload::reload))
        .route("/upgrade", post(upgrade::upgrade))
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

/// Counters, the cache's account, the settings in force, every origin with its load and health.
#[utoipa::path(get, path = "/status", responses((status = 200, body = Object,
    description = "`coherence` is a `CoherenceStatus`, or null where no stream is followed")))]
async fn status(State(admin): State<Arc<Admin>>) -> Response {
    let now = Instant::now();
    let stats = admin.store.stats();
    let requests: serde_json::Map<_, _> = admin
        .metrics
        .results()
        .map(|(name, count)| (name.to_owned(), json!(count)))
        .collect();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_seconds": now.duration_since(admin.started).as_secs(),
        "settings": admin.reloader.status(),
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
        "nodes": nodes::nodes(&admin),
    }))
    .into_response()
}

/// The counters for Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "text/plain", body = String)))]
async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    if let Some(coherence) = &admin.coherence {
        coherence.observe(Moment::now());
    }
    let look = Look {
        nodes: &nodes::nodes(&admin),
        balance: admin.pool.status(),
        cache: admin.store.stats(),
        purge_sequence: admin.store.sequence(),
        access_log_lost: admin.access_log.as_ref().map_or(0, |log| log.lost()),
    };
    match admin.metrics.expose(&look) {
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
