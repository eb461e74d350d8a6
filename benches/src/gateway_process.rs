//! A gateway of the measurement's own before one origin, with an operators' listener.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stack::ports::Reserved;
use tempfile::TempDir;

use crate::client::Client;
use crate::exchange::Whole;
use crate::paced::becomes_true;
use crate::program::Program;
use crate::running::sibling;

const READY_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// A running gateway; stopped when dropped.
pub struct GatewayProcess {
    /// Its process.
    pub program: Program,
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    token: String,
    _dir: TempDir,
}

impl GatewayProcess {
    /// Starts the gateway that was built beside this program, with settings in TOML; `variables` are added to its environment.
    ///
    /// # Errors
    /// It is not built, or does not come up.
    pub fn before(
        origin: SocketAddr,
        settings: &str,
        variables: &[(String, String)],
    ) -> Result<Self> {
        Self::before_all(&[origin], settings, variables)
    }

    /// The same before several origins.
    ///
    /// # Errors
    /// As those of [`before`](Self::before).
    pub fn before_all(
        origins: &[SocketAddr],
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
        let origins = origins.to_vec();
        let mut program = Program::start(&dir.path().join("log"), move || {
            let mut command = Command::new(&binary);
            command
                .args(["run", "--listen", &public.to_string()])
                .args(["--admin", &admin.to_string()])
                .args(
                    origins
                        .iter()
                        .flat_map(|origin| ["--upstream".to_owned(), origin.to_string()]),
                )
                .arg("--admin-token-file")
                .arg(&token_file)
                .arg("--config")
                .arg(&config)
                .env("RUST_LOG", "warn")
                .envs(variables.iter().cloned());
            command
        })?;
        let listens = |address| TcpStream::connect(address).is_ok();
        if !becomes_true(READY_LIMIT, || listens(admin) && listens(public)) {
            let log = std::fs::read_to_string(program.log()).unwrap_or_default();
            bail!("the gateway is not ready: {log}");
        }
        ensure!(program.is_running(), "the gateway has ended");
        let token = std::fs::read_to_string(token)?.trim().to_owned();
        Ok(Self {
            program,
            public,
            admin,
            token,
            _dir: dir,
        })
    }

    /// What it says about itself.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<Value> {
        let request = format!(
            "GET /status HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\n\r\n",
            self.token
        );
        let mut client = Client::new(self.admin, ANSWER_LIMIT);
        let (_, text) = client.text(request.as_bytes())?;
        serde_json::from_str(&text).context("its status is no JSON")
    }

    /// A purge request as bytes.
    pub fn purge(&self, what: &Value) -> Vec<u8> {
        let body = what.to_string();
        format!(
            "POST /purge HTTP/1.1\r\nHost: admin\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        )
        .into_bytes()
    }
}

/// The number under a name in the answer to a purge.
///
/// # Errors
/// The purge was refused, or the number is not there.
pub fn purged(answer: &Whole, name: &str) -> Result<u64> {
    ensure!(answer.status == 200, "the purge was refused: {answer:?}");
    let answer: Value = serde_json::from_slice(&answer.body)?;
    answer[name]
        .as_u64()
        .with_context(|| format!("no {name} in {answer}"))
}
