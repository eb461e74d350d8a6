//! `[coherence]`: following the database's stream of changes.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use super::check::Check;
use super::kind::{Address, duration};

/// Streams to follow, and other gateways to wait for, at most.
const FOLLOWED_MAX: u64 = 64;

/// `[coherence]`: what is kept is fresh until the data changes, as the origins' stream of changes tells.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Coherence {
    /// Private listeners of origins to follow, one at a time; empty means those of the nodes.
    #[schemars(example = ["10.0.0.5:3001"])]
    pub streams: Vec<Address>,
    /// How long what was applied up to a moment counts as all there is.
    #[serde(deserialize_with = "duration")]
    pub lease: Duration,
    /// Time between two probes; left out means a quarter of the lease.
    #[serde(deserialize_with = "some_duration")]
    #[schemars(example = "500ms")]
    pub probe_every: Option<Duration>,
    /// What happens without a lease.
    pub mode: Mode,
    /// Freshness without a lease is cut to this, in mode `available`.
    #[serde(deserialize_with = "duration")]
    pub fresh_without_lease: Duration,
    /// Requests a second that ask an origin because the lease or a token demands it.
    pub revalidations_max: u32,
    /// How long a request waits until the change that its token names has arrived.
    #[serde(deserialize_with = "duration")]
    pub token_wait: Duration,
    /// Whether the answer of a write sets its token as a cookie too, and requests may present it so.
    pub token_cookie: bool,
    /// The admin listeners of every other gateway on the same database, which a write waits for in mode `strict`.
    pub peers: Vec<Address>,
}

/// What a gateway does when it cannot know whether an entry is up to date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It answers, for a short time without asking, and says so.
    Available,
    /// It asks the primary or refuses.
    Strict,
}

impl Mode {
    /// Its name in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Strict => "strict",
        }
    }
}

impl Coherence {
    /// Time between two probes.
    pub fn probe_interval(&self) -> Duration {
        self.probe_every.unwrap_or(self.lease / 4)
    }
}

impl Default for Coherence {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            lease: Duration::from_secs(2),
            probe_every: None,
            mode: Mode::Available,
            fresh_without_lease: Duration::from_secs(1),
            revalidations_max: 200,
            token_wait: Duration::from_millis(200),
            token_cookie: false,
            peers: Vec::new(),
        }
    }
}

impl Check {
    /// The rules of this file's settings.
    pub(super) fn coherence(&mut self, config: &Config) {
        let Some(coherence) = &config.coherence else {
            return;
        };
        if config.streams().is_empty() {
            self.report(
                "coherence.streams",
                "the private listener of at least one origin, here or as `private` of a node",
            );
        }
        let bounds = [
            (
                "coherence.streams",
                coherence.streams.len() as u64,
                0,
                FOLLOWED_MAX,
            ),
            (
                "coherence.peers",
                coherence.peers.len() as u64,
                0,
                FOLLOWED_MAX,
            ),
            (
                "coherence.revalidations_max",
                coherence.revalidations_max.into(),
                1,
                1_000_000,
            ),
        ];
        for (key, value, min, max) in bounds {
            self.within(key, value, min, max);
        }
        let milliseconds = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        let lengths = [
            ("coherence.lease", coherence.lease, 100, 3_600_000),
            (
                "coherence.probe_every",
                coherence.probe_interval(),
                10,
                milliseconds(coherence.lease / 2),
            ),
            (
                "coherence.fresh_without_lease",
                coherence.fresh_without_lease,
                0,
                60_000,
            ),
            ("coherence.token_wait", coherence.token_wait, 0, 10_000),
        ];
        for (key, length, min, max) in lengths {
            let value = milliseconds(length);
            if value < min || value > max {
                self.report(key, format!("{value}ms is not between {min}ms and {max}ms"));
            }
        }
        if !coherence.peers.is_empty() && config.admin.is_none() {
            self.report(
                "coherence.peers",
                "needs [admin]: the other gateways ask this one there",
            );
        }
    }
}

fn some_duration<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Overrides};

    const NODE: &str =
        "upstream.nodes = [{ address = \"127.0.0.1:1\", private = \"127.0.0.1:2\" }]\n";

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse("g.toml", text, &Overrides::default())
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_empty_section_follows_the_nodes_private_listeners() {
        let config = parse(&format!("{NODE}[coherence]")).unwrap();
        let streams: Vec<_> = config.streams().iter().map(ToString::to_string).collect();
        assert_eq!(streams, ["127.0.0.1:2"]);
        let section = config.coherence.unwrap();
        assert_eq!(section.probe_interval(), section.lease / 4);
        let named = parse(&format!(
            "{NODE}[coherence]\nstreams = [\"a:1\", \"b:2\"]\nprobe_every = \"1s\""
        ));
        let named = named.unwrap();
        assert_eq!(named.streams().len(), 2);
        assert_eq!(
            named.coherence.unwrap().probe_interval(),
            Duration::from_secs(1)
        );
    }

    #[test]
    fn what_cannot_work_is_refused_by_name() {
        let cases = [
            ("lease = \"1ms\"", "coherence.lease"),
            ("probe_every = \"1500ms\"", "coherence.probe_every"),
            (
                "fresh_without_lease = \"1h\"",
                "coherence.fresh_without_lease",
            ),
            ("token_wait = \"1h\"", "coherence.token_wait"),
            ("revalidations_max = 0", "coherence.revalidations_max"),
            ("mode = \"strict\"\npeers = [\"a:1\"]", "coherence.peers"),
            ("mode = \"lax\"", "coherence.mode"),
            ("stream = []", "coherence.stream"),
        ];
        for (setting, key) in cases {
            let problems = parse(&format!("{NODE}[coherence]\n{setting}")).unwrap_err();
            assert!(
                problems.contains(&format!("{key}: ")),
                "{setting}: {problems}"
            );
        }
        let problems = parse("upstream.nodes = [\"127.0.0.1:1\"]\n[coherence]").unwrap_err();
        assert!(problems.contains("coherence.streams: "), "{problems}");
        let problems = parse(&format!("{NODE}cache.release_prefix = \"\"")).unwrap_err();
        assert!(problems.contains("cache.release_prefix: "), "{problems}");
    }
}
