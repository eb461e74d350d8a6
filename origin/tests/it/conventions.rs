//! Sections 1.1, 1.7, 1.8 and 2.1 of the contract: what holds for every path.

use serde_json::json;

use crate::support::{TestApp, answer, fixture, interaction, question, review};

async fn app() -> TestApp {
    TestApp::start(&[
        fixture::ONE_PRODUCT_WITH_EVERYTHING,
        fixture::QUESTIONS_WITH_ANSWERS,
    ])
    .await
}

/// A path for each way to read.
const READS: [&str; 8] = [
    "/products",
    "/products/1",
    "/products/1/styles",
    "/products/1/related",
    "/reviews?product_id=1",
    "/reviews/meta?product_id=1",
    "/qa/questions?product_id=5",
    "/qa/questions/50/answers",
];

/// The same path with one slash more at its end.
fn with_slash(path: &str) -> String {
    match path.split_once('?') {
        Some((path, query)) => format!("{path}/?{query}"),
        None => format!("{path}/"),
    }
}

#[tokio::test]
async fn every_read_is_the_same_with_a_trailing_slash_or_repeated_slashes() {
    let app = app().await;
    for path in READS.into_iter().chain(["/cart"]) {
        let plain = app.get(path).await;
        assert_eq!(plain.status, 200, "{path}");
        for spelling in [
            with_slash(path),
            path.replace('/', "//"),
            format!("/{}", with_slash(path)),
        ] {
            let other = app.get(&spelling).await;
            assert_eq!(other.status, 200, "{spelling}");
            assert_eq!(other.body, plain.body, "{spelling}");
            assert_eq!(other.field("location"), "");
        }
    }
}

#[tokio::test]
async fn every_write_is_accepted_with_a_trailing_slash() {
    let app = app().await;
    let mut review = review();
    review["product_id"] = json!(1);
    for (path, body, location) in [
        ("/reviews/", review, "/reviews/"),
        ("/qa/questions/", question(), "/qa/questions/"),
        ("/qa/questions/50/answers/", answer(), "/qa/answers/"),
        ("/cart/", json!({ "sku_id": 37 }), ""),
        ("/interactions/", interaction(), ""),
    ] {
        app.post(path, &body).await.assert_created(location);
    }
    for path in [
        "/reviews/101/helpful/",
        "/reviews/101/report/",
        "/qa/questions/50/helpful/",
        "/qa/questions/50/report/",
        "/qa/answers/75/helpful/",
        "//qa//answers//75//report//",
    ] {
        let put = app.put(path).await;
        assert_eq!(put.status, 204, "{path}");
        assert_ne!(put.field("cache-group-invalidation"), "", "{path}");
    }
}

#[tokio::test]
async fn head_works_wherever_get_does_and_has_the_same_fields() {
    let app = app().await;
    let not_found = [
        "/products/777",
        "/products/abc",
        "/reviews",
        "/nowhere",
        "/cart",
    ];
    for path in READS.into_iter().chain(not_found) {
        let get = app.get(path).await;
        let head = app.send("HEAD", path, &[], "").await;
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        for field in [
            "content-type",
            "content-length",
            "etag",
            "cache-control",
            "cdn-cache-control",
            "cache-groups",
        ] {
            assert_eq!(head.field(field), get.field(field), "{field} of {path}");
        }
        assert_eq!(
            get.field("content-length"),
            get.body.len().to_string(),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_known_path_with_another_method_is_405_and_says_which_it_has() {
    let app = app().await;
    for (path, allowed) in [
        ("/products", "GET,HEAD"),
        ("/products/1", "GET,HEAD"),
        ("/products/1/styles/", "GET,HEAD"),
        ("/products/1/related", "GET,HEAD"),
        ("/reviews", "GET,HEAD,POST"),
        ("/reviews/meta", "GET,HEAD"),
        ("/reviews/5/helpful", "PUT"),
        ("/reviews/5/report", "PUT"),
        ("/qa/questions/", "GET,HEAD,POST"),
        ("/qa/questions/50/answers", "GET,HEAD,POST"),
        ("/qa/questions/50/helpful", "PUT"),
        ("/qa/questions/50/report", "PUT"),
        ("/qa/answers/75/helpful", "PUT"),
        ("/qa/answers/75/report", "PUT"),
        ("/cart", "GET,HEAD,POST"),
        ("/interactions", "POST"),
    ] {
        for method in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW",
        ] {
            if allowed.split(',').any(|other| other == method) {
                continue;
            }
            let refused = app.send(method, path, &[], "").await;
            if method != "HEAD" {
                refused.assert_problem(405, "method-not-allowed");
            }
            assert_eq!(refused.status, 405, "{method} {path}");
            assert_eq!(refused.field("allow"), allowed, "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_malformed_id_is_said_before_the_method_is() {
    let app = app().await;
    for (path, name) in [
        ("/products/abc", "product"),
        ("/qa/questions/0/answers", "question"),
        ("/qa/answers/x/helpful", "answer"),
        ("/reviews/05/report", "review"),
        ("/products/%ff", "product"),
    ] {
        let refused = app.send("DELETE", path, &[], "").await;
        refused.assert_text_error(404, &format!("Error: invalid {name} id provided"));
    }
}

#[tokio::test]
async fn an_unknown_path_is_404_and_paths_are_case_sensitive() {
    let app = app().await;
    for path in [
        "/",
        "/Products",
        "/PRODUCTS/1",
        "/products/1/Styles",
        "/reviews/1",
        "/reviews/meta/1",
        "/qa",
        "/qa/questions/5",
        "/qa/answers/75",
        "/products/1/styles/2",
        "/api/products",
        "/healthz",
        "/readyz",
        "/metrics",
        "/events",
        "/qa/question/5/helpful",
        "/.",
        "/products/../cart",
        "/products%2F1",
    ] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            app.send(method, path, &[], "")
                .await
                .assert_problem(404, "not-found");
        }
    }
}

#[tokio::test]
async fn a_path_and_query_that_are_too_long_are_414() {
    let app = app().await;
    let long = format!("/products?x={}", "y".repeat(9000));
    app.get(&long).await.assert_problem(414, "uri-too-long");
    let fits = format!("/products?x={}", "y".repeat(8000));
    assert_eq!(app.get(&fits).await.status, 200);
}

#[tokio::test]
async fn a_client_that_has_the_answer_gets_304_with_the_same_cache_fields() {
    let app = app().await;
    for path in READS {
        let full = app.get(path).await;
        let etag = full.field("etag").to_owned();
        for value in [
            etag.clone(),
            format!("W/{etag}"),
            format!("\"x\", {etag}"),
            "*".to_owned(),
        ] {
            for method in ["GET", "HEAD"] {
                let answer = app
                    .send(method, path, &[("if-none-match", &value)], "")
                    .await;
                assert_eq!(answer.status, 304, "{method} {path} {value}");
                assert!(answer.body.is_empty());
                for field in ["etag", "cache-control", "cdn-cache-control", "cache-groups"] {
                    assert_eq!(answer.field(field), full.field(field), "{field} of {path}");
                }
            }
        }
        let other = app
            .send("GET", path, &[("if-none-match", "\"x\"")], "")
            .await;
        assert_eq!(other.status, 200, "{path}");
        assert_eq!(other.body, full.body, "{path}");
    }
}

#[tokio::test]
async fn an_etag_follows_the_data() {
    let app = app().await;
    let before = app
        .get("/qa/questions/50/answers")
        .await
        .field("etag")
        .to_owned();
    assert_eq!(
        app.get("/qa/questions/50/answers").await.field("etag"),
        before
    );
    app.put("/qa/answers/75/helpful").await;
    let after = app
        .send(
            "GET",
            "/qa/questions/50/answers",
            &[("if-none-match", &before)],
            "",
        )
        .await;
    assert_eq!(after.status, 200);
    assert_ne!(after.field("etag"), before);
}

#[tokio::test]
async fn an_error_is_never_304_and_a_cart_has_no_etag() {
    let app = app().await;
    let unknown = app.get("/products/777").await;
    let again = app
        .send(
            "GET",
            "/products/777",
            &[("if-none-match", unknown.field("etag"))],
            "",
        )
        .await;
    again.assert_problem(404, "unknown-product");
    let cart = app
        .send("GET", "/cart", &[("if-none-match", "*")], "")
        .await;
    assert_eq!(cart.status, 200);
}

#[tokio::test]
async fn a_client_that_names_problems_gets_them_for_the_text_errors_too() {
    let app = app().await;
    let fields = [("accept", "application/problem+json, text/plain")];
    let invalid = app.send("GET", "/products/abc", &fields, "").await;
    invalid.assert_problem(404, "invalid-id");
    let product_id = app
        .send("GET", "/reviews?product_id=abc", &fields, "")
        .await;
    product_id.assert_problem(422, "invalid-product-id");
    assert_eq!(product_id.json()["errors"][0]["field"], "product_id");
    let body = app
        .send("POST", "/reviews", &fields, r#"{"rating":9,"body":" "}"#)
        .await;
    body.assert_problem(422, "invalid-body");
    let named: Vec<_> = body.json()["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["field"].clone())
        .collect();
    assert_eq!(
        named,
        ["product_id", "rating", "body", "recommend", "name", "email"]
    );
    for accept in [
        "*/*",
        "application/json",
        "text/html",
        "application/problem+json;q=0",
    ] {
        let text = app
            .send("GET", "/products/abc", &[("accept", accept)], "")
            .await;
        text.assert_text_error(404, "Error: invalid product id provided");
    }
}

#[tokio::test]
async fn a_request_id_is_passed_on_or_made() {
    let app = app().await;
    let passed = app
        .send("GET", "/cart", &[("x-request-id", "gw-01:abc/2")], "")
        .await;
    assert_eq!(passed.field("x-request-id"), "gw-01:abc/2");
    let one = app.get("/nowhere").await.field("x-request-id").to_owned();
    let other = app.get("/nowhere").await.field("x-request-id").to_owned();
    assert!(!one.is_empty() && one != other);
    for odd in ["", "a b", "a\"b", "a\tb", &"x".repeat(129)] {
        let answer = app.send("GET", "/cart", &[("x-request-id", odd)], "").await;
        assert_ne!(answer.field("x-request-id"), odd);
    }
}

#[tokio::test]
async fn unknown_query_parameters_are_ignored() {
    let app = app().await;
    for path in READS {
        let plain = app.get(path).await;
        let joint = if path.contains('?') { '&' } else { '?' };
        let odd = app.get(&format!("{path}{joint}utm=1&&=&%zz=%&x=%00")).await;
        assert_eq!(odd.body, plain.body, "{path}");
    }
}

#[tokio::test]
async fn the_authorization_of_a_read_changes_nothing() {
    let app = app().await;
    for path in READS {
        let plain = app.get(path).await;
        let token = app
            .send(
                "GET",
                path,
                &[("authorization", "Bearer any"), ("cookie", "a=b")],
                "",
            )
            .await;
        assert_eq!(token.body, plain.body, "{path}");
        assert_eq!(token.field("cache-groups"), plain.field("cache-groups"));
        assert_eq!(token.field("vary"), "");
    }
}
