//! The server settings of a cluster.

/// Settings given to the server at each start, over whatever its files say.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory for the shared page cache, in MiB.
    pub shared_buffers_mib: u32,
    /// What the planner may assume to be cached by the system and the server together, in MiB.
    pub effective_cache_mib: u32,
    /// Memory for building one index, in MiB.
    pub maintenance_work_mem_mib: u32,
    /// Connections at a time.
    pub connections_max: u32,
    /// Size the write-ahead log may reach between two checkpoints, in MiB.
    pub wal_mib_max: u32,
    /// Whether acknowledged commits survive a crash of the machine; a crash of the server they always survive.
    pub durable: bool,
    /// Further settings as `name=value`, over all others.
    pub more: Vec<String>,
}

impl Settings {
    /// For data that is to be kept, on a small machine shared with the rest of the stack.
    pub fn durable() -> Self {
        Self {
            shared_buffers_mib: 128,
            effective_cache_mib: 512,
            maintenance_work_mem_mib: 64,
            connections_max: 100,
            wal_mib_max: 1024,
            durable: true,
            // A replica that was away for a while finds what it has missed, also after a recovery, which ends with a checkpoint.
            more: vec!["wal_keep_size=256MB".into()],
        }
    }

    /// For tests: many connections, no waiting for the disk, and nothing that starts by itself at a moment of its own.
    pub fn test() -> Self {
        Self {
            connections_max: 300,
            durable: false,
            more: vec!["autovacuum=off".into()],
            ..Self::durable()
        }
    }

    /// The settings as `name=value`, for the server's option `-c`.
    pub(crate) fn assignments(&self) -> Vec<String> {
        let switch = if self.durable { "on" } else { "off" };
        let mut assignments = vec![
            format!("shared_buffers={}MB", self.shared_buffers_mib),
            format!("effective_cache_size={}MB", self.effective_cache_mib),
            format!("maintenance_work_mem={}MB", self.maintenance_work_mem_mib),
            format!("max_connections={}", self.connections_max),
            format!("max_wal_size={}MB", self.wal_mib_max),
            // Commits still wait until the log is handed to the system, so a killed server loses none.
            format!("fsync={switch}"),
            format!("full_page_writes={switch}"),
            // Containers often have a /dev/shm too small for parallel queries.
            "dynamic_shared_memory_type=mmap".into(),
            // Compiling costs more than these short queries do.
            "jit=off".into(),
            "log_checkpoints=off".into(),
            "timezone=UTC".into(),
            "log_timezone=UTC".into(),
        ];
        assignments.extend_from_slice(&self.more);
        assignments
    }
}
