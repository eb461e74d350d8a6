//! Which products have so many reviews or questions that their pages are found by ranks (`sql/schema/05_ranks.sql`).
//!
//! What is held here is a hint, a minute old: it says which statement is the cheaper one. Either gives the same page, as
//! the one by ranks asks the database first whether there are any.

pub mod db;

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use crate::{database::Reads, error::Result, page::Page};

/// Products that are held at most; the others are sorted.
const PRODUCTS_MAX: i64 = 100_000;
/// Rows of a page beyond which looking up each by its id costs more than sorting a product of medium size.
const PAGE_ROWS_MAX: u32 = 100;

/// A list of which ranks are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum List {
    /// The reviews of a product.
    Reviews,
    /// The questions about a product.
    Questions,
}

/// The products with ranks.
#[derive(Debug, Default)]
pub struct Ranked(RwLock<HashSet<(List, i32)>>);

impl Ranked {
    /// Whether the page is better found by ranks.
    pub fn serves(&self, list: List, product: i32, page: Page) -> bool {
        page.count <= PAGE_ROWS_MAX
            && self
                .0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .contains(&(list, product))
    }

    /// Asks the database which they are.
    ///
    /// # Errors
    /// If it does not answer; they are then what they were.
    pub async fn refresh(&self, reads: &Reads) -> Result<()> {
        let products = db::list(reads, PRODUCTS_MAX).await?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = products;
        Ok(())
    }
}
