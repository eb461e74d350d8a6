//! A new process takes over the listeners, and this one ends when it has answered what it has begun.
//!
//! The new process is the program as it is on disk now, with the same command line. It gets the public listeners by Pingora's
//! hand-over socket and the operators' as its standard input, so none is ever closed and no connection is refused. If it is
//! not ready in time it is ended, and this one goes on as before.

mod orders;
mod written;

use std::ffi::OsString;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use pingora::server::{ListenFds, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch};
use pingora::services::Service;
use pingora::services::background::BackgroundService;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::Instant;

pub use orders::take_orders;
pub use written::{Inheritance, Written};

use crate::access_log::AccessLog;
use crate::balance::Pool;
use crate::notify::Notifier;
use crate::purge::Scope;
use crate::store::Store;
use written::Heir;

/// The new process has this long to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(20);
/// How often it is looked whether the new process has opened its socket, and whether connections are left.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// A process that stops stays this long at least.
const LINGER: Duration = Duration::from_millis(100);
/// After a hand-over what has begun may take this long: no request fails for an upgrade.
pub const DRAIN_MAX: Duration = Duration::from_secs(60);
/// The name of the option that tells a new process where the old one hands over.
pub const HANDOVER_OPTION: &str = "--handover";

/// The sockets by which two processes meet.
#[derive(Debug, Clone)]
pub struct Meeting(PathBuf);

impl Meeting {
    /// The sockets in a directory.
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Where the new process takes the public listeners.
    pub fn listeners(&self) -> PathBuf {
        self.0.join("listeners")
    }

    /// Where the new process hears what is written through the old one.
    pub fn written(&self) -> PathBuf {
        self.0.join("written")
    }

    /// Where the new process finds what operators ordered about the origins.
    fn orders(&self) -> PathBuf {
        self.0.join("orders")
    }

    /// Where it tells that it is ready.
    pub fn ready(&self) -> PathBuf {
        self.0.join("ready")
    }
}

/// A directory of this user's own, gone when dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Result<Self> {
        let template = std::env::temp_dir().join("gateway-upgrade-XXXXXX");
        let made = nix::unistd::mkdtemp(&template).context("a directory for the hand-over")?;
        Ok(Self(made))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether a new process may answer by now. What is kept here is then nobody's any more: of what is written through the new
/// process this one does not hear.
#[derive(Debug, Default)]
pub struct HandOver {
    has_begun: AtomicBool,
    heir: Heir,
}

impl HandOver {
    /// Whether it has begun, and has not failed.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Tells the new process, if there is one, what a write made old; returns when it is gone there, or after two seconds.
    pub async fn tell(&self, written: &Written) {
        if self.has_begun() {
            self.heir.tell(written).await;
        }
    }
}

/// Starts the new process and hands over to it.
pub struct Upgrader {
    program: PathBuf,
    arguments: Vec<OsString>,
    listeners: OnceLock<ListenFds>,
    handover: Arc<HandOver>,
    /// What is kept until then.
    store: OnceLock<Arc<Store>>,
    /// The origins, about which operators may have ordered something.
    pool: OnceLock<Arc<Pool>>,
    admin: Option<TcpListener>,
    is_paused: watch::Sender<bool>,
    has_handed_over: watch::Sender<bool>,
    notifier: Arc<Notifier>,
    turn: tokio::sync::Mutex<()>,
}

impl Upgrader {
    /// An upgrader of this process; `admin` is the operators' listener, if there is one.
    ///
    /// # Errors
    /// The program or the listener cannot be named.
    pub fn new(admin: Option<&TcpListener>, notifier: Arc<Notifier>) -> Result<Arc<Self>> {
        Ok(Arc::new(Self {
            // Now: when another program has taken its place on disk, the system knows it by no name.
            program: std::env::current_exe().context("the name of this program")?,
            arguments: arguments(std::env::args_os()),
            listeners: OnceLock::new(),
            handover: Arc::default(),
            store: OnceLock::new(),
            pool: OnceLock::new(),
            admin: admin.map(TcpListener::try_clone).transpose()?,
            is_paused: watch::Sender::new(false),
            has_handed_over: watch::Sender::new(false),
            notifier,
            turn: tokio::sync::Mutex::new(()),
        }))
    }

    /// Tells whether a new process may answer by now.
    pub fn handover(&self) -> Arc<HandOver> {
        Arc::clone(&self.handover)
    }

    /// What is to be forgotten if a new process had its chance to answer, and this one goes on all the same.
    pub fn forgets(&self, store: &Arc<Store>) {
        let _ = self.store.set(Arc::clone(store));
    }

    /// Whose orders the new process is to go on with.
    pub fn hands_on(&self, pool: &Arc<Pool>) {
        let _ = self.pool.set(Arc::clone(pool));
    }

    /// Goes on after a hand-over that failed.
    fn go_on(&self) {
        if self.handover.has_begun() {
            if let Some(store) = self.store.get() {
                store.purge(&[Scope::All]);
            }
            self.handover.heir.forget();
            self.handover.has_begun.store(false, Ordering::Release);
        }
        self.is_paused.send_replace(false);
    }

    /// Tells whether operators' connections are left for the new process to accept.
    pub fn is_paused(&self) -> watch::Receiver<bool> {
        self.is_paused.subscribe()
    }

    /// Starts the new process and hands over to it; returns its id. This one then ends by itself.
    ///
    /// # Errors
    /// Why the new process did not become ready; this one goes on as before.
    pub async fn upgrade(&self) -> Result<u32> {
        let Ok(_turn) = self.turn.try_lock() else {
            bail!("an upgrade is under way");
        };
        let directory = Directory::new()?;
        let meeting = Meeting::at(directory.0.clone());
        let ready = UnixDatagram::bind(meeting.ready()).context("the socket of the hand-over")?;
        let mut child = self.start(&directory.0)?;
        let outcome = tokio::select! {
            ended = child.wait() => match ended {
                Ok(status) => Err(anyhow!("the new process ended before it was ready ({status}); its log says why")),
                Err(error) => Err(error.into()),
            },
            outcome = tokio::time::timeout(READY_TIMEOUT, self.hand_over(&meeting, &ready)) => {
                outcome.unwrap_or_else(|_| Err(anyhow!("the new process was not ready within {READY_TIMEOUT:?}")))
            }
        };
        match (outcome, child.id()) {
            (Ok(()), Some(pid)) => {
                tracing::info!(pid, "handed over to a new process");
                self.notifier.main_process(pid);
                self.has_handed_over.send_replace(true);
                Ok(pid)
            }
            (outcome, _) => {
                let _ = child.kill().await;
                self.go_on();
                Err(outcome
                    .err()
                    .unwrap_or_else(|| anyhow!("the new process has ended")))
            }
        }
    }

    fn start(&self, directory: &Path) -> Result<Child> {
        let admin = match &self.admin {
            Some(listener) => Stdio::from(OwnedFd::from(listener.try_clone()?)),
            None => Stdio::null(),
        };
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .arg(HANDOVER_OPTION)
            .arg(directory);
        let child = command.stdin(admin).spawn();
        child.with_context(|| format!("starting {}", self.program.display()))
    }

    async fn hand_over(&self, meeting: &Meeting, ready: &UnixDatagram) -> Result<()> {
        // The new process opens its socket when its settings are read and found good.
        let path = meeting.listeners();
        while !path.exists() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // From here on operators' calls wait for the process that they are meant for.
        self.is_paused.send_replace(true);
        // And no hit is given: the new one may take a write as soon as it has the listeners.
        if let Err(error) = self.handover.heir.connect(&meeting.written()) {
            tracing::warn!(%error, "the new process will not be told of writes that end here");
        }
        self.handover.has_begun.store(true, Ordering::Release);
        if let Some(pool) = self.pool.get() {
            orders::leave(meeting, pool); // from here on none is taken
        }
        let listeners = self
            .listeners
            .get()
            .context("the listeners are not open yet")?;
        let (listeners, name) = (Arc::clone(listeners), path.display().to_string());
        tokio::task::spawn_blocking(move || listeners.lock().send_to_sock(name.as_str()))
            .await?
            .context("handing over the listeners")?;
        let mut state = [0; 64];
        loop {
            let length = ready.recv(&mut state).await?;
            if state[..length]
                .split(|byte| *byte == b'\n')
                .any(|line| line == b"READY=1")
            {
                return Ok(());
            }
        }
    }
}

/// The command line for the new process: this one's, without where this one was handed over.
fn arguments(own: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut own = own.skip(1);
    while let Some(argument) = own.next() {
        if argument == HANDOVER_OPTION {
            own.next();
        } else {
            kept.push(argument);
        }
    }
    kept
}

/// Gives the upgrader the public listeners when they are open.
pub struct ListenerKeeper(pub Arc<Upgrader>);

#[async_trait]
impl Service for ListenerKeeper {
    async fn start_service(
        &mut self,
        fds: Option<ListenFds>,
        mut shutdown: ShutdownWatch,
        _: usize,
    ) {
        if let Some(fds) = fds {
            let _ = self.0.listeners.set(fds);
        }
        let _ = shutdown.changed().await;
    }

    fn name(&self) -> &str {
        "upgrade"
    }

    fn listen_addresses(&self) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// What ends the process: SIGTERM gracefully, SIGINT at once, SIGQUIT by an upgrade, and a hand-over.
pub struct Signals(pub Arc<Upgrader>);

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signals = [
            SignalKind::terminate(),
            SignalKind::interrupt(),
            SignalKind::quit(),
        ];
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut quit)] = signals.map(signal) else {
            tracing::error!("signals cannot be waited for");
            return ShutdownSignal::FastShutdown;
        };
        let mut handed_over = self.0.has_handed_over.subscribe();
        loop {
            tokio::select! {
                _ = terminate.recv() => {
                    self.0.notifier.stopping();
                    return ShutdownSignal::GracefulTerminate;
                }
                _ = interrupt.recv() => return ShutdownSignal::FastShutdown,
                _ = quit.recv() => {
                    let upgrader = Arc::clone(&self.0);
                    tokio::spawn(async move {
                        if let Err(error) = upgrader.upgrade().await {
                            tracing::error!("no upgrade: {error:#}");
                        }
                    });
                }
                _ = handed_over.changed() => return ShutdownSignal::GracefulTerminate,
            }
        }
    }
}

/// Ends the process when its last connection has ended, or its time.
pub struct Drain {
    open: Arc<AtomicUsize>,
    grace: Duration,
    upgrader: Arc<Upgrader>,
    access_log: Option<Arc<AccessLog>>,
}

impl Drain {
    /// Waits for the connections that `open` counts; after a stop signal no longer than `grace`.
    pub fn new(
        open: Arc<AtomicUsize>,
        grace: Duration,
        upgrader: Arc<Upgrader>,
        access_log: Option<Arc<AccessLog>>,
    ) -> Self {
        Self {
            access_log,
            open,
            grace,
            upgrader,
        }
    }
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        while !*shutdown.borrow_and_update() {
            if shutdown.changed().await.is_err() {
                return;
            }
        }
        let has_handed_over = *self.upgrader.has_handed_over.borrow();
        let most = if has_handed_over {
            DRAIN_MAX
        } else {
            self.grace
        };
        let end = Instant::now() + most;
        // What was accepted a moment ago is counted a moment later, and who asked for the upgrade gets an answer.
        tokio::time::sleep(LINGER).await;
        while self.open.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let left = self.open.load(Ordering::Relaxed);
        tracing::info!(left, "ended");
        if let Some(log) = &self.access_log {
            log.flush();
        }
        std::process::exit(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_process_gets_the_command_line_without_an_earlier_hand_over() {
        let own = [
            "gateway",
            "run",
            "--handover",
            "/tmp/x",
            "--config",
            "a.toml",
        ];
        let kept = arguments(own.into_iter().map(OsString::from));
        assert_eq!(kept, ["run", "--config", "a.toml"]);
    }
}
