//! Reviews, their photos, characteristics and the votes on them.

use super::{Encoded, Row};
use crate::{
    reject::{Fault, Reason},
    sums::Addend,
};

pub(super) fn review(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(12)?;
    let (id, product_id, rating) = (row.id(0)?, row.id(1)?, row.stars(2)?);
    let date = row.timestamp(3)?;
    let (recommend, reported) = (row.boolean(6)?, row.boolean(7)?);
    let helpfulness = row.count(11)?;
    if row.ids.reviews.get(id).is_some() {
        return Err(Reason::DuplicateId.at(0));
    }
    row.ids
        .product_if_any(product_id)
        .map_err(|reason| reason.at(1))?;
    row.ids.reviews.insert(id, product_id);
    let [summary, body, name, email] = [4, 5, 8, 9].map(|column| row.text(column));
    let response = row.nullable_text(10);
    row.out
        .row(12)
        .integer(id)
        .integer(product_id)
        .smallint(rating)
        .timestamp(date)
        .text(summary)
        .text(body)
        .boolean(recommend)
        .boolean(reported)
        .text(name)
        .text(email)
        .nullable_text(response)
        .integer(helpfulness);
    row.adds = Some(Addend::Review {
        product_id,
        rating,
        recommend,
    });
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn photo(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(3)?;
    let (id, review_id) = (row.id(0)?, row.id(1)?);
    let url = row.url(2)?;
    row.unseen(id)?;
    let product_id = row
        .ids
        .reviews
        .get(review_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    row.ids.seen.insert(id);
    row.out
        .row(4)
        .integer(id)
        .integer(review_id)
        .integer(product_id)
        .text(url);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn characteristic(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(3)?;
    let (id, product_id) = (row.id(0)?, row.id(1)?);
    if row.ids.characteristics.contains(id) {
        return Err(Reason::DuplicateId.at(0));
    }
    row.ids
        .product_if_any(product_id)
        .map_err(|reason| reason.at(1))?;
    row.ids.characteristics.insert(id);
    let name = row.text(2);
    row.out.row(3).integer(id).integer(product_id).text(name);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

/// The product is that of the review.
pub(super) fn vote(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(4)?;
    let (id, characteristic_id, review_id) = (row.id(0)?, row.id(1)?, row.id(2)?);
    let value = row.stars(3)?;
    row.unseen(id)?;
    if !row.ids.characteristics.contains(characteristic_id) {
        return Err(Reason::DanglingParent.at(1));
    }
    let product_id = row
        .ids
        .reviews
        .get(review_id)
        .ok_or_else(|| Reason::DanglingParent.at(2))?;
    row.ids.seen.insert(id);
    row.out
        .row(5)
        .integer(id)
        .integer(characteristic_id)
        .integer(review_id)
        .integer(product_id)
        .smallint(value);
    row.adds = Some(Addend::Vote {
        characteristic_id,
        value,
    });
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}
