//! What several test files need.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::sys::signal::{Signal, kill};
use stack::process;
use tempfile::TempDir;

/// Long enough for a slow machine; a test that meets its condition never waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for a condition, and fails naming it.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// A directory that the account running Postgres can enter, short enough for a socket.
pub(crate) fn data_dir() -> TempDir {
    let dir = tempfile::Builder::new()
        .prefix("atelier-")
        .tempdir_in("/tmp")
        .unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir.path(), open).unwrap();
    dir
}

/// Every process that names `path` on its command line, with its id.
pub(crate) fn processes_naming(path: &Path) -> Vec<(u32, String)> {
    let path = path.to_str().unwrap();
    let ids = Path::new("/proc")
        .read_dir()
        .expect("these tests need /proc")
        .flatten();
    ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|id: u32| Some((id, fs::read(format!("/proc/{id}/cmdline")).ok()?)))
        .map(|(id, line)| (id, String::from_utf8_lossy(&line).replace('\0', " ")))
        .filter(|(_, line)| line.contains(path))
        .collect()
}

/// The program under test, running; killed when dropped.
pub(crate) struct Program {
    pub(crate) child: Child,
}

impl Program {
    /// Starts it and waits for the first line it prints.
    pub(crate) fn start(command: &mut Command) -> (Self, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        (Self { child }, line.trim_end().to_owned())
    }

    /// Starts it with all its output going to a file.
    pub(crate) fn start_logged(command: &mut Command, log: File) -> Self {
        let child = command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(process::pid(self.child.id()), signal).unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command of the program `stack`.
pub(crate) fn stack(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stack"));
    command.args(arguments);
    command
}
