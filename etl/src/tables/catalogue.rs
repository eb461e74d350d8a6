//! Products, features, styles, skus, photos, related products.

use super::{Encoded, Row};
use crate::{
    field,
    reject::{Fault, Reason, Repair},
};

/// Products of neighbouring ids that a page of their list is likely to show together.
const LISTED_TOGETHER: i32 = 16;

pub(super) fn product(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(6)?;
    let id = row.id(0)?;
    let price =
        field::labelled_price(row.text(5), &mut row.repairs).map_err(|reason| reason.at(5))?;
    if row.ids.products.contains(id) {
        return Err(Reason::DuplicateId.at(0));
    }
    row.ids.products.insert(id);
    let [name, slogan, description, category] = [1, 2, 3, 4].map(|column| row.text(column));
    row.out
        .row(8)
        .integer(id)
        .text(name)
        .text(slogan)
        .text(description)
        .text(category)
        .price(price)
        .timestamp(row.loaded_at)
        .timestamp(row.loaded_at);
    Ok(Encoded {
        id,
        read_with: id / LISTED_TOGETHER,
    })
}

pub(super) fn feature(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(4)?;
    let (id, product_id) = (row.id(0)?, row.id(1)?);
    let name = row.text(2);
    let value = field::unwrapped(row.text(3), &mut row.repairs);
    row.unseen(id)?;
    row.ids.product(product_id).map_err(|reason| reason.at(1))?;
    row.ids.seen.insert(id);
    let value = Some(value).filter(|value| !field::is_null(value));
    row.out
        .row(4)
        .integer(id)
        .integer(product_id)
        .text(name)
        .nullable_text(value);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn style(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(6)?;
    let (id, product_id) = (row.id(0)?, row.id(1)?);
    let name = row.text(2);
    let sale_price = sale_price(row)?;
    let original_price = row.price(4)?;
    let is_default = row.boolean(5)?;
    if row.ids.styles.get(id).is_some() {
        return Err(Reason::DuplicateId.at(0));
    }
    row.ids.product(product_id).map_err(|reason| reason.at(1))?;
    row.ids.styles.insert(id, product_id);
    row.out
        .row(6)
        .integer(id)
        .integer(product_id)
        .text(name)
        .nullable_price(sale_price)
        .price(original_price)
        .boolean(is_default);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

/// A sale for nothing is no sale.
fn sale_price(row: &mut Row<'_>) -> Result<Option<u64>, Fault> {
    if row.nullable_text(3).is_none() {
        return Ok(None);
    }
    let cents = row.price(3)?;
    if cents == 0 {
        row.repairs.add(Repair::ZeroSale);
        return Ok(None);
    }
    Ok(Some(cents))
}

pub(super) fn sku(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(4)?;
    let (id, style_id, quantity) = (row.id(0)?, row.id(1)?, row.count(3)?);
    let size = row.text(2);
    row.unseen(id)?;
    let product_id = row
        .ids
        .styles
        .get(style_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    row.ids.seen.insert(id);
    row.out
        .row(5)
        .integer(id)
        .integer(style_id)
        .integer(product_id)
        .text(size)
        .integer(quantity);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn photo(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    let (url, thumbnail_url) = match row.fields.len() {
        4 => (row.text(2), row.text(3)),
        3 => {
            let urls = field::split_joined(row.text(2)).ok_or(Reason::ColumnCount)?;
            row.repairs.add(Repair::JoinedUrls);
            urls
        }
        _ => return Err(Reason::ColumnCount.into()),
    };
    let (id, style_id) = (row.id(0)?, row.id(1)?);
    // Of two that stand together in one field it is that one.
    let last = row.fields.len() - 1;
    let [url_copy, thumbnail_copy] = &mut *row.mended;
    let repairs = &mut row.repairs;
    let mut mend = |url, copy, column| match url {
        url if field::is_null(url) => Ok(None),
        url => field::mended_url(url, copy, repairs)
            .map(Some)
            .map_err(|reason| reason.at(column)),
    };
    let url = mend(url, url_copy, 2)?;
    let thumbnail_url = mend(thumbnail_url, thumbnail_copy, last)?;
    row.ids.unseen(id).map_err(|reason| reason.at(0))?;
    let product_id = row
        .ids
        .styles
        .get(style_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    row.ids.seen.insert(id);
    row.out
        .row(5)
        .integer(id)
        .integer(style_id)
        .integer(product_id)
        .nullable_text(url)
        .nullable_text(thumbnail_url);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn related(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(3)?;
    let (id, product_id) = (row.id(0)?, row.id(1)?);
    let related_id = match row.count(2)? {
        0 => return Err(Reason::RelatedZero.at(2)),
        id => id,
    };
    row.unseen(id)?;
    row.ids.product(product_id).map_err(|reason| reason.at(1))?;
    row.ids.seen.insert(id);
    let related_exists = row.ids.products.contains(related_id);
    row.out
        .row(4)
        .integer(id)
        .integer(product_id)
        .integer(related_id)
        .boolean(related_exists);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}
