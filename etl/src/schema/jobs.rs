//! Statements over several connections, side by side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::Connection as _;
use tokio::task::JoinSet;

use super::{
    build::{NEXT, QUERY_MEMORY},
    connect, run,
};
use crate::error::{Error, Result, database};

/// What a connection gets of the memory at least, in MiB: Postgres takes no less than 1.
const JOB_MEMORY_MB_MIN: u32 = 1;

/// Connections that build indexes and put tables in order, and what they share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jobs {
    /// How many there are; at least one is used.
    pub connections: usize,
    /// What all of them together may take of the server's memory for it, in MiB.
    pub memory_mb: u32,
}

impl Default for Jobs {
    /// What fits a database machine of 1 GiB.
    fn default() -> Self {
        Self {
            connections: 2,
            memory_mb: 256,
        }
    }
}

impl Jobs {
    /// What one of them may take, in MiB.
    fn memory_of_one_mb(self) -> u32 {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        (self.memory_mb / connections.max(1)).max(JOB_MEMORY_MB_MIN)
    }
}

/// Statements that one connection runs one after the other.
pub(super) type Job = Vec<String>;

/// Jobs that several connections work off, in order of beginning.
#[derive(Debug, Clone)]
pub(super) struct Queue(Arc<Mutex<VecDeque<Job>>>);

impl Queue {
    pub(super) fn of(jobs: impl IntoIterator<Item = Job>) -> Self {
        Self(Arc::new(Mutex::new(jobs.into_iter().collect())))
    }

    fn next(&self) -> Option<Job> {
        let mut jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.pop_front()
    }
}

/// Runs statements over several connections.
pub(super) async fn side_by_side(
    database_url: &str,
    jobs: Jobs,
    statements: Vec<String>,
) -> Result<()> {
    let queue = Queue::of(statements.into_iter().map(|statement| vec![statement]));
    work_off_by(database_url, jobs, jobs.connections.max(1), queue).await
}

/// Works off a queue over so many of the connections.
pub(super) async fn work_off_by(
    database_url: &str,
    jobs: Jobs,
    connections: usize,
    queue: Queue,
) -> Result<()> {
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(work_off(database_url.to_owned(), jobs, queue.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker.map_err(|error| Error::Check(format!("a worker ended early: {error}")))??;
    }
    Ok(())
}

/// Works off a queue over one connection.
pub(super) async fn work_off(database_url: String, jobs: Jobs, queue: Queue) -> Result<()> {
    let mut conn = connect(&database_url).await?;
    // References are checked by a join: both sides have an index in that order, and merging those
    // takes half the time of a hash table.
    let memory_mb = jobs.memory_of_one_mb();
    let session = format!(
        "set search_path = {NEXT}; set work_mem = '{QUERY_MEMORY}';
         set maintenance_work_mem = '{memory_mb}MB'; set enable_hashjoin = off"
    );
    run(&mut conn, "setting up the session", &session).await?;
    while let Some(job) = queue.next() {
        for statement in job {
            run(&mut conn, &statement, &statement).await?;
        }
    }
    conn.close().await.map_err(database("closing a connection"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_the_memory_and_each_gets_some() {
        let memory = |connections, memory_mb| {
            let jobs = Jobs {
                connections,
                memory_mb,
            };
            jobs.memory_of_one_mb()
        };
        assert_eq!((memory(2, 256), memory(16, 256)), (128, 16));
        assert_eq!((memory(0, 256), memory(16, 8)), (256, 1));
    }
}
