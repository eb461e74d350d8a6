//! Active health checks: each node is asked at its own pace, and takes the verdict.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use pingora::{Error, ErrorType, Result};
use pingora_load_balancing::Backend;
use pingora_load_balancing::health_check::{HealthCheck, HttpHealthCheck, TcpHealthCheck};
use tokio::task::JoinSet;

use super::Pool;
use super::node::Node;
use crate::config;

/// Checks every node, for as long as the gateway runs.
pub struct HealthChecks {
    pool: Arc<Pool>,
    settings: config::Health,
    checks: Checks,
}

type Check = Arc<dyn HealthCheck + Send + Sync>;

/// What is asked of a node.
#[derive(Clone)]
struct Checks {
    /// Where it serves, if it has no private listener.
    public: Check,
    /// At its private listener.
    private: Check,
}

impl Checks {
    fn new(health: &config::Health) -> Result<Self> {
        let private_path = health.private_path.as_ref().or(health.path.as_ref());
        Ok(Self {
            public: health_check(health, health.path.as_ref())?,
            private: health_check(health, private_path)?,
        })
    }

    fn of(&self, node: &Node) -> &Check {
        if node.place().checks_private {
            &self.private
        } else {
            &self.public
        }
    }
}

/// A row of equal results.
#[derive(Debug, Default)]
struct Row {
    passed: bool,
    length: usize,
}

impl Row {
    /// Adds a result; the new verdict, if it turns the one that stands.
    fn add(&mut self, passed: bool, is_healthy: bool, health: &config::Health) -> Option<bool> {
        if self.passed != passed {
            self.length = 0;
        }
        self.passed = passed;
        self.length = self.length.saturating_add(1);
        let enough = if passed { health.rise } else { health.fall };
        (passed != is_healthy && self.length >= enough).then_some(passed)
    }
}

impl HealthChecks {
    /// Checks the nodes of a pool, each where its place says.
    ///
    /// # Errors
    /// A path that is no request target.
    pub fn new(pool: Arc<Pool>, health: &config::Health) -> Result<Self> {
        Ok(Self {
            pool,
            settings: health.clone(),
            checks: Checks::new(health)?,
        })
    }

    async fn watch(pool: Arc<Pool>, node: Arc<Node>, check: Check, settings: config::Health) {
        let Ok(backend) = Backend::new(&node.place().check_at.to_string()) else {
            return; // an address that was parsed before
        };
        let mut row = Row::default();
        while !node.is_gone() {
            let result = tokio::time::timeout(settings.timeout, check.check(&backend)).await;
            let passed = matches!(result, Ok(Ok(())));
            node.set_absent(result.as_ref().is_ok_and(met_nobody));
            if let Some(verdict) = row.add(passed, node.is_healthy(), &settings) {
                node.set_healthy(verdict, Instant::now());
            }
            let pause = jittered(settings.interval, settings.jitter_percent, pool.random());
            tokio::time::sleep(pause).await;
        }
    }
}

/// Whether a check found no way to the machine. One that refuses the connection is there, and costs no request any time.
fn met_nobody(result: &Result<()>) -> bool {
    let kind = result.as_ref().err().map(|error| error.etype());
    matches!(
        kind,
        Some(ErrorType::ConnectTimedout | ErrorType::ConnectNoRoute)
    )
}

/// Of the time for a check, what its connection may take: the rest is to learn that it was the connection.
fn connect_timeout(health: &config::Health) -> Duration {
    health.timeout * 9 / 10
}

/// The interval, up to so many percent longer or shorter.
fn jittered(interval: Duration, percent: u32, random: u64) -> Duration {
    let width = interval * (2 * percent) / 100;
    let share = u32::try_from(random >> 32).unwrap_or_default();
    let part = (width.as_nanos() * u128::from(share)) >> 32;
    let part = Duration::from_nanos(u64::try_from(part).unwrap_or(u64::MAX));
    interval - width / 2 + part
}

/// The check that asks for a path, or connects where there is none.
fn health_check(health: &config::Health, path: Option<&String>) -> Result<Check> {
    let Some(path) = path else {
        let mut check = TcpHealthCheck::new();
        check.peer_template.options.connection_timeout = Some(connect_timeout(health));
        return Ok(Arc::new(*check));
    };
    let mut check = HttpHealthCheck::new("health", false);
    check.reuse_connection = true;
    check.peer_template.options.connection_timeout = Some(connect_timeout(health));
    check.peer_template.options.read_timeout = Some(health.timeout);
    check.req = RequestHeader::build("GET", path.as_bytes(), Some(1))?;
    check.req.insert_header("Host", "health")?;
    let statuses = health.status.clone();
    check.validator = Some(Box::new(move |resp| {
        match statuses.contains(&resp.status.as_u16()) {
            true => Ok(()),
            false => Error::e_explain(ErrorType::HTTPStatus(resp.status.as_u16()), "not healthy"),
        }
    }));
    Ok(Arc::new(check))
}

#[async_trait]
impl BackgroundService for HealthChecks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut rounds = tokio::time::interval(self.settings.interval);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut watched = HashSet::new();
        let mut watches = JoinSet::new(); // dropped at the end, which ends them
        loop {
            tokio::select! {
                _ = shutdown.changed() => return,
                _ = rounds.tick() => {}
            }
            let nodes = self.pool.nodes();
            watched.retain(|id| nodes.iter().any(|node| node.id() == *id));
            for node in nodes.iter() {
                if watched.insert(node.id()) {
                    watches.spawn(Self::watch(
                        Arc::clone(&self.pool),
                        Arc::clone(node),
                        Arc::clone(self.checks.of(node)),
                        self.settings.clone(),
                    ));
                }
            }
            while watches.try_join_next().is_some() {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_turns_after_so_many_equal_results_in_a_row() {
        let health = config::Health {
            fall: 3,
            rise: 2,
            ..config::Health::default()
        };
        let mut row = Row::default();
        let mut is_healthy = true;
        let mut verdicts = Vec::new();
        for passed in [
            false, false, true, false, false, false, false, true, false, true, true,
        ] {
            if let Some(verdict) = row.add(passed, is_healthy, &health) {
                is_healthy = verdict;
            }
            verdicts.push(is_healthy);
        }
        let expected = [
            true, true, true, true, true, false, false, false, false, false, true,
        ];
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn pauses_are_spread_around_the_interval_and_not_beyond() {
        let interval = Duration::from_millis(500);
        assert_eq!(jittered(interval, 0, u64::MAX), interval);
        assert_eq!(jittered(interval, 10, 0), Duration::from_millis(450));
        let longest = jittered(interval, 10, u64::MAX);
        assert!(
            longest > Duration::from_millis(549) && longest <= Duration::from_millis(550),
            "{longest:?}"
        );
    }
}
