//! The directory of a cluster: who holds it, what is in it, how it comes into being.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};

use super::{OWNER, STOP_LIMIT};
use crate::{account::Account, binaries::Binaries, process, wait::wait_until};

/// The systems' limits are 104 (macOS) and 108 bytes, with the closing zero.
const SOCKET_PATH_BYTES_MAX: usize = 100;
const SOCKET_NAME: &str = ".s.PGSQL.5432";
/// Also what tells a data directory of ours from any other directory.
const LOCK_NAME: &str = "stack.lock";
/// How long a server may take between coming to life, or being told to end, and showing it.
const UNSETTLED_LIMIT: Duration = Duration::from_secs(2);

/// A directory held by this process alone, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Home {
    dir: PathBuf,
    _lock: File,
}

impl Home {
    /// Takes hold of `dir`, creating it if it is not there, and ends a server left over in it.
    pub(super) fn open(dir: &Path, account: &Account) -> Result<Self> {
        let dir = std::path::absolute(dir).context("cannot resolve the data directory")?;
        let socket = dir.join("socket").join(SOCKET_NAME);
        ensure!(
            socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX,
            "{} is longer than the {SOCKET_PATH_BYTES_MAX} bytes of a socket's path; choose a shorter data directory",
            socket.display(),
        );
        ensure!(
            dir.to_str().is_some(),
            "the path {} is not valid UTF-8",
            dir.display()
        );
        check_is_ours(&dir)?;
        account.create_private_dir(&dir)?;
        let lock = lock(&dir)?;
        account.create_private_dir(&dir.join("socket"))?;
        let home = Self { dir, _lock: lock };
        home.end_leftover_server()?;
        Ok(home)
    }

    /// Creates the cluster's files if there are none; otherwise checks that this server can read them.
    pub(super) fn initialise(
        &self,
        binaries: &Binaries,
        account: &Account,
        durable: bool,
    ) -> Result<()> {
        if Self::is_initialised(&self.dir) {
            return self.check_version(binaries);
        }
        self.make("initdb", |folder| {
            let mut initdb = account.command(binaries.program("initdb"), &self.dir);
            initdb
                .args([
                    "--username",
                    OWNER,
                    "--auth=trust",
                    "--no-locale",
                    "--encoding=UTF8",
                ])
                .args(if durable { None } else { Some("--no-sync") })
                .arg("--pgdata")
                .arg(folder);
            initdb
        })
    }

    /// Lets a program make the cluster's files in a folder that it is told, and puts them in place.
    pub(super) fn make(&self, name: &str, program: impl FnOnce(&Path) -> Command) -> Result<()> {
        // One that was interrupted leaves this folder; it holds nothing yet.
        let unfinished = self.dir.join("postgres.new");
        remove_dir(&unfinished)?;
        let output = program(&unfinished)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {name}"))?;
        let problem = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{name} failed: {}", problem.trim());
        fs::rename(&unfinished, self.data()).context("cannot put the new cluster in place")
    }

    /// Removes the cluster's files, all data with them.
    pub(super) fn clear(&self) -> Result<()> {
        remove_dir(&self.data())
    }

    /// Whether the server with this process id takes connections.
    pub(super) fn is_ready(&self, server_id: u32) -> bool {
        // The server keeps its state in the eighth line of this file, for pg_ctl to read.
        let Ok(text) = fs::read_to_string(self.pid_file()) else {
            return false;
        };
        let mut lines = text.lines();
        lines.next() == Some(&server_id.to_string())
            && lines.nth(6).is_some_and(|state| state.trim() == "ready")
    }

    /// Ends a server that outlived its owner. We hold the lock, so nobody else owns it.
    ///
    /// The process id in its file may meanwhile be another program's, so what counts is whether somebody
    /// answers on our private socket.
    fn end_leftover_server(&self) -> Result<()> {
        let is_served = || UnixStream::connect(self.socket()).is_ok();
        let Some(server) = self.recorded_server() else {
            return Ok(());
        };
        // It may be starting or ending just now.
        wait_until(UNSETTLED_LIMIT, || {
            is_served() || self.recorded_server().is_none() || !process::is_alive(server)
        });
        if is_served() {
            // It may still go before the signal comes.
            let _ = kill(process::pid(server), Signal::SIGINT);
            let gone = wait_until(STOP_LIMIT, || {
                self.recorded_server().is_none() && !is_served()
            });
            ensure!(
                gone,
                "the server that an earlier run left, process {server}, does not stop"
            );
        }
        remove_file(&self.socket_dir().join(format!("{SOCKET_NAME}.lock")))?;
        self.disown_reused_id()
    }

    /// Makes Postgres start although the id in a stale file is now that of another program, or of a dead
    /// process that nobody waits for.
    ///
    /// A server takes its own parent for no server, which we are; so our id goes into the file. Removing the file
    /// would be wrong: Postgres also learns from it whether sessions of a killed server still write.
    fn disown_reused_id(&self) -> Result<()> {
        let path = self.pid_file();
        let Ok(text) = fs::read_to_string(&path) else {
            return Ok(());
        };
        let rest = text
            .split_once('\n')
            .map(|(_, rest)| rest)
            .unwrap_or_default();
        fs::write(&path, format!("{}\n{rest}", std::process::id()))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn recorded_server(&self) -> Option<u32> {
        fs::read_to_string(self.pid_file())
            .ok()?
            .lines()
            .next()?
            .parse()
            .ok()
    }

    fn check_version(&self, binaries: &Binaries) -> Result<()> {
        let made_by = fs::read_to_string(self.data().join("PG_VERSION"))?;
        let (made_by, ours) = (made_by.trim(), binaries.major_version()?);
        ensure!(
            made_by == ours.to_string(),
            "the data in {} were made by Postgres {made_by}, and Postgres {ours} was found; name the folder of the \
             other one's programs in ATELIER_PG_BIN, or start anew with --fresh",
            self.dir.display(),
        );
        Ok(())
    }

    /// Whether `dir` holds a cluster.
    pub(super) fn is_initialised(dir: &Path) -> bool {
        dir.join("postgres/PG_VERSION").exists()
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    pub(super) fn socket_dir(&self) -> PathBuf {
        self.dir.join("socket")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("postgres.log")
    }

    fn socket(&self) -> PathBuf {
        self.socket_dir().join(SOCKET_NAME)
    }

    fn pid_file(&self) -> PathBuf {
        self.data().join("postmaster.pid")
    }
}

/// Refuses a directory with somebody else's files in it: we would take it over and close it to others.
fn check_is_ours(dir: &Path) -> Result<()> {
    let is_empty = match dir.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error).with_context(|| format!("cannot use {}", dir.display())),
    };
    ensure!(
        is_empty || dir.join(LOCK_NAME).exists(),
        "{} holds other files; choose an empty directory, or one that does not exist yet",
        dir.display(),
    );
    Ok(())
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK_NAME);
    let context = || format!("cannot lock {}", path.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut holder = String::new();
            file.read_to_string(&mut holder).with_context(context)?;
            bail!("{} is in use by process {}", dir.display(), holder.trim());
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .with_context(context)?;
    Ok(file)
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", dir.display()))
        }
        _ => Ok(()),
    }
}
