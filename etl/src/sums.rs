//! Sums over rows that lie near each other, made while they pass: what is derived from them then needs no second look at
//! tables of millions of rows.

use std::ops::ControlFlow;

use crate::{copy::Encoder, error::Result, rows::Sink};

/// Sums that are kept at a time: half a MiB of them.
const SLOTS: usize = 1 << 14;
/// Rows that one sum holds at most: far fewer than would make it overflow.
const ROWS_MAX: u32 = 1 << 24;
/// Stars are 1 to 5.
const STARS: usize = 5;

/// What a row adds to a derived one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addend {
    /// To the counts of its product.
    Review {
        /// Its product.
        product_id: i32,
        /// 1 to 5.
        rating: i16,
        /// Whether it recommends the product.
        recommend: bool,
    },
    /// To the votes of its characteristic.
    Vote {
        /// Its characteristic.
        characteristic_id: i32,
        /// 1 to 5.
        value: i16,
    },
}

/// A table of sums, beside the one whose rows it adds up; `sql/sums` has its columns and its meaning.
#[derive(Debug, Clone, Copy)]
pub struct SumTable {
    /// Its name.
    pub name: &'static str,
    /// Its columns in the order in which they are encoded.
    pub columns: &'static str,
    /// Encodes a row of it.
    encode: fn(&Sum, &mut Encoder),
}

/// The table of sums over the rows of a table, if there is one.
#[must_use]
pub fn of(table: &str) -> Option<SumTable> {
    match table {
        "reviews" => Some(SumTable {
            name: "review_sums",
            columns: "product_id, rated_1, rated_2, rated_3, rated_4, rated_5, recommended_false, recommended_true",
            encode: Sum::encode_reviews,
        }),
        "characteristic_reviews" => Some(SumTable {
            name: "vote_sums",
            columns: "characteristic_id, sum, count",
            encode: Sum::encode_votes,
        }),
        _ => None,
    }
}

/// Rows added up so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Sum {
    /// The product, or the characteristic.
    key: i32,
    /// Rows; none: the slot is free.
    rows: u32,
    /// Those with 1 to 5 stars.
    stars: [u32; STARS],
    /// Reviews that recommend.
    recommended: u32,
}

/// Partial sums: a direct-mapped cache.
///
/// Files are nearly in the order of products, and ids follow each other; so a key mostly keeps its slot until all its rows
/// have passed. One that finds its slot taken has the sum there encoded first: in any order of rows the sums are right, and
/// there are never more of them than rows.
#[derive(Debug)]
pub struct Sums<S> {
    slots: Vec<Sum>,
    out: S,
    encode: fn(&Sum, &mut Encoder),
}

impl<S: Sink> Sums<S> {
    /// None yet; those of `table` are encoded for `out`.
    #[must_use]
    pub fn new(table: SumTable, out: S) -> Self {
        Self {
            slots: vec![Sum::default(); SLOTS],
            out,
            encode: table.encode,
        }
    }

    /// Adds a row; `Break` if nobody takes sums any more.
    ///
    /// # Errors
    /// As those of [`Sink::take`].
    pub fn add(&mut self, addend: Addend) -> Result<ControlFlow<()>> {
        let (key, stars, recommend) = match addend {
            Addend::Review {
                product_id,
                rating,
                recommend,
            } => (product_id, rating, recommend),
            Addend::Vote {
                characteristic_id,
                value,
            } => (characteristic_id, value, false),
        };
        let place = key.cast_unsigned() as usize % SLOTS;
        let mut flow = ControlFlow::Continue(());
        let Some(slot) = self.slots.get_mut(place) else {
            return Ok(flow);
        };
        if slot.rows > 0 && (slot.key != key || slot.rows == ROWS_MAX) {
            (self.encode)(slot, self.out.encoder());
            *slot = Sum::default();
            flow = self.out.take(None)?;
        }
        slot.key = key;
        slot.rows += 1;
        slot.recommended += u32::from(recommend);
        let count = usize::try_from(stars - 1).ok();
        if let Some(count) = count.and_then(|place| slot.stars.get_mut(place)) {
            *count += 1;
        }
        Ok(flow)
    }

    /// Encodes what is left, and gives the sink; `None` if it takes no more.
    ///
    /// # Errors
    /// As those of [`Sink::take`].
    pub fn finish(mut self) -> Result<Option<S>> {
        for slot in self.slots.iter().filter(|slot| slot.rows > 0) {
            (self.encode)(slot, self.out.encoder());
            if self.out.take(None)?.is_break() {
                return Ok(None);
            }
        }
        Ok(Some(self.out))
    }
}

/// No number of rows is past [`ROWS_MAX`].
impl Sum {
    fn encode_reviews(&self, out: &mut Encoder) {
        let row = out.row(8).integer(self.key);
        for stars in self.stars {
            row.integer(stars.cast_signed());
        }
        row.integer((self.rows - self.recommended).cast_signed())
            .integer(self.recommended.cast_signed());
    }

    fn encode_votes(&self, out: &mut Encoder) {
        let stars = (1..).zip(self.stars);
        let sum = stars.map(|(stars, rows)| stars * i64::from(rows)).sum();
        out.row(3)
            .integer(self.key)
            .bigint(sum)
            .integer(self.rows.cast_signed());
    }
}

#[cfg(test)]
mod tests;
