//! A gateway of its own before one origin, with an operators' listener.

use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::connection::{Answer, Connection};
use crate::program::Program;
use crate::running::sibling;

const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running gateway; ended when dropped.
pub struct GatewayProcess {
    program: Program,
    directory: TempDir,
    /// Where clients connect.
    pub public: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    token: String,
}

impl GatewayProcess {
    /// Starts the gateway that was built beside this program, before an origin, with more settings in TOML.
    ///
    /// # Errors
    /// It is not built, or does not start.
    pub async fn before(origin: SocketAddr, settings: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let (public, admin) = (free()?, free()?);
        let config = directory.path().join("gateway.toml");
        std::fs::write(&config, settings)?;
        let token_file = directory.path().join("token");
        let program = sibling("gateway")?;
        let token = token_file.clone();
        let program = Program::start(&directory.path().join("log"), move || {
            let mut command = Command::new(&program);
            command.arg("run").arg("--config").arg(&config);
            command.args(["--listen", &public.to_string()]);
            command.args(["--upstream", &origin.to_string()]);
            command.args(["--admin", &admin.to_string()]);
            command.arg("--admin-token-file").arg(&token);
            command.env("RUST_LOG", "warn");
            command
        })?;
        let mut gateway = Self {
            program,
            directory,
            public,
            admin,
            token: String::new(),
        };
        gateway.ready().await?;
        gateway.token = std::fs::read_to_string(token_file)?.trim().to_owned();
        Ok(gateway)
    }

    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        while Connection::open(self.public).await.is_err()
            || Connection::open(self.admin).await.is_err()
        {
            let log = || std::fs::read_to_string(self.directory.path().join("log"));
            ensure!(
                Instant::now() < deadline,
                "the gateway does not start: {}",
                log().unwrap_or_default()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        ensure!(self.program.is_running(), "the gateway has ended");
        Ok(())
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// A purge request as bytes.
    pub fn purge(&self, what: &serde_json::Value) -> Vec<u8> {
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
pub fn purged(answer: &Answer, name: &str) -> Result<u64> {
    ensure!(answer.status == 200, "the purge was refused: {answer:?}");
    let answer: serde_json::Value = serde_json::from_str(&answer.body)?;
    answer[name]
        .as_u64()
        .with_context(|| format!("no {name} in {answer}"))
}

fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
