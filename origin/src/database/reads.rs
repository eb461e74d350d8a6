//! Where statements that change nothing run: on the primary, or on a replica that shows all that the reader has seen.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio_postgres::{Row, types::PgLsn};

use super::{Statement, keeper::Breaker, link::Arguments, links::Links};
use crate::{error::Result, metrics::Metrics};

/// The connections for reads, which all requests share, as one reader may use them.
#[derive(Clone, Debug)]
pub struct Reads {
    servers: Arc<Servers>,
    /// What a replica must show before it may answer; nothing: the primary answers.
    after: Option<PgLsn>,
}

#[derive(Debug)]
struct Servers {
    primary: Links,
    replicas: Vec<Links>,
    /// The replica to be tried first.
    next: AtomicUsize,
    metrics: Arc<Metrics>,
}

impl Reads {
    /// Reads that the primary answers.
    pub(super) fn new(primary: Links, replicas: Vec<Links>, metrics: Arc<Metrics>) -> Self {
        Self {
            servers: Arc::new(Servers {
                primary,
                replicas,
                next: AtomicUsize::new(0),
                metrics,
            }),
            after: None,
        }
    }

    /// The same, for a reader that has seen everything up to a position in the write-ahead log, and nothing later: a
    /// replica that shows as much may answer it. `None`: a reader that may have seen anything.
    #[must_use]
    pub fn after(&self, position: Option<PgLsn>) -> Self {
        Self {
            servers: Arc::clone(&self.servers),
            after: position,
        }
    }

    /// Runs a statement that changes nothing; gives its rows.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::error::Error::Unavailable) if the primary does not answer,
    /// [`Error::Internal`](crate::error::Error::Internal) if it refuses the statement.
    pub async fn rows(
        &self,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        self.servers.rows(self.after, statement, arguments).await
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

    /// Of the primary and each replica the name, the connections that exist, and those of them that carry no read.
    pub(super) fn sizes(&self) -> impl Iterator<Item = (&'static str, usize, usize)> {
        self.servers.all().map(|links| {
            let (open, idle) = links.sizes();
            (links.name(), open, idle)
        })
    }

    /// Of the primary and each replica, whether connections are to be had.
    pub(super) fn breakers(&self) -> impl Iterator<Item = &Breaker> {
        self.servers.all().map(Links::breaker)
    }

    /// Ends the connections, each after the reads that it carries, and opens no more.
    pub(super) fn close(&self) {
        self.servers.all().for_each(Links::close);
    }
}

impl Servers {
    fn all(&self) -> impl Iterator<Item = &Links> {
        std::iter::once(&self.primary).chain(&self.replicas)
    }

    async fn rows(
        &self,
        after: Option<PgLsn>,
        statement: &'static Statement,
        arguments: Arguments<'_>,
    ) -> Result<Vec<Row>> {
        let counts = &self.metrics.reads;
        if let Some(position) = after
            && let Some(replica) = self.replica()
        {
            match replica.rows_after(position, statement, arguments).await {
                Ok(rows) => {
                    counts.replica.inc();
                    return Ok(rows);
                }
                Err(refusal) => counts.refusal(refusal).inc(),
            }
        }
        counts.primary.inc();
        self.primary.rows(statement, arguments).await
    }

    /// The next replica in turn that is ready; if none is, the next in turn, which will say why.
    fn replica(&self) -> Option<&Links> {
        if self.replicas.is_empty() {
            return None;
        }
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        let in_turn = || {
            let (before, from) = self.replicas.split_at(next % self.replicas.len());
            from.iter().chain(before)
        };
        in_turn()
            .find(|replica| replica.are_ready())
            .or_else(|| in_turn().next())
    }
}
