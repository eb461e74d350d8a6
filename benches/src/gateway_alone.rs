//! A gateway of the measurement's own, with its settings, before any origin.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stack::ports::Reserved;
use tempfile::TempDir;

use crate::client::Client;
use crate::paced::becomes_true;
use crate::program::Program;
use crate::running::sibling;

const READY_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A running gateway; stopped when dropped.
pub struct GatewayAlone {
    /// Its process.
    pub program: Program,
    /// Where clients connect.
    pub public: SocketAddr,
    admin: SocketAddr,
    token: PathBuf,
    _dir: TempDir,
}

impl GatewayAlone {
    /// Starts the gateway with the settings of a file; `variables` are added to its environment.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(
        origin: SocketAddr,
        settings: &str,
        variables: &[(String, String)],
    ) -> Result<Self> {
        let binary = sibling("gateway")?;
        let dir = tempfile::tempdir()?;
        let (config, token) = (dir.path().join("gateway.toml"), dir.path().join("token"));
        std::fs::write(&config, settings)?;
        let (public, admin) = (Reserved::any()?, Reserved::any()?);
        let (public, admin) = (public.release(), admin.release());
        let (token_file, variables) = (token.clone(), variables.to_vec());
        let program = Program::start(&dir.path().join("log"), move || {
            let mut command = Command::new(&binary);
            command
                .args(["run", "--listen", &public.to_string()])
                .args(["--admin", &admin.to_string()])
                .args(["--upstream", &origin.to_string()])
                .arg("--admin-token-file")
                .arg(&token_file)
                .arg("--config")
                .arg(&config)
                .envs(variables.iter().cloned());
            command
        })?;
        let mut gateway = Self {
            program,
            public,
            admin,
            token,
            _dir: dir,
        };
        if !becomes_true(READY_LIMIT, || gateway.status().is_ok()) {
            let log = std::fs::read_to_string(gateway.program.log()).unwrap_or_default();
            bail!("the gateway is not ready: {log}");
        }
        if !gateway.program.is_running() {
            bail!("the gateway has ended");
        }
        Ok(gateway)
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Value> {
        let token = std::fs::read_to_string(&self.token)?;
        let request = format!(
            "GET /status HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
            token.trim()
        );
        let mut client = Client::new(self.admin, ANSWER_LIMIT);
        let (_, text) = client.text(request.as_bytes())?;
        serde_json::from_str(&text).context("its status is no JSON")
    }
}
