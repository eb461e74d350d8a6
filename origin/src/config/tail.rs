//! Settings of the stream of changes.

use std::{net::SocketAddr, time::Duration};

use clap::Args;

use super::{DatabaseUrl, millis};

/// How the outbox is read and told.
#[derive(Clone, Debug, Args)]
pub struct TailSettings {
    /// Between looks at the outbox while there are changes.
    #[arg(long = "tail-busy-ms", env = "ORIGIN_TAIL_BUSY_MS", default_value = "10", value_parser = millis)]
    pub busy: Duration,

    /// Between looks at the outbox while there are none, and nobody tells of any: half of it is what a change by other
    /// programs waits on average.
    #[arg(long = "tail-idle-ms", env = "ORIGIN_TAIL_IDLE_MS", default_value = "20", value_parser = millis)]
    pub idle: Duration,

    /// Streams of changes at a time; more get 503.
    #[arg(long = "tail-streams-max", env = "ORIGIN_TAIL_STREAMS_MAX", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub streams_max: u16,

    /// Bytes of changes kept in memory for streams that are behind.
    #[arg(long = "tail-history-bytes", env = "ORIGIN_TAIL_HISTORY_BYTES", default_value_t = 4 * 1024 * 1024, value_parser = clap::value_parser!(u32).range(65_536..))]
    pub history_bytes: u32,
}

/// The settings of a stream that runs alone, for the caches of any service.
#[derive(Clone, Debug, Args)]
pub struct TailConfig {
    /// Where the stream, health and metrics listen; never reachable by clients.
    #[arg(long, env = "ORIGIN_TAIL_LISTEN", default_value = "127.0.0.1:3001")]
    pub listen: SocketAddr,

    /// The primary database, as a role that may read the outbox.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,

    /// How the outbox is read and told.
    #[command(flatten)]
    pub tail: TailSettings,

    /// What is logged, as a filter of tracing.
    #[arg(long, env = "ORIGIN_LOG", default_value = "info")]
    pub log: String,
}

impl TailConfig {
    /// The rules that the command line cannot check.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.database_url.is_valid {
            Ok(())
        } else {
            Err("--database-url must be a URL postgres://user@host/database".to_owned())
        }
    }
}
