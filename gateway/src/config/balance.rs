//! How requests are spread over the origins, and when one of them is left alone.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::check::Check;
use super::kind::duration;
use super::section::Upstream;

/// Which of the usable origins a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The one with the fewest requests in flight for its weight.
    LeastConnections,
    /// Each in its turn, as often as its weight says.
    RoundRobin,
    /// The one with fewer requests in flight of two that were drawn by weight.
    PowerOfTwo,
}

/// `[upstream.ejection]`: an origin whose requests fail is passed over for a while.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ejection {
    /// The first time out; each further one is twice as long.
    #[serde(deserialize_with = "duration")]
    pub base: Duration,
    /// The longest time out. An origin that serves well for as long begins at `base` again.
    #[serde(deserialize_with = "duration")]
    pub max: Duration,
    /// Answers that came within this time are judged together.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
    /// Answers in a window at least, before their share of failures counts.
    pub requests_min: u32,
    /// The share of 500, 502, 503, 504, broken and late answers that ejects, in percent.
    pub failure_percent: u32,
    /// Broken or late answers in a row that eject.
    pub failures_in_a_row: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            base: Duration::from_secs(1),
            max: Duration::from_secs(30),
            window: Duration::from_secs(10),
            requests_min: 20,
            failure_percent: 50,
            failures_in_a_row: 3,
        }
    }
}

impl Check {
    /// The rules of this file's settings.
    pub(super) fn balance(&mut self, upstream: &Upstream) {
        let hour = Duration::from_secs(3_600);
        let within_hour = |check: &mut Self, key: &str, value: Duration, least: Duration| {
            if value < least || value > hour {
                check.report(
                    key,
                    format!("{value:?} is not between {least:?} and one hour"),
                );
            }
        };
        within_hour(
            self,
            "upstream.slow_start",
            upstream.slow_start,
            Duration::ZERO,
        );
        within_hour(
            self,
            "upstream.queue_wait",
            upstream.queue_wait,
            Duration::ZERO,
        );
        let second = Duration::from_secs(1);
        within_hour(
            self,
            "upstream.resolve_interval",
            upstream.resolve_interval,
            second,
        );
        self.within("upstream.queue_max", upstream.queue_max, 0, 65_536);
        self.within("upstream.panic_percent", upstream.panic_percent, 0, 100);
        self.within("upstream.retry_percent", upstream.retry_percent, 0, 100);
        let ejection = &upstream.ejection;
        let tick = Duration::from_millis(1);
        within_hour(self, "upstream.ejection.base", ejection.base, tick);
        within_hour(self, "upstream.ejection.max", ejection.max, ejection.base);
        within_hour(self, "upstream.ejection.window", ejection.window, tick);
        let (requests, percent) = (ejection.requests_min, ejection.failure_percent);
        self.within("upstream.ejection.requests_min", requests, 1, 1_000_000);
        self.within("upstream.ejection.failure_percent", percent, 1, 100);
        let in_a_row = ejection.failures_in_a_row;
        self.within(
            "upstream.ejection.failures_in_a_row",
            in_a_row,
            1,
            1_000_000,
        );
    }
}
