//! The statements of maintenance: each removes a bounded number of rows, whatever there is.

use crate::{
    database::{Conn, Statement},
    error::Result,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 3] = [&REMOVE_KEYS, &REMOVE_INTERACTIONS, &ROTATE];

/// An array, whose length the planner takes for small: it takes a limit that it does not know for a tenth of the table, and
/// would read all of that to find them.
static REMOVE_KEYS: Statement = Statement::new(
    "maintenance.remove_keys",
    "with oldest as materialized (
       select old.scope
         from service.idempotency_keys old
        where old.created_at <= now() - interval '24 hours'
        order by old.created_at
        limit $1
          for update skip locked
     ),
     removed as (
       delete from service.idempotency_keys k
        where k.scope = any (array(select oldest.scope from oldest))
       returning 1
     )
     select count(*) from removed",
);

/// Removes idempotency keys that no longer count; gives how many.
pub async fn remove_expired_keys(conn: &mut Conn, rows_max: i64) -> Result<i64> {
    let removed = REMOVE_KEYS.call().bind(rows_max).value(conn).await?;
    Ok(removed.unwrap_or(0))
}

/// The rows with the lowest ids are the oldest: the statement looks at no others, and locks only what it removes. Of two
/// origins that remove the same rows the later one waits a moment, and removes none.
static REMOVE_INTERACTIONS: Statement = Statement::new(
    "maintenance.remove_interactions",
    "with oldest as materialized (
       select i.id, i.created_at
         from service.interactions i
        order by i.id
        limit $2
     ),
     removed as (
       delete from service.interactions i
        where i.id = any (array(select oldest.id from oldest where oldest.created_at < now() - make_interval(days => $1)))
       returning 1
     )
     select count(*) from removed",
);

/// Removes interactions of more than so many days ago; gives how many.
pub async fn remove_old_interactions(conn: &mut Conn, days: i32, rows_max: i64) -> Result<i64> {
    let removed = REMOVE_INTERACTIONS
        .call()
        .bind(days)
        .bind(rows_max)
        .value(conn)
        .await?;
    Ok(removed.unwrap_or(0))
}

static ROTATE: Statement = Statement::new("maintenance.rotate", "select coherence.rotate()");

/// Turns over the outbox's tables, if it is time; says whether it was.
pub async fn rotate_outbox(conn: &mut Conn) -> Result<bool> {
    let rotated = ROTATE.call().value(conn).await?;
    Ok(rotated.unwrap_or(false))
}
