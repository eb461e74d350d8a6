//! A small process that ends what its owner started, should the owner die without doing so.
//!
//! It is a shell waiting on a pipe whose other end only the owner holds: the system closes that end
//! whatever the owner dies of, SIGKILL included. Process ids go over the same pipe.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

/// Watches over process groups until dropped; then ends those still watched.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    pipe: Mutex<Option<ChildStdin>>,
}

impl Guardian {
    /// Starts the process; `remove` is a directory to delete when everything has ended.
    pub fn start(remove: Option<&Path>) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", include_str!("guardian.sh"), "guardian"])
            .args(remove)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the guardian process /bin/sh")?;
        let pipe = Mutex::new(shell.stdin.take());
        Ok(Self { shell, pipe })
    }

    /// Puts a process group under guard: it will be sent `signal`, and SIGKILL if that does not help.
    pub fn watch(&self, group: u32, signal: Signal) -> Result<()> {
        let signal = signal.as_str().trim_start_matches("SIG");
        self.tell(&format!("watch {group} {signal}\n"))
    }

    /// Takes a process group that has ended off the list, before the system gives its number away again.
    pub fn forget(&self, group: u32) -> Result<()> {
        self.tell(&format!("forget {group}\n"))
    }

    fn tell(&self, line: &str) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = pipe.as_mut().context("the guardian was dismissed")?;
        pipe.write_all(line.as_bytes())
            .context("the guardian process is gone")
    }
}

impl Drop for Guardian {
    /// Lets it do its work and waits for the end of it.
    fn drop(&mut self) {
        self.pipe
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // Nothing can be done about a failed wait here, and nothing depends on it.
        let _ = self.shell.wait();
    }
}
