//! nginx as a caching peer: one worker, its cache in front of the same origin, nothing tuned against it.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use stack::ports::Reserved;
use tempfile::TempDir;

/// A running nginx; stopped when dropped.
pub struct Nginx {
    child: Child,
    _dir: TempDir,
    _port: Reserved,
    /// Where it serves.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts nginx with a cache before `origin`.
    ///
    /// # Errors
    /// nginx is not installed, or does not start.
    pub async fn before(origin: SocketAddr) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let port = Reserved::any()?;
        let address = port.address();
        let conf = dir.path().join("nginx.conf");
        std::fs::write(
            &conf,
            configuration(
                dir.path().to_str().context("a path in UTF-8")?,
                address,
                origin,
            ),
        )?;
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&conf)
            .arg("-e")
            .arg(dir.path().join("error.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .context("starting nginx (is it installed?)")?;
        let nginx = Self {
            child,
            _dir: dir,
            _port: port,
            address,
        };
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                bail!("nginx does not answer on {address}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        if nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGQUIT).is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// nginx does not know CDN-Cache-Control, so it is told to keep every 200 for a day.
fn configuration(dir: &str, listen: SocketAddr, origin: SocketAddr) -> String {
    format!(
        "daemon off; worker_processes 1; pid {dir}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000;
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f;
  uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
  proxy_cache_path {dir}/cache keys_zone=shop:16m max_size=96m;
  upstream origin {{ server {origin}; keepalive 64; }}
  server {{
    listen {listen};
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_cache shop; proxy_cache_lock on; proxy_cache_valid 200 1d;
      proxy_ignore_headers Cache-Control Expires;
    }}
  }}
}}
"
    )
}
