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
        // Without a clock reading for every row, which would cost more than the rows.
        let sql = format!(
            "explain (analyze, buffers, timing off, format json) execute {}({})",
            self.name,
            arguments.join(", ")
        );
        let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(conn).await?;
        let text: String = row.try_get_unchecked(0)?;
        Touched::parse(&text)
    }
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
