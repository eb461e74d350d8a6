//! How the rows of a table will lie: whether those that a request reads together are next to each
//! other, as they come.

use crate::ids::IdMap;

/// A page of Postgres.
const PAGE_BYTES: u64 = 8192;
/// From this share of rows on a table is put in order. Each such row is one more page for who reads
/// it with the others: with two in a hundred the fifty rows of a large page cost one page more, which
/// is not worth writing the whole table twice.
const OUT_OF_ORDER_PERCENT_MAX: u64 = 2;

/// Follows rows as they are stored one behind the other, and counts those that come out of order: the
/// last row that they are read with lies more than one page before.
///
/// The length of a row in COPY's format stands for its length in the table.
#[derive(Debug, Default)]
pub struct Layout {
    /// The page of the last row of each group, counted from 1.
    pages: IdMap,
    /// The group and the page of the last row of all.
    last: (i32, i32),
    bytes: u64,
    out_of_order: u64,
}

impl Layout {
    /// Adds a row of so many bytes that is read with the others of its group.
    pub fn add(&mut self, group: i32, bytes: usize) {
        // A table has at most 2^32 pages; past half of them nothing is counted any more.
        let page = i32::try_from(1 + self.bytes / PAGE_BYTES).unwrap_or(i32::MAX);
        self.bytes += bytes as u64;
        if self.last == (group, page) {
            return;
        }
        if self.last.0 != group {
            let before = self.pages.get(group);
            let is_apart = before.is_some_and(|before| page > before.saturating_add(1));
            self.out_of_order += u64::from(is_apart);
        }
        self.pages.insert(group, page);
        self.last = (group, page);
    }

    /// How many rows have come out of order.
    #[must_use]
    pub fn out_of_order(&self) -> u64 {
        self.out_of_order
    }
}

/// Whether a table of so many rows should be put in order.
#[must_use]
pub fn is_scattered(out_of_order: u64, rows: u64) -> bool {
    out_of_order * 100 > rows * OUT_OF_ORDER_PERCENT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten rows a page.
    const ROW: usize = 820;

    fn out_of_order(groups: impl IntoIterator<Item = i32>) -> u64 {
        let mut layout = Layout::default();
        for group in groups {
            layout.add(group, ROW);
        }
        layout.out_of_order()
    }

    #[test]
    fn groups_that_come_one_after_the_other_are_in_order_upwards_downwards_and_however_long() {
        assert_eq!(out_of_order((0..1000).map(|row| row / 7)), 0);
        assert_eq!(out_of_order((0..1000).map(|row| (1000 - row) / 7)), 0);
        assert_eq!(out_of_order((0..1000).map(|row| row / 300)), 0);
        assert_eq!(out_of_order((0..1000).map(|row| row * 7919 % 1009)), 0);
    }

    #[test]
    fn rows_that_alternate_within_a_page_are_next_to_each_other() {
        assert_eq!(out_of_order((0..1000).map(|row| row / 10 * 5 + row % 5)), 0);
    }

    #[test]
    fn rows_that_come_again_pages_later_are_out_of_order() {
        // Two lists, each in order, one behind the other.
        assert_eq!(out_of_order((0..200).chain(0..200)), 200);
        assert_eq!(out_of_order((0..1000).map(|row| row % 100)), 900);
        // One row that is late, and then those it stands between are not.
        let late = (0..100).map(|row| if row == 50 { 1 } else { row / 5 });
        assert_eq!(out_of_order(late), 1);
    }

    #[test]
    fn a_row_longer_than_a_page_does_not_part_its_neighbours() {
        let mut layout = Layout::default();
        for row in 0..100 {
            layout.add(row / 4, 5 * PAGE_BYTES as usize);
        }
        assert_eq!(layout.out_of_order(), 0);
    }

    #[test]
    fn a_table_is_scattered_past_two_rows_in_a_hundred() {
        assert!(!is_scattered(0, 0) && !is_scattered(2, 100) && !is_scattered(0, 5));
        assert!(is_scattered(3, 100) && is_scattered(1, 1));
    }
}
