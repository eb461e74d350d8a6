//! Puts the tables of a load in the place of the live ones: one short transaction.

use sqlx::{Connection as _, PgConnection};
use tokio::time;

use super::{
    build::{LOCK_PAUSE, LOCK_TIMEOUT_MS, LOCK_TRIES, NEXT, is_lock_timeout},
    owed::Owed,
    run, writes,
};
use crate::error::{Error, Result, database};

/// Puts the tables in the place of the live ones and writes down the load, in one transaction.
///
/// Readers go on reading the old tables until it commits; writers wait for it. The event trigger of
/// the outbox tells every cache to begin anew.
///
/// `changes_known` is how many changes had been told to the caches when the load began: one more,
/// and it stops. `owes_purge` is whether gateways are to be purged afterwards.
///
/// # Errors
/// If a lock is not to be had for over a minute, if a trigger is missing, or if somebody changed the
/// live tables since the load began: nothing has changed then.
pub async fn swap(
    conn: &mut PgConnection,
    report: &serde_json::Value,
    changes_known: Option<i64>,
    owes_purge: bool,
) -> Result<()> {
    for _ in 1..LOCK_TRIES {
        match try_swap(conn, report, changes_known, owes_purge).await {
            Err(error) if is_lock_timeout(&error) => time::sleep(LOCK_PAUSE).await,
            outcome => return outcome,
        }
    }
    try_swap(conn, report, changes_known, owes_purge).await
}

async fn try_swap(
    conn: &mut PgConnection,
    report: &serde_json::Value,
    changes_known: Option<i64>,
    owes_purge: bool,
) -> Result<()> {
    let doing = "putting the new tables in place";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    let live: String = sqlx::query_scalar(
        "select string_agg(format('shop.%I', tablename), ', ' order by tablename)
           from pg_tables
          where schemaname = 'shop'",
    )
    .fetch_one(&mut *tx)
    .await
    .map_err(database(doing))?;
    let rename = format!(
        "set local lock_timeout = {LOCK_TIMEOUT_MS};
         lock table {live} in exclusive mode;
         alter schema shop rename to shop_old;
         alter schema {NEXT} rename to shop"
    );
    run(&mut tx, doing, &rename).await?;
    let changes = writes::changes(&mut tx).await?;
    if let Some(known) = changes_known
        && changes > known
    {
        return Err(Error::LiveWrites(changes - known));
    }
    let owed = Owed {
        purge: owes_purge,
        statistics: false,
    };
    write_down(&mut tx, report, changes, owed).await?;
    check_triggers(&mut tx).await?;
    tx.commit().await.map_err(database(doing))
}

/// Writes down that a load is in place, how many changes had been told by then, and what is to follow.
///
/// # Errors
/// If Postgres refuses.
pub async fn write_down(
    conn: &mut PgConnection,
    report: &serde_json::Value,
    changes: i64,
    owed: Owed,
) -> Result<()> {
    sqlx::query(
        "insert into service.loads (report, changes, owes_purge, owes_statistics) values ($1, $2, $3, $4)",
    )
    .bind(report)
    .bind(changes)
    .bind(owed.purge)
    .bind(owed.statistics)
    .execute(conn)
    .await
    .map_err(database("writing down the load"))?;
    Ok(())
}

/// Fails if a change of a live table could go untold.
///
/// # Errors
/// [`Error::Check`] with the names of the triggers.
pub async fn check_triggers(conn: &mut PgConnection) -> Result<()> {
    let missing: Vec<String> =
        sqlx::query_scalar("select relation || ' ' || trigger from coherence.missing_triggers()")
            .fetch_all(conn)
            .await
            .map_err(database("checking the triggers"))?;
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Check(format!(
        "triggers are missing: {}",
        missing.join(", ")
    )))
}
