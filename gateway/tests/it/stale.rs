//! What is stale is served only where the origin allowed it, only in its window, and never after a purge.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{FakeOrigin, Gate, Gateway, Reply, assert_hit, assert_problem, get, until};

/// Stale on arrival by one second, with this window.
fn stale(body: &'static str, window: &str) -> Reply {
    Reply::new(200, body)
        .header("Cache-Control", &format!("max-age=60, {window}"))
        .header("Age", "61")
}

/// An origin that answers well once, then as told.
async fn good_once(then: impl Fn() -> Reply + Send + Sync + 'static) -> FakeOrigin {
    let asked = AtomicUsize::new(0);
    FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stale("good", "stale-if-error=3600"),
        _ => then(),
    })
    .await
}

async fn assert_serves_stale(gateway: &Gateway) {
    for _ in 0..3 {
        let answer = gateway.client().get("/page").await;
        assert_hit(&answer);
        assert_eq!((answer.status, answer.text()), (200, "good"), "{answer:#?}");
        assert!(
            answer.cache_status().contains("detail=stale-if-error"),
            "{answer:#?}"
        );
        assert_ne!(
            answer.header("age"),
            Some("60"),
            "it is older than its lifetime: {answer:#?}"
        );
    }
}

#[tokio::test]
async fn a_server_error_is_covered_by_what_is_kept() {
    for status in [500, 502, 503, 504] {
        let origin = good_once(move || Reply::new(status, "down")).await;
        let gateway = Gateway::general(&[&origin]).await;
        assert!(!gateway.client().get("/page").await.is_hit());
        assert_serves_stale(&gateway).await;
    }
}

#[tokio::test]
async fn a_dead_origin_is_covered_by_what_is_kept() {
    let origin = good_once(|| Reply::new(500, "unused")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    origin.stop().await;
    assert_serves_stale(&gateway).await;
    assert_problem(&gateway.client().get("/unknown").await, 503);
}

#[tokio::test]
async fn a_broken_answer_is_covered_by_what_is_kept() {
    let origin = good_once(Reply::hang_up).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    assert_serves_stale(&gateway).await;
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_covered_by_what_is_kept() {
    let never = Gate::closed();
    let origin = good_once(move || Reply::new(200, "too late").held(&never)).await;
    let gateway = Gateway::with(&[&origin], "[upstream]\nread_timeout = \"150ms\"").await;
    gateway.client().get("/page").await;
    assert_serves_stale(&gateway).await;
}

#[tokio::test]
async fn a_client_error_is_news_and_not_covered() {
    let origin = good_once(|| Reply::new(404, "gone").header("Cache-Control", "no-store")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    assert_eq!(gateway.client().get("/page").await.status, 404);
}

#[tokio::test]
async fn an_answer_that_must_be_validated_is_never_served_stale() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stale("good", "must-revalidate, stale-if-error=3600").header("ETag", "\"v\""),
        _ => Reply::new(503, "down"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    assert_eq!(gateway.client().get("/page").await.status, 503);
}

#[tokio::test]
async fn a_fresh_answer_of_the_shop_outlives_its_origin_and_a_purge_ends_that() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["products"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    gateway.client().get("/products").await;
    origin.stop().await;
    assert_hit(&gateway.client().get("/products").await);
    gateway.purge(json!({ "tags": ["products"] })).await;
    assert_problem(&gateway.client().get("/products").await, 503);
}

#[tokio::test]
async fn nothing_purged_is_served_stale_for_an_error() {
    let origin = good_once(|| Reply::new(503, "down")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    assert_serves_stale(&gateway).await;
    gateway.purge(json!({ "urls": ["/page"] })).await;
    assert_eq!(gateway.client().get("/page").await.status, 503);
}

#[tokio::test]
async fn nothing_is_served_stale_for_an_error_beyond_its_window() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "good").header("Cache-Control", "max-age=1, stale-if-error=1"),
        _ => Reply::new(503, "down"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let asked_at = Instant::now();
    gateway.client().get("/page").await;
    gateway.becomes("/page", "fetch").await;
    assert_hit(&gateway.client().get("/page").await);
    until("its window is over", || async {
        gateway.client().get("/page").await.status == 503
    })
    .await;
    assert!(asked_at.elapsed() >= Duration::from_secs(2));
}

#[tokio::test]
async fn while_one_refresh_runs_everybody_else_is_served_at_once() {
    let gate = Gate::closed();
    let (held, asked) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stale("old", "stale-while-revalidate=3600"),
        _ => Reply::fresh("new").held(&held),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    for _ in 0..50 {
        let answer = client.get("/page").await;
        assert_hit(&answer);
        assert_eq!(answer.text(), "old");
        assert!(
            answer
                .cache_status()
                .contains("detail=stale-while-revalidate"),
            "{answer:#?}"
        );
    }
    gate.reached(1).await;
    assert_eq!(origin.count(), 2, "one refresh for all of them");
    gate.open();
    until("the refresh is kept", || async {
        client.get("/page").await.text() == "new"
    })
    .await;
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_refresh_that_fails_leaves_the_stale_answer_and_the_next_request_begins_another() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stale("old", "stale-while-revalidate=3600"),
        1 => Reply::new(503, "down"),
        2 => Reply::hang_up(),
        _ => Reply::fresh("new"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    until("a refresh is answered well", || async {
        let answer = client.get("/page").await;
        assert_hit(&answer);
        answer.text() == "new"
    })
    .await;
    assert_eq!(origin.count(), 4);
}

#[tokio::test]
async fn what_must_be_validated_is_not_served_while_a_refresh_runs() {
    for forbidding in ["must-revalidate", "proxy-revalidate", "no-cache"] {
        let asked = AtomicUsize::new(0);
        let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => stale("old", &format!("stale-while-revalidate=3600, {forbidding}")),
            _ => Reply::fresh("new"),
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        gateway.client().get("/page").await;
        let answer = gateway.client().get("/page").await;
        assert_eq!(answer.text(), "new", "{forbidding}");
    }
}

#[tokio::test]
async fn a_refresh_carries_nobodys_credentials_and_no_body() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "old")
            .header(
                "CDN-Cache-Control",
                "public, max-age=60, stale-while-revalidate=3600",
            )
            .header("Age", "61"),
        _ => Reply::public("new", &["g"]),
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    client.get("/products").await;
    let odd = get("/api/products/")
        .header("Cookie", "id=1")
        .header("Authorization", "t")
        .body("fat");
    assert_eq!(client.send(&odd).await.text(), "old");
    until("the refresh is kept", || async {
        client.get("/products").await.text() == "new"
    })
    .await;
    let received = origin.last();
    assert_eq!(
        (received.target.as_str(), received.body.len()),
        ("/products?page=1&count=5", 0)
    );
    for field in ["cookie", "authorization", "transfer-encoding"] {
        assert_eq!(received.header(field), None, "{received:#?}");
    }
    assert!(
        matches!(received.header("content-length"), None | Some("0")),
        "{received:#?}"
    );
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn where_no_routes_are_configured_a_refresh_carries_nobodys_credentials_either() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => stale("old", "public, stale-while-revalidate=3600"),
        _ => Reply::fresh("new"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let signed_in = get("/page")
        .header("Authorization", "Bearer t")
        .header("Cookie", "id=1");
    assert_eq!(client.send(&signed_in).await.text(), "old");
    assert_eq!(origin.last().header("authorization"), Some("Bearer t"));
    assert_eq!(client.send(&signed_in).await.text(), "old");
    until("the refresh is kept", || async {
        client.get("/page").await.text() == "new"
    })
    .await;
    let refresh = origin.last();
    for field in ["cookie", "authorization"] {
        assert_eq!(refresh.header(field), None, "{refresh:#?}");
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn what_was_chosen_by_a_clients_credentials_is_validated_with_them() {
    for field in ["cookie", "authorization"] {
        let asked = AtomicUsize::new(0);
        let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0 => stale("old", "public, stale-while-revalidate=3600").header("Vary", field),
            _ => Reply::fresh("new").header("Vary", field),
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        let known = get("/page").header(field, "a");
        gateway.client().send(&known).await;
        let answer = gateway.client().send(&known).await;
        assert_eq!(answer.text(), "new", "{field}: {answer:#?}");
        assert_eq!(origin.last().header(field), Some("a"));
        assert_eq!(origin.count(), 2);
    }
}

#[tokio::test]
async fn beyond_its_window_a_stale_answer_is_waited_for() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "old").header("Cache-Control", "max-age=1, stale-while-revalidate=1"),
        _ => Reply::fresh("new"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    gateway.becomes("/page", "stale-while-revalidate").await;
    gateway.becomes("/page", "fetch").await;
    assert_eq!(gateway.client().get("/page").await.text(), "new");
}

#[tokio::test]
async fn a_validated_answer_is_fresh_again_and_shows_its_new_fields() {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "same")
            .header("Cache-Control", "max-age=0")
            .header("ETag", "\"v\""),
        _ => Reply::new(304, "")
            .header("Cache-Control", "max-age=3600")
            .header("ETag", "\"v\""),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    let validated = client.get("/page").await;
    assert_eq!((validated.status, validated.text()), (200, "same"));
    assert!(
        validated
            .cache_status()
            .contains("fwd=stale; fwd-status=304"),
        "{validated:#?}"
    );
    assert_eq!(origin.last().header("if-none-match"), Some("\"v\""));
    let hit = client.get("/page").await;
    assert_hit(&hit);
    assert_eq!(
        (hit.text(), hit.header("cache-control")),
        ("same", Some("max-age=3600"))
    );
    assert_eq!(origin.count(), 2);
}

/// What a stale answer with this control field gives when the origin then does that.
async fn stale_answer(control: &'static str, then: fn() -> Reply) -> u16 {
    let asked = AtomicUsize::new(0);
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "good")
            .header("Cache-Control", control)
            .header("ETag", "\"v\"")
            .header("Age", "61"),
        _ => then(),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    gateway.client().get("/page").await.status
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_covered_unless_that_is_forbidden() {
    assert_eq!(stale_answer("max-age=60", Reply::hang_up).await, 200);
    for forbidden in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "max-age=60, no-cache",
        "s-maxage=60",
    ] {
        assert_eq!(
            stale_answer(forbidden, Reply::hang_up).await,
            502,
            "{forbidden}"
        );
    }
}

#[tokio::test]
async fn an_error_that_the_origin_answers_is_covered_only_where_it_was_granted() {
    let error = || Reply::new(503, "down");
    assert_eq!(stale_answer("max-age=60", error).await, 503);
    assert_eq!(
        stale_answer("max-age=60, stale-if-error=60", error).await,
        200
    );
}

#[tokio::test]
async fn a_request_that_no_origin_takes_is_covered_by_what_is_stale() {
    let never = Gate::closed();
    let held = never.clone();
    let origin = FakeOrigin::start(move |request| match request.target.as_str() {
        "/slow" => Reply::new(200, "slow").held(&held),
        _ => Reply::new(200, "good")
            .header("Cache-Control", "max-age=60")
            .header("ETag", "\"v\"")
            .header("Age", "61"),
    })
    .await;
    let gateway = Gateway::with(&[&origin], "upstream.in_flight_max = 1").await;
    gateway.client().get("/page").await;
    let mut slow = gateway.client().connect().await;
    slow.write(&get("/slow")).await;
    never.reached(1).await;
    let answer = gateway.client().get("/page").await;
    assert_hit(&answer);
    assert_eq!(answer.text(), "good");
    assert_problem(&gateway.client().get("/unknown").await, 503);
    never.open();
}

#[tokio::test]
async fn a_connection_that_ends_after_a_stale_answer_says_so() {
    for (then, connection) in [
        (Reply::hang_up as fn() -> Reply, "close"),
        (|| Reply::new(503, "down"), "keep-alive"),
    ] {
        let origin = good_once(then).await;
        let gateway = Gateway::general(&[&origin]).await;
        let mut client = gateway.client().connect().await;
        client.send(&get("/page")).await;
        let answer = client.send(&get("/page")).await;
        assert_hit(&answer);
        assert_eq!(answer.header("connection"), Some(connection), "{answer:#?}");
        match connection {
            "close" => assert!(client.is_closed().await),
            _ => assert_hit(&client.send(&get("/page")).await),
        }
    }
}
