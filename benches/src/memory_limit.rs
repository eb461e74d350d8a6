//! A limit of memory for some processes and their children, by a control group.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::gettid;

/// Where a version of control groups is, and what it calls things.
struct Version {
    root: &'static str,
    limit: &'static str,
    now: &'static str,
    most: &'static str,
}

const VERSIONS: [Version; 2] = [
    Version {
        root: "/sys/fs/cgroup/memory",
        limit: "memory.limit_in_bytes",
        now: "memory.usage_in_bytes",
        most: "memory.max_usage_in_bytes",
    },
    Version {
        root: "/sys/fs/cgroup",
        limit: "memory.max",
        now: "memory.current",
        most: "memory.peak",
    },
];

/// A group with a limit; it goes when dropped, once its processes are gone.
pub struct MemoryLimit {
    dir: PathBuf,
    version: &'static Version,
}

impl MemoryLimit {
    /// A group without processes. Pages that the system caches for them count.
    ///
    /// # Errors
    /// This process may not make one.
    pub fn of(bytes: u64) -> Result<Self> {
        for version in &VERSIONS {
            let dir = Path::new(version.root).join(format!("atelier-{}", std::process::id()));
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Self { dir, version };
            if fs::write(group.dir.join(version.limit), bytes.to_string()).is_ok() {
                return Ok(group);
            }
        }
        bail!("no control group for memory can be made here")
    }

    /// Puts a process in; its future children come along.
    ///
    /// # Errors
    /// It is gone.
    pub fn add(&self, process: u32) -> Result<()> {
        fs::write(self.dir.join("cgroup.procs"), process.to_string())
            .with_context(|| format!("limiting the memory of process {process}"))
    }

    /// Does something on a thread that is in the group: whatever it starts begins there, and all that it ever holds counts.
    ///
    /// # Errors
    /// The system has groups of whole processes only (version 2).
    pub fn within<T: Send>(&self, what: impl FnOnce() -> T + Send) -> Result<T> {
        let inside = || {
            let thread = gettid().to_string();
            fs::write(self.dir.join("tasks"), thread).context("a thread in a group of its own")?;
            Ok(what())
        };
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| anyhow!("what was done in the group panicked"))?
    }

    /// The most that was used, as far as the system tells.
    pub fn most_bytes(&self) -> Option<u64> {
        self.number(self.version.most)
    }

    /// What is used now without the files that the system keeps cached and could give up.
    pub fn needed_bytes(&self) -> Option<u64> {
        let used = self.number(self.version.now)?;
        let text = fs::read_to_string(self.dir.join("memory.stat")).ok()?;
        let files = ["active_file ", "inactive_file "].map(|name| {
            let count = text.lines().find_map(|line| line.strip_prefix(name));
            count.and_then(|count| count.parse().ok()).unwrap_or(0_u64)
        });
        Some(used.saturating_sub(files.iter().sum()))
    }

    /// How often the limit was met, files that were then given up included, as far as the system tells.
    pub fn met(&self) -> Option<u64> {
        self.number("memory.failcnt").or_else(|| {
            let text = fs::read_to_string(self.dir.join("memory.events")).ok()?;
            let count = text.lines().find_map(|line| line.strip_prefix("max "))?;
            count.parse().ok()
        })
    }

    fn number(&self, file: &str) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(file)).ok()?;
        text.trim().parse().ok()
    }

    /// How many processes the system killed for want of memory.
    pub fn killed(&self) -> u64 {
        let files = ["memory.oom_control", "memory.events"].map(|name| self.dir.join(name));
        let text = files.iter().find_map(|file| fs::read_to_string(file).ok());
        let text = text.unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.parse().ok()).unwrap_or(0)
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.dir);
    }
}
