//! A session of psql: statements one after the other, each waited for to its last word.

use anyhow::{Context, Result};
use sqlx::{Connection as _, PgConnection};
use tokio::runtime::Runtime;

/// A connection for a thread that may wait.
pub struct Sql {
    runtime: Runtime,
    conn: PgConnection,
}

impl Sql {
    /// Connects.
    ///
    /// # Errors
    /// No such database.
    pub fn connect(url: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let conn = runtime
            .block_on(PgConnection::connect(url))
            .context("connecting to the database")?;
        Ok(Self { runtime, conn })
    }

    /// Runs statements without looking at what they give.
    ///
    /// # Errors
    /// One fails.
    pub fn run(&mut self, sql: &'static str) -> Result<()> {
        let run = sqlx::raw_sql(sql).execute(&mut self.conn);
        self.runtime.block_on(run).context(sql)?;
        Ok(())
    }

    /// Gives a review one more vote, and returns when that is committed; what it has then.
    ///
    /// # Errors
    /// The statement fails.
    pub fn vote(&mut self, review: i32) -> Result<u64> {
        const VOTE: &str = "update shop.reviews set helpfulness = helpfulness + 1 where id = $1
                            returning helpfulness";
        // All rows: the last word of the server comes after the commit, the first row does not.
        let rows = sqlx::query_scalar::<_, i32>(VOTE)
            .bind(review)
            .fetch_all(&mut self.conn);
        let rows = self.runtime.block_on(rows)?;
        let votes = rows.first().context("no such review")?;
        Ok(u64::try_from(*votes)?)
    }
}
