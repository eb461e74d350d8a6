//! What the operator may say.

use std::{
    env,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::{Args, builder::FalseyValueParser};
use nix::unistd::geteuid;

/// The settings of one run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Products to generate, when there is no data yet; about 70 records come with each.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub products: u64,
    /// Origins to run behind the gateway.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub origins: u16,
    /// Where the gateway listens; port 0 is any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the gateway's admin listener is; port 0 is any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    pub admin: SocketAddr,
    /// Where all state is kept [default: /var/lib/atelier as root, else ~/.local/state/atelier].
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Load these CSV files instead of generated ones.
    #[arg(long, value_name = "DIR")]
    pub csv: Option<PathBuf>,
    /// Remove the data of earlier runs first.
    #[arg(long)]
    pub fresh: bool,
    /// Write all URLs to this file as JSON when everything is ready.
    #[arg(long, value_name = "FILE")]
    pub endpoints: Option<PathBuf>,
    /// The gateway's configuration: what it has to know about the shop.
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../shop.toml"), hide_default_value = true)]
    pub gateway_config: PathBuf,
    /// The folder of Postgres' server programs; found if not named.
    #[arg(long, value_name = "DIR", env = "ATELIER_PG_BIN")]
    pub pg_bin: Option<PathBuf>,
    /// No colours.
    #[arg(long, env = "NO_COLOR", hide_env = true, value_parser = FalseyValueParser::new())]
    pub no_color: bool,
}

impl Options {
    /// The data directory, as named or by default.
    pub fn data_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.data {
            return Ok(dir.clone());
        }
        if geteuid().is_root() {
            // Not in root's home: the account that runs Postgres could not enter it.
            return Ok(PathBuf::from("/var/lib/atelier"));
        }
        let named = env::var_os("XDG_STATE_HOME")
            .map(PathBuf::from)
            .filter(|dir| dir.is_absolute());
        let usual = || env::home_dir().map(|home| home.join(".local/state"));
        let state = named
            .or_else(usual)
            .context("no home directory: name one with --data")?;
        Ok(Path::new(&state).join("atelier"))
    }
}
