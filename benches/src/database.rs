//! What the measurements ask of a loaded database: which ids there are, and which of them are special.

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::writes::Last;

/// A connection as the owner, with the settings that the origin's connections have.
///
/// # Errors
/// No such database.
pub async fn connect(owner_url: &str) -> Result<PgConnection> {
    let mut conn = PgConnection::connect(owner_url)
        .await
        .context("connecting to the database")?;
    for setting in [
        "set plan_cache_mode = force_generic_plan",
        "set jit = off",
        "set timezone = 'UTC'",
    ] {
        sqlx::raw_sql(setting).execute(&mut conn).await?;
    }
    Ok(conn)
}

/// The largest id of a product.
///
/// # Errors
/// There are no products.
pub async fn last_product(conn: &mut PgConnection) -> Result<u32> {
    last(conn, "select max(id) from shop.products").await
}

/// The largest id of a question.
///
/// # Errors
/// There are no questions.
pub async fn last_question(conn: &mut PgConnection) -> Result<u32> {
    last(conn, "select max(id) from shop.questions").await
}

/// The largest id of a review.
///
/// # Errors
/// There are no reviews.
pub async fn last_review(conn: &mut PgConnection) -> Result<u32> {
    last(conn, "select max(id) from shop.reviews").await
}

/// The largest id of each kind.
///
/// # Errors
/// Something is missing.
pub async fn last_ids(conn: &mut PgConnection) -> Result<Last> {
    Ok(Last {
        product: last_product(conn).await?,
        sku: last(conn, "select max(id) from shop.skus").await?,
        review: last_review(conn).await?,
        question: last_question(conn).await?,
        answer: last(conn, "select max(id) from shop.answers").await?,
    })
}

async fn last(conn: &mut PgConnection, sql: &'static str) -> Result<u32> {
    let id: Option<i32> = sqlx::query_scalar(sql).fetch_one(conn).await?;
    Ok(id.context("the database is empty")?.cast_unsigned())
}

/// The products with the most rows in a table of the shop.
///
/// # Errors
/// No such table.
pub async fn fattest_products(
    conn: &mut PgConnection,
    table: &'static str,
    count: usize,
) -> Result<Vec<i32>> {
    let sql = format!(
        "select product_id from shop.{table} group by 1 order by count(*) desc, 1 limit $1"
    );
    let limit = i64::try_from(count)?;
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(limit);
    Ok(query.fetch_all(conn).await?)
}

/// The questions with the most answers.
///
/// # Errors
/// The database does not answer.
pub async fn fattest_questions(conn: &mut PgConnection, count: usize) -> Result<Vec<i32>> {
    let sql = "select question_id from shop.answers group by 1 order by count(*) desc, 1 limit $1";
    let limit = i64::try_from(count)?;
    Ok(sqlx::query_scalar(sql).bind(limit).fetch_all(conn).await?)
}

/// Products with four characteristics whose ids follow each other: the product, and the first of those ids.
///
/// # Errors
/// The database does not answer.
pub async fn products_with_four(conn: &mut PgConnection, limit: i64) -> Result<Vec<(i32, i32)>> {
    let sql = "select product_id, min(id)
                 from shop.characteristics
                where product_id <= 20000
                group by product_id
               having count(*) = 4 and max(id) - min(id) = 3
                order by product_id
                limit $1";
    Ok(sqlx::query_as(sql).bind(limit).fetch_all(conn).await?)
}
