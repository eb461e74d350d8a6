//! What one execution of a prepared statement touches, as Postgres itself counts it.

use anyhow::{Context, Result};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

/// The figures of one execution; planning is not part of it, for there is none: the plan is generic and kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Touched {
    /// Buffers of 8 KiB found in the server's cache.
    pub hit: u64,
    /// Buffers that the server had to ask the system for.
    pub read: u64,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

impl Touched {
    /// All buffers touched.
    pub fn buffers(&self) -> u64 {
        self.hit + self.read
    }

    fn parse(explained: &str) -> Result<Self> {
        let explained: Value = serde_json::from_str(explained)?;
        let explained = &explained[0];
        let count = |name: &str| explained["Plan"][name].as_u64().context("no such count");
        Ok(Self {
            hit: count("Shared Hit Blocks")?,
            read: count("Shared Read Blocks")?,
            ms: explained["Execution Time"].as_f64().context("no time")?,
        })
    }
}

/// A statement prepared in a session.
pub struct Prepared {
    name: &'static str,
}

impl Prepared {
    /// Prepares a statement, in the place of the one before.
    ///
    /// # Errors
    /// The statement does not fit this database.
    pub async fn new(conn: &mut PgConnection, sql: &str) -> Result<Self> {
        let name = "measured";
        sqlx::raw_sql("deallocate all").execute(&mut *conn).await?;
        sqlx::raw_sql(AssertSqlSafe(format!("prepare {name} as {sql}")))
            .execute(&mut *conn)
            .await?;
        Ok(Self { name })
    }

    /// Executes it with these arguments.
    ///
    /// # Errors
    /// The execution fails.
    pub async fn explain(&self, conn: &mut PgConnection, arguments: &[i64]) -> Result<Touched> {
        let arguments: Vec<String> = arguments.iter().map(i64::to_string).collect();
        self.explain_with(conn, &arguments.join(", ")).await
    }

    async fn explain_with(&self, conn: &mut PgConnection, arguments: &str) -> Result<Touched> {
        // Without a clock reading for every row, which would cost more than the rows.
        let sql = format!(
            "explain (analyze, buffers, timing off, format json) execute {}({arguments})",
            self.name
        );
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await?;
        let text: String = row.try_get_unchecked(0)?;
        Touched::parse(&text)
    }

    /// Executes a statement that writes, in a transaction that is rolled back. What it touches of tables and indexes is
    /// the server's own count for the transaction: a plan's figures leave out triggers, the parts that nothing reads
    /// from, and the checks of foreign keys.
    ///
    /// # Errors
    /// The execution fails.
    pub async fn write(&self, conn: &mut PgConnection, arguments: &str) -> Result<Touched> {
        sqlx::raw_sql("begin").execute(&mut *conn).await?;
        // The server adds up until a session is idle for a while: what this one did before counts too.
        let before = fetched(conn).await?;
        let explained = self.explain_with(conn, arguments).await?;
        let after = fetched(conn).await?;
        sqlx::raw_sql("rollback").execute(&mut *conn).await?;
        let (hit, all) = (after.hit - before.hit, after.all - before.all);
        Ok(Touched {
            hit: u64::try_from(hit)?,
            read: u64::try_from(all - hit)?,
            ms: explained.ms,
        })
    }
}

/// Pages that a session has asked for, and those of them that were in the server's cache.
struct Fetched {
    all: i64,
    hit: i64,
}

async fn fetched(conn: &mut PgConnection) -> Result<Fetched> {
    let sql = "select sum(pg_stat_get_xact_blocks_fetched(c.oid))::int8, sum(pg_stat_get_xact_blocks_hit(c.oid))::int8
                 from pg_class c
                where c.relnamespace in ('shop'::regnamespace, 'service'::regnamespace, 'coherence'::regnamespace)";
    // Not kept: `deallocate all` would take it away unseen.
    let query = sqlx::query_as(sql).persistent(false);
    let (all, hit) = query.fetch_one(conn).await?;
    Ok(Fetched { all, hit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_those_of_the_whole_plan() {
        let text = r#"[{"Plan": {"Node Type": "Sort", "Shared Hit Blocks": 6, "Shared Read Blocks": 1,
                       "Plans": [{"Shared Hit Blocks": 6, "Shared Read Blocks": 1}]},
                       "Planning": {"Shared Hit Blocks": 99}, "Execution Time": 0.25}]"#;
        let touched = Touched::parse(text).unwrap();
        assert_eq!((touched.buffers(), touched.ms), (7, 0.25));
        assert!(Touched::parse("[]").is_err());
    }
}
