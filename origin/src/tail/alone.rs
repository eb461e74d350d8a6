//! The stream by itself, for the caches of a service that is not this one.

use std::{future::Future, net::SocketAddr, time::Duration};

use axum::{Router, extract::State, response::IntoResponse, response::Response, routing::get};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use prometheus::{Encoder as _, Registry, TextEncoder};
use tokio::{net::TcpListener, sync::oneshot};

use super::{
    Tail,
    db::{self, Session},
    metrics::Metrics,
    poller, stream,
};
use crate::{
    config::TailConfig,
    log_buffer::LogBuffer,
    server::{self, Routers},
};

/// How long opening a connection to the database may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A position older than this is no use to anybody.
const POSITION_AGE_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the outbox is to be turned over, which is once an hour.
const ROTATE_EVERY: Duration = Duration::from_secs(60);
/// It gives way to a poll that reads the outbox at the moment, so it tries some times, and the pause between.
const ROTATE_TRIES: u32 = 10;
const ROTATE_PAUSE: Duration = Duration::from_millis(70);
/// Requests that are not streams.
const OTHER_CONNECTIONS: u32 = 64;

const LISTENER: server::Settings = server::Settings {
    connections_max: OTHER_CONNECTIONS,
    keep_alive: Duration::from_secs(75),
    grace: Duration::from_secs(2),
};

/// A stream that is listening, and not yet serving.
#[derive(Debug)]
pub struct Alone {
    tail: Tail,
    registry: Registry,
    listener: TcpListener,
    settings: server::Settings,
}

impl Alone {
    /// Binds the listener; the database need not be there yet.
    ///
    /// # Errors
    /// If the address is taken, or a certificate that the URL names cannot be read.
    pub async fn build(config: TailConfig, log: &LogBuffer) -> anyhow::Result<Self> {
        let registry = Registry::new();
        registry.register(Box::new(log.lost().clone()))?;
        let metrics = Metrics::new(&registry)?;
        let mut settings = LISTENER;
        settings.connections_max += u32::from(config.tail.streams_max);
        Ok(Self {
            listener: crate::listen(config.listen).await?,
            tail: Tail::new(&config.database_url, CONNECT_TIMEOUT, config.tail, metrics)?,
            registry,
            settings,
        })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// If the system does not tell.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `ending`.
    pub async fn serve(self, ending: impl Future<Output = ()>) {
        let router = Router::new()
            .route("/healthz", get(async || "ok"))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state((self.tail.clone(), self.registry))
            .merge(stream::router(self.tail.clone()));
        let poller = tokio::spawn(poller::run(self.tail.clone()));
        let rotation = tokio::spawn(rotate_now_and_then(self.tail.clone()));
        let (end, ended) = oneshot::channel::<()>();
        let routers = Routers {
            served: router,
            refused: server::refusing(),
        };
        let served = server::serve(self.listener, routers, self.settings, async {
            let _ = ended.await;
        });
        let ending = async {
            ending.await;
            self.tail.end();
            let _ = end.send(());
        };
        tokio::join!(served, ending);
        poller.abort();
        rotation.abort();
    }
}

/// Keeps the outbox from growing: beside the API that is the maintenance of origins. By a connection of its own, as truncating
/// may wait for the disk.
async fn rotate_now_and_then(tail: Tail) {
    let mut has_failed = false;
    let mut turns = tokio::time::interval(ROTATE_EVERY);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        match rotate(&tail).await {
            Ok(is_rotated) => {
                has_failed = false;
                if is_rotated {
                    tracing::info!("the outbox was rotated");
                }
            }
            // Once, until it has worked again.
            Err(error) if !has_failed => {
                has_failed = true;
                tracing::warn!(%error, "the outbox cannot be rotated; trying again");
            }
            Err(_) => {}
        }
    }
}

async fn rotate(tail: &Tail) -> Result<bool, db::Error> {
    let session = Session::open(tail.source(), None).await?;
    for _ in 1..ROTATE_TRIES {
        if session.rotate().await? {
            return Ok(true);
        }
        tokio::time::sleep(ROTATE_PAUSE).await;
    }
    session.rotate().await
}

async fn ready(State((tail, _)): State<(Tail, Registry)>) -> Response {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if !tail.has_position() || tail.position_age() >= POSITION_AGE_MAX {
        return unready("the outbox cannot be read".to_owned());
    }
    match tail.untold() {
        Some(untold) => unready(untold.as_ref().to_owned()),
        None => "ready".into_response(),
    }
}

async fn metrics(State((tail, registry)): State<(Tail, Registry)>) -> Response {
    tail.position_age();
    let mut text = Vec::new();
    match TextEncoder::new().encode(&registry.gather(), &mut text) {
        Ok(()) => {
            let kind = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "cannot render metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
