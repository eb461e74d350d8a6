//! Adds the rows of a load to the live tables, in one transaction that marks itself: it keeps the
//! derived rows and tells the caches what it touched, all of it in sets and not row by row.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::{
    build::{self, NEXT},
    files, run, writes,
};
use crate::{
    error::{Error, Result, database},
    tables::{TABLES, Table},
};

/// From this many groups on the caches are told that everything has changed: they forget it sooner
/// than they could look for each.
const GROUPS_MAX: i64 = 100_000;
/// Groups in one row of the outbox.
const GROUPS_PER_ROW: i64 = 500;

/// Gives the id of each row of a live table to `take`, and with it the value of the column that says
/// what the row belongs to, if one is named.
///
/// # Errors
/// If Postgres refuses.
pub async fn live_ids(
    conn: &mut PgConnection,
    table: &str,
    owner: Option<&str>,
    mut take: impl FnMut(i32, i32),
) -> Result<()> {
    let doing = || format!("reading the ids of shop.{table}");
    let statement = format!("select id, {} from shop.{table}", owner.unwrap_or("id"));
    let mut rows = sqlx::query(AssertSqlSafe(statement)).fetch(conn);
    while let Some(row) = rows.try_next().await.map_err(database(doing()))? {
        take(row.get(0), row.get(1));
    }
    Ok(())
}

/// Adds all rows of the load to the live tables and writes down the load.
///
/// Changes by origins must be held back. Changes that were told before this stay such that a later
/// load would lose.
///
/// # Errors
/// If Postgres refuses a row; nothing has changed then.
pub async fn add(
    conn: &mut PgConnection,
    report: &serde_json::Value,
    tables: &BTreeSet<&'static str>,
) -> Result<()> {
    let doing = "adding the rows of the load to the live tables";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    run(
        &mut tx,
        doing,
        "set local work_mem = '64MB'; select coherence.mark()",
    )
    .await?;
    let others = writes::changes(&mut tx).await? - writes::changes_at_last_load(&mut tx).await?;
    for table in TABLES.iter().filter(|table| tables.contains(table.name)) {
        add_rows(&mut tx, table).await?;
    }
    touch(&mut tx).await?;
    refresh_meta(&mut tx).await?;
    tell(&mut tx).await?;
    let changes = writes::changes(&mut tx).await?;
    build::write_down(&mut tx, report, changes - others).await?;
    build::check_triggers(&mut tx).await?;
    tx.commit().await.map_err(database(doing))
}

async fn add_rows(conn: &mut PgConnection, table: &Table) -> Result<()> {
    let Table { name, columns, .. } = table;
    let statement = format!(
        "insert into shop.{name} ({columns}) select {columns} from {NEXT}.{name};
         select setval('shop.{name}_id_seq', greatest(largest.id, sequence.last_value))
           from (select max(id) as id from {NEXT}.{name}) as largest, shop.{name}_id_seq as sequence
          where largest.id is not null"
    );
    run(conn, &format!("adding rows to {name}"), &statement).await
}

/// Finds the products whose counts of reviews are to be taken anew.
async fn touch(conn: &mut PgConnection) -> Result<()> {
    let statement = format!(
        "create temporary table touched on commit drop as
         select product_id from {NEXT}.reviews
          union
         select product_id from {NEXT}.characteristics
          union
         select c.product_id
           from {NEXT}.characteristic_reviews v
           join shop.characteristics c on c.id = v.characteristic_id;
         analyze pg_temp.touched"
    );
    run(
        conn,
        "looking for the products that were touched",
        &statement,
    )
    .await
}

/// Takes those counts, by the same statement as a load of everything: it sees only their rows.
async fn refresh_meta(conn: &mut PgConnection) -> Result<()> {
    let doing = "taking the counts of reviews anew";
    let Some(derive) = files::DERIVE
        .iter()
        .find(|file| file.path.ends_with("review_meta.sql"))
    else {
        return Err(Error::Check("sql/derive lacks its files".to_owned()));
    };
    let statement = format!(
        "create temporary table review_meta (like shop.review_meta) on commit drop;
         create temporary view reviews as
         select r.* from shop.reviews r join touched t on t.product_id = r.product_id;
         create temporary view characteristics as
         select c.* from shop.characteristics c join touched t on t.product_id = c.product_id;
         create temporary view characteristic_reviews as
         select v.*
           from shop.characteristic_reviews v
           join pg_temp.characteristics c on c.id = v.characteristic_id;
         set local search_path = pg_temp;
         {}
         set local search_path = default;
         delete from shop.review_meta m using pg_temp.touched t where m.product_id = t.product_id;
         insert into shop.review_meta select * from pg_temp.review_meta;
         drop view pg_temp.characteristic_reviews, pg_temp.characteristics, pg_temp.reviews",
        derive.sql
    );
    run(conn, doing, &statement).await
}

/// Appends to the outbox what the statement triggers would have: the groups of each row that was
/// added, of the counts, and of the products whose related ones have come to be.
async fn tell(conn: &mut PgConnection) -> Result<()> {
    let doing = "telling the caches";
    let queries: Vec<String> = sqlx::query_scalar(
        "select format('select %s as g from %s', coherence.group_expression(template),
                       case relation when 'shop.review_meta' then 'pg_temp.touched'
                            else replace(relation, 'shop.', $1 || '.') end)
           from coherence.mapping
          where relation like 'shop.%'
          order by 1",
    )
    .bind(NEXT)
    .fetch_all(&mut *conn)
    .await
    .map_err(database(doing))?;
    let statement = format!(
        "create temporary table told on commit drop as
         select g, row_number() over (order by g) as number
           from ({}
                 union
                 select 'product-' || r.product_id
                   from shop.related r join {NEXT}.products p on p.id = r.related_id) as groups;
         select case when count(*) > {GROUPS_MAX} then coherence.append(array['*']) end from pg_temp.told;
         select coherence.append(array_agg(g))
           from pg_temp.told
          where (select count(*) from pg_temp.told) <= {GROUPS_MAX}
          group by number / {GROUPS_PER_ROW}",
        queries.join(" union ")
    );
    run(conn, doing, &statement).await
}
