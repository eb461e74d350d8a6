//! Each write tells the caches exactly what the triggers would have told them, and tells it once.

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::{TestApp, answer, fixture, interaction, question, review};

async fn app() -> TestApp {
    TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        "insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 5, '', 1, true);
         insert into shop.skus (id, style_id, size, quantity) values (1, 1, 'S', 1)",
    ])
    .await
}

/// What the triggers append for statements that nobody marked.
async fn groups_of_plain_sql(app: &TestApp, statements: &str) -> BTreeSet<String> {
    app.sql("truncate coherence.outbox").await;
    app.sql(&format!("begin; {statements}; commit")).await;
    let groups = app.outbox().await.concat().into_iter().collect();
    app.sql("truncate coherence.outbox").await;
    groups
}

#[tokio::test]
async fn every_write_appends_one_row_of_the_groups_that_its_answer_names_and_plain_sql_would() {
    let app = app().await;
    let mut compared = BTreeSet::new();
    for (method, path, body, plain) in [
        (
            "POST", "/reviews", review().to_string(),
            "with r as (insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported,
                                                  reviewer_name, reviewer_email, response, helpfulness)
                        values (2, 4, now(), '', '', true, false, '', '', null, 0) returning id)
             insert into shop.review_photos (review_id, url) select id, 'x' from r;
             insert into shop.characteristic_reviews (characteristic_id, review_id, value) values (14, 5, 5)",
        ),
        ("PUT", "/reviews/5/helpful", String::new(), "update shop.reviews set helpfulness = helpfulness + 1 where id = 5"),
        ("PUT", "/reviews/5/report", String::new(), "update shop.reviews set reported = true where id = 3"),
        (
            "POST", "/qa/questions", question().to_string(),
            "insert into shop.questions (product_id, body, date, asker_name, asker_email, reported, helpfulness)
             values (5, '', now(), '', '', false, 0)",
        ),
        ("PUT", "/qa/questions/50/helpful", String::new(), "update shop.questions set helpfulness = 0 where id = 50"),
        ("PUT", "/qa/questions/50/report", String::new(), "update shop.questions set reported = true where id = 51"),
        (
            "POST", "/qa/questions/50/answers", answer().to_string(),
            "with a as (insert into shop.answers (question_id, body, date, answerer_name, answerer_email, reported, helpfulness)
                        values (50, '', now(), '', '', false, 0) returning id)
             insert into shop.answer_photos (answer_id, url) select 75, 'x' from a",
        ),
        ("PUT", "/qa/answers/75/helpful", String::new(), "update shop.answers set helpfulness = 0 where id = 75"),
        ("PUT", "/qa/answers/75/report", String::new(), "update shop.answers set reported = true where id = 71"),
    ] {
        let expected = groups_of_plain_sql(&app, plain).await;
        assert!(!expected.is_empty(), "{method} {path}");
        let answer = app.send(method, path, &[], body).await;
        assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        let outbox = app.outbox().await;
        assert_eq!(outbox.len(), 1, "{method} {path}: {outbox:?}");
        let appended: BTreeSet<_> = outbox[0].iter().cloned().collect();
        assert_eq!(appended, expected, "{method} {path}");
        let groups: Vec<&str> = outbox[0].iter().map(String::as_str).collect();
        answer.assert_invalidates(&groups);
        let xid = "select max(xid::text::int8) || '@' || (select server || '.' || id from coherence.incarnation)
                     from coherence.outbox";
        assert_eq!(answer.field("cache-coherence-token"), app.value::<String>(xid).await);
        let pattern: Vec<_> = path
            .split('/')
            .map(|part| if part.parse::<u32>().is_ok() { "{}" } else { part })
            .collect();
        compared.insert((method.to_lowercase(), pattern.join("/")));
    }
    assert_eq!(compared, writes_that_caches_see());
}

/// Every write of the API but those of what no cache keeps: method and path.
fn writes_that_caches_see() -> BTreeSet<(String, String)> {
    let document = origin::openapi::document("/");
    let mut writes = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path: Vec<_> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect();
        for method in methods.as_object().unwrap().keys() {
            if !["/cart", "/interactions"].contains(&path.join("/").as_str())
                && ["post", "put", "patch", "delete"].contains(&method.as_str())
            {
                writes.insert((method.clone(), path.join("/")));
            }
        }
    }
    writes
}

#[tokio::test]
async fn an_edit_of_the_catalogue_makes_out_of_date_what_shows_it() {
    let app = TestApp::start(&[fixture::ONE_PRODUCT_WITH_EVERYTHING]).await;
    for (edit, expected) in [
        (
            "update shop.products set name = 'New' where id = 1",
            &["product-1", "products"][..],
        ),
        (
            "update shop.products set default_price = 1 where id = 1",
            &["product-1", "products"],
        ),
        (
            "update shop.features set value = 'New' where id = 10",
            &["product-1"],
        ),
        (
            "insert into shop.features (id, product_id, feature) values (90, 2, 'New')",
            &["product-2"],
        ),
        (
            "update shop.styles set sale_price = 1 where id = 20",
            &["product-1"],
        ),
        (
            "update shop.skus set quantity = 0 where id = 40",
            &["product-2"],
        ),
        ("delete from shop.photos where id = 31", &["product-1"]),
        (
            "insert into shop.related (id, product_id, related_id) values (90, 2, 3)",
            &["product-2"],
        ),
        (
            "insert into shop.products (id, name, slogan, description, category, default_price) values (4, '', '', '', '', 1)",
            &["product-4", "product-ids", "products"],
        ),
        // It was related to both others.
        (
            "delete from shop.products where id = 3",
            &[
                "product-1",
                "product-2",
                "product-3",
                "product-ids",
                "products",
            ],
        ),
    ] {
        let groups = groups_of_plain_sql(&app, edit).await;
        let groups: Vec<_> = groups.iter().map(String::as_str).collect();
        assert_eq!(groups, expected, "{edit}");
    }
}

#[tokio::test]
async fn a_replay_has_a_token_of_a_later_transaction_and_what_caches_do_not_see_has_none() {
    let app = app().await;
    let fields = [
        ("idempotency-key", "k"),
        ("content-type", "application/json"),
    ];
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let answer = app
            .send("POST", "/reviews", &fields, review().to_string())
            .await;
        let (xid, incarnation) = answer
            .field("cache-coherence-token")
            .split_once('@')
            .expect("number@incarnation");
        tokens.push((incarnation.to_owned(), xid.parse::<u64>().unwrap()));
    }
    assert!(tokens[0] < tokens[1], "{tokens:?}");
    let unseen = [
        app.post("/cart", &json!({ "sku_id": 1 })).await,
        app.post("/interactions", &interaction()).await,
        app.put("/reviews/777/helpful").await,
        app.get("/reviews?product_id=2").await,
    ];
    for answer in unseen {
        assert_eq!(answer.field("cache-coherence-token"), "", "{answer:?}");
    }
}

#[tokio::test]
async fn writes_that_no_cache_sees_append_nothing() {
    let app = app().await;
    app.post("/cart", &json!({ "sku_id": 1 }))
        .await
        .assert_created("");
    app.post("/interactions", &interaction())
        .await
        .assert_created("");
    for path in [
        "/reviews/777/helpful",
        "/reviews/777/report",
        "/qa/questions/777/report",
        "/qa/answers/777/helpful",
    ] {
        assert_eq!(app.put(path).await.status, 204);
    }
    app.post("/reviews", &json!({})).await;
    assert_eq!(app.outbox().await, Vec::<Vec<String>>::new());
}

#[tokio::test]
async fn a_second_report_changes_nothing_and_appends_nothing() {
    let app = app().await;
    for path in [
        "/reviews/5/report",
        "/qa/questions/50/report",
        "/qa/answers/75/report",
    ] {
        app.sql("truncate coherence.outbox").await;
        let first = app.put(path).await;
        let second = app.put(path).await;
        assert_eq!(
            second.field("cache-group-invalidation"),
            first.field("cache-group-invalidation")
        );
        assert_eq!(app.outbox().await.len(), 1, "{path}");
    }
}

#[tokio::test]
async fn a_mark_does_not_outlive_its_transaction() {
    let app = app().await;
    app.put("/reviews/5/helpful").await;
    // Whatever the connection did before: plain statements on it are told by the triggers.
    let mut conn = app.state.db.write().await.unwrap();
    static PLAIN: origin::database::Statement = origin::database::Statement::new(
        "test",
        "update shop.reviews set helpfulness = 0 where id = 5",
    );
    for _ in 0..8 {
        PLAIN.call().rows(&mut conn).await.unwrap();
    }
    assert_eq!(
        app.outbox().await.len(),
        2,
        "the vote, and the one update that changed something"
    );
}

#[tokio::test]
async fn meta_is_counted_once_by_a_write_and_once_by_plain_sql() {
    let app = app().await;
    app.post("/reviews", &review())
        .await
        .assert_created("/reviews/");
    app.sql(
        "insert into shop.reviews (product_id, rating, date, summary, body, recommend, reported, reviewer_name,
                                   reviewer_email, response, helpfulness)
         values (2, 4, now(), '', '', true, false, '', '', null, 0)",
    )
    .await;
    let meta = app.get("/reviews/meta?product_id=2").await.json();
    assert_eq!(meta["ratings"]["4"], "4");
    assert_eq!(meta["recommended"]["true"], "5");
}
