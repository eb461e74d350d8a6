//! Reads over a few pipelined connections: many requests share one, none waits for the answer to another's.
//!
//! A read holds no connection: its statement goes out behind those already sent, and answers come back in order. The
//! server then finds several statements in one read of its socket, which halves what a small look-up costs both sides.
//! Written on `tokio-postgres` because `sqlx` cannot pipeline; what must hold is what holds in [`super::pool`]:
//! - Connections are opened by a task, never by the request that needs one.
//! - A server that has answered nothing for a statement's deadline has stopped: every connection is given up, and reads
//!   are refused at once until a new connection has proved that it is back.
//! - A read that meets a broken connection runs again on another: a restart of the server costs none.
//! - A read that is cancelled costs no connection: its answer is read and dropped, and its place in the queue is taken
//!   until then. What is queued is bounded.
//! - A slow read holds up those behind it; later ones take another connection.

use std::{
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{timeout, timeout_at},
};
use tokio_postgres::{Row, types::PgLsn};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    Statement,
    db::Replay,
    keeper::{self, Breaker, Kept},
    lineage::Part,
    link::{self, Arguments, Link, Outcome, Place},
    pool::Settings,
    replica::{Lag, REPLICA_SHARE, Refusal},
};
use crate::{
    error::{Error, Result},
    metrics::Metrics,
};

/// Reads that a connection carries before the next one is used.
const DEPTH: usize = 32;

/// The pipelined connections to one server. Clones share them.
#[derive(Clone)]
pub(super) struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    part: Part,
    config: tokio_postgres::Config,
    tls: MakeRustlsConnect,
    settings: Settings,
    breaker: Breaker,
    links: RwLock<Vec<Arc<Link>>>,
    is_closed: AtomicBool,
    /// The oldest connection has had its time: one more is opened, and takes its place.
    is_turning_over: AtomicBool,
    /// Wakes the keeper: a connection is missing.
    missing: Notify,
    /// Wakes reads that wait for a connection.
    opened: Notify,
    /// What a replica has not replayed.
    lag: Lag,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Links")
            .field("name", &self.name())
            .field("sizes", &self.sizes())
            .finish_non_exhaustive()
    }
}

impl Links {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    pub(super) fn open(
        breaker: Breaker,
        part: Part,
        config: tokio_postgres::Config,
        tls: MakeRustlsConnect,
        settings: Settings,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared = Arc::new(Shared {
            part,
            config,
            tls,
            settings,
            breaker,
            links: RwLock::new(Vec::with_capacity(settings.connections_max)),
            is_closed: AtomicBool::new(false),
            is_turning_over: AtomicBool::new(false),
            missing: Notify::new(),
            opened: Notify::new(),
            lag: Lag::default(),
            metrics,
        });
        tokio::spawn(keeper::keep(Arc::clone(&shared)));
        Self { shared }
    }

    /// Runs a statement that changes nothing, again if its connection turns out to be broken; gives its rows.
    pub(super) async fn rows(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        let shared = &self.shared;
        // However often it is tried, it waits no longer than one acquisition and one statement may take.
        let mut patience = shared.settings.acquire_timeout;
        let mut place = shared.place(&mut patience).await?;
        let deadline = Instant::now() + shared.settings.statement_deadline;
        // After a restart of the server each connection may be broken; the last try has a new one.
        for _ in 0..shared.settings.connections_max {
            let link = Arc::clone(place.link());
            match shared
                .attempt(place, statement, arguments, deadline)
                .await?
            {
                Ok(rows) => return rows.ok_or_else(link::too_large),
                Err(error) if link::is_fatal(&error) => shared.give_up(&link),
                Err(error) => return Err(error.into()),
            }
            place = shared.place(&mut patience).await?;
        }
        let rows = shared
            .attempt(place, statement, arguments, deadline)
            .await??;
        rows.ok_or_else(link::too_large)
    }

    /// Whether a replica has a connection on which answers come.
    pub(super) fn are_ready(&self) -> bool {
        self.shared.ready().is_some()
    }

    /// Runs a statement on a replica that shows everything up to a position, once and at once, or says why it does not.
    pub(super) async fn rows_after(
        &self,
        position: PgLsn,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> std::result::Result<Vec<Row>, Refusal> {
        let shared = &self.shared;
        let link = shared.ready().ok_or_else(|| {
            let has_none = shared.links().is_empty();
            if has_none {
                Refusal::Gone
            } else {
                Refusal::Busy
            }
        })?;
        if !shared.part.fits(link.history) {
            shared.give_up(&link);
            return Err(Refusal::Foreign);
        }
        if shared.lag.includes(position, Instant::now()) {
            return Err(Refusal::Behind);
        }
        let place = link.enter().ok_or(Refusal::Busy)?;
        let patience = shared.settings.statement_deadline / REPLICA_SHARE;
        let sent = Instant::now();
        let answered = timeout(patience, place.rows_after(position, statement, arguments)).await;
        shared.observe(statement, sent);
        match answered.map_err(|_| Refusal::Silent)? {
            // The primary will say the same.
            Ok((Replay::Done, rows)) => rows.ok_or(Refusal::Failed),
            Ok((Replay::Behind, _)) => {
                shared.lag.note(position, Instant::now());
                Err(Refusal::Behind)
            }
            Ok((Replay::Promoted, _)) => {
                // No connection to it leads to a replica any more, and no new one will.
                shared.links_mut().clear();
                shared.missing.notify_one();
                Err(Refusal::Foreign)
            }
            Err(error) => {
                if link::is_fatal(&error) {
                    shared.give_up(&link);
                }
                tracing::debug!(error = link::describe(&error), "a replica failed");
                Err(Refusal::Failed)
            }
        }
    }

    /// What these connections are for.
    pub(super) fn name(&self) -> &'static str {
        self.shared.breaker.name()
    }

    /// Whether they are to be had.
    pub(super) fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// Connections that exist, and those of them that carry no read.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let links = self.shared.links();
        let idle = links.iter().filter(|link| link.queued() == 0);
        (links.len(), idle.count())
    }

    /// Ends the connections, each after the reads that it carries, and opens no more.
    pub(super) fn close(&self) {
        self.shared.is_closed.store(true, Ordering::Relaxed);
        self.shared.missing.notify_one();
        self.shared.links_mut().clear();
    }
}

impl Shared {
    fn links(&self) -> RwLockReadGuard<'_, Vec<Arc<Link>>> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn links_mut(&self) -> RwLockWriteGuard<'_, Vec<Arc<Link>>> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a statement; an error of the server's, or of the way there, is an outcome.
    async fn attempt(
        &self,
        place: Place,
        statement: &'static Statement,
        arguments: Arguments<'_>,
        deadline: Instant,
    ) -> Result<Outcome<Option<Vec<Row>>>> {
        let link = Arc::clone(place.link());
        let sent = Instant::now();
        let answered = timeout_at(deadline.into(), place.rows(statement, arguments)).await;
        self.observe(statement, sent);
        answered.map_err(|_| {
            // One of many on this connection may be slow; a server that answers none of them has stopped.
            if link.is_silent_for(self.settings.statement_deadline) {
                link.abort();
                self.distrust();
            }
            Error::Unavailable("statement deadline passed".into())
        })
    }

    fn observe(&self, statement: &Statement, sent: Instant) {
        let seconds = sent.elapsed().as_secs_f64();
        self.metrics.statement(statement.name).observe(seconds);
    }

    /// A place on the best connection; waits a short time for a connection if there is none.
    async fn place(&self, patience: &mut Duration) -> Result<Place> {
        let opened = self.opened.notified();
        tokio::pin!(opened);
        loop {
            opened.as_mut().enable();
            // Writes may have found out that the server has stopped. But they may also wait for a disk, while a
            // connection over which answers come is as good as ever.
            if let Some(link) = self.best()
                && !(self.breaker.is_open() && link.is_silent_for(self.settings.acquire_timeout))
            {
                return link
                    .enter()
                    .ok_or_else(|| Error::Unavailable("too many reads are queued".into()));
            }
            if self.breaker.is_open() {
                return Err(Error::Unavailable("the database does not answer".into()));
            }
            if self.is_closed.load(Ordering::Relaxed) {
                return Err(Error::Unavailable("the connections are closed".into()));
            }
            let waiting = Instant::now();
            let waited = timeout(*patience, opened.as_mut()).await;
            *patience = patience.saturating_sub(waiting.elapsed());
            waited.map_err(|_| Error::Unavailable("no connection was opened in time".into()))?;
            opened.set(self.opened.notified());
        }
    }

    /// The first connection with room on which answers come, so that they stay few and full; if there is none, the least
    /// loaded, stalled ones last.
    fn best(&self) -> Option<Arc<Link>> {
        let links = self.links();
        let is_good = |link: &&Arc<Link>| link.queued() < DEPTH && !link.is_stalled();
        let least = || {
            let load = |link: &&Arc<Link>| {
                let queued = link.queued();
                (queued >= link::QUEUE_MAX, link.is_stalled(), queued)
            };
            links.iter().min_by_key(load)
        };
        links.iter().find(is_good).or_else(least).cloned()
    }

    /// The least loaded connection with room on which answers come.
    fn ready(&self) -> Option<Arc<Link>> {
        let links = self.links();
        let is_good = |link: &&Arc<Link>| link.queued() < link::QUEUE_MAX && !link.is_stalled();
        let good = links.iter().filter(is_good);
        good.min_by_key(|link| link.queued()).cloned()
    }

    /// Sends no more reads over a connection; it ends when those it carries have ended.
    fn give_up(&self, link: &Arc<Link>) {
        self.links_mut().retain(|other| !Arc::ptr_eq(other, link));
        self.missing.notify_one();
    }

    /// The server has not answered in time: nothing that is open can be trusted.
    fn distrust(&self) {
        self.breaker.trip();
        for link in std::mem::take(&mut *self.links_mut()) {
            // It would wait for answers that may never come.
            link.abort();
        }
        self.missing.notify_one();
        self.opened.notify_waiters();
    }

    fn oldest(&self) -> Option<Arc<Link>> {
        let links = self.links();
        links.iter().min_by_key(|link| link.opened_at).cloned()
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
        self.is_turning_over.load(Ordering::Relaxed)
            || self.links().len() < self.settings.connections_max
    }

    async fn open(&self, generation: u64) -> Result<Link> {
        self.part.ready().await;
        let opening = self.config.connect(self.tls.clone());
        let (client, connection) = timeout(self.settings.connect_timeout, opening)
            .await
            .map_err(|_| Error::Unavailable("opening a connection took too long".into()))??;
        // Ends with its client; what it fails of, its reads are told.
        let connection = tokio::spawn(connection).abort_handle();
        let deadline = self.settings.statement_deadline;
        let history = self.part.admit(&client, deadline).await?;
        Ok(Link::new(client, connection, generation, history, deadline))
    }

    fn blame(&self, error: &Error) {
        self.breaker.fail(error);
    }

    fn add(&self, link: Link) {
        let mut links = self.links_mut();
        // Whoever has found out meanwhile that the server does not answer has emptied the list.
        if self.is_closed() || link.generation != self.breaker.generation() {
            return;
        }
        links.push(Arc::new(link));
        drop(links);
        if self.is_turning_over.swap(false, Ordering::Relaxed)
            && let Some(oldest) = self.oldest()
        {
            self.give_up(&oldest);
        }
        self.opened.notify_waiters();
    }

    fn give_way(&self) {
        self.opened.notify_waiters();
    }

    async fn check(&self, is_due: bool) {
        if !is_due {
            return;
        }
        let links = self.links().clone();
        for link in &links {
            let deadline = self.settings.statement_deadline;
            let pinged = async {
                match link.enter() {
                    Some(place) => place.ping().await.is_ok(),
                    // Those that fill the queue see to it.
                    None => true,
                }
            };
            match timeout(deadline, pinged).await {
                Ok(true) => {}
                Ok(false) => self.give_up(link),
                Err(_) if link.is_silent_for(deadline) => return self.distrust(),
                Err(_) => {}
            }
        }
        // One at a time: connections that were opened together must not go together.
        let is_old = |link: Arc<Link>| link.opened_at.elapsed() >= self.settings.lifetime;
        if self.oldest().is_some_and(is_old) {
            self.is_turning_over.store(true, Ordering::Relaxed);
        }
    }
}
