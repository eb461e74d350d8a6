//! Looks at live tables: what they hold, and whether what should follow from it does.

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, Transaction};

use super::{build, files, run, shape, swap};
use crate::{
    error::{Error, Result, database},
    tables::{TABLES, Table},
};

/// Tables that hold what follows from others.
const DERIVED: [&str; 5] = [
    "review_meta",
    "product_counts",
    "ranked_products",
    "review_ranks",
    "question_ranks",
];

/// Begins to look: from here on all that is seen is of one moment, and nothing that is done stays.
///
/// # Errors
/// If Postgres refuses.
pub async fn begin(conn: &mut PgConnection) -> Result<Transaction<'_, Postgres>> {
    let doing = "looking at the live tables";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    // Temporary tables are made in it.
    let isolation = "set transaction isolation level repeatable read; set local work_mem = '64MB'";
    run(&mut tx, doing, isolation).await?;
    Ok(tx)
}

/// When the products of the last load came to be, as its report has it; `None` if there was none.
///
/// # Errors
/// If Postgres refuses.
pub async fn loaded_at(conn: &mut PgConnection) -> Result<Option<String>> {
    sqlx::query_scalar("select report->>'loaded_at' from service.loads order by id desc limit 1")
        .fetch_optional(conn)
        .await
        .map(Option::flatten)
        .map_err(database("reading the list of loads"))
}

/// Gives all rows of a live table to `take`, part by part, as COPY sends them in its binary format.
///
/// # Errors
/// If Postgres refuses, or if `take` does.
pub async fn rows(
    conn: &mut PgConnection,
    table: &Table,
    mut take: impl FnMut(Bytes) -> Result<()>,
) -> Result<()> {
    let doing = || format!("reading shop.{}", table.name);
    let statement = format!(
        "copy shop.{} ({}) to stdout (format binary)",
        table.name, table.columns
    );
    let mut parts = conn
        .copy_out_raw(&statement)
        .await
        .map_err(database(doing()))?;
    while let Some(part) = parts.try_next().await.map_err(database(doing()))? {
        take(part)?;
    }
    Ok(())
}

/// What is wrong with the live tables taken together, a text each: references, sequences, derived
/// rows, triggers, keys and indexes.
///
/// # Errors
/// If Postgres refuses.
pub async fn problems(conn: &mut PgConnection) -> Result<Vec<String>> {
    let mut problems = references(conn).await?;
    for table in &TABLES {
        problems.extend(sequence(conn, table.name).await?);
    }
    // Before derived rows are made: their temporary tables would be taken for those that are compared.
    if let Some(lacking) = shape::lacking(conn).await? {
        problems.push(format!("the tables lack {lacking}"));
    }
    problems.extend(derived(conn).await?);
    match swap::check_triggers(conn).await {
        Err(Error::Check(missing)) => problems.push(missing),
        outcome => outcome?,
    }
    Ok(problems)
}

async fn references(conn: &mut PgConnection) -> Result<Vec<String>> {
    let doing = "checking references";
    let references: Vec<(String, String, String, String, bool)> = sqlx::query_as(
        "select c.conname::text as name, c.conrelid::regclass::text as child,
                c.confrelid::regclass::text as parent, a.attname::text as column, c.convalidated as is_valid
           from pg_constraint c
           join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
          where c.contype = 'f' and c.connamespace = 'shop'::regnamespace
          order by 1",
    )
    .fetch_all(&mut *conn)
    .await
    .map_err(database(doing))?;
    let mut problems = Vec::new();
    let expected = files::INDEXES
        .iter()
        .flat_map(|file| build::split_statements(file.sql))
        .filter(|statement| statement.contains("foreign key"))
        .count();
    if references.len() != expected {
        problems.push(format!(
            "{} references are there, and should be {expected}",
            references.len()
        ));
    }
    for (name, child, parent, column, is_valid) in references {
        let statement = format!(
            "select count(*) from {child} c where not exists (select from {parent} p where p.id = c.{column})"
        );
        let orphans: i64 = sqlx::query_scalar(AssertSqlSafe(statement))
            .fetch_one(&mut *conn)
            .await
            .map_err(database(doing))?;
        if orphans > 0 || !is_valid {
            problems.push(format!(
                "{name}: {orphans} rows of {child} without their parent"
            ));
        }
    }
    Ok(problems)
}

async fn sequence(conn: &mut PgConnection, table: &str) -> Result<Option<String>> {
    let statement = format!(
        "select (select max(id) from shop.{table}),
                (select case when is_called then last_value + 1 else last_value end from shop.{table}_id_seq)"
    );
    let (largest, next): (Option<i32>, i64) = sqlx::query_as(AssertSqlSafe(statement))
        .fetch_one(conn)
        .await
        .map_err(database(format!("checking the sequence of {table}")))?;
    let largest = largest.map_or(0, i64::from);
    Ok((next <= largest)
        .then(|| format!("{table}: the next id is {next}, and there is a row {largest}")))
}

/// Makes the derived rows again, aside, and compares.
async fn derived(conn: &mut PgConnection) -> Result<Vec<String>> {
    let doing = "checking derived rows";
    for table in DERIVED {
        let create = format!("create temporary table {table} (like shop.{table}) on commit drop");
        run(conn, doing, &create).await?;
    }
    run(conn, doing, "set local search_path = pg_temp, shop").await?;
    let derive = files::DERIVE.iter().flat_map(|derived| derived.files);
    for file in files::SUMS.iter().chain(derive) {
        run(conn, doing, file.sql).await?;
    }
    let mut problems = Vec::new();
    for table in DERIVED {
        let statement = format!(
            "select (select count(*) from (table pg_temp.{table} except all table shop.{table}) as missing),
                    (select count(*) from (table shop.{table} except all table pg_temp.{table}) as wrong)"
        );
        let (missing, wrong): (i64, i64) = sqlx::query_as(AssertSqlSafe(statement))
            .fetch_one(&mut *conn)
            .await
            .map_err(database(doing))?;
        if (missing, wrong) != (0, 0) {
            problems.push(format!(
                "{table}: {missing} rows that should be there are not, {wrong} that are should not"
            ));
        }
    }
    Ok(problems)
}
