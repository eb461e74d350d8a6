//! Conditions of clients, answered from what is stored (RFC 9110 13).

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit, get};

const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const MODIFIED_850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|request| match request.target.as_str() {
        "/weak" => Reply::fresh("body").header("ETag", "W/\"a\""),
        "/plain" => Reply::fresh("body"),
        "/gone" => Reply::new(404, "body")
            .header("Cache-Control", "max-age=60")
            .header("ETag", "\"a\""),
        _ => Reply::fresh("body")
            .header("ETag", "\"a\"")
            .header("Last-Modified", MODIFIED)
            .header("Expires", AFTER)
            .header("Content-Location", "/elsewhere")
            .header("Vary", "Accept-Language"),
    })
    .await
}

/// Each request gets this status, from the cache.
async fn assert_answers(cases: &[(Request, u16)]) {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for target in ["/page", "/weak", "/plain", "/gone"] {
        client.get(target).await;
    }
    for (request, status) in cases {
        let answer = client.send(request).await;
        assert_eq!(answer.status, *status, "{request:?}: {answer:#?}");
        assert_hit(&answer);
    }
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn entity_tags_compare_weakly_and_any_of_a_list_will_do() {
    let with = |target: &str, tags: &str| get(target).header("If-None-Match", tags);
    assert_answers(&[
        (with("/page", "\"a\""), 304),
        (with("/page", "W/\"a\""), 304),
        (with("/page", "\"x\" , W/\"a\",\"y\""), 304),
        (with("/page", "\"x\"").header("If-None-Match", "\"a\""), 304),
        (with("/page", "\"x,\\\"a\", \"y\""), 200),
        (with("/page", "a"), 200),
        (with("/page", "\"A\""), 200),
        (with("/weak", "\"a\""), 304),
        (with("/weak", "W/\"a\""), 304),
        (with("/plain", "\"a\""), 200),
    ])
    .await;
}

#[tokio::test]
async fn any_stored_answer_fits_a_star() {
    assert_answers(&[
        (get("/page").header("If-None-Match", "*"), 304),
        (get("/plain").header("If-None-Match", "*"), 304),
    ])
    .await;
}

#[tokio::test]
async fn a_date_counts_to_the_second_in_each_of_its_forms() {
    let since = |date: &str| get("/page").header("If-Modified-Since", date);
    assert_answers(&[
        (since(BEFORE), 200),
        (since(MODIFIED), 304),
        (since(MODIFIED_850), 304),
        (since(AFTER), 304),
        (since("no date"), 200),
    ])
    .await;
}

#[tokio::test]
async fn entity_tags_win_over_dates() {
    let both = |tag: &str, date: &str| {
        get("/page")
            .header("If-None-Match", tag)
            .header("If-Modified-Since", date)
    };
    assert_answers(&[
        (both("\"x\"", AFTER), 200),
        (both("\"a\"", BEFORE), 304),
        // Unreadable, and still there.
        (both("nonsense", AFTER), 200),
    ])
    .await;
}

#[tokio::test]
async fn conditions_are_for_answers_that_succeeded() {
    assert_answers(&[(get("/gone").header("If-None-Match", "\"a\""), 404)]).await;
}

#[tokio::test]
async fn a_condition_wins_over_a_range() {
    let ranged = |tag: &str| {
        get("/page")
            .header("If-None-Match", tag)
            .header("Range", "bytes=0-1")
    };
    assert_answers(&[(ranged("\"a\""), 304), (ranged("\"x\""), 206)]).await;
}

#[tokio::test]
async fn a_head_has_conditions_too() {
    let head = |tag: &str| Request::new("HEAD", "/page").header("If-None-Match", tag);
    assert_answers(&[(head("\"a\""), 304), (head("\"x\""), 200)]).await;
}

#[tokio::test]
async fn a_304_has_the_fields_that_a_cache_needs_and_no_length_of_a_body() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let answer = gateway
        .client()
        .send(&get("/page").header("If-None-Match", "\"a\""))
        .await;
    assert_eq!(answer.status, 304);
    for name in [
        "etag",
        "cache-control",
        "expires",
        "content-location",
        "vary",
        "date",
        "age",
    ] {
        assert!(answer.header(name).is_some(), "{name}: {answer:#?}");
    }
    assert_eq!(answer.header("content-length"), None, "{answer:#?}");
}

#[tokio::test]
async fn a_condition_on_the_present_state_is_the_origins_to_judge() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    for (name, value) in [("if-match", "\"a\""), ("if-unmodified-since", MODIFIED)] {
        let answer = client.send(&get("/page").header(name, value)).await;
        assert!(!answer.is_hit(), "{answer:#?}");
        assert!(
            answer
                .cache_status()
                .contains("fwd=bypass; detail=precondition"),
            "{answer:#?}"
        );
        assert_eq!(origin.last().header(name), Some(value));
    }
}
