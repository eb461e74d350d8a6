//! The built gateway as a child process.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::{Answer, Client, Request};
use super::origin::FakeOrigin;
use super::{DEADLINE, get, until};

/// The configuration the shop runs with.
const SHOP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ops/shop.toml");
/// Ports are taken below the range that the system gives to outgoing connections, so none of those is in the way.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Somebody else may take a port between its reservation and its use.
const STARTS: usize = 5;

/// An address that nobody listens on.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let width = u32::from(PORTS.end - PORTS.start);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = (std::process::id().wrapping_mul(37) + step) % width;
        let port = PORTS.start + u16::try_from(offset).expect("an offset within the ports");
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Whether somebody listens there who takes a connection and ends it when its client does. So none of those who ask is left in
/// the system's queue, to be counted later.
pub(crate) async fn serves(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect(address).await else {
        return false;
    };
    let ended = async {
        let _ = connection.shutdown().await;
        // Closed or reset: it was taken.
        let _ = connection.read_to_end(&mut Vec::new()).await;
    };
    tokio::time::timeout(DEADLINE, ended).await.is_ok()
}

/// A running gateway; killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    /// The process that took over from the child.
    successor: Option<u32>,
    pub(crate) public: SocketAddr,
    pub(crate) admin: SocketAddr,
    directory: TempDir,
}

impl Gateway {
    /// A general gateway, from flags alone.
    pub(crate) async fn general(origins: &[&FakeOrigin]) -> Self {
        Self::start(&addresses(origins), None).await
    }

    /// A gateway with the settings of a file; listeners and origins come from flags.
    pub(crate) async fn with(origins: &[&FakeOrigin], settings: &str) -> Self {
        Self::start(&addresses(origins), Some(settings.to_owned())).await
    }

    /// A gateway with the shop's configuration.
    pub(crate) async fn shop(origins: &[&FakeOrigin]) -> Self {
        Self::shop_with(origins, &[]).await
    }

    /// A gateway with the shop's configuration, in which these texts are replaced.
    pub(crate) async fn shop_with(origins: &[&FakeOrigin], edits: &[(&str, &str)]) -> Self {
        let mut settings = fs::read_to_string(SHOP).expect("the shop's configuration");
        for (was, now) in edits {
            assert!(
                settings.contains(was),
                "the shop's configuration says {was}"
            );
            settings = settings.replace(was, now);
        }
        Self::start(&addresses(origins), Some(settings)).await
    }

    /// A gateway before these addresses, whether anything listens there or not.
    pub(crate) async fn start(origins: &[SocketAddr], settings: Option<String>) -> Self {
        for _ in 0..STARTS {
            let mut gateway = Self::spawn(origins, settings.as_deref());
            if gateway.is_ready().await {
                return gateway;
            }
            let said = gateway.said();
            assert!(
                said.contains("binding the"),
                "the gateway did not start: {said}"
            );
        }
        panic!("no free ports in {STARTS} attempts");
    }

    fn spawn(origins: &[SocketAddr], settings: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let (public, admin) = (free_address(), free_address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command
            .arg("run")
            .arg("--listen")
            .arg(public.to_string())
            .arg("--admin")
            .arg(admin.to_string());
        command
            .arg("--admin-token-file")
            .arg(directory.path().join("token"));
        for origin in origins {
            command.arg("--upstream").arg(origin.to_string());
        }
        if let Some(settings) = settings {
            let file = directory.path().join("gateway.toml");
            fs::write(&file, settings).expect("a configuration file");
            command.arg("--config").arg(file);
        }
        let stderr =
            File::create(directory.path().join("stderr")).expect("a file for what it says");
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .expect("the built gateway");
        Self {
            child,
            successor: None,
            public,
            admin,
            directory,
        }
    }

    /// True when both listeners answer, false when the process has ended.
    async fn is_ready(&mut self) -> bool {
        let end = Instant::now() + DEADLINE;
        loop {
            if self.exited().is_some() {
                return false;
            }
            if serves(self.admin).await && serves(self.public).await {
                return true;
            }
            assert!(
                Instant::now() < end,
                "the gateway is not ready in time: {}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A client of the public listener.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.public)
    }

    /// A client of the operators' listener.
    pub(crate) fn admin(&self) -> Client {
        Client::new(self.admin)
    }

    pub(crate) fn token_file(&self) -> PathBuf {
        self.directory.path().join("token")
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn token(&self) -> String {
        let text = fs::read_to_string(self.token_file()).expect("the token file");
        text.trim().to_owned()
    }

    /// An operators' call with the token.
    pub(crate) async fn call(&self, request: Request) -> Answer {
        let bearer = format!("Bearer {}", self.token());
        self.admin()
            .send(&request.header("Authorization", &bearer))
            .await
    }

    /// Purges, and returns what the gateway answered.
    pub(crate) async fn purge(&self, what: Value) -> Value {
        let answer = self
            .call(Request::new("POST", "/purge").body(what.to_string()))
            .await;
        assert_eq!(answer.status, 200, "{answer:#?}");
        answer.json()
    }

    pub(crate) async fn status(&self) -> Value {
        let answer = self.call(get("/status")).await;
        assert_eq!(answer.status, 200, "{answer:#?}");
        answer.json()
    }

    /// What the gateway would do for a request of this target, by what it keeps.
    pub(crate) async fn verdict(&self, target: &str) -> String {
        let answer = self.call(get(&format!("/explain?url={target}"))).await;
        assert_eq!(answer.status, 200, "{answer:#?}");
        let verdict = &answer.json()["keys"][0]["entries"][0]["decision"]["verdict"];
        verdict.as_str().unwrap_or_default().to_owned()
    }

    /// Returns when time has made this of what is kept of a target.
    pub(crate) async fn becomes(&self, target: &str, verdict: &str) {
        until(&format!("{target} is to {verdict}"), || async {
            self.verdict(target).await == verdict
        })
        .await;
    }

    /// Requests that each node works on now.
    pub(crate) async fn in_flight(&self) -> Vec<u64> {
        let status = self.status().await;
        let nodes = status["nodes"].as_array().expect("nodes");
        nodes
            .iter()
            .map(|node| node["in_flight"].as_u64().expect("a number"))
            .collect()
    }

    /// Memory of the process that is resident now.
    pub(crate) fn resident_bytes(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("the process's status");
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = kib.and_then(|kib| kib.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse::<usize>().ok())
            .expect("a size in kB")
            * 1024
    }

    /// Writes other settings where the gateway read its own.
    pub(crate) fn write_settings(&self, settings: &str) {
        let file = self.path().join("gateway.toml");
        let next = file.with_extension("next");
        fs::write(&next, settings).expect("a configuration file");
        fs::rename(next, file).expect("the configuration file");
    }

    /// Has a new process take over, and waits until the one of before has ended.
    pub(crate) async fn upgrade(&mut self) {
        let before = self.pid();
        let answer = self.call(Request::new("POST", "/upgrade")).await;
        assert_eq!(answer.status, 200, "{answer:#?}: {}", self.said());
        let pid = answer.json()["pid"].as_u64().expect("a process id");
        self.successor = Some(u32::try_from(pid).expect("a process id"));
        let end = Instant::now() + DEADLINE;
        let before = format!("/proc/{before}");
        while Path::new(&before).exists() {
            // The child is ours to reap.
            let _ = self.child.try_wait();
            assert!(
                Instant::now() < end,
                "the process of before goes on: {}",
                self.said()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process that serves.
    pub(crate) fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// Leaves the process only so many descriptors.
    pub(crate) fn limit_descriptors(&self, count: usize) {
        let limited = Command::new("prlimit")
            .arg(format!("--pid={}", self.pid()))
            .arg(format!("--nofile={count}:{count}"))
            .status();
        assert!(limited.expect("the prlimit program").success());
    }

    /// Asks the process to stop.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid().to_string())
            .status();
        assert!(sent.expect("the kill program").success());
    }

    /// Stops every thread where it stands, until `CONT`.
    pub(crate) async fn freeze(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.child.id());
        until("every thread has stopped", || async {
            let tasks = fs::read_dir(&tasks).expect("the process's threads");
            let mut states =
                tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("stat")).ok());
            states.all(|stat| {
                stat.rsplit(')')
                    .next()
                    .unwrap_or_default()
                    .starts_with(" T")
            })
        })
        .await;
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// What it wrote to its standard error.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if self.successor.is_some() {
            self.signal("KILL");
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the gateway said ---\n{}", self.said());
        }
    }
}

fn addresses(origins: &[&FakeOrigin]) -> Vec<SocketAddr> {
    origins.iter().map(|origin| origin.address()).collect()
}
