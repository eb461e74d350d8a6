//! Statements over several connections, side by side.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sqlx::Connection as _;
use tokio::{sync::Notify, task::JoinSet};

use super::{build::NEXT, connect, run};
use crate::error::{Error, Result, database};

/// What a connection gets of the memory at least, in MiB: Postgres takes no less than 1.
const JOB_MEMORY_MB_MIN: u32 = 1;

/// Memory of one step of a query that derives rows or checks references, in MiB; such a query has a few of them.
const QUERY_MEMORY_MB_MAX: u32 = 64;
/// What those steps may take if each connection runs one of them at a time, in MiB.
const QUERIES_MEMORY_MB: u32 = 128;

/// Connections that derive rows, build indexes and put tables in order, and what they share.
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
    /// What one of them may take for an index, in MiB.
    fn memory_of_one_mb(self) -> u32 {
        self.share_mb(self.memory_mb)
    }

    /// What a step of its queries may take, in MiB.
    fn query_memory_mb(self) -> u32 {
        self.share_mb(QUERIES_MEMORY_MB).min(QUERY_MEMORY_MB_MAX)
    }

    fn share_mb(self, whole: u32) -> u32 {
        let connections = u32::try_from(self.connections).unwrap_or(u32::MAX);
        (whole / connections.max(1)).max(JOB_MEMORY_MB_MIN)
    }
}

/// A statement, or several that are one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// What it does, as errors say it.
    pub(super) doing: String,
    /// Its text.
    pub(super) sql: String,
}

impl From<String> for Statement {
    /// One that says itself what it does.
    fn from(sql: String) -> Self {
        Self {
            doing: sql.clone(),
            sql,
        }
    }
}

/// Statements that one connection runs one after the other.
pub(super) type Job = Vec<Statement>;

/// Jobs that several connections work off, in order of beginning, while others may still come.
#[derive(Debug, Clone, Default)]
pub(super) struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// A job has come, none comes any more, or all is given up.
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
    is_given_up: bool,
}

impl Queue {
    /// Adds jobs.
    pub(super) fn add(&self, jobs: impl IntoIterator<Item = Job>) {
        self.state().jobs.extend(jobs);
        self.0.changed.notify_waiters();
    }

    /// The jobs that nobody has begun.
    #[cfg(test)]
    pub(super) fn take(&self) -> Vec<Job> {
        self.state().jobs.drain(..).collect()
    }

    /// Says that no more jobs will come.
    pub(super) fn close(&self) {
        self.state().is_closed = true;
        self.0.changed.notify_waiters();
    }

    /// Says that nothing of it is wanted any more: jobs that have begun end at once.
    pub(super) fn give_up(&self) {
        *self.state() = State {
            jobs: VecDeque::new(),
            is_closed: true,
            is_given_up: true,
        };
        self.0.changed.notify_waiters();
    }

    /// Whether all was given up, as somebody failed.
    pub(super) fn is_given_up(&self) -> bool {
        self.state().is_given_up
    }

    /// The next job; waits for it unless the queue is closed.
    async fn next(&self) -> Option<Job> {
        self.when(|state| {
            let job = state.jobs.pop_front();
            (job.is_some() || state.is_closed).then_some(job)
        })
        .await
    }

    /// Waits until `look` has found something.
    async fn when<T>(&self, look: impl Fn(&mut State) -> Option<T>) -> T {
        loop {
            let changed = self.0.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let found = look(&mut self.state());
            if let Some(found) = found {
                return found;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs statements over several connections.
pub(super) async fn side_by_side(
    database_url: &str,
    jobs: Jobs,
    statements: Vec<String>,
) -> Result<()> {
    let queue = Queue::default();
    queue.add(statements.into_iter().map(|sql| vec![sql.into()]));
    queue.close();
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
    let mut outcome = Ok(());
    while let Some(worker) = workers.join_next().await {
        let ended = worker.unwrap_or_else(|error| {
            queue.give_up();
            Err(Error::Check(format!("a worker ended early: {error}")))
        });
        outcome = outcome.and(ended);
    }
    outcome
}

/// Works off a queue over one connection; if that fails, the others give up.
pub(super) async fn work_off(database_url: String, jobs: Jobs, queue: Queue) -> Result<()> {
    let working = async {
        let mut conn = connect(&database_url).await?;
        // References are checked by a join: both sides have an index in that order, and merging those
        // takes half the time of a hash table.
        let (memory_mb, query_mb) = (jobs.memory_of_one_mb(), jobs.query_memory_mb());
        let session = format!(
            "set search_path = {NEXT}; set work_mem = '{query_mb}MB';
             set maintenance_work_mem = '{memory_mb}MB'; set enable_hashjoin = off"
        );
        run(&mut conn, "setting up the session", &session).await?;
        while let Some(job) = queue.next().await {
            for Statement { doing, sql } in job {
                run(&mut conn, &doing, &sql).await?;
            }
        }
        conn.close().await.map_err(database("closing a connection"))
    };
    let outcome = tokio::select! {
        outcome = working => outcome,
        // The server notices that the connection has gone, and ends the statement.
        () = queue.when(|state| state.is_given_up.then_some(())) => Ok(()),
    };
    if outcome.is_err() {
        queue.give_up();
    }
    outcome
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    /// What a worker gets that had to wait until `then`.
    async fn next_after(then: impl FnOnce(&Queue)) -> Option<Job> {
        let queue = Queue::default();
        let waiting = tokio::spawn({
            let queue = queue.clone();
            async move { queue.next().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        then(&queue);
        let limit = Duration::from_secs(10);
        timeout(limit, waiting)
            .await
            .expect("it waits")
            .expect("a job or none")
    }

    #[tokio::test]
    async fn a_worker_waits_for_the_next_job_until_no_more_come() {
        let job = vec!["select 1".to_owned().into()];
        assert_eq!(
            next_after(|queue| queue.add([job.clone()])).await,
            Some(job)
        );
        assert_eq!(next_after(Queue::close).await, None);
        assert_eq!(next_after(Queue::give_up).await, None);
    }

    #[tokio::test]
    async fn what_is_queued_is_done_after_the_end_but_not_once_all_is_given_up() {
        let jobs = ["a", "b"].map(|sql| vec![sql.to_owned().into()]);
        let queue = Queue::default();
        queue.add(jobs.clone());
        queue.close();
        assert_eq!(queue.next().await.as_ref(), Some(&jobs[0]));
        assert!(!queue.is_given_up());
        queue.give_up();
        assert!(queue.is_given_up());
        assert_eq!(queue.next().await, None);
    }

    #[test]
    fn connections_share_the_memory_and_each_gets_some() {
        let memory = |connections, memory_mb| {
            let jobs = Jobs {
                connections,
                memory_mb,
            };
            (jobs.memory_of_one_mb(), jobs.query_memory_mb())
        };
        assert_eq!((memory(2, 256), memory(16, 256)), ((128, 64), (16, 8)));
        assert_eq!((memory(0, 256), memory(16, 8)), ((256, 64), (1, 8)));
    }
}
