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
//! - Idle connections are tried every second, and as soon as one has turned out to be broken; a read that meets a broken
//!   one runs again on another. So a restart of the server costs no read, and hardly a write.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection,
    postgres::{PgArguments, PgConnectOptions, PgRow},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};

use super::{
    Statement,
    keeper::{self, Breaker, CHECK_EVERY, Kept},
};
use crate::{
    error::{Error, Result},
    metrics::Metrics,
};

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
    is_closed: AtomicBool,
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
    used_at: Instant,
}

impl Pool {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    pub fn open(
        name: &'static str,
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
            breaker: Breaker::new(name),
            is_closed: AtomicBool::new(false),
            is_doubtful: AtomicBool::new(false),
            missing: Notify::new(),
        });
        tokio::spawn(keeper::keep(Arc::clone(&shared)));
        Self { shared }
    }

    /// Waits a short time for a connection.
    pub async fn acquire(&self) -> Result<Conn> {
        let mut patience = self.shared.settings.acquire_timeout;
        let link = self.shared.take(&mut patience).await?;
        Ok(Conn {
            link: Some(link),
            pool: Arc::clone(&self.shared),
            patience,
            is_running: false,
            is_repeatable: false,
        })
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
    async fn take(&self, patience: &mut Duration) -> Result<Link> {
        let permit = match self.available.try_acquire() {
            Ok(permit) => permit,
            Err(_) if self.breaker.is_open() => {
                return Err(Error::Unavailable("the database does not answer".into()));
            }
            Err(_) => {
                let waiting = Instant::now();
                let waited = timeout(*patience, self.available.acquire()).await;
                *patience = patience.saturating_sub(waiting.elapsed());
                waited
                    .map_err(|_| Error::Unavailable("no connection became free in time".into()))?
                    .map_err(|_| Error::Unavailable("the pool is closed".into()))?
            }
        };
        permit.forget();
        self.idle()
            .pop()
            .ok_or_else(|| Error::Unavailable("the connection was given up".into()))
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

    /// Tries the connections that nobody has used for so long, one at a time.
    async fn check_idle(&self, unused_for: Duration) {
        for _ in 0..self.settings.connections_max {
            let Ok(permit) = self.available.try_acquire() else {
                return;
            };
            permit.forget();
            let mut link = {
                let mut idle = self.idle();
                let Some(oldest) = (0..idle.len()).min_by_key(|at| idle[*at].used_at) else {
                    return;
                };
                idle.remove(oldest)
            };
            if link.used_at.elapsed() >= unused_for {
                match timeout(self.settings.statement_deadline, link.pg.ping()).await {
                    Ok(Ok(())) => link.used_at = Instant::now(),
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
        let opened = timeout(self.settings.connect_timeout, self.options.connect()).await;
        let pg = opened.map_err(|elapsed| sqlx::Error::Io(elapsed.into()))??;
        let now = Instant::now();
        Ok(Link {
            pg,
            generation,
            opened_at: now,
            used_at: now,
        })
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
    /// How long it may still wait for another connection.
    patience: Duration,
    is_running: bool,
    is_repeatable: bool,
}

impl Conn {
    /// Lets a statement run again, on another connection, if this one turns out to be broken.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.is_repeatable = true;
        self
    }

    /// Runs a statement to its commit.
    pub(super) async fn rows(
        &mut self,
        statement: &'static Statement,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>> {
        if !self.is_repeatable {
            return self.attempt(statement, arguments).await;
        }
        // After a restart of the server every idle connection may be broken; the next one is a new one.
        for _ in 0..self.pool.settings.connections_max {
            let outcome = self.attempt(statement, arguments.clone()).await;
            if self.link.is_some() || self.pool.breaker.is_open() {
                return outcome;
            }
            self.link = Some(self.pool.take(&mut self.patience).await?);
        }
        self.attempt(statement, arguments).await
    }

    async fn attempt(
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
            Ok(Ok(rows)) => {
                link.used_at = started;
                Ok(rows)
            }
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
            runtime.spawn(Arc::clone(&self.pool).finish(link));
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
