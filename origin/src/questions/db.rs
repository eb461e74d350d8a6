//! The statements of questions.

use tokio_postgres::Row;

use super::model::{Answer, NewQuestion, Question};
use crate::{
    cache_policy::Change,
    database::{Conn, Reads, Statement},
    date::Date,
    error::Result,
    idempotency::{self, Claim, Created},
    page::Page,
};

/// The statements of this module.
pub static STATEMENTS: [&Statement; 5] = [&LIST, &LIST_RANKED, &CREATE, &MARK_HELPFUL, &REPORT];

/// One row for each question, answer and photo, told apart by the first column. Answers and photos carry the product's
/// id: each is one look-up, whatever the number of questions. The questions come in order; the rest is put in order here.
static LIST: Statement = Statement::new(
    "questions.list",
    "with page as materialized (
       select q.id, q.body, q.date, q.asker_name, q.helpfulness
         from shop.questions q
        where q.product_id = $1
          and not q.reported
        order by q.helpfulness desc, q.date desc, q.id desc
        limit $2
       offset $3
     ),
     answer as materialized (
       select a.id, a.question_id, a.body, a.date, a.answerer_name, a.helpfulness
         from shop.answers a
        where a.product_id = $1
          and not a.reported
     ),
     photo as materialized (
       select h.id, h.answer_id, h.question_id, h.url
         from shop.answer_photos h
        where h.product_id = $1
     )
     select 0::int2 as kind, page.id, null::int4 as parent_id, page.body, page.date, page.asker_name, page.helpfulness
       from page
      union all
     select 1::int2, answer.id, answer.question_id, answer.body, answer.date, answer.answerer_name, answer.helpfulness
       from answer
      where answer.question_id in (select page.id from page)
      union all
     select 2::int2, photo.id, photo.answer_id, photo.url, null, null, null
       from photo
      where photo.question_id in (select page.id from page)
      order by kind, helpfulness desc, date desc, id desc",
);

/// The same page of a product whose ranks are kept: its ids come from those in order, each row by its id, and what
/// belongs to it by its id too. If there are no ranks after all, its other half sorts all questions.
static LIST_RANKED: Statement = Statement::new(
    "questions.list_ranked",
    "with ranks as materialized (
       select exists (
                select from shop.ranked_products p where p.list = 'questions' and p.product_id = $1
              ) as are_kept
     ),
     page as materialized (
       select q.id, q.body, q.date, q.asker_name, q.helpfulness
         from (
                select k.question_id
                  from shop.question_ranks k
                 where k.product_id = $1
                   and not k.reported
                   and (select ranks.are_kept from ranks)
                 order by k.helpfulness desc, k.date desc, k.question_id desc
                 limit $2
                offset $3
              ) as ranked
         join shop.questions q on q.id = ranked.question_id
        union all
       (select q.id, q.body, q.date, q.asker_name, q.helpfulness
          from shop.questions q
         where q.product_id = $1
           and not q.reported
           and not (select ranks.are_kept from ranks)
         order by q.helpfulness desc, q.date desc, q.id desc
         limit $2
        offset $3)
     )
     select 0::int2 as kind, page.id, null::int4 as parent_id, page.body, page.date, page.asker_name, page.helpfulness
       from page
      union all
     select 1::int2, answer.id, answer.question_id, answer.body, answer.date, answer.answerer_name, answer.helpfulness
       from page
      cross join lateral (
              select a.id, a.question_id, a.body, a.date, a.answerer_name, a.helpfulness
                from shop.answers a
               where a.question_id = page.id
                 and not a.reported
              -- A fence: the planner takes this product for a usual one, and would read all that is its.
              offset 0
            ) as answer
      union all
     select 2::int2, photo.id, photo.answer_id, photo.url, null, null, null
       from page
      cross join lateral (
              select h.id, h.answer_id, h.url
                from shop.answer_photos h
               where h.product_id = $1
                 and h.question_id = page.id
              offset 0
            ) as photo
      order by kind, helpfulness desc, date desc, id desc",
);

/// A page of a product's questions, with all their answers. Whether by ranks makes a difference in cost only.
pub async fn list(
    reads: &Reads,
    product: i32,
    page: Page,
    by_ranks: bool,
) -> Result<Vec<Question>> {
    let statement = if by_ranks { &LIST_RANKED } else { &LIST };
    let rows = reads
        .rows(statement, &[&product, &page.limit(), &page.offset()])
        .await?;
    let mut questions = Vec::new();
    let mut answers: Vec<(i32, Answer)> = Vec::new();
    let mut photos: Vec<(i32, i32, String)> = Vec::new();
    for row in &rows {
        match row.try_get::<_, i16>(0)? {
            0 => questions.push(question(row)?),
            1 => answers.push((row.try_get(2)?, answer(row)?)),
            _ => photos.push((row.try_get(2)?, row.try_get(1)?, row.try_get(3)?)),
        }
    }
    photos.sort_unstable_by_key(|(answer, photo, _)| (*answer, *photo));
    answers.sort_unstable_by_key(|(_, answer)| answer.id);
    let mut photos = photos.into_iter().peekable();
    for (_, answer) in &mut answers {
        // A reported answer's photos have nobody to take them.
        while photos.next_if(|(of, ..)| *of < answer.id).is_some() {}
        while let Some((.., url)) = photos.next_if(|(of, ..)| *of == answer.id) {
            answer.photos.push(url);
        }
    }
    answers.sort_by_key(|(question, _)| *question);
    assign(&mut questions, answers);
    Ok(questions)
}

/// Gives each question its answers, which are sorted by question.
fn assign(questions: &mut [Question], answers: Vec<(i32, Answer)>) {
    let mut by_id: Vec<&mut Question> = questions.iter_mut().collect();
    by_id.sort_unstable_by_key(|question| question.question_id);
    let mut answers = answers.into_iter().peekable();
    for question in by_id {
        while let Some((_, answer)) = answers.next_if(|(of, _)| *of == question.question_id) {
            question.answers.push(answer);
        }
    }
}

fn question(row: &Row) -> Result<Question> {
    Ok(Question {
        question_id: row.try_get(1)?,
        question_body: row.try_get(3)?,
        question_date: Date(row.try_get(4)?),
        asker_name: row.try_get(5)?,
        question_helpfulness: row.try_get(6)?,
        reported: false,
        answers: Vec::new(),
    })
}

fn answer(row: &Row) -> Result<Answer> {
    Ok(Answer {
        id: row.try_get(1)?,
        body: row.try_get(3)?,
        date: Date(row.try_get(4)?),
        answerer_name: row.try_get(5)?,
        helpfulness: row.try_get(6)?,
        photos: Vec::new(),
    })
}

static CREATE: Statement = Statement::new(
    "questions.create",
    concat!(
        include_str!("../idempotency/gate.sql"),
        include_str!("create.sql"),
        include_str!("../idempotency/result.sql")
    ),
);

/// Adds a question. `None`: there are products, and this is none of them.
pub async fn create(
    conn: &mut Conn,
    product: i32,
    question: &NewQuestion,
    claim: Option<&Claim>,
) -> Result<Option<Created>> {
    let call = idempotency::begin(&CREATE, claim)
        .bind(product)
        .bind(&question.body)
        .bind(&question.name)
        .bind(&question.email);
    idempotency::run(conn, &call, claim).await
}

static MARK_HELPFUL: Statement = Statement::new(
    "questions.mark_helpful",
    "with marked as materialized (
       select coherence.mark() as mark
     ),
     voted as (
       update shop.questions q
          set helpfulness = least(q.helpfulness, 2147483646) + 1
         from marked
        where q.id = $1
          and marked.mark is not null
       returning q.id, q.helpfulness,
                 array['product-' || q.product_id || '-questions'] as groups
     ),
     ranked as (
       update shop.question_ranks k
          set helpfulness = voted.helpfulness
         from voted
        where k.question_id = voted.id
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, voted.groups
         from voted, coherence.rotation
     )
     select voted.groups, pg_current_xact_id()::text as token from voted",
);

/// Adds a vote; gives what is out of date, if there is such a question.
pub async fn mark_helpful(conn: &mut Conn, question: i32) -> Result<Option<Change>> {
    let row = MARK_HELPFUL.call().bind(question).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}

/// A second report changes nothing, and the outbox does not hear of it; but its answer names the groups again, for a
/// gateway that never saw the first answer.
static REPORT: Statement = Statement::new(
    "questions.report",
    "with found as materialized (
       select q.reported, array['product-' || q.product_id || '-questions'] as groups
         from shop.questions q
        where q.id = $1
     ),
     marked as materialized (
       select coherence.mark() as mark
         from found
        where not found.reported
     ),
     hidden as (
       update shop.questions q
          set reported = true
         from marked
        where q.id = $1
          and not q.reported
          and marked.mark is not null
       returning q.id, array['product-' || q.product_id || '-questions'] as groups
     ),
     ranked as (
       update shop.question_ranks k
          set reported = true
         from hidden
        where k.question_id = hidden.id
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, hidden.groups
         from hidden, coherence.rotation
     )
     select found.groups, pg_current_xact_id()::text as token from found",
);

/// Takes a question off the list; gives what is out of date, if there is such a question.
pub async fn report(conn: &mut Conn, question: i32) -> Result<Option<Change>> {
    let row = REPORT.call().bind(question).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}
