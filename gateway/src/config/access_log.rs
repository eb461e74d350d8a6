//! `[access_log]`: one line for each request.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::check::Check;

/// `[access_log]`: one line of JSON for each request.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// The file that lines are added to, opened anew when it is moved away; left out means standard output.
    #[schemars(example = "/var/log/gateway/access.log")]
    pub path: Option<PathBuf>,
    /// How many of a hundred requests are logged; those answered with 5xx always are.
    pub sample_percent: u32,
    /// Lines that wait to be written at most; more are lost, and counted.
    pub queue_max: usize,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            path: None,
            sample_percent: 100,
            queue_max: 4_096,
        }
    }
}

impl Check {
    /// The rules of this file's settings.
    pub(super) fn access_log(&mut self, config: &Config) {
        let Some(log) = &config.access_log else {
            return;
        };
        self.within("access_log.sample_percent", log.sample_percent, 0, 100);
        self.within("access_log.queue_max", log.queue_max, 1, 1_000_000);
    }
}
