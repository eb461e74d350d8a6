//! A session of psql, as far as a writer needs one: a statement, and whether it was committed.

use std::time::Duration;

use anyhow::Result;
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::consistency::objects::Object;
use crate::writers::Fate;

/// A statement that takes longer may have been committed or not.
const STATEMENT_LIMIT: Duration = Duration::from_secs(5);

/// What became of a write.
pub(super) struct Done {
    pub(super) fate: Fate,
    /// What it made, if that was told.
    pub(super) value: Option<u64>,
    /// The number of its transaction, if that was told.
    pub(super) token: Option<String>,
}

/// A connection as the owner, opened again after each failure.
pub(super) struct Session {
    url: String,
    runtime: Runtime,
    conn: Option<PgConnection>,
}

impl Session {
    pub(super) fn new(url: String) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            url,
            runtime,
            conn: None,
        })
    }

    /// Makes a counter one more, in a transaction of its own.
    pub(super) fn run(&mut self, object: &Object) -> Done {
        let failed = |fate| Done {
            fate,
            value: None,
            token: None,
        };
        let (sql, id) = object.statement();
        let conn = self.conn.take();
        self.runtime.block_on(async {
            let conn = match conn {
                Some(conn) => Ok(Ok(conn)),
                None => timeout(STATEMENT_LIMIT, PgConnection::connect(&self.url)).await,
            };
            let Ok(Ok(mut conn)) = conn else {
                // Nothing was sent.
                return failed(Fate::Fail);
            };
            // All rows: the last word of the server comes after the commit, the first row does not.
            let query = sqlx::query_as::<_, (Option<i64>, String)>(sql).bind(id);
            let rows = timeout(STATEMENT_LIMIT, query.fetch_all(&mut conn)).await;
            let Ok(Ok(rows)) = rows else {
                return failed(Fate::Unknown);
            };
            self.conn = Some(conn);
            let Some((value, token)) = rows.into_iter().next() else {
                return failed(Fate::Fail);
            };
            Done {
                fate: Fate::Ok,
                value: value.and_then(|value| u64::try_from(value).ok()),
                token: Some(token),
            }
        })
    }
}
