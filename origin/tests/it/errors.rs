//! Hundreds of bad inputs: a clear error for each, never a 5xx, and nothing is written.

use serde_json::json;

use crate::{
    bad_values::{bad_fields, posts},
    support::{Answer, TestApp, answer, fixture, review},
};

async fn app() -> TestApp {
    TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        fixture::QUESTIONS_WITH_ANSWERS,
        "insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 5, '', 1, true);
         insert into shop.skus (id, style_id, size, quantity) values (1, 1, 'S', 1)",
    ])
    .await
}

fn assert_no_leak(answer: &Answer) {
    let text = format!(
        "{:?} {}",
        answer.headers,
        String::from_utf8_lossy(&answer.body)
    );
    for leak in [
        "postgres",
        "sqlx",
        "select",
        "insert",
        "constraint",
        "shop.",
        "panicked",
        "src/",
        "axum",
    ] {
        assert!(!text.to_lowercase().contains(leak), "{leak} in {text}");
    }
}

/// The number of rows of every table that requests write to.
async fn rows(app: &TestApp) -> String {
    app.value(
        "select concat_ws(' ', (select count(*) from shop.reviews), (select count(*) from shop.review_photos),
                (select count(*) from shop.characteristic_reviews), (select count(*) from shop.questions),
                (select count(*) from shop.answers), (select count(*) from shop.answer_photos),
                (select count(*) from service.cart_items), (select count(*) from service.interactions),
                (select count(*) from service.idempotency_keys), (select count(*) from coherence.outbox),
                (select string_agg(m::text, ';' order by m.product_id) from shop.review_meta m))",
    )
    .await
}

#[tokio::test]
async fn every_bad_field_is_422_text_and_named_in_the_problem_and_nothing_is_written() {
    let app = app().await;
    let before = rows(&app).await;
    let mut sent = 0;
    for (post, field, values) in bad_fields() {
        let (path, valid, name) = &posts()[post];
        for value in values {
            let mut body = valid.clone();
            body[field] = value;
            let refused = app.post(path, &body).await;
            refused.assert_text_error(422, &format!("Error: {name} body contains invalid entries"));
            let problem = app
                .send(
                    "POST",
                    path,
                    &[("accept", "application/problem+json")],
                    body.to_string(),
                )
                .await;
            problem.assert_problem(422, "invalid-body");
            let named = problem.json()["errors"][0]["field"]
                .as_str()
                .map(str::to_owned)
                .unwrap();
            // A NUL is found before fields are told apart.
            assert!(named == field || named == "body", "{field}: {named}");
            assert_no_leak(&refused);
            assert_no_leak(&problem);
            sent += 1;
        }
    }
    assert!(sent > 300, "{sent}");
    assert_eq!(rows(&app).await, before);
}

#[tokio::test]
async fn every_missing_required_field_is_422_text() {
    let app = app().await;
    let before = rows(&app).await;
    for (path, valid, name) in posts() {
        for field in valid.as_object().unwrap().keys() {
            if [
                "summary",
                "photos",
                "characteristics",
                "count",
                "user_token",
            ]
            .contains(&field.as_str())
            {
                continue;
            }
            let mut body = valid.clone();
            body.as_object_mut().unwrap().remove(field);
            let refused = app.post(path, &body).await;
            refused.assert_text_error(422, &format!("Error: {name} body contains invalid entries"));
        }
        for body in ["", "{}", "[]", "null", "5", "\"x\"", "true", "[{}]"] {
            let refused = app.send("POST", path, &[], body).await;
            refused.assert_text_error(422, &format!("Error: {name} body contains invalid entries"));
        }
    }
    assert_eq!(rows(&app).await, before);
}

#[tokio::test]
async fn every_body_that_is_not_json_is_400() {
    let app = app().await;
    let before = rows(&app).await;
    let bad: [&[u8]; 22] = [
        b"{",
        b"}",
        b"[",
        b"{]",
        b"{\"a\"}",
        b"{\"a\":}",
        b"{\"a\":1,}",
        b"{a:1}",
        b"{'a':1}",
        b"{\"a\":undefined}",
        b"{\"a\":NaN}",
        b"{\"a\":01}",
        b"{\"a\":1}{}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\\q\"}",
        b"{\"a\":\"\xff\"}",
        b"\xff\xfe{}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\udc00x\"}",
        b"{\"\\ud800\":1}",
        b"body=x&name=y",
        b"<xml/>",
    ];
    for (path, ..) in posts() {
        for body in bad {
            let refused = app.send("POST", path, &[], body.to_vec()).await;
            refused.assert_problem(400, "malformed-request");
            assert_no_leak(&refused);
        }
        // A NUL byte itself is no JSON; its escape is, and invalid.
        let refused = app.send("POST", path, &[], &b"{\"a\":\"\0\"}"[..]).await;
        refused.assert_problem(400, "malformed-request");
        let refused = app.send("POST", path, &[], r#"{"unknown":"\u0000"}"#).await;
        assert_eq!(refused.status, 422);
        let refused = app.send("POST", path, &[], r#"{"\u0000":1}"#).await;
        assert_eq!(refused.status, 422);
    }
    assert_eq!(rows(&app).await, before);
}

#[tokio::test]
async fn unknown_fields_of_any_kind_are_ignored() {
    let app = app().await;
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for (path, valid, _) in posts() {
        let text = valid.to_string();
        let fields = &text[1..];
        for unknown in [
            r#""unknown":null"#.to_owned(),
            r#""":{}"#.to_owned(),
            r#""__proto__":{"a":1}"#.to_owned(),
            format!(r#""deep":{deep}"#),
            r#""number":1e999"#.to_owned(),
            r#""pair":"\ud83d\ude00""#.to_owned(),
        ] {
            let body = format!("{{{unknown},{fields}");
            let answer = app.send("POST", path, &[], body).await;
            assert_eq!(
                answer.status,
                201,
                "{path} {}",
                &unknown[..unknown.len().min(30)]
            );
        }
    }
}

#[tokio::test]
async fn of_a_repeated_field_the_last_counts() {
    let app = app().await;
    let valid = review().to_string();
    let last_is_bad = format!(r#"{},"rating":9}}"#, &valid[..valid.len() - 1]);
    app.send("POST", "/reviews", &[], last_is_bad)
        .await
        .assert_text_error(422, "Error: Review body contains invalid entries");
    let last_is_good = format!(r#"{{"rating":9,{}"#, &valid[1..]);
    app.send("POST", "/reviews", &[], last_is_good)
        .await
        .assert_created("/reviews/");
}

#[tokio::test]
async fn deep_nesting_in_a_known_field_is_422_and_no_crash() {
    let app = app().await;
    let deep = format!("{}{}", "[".repeat(30_000), "]".repeat(30_000));
    for (post, field, _) in bad_fields() {
        let (path, valid, name) = &posts()[post];
        let mut body = valid.clone();
        body[field] = json!("REPLACED");
        let text = body.to_string().replace("\"REPLACED\"", &deep);
        let refused = app.send("POST", path, &[], text).await;
        refused.assert_text_error(422, &format!("Error: {name} body contains invalid entries"));
    }
    assert_eq!(app.get("/products").await.status, 200);
}

#[tokio::test]
async fn no_spelling_of_an_id_is_a_5xx_or_wrongly_accepted() {
    let app = app().await;
    let before = rows(&app).await;
    for id in [
        "hello",
        "5.55",
        "null",
        "0",
        "-1",
        "05",
        "+5",
        "2undefined",
        "%00",
        "%ff",
        "%C0%80",
        "1%00",
        "1%0a",
        "1;drop",
        "1'--",
        "1,2",
        "0x1",
        "1e1",
        "%EF%BC%91",
        "true",
        "NaN",
        "Infinity",
        "[1]",
        "%7B%7D",
        "*",
        "1%252f",
        "--",
        "%",
        "%2",
        "%zz",
        "~",
        "1_000",
    ] {
        for (path, name) in [
            (format!("/products/{id}"), "product"),
            (format!("/products/{id}/styles"), "product"),
            (format!("/products/{id}/related"), "product"),
            (format!("/qa/questions/{id}/answers"), "question"),
        ] {
            let refused = app.get(&path).await;
            refused.assert_text_error(404, &format!("Error: invalid {name} id provided"));
        }
        for (path, name) in [
            (format!("/reviews/{id}/helpful"), "review"),
            (format!("/reviews/{id}/report"), "review"),
            (format!("/qa/questions/{id}/helpful"), "question"),
            (format!("/qa/questions/{id}/report"), "question"),
            (format!("/qa/answers/{id}/helpful"), "answer"),
            (format!("/qa/answers/{id}/report"), "answer"),
        ] {
            let refused = app.put(&path).await;
            refused.assert_text_error(404, &format!("Error: invalid {name} id provided"));
        }
        for path in ["/reviews", "/reviews/meta", "/qa/questions"] {
            let refused = app.get(&format!("{path}?product_id={id}")).await;
            refused.assert_text_error(422, "Error: invalid product_id provided");
        }
    }
    assert_eq!(rows(&app).await, before);
}

#[tokio::test]
async fn checks_come_in_the_contracts_order() {
    let app = app().await;
    let large = "x".repeat(1024 * 1024 + 1);
    let html = ("content-type", "text/html");
    let bad_key = ("idempotency-key", "");
    // Path before method before size before type before syntax before contents before what it refers to.
    app.send("POST", "/nowhere", &[html], large.clone())
        .await
        .assert_problem(404, "not-found");
    let text = "Error: invalid question id provided";
    app.send("POST", "/qa/questions/x/answers", &[html], large.clone())
        .await
        .assert_text_error(404, text);
    app.send("DELETE", "/reviews", &[html], large.clone())
        .await
        .assert_problem(405, "method-not-allowed");
    app.send("POST", "/reviews", &[html, bad_key], large)
        .await
        .assert_problem(413, "too-large");
    app.send("POST", "/reviews", &[html, bad_key], "{")
        .await
        .assert_problem(415, "unsupported-media-type");
    app.send("POST", "/reviews", &[bad_key], "{}")
        .await
        .assert_problem(400, "malformed-request");
    app.send("POST", "/qa/questions/777/answers", &[], "{")
        .await
        .assert_problem(400, "malformed-request");
    let text = "Error: Answer body contains invalid entries";
    app.send("POST", "/qa/questions/777/answers", &[], "{}")
        .await
        .assert_text_error(422, text);
    app.post("/qa/questions/777/answers", &answer())
        .await
        .assert_problem(404, "unknown-question");
}

#[tokio::test]
async fn sql_in_any_text_is_text() {
    let app = app().await;
    let injection = "'); drop table shop.reviews; --";
    let mut body = review();
    for field in ["summary", "body", "name", "email"] {
        body[field] = json!(injection);
    }
    body["photos"] = json!([injection, "{\"a\",NULL}", "\\"]);
    app.post("/reviews", &body)
        .await
        .assert_created("/reviews/");
    let newest = app
        .get("/reviews?product_id=2&sort=newest&count=1")
        .await
        .json();
    assert_eq!(newest["results"][0]["body"], injection);
    assert_eq!(newest["results"][0]["photos"][1]["url"], "{\"a\",NULL}");
    let odd = app
        .get("/reviews?product_id=2&sort=newest;drop%20table%20shop.reviews")
        .await;
    assert_eq!(odd.status, 200);
}

#[tokio::test]
async fn the_services_role_cannot_change_the_schema() {
    let app = app().await;
    let mut conn = app.state.db.write().await.unwrap();
    static STATEMENTS: [origin::database::Statement; 6] = [
        origin::database::Statement::new("t1", "create table shop.x (a int)"),
        origin::database::Statement::new("t2", "drop table shop.reviews"),
        origin::database::Statement::new("t3", "truncate shop.reviews"),
        origin::database::Statement::new("t4", "alter table shop.reviews add column x int"),
        origin::database::Statement::new("t5", "delete from coherence.outbox"),
        origin::database::Statement::new("t6", "create schema x"),
    ];
    for statement in &STATEMENTS {
        assert!(
            statement.call().rows(&mut conn).await.is_err(),
            "{}",
            statement.sql
        );
    }
}
