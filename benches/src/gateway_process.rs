//! A gateway of the measurement's own, with an operators' listener.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use stack::gateway_config::GatewayConfig;
use stack::ports::Reserved;
use tempfile::TempDir;

use crate::client::Client;
use crate::exchange::Whole;
use crate::paced::becomes_true;
use crate::program::Program;
use crate::running::sibling;

const READY_LIMIT: Duration = Duration::from_secs(10);
const UPGRADE_LIMIT: Duration = Duration::from_secs(30);
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
    _listeners: Listeners,
}

/// Where a gateway is going to listen, and nobody else.
#[derive(Debug)]
pub struct Listeners {
    public: Reserved,
    admin: Reserved,
}

impl Listeners {
    /// Takes two free ports.
    ///
    /// # Errors
    /// There are none.
    pub fn anywhere() -> Result<Self> {
        Ok(Self {
            public: Reserved::any()?,
            admin: Reserved::any()?,
        })
    }

    /// Where operators, and other gateways, are going to connect.
    pub fn admin(&self) -> SocketAddr {
        self.admin.address()
    }
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
        let dir = tempfile::tempdir()?;
        let config = dir.path().join("gateway.toml");
        std::fs::write(&config, settings)?;
        let upstream: Vec<String> = origins
            .iter()
            .flat_map(|origin| ["--upstream".to_owned(), origin.to_string()])
            .collect();
        Self::launch(dir, Listeners::anywhere()?, &upstream, variables)
    }

    /// Starts the gateway that was built beside this program, with a configuration that names its origins.
    ///
    /// # Errors
    /// It is not built, or does not come up.
    pub fn configured(config: &GatewayConfig, listeners: Listeners) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        config.write(&dir.path().join("gateway.toml"))?;
        Self::launch(dir, listeners, &[], &[])
    }

    fn launch(
        dir: TempDir,
        listeners: Listeners,
        more: &[String],
        variables: &[(String, String)],
    ) -> Result<Self> {
        let binary = sibling("gateway")?;
        let (public, admin) = (listeners.public.address(), listeners.admin());
        let (config, token_file) = (dir.path().join("gateway.toml"), dir.path().join("token"));
        let (token, more, variables) = (token_file.clone(), more.to_vec(), variables.to_vec());
        let program = Program::start(&dir.path().join("log"), move || {
            let mut command = Command::new(&binary);
            command
                .args(["run", "--listen", &public.to_string()])
                .args(["--admin", &admin.to_string()])
                .arg("--admin-token-file")
                .arg(&token)
                .arg("--config")
                .arg(&config)
                .args(&more)
                .env("RUST_LOG", "warn")
                .envs(variables.iter().cloned());
            command
        })?;
        let mut gateway = Self {
            program,
            public,
            admin,
            token: String::new(),
            _dir: dir,
            _listeners: listeners,
        };
        gateway.wait_until_ready()?;
        gateway.token = std::fs::read_to_string(token_file)?.trim().to_owned();
        Ok(gateway)
    }

    /// Waits until both its listeners take connections.
    ///
    /// # Errors
    /// It ends, or takes too long.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let listens = |address| TcpStream::connect(address).is_ok();
        let (public, admin) = (self.public, self.admin);
        if !becomes_true(READY_LIMIT, || listens(admin) && listens(public)) {
            let log = std::fs::read_to_string(self.program.log()).unwrap_or_default();
            bail!("the gateway is not ready: {log}");
        }
        ensure!(self.program.is_running(), "the gateway has ended");
        Ok(())
    }

    /// What operators' calls have to show.
    pub fn token(&self) -> &str {
        &self.token
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

    /// Has a new process take over; the one that was started here then ends.
    ///
    /// # Errors
    /// It does not take over.
    pub fn upgrade(&self) -> Result<()> {
        let request = format!(
            "POST /upgrade HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            self.token
        );
        let mut client = Client::new(self.admin, UPGRADE_LIMIT);
        let (_, text) = client.text(request.as_bytes())?;
        ensure!(text.contains("\"pid\""), "no upgrade: {text}");
        Ok(())
    }

    /// Requests that it has sent to origins since it was started.
    ///
    /// # Errors
    /// It does not answer.
    pub fn origin_requests(&self) -> Result<u64> {
        let status = self.status()?;
        let nodes = status["nodes"].as_array().context("no nodes")?;
        let counts = nodes.iter().map(|node| node["requests"].as_u64());
        counts
            .sum::<Option<u64>>()
            .context("a node without a count")
    }

    /// Whether it knows that it is up to date with the database.
    pub fn has_lease(&self) -> bool {
        self.status()
            .is_ok_and(|status| status["coherence"]["lease_left_ms"].is_u64())
    }

    /// The number of the first transaction that had not begun where it is in the history of the database.
    ///
    /// # Errors
    /// It does not answer, or is nowhere yet.
    pub fn position_end(&self) -> Result<u64> {
        let status = self.status()?;
        let position = status["coherence"]["position"].as_str();
        let end = position.and_then(|position| position.split(':').nth(1)?.parse().ok());
        end.context("no position")
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
