//! The statements of readiness and start-up.

use sqlx::Row as _;

use crate::{
    database::{Conn, Reads, Statement},
    error::Result,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 3] = [&PROBLEMS, &READS, &DURABILITY];

/// Every table that a statement of this program names.
pub const TABLES: [&str; 24] = [
    "shop.products",
    "shop.product_counts",
    "shop.features",
    "shop.styles",
    "shop.skus",
    "shop.photos",
    "shop.related",
    "shop.reviews",
    "shop.review_photos",
    "shop.review_meta",
    "shop.review_ranks",
    "shop.question_ranks",
    "shop.ranked_products",
    "shop.characteristics",
    "shop.characteristic_reviews",
    "shop.questions",
    "shop.answers",
    "shop.answer_photos",
    "service.cart_items",
    "service.interactions",
    "service.idempotency_keys",
    "coherence.outbox",
    "coherence.rotation",
    "coherence.incarnation",
];

/// A table that is missing, a trigger that is missing or disabled, a database that takes no writes.
static PROBLEMS: Statement = Statement::new(
    "health.problems",
    "select 'no table ' || wanted.name
       from unnest($1::text[]) as wanted (name)
      where to_regclass(wanted.name) is null
      union all
     select 'no trigger ' || missing.trigger || ' on ' || missing.relation
       from coherence.missing_triggers() as missing
      union all
     select 'the database is read-only'
      where current_setting('transaction_read_only')::bool",
);

/// What keeps this origin from serving, each in a few words.
pub async fn problems(conn: &mut Conn) -> Result<Vec<String>> {
    let rows = PROBLEMS.call().bind(&TABLES[..]).rows(conn).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

static READS: Statement = Statement::new("health.reads", "select 1");

/// Whether reads, which have connections of their own, are answered.
///
/// # Errors
/// If they are not.
pub async fn are_read(reads: &Reads) -> Result<()> {
    reads.rows(&READS, &[]).await.map(drop)
}

static DURABILITY: Statement = Statement::new(
    "health.durability",
    "select wanted.name
       from unnest(array['fsync', 'full_page_writes', 'synchronous_commit']) as wanted (name)
      where current_setting(wanted.name) = 'off'",
);

/// The settings, as this connection has them, with which an acknowledged write could be lost.
pub async fn unsafe_settings(conn: &mut Conn) -> Result<Vec<String>> {
    let rows = DURABILITY.call().rows(conn).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
