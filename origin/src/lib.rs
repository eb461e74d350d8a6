#![doc = include_str!("../README.md")]

pub mod access_log;
pub mod answers;
pub mod body;
pub mod cache_policy;
pub mod cart;
pub mod config;
pub mod database;
pub mod date;
pub mod describe;
pub mod error;
pub mod extract;
pub mod front;
pub mod health;
pub mod id;
pub mod idempotency;
pub mod interactions;
pub mod log_buffer;
pub mod maintenance;
pub mod metrics;
pub mod object;
pub mod openapi;
pub mod page;
pub mod products;
pub mod questions;
pub mod ranked;
pub mod release;
pub mod reply;
pub mod reviews;
pub mod routes;
pub mod server;
pub mod state;
pub mod tail;
pub mod telemetry;

use std::{
    future::Future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, bail};
use axum::{Router, extract::State, middleware, response::Response};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, oneshot},
};

use crate::{
    cache_policy::CacheHeaders,
    config::Config,
    database::{Database, Statement},
    log_buffer::LogBuffer,
    metrics::Metrics,
    server::Routers,
    state::{AppState, RequestIds, Shared},
    tail::Tail,
};

/// An origin that is listening, and not yet serving.
#[derive(Debug)]
pub struct App {
    state: AppState,
    public: TcpListener,
    private: TcpListener,
}

impl App {
    /// As [`App::build_logging`], with lines about requests that nobody writes anywhere.
    ///
    /// # Errors
    /// As that.
    pub async fn build(config: Config, release_digest: &str) -> anyhow::Result<Self> {
        Self::build_logging(config, release_digest, LogBuffer::new()?).await
    }

    /// Binds both listeners and begins to connect to the database, which need not be there yet.
    ///
    /// # Errors
    /// If an address is taken, or a file that a database's URL names cannot be read.
    pub async fn build_logging(
        config: Config,
        release_digest: &str,
        log: LogBuffer,
    ) -> anyhow::Result<Self> {
        let public = listen(config.listen).await?;
        let private = listen(config.private).await?;
        let metrics = Arc::new(Metrics::new(&routes::all(), &statements())?);
        metrics.register_log(&log)?;
        let tail = Tail::new(
            &config.database_url,
            config.connect_timeout,
            config.tail.clone(),
            metrics.tail.clone(),
        )?;
        let state = AppState::new(Shared {
            db: Database::open(&config, &metrics)?,
            ranked: ranked::Ranked::default(),
            tail,
            cache_headers: CacheHeaders::new(release_digest),
            log,
            metrics,
            body_memory: Arc::new(Semaphore::new(config.body_bytes_max as usize)),
            is_ending: AtomicBool::new(false),
            request_ids: RequestIds::new(),
            config,
        });
        Ok(Self {
            state,
            public,
            private,
        })
    }

    /// The addresses of the API and of the private listener.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn addresses(&self) -> anyhow::Result<(SocketAddr, SocketAddr)> {
        Ok((self.public.local_addr()?, self.private.local_addr()?))
    }

    /// What requests share.
    pub fn state(&self) -> &AppState {
        &self.state
    }

    /// Serves until `ending`, then finishes the requests in flight.
    ///
    /// # Errors
    /// If there is a database that could lose what it has acknowledged, and the settings do not allow that.
    pub async fn serve(self, ending: impl Future<Output = ()>) -> anyhow::Result<()> {
        let Self {
            state,
            public,
            private,
        } = self;
        // A database that answers is judged before the first request; one that does not, whenever it does: by the pool.
        match tokio::time::timeout(START_TIMEOUT, check_durability(&state)).await {
            Ok(checked) => checked?,
            Err(_) => tracing::warn!("serving without a database until there is one"),
        }
        let poller = tokio::spawn(tail::poller::run(state.tail.clone()));
        let maintenance = tokio::spawn(maintenance::run(state.clone()));
        let (end_private, private_ended) = oneshot::channel::<()>();
        let private = tokio::spawn(server::serve(
            private,
            Routers {
                served: private_router(&state, public.local_addr()?),
                refused: server::refusing(),
            },
            server_settings(&state.config),
            async {
                let _ = private_ended.await;
            },
        ));
        let ending = async {
            ending.await;
            state.is_ending.store(true, Ordering::Relaxed);
        };
        let routers = Routers {
            served: public_router(&state),
            refused: refusing_router(&state),
        };
        server::serve(public, routers, server_settings(&state.config), ending).await;
        maintenance.abort();
        // After the last write: its readers have been told of it, or go on elsewhere.
        state.tail.end();
        let _ = end_private.send(());
        let _ = private.await;
        poller.abort();
        state.db.close().await;
        Ok(())
    }
}

/// How long a start waits for the database to say whether it is durable.
const START_TIMEOUT: Duration = Duration::from_secs(2);
/// Between looks for a database that does not answer.
const START_RETRY: Duration = Duration::from_millis(20);

/// The API: all routes behind the one layer.
fn public_router(state: &AppState) -> Router {
    routes::router()
        .layer(middleware::from_fn_with_state(state.clone(), front::front))
        .with_state(state.clone())
}

/// The API to a connection that is one too many: behind the same layer, so that it is answered, counted and logged as
/// every request is.
fn refusing_router(state: &AppState) -> Router {
    Router::new()
        .fallback(async |State(state): State<AppState>| {
            state.metrics.refused_connections.inc();
            server::too_many()
        })
        .layer(middleware::from_fn_with_state(state.clone(), front::front))
        .with_state(state.clone())
}

/// What is for operators only. The API's description says where clients reach the API.
fn private_router(state: &AppState, public: SocketAddr) -> Router {
    let url = state.config.public_url.clone();
    health::router()
        .merge(tail::stream::router(state.tail.clone()))
        .merge(openapi::router(
            url.unwrap_or_else(|| format!("http://{public}")),
        ))
        .layer(middleware::map_response_with_state(
            state.clone(),
            name_release,
        ))
        .with_state(state.clone())
}

/// Every answer there names the build: gateways that fetch nothing learn of a new one all the same.
async fn name_release(State(state): State<AppState>, mut response: Response) -> Response {
    state.cache_headers.write_release(response.headers_mut());
    response
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))
}

fn server_settings(config: &Config) -> server::Settings {
    server::Settings {
        connections_max: config.connections_max,
        keep_alive: config.keep_alive,
        grace: config.grace,
    }
}

/// Every statement of this program.
pub fn statements() -> Vec<&'static Statement> {
    [
        &products::db::STATEMENTS[..],
        &reviews::db::STATEMENTS,
        &questions::db::STATEMENTS,
        &answers::db::STATEMENTS,
        &cart::db::STATEMENTS,
        &interactions::db::STATEMENTS,
        &idempotency::STATEMENTS,
        &database::db::STATEMENTS,
        &health::db::STATEMENTS,
        &maintenance::db::STATEMENTS,
        &ranked::db::STATEMENTS,
        &tail::db::STATEMENTS,
    ]
    .concat()
}

/// Waits for the database, and looks whether what it acknowledges survives a crash.
async fn check_durability(state: &AppState) -> anyhow::Result<()> {
    let unsafe_settings = loop {
        match health::db::unsafe_settings(state.db.reads()).await {
            Ok(settings) => break settings,
            Err(_) => tokio::time::sleep(START_RETRY).await,
        }
    };
    if unsafe_settings.is_empty() {
        return Ok(());
    }
    let names = unsafe_settings.join(", ");
    if !state.config.allow_unsafe_durability {
        bail!(
            "the database has {names} off: it could lose what it has acknowledged. \
             Turn it on, or allow this with --allow-unsafe-durability"
        );
    }
    tracing::warn!(
        settings = names,
        "the database could lose what it has acknowledged"
    );
    Ok(())
}
