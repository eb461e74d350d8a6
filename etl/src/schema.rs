//! Applies `sql/`, which is embedded in the binary. Nothing else in the workspace runs DDL.
//!
//! `migrate` brings a database to this version, but for the shop's own tables if they are there, and
//! can be run again at any time. A load builds those anew, in a schema of their own, with the functions
//! of [`build`].

pub mod build;
pub mod files;
pub mod inspect;
mod jobs;
pub mod merge;
pub mod owed;
pub mod post_data;
pub mod shape;
pub mod swap;
pub mod writes;

pub use jobs::Jobs;

use std::{
    borrow::Cow,
    time::{Duration, Instant},
};

use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection,
    migrate::{Migration, MigrationType, Migrator},
    postgres::PgConnectOptions,
};

use crate::error::{Error, Result, database};

/// The advisory lock that keeps loads and migrations of one database apart.
const LOCK_KEY: i64 = 0x6174_656c_6965_7201;
/// How long a load waits for it: longer than the server needs to notice that a load was killed. It looks every two
/// seconds, but not while a commit writes tables to a slow disk, nor soon if it gets no processor.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// The role that origins use: it can change rows and nothing else. Roles belong to the whole
/// server, so two databases may create it at the same moment.
const CREATE_ROLE: &str = "
do $$
begin
  if not exists (select from pg_roles where rolname = 'atelier_app') then
    create role atelier_app login;
  end if;
exception when duplicate_object or unique_violation then
  null;
end
$$";

/// Brings the database at `database_url` to this version of the schema. Tables of an older version stay
/// as they are, with a warning: a load makes them anew.
///
/// Safe to run at any time, also while origins serve, and by several processes at once: they wait
/// for each other.
///
/// # Errors
/// If Postgres cannot be reached or refuses a statement; the database is then as before, except
/// that migrations which were applied stay applied.
pub async fn migrate(database_url: &str) -> Result<()> {
    let mut conn = connect(database_url).await?;
    sqlx::query("select pg_advisory_lock($1)")
        .bind(LOCK_KEY)
        .execute(&mut conn)
        .await
        .map_err(database("waiting for the migration lock"))?;
    apply(&mut conn).await?;
    if let Some(lacking) = shape::lacking(&mut conn).await? {
        tracing::warn!(
            "the tables of schema shop are of another version and lack {lacking}: \
             run `etl load` before origins of this version"
        );
    }
    unlock(&mut conn).await?;
    conn.close()
        .await
        .map_err(database("closing the connection"))
}

/// Opens a connection to the database as its owner.
///
/// # Errors
/// If the URL is malformed or Postgres cannot be reached; the message never contains the password.
pub async fn connect(database_url: &str) -> Result<PgConnection> {
    let options: PgConnectOptions = database_url
        .parse()
        .map_err(database("reading the database URL"))?;
    let options = options
        .application_name("etl")
        // Building an index takes minutes and is nobody's mistake.
        .log_slow_statements(tracing::log::LevelFilter::Off, Duration::MAX);
    let mut conn = options
        .connect()
        .await
        .map_err(database("connecting to the database"))?;
    // A loader that was killed must not leave the server building indexes for it: the next run
    // would wait for them.
    run(
        &mut conn,
        "setting up the session",
        "set client_connection_check_interval = '2s'; set client_min_messages = warning",
    )
    .await?;
    Ok(conn)
}

/// Takes the lock that keeps loads apart, until [`unlock`] or the end of the connection.
///
/// # Errors
/// [`Error::Busy`] if somebody else holds it.
pub async fn lock(conn: &mut PgConnection) -> Result<()> {
    let deadline = Instant::now() + LOCK_WAIT;
    loop {
        let is_locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(LOCK_KEY)
            .fetch_one(&mut *conn)
            .await
            .map_err(database("taking the load lock"))?;
        if is_locked {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::Busy);
        }
        tokio::time::sleep(LOCK_POLL).await;
    }
}

/// Gives the lock back at once: the end of a connection is noticed a little later.
///
/// # Errors
/// If the connection is gone.
pub async fn unlock(conn: &mut PgConnection) -> Result<()> {
    sqlx::query("select pg_advisory_unlock($1)")
        .bind(LOCK_KEY)
        .execute(conn)
        .await
        .map_err(database("giving back the load lock"))?;
    Ok(())
}

async fn apply(conn: &mut PgConnection) -> Result<()> {
    run(conn, "creating the role atelier_app", CREATE_ROLE).await?;
    // Not `run`: its future cannot be proven to be Send, and callers want to spawn this.
    Migrator::with_migrations(migrations())
        .run_direct(None, &mut *conn, false)
        .await?;

    let mut tx = conn.begin().await.map_err(database("beginning"))?;
    // Functions name tables that are created after them.
    run(
        &mut tx,
        "beginning",
        "set local check_function_bodies = off",
    )
    .await?;
    run(&mut tx, "applying sql/coherence.sql", files::COHERENCE).await?;
    for file in files::FUNCTIONS {
        run(&mut tx, &format!("applying {}", file.path), file.sql).await?;
    }
    let exists: bool = sqlx::query_scalar("select to_regnamespace('shop') is not null")
        .fetch_one(&mut *tx)
        .await
        .map_err(database("looking for schema shop"))?;
    if !exists {
        run(&mut tx, "creating schema shop", "create schema shop").await?;
    }
    run(
        &mut tx,
        "entering schema shop",
        "set local search_path = shop",
    )
    .await?;
    if !exists {
        for file in files::SCHEMA.iter().chain(files::INDEXES) {
            run(&mut tx, &format!("applying {}", file.path), file.sql).await?;
        }
    }
    run(&mut tx, "applying sql/groups.sql", files::GROUPS).await?;
    run(&mut tx, "applying sql/grants.sql", files::GRANTS).await?;
    tx.commit().await.map_err(database("committing the schema"))
}

/// The migrations as sqlx wants them: the file name is `<version>_<description>.sql`.
fn migrations() -> Vec<Migration> {
    files::MIGRATIONS
        .iter()
        .map(|file| {
            let (version, description) = file.version();
            Migration::new(
                version,
                Cow::Owned(description),
                MigrationType::Simple,
                sqlx::SqlStr::from_static(file.sql),
                false,
            )
        })
        .collect()
}

/// Runs any number of statements that return nothing.
pub(crate) async fn run(conn: &mut PgConnection, doing: &str, sql: &str) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(conn)
        .await
        .map_err(database(doing))?;
    Ok(())
}
