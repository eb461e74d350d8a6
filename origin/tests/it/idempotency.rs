//! Section 1.6 of the contract: a POST that is sent again does nothing again.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, answer, execute, fixture, interaction, question, review};

const KEY: &str = "idempotency-key";

async fn app() -> TestApp {
    TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        "insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 5, '', 1, true);
         insert into shop.skus (id, style_id, size, quantity) values (1, 1, 'S', 1)",
    ])
    .await
}

async fn post(app: &TestApp, path: &str, key: &str, body: &Value) -> Answer {
    app.send("POST", path, &[(KEY, key)], body.to_string())
        .await
}

#[tokio::test]
async fn every_post_replays_its_first_answer() {
    let app = app().await;
    for (path, body, table) in [
        ("/reviews", review(), "shop.reviews"),
        ("/qa/questions", question(), "shop.questions"),
        ("/qa/questions/50/answers", answer(), "shop.answers"),
        (
            "/cart?user_token=t",
            json!({ "sku_id": 1, "count": 3 }),
            "service.cart_items",
        ),
        ("/interactions", interaction(), "service.interactions"),
    ] {
        let before = app.count(table).await;
        let first = post(&app, path, "k1", &body).await;
        assert_eq!(first.status, 201, "{path}");
        assert_eq!(first.field("idempotency-replayed"), "");
        for _ in 0..3 {
            let again = post(&app, path, "k1", &body).await;
            assert_eq!(again.status, 201, "{path}");
            assert_eq!(again.body, first.body);
            assert_eq!(again.field("location"), first.field("location"));
            assert_eq!(
                again.field("cache-group-invalidation"),
                first.field("cache-group-invalidation")
            );
            assert_eq!(again.field("idempotency-replayed"), "true");
        }
        assert_eq!(app.count(table).await, before + 1, "{path}");
    }
    assert_eq!(
        app.value::<i32>("select count from service.cart_items")
            .await,
        3
    );
}

#[tokio::test]
async fn a_replay_appends_nothing_to_the_outbox() {
    let app = app().await;
    for _ in 0..3 {
        post(&app, "/reviews", "k", &review())
            .await
            .assert_created("/reviews/");
    }
    assert_eq!(
        app.outbox().await,
        [["product-2-reviews", "product-2-meta"]]
    );
}

#[tokio::test]
async fn the_same_key_with_another_body_is_422() {
    let app = app().await;
    post(&app, "/reviews", "k", &review())
        .await
        .assert_created("/reviews/");
    let mut other = review();
    other["rating"] = json!(1);
    let refused = post(&app, "/reviews", "k", &other).await;
    refused.assert_problem(422, "idempotency-key-reused");
    assert_eq!(refused.json()["errors"][0]["field"], "Idempotency-Key");
    // The same object, spelled otherwise, is another body.
    let spaced = format!(" {}", review());
    let refused = app.send("POST", "/reviews", &[(KEY, "k")], spaced).await;
    refused.assert_problem(422, "idempotency-key-reused");
    assert_eq!(app.count("shop.reviews").await, 8);
}

#[tokio::test]
async fn a_hundred_repeats_at_once_make_one_row() {
    let app = app().await;
    let body = review();
    let answers = join_all((0..100).map(|_| post(&app, "/reviews", "k", &body))).await;
    let created: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .collect();
    assert!(!created.is_empty());
    for answer in &answers {
        match answer.status.as_u16() {
            201 => assert_eq!(answer.field("location"), created[0].field("location")),
            409 => {
                answer.assert_problem(409, "idempotency-in-progress");
                assert_eq!(answer.field("retry-after"), "1");
            }
            status => panic!("{status}: {answer:?}"),
        }
    }
    let first = created
        .iter()
        .filter(|answer| answer.field("idempotency-replayed").is_empty());
    assert_eq!(first.count(), 1);
    assert_eq!(app.count("shop.reviews").await, 8);
    assert_eq!(app.count("service.idempotency_keys").await, 1);
    assert_eq!(app.outbox().await.len(), 1);
}

#[tokio::test]
async fn while_the_first_request_is_running_a_second_is_409() {
    let app = app().await;
    let mut owner = app.owner().await;
    // The first request passes the gate, and waits for this row.
    execute(
        &mut owner,
        "begin; update shop.review_meta set ratings = ratings where product_id = 2",
    )
    .await;
    let body = review();
    let first = async { post(&app, "/reviews", "k", &body).await };
    let second = async {
        TestApp::until("the first request waits", async || {
            app.value::<i64>("select count(*) from pg_locks where not granted")
                .await
                > 0
        })
        .await;
        let refused = post(&app, "/reviews", "k", &body).await;
        refused.assert_problem(409, "idempotency-in-progress");
        assert_eq!(refused.field("retry-after"), "1");
        execute(&mut owner, "commit").await;
    };
    let (first, ()) = tokio::join!(first, second);
    first.assert_created("/reviews/");
    let replayed = post(&app, "/reviews", "k", &body).await;
    assert_eq!(replayed.field("idempotency-replayed"), "true");
    assert_eq!(app.count("shop.reviews").await, 8);
}

#[tokio::test]
async fn a_key_belongs_to_its_path_and_token() {
    let app = app().await;
    let body = answer().to_string();
    let mut locations = std::collections::BTreeSet::new();
    for (path, fields) in [
        ("/qa/questions/50/answers", vec![(KEY, "k")]),
        ("/qa/questions/51/answers", vec![(KEY, "k")]),
        (
            "/qa/questions/50/answers",
            vec![(KEY, "k"), ("authorization", "a")],
        ),
        (
            "/qa/questions/50/answers",
            vec![(KEY, "k"), ("authorization", "b")],
        ),
        ("/qa/questions/50/answers", vec![(KEY, "l")]),
    ] {
        let answer = app.send("POST", path, &fields, body.clone()).await;
        answer.assert_created("/qa/answers/");
        assert_eq!(answer.field("idempotency-replayed"), "");
        locations.insert(answer.field("location").to_owned());
    }
    assert_eq!(locations.len(), 5);
    // All spellings of a path and of a token are one.
    for (path, fields) in [
        ("/qa/questions/50/answers/", vec![(KEY, "k")]),
        (
            "//qa/questions/50//answers?x=1",
            vec![(KEY, "k"), ("authorization", "Bearer a")],
        ),
    ] {
        let replayed = app.send("POST", path, &fields, body.clone()).await;
        assert_eq!(replayed.field("idempotency-replayed"), "true", "{path}");
    }
}

#[tokio::test]
async fn on_a_cart_a_key_belongs_to_the_identity_and_counts_for_nothing_without_one() {
    let app = app().await;
    for token in ["a", "b"] {
        for _ in 0..2 {
            let body = json!({ "sku_id": 1, "user_token": token });
            post(&app, "/cart", "k", &body).await.assert_created("");
        }
    }
    assert_eq!(app.count("service.cart_items").await, 2);
    assert_eq!(
        app.value::<i64>("select sum(count) from service.cart_items")
            .await,
        2
    );
    for _ in 0..2 {
        let anonymous = post(&app, "/cart", "k", &json!({ "sku_id": 1 })).await;
        anonymous.assert_created("");
        assert_eq!(anonymous.field("idempotency-replayed"), "");
    }
    assert_eq!(app.count("service.cart_items").await, 4);
}

#[tokio::test]
async fn errors_are_not_stored() {
    let app = app().await;
    let mut body = review();
    body["product_id"] = json!(777);
    let refused = post(&app, "/reviews", "k", &body).await;
    refused.assert_text_error(422, "Error: Review body contains invalid entries");
    app.sql("insert into shop.products (id, name, slogan, description, category, default_price) values (777, '', '', '', '', 1)")
        .await;
    let accepted = post(&app, "/reviews", "k", &body).await;
    accepted.assert_created("/reviews/");
    assert_eq!(accepted.field("idempotency-replayed"), "");
    let unknown = post(&app, "/qa/questions/777/answers", "k", &answer()).await;
    unknown.assert_problem(404, "unknown-question");
    assert_eq!(app.count("service.idempotency_keys").await, 1);
}

#[tokio::test]
async fn a_key_counts_for_24_hours() {
    let app = app().await;
    let first = post(&app, "/reviews", "k", &review()).await;
    app.sql(
        "update service.idempotency_keys set created_at = now() - interval '23 hours 59 minutes'",
    )
    .await;
    let replayed = post(&app, "/reviews", "k", &review()).await;
    assert_eq!(replayed.field("location"), first.field("location"));
    app.sql(
        "update service.idempotency_keys set created_at = now() - interval '24 hours 1 minute'",
    )
    .await;
    let anew = post(&app, "/reviews", "k", &question()).await;
    anew.assert_text_error(422, "Error: Review body contains invalid entries");
    let anew = post(&app, "/reviews", "k", &review()).await;
    anew.assert_created("/reviews/");
    assert_ne!(anew.field("location"), first.field("location"));
    assert_eq!(anew.field("idempotency-replayed"), "");
    let again = post(&app, "/reviews", "k", &review()).await;
    assert_eq!(again.field("location"), anew.field("location"));
}

#[tokio::test]
async fn a_malformed_key_is_400() {
    let app = app().await;
    let long = "k".repeat(256);
    for key in ["", "a b", "a\tb", &long] {
        let refused = post(&app, "/reviews", key, &review()).await;
        refused.assert_problem(400, "malformed-request");
    }
    let body = review().to_string();
    let twice = app
        .send("POST", "/reviews", &[(KEY, "a"), (KEY, "b")], body)
        .await;
    twice.assert_problem(400, "malformed-request");
    let longest = "k".repeat(255);
    post(&app, "/reviews", &longest, &review())
        .await
        .assert_created("/reviews/");
    assert_eq!(app.count("shop.reviews").await, 8);
}

#[tokio::test]
async fn neither_key_nor_body_is_stored_but_their_digests() {
    let app = app().await;
    post(&app, "/reviews", "secret-key", &review())
        .await
        .assert_created("/reviews/");
    let row: String = app
        .value("select k::text from service.idempotency_keys k")
        .await;
    assert!(!row.contains("secret") && !row.contains("maria"), "{row}");
    let hex: String = app.value("select encode('secret-key', 'hex')").await;
    assert!(!row.contains(&hex), "{row}");
}

#[tokio::test]
async fn a_key_on_a_put_is_ignored() {
    let app = app().await;
    for _ in 0..2 {
        let vote = app
            .send("PUT", "/reviews/5/helpful", &[(KEY, "k")], "")
            .await;
        assert_eq!(vote.status, 204);
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 5")
            .await,
        7
    );
}
