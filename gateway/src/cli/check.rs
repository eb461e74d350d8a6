//! `gateway check FILE`: everything that is wrong with a configuration file, before a gateway meets it.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;

use crate::config::{Config, Overrides};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The configuration file (TOML).
    file: PathBuf,
}

impl Check {
    /// Prints each problem on a line of its own, as `FILE:LINE:COLUMN: SETTING: PROBLEM`.
    ///
    /// # Errors
    /// How many problems there are.
    pub(super) fn run(self) -> Result<()> {
        let file = self.file.display();
        let config = match Config::load(&self.file, &Overrides::default()) {
            Ok(config) => config,
            Err(problems) => {
                println!("{problems}");
                match problems.list.len() {
                    1 => bail!("{file}: 1 problem"),
                    count => bail!("{file}: {count} problems"),
                }
            }
        };
        let (origins, routes) = (config.upstream.nodes.len(), config.routes.len());
        println!("{file}: ok (origins: {origins}, routes: {routes})");
        Ok(())
    }
}
