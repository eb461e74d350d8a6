//! Changes of the live tables while a load runs, and since the last one.
//!
//! Origins mark each transaction that changes the shop, and to mark it is to share an advisory lock:
//! whoever holds that lock alone keeps such changes out. It ends with the session that holds it, so
//! nothing is left of a load that was killed. The outbox counts all changes, marked or not.

use sqlx::PgConnection;
use tokio::time;

use super::{
    build::{LOCK_PAUSE, LOCK_TIMEOUT_MS, LOCK_TRIES, is_lock_timeout},
    run,
};
use crate::error::{Result, database};

/// Keeps changes by origins out until [`release`] or the end of the connection; waits for those that
/// have begun.
///
/// # Errors
/// If one of them does not end in over a minute.
pub async fn hold(conn: &mut PgConnection) -> Result<()> {
    let doing = "waiting for changes of the shop that have begun";
    let statement = format!(
        "set lock_timeout = {LOCK_TIMEOUT_MS};
         select pg_advisory_lock(coherence.hold_key());
         reset lock_timeout"
    );
    for _ in 1..LOCK_TRIES {
        match run(conn, doing, &statement).await {
            Err(error) if is_lock_timeout(&error) => time::sleep(LOCK_PAUSE).await,
            outcome => return outcome,
        }
    }
    run(conn, doing, &statement).await
}

/// Lets changes in again.
///
/// # Errors
/// If the connection is gone.
pub async fn release(conn: &mut PgConnection) -> Result<()> {
    let statement = "select pg_advisory_unlock(coherence.hold_key())";
    run(conn, "letting changes in again", statement).await
}

/// How many changes have ever been told to the caches.
///
/// # Errors
/// If Postgres refuses.
pub async fn changes(conn: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar("select coherence.changes()")
        .fetch_one(conn)
        .await
        .map_err(database("counting changes of the shop"))
}

/// How many had been told when the last load took its place: those it brought and those it lost are
/// none that the next one could lose. 0 if there has been no load.
///
/// # Errors
/// If Postgres refuses.
pub async fn changes_at_last_load(conn: &mut PgConnection) -> Result<i64> {
    sqlx::query_scalar(
        "select coalesce((select changes from service.loads order by id desc limit 1), 0)",
    )
    .fetch_one(conn)
    .await
    .map_err(database("reading the list of loads"))
}
