//! How it is found out which origins are well.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::kind::duration;

/// Statuses of a healthy origin at most.
const STATUSES_MAX: usize = 16;

/// `[upstream.health]`: active health checks.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// The path asked for, on a node's private listener if it has one; without a path a connection is the check.
    #[schemars(example = "/healthz")]
    pub path: Option<String>,
    /// The path asked for on private listeners instead; it is asked for nowhere else.
    #[schemars(example = "/readyz")]
    pub private_path: Option<String>,
    /// The statuses by which an origin that is asked for a path is healthy.
    pub status: Vec<u16>,
    /// Time between two checks of one origin.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// How much longer or shorter that time is at random, in percent, so that gateways do not ask in step.
    pub jitter_percent: u32,
    /// How long one check may take.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Failures in a row that take an origin out.
    pub fall: usize,
    /// Successes in a row that bring it back.
    pub rise: usize,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            path: None,
            private_path: None,
            status: vec![200],
            interval: Duration::from_millis(500),
            jitter_percent: 10,
            timeout: Duration::from_millis(500),
            fall: 2,
            rise: 1,
        }
    }
}

impl Check {
    /// The rules of this file's settings.
    pub(super) fn health(&mut self, health: &Health) {
        let paths = [
            ("path", &health.path),
            ("private_path", &health.private_path),
        ];
        for (name, path) in paths {
            if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
                let key = format!("upstream.health.{name}");
                self.report(&key, "a path starts with a slash");
            }
        }
        let statuses = health.status.len();
        self.within("upstream.health.status", statuses, 1, STATUSES_MAX);
        for (index, status) in health.status.iter().enumerate() {
            // Interim answers say nothing of an origin.
            self.within(
                &format!("upstream.health.status[{index}]"),
                *status,
                200,
                599,
            );
        }
        self.positive("upstream.health.interval", health.interval);
        self.positive("upstream.health.timeout", health.timeout);
        self.within("upstream.health.fall", health.fall, 1, 100);
        self.within("upstream.health.rise", health.rise, 1, 100);
        self.within(
            "upstream.health.jitter_percent",
            health.jitter_percent,
            0,
            50,
        );
    }
}
