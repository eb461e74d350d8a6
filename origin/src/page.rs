//! Paging: which rows of a list a request asks for.

/// A page of a list: both numbers are effective values, after default, cap and saturation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// From 1.
    pub page: u32,
    /// Rows on a page, from 1.
    pub count: u32,
}

impl Page {
    /// The largest page number; anything above it is taken for it.
    pub const PAGE_MAX: u32 = 2_147_483_647;
    /// The largest `count` on `/products`.
    pub const PRODUCTS_MAX: u32 = 1_000;
    /// The largest `count` on every other list.
    pub const ROWS_MAX: u32 = 10_000;
    /// The `count` of a request that names none.
    pub const COUNT_DEFAULT: u32 = 5;

    /// Reads `page` and `count` as they stand in the query; whatever is no number from 1 is the default.
    pub fn parse(page: Option<&[u8]>, count: Option<&[u8]>, count_max: u32) -> Self {
        Self {
            page: positive(page, Self::PAGE_MAX).unwrap_or(1),
            count: positive(count, count_max).unwrap_or(Self::COUNT_DEFAULT),
        }
    }

    /// How many rows come before this page.
    pub fn offset(self) -> i64 {
        (i64::from(self.page) - 1) * i64::from(self.count)
    }

    /// How many rows this page has at most.
    pub fn limit(self) -> i64 {
        i64::from(self.count)
    }
}

/// Reads `[0-9]+` from 1, saturating at `max`.
fn positive(text: Option<&[u8]>, max: u32) -> Option<u32> {
    let text = text.filter(|text| !text.is_empty())?;
    let mut value: u32 = 0;
    for byte in text {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value
            .saturating_mul(10)
            .saturating_add(u32::from(byte - b'0'));
    }
    (value > 0).then_some(value.min(max))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(page: &str, count: &str) -> (u32, u32) {
        let page = Page::parse(
            Some(page.as_bytes()),
            Some(count.as_bytes()),
            Page::ROWS_MAX,
        );
        (page.page, page.count)
    }

    #[test]
    fn numbers_from_one_are_taken_as_they_are() {
        assert_eq!(parse("1", "1"), (1, 1));
        assert_eq!(parse("12", "100"), (12, 100));
        assert_eq!(parse("007", "0010"), (7, 10));
    }

    #[test]
    fn what_is_no_number_from_one_is_the_default() {
        for text in [
            "", "0", "000", "-1", "1.5", "abc", "1e3", " 2", "+2", "2 ", "\u{0663}",
        ] {
            assert_eq!(parse(text, text), (1, 5), "{text:?}");
        }
        assert_eq!(
            Page::parse(None, None, Page::ROWS_MAX),
            Page { page: 1, count: 5 }
        );
    }

    #[test]
    fn a_huge_page_saturates_and_a_huge_count_is_capped() {
        let huge = "9".repeat(400);
        assert_eq!(parse("2147483648", "10001"), (Page::PAGE_MAX, 10_000));
        assert_eq!(parse(&huge, &huge), (Page::PAGE_MAX, 10_000));
    }

    #[test]
    fn the_farthest_offset_does_not_overflow() {
        let page = Page {
            page: Page::PAGE_MAX,
            count: Page::ROWS_MAX,
        };
        assert_eq!(page.offset(), 21_474_836_460_000);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_page_within_bounds(page: Vec<u8>, count: Vec<u8>) {
            let page = Page::parse(Some(&page), Some(&count), Page::PRODUCTS_MAX);
            prop_assert!((1..=Page::PAGE_MAX).contains(&page.page));
            prop_assert!((1..=Page::PRODUCTS_MAX).contains(&page.count));
        }
    }
}
