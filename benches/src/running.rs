//! A running system to measure: `stack up` as an operator would start it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// How long the whole system may take to come up, its data load included.
const UP_TIMEOUT: Duration = Duration::from_secs(300);

/// A system to measure. One that was started for it goes, with its data, when this is dropped.
pub struct Running {
    started: Option<(Child, TempDir)>,
    endpoints: serde_json::Value,
}

impl Running {
    /// Starts `stack up` beside the running program, with a fresh data directory.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn up(products: u64, origins: u16) -> Result<Self> {
        // Under /var/tmp: the account that runs Postgres must be able to enter it.
        let dir = tempfile::Builder::new()
            .prefix("atelier-bench")
            .tempdir_in("/var/tmp")?;
        open_to_others(dir.path())?;
        let endpoints = dir.path().join("endpoints.json");
        let mut child = Command::new(sibling("stack")?)
            .args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args([
                "--products",
                &products.to_string(),
                "--origins",
                &origins.to_string(),
            ])
            .arg("--data")
            .arg(dir.path().join("data"))
            .arg("--endpoints")
            .arg(&endpoints)
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting stack up")?;
        let endpoints = wait_for(&endpoints, &mut child).await?;
        Ok(Self {
            started: Some((child, dir)),
            endpoints,
        })
    }

    /// A system that runs already: `file` is what its `stack up --endpoints` wrote.
    ///
    /// # Errors
    /// The file is not there, or not of that shape.
    pub fn existing(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("reading {}; is the system up?", file.display()))?;
        let endpoints = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a file of endpoints", file.display()))?;
        Ok(Self {
            started: None,
            endpoints,
        })
    }

    /// The system whose endpoints are in `file`, or else a new one with one origin.
    ///
    /// # Errors
    /// As those of [`existing`](Self::existing) and [`up`](Self::up).
    pub async fn existing_or_up(file: Option<&Path>, products: u64) -> Result<Self> {
        match file {
            Some(file) => Self::existing(file),
            None => Self::up(products, 1).await,
        }
    }

    /// The gateway's public address.
    pub fn gateway(&self) -> Result<SocketAddr> {
        address(&self.endpoints["gateway"])
    }

    /// The first origin's public address.
    pub fn origin(&self) -> Result<SocketAddr> {
        address(&self.endpoints["origins"][0])
    }

    /// The URL of the application's role.
    pub fn database_url(&self) -> Result<&str> {
        self.endpoints["database_url"]
            .as_str()
            .context("no database_url")
    }

    /// The URL of the owner's role.
    pub fn owner_url(&self) -> Result<&str> {
        self.endpoints["owner_url"].as_str().context("no owner_url")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some((child, _)) = &mut self.started else {
            return;
        };
        let stopped = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
        if stopped.is_ok() {
            let _ = child.wait();
        }
    }
}

/// The path of another program of this workspace, built with the same profile.
///
/// # Errors
/// It has not been built.
pub fn sibling(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!(
            "{} is not built: cargo build --release --workspace --bins",
            path.display()
        );
    }
    Ok(path)
}

pub(crate) fn open_to_others(dir: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(
        dir,
        std::fs::Permissions::from_mode(0o755),
    )?)
}

fn address(url: &serde_json::Value) -> Result<SocketAddr> {
    let url = url.as_str().context("no URL")?;
    Ok(url.trim_start_matches("http://").parse()?)
}

async fn wait_for(file: &Path, child: &mut Child) -> Result<serde_json::Value> {
    let deadline = Instant::now() + UP_TIMEOUT;
    loop {
        if let Ok(text) = std::fs::read_to_string(file) {
            return Ok(serde_json::from_str(&text)?);
        }
        if let Some(status) = child.try_wait()? {
            bail!("stack up ended with {status}");
        }
        if Instant::now() > deadline {
            bail!("stack up was not ready within {UP_TIMEOUT:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
