//! The statements of ranks; those of pages are with the reviews and the questions.

use std::collections::HashSet;

use super::List;
use crate::{
    database::{Conn, Reads, Statement},
    error::Result,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 2] = [&LIST, &RANK];

static LIST: Statement = Statement::new(
    "ranked.list",
    "select p.list = 'reviews', p.product_id
       from shop.ranked_products p
      order by p.list, p.product_id
      limit $1",
);

/// The products with ranks, so many at most.
pub async fn list(reads: &Reads, products_max: i64) -> Result<HashSet<(List, i32)>> {
    let rows = reads.rows(&LIST, &[&products_max]).await?;
    rows.iter()
        .map(|row| {
            let list = if row.try_get(0)? {
                List::Reviews
            } else {
                List::Questions
            };
            Ok((list, row.try_get(1)?))
        })
        .collect()
}

static RANK: Statement = Statement::new("ranked.rank", "select service.rank_products($1, $2)");

/// Ranks products that have become popular, looking at the newest rows of each list; gives how many.
pub async fn rank(conn: &mut Conn, newest: i32, products_max: i32) -> Result<i32> {
    let ranked = RANK
        .call()
        .bind(newest)
        .bind(products_max)
        .value(conn)
        .await?;
    Ok(ranked.unwrap_or(0))
}
