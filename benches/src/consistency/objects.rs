//! The counters: what a shop counts that only grows, where it is seen, and both ways to make it grow.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::live::Live;
use crate::load::{get, post, put};

/// A review's votes, a product's reviews, or a question's answers; each of a product of its own.
#[derive(Clone, Copy, Debug)]
pub struct Object {
    kind: Kind,
    product: u32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Votes { review: u32 },
    Reviews,
    Answers { question: u32 },
}

/// Few rows on a page, so that reading it costs little.
const CHOICES: [&str; 3] = [
    "select product_id, id, helpfulness
       from (select distinct on (product_id) product_id, id, helpfulness, count(*) over (partition by product_id) as n
               from shop.reviews where product_id % 3 = 0 and not reported order by product_id, id) r
      where n <= 15 order by product_id limit ",
    "select product_id, 0, (select sum(n) from unnest(ratings) n)
       from shop.review_meta where product_id % 3 = 1 order by product_id limit ",
    "select product_id, id, (select count(*) from shop.answers a where a.question_id = q.id and not a.reported)
       from (select distinct on (product_id) product_id, id, count(*) over (partition by product_id) as n
               from shop.questions where product_id % 3 = 2 and not reported order by product_id, id) q
      where n <= 15 order by product_id limit ",
];

/// Some counters of each kind, each with its value at present.
///
/// # Errors
/// There are too few.
pub fn choose(live: &Live, of_each: usize) -> Result<Vec<(Object, u64)>> {
    let mut objects = Vec::new();
    for (place, choice) in CHOICES.iter().enumerate() {
        let rows = live.query(&format!("{choice}{of_each}"))?;
        ensure!(rows.len() == of_each, "too few rows to write to: {choice}");
        for row in rows {
            let id = row[1].parse()?;
            let kind = match place {
                0 => Kind::Votes { review: id },
                1 => Kind::Reviews,
                _ => Kind::Answers { question: id },
            };
            let product = row[0].parse()?;
            objects.push((Object { kind, product }, row[2].parse()?));
        }
    }
    Ok(objects)
}

impl Object {
    /// Whether its pages grow with it: reading it becomes dearer with each write.
    pub fn grows_pages(&self) -> bool {
        matches!(self.kind, Kind::Answers { .. })
    }

    /// How many pages show it.
    pub fn views(&self) -> usize {
        match self.kind {
            Kind::Votes { .. } => 3,
            Kind::Reviews => 1,
            Kind::Answers { .. } => 2,
        }
    }

    /// The target of one of the pages that show it.
    pub fn target(&self, view: usize) -> String {
        let product = self.product;
        match (self.kind, view) {
            (Kind::Votes { .. }, 0) => format!("/reviews?product_id={product}&count=100"),
            (Kind::Votes { .. }, 1) => {
                format!("/reviews?product_id={product}&count=100&sort=newest")
            }
            (Kind::Votes { .. }, _) => {
                format!("/reviews?product_id={product}&count=100&sort=helpful")
            }
            (Kind::Reviews, _) => format!("/reviews/meta?product_id={product}"),
            (Kind::Answers { question }, 0) => {
                format!("/qa/questions/{question}/answers?count=10000")
            }
            (Kind::Answers { .. }, _) => format!("/qa/questions?product_id={product}&count=100"),
        }
    }

    /// The request for one of the pages that show it; `token` is presented.
    pub fn read(&self, view: usize, token: Option<&str>) -> Vec<u8> {
        let target = self.target(view);
        match token {
            Some(token) => format!(
                "GET {target} HTTP/1.1\r\nHost: bench\r\nCache-Coherence-Token: {token}\r\n\r\n"
            )
            .into_bytes(),
            None => get(&target),
        }
    }

    /// Its value on one of the pages that show it.
    ///
    /// # Errors
    /// It is not there.
    pub fn value(&self, view: usize, page: &[u8]) -> Result<u64> {
        let page: Value = serde_json::from_slice(page).context("a page that is no JSON")?;
        let results = || page["results"].as_array().context("a page without results");
        let found = match (self.kind, view) {
            (Kind::Votes { review }, _) => {
                let mut results = results()?.iter();
                results
                    .find(|one| one["review_id"] == review)
                    .and_then(|one| one["helpfulness"].as_u64())
            }
            (Kind::Reviews, _) => page["ratings"].as_object().map(|ratings| {
                let counts = ratings
                    .values()
                    .filter_map(|count| count.as_str()?.parse::<u64>().ok());
                counts.sum()
            }),
            (Kind::Answers { .. }, 0) => Some(results()?.len() as u64),
            (Kind::Answers { question }, _) => {
                let mut results = results()?.iter();
                results
                    .find(|one| one["question_id"] == question)
                    .and_then(|one| Some(one["answers"].as_object()?.len() as u64))
            }
        };
        found.with_context(|| format!("{self:?} is not on its page {view}"))
    }

    /// The request that makes it one more.
    pub fn write(&self) -> Vec<u8> {
        match self.kind {
            Kind::Votes { review } => put(&format!("/reviews/{review}/helpful")),
            Kind::Reviews => post(
                "/reviews",
                &format!(
                    "{{\"product_id\":{},\"rating\":4,\"body\":\"Written to be counted.\",\"recommend\":true,\
                     \"name\":\"writer\",\"email\":\"writer@example.com\"}}",
                    self.product
                ),
            ),
            Kind::Answers { question } => post(
                &format!("/qa/questions/{question}/answers"),
                "{\"body\":\"Written to be counted.\",\"name\":\"writer\",\"email\":\"writer@example.com\"}",
            ),
        }
    }

    /// The statement that does the same, with the id that it takes: it gives what the counter became, if that can be
    /// told, and the number of its transaction.
    pub fn statement(&self) -> (&'static str, i32) {
        let (sql, id) = match self.kind {
            Kind::Votes { review } => (
                "update shop.reviews set helpfulness = helpfulness + 1 where id = $1
                 returning helpfulness::bigint, pg_current_xact_id()::text",
                review,
            ),
            Kind::Reviews => (
                "insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported,
                                           reviewer_name, reviewer_email, helpfulness)
                 values ($1, 4, now(), '', 'Written to be counted.', true, false, 'sql', 'sql@example.com', 0)
                 returning null::bigint, pg_current_xact_id()::text",
                self.product,
            ),
            Kind::Answers { question } => (
                "insert into shop.answers (question_id, product_id, body, date, answerer_name, answerer_email,
                                           reported, helpfulness)
                 select id, product_id, 'Written to be counted.', now(), 'sql', 'sql@example.com', false, 0
                   from shop.questions where id = $1
                 returning null::bigint, pg_current_xact_id()::text",
                question,
            ),
        };
        (sql, id.cast_signed())
    }

    /// A query for its true value.
    pub fn truth(&self) -> String {
        match self.kind {
            Kind::Votes { review } => {
                format!("select helpfulness from shop.reviews where id = {review}")
            }
            Kind::Reviews => {
                format!(
                    "select count(*) from shop.reviews where product_id = {}",
                    self.product
                )
            }
            Kind::Answers { question } => format!(
                "select count(*) from shop.answers where question_id = {question} and not reported"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: Kind) -> Object {
        Object { kind, product: 7 }
    }

    #[test]
    fn a_value_is_found_on_every_page_that_shows_it() {
        let votes = object(Kind::Votes { review: 5 });
        let page =
            br#"{"results":[{"review_id":4,"helpfulness":1},{"review_id":5,"helpfulness":9}]}"#;
        for view in 0..votes.views() {
            assert_eq!(votes.value(view, page).unwrap(), 9);
        }
        let reviews = object(Kind::Reviews);
        let page = br#"{"ratings":{"1":"15","5":"72"}}"#;
        assert_eq!(reviews.value(0, page).unwrap(), 87);
        assert_eq!(reviews.value(0, br#"{"ratings":{}}"#).unwrap(), 0);
        let answers = object(Kind::Answers { question: 3 });
        let page = br#"{"results":[{"answer_id":1},{"answer_id":2}]}"#;
        assert_eq!(answers.value(0, page).unwrap(), 2);
        let page = br#"{"results":[{"question_id":3,"answers":{"1":{},"2":{}}}]}"#;
        assert_eq!(answers.value(1, page).unwrap(), 2);
    }

    #[test]
    fn a_page_without_the_counter_is_an_error() {
        let votes = object(Kind::Votes { review: 5 });
        for page in [&b"{\"results\":[]}"[..], b"{}", b"<html>"] {
            assert!(votes.value(0, page).is_err());
        }
    }

    #[test]
    fn a_token_is_presented_in_the_request() {
        let request = object(Kind::Reviews).read(0, Some("751"));
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /reviews/meta?product_id=7 HTTP/1.1\r\n"));
        assert!(request.ends_with("\r\nCache-Coherence-Token: 751\r\n\r\n"));
    }
}
