//! A Postgres cluster of our own: its files, its server process, its addresses.
//!
//! The server listens on a Unix socket only, in a directory that nobody but its account and root may
//! enter; that, and no password, is what guards it. Faults can be provoked on purpose, for tests.

mod copy;
mod home;

use std::{
    fs::{self, OpenOptions},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::{
    Settings, account::Account, binaries::Binaries, guardian::Guardian, process, wait::wait_until,
};
use home::Home;

/// The superuser that owns everything and runs all DDL.
pub const OWNER: &str = "atelier_owner";
/// The role of the origins, which may change rows only.
pub const APPLICATION: &str = "atelier_app";

/// Crash recovery is part of a start, so this is generous.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How to open a cluster.
#[derive(Clone, Debug)]
pub struct Options {
    /// The folder of the server's programs; found if not named.
    pub binaries: Option<PathBuf>,
    /// The server's settings.
    pub settings: Settings,
    /// Whether to remove all data first.
    pub fresh: bool,
}

/// A cluster in a directory of its own, stopped when dropped.
#[derive(Debug)]
pub struct Cluster {
    binaries: Binaries,
    account: Account,
    settings: Settings,
    server: Mutex<Option<Child>>,
    /// What the guardian sends if this process dies.
    last_signal: Signal,
    // Dropped in this order: the directory is let go of only when no server can be left in it.
    guardian: Guardian,
    home: Home,
}

impl Cluster {
    /// Opens the cluster in `dir`, creating it if there is none. The server is not started.
    ///
    /// # Errors
    /// When another process holds `dir`, Postgres' programs are missing, or its account cannot enter `dir`.
    pub fn open(dir: &Path, options: Options) -> Result<Self> {
        Self::open_guarded(dir, options, Guardian::start(None)?, Signal::SIGINT)
    }

    /// Whether `dir` holds a cluster, running or not.
    pub fn exists(dir: &Path) -> bool {
        Home::is_initialised(dir)
    }

    /// The same as [`open`](Self::open) with a guardian that also removes `dir`, for a cluster that ends with this process.
    pub(crate) fn open_temporary(dir: &Path, options: Options) -> Result<Self> {
        Self::open_guarded(dir, options, Guardian::start(Some(dir))?, Signal::SIGQUIT)
    }

    fn open_guarded(
        dir: &Path,
        options: Options,
        guardian: Guardian,
        last_signal: Signal,
    ) -> Result<Self> {
        let binaries = Binaries::find(options.binaries.as_deref())?;
        let account = Account::choose()?;
        let home = Home::open(dir, &account)?;
        if options.fresh {
            home.clear()?;
        }
        home.initialise(&binaries, &account, options.settings.durable)?;
        Ok(Self {
            binaries,
            account,
            settings: options.settings,
            server: Mutex::new(None),
            last_signal,
            guardian,
            home,
        })
    }

    /// Starts the server and waits until it takes connections.
    pub fn start(&self) -> Result<()> {
        let mut server = self.server();
        ensure!(
            server.is_none(),
            "the cluster in {} runs already",
            self.dir().display()
        );
        let mut child = self
            .logged_command()?
            .spawn()
            .context("cannot start postgres")?;
        self.guardian.watch(child.id(), self.last_signal)?;
        let mut has_ended = false;
        wait_until(START_LIMIT, || {
            has_ended = !matches!(child.try_wait(), Ok(None));
            has_ended || self.is_ready(child.id())
        });
        if !has_ended && self.is_ready(child.id()) {
            *server = Some(child);
            return Ok(());
        }
        // The server may have ended already, or be stuck: either way it goes.
        let _ = child.kill();
        let _ = child.wait();
        self.guardian.forget(child.id())?;
        let log = self.home.log();
        bail!(
            "Postgres did not start; the end of {}:\n{}",
            log.display(),
            last_lines(&log)
        );
    }

    /// The command that runs the server in the foreground, in a process group of its own.
    pub fn command(&self) -> Command {
        let mut command = self
            .account
            .command(self.binaries.program("postgres"), self.dir());
        command
            .arg("-D")
            .arg(self.home.data())
            .arg("-k")
            .arg(self.home.socket_dir())
            .args(["-c", "listen_addresses=", "-c", "port=5432"])
            .args(["-c", "unix_socket_permissions=0700"])
            .stdin(Stdio::null())
            .process_group(0);
        // Full pages in the log: lz4 takes a fraction of the time of Postgres' own method, and not every build has it.
        let compression = self.first_taken("wal_compression", &["lz4", "on"]);
        for assignment in compression.into_iter().chain(self.settings.assignments()) {
            command.arg("-c").arg(assignment);
        }
        command
    }

    /// The first of a setting's values that this build of the server knows, as `name=value`.
    fn first_taken(&self, name: &str, values: &[&str]) -> Option<String> {
        let mut assignments = values.iter().map(|value| format!("{name}={value}"));
        assignments.find(|assignment| {
            let program = self.binaries.program("postgres");
            let mut command = self.account.command(program, self.dir());
            command
                .args(["-C", name, "-c", assignment, "-D"])
                .arg(self.home.data())
                .stdin(Stdio::null());
            command.output().is_ok_and(|output| output.status.success())
        })
    }

    /// Whether the server with this process id takes connections.
    pub fn is_ready(&self, server_id: u32) -> bool {
        self.home.is_ready(server_id)
    }

    /// Stops the server: sessions are ended, and everything is written out.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::SIGINT)
    }

    /// Stops the server at once: the next start recovers from the log.
    pub fn stop_immediate(&self) -> Result<()> {
        self.end(Signal::SIGQUIT)
    }

    /// Kills the server with SIGKILL and waits until its sessions have noticed.
    pub fn kill9(&self) -> Result<()> {
        let sessions = process::children(self.server_id()?)?;
        self.end(Signal::SIGKILL)?;
        let gone = wait_until(STOP_LIMIT, || {
            !sessions.iter().any(|id| process::is_alive(*id))
        });
        ensure!(gone, "processes {sessions:?} outlived their server");
        Ok(())
    }

    /// Freezes every process of the server: connections stay open, and nothing answers.
    pub fn sigstop(&self) -> Result<()> {
        self.signal_all(Signal::SIGSTOP)
    }

    /// Lets a frozen server go on.
    pub fn sigcont(&self) -> Result<()> {
        self.signal_all(Signal::SIGCONT)
    }

    /// The URL of a database for the owner's role.
    pub fn owner_url(&self, database: &str) -> String {
        self.url(OWNER, database)
    }

    /// The URL of a database for the application's role.
    pub fn app_url(&self, database: &str) -> String {
        self.url(APPLICATION, database)
    }

    /// Runs one statement as the owner and gives what `psql` prints: fields parted by `|`, no headings.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let output = Command::new(self.binaries.program("psql"))
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
            ])
            .arg(self.owner_url(database))
            .stdin(Stdio::null())
            .output()
            .context("cannot run psql")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned())
    }

    /// Creates an empty database, if there is none of this name.
    pub fn create_database_unless_exists(&self, name: &str) -> Result<()> {
        let found = format!("select count(*) from pg_database where datname = '{name}'");
        if self.psql("postgres", &found)? == "0" {
            self.psql(
                "postgres",
                &format!("create database {name} template template0"),
            )?;
        }
        Ok(())
    }

    /// The process id of the server that [`start`](Self::start) started.
    pub fn server_id(&self) -> Result<u32> {
        let server = self.server();
        let child = server.as_ref().context("the server does not run")?;
        Ok(child.id())
    }

    /// The directory of this cluster.
    pub fn dir(&self) -> &Path {
        self.home.dir()
    }

    /// The programs of this installation.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    fn end(&self, signal: Signal) -> Result<()> {
        let mut server = self.server();
        let Some(child) = server.as_mut() else {
            return Ok(());
        };
        let id = child.id();
        if child.try_wait()?.is_none() {
            let group = process::pid(id);
            kill(group, signal).context("cannot signal the server")?;
            // A frozen server obeys only once it is thawed.
            kill(group, Signal::SIGCONT).context("cannot signal the server")?;
        }
        let gone = wait_until(STOP_LIMIT, || !matches!(child.try_wait(), Ok(None)));
        ensure!(gone, "the server, process {id}, did not end on {signal}");
        *server = None;
        self.guardian.forget(id)
    }

    fn signal_all(&self, signal: Signal) -> Result<()> {
        let server_id = self.server_id()?;
        kill(process::pid(server_id), signal).context("cannot signal the server")?;
        for session in process::children(server_id)? {
            // A session may end while we go through the list.
            let _ = kill(process::pid(session), signal);
        }
        Ok(())
    }

    fn url(&self, role: &str, database: &str) -> String {
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC
            .remove(b'/')
            .remove(b'-')
            .remove(b'_')
            .remove(b'.');
        let socket_dir = self.home.socket_dir();
        let host = utf8_percent_encode(socket_dir.to_str().unwrap_or_default(), KEPT);
        format!("postgres://{role}@localhost/{database}?host={host}")
    }

    fn logged_command(&self) -> Result<Command> {
        let path = self.home.log();
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.with_context(|| format!("cannot write {}", path.display()))?;
        let mut command = self.command();
        command.stdout(Stdio::null()).stderr(log);
        Ok(command)
    }

    fn server(&self) -> MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The guardian, dropped next, ends a server that this could not.
        let _ = self.end(self.last_signal);
    }
}

fn last_lines(path: &Path) -> String {
    const LINES: usize = 12;
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
