//! Reads over a few pipelined connections: many requests share one, none waits for the answer to another's.
//!
//! A read holds no connection: its statement goes out behind those already sent, and answers come back in order. The
//! server then finds several statements in one read of its socket, which halves what a small look-up costs both sides.
//! Written on `tokio-postgres` because `sqlx` cannot pipeline; what must hold is what holds in [`super::pool`]:
//! - Connections are opened by a task, never by the request that needs one.
//! - A server that has answered nothing for a statement's deadline has stopped: every connection is given up, and reads
//!   are refused at once until a new connection has proved that it is back.
//! - A read that meets a broken connection runs again on another: a restart of the server costs none.
//! - A read that is cancelled costs nothing: its answer is read and dropped.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::Notify, task::AbortHandle, time::timeout};
use tokio_postgres::{Client, Row, error::SqlState, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Statement,
    pool::{BACKOFF, CHECK_EVERY, Settings},
};
use crate::{
    error::{Error, Result},
    metrics::Metrics,
};

/// What a statement is called with.
pub type Arguments<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Reads that a connection carries before the next one is used.
const DEPTH: usize = 32;

/// The pipelined connections to one server. Clones share them.
#[derive(Clone)]
pub struct Reads {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    settings: Settings,
    metrics: Arc<Metrics>,
    links: RwLock<Vec<Arc<Link>>>,
    /// Set from the first sign that the server does not answer until a connection has been opened.
    is_down: AtomicBool,
    is_closed: AtomicBool,
    /// Wakes the keeper: a connection is missing.
    missing: Notify,
    /// Wakes reads that wait for a connection.
    opened: Notify,
}

/// A connection and what is known about it.
struct Link {
    client: Client,
    /// Ends what reads and writes the socket.
    connection: AbortHandle,
    opened_at: Instant,
    /// Microseconds from `opened_at` to the last answer.
    answered_us: AtomicU64,
    /// By name: as many as there are statements.
    prepared: Mutex<HashMap<&'static str, tokio_postgres::Statement>>,
}

impl std::fmt::Debug for Reads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reads")
            .field("name", &self.shared.name)
            .field("sizes", &self.sizes())
            .finish_non_exhaustive()
    }
}

impl Reads {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    pub fn open(
        name: &'static str,
        config: tokio_postgres::Config,
        tls: MakeRustlsConnect,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            config,
            tls,
            settings,
            metrics,
            links: RwLock::new(Vec::with_capacity(settings.connections_max)),
            is_down: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            missing: Notify::new(),
            opened: Notify::new(),
        });
        tokio::spawn(Arc::clone(&shared).keep());
        Self { shared }
    }

    /// Runs a statement that changes nothing; gives its rows.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the server does not answer, [`Error::Internal`] if it refuses the statement.
    pub async fn rows(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        let started = Instant::now();
        let outcome = self.shared.repeat(statement, arguments).await;
        self.shared
            .metrics
            .statement(statement.name)
            .observe(started.elapsed().as_secs_f64());
        outcome
    }

    /// Runs a statement that changes nothing; gives its first row.
    ///
    /// # Errors
    /// As [`Reads::rows`].
    pub async fn row(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Option<Row>> {
        Ok(self.rows(statement, arguments).await?.into_iter().next())
    }

    /// What these connections are for.
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// Connections that exist, and those of them that carry no read.
    pub fn sizes(&self) -> (usize, usize) {
        let links = self.shared.links();
        let idle = links.iter().filter(|link| in_flight(link) == 0);
        (links.len(), idle.count())
    }

    /// Ends the connections, each after the reads that it carries, and opens no more.
    pub fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        self.shared.missing.notify_one();
        self.shared.links_mut().clear();
    }
}

impl Shared {
    fn links(&self) -> std::sync::RwLockReadGuard<'_, Vec<Arc<Link>>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn links_mut(&self) -> std::sync::RwLockWriteGuard<'_, Vec<Arc<Link>>> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a statement, again if its connection turns out to be broken.
    async fn repeat(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        // After a restart of the server each connection may be broken; the last try has a new one.
        for _ in 0..self.settings.connections_max {
            let link = self.link().await?;
            match self.attempt(&link, statement, arguments).await? {
                Ok(rows) => return Ok(rows),
                Err(error) if is_fatal(&error) => self.give_up(&link),
                Err(error) => return Err(error.into()),
            }
        }
        let link = self.link().await?;
        Ok(self.attempt(&link, statement, arguments).await??)
    }

    /// Runs a statement within its deadline.
    async fn attempt(
        &self,
        link: &Link,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<std::result::Result<Vec<Row>, tokio_postgres::Error>> {
        let deadline = self.settings.statement_deadline;
        let Ok(outcome) = timeout(deadline, link.rows(statement, arguments)).await else {
            // One of many on this connection may be slow; a server that answers none of them has stopped.
            if link.is_silent_for(deadline) {
                self.distrust();
            }
            return Err(Error::Unavailable("statement deadline passed".into()));
        };
        link.has_answered();
        Ok(outcome)
    }

    /// The next connection in turn; waits a short time for one if there is none.
    async fn link(&self) -> Result<Arc<Link>> {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        loop {
            opened.as_mut().enable();
            if let Some(link) = self.next_link() {
                return Ok(link);
            }
            if self.is_down.load(Ordering::Relaxed) {
                return Err(Error::Unavailable("the database does not answer".into()));
            }
            if self.is_closed.load(Ordering::Relaxed) {
                return Err(Error::Unavailable("the connections are closed".into()));
            }
            timeout(self.settings.acquire_timeout, opened.as_mut())
                .await
                .map_err(|_| Error::Unavailable("no connection was opened in time".into()))?;
            opened.set(self.opened.notified());
        }
    }

    /// The first connection with room, so that they stay few and full; if none has room, the least loaded.
    fn next_link(&self) -> Option<Arc<Link>> {
        let links = self.links();
        let with_room = links.iter().find(|link| in_flight(link) < DEPTH);
        let link = with_room.or_else(|| links.iter().min_by_key(|link| in_flight(link)));
        link.cloned()
    }

    /// Opens what is missing and tries what is open, for as long as the origin lives.
    async fn keep(self: Arc<Self>) {
        let mut backoff = BACKOFF.0;
        while !self.is_closed.load(Ordering::Relaxed) {
            if self.links().len() >= self.settings.connections_max {
                if timeout(CHECK_EVERY, self.missing.notified()).await.is_err() {
                    self.check().await;
                }
                continue;
            }
            match self.connect().await {
                Ok(link) => {
                    backoff = BACKOFF.0;
                    self.links_mut().push(Arc::new(link));
                    if self.is_down.swap(false, Ordering::Relaxed) {
                        tracing::info!(pool = self.name, "the database answers again");
                    }
                    self.opened.notify_waiters();
                }
                Err(error) => {
                    if !self.is_down.swap(true, Ordering::Relaxed) {
                        tracing::error!(pool = self.name, %error, "cannot connect to the database");
                        self.opened.notify_waiters();
                    }
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
        self.links_mut().clear();
    }

    async fn connect(&self) -> Result<Link> {
        let opening = self.config.connect(self.tls.clone());
        let (client, connection) = timeout(self.settings.connect_timeout, opening)
            .await
            .map_err(|_| Error::Unavailable("opening a connection took too long".into()))??;
        // Ends with its client; what it fails of, its reads are told.
        let connection = tokio::spawn(connection).abort_handle();
        Ok(Link {
            client,
            connection,
            opened_at: Instant::now(),
            answered_us: AtomicU64::new(0),
            prepared: Mutex::default(),
        })
    }

    /// Tries every connection, and gives up the oldest if its time is over.
    async fn check(&self) {
        let links = self.links().clone();
        for link in &links {
            match timeout(
                self.settings.statement_deadline,
                link.client.simple_query(""),
            )
            .await
            {
                Ok(Ok(_)) => link.has_answered(),
                Ok(Err(_)) => self.give_up(link),
                Err(_) if link.is_silent_for(self.settings.statement_deadline) => {
                    return self.distrust();
                }
                Err(_) => {}
            }
        }
        // One at a time: connections that were opened together must not go together.
        if let Some(oldest) = links.iter().min_by_key(|link| link.opened_at)
            && oldest.opened_at.elapsed() >= self.settings.lifetime
        {
            self.give_up(oldest);
        }
    }

    /// Sends no more reads over a connection; it ends when those it carries have ended.
    fn give_up(&self, link: &Arc<Link>) {
        self.links_mut().retain(|other| !Arc::ptr_eq(other, link));
        self.missing.notify_one();
    }

    /// The server has not answered in time: nothing that is open can be trusted.
    fn distrust(&self) {
        if !self.is_down.swap(true, Ordering::Relaxed) {
            tracing::error!(pool = self.name, "the database does not answer");
        }
        for link in std::mem::take(&mut *self.links_mut()) {
            // It would wait for answers that may never come.
            link.connection.abort();
        }
        self.missing.notify_one();
        self.opened.notify_waiters();
    }
}

/// Reads that a connection carries: each holds the link, and so does the list of links.
fn in_flight(link: &Arc<Link>) -> usize {
    Arc::strong_count(link) - 1
}

impl Link {
    async fn rows(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        let prepared = self.prepared(statement).await?;
        self.client.query(&prepared, arguments).await
    }

    /// Prepares a statement on its first call; two first calls at a time may both do it, which is harmless.
    async fn prepared(
        &self,
        statement: &'static Statement,
    ) -> std::result::Result<tokio_postgres::Statement, tokio_postgres::Error> {
        let known = |link: &Self| {
            let prepared = link.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.get(statement.name).cloned()
        };
        if let Some(prepared) = known(self) {
            return Ok(prepared);
        }
        let prepared = self.client.prepare(statement.sql).await?;
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(statement.name, prepared.clone());
        Ok(prepared)
    }

    fn has_answered(&self) {
        let now = u64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.answered_us.store(now, Ordering::Relaxed);
    }

    fn is_silent_for(&self, period: Duration) -> bool {
        let answered = Duration::from_micros(self.answered_us.load(Ordering::Relaxed));
        self.opened_at.elapsed() >= answered + period
    }
}

/// Whether the connection is of no more use after this error.
fn is_fatal(error: &tokio_postgres::Error) -> bool {
    match error.code() {
        Some(code) => {
            // The last: a plan of tables that have changed their columns; a new connection plans anew.
            [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
                SqlState::FEATURE_NOT_SUPPORTED,
            ]
            .contains(code)
                || code.code() == "57P05"
        }
        None => error.is_closed() || is_io(error),
    }
}

/// Whether it was the connection that failed, and not what was sent over it.
pub fn is_io(error: &tokio_postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
}

/// The whole of an error: the driver's own words leave out what the server said.
pub fn describe(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), std::error::Error::source(error)) {
        (Some(server), _) => format!("{} ({})", server.message(), server.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
