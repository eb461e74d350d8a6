//! What gateways are told: a site's file, with the addresses of one run put in.

use std::{fs, net::SocketAddr, path::Path};

use anyhow::{Context, Result};
use toml::{Table, Value};

/// Where an origin says on its private listener whether it can serve.
const READY_PATH: &str = "/readyz";

/// A gateway's configuration file, read.
#[derive(Clone, Debug)]
pub struct GatewayConfig(Table);

/// The two listeners of an origin.
#[derive(Clone, Copy, Debug)]
pub struct OriginAddresses {
    /// Where the API is.
    pub public: SocketAddr,
    /// Where it tells what changes, its health and its metrics.
    pub private: SocketAddr,
}

impl GatewayConfig {
    /// Reads a file; whether its settings mean anything is the gateway's to say.
    ///
    /// # Errors
    /// There is no such file, or it is no TOML.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("no gateway configuration {}", path.display()))?;
        let table = text.parse();
        let table = table.with_context(|| format!("{} is no TOML", path.display()))?;
        Ok(Self(table))
    }

    /// Puts these origins in, asks each whether it can serve unless the file says otherwise, and follows what it tells of
    /// changes in the database.
    #[must_use]
    pub fn with_origins(mut self, origins: &[OriginAddresses]) -> Self {
        let node = |origin: &OriginAddresses| {
            Table::from_iter([
                ("address".to_owned(), origin.public.to_string().into()),
                ("private".to_owned(), origin.private.to_string().into()),
            ])
        };
        let nodes: Vec<Table> = origins.iter().map(node).collect();
        // Its presence makes a gateway follow; by default the streams of the nodes.
        let coherence = self
            .0
            .entry("coherence")
            .or_insert_with(|| Table::new().into());
        if let Some(coherence) = coherence.as_table_mut() {
            coherence.remove("streams");
        }
        let upstream = self
            .0
            .entry("upstream")
            .or_insert_with(|| Table::new().into());
        if let Some(upstream) = upstream.as_table_mut() {
            let health = upstream
                .entry("health")
                .or_insert_with(|| Table::new().into());
            if let Some(health) = health.as_table_mut() {
                health.entry("private_path").or_insert(READY_PATH.into());
            }
        }
        self.with("upstream", "nodes", nodes)
    }

    /// Puts the admin listeners of all other gateways in, for which writes wait in mode `strict`.
    #[must_use]
    pub fn with_peers(self, peers: &[SocketAddr]) -> Self {
        let peers: Vec<String> = peers.iter().map(SocketAddr::to_string).collect();
        self.with("coherence", "peers", peers)
    }

    /// Changes one setting. Where something else than a section has its name, nothing changes: the gateway will say so.
    #[must_use]
    pub fn with(mut self, section: &str, name: &str, value: impl Into<Value>) -> Self {
        let section = self.0.entry(section).or_insert_with(|| Table::new().into());
        if let Some(section) = section.as_table_mut() {
            section.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Takes a section out: its settings are the gateway's own again.
    #[must_use]
    pub fn without(mut self, section: &str) -> Self {
        self.0.remove(section);
        self
    }

    /// Writes it as a file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, self.0.to_string())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_replace_the_nodes_and_streams_of_the_file_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("own.toml");
        let text = "[upstream]\nnodes = [\"x:1\"]\nattempts = 2\n[coherence]\nlease = \"5s\"\nstreams = [\"x:2\"]\n";
        fs::write(&path, text).unwrap();
        let origin = OriginAddresses {
            public: "127.0.0.1:3001".parse().unwrap(),
            private: "127.0.0.1:4001".parse().unwrap(),
        };
        let config = GatewayConfig::read(&path).unwrap();
        let config = config.with_origins(&[origin]).with("cache", "name", "own");
        let config = config.with("cors", "max_age", "1d").without("cors");
        config.write(&path).unwrap();
        let table: Table = fs::read_to_string(path).unwrap().parse().unwrap();
        let expected = "[upstream]\nnodes = [{ address = \"127.0.0.1:3001\", private = \"127.0.0.1:4001\" }]\n\
                        attempts = 2\nhealth.private_path = \"/readyz\"\n[coherence]\nlease = \"5s\"\n[cache]\nname = \"own\"\n";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn where_origins_are_asked_whether_they_can_serve_is_left_as_the_file_has_it() {
        let text = "[upstream.health]\nprivate_path = \"/well\"\nfall = 3\n";
        let GatewayConfig(table) = GatewayConfig(text.parse().unwrap()).with_origins(&[]);
        let expected = format!("{text}[upstream]\nnodes = []\n[coherence]\n");
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn gateways_are_told_of_their_peers_in_the_place_of_those_of_the_file() {
        let config: Table = "[coherence]\nmode = \"strict\"\npeers = [\"x:1\"]\n"
            .parse()
            .unwrap();
        let peers = ["127.0.0.1:8082".parse().unwrap()];
        let GatewayConfig(table) = GatewayConfig(config).with_peers(&peers);
        let expected = "[coherence]\nmode = \"strict\"\npeers = [\"127.0.0.1:8082\"]\n";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let error = GatewayConfig::read(Path::new("/no/such.toml")).unwrap_err();
        assert!(error.to_string().contains("/no/such.toml"), "{error}");
    }
}
