//! Active health checks: pingora-load-balancing runs them, our nodes take the verdicts.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use pingora_load_balancing::{Backend, Backends, discovery};

use super::node::Node;
use crate::config;

/// Checks every node in turn, for as long as the gateway runs.
pub struct HealthChecks {
    backends: Backends,
    checked: Vec<(Backend, Arc<Node>)>,
    interval: Duration,
}

impl HealthChecks {
    /// Checks each node at the address beside it, which may be a private one.
    ///
    /// # Errors
    /// A path that is no request target.
    pub fn new(checked: Vec<(SocketAddr, Arc<Node>)>, health: &config::Health) -> Result<Self> {
        let mut checks = Vec::with_capacity(checked.len());
        for (address, node) in checked {
            checks.push((Backend::new(&address.to_string())?, node));
        }
        let addresses: BTreeSet<Backend> =
            checks.iter().map(|(backend, _)| backend.clone()).collect();
        let mut backends = Backends::new(discovery::Static::new(addresses));
        backends.set_health_check(health_check(health)?);
        Ok(Self {
            backends,
            checked: checks,
            interval: health.interval,
        })
    }

    async fn round(&self) {
        self.backends.run_health_check(true).await;
        for (backend, node) in &self.checked {
            node.set_healthy(self.backends.ready(backend));
        }
    }
}

fn health_check(health: &config::Health) -> Result<Box<dyn HealthCheck + Send + Sync>> {
    let Some(path) = &health.path else {
        let mut check = TcpHealthCheck::new();
        check.consecutive_success = health.rise;
        check.consecutive_failure = health.fall;
        check.peer_template.options.connection_timeout = Some(health.timeout);
        return Ok(check);
    };
    let mut check = HttpHealthCheck::new("health", false);
    check.consecutive_success = health.rise;
    check.consecutive_failure = health.fall;
    check.reuse_connection = true;
    check.peer_template.options.connection_timeout = Some(health.timeout);
    check.peer_template.options.read_timeout = Some(health.timeout);
    check.req = RequestHeader::build("GET", path.as_bytes(), Some(1))?;
    check.req.insert_header("Host", "health")?;
    Ok(Box::new(check))
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if let Err(error) = self.backends.update(|_| {}).await {
            tracing::error!(%error, "health checks cannot start");
            return;
        }
        let mut rounds = tokio::time::interval(self.interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = rounds.tick() => self.round().await,
            }
        }
    }
}
