//! The statements of answers.

use tokio_postgres::Row;

use super::model::{Answer, NewAnswer};
use crate::{
    cache_policy::Change,
    database::{Conn, Reads, Statement},
    date::Date,
    error::Result,
    idempotency::{self, Claim, Created},
    page::Page,
    reply::Photo,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 4] = [&LIST, &CREATE, &MARK_HELPFUL, &REPORT];

/// One row for each photo, or one without. The photos are found by the product, in one look-up, not by each answer.
static LIST: Statement = Statement::new(
    "answers.list",
    "with page as materialized (
       select a.id, a.product_id, a.body, a.date, a.answerer_name, a.helpfulness
         from shop.answers a
        where a.question_id = $1
          and not a.reported
        order by a.helpfulness desc, a.id
        limit $2
       offset $3
     ),
     photo as materialized (
       select h.id, h.answer_id, h.url
         from shop.answer_photos h
        where h.product_id = (select page.product_id from page limit 1)
          and h.question_id = $1
     )
     select a.id, a.body, a.date, a.answerer_name, a.helpfulness, photo.id, photo.url
       from page a
       left join photo on photo.answer_id = a.id
      order by a.helpfulness desc, a.id, photo.id",
);

/// A page of a question's answers, with their photos.
pub async fn list(reads: &Reads, question: i32, page: Page) -> Result<Vec<Answer>> {
    let rows = reads
        .rows(&LIST, &[&question, &page.limit(), &page.offset()])
        .await?;
    let mut answers: Vec<Answer> = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i32 = row.try_get(0)?;
        if answers.last().is_none_or(|last| last.answer_id != id) {
            answers.push(answer(row)?);
        }
        if let (Some(last), Some(id)) = (answers.last_mut(), row.try_get(5)?) {
            let url = row.try_get(6)?;
            last.photos.push(Photo { id, url });
        }
    }
    Ok(answers)
}

fn answer(row: &Row) -> Result<Answer> {
    Ok(Answer {
        answer_id: row.try_get(0)?,
        body: row.try_get(1)?,
        date: Date(row.try_get(2)?),
        answerer_name: row.try_get(3)?,
        helpfulness: row.try_get(4)?,
        photos: Vec::new(),
    })
}

static CREATE: Statement = Statement::new(
    "answers.create",
    concat!(
        include_str!("../idempotency/gate.sql"),
        include_str!("create.sql"),
        include_str!("../idempotency/result.sql")
    ),
);

/// Adds an answer with its photos. `None`: there is no such question.
pub async fn create(
    conn: &mut Conn,
    question: i32,
    answer: &NewAnswer,
    claim: Option<&Claim>,
) -> Result<Option<Created>> {
    let call = idempotency::begin(&CREATE, claim)
        .bind(question)
        .bind(&answer.body)
        .bind(&answer.name)
        .bind(&answer.email)
        .bind(&answer.photos);
    idempotency::run(conn, &call, claim).await
}

static MARK_HELPFUL: Statement = Statement::new(
    "answers.mark_helpful",
    "with marked as materialized (
       select coherence.mark() as mark
     ),
     voted as (
       update shop.answers a
          set helpfulness = least(a.helpfulness, 2147483646) + 1
         from marked
        where a.id = $1
          and marked.mark is not null
       returning array['question-' || a.question_id || '-answers', 'product-' || a.product_id || '-questions'] as groups
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, voted.groups
         from voted, coherence.rotation
     )
     select voted.groups, coherence.token() as token from voted",
);

/// Adds a vote; gives what is out of date, if there is such an answer.
pub async fn mark_helpful(conn: &mut Conn, answer: i32) -> Result<Option<Change>> {
    let row = MARK_HELPFUL.call().bind(answer).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}

/// A second report changes nothing, and the outbox does not hear of it; but its answer names the groups again, for a
/// gateway that never saw the first answer.
static REPORT: Statement = Statement::new(
    "answers.report",
    "with found as materialized (
       select a.reported,
              array['question-' || a.question_id || '-answers', 'product-' || a.product_id || '-questions'] as groups
         from shop.answers a
        where a.id = $1
     ),
     marked as materialized (
       select coherence.mark() as mark
         from found
        where not found.reported
     ),
     hidden as (
       update shop.answers a
          set reported = true
         from marked
        where a.id = $1
          and not a.reported
          and marked.mark is not null
       returning array['question-' || a.question_id || '-answers', 'product-' || a.product_id || '-questions'] as groups
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, hidden.groups
         from hidden, coherence.rotation
     )
     select found.groups, coherence.token() as token from found",
);

/// Takes an answer off both lists; gives what is out of date, if there is such an answer.
pub async fn report(conn: &mut Conn, answer: i32) -> Result<Option<Change>> {
    let row = REPORT.call().bind(answer).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}
