//! The cluster that tests share.

use std::{
    path::PathBuf,
    process,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use anyhow::{Context, Result};
use clap::Parser;

use crate::{Cluster, Settings, cluster::Options};

/// A temporary cluster, gone with this process in whatever way it ends.
#[derive(Debug)]
pub struct TestCluster {
    cluster: Cluster,
    databases: AtomicU32,
}

/// What the environment may say; tests have no command line of their own.
#[derive(Parser)]
struct Environment {
    #[arg(long, env = "ATELIER_PG_BIN")]
    pg_bin: Option<PathBuf>,
}

impl TestCluster {
    /// The one cluster of this process, started on first use.
    ///
    /// # Panics
    /// When Postgres cannot be started: no test that asks for it could mean anything then.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TestCluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// A cluster for one test alone, which may break it.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub fn start() -> Self {
        match Self::try_start() {
            Ok(cluster) => cluster,
            Err(error) => panic!("the tests need a Postgres server: {error:#}"),
        }
    }

    /// The same, with the settings of data that is to be kept.
    ///
    /// # Panics
    /// When Postgres cannot be started.
    pub fn start_durable() -> Self {
        match Self::try_start_with(Settings::durable()) {
            Ok(cluster) => cluster,
            Err(error) => panic!("the tests need a Postgres server: {error:#}"),
        }
    }

    /// A cluster for whoever can do something about a failure.
    pub fn try_start() -> Result<Self> {
        Self::try_start_with(Settings::test())
    }

    fn try_start_with(settings: Settings) -> Result<Self> {
        // Not the directory of TMPDIR: that may be too long for a socket, or closed to the server's account.
        let dir = tempfile::Builder::new()
            .prefix("atelier-test-")
            .tempdir_in("/tmp")
            .context("cannot make a directory in /tmp")?
            .keep();
        let binaries = Environment::parse_from(["test"]).pg_bin;
        let options = Options {
            binaries,
            settings,
            fresh: false,
        };
        let cluster = Cluster::open_temporary(&dir, options)?;
        cluster.start()?;
        Ok(Self {
            cluster,
            databases: AtomicU32::new(0),
        })
    }

    /// The cluster itself, to stop, freeze and kill.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The URL of a database for the owner's role.
    pub fn owner_url(&self, database: &str) -> String {
        self.cluster.owner_url(database)
    }

    /// The URL of a database for the application's role.
    pub fn app_url(&self, database: &str) -> String {
        self.cluster.app_url(database)
    }

    /// Creates a database, empty or a copy of `template` (to which nobody may be connected); gives its name.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub fn create_database(&self, template: Option<&str>) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", process::id());
        let template = template.unwrap_or("template0");
        self.run(&format!("create database {name} template {template}"));
        name
    }

    /// Drops a database, with whoever is still connected to it.
    ///
    /// # Panics
    /// When Postgres refuses.
    pub fn drop_database(&self, name: &str) {
        self.run(&format!("drop database if exists {name} with (force)"));
    }

    fn run(&self, statement: &str) {
        if let Err(error) = self.cluster.psql("postgres", statement) {
            panic!("{statement}: {error:#}");
        }
    }
}
