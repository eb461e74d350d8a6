//! Questions, answers and the photos of answers.

use super::{Encoded, Row};
use crate::reject::{Fault, Reason};

pub(super) fn question(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(8)?;
    let (id, product_id) = (row.id(0)?, row.id(1)?);
    let date = row.timestamp(3)?;
    let (reported, helpfulness) = (row.boolean(6)?, row.count(7)?);
    if row.ids.questions.get(id).is_some() {
        return Err(Reason::DuplicateId.at(0));
    }
    row.ids
        .product_if_any(product_id)
        .map_err(|reason| reason.at(1))?;
    row.ids.questions.insert(id, product_id);
    let [body, name, email] = [2, 4, 5].map(|column| row.text(column));
    row.out
        .row(8)
        .integer(id)
        .integer(product_id)
        .text(body)
        .timestamp(date)
        .text(name)
        .text(email)
        .boolean(reported)
        .integer(helpfulness);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn answer(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(8)?;
    let (id, question_id) = (row.id(0)?, row.id(1)?);
    let date = row.timestamp(3)?;
    let (reported, helpfulness) = (row.boolean(6)?, row.count(7)?);
    if row.ids.answers.get(id).is_some() {
        return Err(Reason::DuplicateId.at(0));
    }
    let product_id = row
        .ids
        .questions
        .get(question_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    row.ids.answers.insert(id, question_id);
    let [body, name, email] = [2, 4, 5].map(|column| row.text(column));
    row.out
        .row(9)
        .integer(id)
        .integer(question_id)
        .integer(product_id)
        .text(body)
        .timestamp(date)
        .text(name)
        .text(email)
        .boolean(reported)
        .integer(helpfulness);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}

pub(super) fn photo(row: &mut Row<'_>) -> Result<Encoded, Fault> {
    row.columns(3)?;
    let (id, answer_id) = (row.id(0)?, row.id(1)?);
    let url = row.url(2)?;
    row.unseen(id)?;
    let question_id = row
        .ids
        .answers
        .get(answer_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    // An answer is loaded only with its question.
    let product_id = row
        .ids
        .questions
        .get(question_id)
        .ok_or_else(|| Reason::DanglingParent.at(1))?;
    row.ids.seen.insert(id);
    row.out
        .row(5)
        .integer(id)
        .integer(answer_id)
        .integer(question_id)
        .integer(product_id)
        .text(url);
    Ok(Encoded {
        id,
        read_with: product_id,
    })
}
