//! Builds the tables of a load in a schema of their own, beside the live ones, and puts them in
//! their place.
//!
//! The live tables are only read until [`swap`](super::swap::swap), which is one short transaction.
//! Whatever is left behind by a run that was interrupted is removed by the next one.

use std::{collections::BTreeSet, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::time;

use super::{
    files,
    jobs::{Jobs, side_by_side},
    run,
};
use crate::{
    error::{Error, Result, database},
    tables::{TABLES, Table},
};

/// Where a load builds its tables.
pub const NEXT: &str = "shop_next";
/// How long a change of the live schema waits for locks before it lets the others pass: less than
/// the second after which Postgres looks for deadlocks, so that it is always this side that gives
/// way.
pub(super) const LOCK_TIMEOUT_MS: u32 = 500;
/// How often it tries, and the pause between: a minute and a half in all.
pub(super) const LOCK_TRIES: u32 = 120;
pub(super) const LOCK_PAUSE: Duration = Duration::from_millis(250);
pub(super) const NO_INDEXES: &str = "sql/indexes lacks its files";
/// What Postgres says when a lock was not to be had in time.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// What Postgres says when a disk is full.
const DISK_FULL: &str = "53100";

/// Fails if the database has not been set up by `migrate`.
///
/// # Errors
/// [`Error::NotMigrated`].
pub async fn check_migrated(conn: &mut PgConnection) -> Result<()> {
    let is_migrated: bool = sqlx::query_scalar(
        "select to_regclass('shop.products') is not null
            and exists (select from pg_attribute
                         where attrelid = to_regclass('service.loads') and attname = 'owes_purge')
            and to_regprocedure('coherence.changes()') is not null",
    )
    .fetch_one(conn)
    .await
    .map_err(database("looking for the schema"))?;
    if is_migrated {
        Ok(())
    } else {
        Err(Error::NotMigrated)
    }
}

/// Whether a live table holds rows.
///
/// # Errors
/// If Postgres refuses.
pub async fn has_rows(conn: &mut PgConnection, table: &str) -> Result<bool> {
    let doing = || format!("looking into shop.{table}");
    // A shop of an older version may lack it.
    let is_there: bool = sqlx::query_scalar("select to_regclass($1) is not null")
        .bind(format!("shop.{table}"))
        .fetch_one(&mut *conn)
        .await
        .map_err(database(doing()))?;
    if !is_there {
        return Ok(false);
    }
    let statement = format!("select exists (select from shop.{table})");
    sqlx::query_scalar(AssertSqlSafe(statement))
        .fetch_one(conn)
        .await
        .map_err(database(doing()))
}

/// Makes empty tables for a load, after removing what an interrupted one left behind.
///
/// # Errors
/// If Postgres refuses.
pub async fn create_tables(conn: &mut PgConnection) -> Result<()> {
    let doing = "creating the tables of the load";
    // By a statement that gives way: a session of a killed run may still be at work there for some seconds.
    if !drop_next(conn).await? {
        return Err(Error::Check(format!(
            "schema {NEXT} is in use and cannot be removed"
        )));
    }
    let mut tx = conn.begin().await.map_err(database(doing))?;
    let start = format!("create schema {NEXT}; set local search_path = {NEXT}");
    run(&mut tx, doing, &start).await?;
    for file in files::SCHEMA {
        run(
            &mut tx,
            &format!("applying {} to {NEXT}", file.path),
            file.sql,
        )
        .await?;
    }
    tx.commit().await.map_err(database(doing))
}

/// Makes empty tables for what a load adds up while it reads: derived rows are made from them, and
/// [`drop_sums`] removes them. Nothing of them would be worth keeping after a crash.
///
/// # Errors
/// If Postgres refuses.
pub async fn create_sums(conn: &mut PgConnection) -> Result<()> {
    let doing = "creating the tables of sums";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    run(&mut tx, doing, &format!("set local search_path = {NEXT}")).await?;
    for file in files::SUMS {
        let name = table_of(file);
        let statement = format!(
            "{}; create unlogged table {NEXT}.{name} as table pg_temp.{name} with no data; drop view pg_temp.{name}",
            file.sql.trim_end().trim_end_matches(';')
        );
        run(&mut tx, doing, &statement).await?;
    }
    tx.commit().await.map_err(database(doing))
}

/// The table that a file is about and named after.
fn table_of(file: &files::SqlFile) -> &'static str {
    let name = file.path.rsplit('/').next().unwrap_or_default();
    name.trim_end_matches(".sql")
}

/// Checks the references, then makes the triggers.
///
/// # Errors
/// If Postgres refuses, or if a row lacks its parent.
pub async fn refer(database_url: &str, jobs: Jobs) -> Result<()> {
    let [.., references, triggers] = files::INDEXES else {
        return Err(Error::Check(NO_INDEXES.to_owned()));
    };
    let statements = |file: &files::SqlFile| split_statements(file.sql);
    side_by_side(database_url, jobs, statements(references)).await?;
    let alone = Jobs {
        connections: 1,
        ..jobs
    };
    side_by_side(database_url, alone, statements(triggers)).await
}

/// Removes the tables of sums, once the derived rows have been made from them.
///
/// # Errors
/// If Postgres refuses.
pub async fn drop_sums(conn: &mut PgConnection) -> Result<()> {
    let sums = files::SUMS
        .iter()
        .map(|file| format!("{NEXT}.{}", table_of(file)));
    let statement = format!("drop table {}", sums.collect::<Vec<_>>().join(", "));
    run(conn, "removing the tables of sums", &statement).await
}

/// Takes the statistics without which Postgres plans blindly, and marks rows as seen by all that COPY
/// has not marked: the derived ones and those of `scattered` tables, which were written anew.
///
/// # Errors
/// If Postgres refuses.
pub async fn analyze(
    conn: &mut PgConnection,
    database_url: &str,
    jobs: Jobs,
    scattered: &[&'static Table],
) -> Result<()> {
    let tables: Vec<String> = sqlx::query_scalar(
        "select tablename::text from pg_tables where schemaname = $1 order by tablename",
    )
    .bind(NEXT)
    .fetch_all(conn)
    .await
    .map_err(database("listing the tables of the load"))?;
    let is_scattered = |name: &str| scattered.iter().any(|table| table.name == name);
    let is_copied = |name: &str| TABLES.iter().any(|table| table.name == name);
    let unmarked = tables
        .iter()
        .filter(|table| !is_copied(table) || is_scattered(table));
    let vacuum = unmarked.map(|table| format!("vacuum {NEXT}.{table}"));
    // All before the first ANALYZE: that has a snapshot, which rows that are to be marked must not be newer than.
    side_by_side(database_url, jobs, vacuum.collect()).await?;
    let analyze = tables.iter().map(|table| format!("analyze {NEXT}.{table}"));
    side_by_side(database_url, jobs, analyze.collect()).await
}

/// Takes the statistics of live tables that have got rows.
///
/// # Errors
/// If Postgres refuses.
pub async fn analyze_live(
    database_url: &str,
    jobs: Jobs,
    tables: &BTreeSet<&'static str>,
) -> Result<()> {
    let added = tables.iter().copied();
    let statements = added
        .chain([
            "review_meta",
            "ranked_products",
            "review_ranks",
            "question_ranks",
        ])
        .map(|table| format!("analyze shop.{table}"))
        .collect();
    side_by_side(database_url, jobs, statements).await
}

/// Sets a table's sequence past the largest id that was loaded.
///
/// # Errors
/// If Postgres refuses.
pub async fn set_sequence(conn: &mut PgConnection, table: &str, largest_id: i32) -> Result<()> {
    sqlx::query("select setval($1::regclass, greatest($2, 1), $2 > 0)")
        .bind(format!("{NEXT}.{table}_id_seq"))
        .bind(largest_id)
        .execute(conn)
        .await
        .map_err(database(format!("setting the sequence of {table}")))?;
    Ok(())
}

/// Makes the tables fit to go live: the triggers that tell the caches, and the rights of the
/// origin's role.
///
/// # Errors
/// If Postgres refuses.
pub async fn attach(conn: &mut PgConnection) -> Result<()> {
    let doing = "attaching triggers and rights";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    sqlx::query(
        "select coherence.attach(relation, to_regclass(replace(relation, 'shop.', $1 || '.')))
           from (select distinct relation
                   from coherence.mapping
                  where relation like 'shop.%') as mapped",
    )
    .bind(NEXT)
    .execute(&mut *tx)
    .await
    .map_err(database(doing))?;
    run(
        &mut tx,
        doing,
        &format!("set local search_path = {NEXT}; {}", files::GRANTS),
    )
    .await?;
    tx.commit().await.map_err(database(doing))
}

/// Removes the tables that a load has replaced, once nobody reads them any more; says whether that
/// could be done.
///
/// # Errors
/// If Postgres refuses for another reason than a lock.
pub async fn drop_old(conn: &mut PgConnection) -> Result<bool> {
    drop_schema(conn, "shop_old").await
}

/// Removes the tables of a load, once nobody uses them any more; says whether that could be done.
///
/// # Errors
/// If Postgres refuses for another reason than a lock.
pub async fn drop_next(conn: &mut PgConnection) -> Result<bool> {
    match drop_schema(conn, NEXT).await {
        Err(error) if has_code(&error, DISK_FULL) => {
            make_room(conn).await?;
            drop_schema(conn, NEXT).await
        }
        outcome => outcome,
    }
}

/// Removes one table of a load after the other, as far as that goes: a full disk may have no room for what all of them
/// together change in the catalogs, and each that goes makes some.
async fn make_room(conn: &mut PgConnection) -> Result<()> {
    let doing = format!("removing tables of schema {NEXT}");
    let tables: Vec<String> = sqlx::query_scalar(
        "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname = $1",
    )
    .bind(NEXT)
    .fetch_all(&mut *conn)
    .await
    .map_err(database(&doing))?;
    for table in tables {
        let statement = format!("drop table if exists {table} cascade");
        match run(conn, &doing, &statement).await {
            Err(error) if has_code(&error, DISK_FULL) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

async fn drop_schema(conn: &mut PgConnection, schema: &str) -> Result<bool> {
    let statement = format!(
        "set lock_timeout = {LOCK_TIMEOUT_MS};
         drop schema if exists {schema} cascade;
         reset lock_timeout"
    );
    for _ in 0..LOCK_TRIES {
        match run(conn, &format!("removing schema {schema}"), &statement).await {
            Err(error) if is_lock_timeout(&error) => time::sleep(LOCK_PAUSE).await,
            outcome => return outcome.map(|()| true),
        }
    }
    Ok(false)
}

pub(super) fn is_lock_timeout(error: &Error) -> bool {
    has_code(error, LOCK_NOT_AVAILABLE)
}

/// Whether Postgres gave this code (`SQLSTATE`).
fn has_code(error: &Error, code: &str) -> bool {
    let Error::Database {
        source: sqlx::Error::Database(error),
        ..
    } = error
    else {
        return false;
    };
    error.code().as_deref() == Some(code)
}

/// The statements of a file without function bodies: each ends at a line's end.
pub(super) fn split_statements(sql: &str) -> Vec<String> {
    let lines: Vec<&str> = sql
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .collect();
    lines
        .join("\n")
        .split(";\n")
        .map(|part| part.trim().trim_end_matches(';').to_owned())
        .filter(|part| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_are_split_without_their_comments() {
        let sql = "-- one; two\ncreate index a on b (c);\n\n-- three\nalter table b\n  add primary key (c);\n";
        assert_eq!(
            split_statements(sql),
            [
                "create index a on b (c)",
                "alter table b\n  add primary key (c)"
            ]
        );
    }

    #[test]
    fn every_statement_of_the_index_files_is_one_statement() {
        for file in files::INDEXES {
            let statements = split_statements(file.sql);
            assert_eq!(
                statements.len(),
                file.sql.lines().filter(|line| line.ends_with(';')).count(),
                "{}",
                file.path
            );
            assert!(
                statements.iter().all(|statement| !statement.contains(';')),
                "{}",
                file.path
            );
        }
    }
}
