//! The way to Postgres: named statements over a few connections, everything with a deadline.
//!
//! A `db.rs` declares its statements as [`Statement`] values. Those that change nothing run on [`Reads`], which all
//! requests share; those that write run on a [`Conn`], which a handler has to itself from [`Database::write`]. Each
//! statement is sent once, in one round trip, as a transaction of its own, and has committed when its rows are returned.

pub(crate) mod connect;
pub mod db;
mod keeper;
mod lineage;
pub mod link;
mod links;
pub mod pool;
pub mod reads;
mod replica;
mod rows;
pub(crate) mod tls;

use std::sync::Arc;

use sqlx::{
    Decode, Encode, Postgres, Row as _, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};

use keeper::{Breaker, Server};
use lineage::{Lineage, Part};
use links::Links;
pub use pool::{Conn, Pool};
pub use reads::Reads;
pub use replica::Refusal;
pub use rows::Row;

use crate::{
    config::{Config, DatabaseUrl},
    error::{Error, Result},
    metrics::Metrics,
};

/// A statement of this program.
#[derive(Debug)]
pub struct Statement {
    /// What it is called in metrics: resource and action.
    pub name: &'static str,
    /// Its text, the same for every call, so that it is planned once a connection.
    pub sql: &'static str,
}

impl Statement {
    /// Names a statement.
    pub const fn new(name: &'static str, sql: &'static str) -> Self {
        Self { name, sql }
    }

    /// Begins a call of this statement.
    pub fn call(&'static self) -> Call {
        Call {
            statement: self,
            arguments: Ok(PgArguments::default()),
        }
    }
}

/// A statement with its arguments.
#[derive(Debug)]
pub struct Call {
    statement: &'static Statement,
    arguments: std::result::Result<PgArguments, BoxDynError>,
}

impl Call {
    /// Adds the next argument.
    #[must_use]
    pub fn bind<'q, T>(mut self, value: T) -> Self
    where
        T: Encode<'q, Postgres> + Type<Postgres>,
    {
        if let Ok(arguments) = &mut self.arguments
            && let Err(error) = sqlx::Arguments::add(arguments, value)
        {
            self.arguments = Err(error);
        }
        self
    }

    /// The same call once more.
    pub fn try_clone(&self) -> Result<Self> {
        match &self.arguments {
            Ok(arguments) => Ok(Self {
                statement: self.statement,
                arguments: Ok(arguments.clone()),
            }),
            Err(error) => Err(Error::Internal(error.to_string().into())),
        }
    }

    /// Runs the statement to its commit; gives its rows.
    pub async fn rows(self, conn: &mut Conn) -> Result<Vec<PgRow>> {
        let arguments = self
            .arguments
            .map_err(|error| Error::Internal(error.to_string().into()))?;
        conn.rows(self.statement, arguments).await
    }

    /// Runs the statement to its commit; gives its first row.
    pub async fn row(self, conn: &mut Conn) -> Result<Option<PgRow>> {
        Ok(self.rows(conn).await?.into_iter().next())
    }

    /// Runs the statement to its commit; gives the first column of its first row.
    pub async fn value<T>(self, conn: &mut Conn) -> Result<Option<T>>
    where
        T: for<'r> Decode<'r, Postgres> + Type<Postgres>,
    {
        let row = self.row(conn).await?;
        Ok(row.map(|row| row.try_get(0)).transpose()?)
    }
}

/// What replicas are called in metrics and logs; no more are used.
const REPLICA_NAMES: [&str; REPLICAS_MAX] = [
    "replica-1",
    "replica-2",
    "replica-3",
    "replica-4",
    "replica-5",
    "replica-6",
    "replica-7",
    "replica-8",
];
/// Replicas that an origin may read from.
pub const REPLICAS_MAX: usize = 8;

/// The connections of this process.
#[derive(Clone, Debug)]
pub struct Database {
    primary: Pool,
    reads: Reads,
}

impl Database {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    ///
    /// # Errors
    /// If a certificate that a URL names cannot be read.
    pub fn open(config: &Config, metrics: &Arc<Metrics>) -> anyhow::Result<Self> {
        let timeout = config.statement_timeout;
        let links = |breaker, part, url: &DatabaseUrl| {
            anyhow::Ok(Links::open(
                breaker,
                part,
                connect::config(url.options(), timeout),
                tls::tls(url.options())?,
                config.pool_settings(config.read_connections),
                Arc::clone(metrics),
            ))
        };
        let lineage = Arc::new(Lineage::new());
        let part = if config.read_url.is_empty() {
            Part::Alone
        } else {
            Part::Primary(Arc::clone(&lineage))
        };
        let replicas = REPLICA_NAMES.into_iter().zip(&config.read_url);
        let replicas = replicas
            .map(|(name, url)| {
                let breaker = Breaker::new(name, Arc::default());
                links(breaker, Part::Replica(Arc::clone(&lineage)), url)
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        // Reads and writes share what they learn of the primary.
        let server = Arc::new(Server::default());
        let breaker = |name| Breaker::new(name, Arc::clone(&server));
        Ok(Self {
            primary: Pool::open(
                breaker("primary"),
                connect::options(config.database_url.options(), timeout),
                config.pool_settings(config.pool_size),
                Arc::clone(metrics),
            ),
            reads: Reads::new(
                links(breaker("reads"), part, &config.database_url)?,
                replicas,
                Arc::clone(metrics),
            ),
        })
    }

    /// For statements that change nothing, on the primary.
    pub fn reads(&self) -> &Reads {
        &self.reads
    }

    /// A connection to the primary, for a write that waits for no row that exists.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none becomes free in a short time.
    pub async fn write(&self) -> Result<Conn> {
        self.primary.acquire(None).await
    }

    /// A connection to the primary, for a write that may have to wait for a row: those of one row have half of the
    /// connections at most.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if none becomes free in a short time, or too many others write to the row.
    pub async fn write_to(&self, row: Row) -> Result<Conn> {
        self.primary.acquire(Some(row)).await
    }

    /// Whether writes are sent to the primary: it answers, and keeps what it acknowledges.
    pub fn takes_writes(&self) -> bool {
        self.primary.is_ready()
    }

    /// Of each pool its name, and whether requests are refused at once if it has no connection for them.
    pub fn breakers(&self) -> impl Iterator<Item = (&'static str, bool)> {
        std::iter::once(self.primary.breaker())
            .chain(self.reads.breakers())
            .map(|breaker| (breaker.name(), breaker.is_open()))
    }

    /// Of each pool its name, the connections that exist, and those of them that are idle.
    pub fn sizes(&self) -> Vec<(&'static str, usize, usize)> {
        let (open, idle) = self.primary.sizes();
        let primary = (self.primary.name(), open, idle);
        std::iter::once(primary).chain(self.reads.sizes()).collect()
    }

    /// Ends every connection; those in use when they are given back.
    pub async fn close(&self) {
        self.reads.close();
        self.primary.close().await;
    }
}
