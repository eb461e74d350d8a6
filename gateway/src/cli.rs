//! The command line.

mod ask;
mod check;
mod explain;
mod node;
mod purge;
mod status;

use std::ffi::OsString;
use std::io::stdout;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use http::Method;
use serde_json::json;

use crate::config::{self, Address, Config, Overrides};
use crate::log_level::LogLevel;
use crate::reload::Source;
use crate::server::{self, Start};
use crate::upgrade::Meeting;
use ask::Asked;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);

/// An edge caching gateway.
#[derive(Debug, Parser)]
#[command(name = "gateway", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves until it is told to stop.
    Run(Run),
    /// Tells everything that is wrong with a configuration file.
    Check(check::Check),
    /// Prints the JSON Schema of the configuration file.
    Schema,
    /// Prints a commented configuration file with every setting.
    Example,
    /// Tells why a running gateway answers a URL as it does.
    Explain(explain::Explain),
    /// Tells the counters, the cache's account and the settings in force.
    Status {
        #[command(flatten)]
        asked: Asked,
    },
    /// Takes out what it names.
    Purge(purge::Purge),
    /// Lists the origins; adds, removes, drains, enables or weighs one.
    Node(node::NodeCommand),
    /// Has the settings read again.
    Reload {
        #[command(flatten)]
        asked: Asked,
    },
    /// Has a new process of the program on disk take over.
    Upgrade {
        #[command(flatten)]
        asked: Asked,
    },
    /// Tells what is logged, or changes it.
    LogLevel {
        /// Directives such as `warn,gateway=debug`.
        filter: Option<String>,
        #[command(flatten)]
        asked: Asked,
    },
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
struct Run {
    /// The configuration file (TOML); flags win over what it says.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect.
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// An origin, as host:port; may be given several times.
    #[arg(long = "upstream", value_name = "ADDR")]
    upstreams: Vec<Address>,
    /// Where operators connect.
    #[arg(long, value_name = "ADDR")]
    admin: Option<SocketAddr>,
    /// The file that holds the admin token; made if it is not there.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// What is logged to standard error; an operator can change it.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Where the process that this one replaces hands over; `gateway upgrade` gives it.
    #[arg(long, value_name = "DIRECTORY", hide = true)]
    handover: Option<PathBuf>,
    /// The service manager's notification socket.
    #[arg(long, env = "NOTIFY_SOCKET", hide = true)]
    notify_socket: Option<OsString>,
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// Why the gateway could not start, or what a running one refused.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(run) => {
                let (config, start) = run.settings()?;
                match server::run(config, start)? {}
            }
            Command::Check(check) => check.run(),
            Command::Schema => {
                println!("{:#}", config::schema());
                Ok(())
            }
            Command::Example => {
                print!("{}", config::example());
                Ok(())
            }
            Command::Completions { shell } => {
                clap_complete::generate(shell, &mut Self::command(), "gateway", &mut stdout());
                Ok(())
            }
            asking => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(asking.ask()),
        }
    }
}

impl Command {
    /// What is asked of a running gateway.
    async fn ask(self) -> Result<()> {
        match self {
            Self::Explain(explain) => explain.run().await,
            Self::Purge(purge) => purge.run().await,
            Self::Node(node) => node.run().await,
            Self::Status { asked } => asked.show(Method::GET, "/status", None, status::told).await,
            Self::Reload { asked } => asked.show(Method::POST, "/reload", None, ask::lines).await,
            Self::Upgrade { asked } => asked.show(Method::POST, "/upgrade", None, ask::lines).await,
            Self::LogLevel { filter, asked } => {
                let body = filter.map(|filter| json!({ "filter": filter }));
                let method = if body.is_some() {
                    Method::PUT
                } else {
                    Method::GET
                };
                asked.show(method, "/log", body.as_ref(), ask::lines).await
            }
            Self::Run(_)
            | Self::Check(_)
            | Self::Schema
            | Self::Example
            | Self::Completions { .. } => Ok(()),
        }
    }
}

impl Run {
    /// The settings, and how the process was started beyond them.
    fn settings(self) -> Result<(Config, Start)> {
        let mut start = Start {
            log: Arc::new(LogLevel::install(self.log.as_deref())),
            source: None,
            handover: self.handover.map(Meeting::at),
            notify_socket: self.notify_socket,
        };
        let overrides = Overrides {
            listen: self.listen,
            upstreams: self.upstreams,
            admin: self.admin,
            admin_token_file: self.admin_token_file,
        };
        match self.config {
            Some(file) => {
                let config = Config::load(&file, &overrides)?;
                start.source = Some(Source { file, overrides });
                Ok((config, start))
            }
            None => {
                let listen = overrides.listen.unwrap_or(DEFAULT_LISTEN);
                let config = Config::from_flags(
                    listen,
                    overrides.upstreams,
                    overrides.admin,
                    overrides.admin_token_file,
                )?;
                Ok((config, start))
            }
        }
    }
}
