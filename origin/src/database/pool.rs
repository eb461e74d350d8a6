//! A few connections, shared: bounded waiting, a deadline for each statement, and no connection is ever stuck.
//!
//! Written for what the driver's own pool does not do:
//! - Connections are opened by a task of the pool, never by the request that needs one. A request waits a tenth of a
//!   second at most, which would be too short a time to connect in when the machine is busy.
//! - A statement past its deadline means that the server has stopped answering. Every idle connection is then given up,
//!   and requests are refused at once until a new connection has proved that the server is back. That is the whole
//!   circuit breaker.
//! - A request that is cancelled while its statement runs costs no connection: the rest of the answer is read by a task,
//!   and the connection is used again.
//! - Idle connections are tried every second, and as soon as one has turned out to be broken, so a restart of the server
//!   costs hardly a write.
//! - Whoever may have to wait for a row takes a place among its writers first: one row never takes every connection.
//! - No connection is used over which a write could be acknowledged that a crash undoes: each is asked when it is opened,
//!   and every second.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, Row as _,
    postgres::{PgArguments, PgConnectOptions, PgRow},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{timeout, timeout_at},
};

use super::{
    Statement,
    db::UNSAFE_SETTINGS,
    keeper::{self, Breaker, CHECK_EVERY, Kept},
    rows::{Row, Rows, Turn},
};
use crate::{
    error::{Error, Result},
    metrics::Metrics,
};

/// Of the connections, the writers of one row have this part at most: the others are for everybody else.
const ROW_SHARE: usize = 2;

/// The bounds of a pool.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Connections at a time.
    pub connections_max: usize,
    /// How long a request may wait for one.
    pub acquire_timeout: Duration,
    /// How long a statement may take, as seen from here.
    pub statement_deadline: Duration,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How old a connection may become; a server process keeps what it has cached.
    pub lifetime: Duration,
    /// Whether the server may lose what it has acknowledged.
    pub allows_unsafe: bool,
}

/// The connections to one server. Clones share them.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    options: PgConnectOptions,
    settings: Settings,
    metrics: Arc<Metrics>,
    /// The most recently used one is the last.
    idle: Mutex<Vec<Link>>,
    /// As many permits as there are idle connections.
    available: Semaphore,
    /// Connections that exist: idle or in use.
    open: AtomicUsize,
    /// Links of an earlier generation are not used again.
    breaker: Breaker,
    rows: Arc<Rows>,
    is_closed: AtomicBool,
    /// Set while the server is there, and could lose what it acknowledges.
    is_unsafe: AtomicBool,
    /// Set when a connection turned out to be broken: the idle ones are to be tried.
    is_doubtful: AtomicBool,
    /// Wakes the keeper: a connection is missing, or doubtful.
    missing: Notify,
}

/// A connection and what the pool knows about it.
#[derive(Debug)]
pub(super) struct Link {
    pg: PgConnection,
    generation: u64,
    opened_at: Instant,
    /// When it last proved that it works, and that its server is safe.
    tried_at: Instant,
}

impl Pool {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    pub(super) fn open(
        breaker: Breaker,
        options: PgConnectOptions,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Arc::new(Shared {
            options,
            settings,
            metrics,
            idle: Mutex::new(Vec::with_capacity(settings.connections_max)),
            available: Semaphore::new(0),
            open: AtomicUsize::new(0),
            breaker,
            rows: Rows::new(settings.connections_max / ROW_SHARE),
            is_closed: AtomicBool::new(false),
            is_unsafe: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
            missing: Notify::new(),
        });
        tokio::spawn(keeper::keep(Arc::clone(&shared)));
        Self { shared }
    }

    /// Waits a short time for a connection, and before that for a place among the writers of a row, if it is for one.
    pub(super) async fn acquire(&self, row: Option<Row>) -> Result<Conn> {
        let mut patience = self.shared.settings.acquire_timeout;
        let turn = match row {
            Some(row) => Some(self.shared.rows.enter(row, &mut patience).await?),
            None => None,
        };
        let link = self.shared.take(patience).await?;
        Ok(Conn {
            link: Some(link),
            pool: Arc::clone(&self.shared),
            turn,
            is_running: false,
        })
    }

    /// Whether a request gets a connection when one is free: one that has broken is replaced without a word about it.
    pub(super) fn is_ready(&self) -> bool {
        self.shared.refusal().is_none()
    }

    /// Whether connections are to be had.
    pub(super) fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// What these connections are for.
    pub fn name(&self) -> &'static str {
        self.shared.breaker.name()
    }

    /// Connections that exist, and those of them that are idle.
    pub fn sizes(&self) -> (usize, usize) {
        let idle = self.shared.idle().len();
        (self.shared.open.load(Ordering::Relaxed), idle)
    }

    /// Ends the idle connections and opens no more.
    pub async fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        self.shared.available.close();
        self.shared.missing.notify_one();
        let idle = std::mem::take(&mut *self.shared.idle());
        for link in idle {
            self.shared.open.fetch_sub(1, Ordering::Relaxed);
            // The server notices either way; saying goodbye only spares its log a line.
            let _ = timeout(CHECK_EVERY, link.pg.close()).await;
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a connection, as long as there is patience.
    async fn take(&self, patience: Duration) -> Result<Link> {
        let deadline = Instant::now() + patience;
        loop {
            let permit = match self.available.try_acquire() {
                Ok(permit) => permit,
                Err(_) => {
                    if let Some(refusal) = self.refusal() {
                        return Err(Error::Unavailable(refusal.into()));
                    }
                    timeout_at(deadline.into(), self.available.acquire())
                        .await
                        .map_err(|_| {
                            Error::Unavailable("no connection became free in time".into())
                        })?
                        .map_err(|_| Error::Unavailable("the pool is closed".into()))?
                }
            };
            permit.forget();
            let link = self
                .idle()
                .pop()
                .ok_or_else(|| Error::Unavailable("the connection was given up".into()))?;
            if link.generation == self.breaker.generation() {
                return Ok(link);
            }
            // Reads have found out that the server had stopped.
            self.give_up(link);
        }
    }

    /// Why there will be no connection soon, if that is known.
    fn refusal(&self) -> Option<&'static str> {
        if self.breaker.is_open() {
            Some("the database does not answer")
        } else if self.is_unsafe.load(Ordering::Relaxed) {
            Some("the database could lose what it acknowledges")
        } else {
            None
        }
    }

    /// Asks a connection for an answer: whether its server keeps what it acknowledges.
    async fn prove(&self, pg: &mut PgConnection) -> Result<()> {
        if self.settings.allows_unsafe {
            return Ok(pg.ping().await?);
        }
        let rows = sqlx::query(UNSAFE_SETTINGS.sql)
            .fetch(pg)
            .try_collect::<Vec<PgRow>>()
            .await?;
        let is_unsafe = !rows.is_empty();
        let was_unsafe = self.is_unsafe.swap(is_unsafe, Ordering::Relaxed);
        if !is_unsafe {
            return Ok(());
        }
        let names = rows.iter().map(|row| row.try_get(0));
        let names = names.collect::<sqlx::Result<Vec<String>>>()?.join(", ");
        if !was_unsafe {
            tracing::error!(
                settings = names,
                "the database could lose what it acknowledges: no write is sent to it"
            );
        }
        Err(Error::Unavailable(
            format!("the database has {names} off").into(),
        ))
    }

    /// Makes a connection available, unless its time is over.
    fn put_back(&self, link: Link) {
        let is_current = link.generation == self.breaker.generation();
        // One at a time: connections that were opened together must not go together.
        let is_old = link.opened_at.elapsed() >= self.settings.lifetime
            && self.open.load(Ordering::Relaxed) >= self.settings.connections_max;
        if is_current && !is_old && !self.is_closed.load(Ordering::Relaxed) {
            self.idle().push(link);
            self.available.add_permits(1);
        } else {
            self.give_up(link);
        }
    }

    /// Ends a connection without a word: the server may not be listening.
    fn give_up(&self, link: Link) {
        drop(link);
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.missing.notify_one();
    }

    /// The server has not answered in time: nothing that is open can be trusted.
    fn distrust(&self) {
        self.breaker.trip();
        while let Ok(permit) = self.available.try_acquire() {
            permit.forget();
            if let Some(link) = self.idle().pop() {
                self.give_up(link);
            }
        }
        self.missing.notify_one();
    }

    /// One connection was broken: the idle ones may be too.
    fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Relaxed);
        self.missing.notify_one();
    }

    /// Tries the connections that have not been tried for so long, one at a time.
    async fn check_idle(&self, untried_for: Duration) {
        for _ in 0..self.settings.connections_max {
            let Ok(permit) = self.available.try_acquire() else {
                return;
            };
            permit.forget();
            let mut link = {
                let mut idle = self.idle();
                let Some(oldest) = (0..idle.len()).min_by_key(|at| idle[*at].tried_at) else {
                    return;
                };
                idle.remove(oldest)
            };
            let is_current = link.generation == self.breaker.generation();
            if is_current && link.tried_at.elapsed() >= untried_for {
                match timeout(self.settings.statement_deadline, self.prove(&mut link.pg)).await {
                    Ok(Ok(())) => link.tried_at = Instant::now(),
                    Ok(Err(_)) => {
                        self.give_up(link);
                        continue;
                    }
                    Err(_) => {
                        self.give_up(link);
                        self.distrust();
                        return;
                    }
                }
            }
            self.put_back(link);
        }
    }

    /// Reads the rest of the answer to a statement that nobody waits for any more.
    async fn finish(self: Arc<Self>, mut link: Link) {
        match timeout(self.settings.statement_deadline, link.pg.ping()).await {
            Ok(Ok(())) => self.put_back(link),
            Ok(Err(_)) => self.give_up(link),
            Err(_) => {
                self.give_up(link);
                self.distrust();
            }
        }
    }
}

impl Kept for Shared {
    type Link = Link;

    fn breaker(&self) -> &Breaker {
        &self.breaker
    }

    fn wake(&self) -> &Notify {
        &self.missing
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn is_short(&self) -> bool {
        self.open.load(Ordering::Relaxed) < self.settings.connections_max
    }

    async fn open(&self, generation: u64) -> Result<Link> {
        let opening = async {
            let mut pg = self.options.connect().await?;
            self.prove(&mut pg).await?;
            Ok::<_, Error>(pg)
        };
        let opened = timeout(self.settings.connect_timeout, opening).await;
        let pg = opened.map_err(|elapsed| sqlx::Error::Io(elapsed.into()))??;
        let now = Instant::now();
        Ok(Link {
            pg,
            generation,
            opened_at: now,
            tried_at: now,
        })
    }

    fn blame(&self, error: &Error) {
        // A server that was asked has answered.
        if !self.is_unsafe.load(Ordering::Relaxed) {
            self.breaker.fail(error);
        }
    }

    fn add(&self, link: Link) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.put_back(link);
    }

    async fn check(&self, is_due: bool) {
        if self.is_doubtful.swap(false, Ordering::Relaxed) {
            self.check_idle(Duration::ZERO).await;
        } else if is_due {
            self.check_idle(CHECK_EVERY).await;
        }
    }
}

/// A connection in use: back in the pool when it is dropped.
#[derive(Debug)]
pub struct Conn {
    /// Gone once the connection has failed.
    link: Option<Link>,
    pool: Arc<Shared>,
    /// The place among the writers of a row; it is kept for as long as the connection is.
    turn: Option<Turn>,
    is_running: bool,
}

impl Conn {
    /// Runs a statement to its commit.
    pub(super) async fn rows(
        &mut self,
        statement: &'static Statement,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>> {
        let Some(link) = &mut self.link else {
            return Err(Error::Unavailable("the connection is broken".into()));
        };
        let started = Instant::now();
        self.is_running = true;
        let rows = sqlx::query_with(statement.sql, arguments)
            .fetch(&mut link.pg)
            .try_collect::<Vec<PgRow>>();
        let outcome = timeout(self.pool.settings.statement_deadline, rows).await;
        self.is_running = false;
        self.pool
            .metrics
            .statement(statement.name)
            .observe(started.elapsed().as_secs_f64());
        match outcome {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => {
                if is_fatal(&error) {
                    self.discard();
                    self.pool.doubt();
                }
                Err(error.into())
            }
            Err(_) => {
                self.discard();
                self.pool.distrust();
                Err(Error::Unavailable("statement deadline passed".into()))
            }
        }
    }

    fn discard(&mut self) {
        if let Some(link) = self.link.take() {
            self.pool.give_up(link);
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let Some(link) = self.link.take() else {
            return;
        };
        if !self.is_running {
            self.pool.put_back(link);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (pool, turn) = (Arc::clone(&self.pool), self.turn.take());
            runtime.spawn(async move {
                pool.finish(link).await;
                drop(turn);
            });
        } else {
            self.pool.give_up(link);
        }
    }
}

/// Whether the connection is of no more use after this error.
fn is_fatal(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        // Operator intervention ends the session, all but a cancelled statement; so does an exhausted server.
        sqlx::Error::Database(error) => {
            matches!(
                error.code().as_deref(),
                Some("57P01" | "57P02" | "57P03" | "57P05")
            )
        }
        _ => false,
    }
}
