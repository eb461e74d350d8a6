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

/// Memory of one connection that builds an index or puts a table in order. Two of them fit a database
/// machine of 1 GiB.
const INDEX_MEMORY: &str = "128MB";

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
    connections: usize,
    statements: Vec<String>,
) -> Result<()> {
    let jobs = statements.into_iter().map(|statement| vec![statement]);
    work_off_by(database_url, connections.max(1), Queue::of(jobs)).await
}

/// Works off a queue over so many connections.
pub(super) async fn work_off_by(
    database_url: &str,
    connections: usize,
    queue: Queue,
) -> Result<()> {
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(work_off(database_url.to_owned(), queue.clone()));
    }
    while let Some(worker) = workers.join_next().await {
        worker.map_err(|error| Error::Check(format!("a worker ended early: {error}")))??;
    }
    Ok(())
}

/// Works off a queue over one connection.
pub(super) async fn work_off(database_url: String, queue: Queue) -> Result<()> {
    let mut conn = connect(&database_url).await?;
    // References are checked by a join: both sides have an index in that order, and merging those
    // takes half the time of a hash table.
    let session = format!(
        "set search_path = {NEXT}; set work_mem = '{QUERY_MEMORY}';
         set maintenance_work_mem = '{INDEX_MEMORY}'; set enable_hashjoin = off"
    );
    run(&mut conn, "setting up the session", &session).await?;
    while let Some(job) = queue.next() {
        for statement in job {
            run(&mut conn, &statement, &statement).await?;
        }
    }
    conn.close().await.map_err(database("closing a connection"))
}
