//! Adds the rows of a load to the live tables, in one transaction that marks itself: it keeps the
//! derived rows and tells the caches what it touched, all of it in sets and not row by row.

use std::collections::BTreeSet;

use futures_util::TryStreamExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};

use super::{build::NEXT, files, owed::Owed, run, swap, writes};
use crate::{
    error::{Error, Result, database},
    purge,
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

/// Adds all rows of the load to the live tables and writes down the load. Gives the groups that are
/// out of date by that; `None` if they are more than a purge can name.
///
/// Changes by origins must be held back. Changes that were told before this stay such that a later
/// load would lose. `owes_purge` is whether gateways are to be purged afterwards.
///
/// # Errors
/// If Postgres refuses a row; nothing has changed then.
pub async fn add(
    conn: &mut PgConnection,
    report: &serde_json::Value,
    tables: &BTreeSet<&'static str>,
    owes_purge: bool,
) -> Result<Option<Vec<String>>> {
    let doing = "adding the rows of the load to the live tables";
    let mut tx = conn.begin().await.map_err(database(doing))?;
    run(
        &mut tx,
        doing,
        // No others write to the tables whose products may become popular by this, until it commits.
        "lock table shop.reviews, shop.questions in share row exclusive mode;
         set local work_mem = '64MB'; select coherence.mark()",
    )
    .await?;
    let others = writes::changes(&mut tx).await? - writes::changes_at_last_load(&mut tx).await?;
    for table in TABLES.iter().filter(|table| tables.contains(table.name)) {
        add_rows(&mut tx, table).await?;
    }
    touch(&mut tx).await?;
    refresh_meta(&mut tx).await?;
    refresh_ranks(&mut tx).await?;
    tell(&mut tx).await?;
    let told = told(&mut tx).await?;
    let changes = writes::changes(&mut tx).await?;
    let owed = Owed {
        purge: owes_purge,
        statistics: true,
    };
    swap::write_down(&mut tx, report, changes - others, owed).await?;
    swap::check_triggers(&mut tx).await?;
    tx.commit().await.map_err(database(doing))?;
    Ok(told)
}

async fn add_rows(conn: &mut PgConnection, table: &Table) -> Result<()> {
    let Table { name, columns, .. } = table;
    let order = table.row_order();
    let statement = format!(
        "insert into shop.{name} ({columns}) select {columns} from {NEXT}.{name} order by {order};
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
         {reviews}
         {votes}
         {meta}
         set local search_path = default;
         delete from shop.review_meta m using pg_temp.touched t where m.product_id = t.product_id;
         insert into shop.review_meta select * from pg_temp.review_meta;
         drop view pg_temp.review_sums, pg_temp.vote_sums,
                   pg_temp.characteristic_reviews, pg_temp.characteristics, pg_temp.reviews",
        reviews = embedded("review_sums.sql")?,
        votes = embedded("vote_sums.sql")?,
        meta = embedded("review_meta.sql")?,
    );
    run(conn, doing, &statement).await
}

/// Ranks the products that became popular, and the rows of all popular ones that got any, by the
/// same statements as a load of everything: they see only their rows.
async fn refresh_ranks(conn: &mut PgConnection) -> Result<()> {
    let doing = "ranking the rows of popular products anew";
    let statement = format!(
        "create temporary table crowded on commit drop as
         select product_id from {NEXT}.reviews union select product_id from {NEXT}.questions;
         analyze pg_temp.crowded;
         create temporary table ranked_products (like shop.ranked_products) on commit drop;
         create temporary table review_ranks (like shop.review_ranks) on commit drop;
         create temporary table question_ranks (like shop.question_ranks) on commit drop;
         create temporary view reviews as
         select r.* from shop.reviews r join crowded c on c.product_id = r.product_id;
         create temporary view questions as
         select q.* from shop.questions q join crowded c on c.product_id = q.product_id;
         set local search_path = pg_temp;
         {reviews}
         {products};
         insert into shop.ranked_products select * from ranked_products on conflict do nothing;
         truncate ranked_products;
         insert into ranked_products
         select p.* from shop.ranked_products p join crowded c on c.product_id = p.product_id;
         {ranks};
         set local search_path = default;
         delete from shop.review_ranks r using pg_temp.ranked_products p
          where p.list = 'reviews' and r.product_id = p.product_id;
         delete from shop.question_ranks q using pg_temp.ranked_products p
          where p.list = 'questions' and q.product_id = p.product_id;
         insert into shop.review_ranks select * from pg_temp.review_ranks;
         insert into shop.question_ranks select * from pg_temp.question_ranks;
         drop view pg_temp.review_sums, pg_temp.reviews, pg_temp.questions",
        reviews = embedded("review_sums.sql")?,
        products = [
            embedded("ranked_reviews.sql")?,
            embedded("ranked_questions.sql")?
        ]
        .concat(),
        ranks = [
            embedded("review_ranks.sql")?,
            embedded("question_ranks.sql")?
        ]
        .concat(),
    );
    run(conn, doing, &statement).await
}

fn embedded(name: &str) -> Result<&'static str> {
    let derive = files::DERIVE.iter().flat_map(|derived| derived.files);
    let mut files = files::SUMS.iter().chain(derive);
    files
        .find(|file| file.path.ends_with(name))
        .map(|file| file.sql)
        .ok_or_else(|| Error::Check(format!("sql lacks {name}")))
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

/// The groups that were told; `None` if they are more than a purge can name.
async fn told(conn: &mut PgConnection) -> Result<Option<Vec<String>>> {
    let most = i64::try_from(purge::GROUPS_MAX).unwrap_or(i64::MAX);
    sqlx::query_scalar(
        "select case when count(*) <= $1 then coalesce(array_agg(g order by g), '{}') end from pg_temp.told",
    )
    .bind(most)
    .fetch_one(conn)
    .await
    .map_err(database("reading what the caches are told"))
}
