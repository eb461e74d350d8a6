//! Every route once: a sample request, its status, and what caches may do with the answer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::{TestApp, answer, fixture, interaction, question, review};

enum Policy {
    /// Stored under these groups.
    Public(&'static [&'static str]),
    /// Never stored.
    Never,
    /// Never stored, and makes these groups out of date.
    Invalidates(&'static [&'static str]),
}

/// Makes a body that is accepted.
type MakeBody = fn() -> Value;

struct Sample {
    route: &'static str,
    method: &'static str,
    path: &'static str,
    body: Option<MakeBody>,
    status: u16,
    policy: Policy,
}

const fn get(route: &'static str, path: &'static str, policy: Policy) -> Sample {
    Sample {
        route,
        method: "GET",
        path,
        body: None,
        status: 200,
        policy,
    }
}

const fn put(route: &'static str, path: &'static str, groups: &'static [&'static str]) -> Sample {
    let policy = Policy::Invalidates(groups);
    Sample {
        route,
        method: "PUT",
        path,
        body: None,
        status: 204,
        policy,
    }
}

const fn post(
    route: &'static str,
    path: &'static str,
    body: MakeBody,
    groups: &'static [&'static str],
) -> Sample {
    let policy = Policy::Invalidates(groups);
    Sample {
        route,
        method: "POST",
        path,
        body: Some(body),
        status: 201,
        policy,
    }
}

const REVIEWS: &[&str] = &["product-2-reviews"];
const REVIEWS_AND_META: &[&str] = &["product-2-reviews", "product-2-meta"];
const QUESTIONS: &[&str] = &["product-5-questions"];
const ANSWER: &[&str] = &["question-50-answers", "product-5-questions"];
const ANSWERS: &str = "/qa/questions/{question_id}/answers";

const SAMPLES: [Sample; 20] = [
    get("/products", "/products", Policy::Public(&["products"])),
    get(
        "/products/{product_id}",
        "/products/5",
        Policy::Public(&["product-5"]),
    ),
    get(
        "/products/{product_id}/styles",
        "/products/5/styles",
        Policy::Public(&["product-5"]),
    ),
    get(
        "/products/{product_id}/related",
        "/products/5/related",
        Policy::Public(&["product-5", "product-ids"]),
    ),
    get("/reviews", "/reviews?product_id=2", Policy::Public(REVIEWS)),
    get(
        "/reviews/meta",
        "/reviews/meta?product_id=2",
        Policy::Public(&["product-2-meta"]),
    ),
    post("/reviews", "/reviews", review, REVIEWS_AND_META),
    put(
        "/reviews/{review_id}/helpful",
        "/reviews/5/helpful",
        REVIEWS,
    ),
    put("/reviews/{review_id}/report", "/reviews/5/report", REVIEWS),
    get(
        "/qa/questions",
        "/qa/questions?product_id=5",
        Policy::Public(QUESTIONS),
    ),
    post("/qa/questions", "/qa/questions", question, QUESTIONS),
    put(
        "/qa/questions/{question_id}/helpful",
        "/qa/questions/50/helpful",
        QUESTIONS,
    ),
    put(
        "/qa/questions/{question_id}/report",
        "/qa/questions/50/report",
        QUESTIONS,
    ),
    get(
        ANSWERS,
        "/qa/questions/50/answers",
        Policy::Public(&["question-50-answers"]),
    ),
    post(ANSWERS, "/qa/questions/50/answers", answer, ANSWER),
    put(
        "/qa/answers/{answer_id}/helpful",
        "/qa/answers/75/helpful",
        ANSWER,
    ),
    put(
        "/qa/answers/{answer_id}/report",
        "/qa/answers/75/report",
        ANSWER,
    ),
    get("/cart", "/cart", Policy::Never),
    post("/cart", "/cart", || json!({ "sku_id": 1 }), &[]),
    post("/interactions", "/interactions", interaction, &[]),
];

const ONE_SKU: &str = "
  insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 5, '', 1, true);
  insert into shop.skus (id, style_id, size, quantity) values (1, 1, 'S', 1)";

#[tokio::test]
async fn every_route_answers_its_sample_with_its_status_and_policy() {
    let app = TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        ONE_SKU,
    ])
    .await;
    for sample in SAMPLES {
        let body = sample
            .body
            .map_or_else(String::new, |body| body().to_string());
        let answer = app.send(sample.method, sample.path, &[], body).await;
        assert_eq!(
            answer.status.as_u16(),
            sample.status,
            "{} {}",
            sample.method,
            sample.path
        );
        match sample.policy {
            Policy::Public(groups) => answer.assert_cached_under(groups),
            Policy::Never => answer.assert_never_stored(),
            Policy::Invalidates(groups) => answer.assert_invalidates(groups),
        };
    }
}

/// Statements that the origin has sent for requests.
async fn statements_sent(app: &TestApp) -> f64 {
    let metrics = app.get_private("/metrics").await;
    let metrics = metrics.text();
    let counts = metrics.lines().filter_map(|line| {
        let count = line.strip_prefix("origin_statement_duration_seconds_count{statement=")?;
        // Of the tasks in the background.
        let is_of_request = ![
            "\"health.",
            "\"database.",
            "\"maintenance.",
            "\"ranked.",
            "\"tail.",
        ]
        .iter()
        .any(|prefix| count.starts_with(prefix));
        let (_, count) = count.rsplit_once(' ').filter(|_| is_of_request)?;
        Some(count.parse::<f64>().unwrap())
    });
    counts.sum()
}

#[tokio::test]
async fn a_request_is_one_statement_at_most_and_so_is_a_replay() {
    let app = TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        ONE_SKU,
    ])
    .await;
    for sample in SAMPLES {
        let body = sample
            .body
            .map_or_else(String::new, |body| body().to_string());
        let key = [
            ("idempotency-key", "0123456789abcdef"),
            ("authorization", "Bearer a-token-of-some-length"),
        ];
        for fields in [&[][..], &key, &key] {
            let before = statements_sent(&app).await;
            app.send(sample.method, sample.path, fields, body.clone())
                .await;
            let sent = statements_sent(&app).await - before;
            // A cart that nobody has named is empty without being looked up.
            let at_least = f64::from(u8::from(sample.path != "/cart" || sample.method != "GET"));
            assert!(
                (at_least..=1.0).contains(&sent),
                "{} {} {fields:?}: {sent}",
                sample.method,
                sample.path
            );
        }
    }
}

#[test]
fn no_route_is_without_a_sample() {
    let routes: BTreeSet<_> = origin::routes::all()
        .iter()
        .map(|route| route.path)
        .collect();
    let sampled: BTreeSet<_> = SAMPLES.iter().map(|sample| sample.route).collect();
    assert_eq!(routes, sampled);
}

#[tokio::test]
async fn no_error_but_an_unknown_product_may_be_stored() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("GET", "/products/abc", 404),
        ("GET", "/reviews", 422),
        ("DELETE", "/reviews", 405),
        ("POST", "/reviews", 422),
        ("POST", "/qa/questions/777/answers", 422),
    ] {
        let answer = app.send(method, path, &[], "").await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        answer.assert_never_stored();
        assert_eq!(answer.field("cache-group-invalidation"), "");
    }
    app.get("/products/777")
        .await
        .assert_class_p(&["product-777"]);
}
