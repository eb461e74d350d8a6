//! The statements of reviews.

use tokio_postgres::Row;

use super::model::{Characteristic, Counts, NewReview, Review};
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
pub static STATEMENTS: [&Statement; 10] = [
    &LIST_NEWEST,
    &LIST_HELPFUL,
    &LIST_RELEVANT,
    &LIST_RANKED_NEWEST,
    &LIST_RANKED_HELPFUL,
    &LIST_RANKED_RELEVANT,
    &META,
    &CREATE,
    &MARK_HELPFUL,
    &REPORT,
];

/// The order of a list of reviews.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// The latest first.
    Newest,
    /// The most helpful first.
    Helpful,
    /// The most helpful first, and of those the latest.
    Relevant,
}

impl Sort {
    /// Reads any of the names that clients use; whatever is none of them is relevance.
    pub fn parse(name: &[u8]) -> Self {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("newest") || is("date") || is("recent") {
            Self::Newest
        } else if is("helpful") || is("helpfulness") {
            Self::Helpful
        } else {
            Self::Relevant
        }
    }

    fn statement(self, by_ranks: bool) -> &'static Statement {
        match (self, by_ranks) {
            (Self::Newest, false) => &LIST_NEWEST,
            (Self::Helpful, false) => &LIST_HELPFUL,
            (Self::Relevant, false) => &LIST_RELEVANT,
            (Self::Newest, true) => &LIST_RANKED_NEWEST,
            (Self::Helpful, true) => &LIST_RANKED_HELPFUL,
            (Self::Relevant, true) => &LIST_RANKED_RELEVANT,
        }
    }
}

/// A page of reviews, one row for each photo, or one without. The photos are found by the product, in one look-up, not
/// by each review.
macro_rules! list {
    ($name:literal, $order:literal) => {
        Statement::new(
            $name,
            concat!(
                "with page as materialized (
                   select r.id, r.rating, r.summary, r.recommend, r.response, r.body, r.date, r.reviewer_name, r.helpfulness
                     from shop.reviews r
                    where r.product_id = $1
                      and not r.reported
                    order by ", $order, "
                    limit $2
                   offset $3
                 ),
                 photo as materialized (
                   select h.id, h.review_id, h.url
                     from shop.review_photos h
                    where h.product_id = $1
                 )
                 select r.id, r.rating, r.summary, r.recommend, r.response, r.body, r.date, r.reviewer_name, r.helpfulness,
                        photo.id, photo.url
                   from page r
                   left join photo on photo.review_id = r.id
                  order by ", $order, ", photo.id"
            ),
        )
    };
}

static LIST_NEWEST: Statement = list!("reviews.list_newest", "r.date desc, r.id desc");
static LIST_HELPFUL: Statement = list!("reviews.list_helpful", "r.helpfulness desc, r.id desc");
static LIST_RELEVANT: Statement = list!(
    "reviews.list_relevant",
    "r.helpfulness desc, r.date desc, r.id desc"
);

/// The same page of a product whose ranks are kept: its ids come from those in order, and each row by its id. Such
/// a product has so many rows that reading and sorting them all costs more. If there are no ranks after all, which
/// only the statement can know, its other half does just that.
macro_rules! list_ranked {
    ($name:literal, $rank_order:literal, $order:literal) => {
        Statement::new(
            $name,
            concat!(
                "with ranks as materialized (
                   select exists (
                            select from shop.ranked_products p where p.list = 'reviews' and p.product_id = $1
                          ) as are_kept
                 ),
                 page as materialized (
                   select r.id, r.rating, r.summary, r.recommend, r.response, r.body, r.date, r.reviewer_name, r.helpfulness
                     from (
                            select k.review_id
                              from shop.review_ranks k
                             where k.product_id = $1
                               and not k.reported
                               and (select ranks.are_kept from ranks)
                             order by ", $rank_order, "
                             limit $2
                            offset $3
                          ) as ranked
                     join shop.reviews r on r.id = ranked.review_id
                    union all
                   (select r.id, r.rating, r.summary, r.recommend, r.response, r.body, r.date, r.reviewer_name, r.helpfulness
                      from shop.reviews r
                     where r.product_id = $1
                       and not r.reported
                       and not (select ranks.are_kept from ranks)
                     order by ", $order, "
                     limit $2
                    offset $3)
                 )
                 select r.id, r.rating, r.summary, r.recommend, r.response, r.body, r.date, r.reviewer_name, r.helpfulness,
                        photo.id, photo.url
                   from page r
                   left join shop.review_photos photo on photo.review_id = r.id
                  order by ", $order, ", photo.id"
            ),
        )
    };
}

static LIST_RANKED_NEWEST: Statement = list_ranked!(
    "reviews.list_ranked_newest",
    "k.date desc, k.review_id desc",
    "r.date desc, r.id desc"
);
static LIST_RANKED_HELPFUL: Statement = list_ranked!(
    "reviews.list_ranked_helpful",
    "k.helpfulness desc, k.review_id desc",
    "r.helpfulness desc, r.id desc"
);
static LIST_RANKED_RELEVANT: Statement = list_ranked!(
    "reviews.list_ranked_relevant",
    "k.helpfulness desc, k.date desc, k.review_id desc",
    "r.helpfulness desc, r.date desc, r.id desc"
);

/// A page of a product's reviews, with their photos. Whether by ranks makes a difference in cost only.
pub async fn list(
    reads: &Reads,
    product: i32,
    sort: Sort,
    page: Page,
    by_ranks: bool,
) -> Result<Vec<Review>> {
    let statement = sort.statement(by_ranks);
    let rows = reads
        .rows(statement, &[&product, &page.limit(), &page.offset()])
        .await?;
    let mut reviews: Vec<Review> = Vec::with_capacity(rows.len());
    for row in &rows {
        let id: i32 = row.try_get(0)?;
        if reviews.last().is_none_or(|last| last.review_id != id) {
            reviews.push(review(row)?);
        }
        if let (Some(last), Some(id)) = (reviews.last_mut(), row.try_get(9)?) {
            let url = row.try_get(10)?;
            last.photos.push(Photo { id, url });
        }
    }
    Ok(reviews)
}

fn review(row: &Row) -> Result<Review> {
    Ok(Review {
        review_id: row.try_get(0)?,
        rating: row.try_get(1)?,
        summary: row.try_get(2)?,
        recommend: row.try_get(3)?,
        response: row.try_get(4)?,
        body: row.try_get(5)?,
        date: Date(row.try_get(6)?),
        reviewer_name: row.try_get(7)?,
        helpfulness: row.try_get(8)?,
        photos: Vec::new(),
    })
}

static META: Statement = Statement::new(
    "reviews.meta",
    "select m.ratings, m.recommended_false, m.recommended_true,
            m.characteristic_ids, m.characteristic_names, m.characteristic_sums, m.characteristic_counts
       from shop.review_meta m
      where m.product_id = $1",
);

/// What is counted of a product's reviews, if there is anything.
pub async fn meta(reads: &Reads, product: i32) -> Result<Option<Counts>> {
    let Some(row) = reads.row(&META, &[&product]).await? else {
        return Ok(None);
    };
    let ids: Vec<i32> = row.try_get(3)?;
    let names: Vec<String> = row.try_get(4)?;
    let sums: Vec<i64> = row.try_get(5)?;
    let counts: Vec<i32> = row.try_get(6)?;
    // The table's constraint keeps the four of one length.
    let characteristics = ids.into_iter().zip(names).zip(sums).zip(counts);
    Ok(Some(Counts {
        ratings: row.try_get(0)?,
        recommended_false: row.try_get(1)?,
        recommended_true: row.try_get(2)?,
        characteristics: characteristics
            .map(|(((id, name), sum), count)| Characteristic {
                id,
                name,
                sum,
                count,
            })
            .collect(),
    }))
}

static CREATE: Statement = Statement::new(
    "reviews.create",
    concat!(
        include_str!("../idempotency/gate.sql"),
        include_str!("create.sql"),
        include_str!("../idempotency/result.sql")
    ),
);

/// Adds a review with its photos and votes, and counts it. `None`: there are products, and this is none of them.
pub async fn create(
    conn: &mut Conn,
    product: i32,
    review: &NewReview,
    claim: Option<&Claim>,
) -> Result<Option<Created>> {
    let (ids, values): (Vec<i32>, Vec<i16>) = review.votes.iter().copied().unzip();
    let call = idempotency::begin(&CREATE, claim)
        .bind(product)
        .bind(review.rating)
        .bind(&review.summary)
        .bind(&review.body)
        .bind(review.recommend)
        .bind(&review.name)
        .bind(&review.email)
        .bind(&review.photos)
        .bind(ids)
        .bind(values);
    idempotency::run(conn, &call, claim).await
}

static MARK_HELPFUL: Statement = Statement::new(
    "reviews.mark_helpful",
    "with marked as materialized (
       select coherence.mark() as mark
     ),
     voted as (
       update shop.reviews r
          set helpfulness = least(r.helpfulness, 2147483646) + 1
         from marked
        where r.id = $1
          and marked.mark is not null
       returning r.id, r.helpfulness,
                 array['product-' || r.product_id || '-reviews'] as groups
     ),
     ranked as (
       update shop.review_ranks k
          set helpfulness = voted.helpfulness
         from voted
        where k.review_id = voted.id
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, voted.groups
         from voted, coherence.rotation
     )
     select voted.groups, pg_current_xact_id()::text as token from voted",
);

/// Adds a vote; gives what is out of date, if there is such a review.
pub async fn mark_helpful(conn: &mut Conn, review: i32) -> Result<Option<Change>> {
    let row = MARK_HELPFUL.call().bind(review).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}

/// A second report changes nothing, and the outbox does not hear of it; but its answer names the groups again, for a
/// gateway that never saw the first answer.
static REPORT: Statement = Statement::new(
    "reviews.report",
    "with found as materialized (
       select r.reported, array['product-' || r.product_id || '-reviews'] as groups
         from shop.reviews r
        where r.id = $1
     ),
     marked as materialized (
       select coherence.mark() as mark
         from found
        where not found.reported
     ),
     hidden as (
       update shop.reviews r
          set reported = true
         from marked
        where r.id = $1
          and not r.reported
          and marked.mark is not null
       returning r.id, array['product-' || r.product_id || '-reviews'] as groups
     ),
     ranked as (
       update shop.review_ranks k
          set reported = true
         from hidden
        where k.review_id = hidden.id
     ),
     told as (
       insert into coherence.outbox (slot, groups)
       select rotation.slot, hidden.groups
         from hidden, coherence.rotation
     )
     select found.groups, pg_current_xact_id()::text as token from found",
);

/// Takes a review off the list; gives what is out of date, if there is such a review.
pub async fn report(conn: &mut Conn, review: i32) -> Result<Option<Change>> {
    let row = REPORT.call().bind(review).row(conn).await?;
    row.as_ref().map(Change::from_row).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sort_order_has_several_names_in_any_case() {
        for name in ["newest", "NEWEST", "date", "recent"] {
            assert_eq!(Sort::parse(name.as_bytes()), Sort::Newest, "{name}");
        }
        for name in ["helpful", "Helpfulness"] {
            assert_eq!(Sort::parse(name.as_bytes()), Sort::Helpful, "{name}");
        }
        for name in [
            "relevant",
            "relevance",
            "",
            "price",
            "newest:asc",
            "'; drop table",
        ] {
            assert_eq!(Sort::parse(name.as_bytes()), Sort::Relevant, "{name}");
        }
    }
}
