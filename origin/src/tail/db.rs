//! The outbox, read on the primary over a connection of its own: each poll takes what the snapshot before had not seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};
use tokio::{sync::Notify, task::AbortHandle};
use tokio_postgres::{AsyncMessage, Client, Row, types::ToSql};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::position::{Incarnation, Position};
use crate::database::Statement;

/// Transactions, and groups, that one poll hands on; above that, everything is out of date. Stated in [`POLL`] too.
pub const CHANGES_MAX: usize = 100_000;

/// The statements of this module.
pub static STATEMENTS: [&Statement; 6] = [&HELLO, &INCARNATE, &POLL, &UNTOLD, &TELL, &ROTATE];

/// What the numbers of this session's transactions mean; an error on a standby, whose rows may lag. The server keeps its
/// timeline for as long as it is a primary.
static HELLO: Statement = Statement::new(
    "tail.hello",
    "select pg_backend_pid(),
            control.system_identifier || '.' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)
       from pg_control_system() as control",
);

/// Crash recovery has emptied the table, or it is that of another server.
static INCARNATE: Statement = Statement::new("tail.incarnate", "select coherence.incarnate()");

/// One statement, hence one snapshot: the rows, the position and whether history was trimmed fit together. The place in
/// the log is read after the snapshot, the time before it. A first row says where we are, the others what has changed.
static POLL: Statement = Statement::new(
    "tail.poll",
    "with unseen as materialized (
       (select o.xid, o.groups, o.appended_at
          from coherence.outbox o
         where o.xid >= $1::text::xid8
         limit 100001)
        union all
       (select o.xid, o.groups, o.appended_at
          from coherence.outbox o
         where o.xid = any($2::text[]::xid8[])
         limit 100001)
     ),
     amount as materialized (
       select count(*) > 100000 or coalesce(sum(cardinality(u.groups)), 0) > 100000 as is_too_much
         from unseen u
     )
     select pg_current_snapshot()::text, i.server || '.' || i.id, r.trimmed::text, pg_current_wal_insert_lsn()::text,
            statement_timestamp(), amount.is_too_much, null::text, null::text[], null::timestamptz
       from amount
      cross join coherence.rotation r
       left join coherence.incarnation i on i.server = $3
      union all
     select null, null, null, null, null, null, u.xid::text, u.groups, u.appended_at
       from unseen u, amount
      where not amount.is_too_much",
);

/// What changes without being told, in a few words of bounded length; null while every trigger is in place.
static UNTOLD: Statement = Statement::new(
    "tail.untold",
    "select string_agg('no trigger ' || missing.trigger || ' on ' || missing.relation, ', ')
       from (select m.trigger, m.relation from coherence.missing_triggers() m limit 8) as missing",
);

/// Wakes the tailers of other origins; never part of a write's transaction, whose commit it would hold up.
static TELL: Statement = Statement::new("tail.tell", "select pg_notify('coherence', '')");

/// Turns the outbox over when it is time: waits for no lock.
static ROTATE: Statement = Statement::new("tail.rotate", "select coherence.rotate()");

/// Finds rows by their index whatever the planner guesses, and waits for no disk: nothing is written that must last.
const PREPARE_SESSION: &str =
    "set enable_seqscan = off; set synchronous_commit = off; listen coherence";

/// Where the outbox is, and how to get there.
#[derive(Clone)]
pub struct Source {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: MakeRustlsConnect,
    /// How long opening a connection may take.
    pub(super) connect_timeout: Duration,
    /// How long a statement may take.
    pub(super) deadline: Duration,
}

/// What goes wrong between a tailer and its database.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server, or the way there.
    #[error("{}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// No answer.
    #[error("the database does not answer")]
    Timeout,
    /// An answer that cannot be.
    #[error("the database answers {0}")]
    Unexpected(&'static str),
}

/// The driver's own text leaves out what the server said.
fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(database) => database.to_string(),
        None => error.to_string(),
    }
}

/// A connection to the primary.
pub struct Session {
    client: Client,
    _connection: EndOnDrop,
    poll: tokio_postgres::Statement,
    deadline: Duration,
    /// System identifier and timeline.
    server: String,
}

/// The outbox at one moment.
#[derive(Clone, Debug)]
pub struct Reading {
    /// The snapshot that was read.
    pub position: Position,
    /// The server's clock just before the snapshot was taken.
    pub at: DateTime<Utc>,
    /// The end of the write-ahead log just after it: a replica that has replayed that has all that is visible here.
    pub wal: String,
    /// What the position before had not seen.
    pub news: News,
}

/// What has changed between two positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// These transactions, perhaps none.
    Changes(Vec<Change>),
    /// Anything: whatever was kept from before is out of date.
    Everything(Reason),
}

/// A transaction that has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number.
    pub xid: u64,
    /// The cache groups it touched.
    pub groups: Vec<String>,
    /// When it said so, by the server's clock: before its commit.
    pub appended_at: DateTime<Utc>,
}

impl Change {
    /// The earliest moment at which it can have become visible: it was appended before its commit, and a look before, if there
    /// was one, did not find it.
    pub fn visible_since(&self, looked_at: Option<DateTime<Utc>>) -> DateTime<Utc> {
        looked_at.map_or(self.appended_at, |looked_at| {
            looked_at.max(self.appended_at)
        })
    }
}

/// Why everything may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The reader named no position, or none that can be read.
    Position,
    /// The server has recovered from a crash, failed over, or is another one.
    Incarnation,
    /// Rows that the reader has not seen are gone.
    Trimmed,
    /// More has changed than is told one by one.
    Amount,
    /// A transaction said so: the definition of a table changed, or all of its rows.
    Database,
}

impl Reason {
    /// Its name in the stream.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Incarnation => "incarnation",
            Self::Trimmed => "trimmed",
            Self::Amount => "amount",
            Self::Database => "database",
        }
    }
}

impl Session {
    /// Connects to the primary; `wake` is called whenever another session tells of a change.
    ///
    /// # Errors
    /// If the server cannot be reached, is no primary, or lacks the outbox.
    pub async fn open(source: &Source, wake: Option<Arc<Notify>>) -> Result<Self, Error> {
        let opening = source.config.connect(source.tls.clone());
        let (client, mut connection) = tokio::time::timeout(source.connect_timeout, opening)
            .await
            .map_err(|_| Error::Timeout)??;
        let messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        let own = Arc::new(AtomicI32::new(0));
        let own_pid = Arc::clone(&own);
        let connection = tokio::spawn(messages.for_each(move |message| {
            // What this session tells comes back to it.
            if let (Ok(AsyncMessage::Notification(told)), Some(wake)) = (message, &wake)
                && told.process_id() != own_pid.load(Ordering::Relaxed)
            {
                wake.notify_one();
            }
            std::future::ready(())
        }));
        let connection = EndOnDrop(connection.abort_handle());
        let set_up = async {
            client.batch_execute(PREPARE_SESSION).await?;
            let hello = client.query_one(HELLO.sql, &[]).await?;
            let poll = client.prepare(POLL.sql).await?;
            Ok::<_, tokio_postgres::Error>((hello, poll))
        };
        let (hello, poll) = tokio::time::timeout(source.deadline, set_up)
            .await
            .map_err(|_| Error::Timeout)??;
        own.store(hello.try_get(0)?, Ordering::Relaxed);
        Ok(Self {
            client,
            _connection: connection,
            poll,
            deadline: source.deadline,
            server: hello.try_get(1)?,
        })
    }

    /// Reads what a position has not seen; from no position: only where we are.
    ///
    /// # Errors
    /// If the server does not answer, or refuses. The session is of no more use.
    pub async fn poll(&self, since: Option<&Position>) -> Result<Reading, Error> {
        let polled = async {
            if let Some(reading) = self.poll_once(since).await? {
                return Ok(reading);
            }
            self.client.query_one(INCARNATE.sql, &[]).await?;
            let reading = self.poll_once(since).await?;
            reading.ok_or(Error::Unexpected("without an incarnation"))
        };
        tokio::time::timeout(self.deadline, polled)
            .await
            .map_err(|_| Error::Timeout)?
    }

    /// What changes without being told; `None` while every trigger is in place.
    ///
    /// # Errors
    /// As [`Session::poll`].
    pub async fn untold(&self) -> Result<Option<String>, Error> {
        let looked = async {
            let mut untold = None;
            // Twice before it is believed: a table that is swapped during the statement seems to lack its triggers.
            for _ in 0..2 {
                let row = self.client.query_one(UNTOLD.sql, &[]).await?;
                untold = row.try_get(0)?;
                if untold.is_none() {
                    break;
                }
            }
            Ok(untold)
        };
        tokio::time::timeout(self.deadline, looked)
            .await
            .map_err(|_| Error::Timeout)?
    }

    /// Tells the tailers of other origins that something has changed.
    ///
    /// # Errors
    /// As [`Session::poll`].
    pub async fn tell(&self) -> Result<(), Error> {
        let told = self.client.query_one(TELL.sql, &[]);
        tokio::time::timeout(self.deadline, told)
            .await
            .map_err(|_| Error::Timeout)??;
        Ok(())
    }

    /// Turns the outbox over if it is time; says whether it was.
    ///
    /// # Errors
    /// As [`Session::poll`].
    pub async fn rotate(&self) -> Result<bool, Error> {
        let rotated = self.client.query_one(ROTATE.sql, &[]);
        let rotated = tokio::time::timeout(self.deadline, rotated).await;
        Ok(rotated.map_err(|_| Error::Timeout)??.try_get(0)?)
    }

    /// `None`: the server has no incarnation yet.
    async fn poll_once(&self, since: Option<&Position>) -> Result<Option<Reading>, Error> {
        let xmax = since.map(|position| position.snapshot.xmax().to_string());
        let running: Vec<String> = since.map_or_else(Vec::new, |position| {
            let running = position.snapshot.running().iter();
            running.map(u64::to_string).collect()
        });
        let arguments: [&(dyn ToSql + Sync); 3] = [&xmax, &running, &self.server];
        let rows = self.client.query(&self.poll, &arguments).await?;
        let mut head = None;
        let mut changes = Vec::with_capacity(rows.len().saturating_sub(1));
        for row in &rows {
            match row.try_get::<_, Option<&str>>(0)? {
                Some(snapshot) => head = Some((snapshot, row)),
                None => changes.push(change(row)?),
            }
        }
        let (snapshot, row) = head.ok_or(Error::Unexpected("without a position"))?;
        let Some(incarnation) = row.try_get::<_, Option<&str>>(1)? else {
            return Ok(None);
        };
        let position = Position {
            snapshot: snapshot
                .parse()
                .map_err(|_| Error::Unexpected("with a malformed snapshot"))?,
            incarnation: Incarnation::new(incarnation),
        };
        let trimmed = row.try_get::<_, Option<&str>>(2)?;
        let is_too_much = row.try_get(5)?;
        Ok(Some(Reading {
            news: judge(since, &position, trimmed, is_too_much, changes)?,
            position,
            at: row.try_get(4)?,
            wal: row.try_get(3)?,
        }))
    }
}

/// Whether the rows that were found are all that there was to find.
fn judge(
    since: Option<&Position>,
    position: &Position,
    trimmed: Option<&str>,
    is_too_much: bool,
    changes: Vec<Change>,
) -> Result<News, Error> {
    let Some(since) = since else {
        return Ok(News::Changes(Vec::new()));
    };
    if since.incarnation != position.incarnation {
        return Ok(News::Everything(Reason::Incarnation));
    }
    if let Some(trimmed) = trimmed {
        let trimmed = trimmed
            .parse()
            .map_err(|_| Error::Unexpected("with a malformed snapshot"))?;
        if !since.snapshot.includes(&trimmed) {
            return Ok(News::Everything(Reason::Trimmed));
        }
    }
    if is_too_much {
        return Ok(News::Everything(Reason::Amount));
    }
    let mut groups = changes.iter().flat_map(|change| &change.groups);
    if groups.any(|group| group == "*") {
        return Ok(News::Everything(Reason::Database));
    }
    Ok(News::Changes(changes))
}

fn change(row: &Row) -> Result<Change, Error> {
    let xid: &str = row.try_get(6)?;
    Ok(Change {
        xid: xid
            .parse()
            .map_err(|_| Error::Unexpected("with a malformed transaction number"))?,
        groups: row.try_get(7)?,
        appended_at: row.try_get(8)?,
    })
}

/// Ends a connection with its session: a server that hangs would keep it for ever.
struct EndOnDrop(AbortHandle);

impl Drop for EndOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}
