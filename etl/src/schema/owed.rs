//! What loads that are in place still have to do: one may have been stopped behind its commit. A rerun
//! finds its rows live, and would have nothing to tell and nothing to analyze.

use sqlx::PgConnection;

use super::run;
use crate::error::{Result, database};

/// What follows the commit of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// Gateways that were named may hold what was before it.
    pub purge: bool,
    /// Tables that got rows have not been analyzed.
    pub statistics: bool,
}

/// What any load has left.
///
/// # Errors
/// If Postgres refuses.
pub async fn find(conn: &mut PgConnection) -> Result<Owed> {
    let (purge, statistics) = sqlx::query_as(
        "select coalesce(bool_or(owes_purge), false), coalesce(bool_or(owes_statistics), false) from service.loads",
    )
    .fetch_one(conn)
    .await
    .map_err(database("reading the list of loads"))?;
    Ok(Owed { purge, statistics })
}

/// Writes down that no gateway holds what was before any load.
///
/// # Errors
/// If Postgres refuses; the next run then purges once more.
pub async fn purged(conn: &mut PgConnection) -> Result<()> {
    let statement = "update service.loads set owes_purge = false where owes_purge";
    run(conn, "writing down that gateways were purged", statement).await
}

/// Writes down that the live tables have been analyzed.
///
/// # Errors
/// If Postgres refuses; the next run then analyzes once more.
pub async fn analyzed(conn: &mut PgConnection) -> Result<()> {
    let statement = "update service.loads set owes_statistics = false where owes_statistics";
    run(conn, "writing down that tables were analyzed", statement).await
}
