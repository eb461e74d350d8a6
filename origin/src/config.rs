//! Settings: command line flags, each with its environment variable. A parsed [`Config`] is a valid one.

mod tail;

use std::{convert::Infallible, fmt, net::SocketAddr, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand};
use sqlx::postgres::PgConnectOptions;

use crate::database::{REPLICAS_MAX, pool};
pub use tail::{TailConfig, TailSettings};

/// The shop's API over Postgres.
#[derive(Debug, Parser)]
#[command(name = "origin", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the API until SIGTERM or SIGINT.
    Run(Box<Config>),
    /// Serve the stream of changes alone, for the caches of any service, until SIGTERM or SIGINT.
    Tail(Box<TailConfig>),
    /// Print the description of the API (`OpenAPI` 3.1), and exit.
    Openapi {
        /// Where clients reach the API, as the document says.
        #[arg(long, env = "ORIGIN_PUBLIC_URL", default_value = "/", value_parser = public_url)]
        public_url: String,
    },
}

/// Every setting.
#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Where the API listens: a private address, behind gateways.
    #[arg(long, env = "ORIGIN_LISTEN", default_value = "127.0.0.1:3000")]
    pub listen: SocketAddr,

    /// Where health, readiness and metrics listen; never reachable by clients.
    #[arg(long, env = "ORIGIN_PRIVATE", default_value = "127.0.0.1:3001")]
    pub private: SocketAddr,

    /// Where clients reach the API, as its description says; by default where this origin listens.
    #[arg(long, env = "ORIGIN_PUBLIC_URL", value_parser = public_url)]
    pub public_url: Option<String>,

    /// The primary database, as role `atelier_app`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: DatabaseUrl,

    /// A replica of the primary that answers readers who have seen nothing that it does not show; once for each, up to eight.
    #[arg(
        long,
        env = "ORIGIN_READ_URL",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub read_url: Vec<DatabaseUrl>,

    /// Threads that serve requests; one origin for each processor does more than one origin of many threads.
    #[arg(long, env = "ORIGIN_THREADS", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,

    /// Connections for writes, one for each that runs; all origins together should have about four for each core of the
    /// database.
    #[arg(long, env = "ORIGIN_POOL_SIZE", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub pool_size: u16,

    /// Connections for reads, each shared by any number of them.
    #[arg(long, env = "ORIGIN_READ_CONNECTIONS", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=100))]
    pub read_connections: u16,

    /// How long a request waits for a connection before it is refused with 503.
    #[arg(long = "acquire-timeout-ms", env = "ORIGIN_ACQUIRE_TIMEOUT_MS", default_value = "80", value_parser = millis)]
    pub acquire_timeout: Duration,

    /// How long the server may work on a statement, or wait for a lock, before it cancels it.
    #[arg(long = "statement-timeout-ms", env = "ORIGIN_STATEMENT_TIMEOUT_MS", default_value = "900", value_parser = millis)]
    pub statement_timeout: Duration,

    /// How long the origin waits for a statement before it takes the server for dead; more than the server's own limit.
    #[arg(long = "statement-deadline-ms", env = "ORIGIN_STATEMENT_DEADLINE_MS", default_value = "1000", value_parser = millis)]
    pub statement_deadline: Duration,

    /// How long opening a connection to the database may take.
    #[arg(long = "connect-timeout-ms", env = "ORIGIN_CONNECT_TIMEOUT_MS", default_value = "2000", value_parser = millis)]
    pub connect_timeout: Duration,

    /// How old a connection to the database may become before another one takes its place: a server process keeps what it
    /// has cached of the catalogue.
    #[arg(long, env = "ORIGIN_CONNECTION_LIFETIME_S", default_value_t = 1800, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub connection_lifetime_s: u32,

    /// How long a request may take, the sending of its body included.
    #[arg(long = "request-timeout-ms", env = "ORIGIN_REQUEST_TIMEOUT_MS", default_value = "10000", value_parser = millis)]
    pub request_timeout: Duration,

    /// Requests served at a time; more are refused with 503 at once.
    #[arg(long, env = "ORIGIN_IN_FLIGHT_MAX", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight_max: u32,

    /// Bytes of request bodies held in memory at a time; more are refused with 503 at once.
    #[arg(long, env = "ORIGIN_BODY_BYTES_MAX", default_value_t = 8 * 1024 * 1024, value_parser = clap::value_parser!(u32).range(1_048_576..=1_073_741_824))]
    pub body_bytes_max: u32,

    /// Connections from gateways at a time; one more is answered 503 once, and closed.
    #[arg(long, env = "ORIGIN_CONNECTIONS_MAX", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections_max: u32,

    /// How long a connection may stand idle, or take to send a request's head; more than gateways keep one.
    #[arg(long = "keep-alive-ms", env = "ORIGIN_KEEP_ALIVE_MS", default_value = "75000", value_parser = millis)]
    pub keep_alive: Duration,

    /// How long a shut-down waits for the requests in flight.
    #[arg(long = "grace-ms", env = "ORIGIN_GRACE_MS", default_value = "10000", value_parser = millis)]
    pub grace: Duration,

    /// What every product names as its campus.
    #[arg(long, env = "ORIGIN_CAMPUS", default_value = "hr-rfp")]
    pub campus: String,

    /// How often expired idempotency keys and old interactions are removed; 0 leaves that to other origins.
    #[arg(long, env = "ORIGIN_MAINTENANCE_EVERY_S", default_value_t = 60)]
    pub maintenance_every_s: u32,

    /// After how many days interactions are removed; 0 keeps them.
    #[arg(long, env = "ORIGIN_INTERACTIONS_DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(0..=36_500))]
    pub interactions_days: u16,

    /// How changes are told to caches.
    #[command(flatten)]
    pub tail: TailSettings,

    /// Serve even if the database could lose what it has acknowledged: for tests.
    #[arg(long, env = "ORIGIN_ALLOW_UNSAFE_DURABILITY")]
    pub allow_unsafe_durability: bool,

    /// What is logged, as a filter of tracing; one line a request is `origin::access=info`.
    #[arg(long, env = "ORIGIN_LOG", default_value = "info")]
    pub log: String,

    /// Print the settings in force, without secrets, and exit.
    #[arg(long)]
    pub check_config: bool,
}

impl Config {
    /// The rules that concern more than one setting.
    ///
    /// # Errors
    /// All that is wrong, not the first only.
    pub fn check(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        if !self.database_url.is_valid {
            problems.push("--database-url must be a URL postgres://user@host/database");
        }
        if self.read_url.iter().any(|url| !url.is_valid) {
            problems.push("--read-url must be a URL postgres://user@host/database");
        }
        if self.read_url.len() > REPLICAS_MAX {
            problems.push("--read-url may be given up to eight times");
        }
        if self.statement_deadline <= self.statement_timeout {
            problems.push(
                "--statement-deadline-ms must be more than --statement-timeout-ms: \
                 a slow statement would be taken for a dead server",
            );
        }
        if self.request_timeout <= self.statement_deadline {
            problems.push("--request-timeout-ms must be more than --statement-deadline-ms");
        }
        if self.listen == self.private && self.listen.port() != 0 {
            problems
                .push("--listen and --private must differ: health and metrics are not for clients");
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems.join("\n"))
        }
    }

    /// The bounds of a pool of so many connections.
    pub fn pool_settings(&self, connections: u16) -> pool::Settings {
        pool::Settings {
            connections_max: connections.into(),
            acquire_timeout: self.acquire_timeout,
            statement_deadline: self.statement_deadline,
            connect_timeout: self.connect_timeout,
            lifetime: Duration::from_secs(self.connection_lifetime_s.into()),
            allows_unsafe: self.allow_unsafe_durability,
        }
    }
}

/// Reads a number of milliseconds from 1 to a day.
fn millis(text: &str) -> Result<Duration, String> {
    const MAX: u64 = 86_400_000;
    match text.parse() {
        Ok(millis @ 1..=MAX) => Ok(Duration::from_millis(millis)),
        Ok(_) | Err(_) => Err(format!(
            "a number of milliseconds from 1 to {MAX} is needed"
        )),
    }
}

/// Reads the address of a service: `http://…`, `https://…` or a path.
fn public_url(text: &str) -> Result<String, String> {
    let is_url = text
        .parse::<http::Uri>()
        .is_ok_and(|url| match url.scheme_str() {
            Some(scheme) => matches!(scheme, "http" | "https"),
            None => text.starts_with('/'),
        });
    if is_url {
        Ok(text.to_owned())
    } else {
        Err("http://…, https://… or a path is needed".to_owned())
    }
}

/// The URL of a database. Its password is never shown.
#[derive(Clone)]
pub struct DatabaseUrl {
    options: PgConnectOptions,
    is_valid: bool,
}

impl DatabaseUrl {
    /// The URL as the driver wants it.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

/// Never fails: the command line's own message would repeat the text, which may hold a password. See [`Config::check`].
impl FromStr for DatabaseUrl {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_postgres = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let options = is_postgres.then(|| text.parse().ok()).flatten();
        Ok(Self {
            is_valid: options.is_some(),
            options: options.unwrap_or_else(PgConnectOptions::new_without_pgpass),
        })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let host = options.get_socket().map_or_else(
            || format!("{}:{}", options.get_host(), options.get_port()),
            |socket| socket.display().to_string(),
        );
        let database = options.get_database().unwrap_or("(default)");
        write!(f, "{}@{host}/{database}", options.get_username())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, String> {
        let fixed = [
            "origin",
            "run",
            "--database-url",
            "postgres://app:hush@db:5433/shop",
        ];
        let cli = Cli::try_parse_from(fixed.iter().chain(arguments)).map_err(|e| e.to_string())?;
        let Command::Run(config) = cli.command else {
            panic!("not to be run");
        };
        config.check()?;
        Ok(*config)
    }

    #[test]
    fn the_defaults_are_valid() {
        let config = parse(&[]).expect("valid");
        assert_eq!(config.campus, "hr-rfp");
        assert_eq!(config.pool_size, 4);
        assert_eq!(config.acquire_timeout, Duration::from_millis(80));
    }

    #[test]
    fn a_password_is_never_shown() {
        let shown = format!("{:?}", parse(&[]).expect("valid"));
        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("app@db:5433/shop"), "{shown}");
        let error = parse(&["--read-url", "mysql://app:hush@db/shop"]).expect_err("refused");
        assert!(error.contains("--read-url"), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let error = parse(&[
            "--statement-deadline-ms=900",
            "--request-timeout-ms=900",
            "--listen=127.0.0.1:9",
            "--private=127.0.0.1:9",
        ])
        .expect_err("refused");
        for flag in [
            "--statement-deadline-ms",
            "--request-timeout-ms",
            "--listen",
        ] {
            assert!(error.contains(flag), "{flag} not in {error}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused() {
        for argument in [
            "--pool-size=0",
            "--pool-size=101",
            "--in-flight-max=0",
            "--acquire-timeout-ms=0",
            "--acquire-timeout-ms=1.5",
            "--body-bytes-max=1000",
        ] {
            assert!(parse(&[argument]).is_err(), "{argument}");
        }
    }
}
