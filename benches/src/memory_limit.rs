//! A limit of memory for some processes and their children, by a control group.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// Where the two versions of control groups are, and what they call a limit and its use.
const VERSIONS: [(&str, &str, &str); 2] = [
    (
        "/sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.max_usage_in_bytes",
    ),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
];

/// A group with a limit; it goes when dropped, once its processes are gone.
pub struct MemoryLimit {
    dir: PathBuf,
    most: &'static str,
}

impl MemoryLimit {
    /// A group without processes. Pages that the system caches for them count.
    ///
    /// # Errors
    /// This process may not make one.
    pub fn of(bytes: u64) -> Result<Self> {
        for (root, limit, most) in VERSIONS {
            let dir = Path::new(root).join(format!("atelier-{}", std::process::id()));
            if fs::create_dir(&dir).is_err() {
                continue;
            }
            let group = Self { dir, most };
            if fs::write(group.dir.join(limit), bytes.to_string()).is_ok() {
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

    /// The most that was used, as far as the system tells.
    pub fn most_bytes(&self) -> Option<u64> {
        let text = fs::read_to_string(self.dir.join(self.most)).ok()?;
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
