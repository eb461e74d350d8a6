//! The way to Postgres: named statements over a few connections, everything with a deadline.
//!
//! A `db.rs` declares its statements as [`Statement`] values; it calls them on a [`Conn`], which a handler has from
//! [`Database::read`] or [`Database::write`]. Each statement is sent once, in one round trip, as a transaction of its
//! own, and has committed when its rows are returned.

pub mod pool;

use std::{sync::Arc, time::Duration};

use sqlx::{
    Decode, Encode, Postgres, Row as _, Type,
    error::BoxDynError,
    postgres::{PgArguments, PgRow},
};

pub use pool::{Conn, Pool};

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

/// The connections of this process.
#[derive(Clone, Debug)]
pub struct Database {
    primary: Pool,
    reads: Pool,
}

impl Database {
    /// Begins to open connections; does not wait for any. Must be called in a Tokio runtime.
    pub fn open(config: &Config, metrics: &Arc<Metrics>) -> Self {
        let open = |name, url: &DatabaseUrl| {
            let options = connect_options(url, config.statement_timeout);
            Pool::open(name, options, config.pool_settings(), Arc::clone(metrics))
        };
        let primary = open("primary", &config.database_url);
        let reads = config
            .read_url
            .as_ref()
            .map_or_else(|| primary.clone(), |url| open("reads", url));
        Self { primary, reads }
    }

    /// A connection for statements that change nothing.
    pub async fn read(&self) -> Result<Conn> {
        self.reads.acquire().await.map(Conn::repeatable)
    }

    /// A connection to the primary, for statements that change nothing but must see every change.
    pub async fn read_primary(&self) -> Result<Conn> {
        self.primary.acquire().await.map(Conn::repeatable)
    }

    /// A connection to the primary.
    pub async fn write(&self) -> Result<Conn> {
        self.primary.acquire().await
    }

    /// The pools, each once.
    pub fn pools(&self) -> Vec<&Pool> {
        if self.reads.is_same(&self.primary) {
            vec![&self.primary]
        } else {
            vec![&self.primary, &self.reads]
        }
    }

    /// Ends every connection; those in use when they are given back.
    pub async fn close(&self) {
        for pool in self.pools() {
            pool.close().await;
        }
    }
}

/// What every connection asks of the server for its session.
fn connect_options(
    url: &DatabaseUrl,
    statement_timeout: Duration,
) -> sqlx::postgres::PgConnectOptions {
    use sqlx::ConnectOptions as _;
    let timeout_ms = statement_timeout.as_millis().to_string();
    url.options()
        .clone()
        .application_name("origin")
        .statement_cache_capacity(STATEMENTS_MAX)
        .options([
            ("statement_timeout", timeout_ms.as_str()),
            ("lock_timeout", timeout_ms.as_str()),
            ("idle_in_transaction_session_timeout", timeout_ms.as_str()),
            // Each statement finds its rows by an index, whatever its arguments: planning again would gain nothing.
            ("plan_cache_mode", "force_generic_plan"),
            ("jit", "off"),
            ("timezone", "UTC"),
        ])
        .disable_statement_logging()
}

/// More than there are statements: none is ever prepared twice on a connection.
const STATEMENTS_MAX: usize = 64;
