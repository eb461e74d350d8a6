//! What every request may use. Nothing of it remembers a request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64},
};

use tokio::sync::Semaphore;

use crate::{
    cache_policy::CacheHeaders, config::Config, database::Database, log_buffer::LogBuffer,
    metrics::Metrics, ranked::Ranked, tail::Tail,
};

/// The state behind every handler: one pointer to clone.
#[derive(Clone, Debug)]
pub struct AppState(Arc<Shared>);

/// What is shared.
#[derive(Debug)]
pub struct Shared {
    /// The settings.
    pub config: Config,
    /// The way to Postgres.
    pub db: Database,
    /// Which products' pages are found by ranks.
    pub ranked: Ranked,
    /// Tells caches what has changed.
    pub tail: Tail,
    /// Writes the cache fields of answers.
    pub cache_headers: CacheHeaders,
    /// Takes the lines about requests.
    pub log: LogBuffer,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// One permit for each byte of request bodies that may be held in memory.
    pub body_memory: Arc<Semaphore>,
    /// Set when the process has begun to end.
    pub is_ending: AtomicBool,
    /// Makes the ids of requests that came without one.
    pub request_ids: RequestIds,
}

impl AppState {
    /// Shares what requests use.
    pub fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

/// Numbers that no other process makes: a random one for the process, and a counter.
#[derive(Debug)]
pub struct RequestIds {
    process: u64,
    next: AtomicU64,
}

impl RequestIds {
    /// Begins at a random place.
    pub fn new() -> Self {
        let mut bytes = [0; 8];
        // Without randomness the ids are still unique within the process.
        let _ = getrandom::fill(&mut bytes);
        Self {
            process: u64::from_ne_bytes(bytes),
            next: AtomicU64::new(0),
        }
    }

    /// The next id.
    pub fn next(&self) -> String {
        let number = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        format!("{:016x}-{number:x}", self.process)
    }
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}
