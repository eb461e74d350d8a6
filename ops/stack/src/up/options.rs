//! What the operator may say.

use std::{
    env,
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, builder::FalseyValueParser};
use nix::unistd::geteuid;

/// As many as `etl generate` makes: no file then needs ids past 32 bits (votes, 19 a product, come first).
const PRODUCTS_MAX: u64 = 50_000_000;

/// The settings of one run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Products to generate, when there is no data yet; about 70 records come with each.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=PRODUCTS_MAX))]
    pub products: u64,
    /// Origins to run behind the gateway.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub origins: u16,
    /// Copies of the database that the origins read from, each following it over streaming replication.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=8))]
    pub replicas: u16,
    /// Gateways to run before them, each following what changes in the database; all but the first on free ports.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=16))]
    pub gateways: u16,
    /// Where the first gateway listens; port 0 is any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = parse_address)]
    pub listen: SocketAddr,
    /// Where the first gateway's admin listener is; port 0 is any free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081", value_parser = parse_address)]
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
    /// The gateways' configuration: what they have to know about the shop.
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
    /// Tells two listeners with one address apart from an address that somebody else has.
    pub(super) fn check_addresses(&self) -> Result<()> {
        let (listen, admin) = (self.listen, self.admin);
        let is_one_host = listen.ip() == admin.ip()
            || listen.ip().is_unspecified()
            || admin.ip().is_unspecified();
        ensure!(
            listen.port() == 0 || listen.port() != admin.port() || !is_one_host,
            "--listen {listen} and --admin {admin} are the same port: choose another one for either"
        );
        Ok(())
    }

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

/// Reads an address whose host may be a name; of its addresses the first of IPv4 is taken, or else the first.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("expected HOST:PORT, such as 127.0.0.1:8080: {error}"))?
        .collect();
    let usual = found.iter().find(|address| address.is_ipv4());
    let address = usual.or_else(|| found.first()).copied();
    address.ok_or_else(|| "no address has this name".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_may_be_named() {
        assert_eq!(
            parse_address("localhost:8080"),
            Ok(SocketAddr::from(([127, 0, 0, 1], 8080)))
        );
        assert_eq!(parse_address("[::1]:80").unwrap().to_string(), "[::1]:80");
        for text in ["8080", "localhost", "127.0.0.1:99999", ""] {
            assert!(parse_address(text).is_err(), "{text}");
        }
    }
}
