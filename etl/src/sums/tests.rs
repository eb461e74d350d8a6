use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::schema::files::SUMS;

/// Keeps what is encoded.
#[derive(Default)]
struct Kept {
    encoder: Encoder,
    taken: usize,
}

impl Sink for Kept {
    fn encoder(&mut self) -> &mut Encoder {
        &mut self.encoder
    }

    fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
        self.taken += 1;
        Ok(ControlFlow::Continue(()))
    }
}

/// All columns behind the first, added up by the first; and the number of rows.
fn added_up(block: &[u8]) -> (BTreeMap<i64, Vec<i64>>, usize) {
    let mut rest = block.strip_prefix(crate::copy::STREAM_START).unwrap();
    let mut all: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut rows = 0;
    while let Some((columns, after)) = rest.split_first_chunk() {
        rest = after;
        rows += 1;
        let mut row = Vec::new();
        for _ in 0..i16::from_be_bytes(*columns) {
            let (length, after) = rest.split_first_chunk().unwrap();
            let (value, after) = after.split_at(i32::from_be_bytes(*length) as usize);
            rest = after;
            row.push(match value.len() {
                4 => i32::from_be_bytes(value.try_into().unwrap()).into(),
                _ => i64::from_be_bytes(value.try_into().unwrap()),
            });
        }
        let sums = all.entry(row[0]).or_insert_with(|| vec![0; row.len() - 1]);
        for (sum, value) in sums.iter_mut().zip(&row[1..]) {
            *sum += value;
        }
    }
    (all, rows)
}

/// Keys that share few slots, so that they put each other out.
fn keys() -> impl Strategy<Value = i32> {
    (0..3_i32, 0..4_i32).prop_map(|(slot, round)| 1 + slot + round * SLOTS as i32)
}

proptest! {
    #[test]
    fn reviews_add_up_to_the_counts_of_their_products_in_any_order(
        reviews in vec((keys(), 1..=5_i16, any::<bool>()), 0..200),
    ) {
        let mut sums = Sums::new(of("reviews").unwrap(), Kept::default());
        let mut expected: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (product_id, rating, recommend) in &reviews {
            let (product_id, rating, recommend) = (*product_id, *rating, *recommend);
            let flow = sums.add(Addend::Review { product_id, rating, recommend }).unwrap();
            prop_assert!(flow.is_continue());
            let counts = expected.entry(product_id.into()).or_insert_with(|| vec![0; STARS + 2]);
            counts[rating as usize - 1] += 1;
            counts[STARS + usize::from(recommend)] += 1;
        }
        let kept = sums.finish().unwrap().unwrap();
        let (found, rows) = added_up(kept.encoder.block());
        prop_assert_eq!(found, expected);
        prop_assert!(rows <= reviews.len());
        prop_assert_eq!(rows as u64, kept.encoder.rows());
    }

    #[test]
    fn votes_add_up_to_those_of_their_characteristics_in_any_order(
        votes in vec((keys(), 1..=5_i16), 0..200),
    ) {
        let mut sums = Sums::new(of("characteristic_reviews").unwrap(), Kept::default());
        let mut expected: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        for (characteristic_id, value) in &votes {
            let (characteristic_id, value) = (*characteristic_id, *value);
            let flow = sums.add(Addend::Vote { characteristic_id, value }).unwrap();
            prop_assert!(flow.is_continue());
            let counts = expected.entry(characteristic_id.into()).or_insert_with(|| vec![0; 2]);
            counts[0] += i64::from(value);
            counts[1] += 1;
        }
        let kept = sums.finish().unwrap().unwrap();
        prop_assert_eq!(added_up(kept.encoder.block()).0, expected);
    }
}

#[test]
fn rows_in_order_make_one_sum_a_key() {
    let mut sums = Sums::new(of("characteristic_reviews").unwrap(), Kept::default());
    for vote in 0..300_000 {
        let characteristic_id = 1 + vote / 3;
        let flow = sums
            .add(Addend::Vote {
                characteristic_id,
                value: 5,
            })
            .unwrap();
        assert!(flow.is_continue());
    }
    let kept = sums.finish().unwrap().unwrap();
    assert_eq!(kept.encoder.rows(), 100_000);
    assert_eq!(kept.taken, 100_000);
}

#[test]
fn a_sink_that_takes_no_more_ends_it() {
    struct Gone(Encoder);
    impl Sink for Gone {
        fn encoder(&mut self) -> &mut Encoder {
            &mut self.0
        }

        fn take(&mut self, _: Option<Addend>) -> Result<ControlFlow<()>> {
            Ok(ControlFlow::Break(()))
        }
    }
    let vote = |characteristic_id| Addend::Vote {
        characteristic_id,
        value: 1,
    };
    let mut sums = Sums::new(of("characteristic_reviews").unwrap(), Gone(Encoder::new()));
    assert!(sums.add(vote(1)).unwrap().is_continue());
    assert!(sums.add(vote(1 + SLOTS as i32)).unwrap().is_break());
    assert!(sums.finish().unwrap().is_none());
}

#[test]
fn tables_of_sums_have_the_names_and_columns_of_their_views() {
    for (table, file) in [
        ("reviews", "review_sums"),
        ("characteristic_reviews", "vote_sums"),
    ] {
        let table = of(table).unwrap();
        let view = SUMS.iter().find(|view| view.path.contains(file)).unwrap();
        assert_eq!(table.name, file);
        assert!(view.sql.contains(&format!("view {file} as")));
        let columns = view.sql.split_once("select ").unwrap().1.lines();
        let columns: Vec<&str> = columns
            .take_while(|line| !line.contains("from "))
            .filter_map(|line| line.trim().trim_end_matches(',').split(' ').next_back())
            .collect();
        assert_eq!(columns.join(", "), table.columns);
    }
    assert!(of("products").is_none());
}
