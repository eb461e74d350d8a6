//! The command line.

mod check;
mod explain;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::config::{self, Address, Config, Overrides};
use crate::server;

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
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// Why the gateway could not start, or what a running one refused.
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Run(run) => {
                let config = run.config()?;
                server::build(config)?.run_forever()
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
            Command::Explain(explain) => tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(explain.run()),
        }
    }
}

impl Run {
    fn config(self) -> Result<Config> {
        let overrides = Overrides {
            listen: self.listen,
            upstreams: self.upstreams,
            admin: self.admin,
            admin_token_file: self.admin_token_file,
        };
        match self.config {
            Some(file) => Ok(Config::load(&file, &overrides)?),
            None => {
                let listen = overrides.listen.unwrap_or(DEFAULT_LISTEN);
                Ok(Config::from_flags(
                    listen,
                    overrides.upstreams,
                    overrides.admin,
                    overrides.admin_token_file,
                )?)
            }
        }
    }
}
