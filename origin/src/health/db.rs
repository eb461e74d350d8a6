//! The statements of readiness and start-up.

use crate::{
    database::{Reads, Statement, db::UNSAFE_SETTINGS},
    error::Result,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 1] = [&PROBLEMS];

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
///
/// # Errors
/// If reads are not answered.
pub async fn problems(reads: &Reads) -> Result<Vec<String>> {
    let rows = reads.rows(&PROBLEMS, &[&TABLES.as_slice()]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// The settings with which an acknowledged write could be lost.
///
/// # Errors
/// If reads are not answered.
pub async fn unsafe_settings(reads: &Reads) -> Result<Vec<String>> {
    let rows = reads.rows(&UNSAFE_SETTINGS, &[]).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}
