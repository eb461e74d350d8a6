//! Writes reviews, their photos, characteristics and the votes on them.

use super::{
    file::FileWriter,
    line::Line,
    plan::{Dice, Kind, Plan},
    text::{self, Person, Texts},
};
use crate::{error::Result, reject::Reason};

/// What reviewers vote on.
const CHARACTERISTICS: [&str; 6] = ["Size", "Width", "Comfort", "Quality", "Length", "Fit"];
/// Ratings, as often as they are given.
const RATINGS: [u32; 12] = [5, 5, 5, 5, 4, 4, 4, 3, 3, 2, 1, 1];
/// Midnight of 2018-01-01, and the milliseconds from there to the release.
const FIRST_DAY_MS: u64 = 1_514_764_800_000;
const DAYS_MS: u64 = 1_300 * 86_400_000;

/// A moment before the release.
pub(super) fn moment(dice: &mut Dice) -> u64 {
    FIRST_DAY_MS + dice.below_large(DAYS_MS)
}

/// How many found it helpful: few, mostly.
pub(super) fn votes(dice: &mut Dice) -> u64 {
    let most = if dice.one_in(50) { 1000 } else { 36 };
    u64::from(dice.below(most))
}

pub(super) fn reviews(plan: &Plan, texts: &Texts, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Reviews);
    for product in 0..plan.products {
        for _ in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, dice, id, product_id| {
                    let (rating, person) = (RATINGS[dice.below(12) as usize], Person::draw(dice));
                    line.id(id);
                    line.number(product_id);
                    line.stars(rating);
                    line.date(moment(dice), dice);
                    line.quoted(|out| texts.body(out, dice, 1));
                    line.quoted(|out| {
                        let length = text::length(dice, 170);
                        texts.body(out, dice, length);
                    });
                    line.boolean(rating > 2, true, dice);
                    line.boolean(dice.one_in(15), true, dice);
                    line.quoted(|out| person.name(out));
                    line.quoted(|out| person.email(out));
                    match dice.below(100) {
                        0..10 => line.quoted(|out| texts.body(out, dice, 40)),
                        10 => line.raw(b""),
                        _ => line.raw(b"null"),
                    }
                    line.number(votes(dice));
                },
            )?;
        }
    }
    Ok(())
}

pub(super) fn photos(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::ReviewPhotos);
    for review in 0..plan.rows(Kind::Reviews) {
        for _ in 0..counts.next() {
            file.row(plan.id(Kind::Reviews, review), photo)?;
        }
    }
    Ok(())
}

/// A photo of a review or an answer.
pub(super) fn photo(line: &mut Line, dice: &mut Dice, id: u64, parent: u64) {
    line.id(id);
    line.number(parent);
    match line.spoil(Reason::BadUrl) {
        Some(way) => {
            line.raw(
                [b"null".as_slice(), b"", b"\"no photo\"", b"http:images"][(way % 4) as usize],
            );
        }
        None if dice.one_in(5000) => line.quoted(|out| text::data_url(out, dice)),
        None => line.quoted(|out| text::url(out, dice, "1000")),
    }
}

pub(super) fn characteristics(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = plan.spread(Kind::Characteristics);
    for product in 0..plan.products {
        for characteristic in 0..counts.next() {
            file.row(
                plan.id(Kind::Products, product),
                |line, _, id, product_id| {
                    line.id(id);
                    line.number(product_id);
                    // Shoes have a width, shirts a length: it is not always the first ones.
                    line.text(CHARACTERISTICS[((product + characteristic) % 6) as usize]);
                },
            )?;
        }
    }
    Ok(())
}

pub(super) fn characteristic_reviews(plan: &Plan, file: &mut FileWriter<'_>) -> Result<()> {
    let mut counts = (
        plan.spread(Kind::Characteristics),
        plan.spread(Kind::Reviews),
    );
    let (mut first_characteristic, mut review) = (0, 0);
    for _ in 0..plan.products {
        let (characteristics, reviews) = (counts.0.next(), counts.1.next());
        for _ in 0..reviews {
            let review_id = plan.id(Kind::Reviews, review);
            for number in 0..characteristics {
                let characteristic_id =
                    plan.id(Kind::Characteristics, first_characteristic + number);
                file.row(review_id, |line, dice, id, review_id| {
                    line.id(id);
                    line.number(characteristic_id);
                    line.number(review_id);
                    line.stars(1 + dice.below(5));
                })?;
            }
            review += 1;
        }
        first_characteristic += characteristics;
    }
    Ok(())
}
