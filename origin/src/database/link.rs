//! One pipelined connection: what is queued on it, and how long it has been silent.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join;
use tokio::{runtime::Handle, task::AbortHandle, time::timeout};
use tokio_postgres::{
    Client, Row,
    error::SqlState,
    types::{PgLsn, ToSql},
};

use super::{
    Statement,
    db::{HAS_REPLAYED, History, Replay},
};

/// What a statement is called with.
pub type Arguments<'a> = &'a [&'a (dyn ToSql + Sync)];

/// The driver's own outcome of a statement.
pub(super) type Outcome<T> = Result<T, tokio_postgres::Error>;

/// Statements that may be queued on a connection; whoever would be one more is refused. At a tenth of a millisecond
/// each, the last of them waits for a fortieth of a second.
pub(super) const QUEUE_MAX: usize = 256;
/// A connection that has answered nothing for so long, with statements queued, is held up by one of them.
const STALLED_AFTER: Duration = Duration::from_millis(5);

/// A connection and what is known about it.
pub(super) struct Link {
    client: Client,
    /// Ends what reads and writes the socket.
    connection: AbortHandle,
    /// The generation of its server in which it was opened.
    pub(super) generation: u64,
    /// The history that a replica was found to be of.
    pub(super) history: Option<History>,
    pub(super) opened_at: Instant,
    /// How long an answer may take.
    deadline: Duration,
    /// Statements that were sent, and that the server has not answered.
    queued: AtomicUsize,
    /// Microseconds from `opened_at` to the last answer, or to the first statement that was queued since.
    moved_us: AtomicU64,
    /// By name: as many as there are statements.
    prepared: Mutex<HashMap<&'static str, tokio_postgres::Statement>>,
}

impl Link {
    /// A connection that was just opened.
    pub(super) fn new(
        client: Client,
        connection: AbortHandle,
        generation: u64,
        history: Option<History>,
        deadline: Duration,
    ) -> Self {
        Self {
            client,
            connection,
            generation,
            history,
            opened_at: Instant::now(),
            deadline,
            queued: AtomicUsize::new(0),
            moved_us: AtomicU64::new(0),
            prepared: Mutex::default(),
        }
    }

    /// Statements that were sent, and that the server has not answered.
    pub(super) fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// A place in the queue, unless it is full.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let one_more = |queued: usize| (queued < QUEUE_MAX).then_some(queued + 1);
        let before = self
            .queued
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()?;
        if before == 0 {
            self.has_moved();
        }
        Some(Place {
            link: Arc::clone(self),
            is_settled: false,
        })
    }

    /// Whether statements are queued, and nothing has been answered for this long.
    pub(super) fn is_silent_for(&self, period: Duration) -> bool {
        let moved = Duration::from_micros(self.moved_us.load(Ordering::Relaxed));
        self.queued() > 0 && self.opened_at.elapsed() >= moved + period
    }

    /// Whether one statement holds up those behind it.
    pub(super) fn is_stalled(&self) -> bool {
        self.is_silent_for(STALLED_AFTER)
    }

    /// Ends the connection, and fails what is queued on it.
    pub(super) fn abort(&self) {
        self.connection.abort();
    }

    fn has_moved(&self) {
        let now = u64::try_from(self.opened_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.moved_us.store(now, Ordering::Relaxed);
    }

    /// Prepares a statement on its first call; two first calls at a time may both do it, which is harmless.
    async fn prepared(&self, statement: &'static Statement) -> Outcome<tokio_postgres::Statement> {
        let known = |link: &Self| {
            let prepared = link.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.get(statement.name).cloned()
        };
        if let Some(prepared) = known(self) {
            return Ok(prepared);
        }
        let prepared = self.client.prepare(statement.sql).await?;
        self.has_moved();
        let mut all = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(statement.name, prepared.clone());
        Ok(prepared)
    }
}

/// A place in the queue of a connection. It is given up when the server has answered, not before: a statement that
/// nobody waits for any more is queued all the same.
pub(super) struct Place {
    link: Arc<Link>,
    /// Nothing that was sent from here is queued any more, or somebody else sees to it.
    is_settled: bool,
}

impl Place {
    /// The connection.
    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Runs a statement.
    pub(super) async fn rows(
        mut self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Outcome<Vec<Row>> {
        let link = &self.link;
        let outcome = async {
            let prepared = link.prepared(statement).await?;
            link.client.query(&prepared, arguments).await
        }
        .await;
        self.settle();
        outcome
    }

    /// Runs a statement on a replica behind the question whether that shows everything up to a position; both go out
    /// together, each in a transaction of its own, so the statement's snapshot is the later one.
    pub(super) async fn rows_after(
        mut self,
        position: PgLsn,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Outcome<(Replay, Vec<Row>)> {
        let link = &self.link;
        let outcome = async {
            let question = link.prepared(&HAS_REPLAYED).await?;
            let prepared = link.prepared(statement).await?;
            // Polled, hence sent, in this order.
            let (replay, rows) = join(
                link.client.query_one(&question, &[&position]),
                link.client.query(&prepared, arguments),
            )
            .await;
            match Replay::from_row(&replay?)? {
                Replay::Done => Ok((Replay::Done, rows?)),
                refused => Ok((refused, Vec::new())),
            }
        }
        .await;
        self.settle();
        outcome
    }

    /// Asks for nothing but an answer.
    pub(super) async fn ping(mut self) -> Outcome<()> {
        let outcome = self.link.client.check_connection().await;
        self.settle();
        outcome
    }

    fn settle(&mut self) {
        self.link.has_moved();
        self.is_settled = true;
    }

    /// Holds the place until the server has answered what was sent from it: answers come in order, so that to a ping is
    /// behind it.
    async fn hold(self) {
        let link = &self.link;
        let ping = link.client.check_connection();
        tokio::pin!(ping);
        loop {
            match timeout(link.deadline, ping.as_mut()).await {
                Ok(_) => return link.has_moved(),
                Err(_) if link.is_silent_for(link.deadline) => return link.abort(),
                Err(_) => {}
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.is_settled
            && let Ok(runtime) = Handle::try_current()
        {
            let held = Self {
                link: Arc::clone(&self.link),
                is_settled: true,
            };
            runtime.spawn(held.hold());
        } else {
            self.link.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Whether the connection is of no more use after this error.
pub(super) fn is_fatal(error: &tokio_postgres::Error) -> bool {
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
