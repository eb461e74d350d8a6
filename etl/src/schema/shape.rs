//! Whether the live tables are those of this version. A migration leaves them as they are: a load makes
//! them anew.

use sqlx::{Connection as _, PgConnection};

use super::{build::NEXT, files, run};
use crate::error::{Error, Result, database};

/// What stands for the shop of this version while it is compared; never committed.
const EXPECTED: &str = "shop_expected";
/// How many of the things that are lacking a message names.
const NAMED_MAX: usize = 3;

/// Columns, with their types, and triggers of the tables and indexes of one schema that another lacks.
const LACKING: &str = "
  with parts as (
    select c.relnamespace, c.relname || '.' || a.attname || ' ' || format_type(a.atttypid, a.atttypmod) as part
      from pg_class c join pg_attribute a on a.attrelid = c.oid
     where c.relkind in ('r', 'i') and a.attnum > 0 and not a.attisdropped
     union all
    select c.relnamespace, c.relname || ' trigger ' || t.tgname
      from pg_class c join pg_trigger t on t.tgrelid = c.oid
     where not t.tgisinternal)
  select part from parts where relnamespace = $1::regnamespace
  except
  select part from parts where relnamespace = 'shop'::regnamespace
  order by 1";

/// What the live shop lacks of that of this version, in words; `None` if it lacks nothing.
///
/// # Errors
/// If Postgres refuses.
pub(super) async fn lacking(conn: &mut PgConnection) -> Result<Option<String>> {
    let doing = "comparing schema shop with that of this version";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    let start = format!("create schema {EXPECTED}; set local search_path = {EXPECTED}");
    run(&mut tx, doing, &start).await?;
    for file in files::SCHEMA.iter().chain(files::INDEXES) {
        run(&mut tx, doing, file.sql).await?;
    }
    let lacking = parts_lacking(&mut tx, EXPECTED).await?;
    tx.rollback().await.map_err(database(doing))?;
    Ok(lacking)
}

/// Fails if rows of the tables of a load cannot be added to the live ones, as those are older.
///
/// # Errors
/// [`Error::Check`].
pub async fn check(conn: &mut PgConnection) -> Result<()> {
    match parts_lacking(conn, NEXT).await? {
        None => Ok(()),
        Some(lacking) => Err(Error::Check(format!(
            "the live tables are of another version and lack {lacking}: rows can be added once a load \
             has replaced them"
        ))),
    }
}

async fn parts_lacking(conn: &mut PgConnection, schema: &str) -> Result<Option<String>> {
    let parts: Vec<String> = sqlx::query_scalar(LACKING)
        .bind(schema)
        .fetch_all(conn)
        .await
        .map_err(database(
            "comparing the live tables with those of this version",
        ))?;
    if parts.is_empty() {
        return Ok(None);
    }
    let mut named = parts[..parts.len().min(NAMED_MAX)].join(", ");
    if parts.len() > NAMED_MAX {
        named.push_str(&format!(" and {} more", parts.len() - NAMED_MAX));
    }
    Ok(Some(named))
}
