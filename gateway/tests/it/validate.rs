//! A 304 of the origin updates what is stored, if it is about the same (RFC 9111 3.2, 4.3.4).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_hit, assert_miss, get};

const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const LATER: &str = "Mon, 07 Nov 1994 10:00:00 GMT";

/// An origin whose first answer is stale at once and whose others are these.
async fn stale_then(first: Reply, then: Reply) -> FakeOrigin {
    let asked = AtomicUsize::new(0);
    let first = first.header("Cache-Control", "max-age=0");
    FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => first.clone(),
        _ => then.clone(),
    })
    .await
}

fn tagged() -> Reply {
    Reply::new(200, "body").header("ETag", "\"a\"")
}

fn same() -> Reply {
    Reply::new(304, "")
        .header("ETag", "\"a\"")
        .header("Cache-Control", "max-age=60")
}

#[tokio::test]
async fn every_field_of_a_304_is_taken_over_but_those_of_the_stored_bytes() {
    let origin = stale_then(
        tagged()
            .header("Date", THEN)
            .header("X-Old", "kept")
            .header("X-New", "1")
            .header("X-New", "2")
            .header("Content-Type", "text/plain"),
        same()
            .header("Date", LATER)
            .header("X-New", "3")
            .header("Content-Type", "text/html")
            .header("Content-Encoding", "br")
            .header("Content-MD5", "x")
            .header("Connection", "x-bound")
            .header("X-Bound", "1"),
    )
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let answer = gateway.client().get("/page").await;
    assert_eq!((answer.status, answer.text()), (200, "body"), "{answer:#?}");
    let lines: Vec<&str> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "x-new")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(lines, ["3"]);
    for (name, value) in [
        ("date", Some(LATER)),
        ("x-old", Some("kept")),
        ("content-type", Some("text/html")),
        ("cache-control", Some("max-age=60")),
        ("content-length", Some("4")),
        ("content-encoding", None),
        ("content-md5", None),
        ("x-bound", None),
    ] {
        assert_eq!(answer.header(name), value, "{name}: {answer:#?}");
    }
}

#[tokio::test]
async fn a_validated_answer_is_as_old_as_its_validation_says() {
    let origin = stale_then(tagged(), same().header("Age", "20")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    gateway.client().get("/page").await;
    let hit = gateway.client().get("/page").await;
    assert_hit(&hit);
    let age: u32 = hit.header("age").unwrap_or_default().parse().unwrap_or(0);
    assert!((20..60).contains(&age), "{hit:#?}");
}

#[tokio::test]
async fn a_304_about_something_else_answers_once_and_the_next_answer_comes_whole() {
    let other = |name: &str, value: &str| {
        Reply::new(304, "")
            .header("Cache-Control", "max-age=60")
            .header("X-New", "1")
            .header(name, value)
    };
    for (then, detail) in [
        (other("ETag", "\"b\""), "validator-changed"),
        (other("Vary", "Accept-Language"), "vary-changed"),
    ] {
        let asked = AtomicUsize::new(0);
        let origin = FakeOrigin::start(move |request| {
            let asked = asked.fetch_add(1, Ordering::SeqCst);
            match (asked, request.header("if-none-match")) {
                (0, _) => tagged().header("Cache-Control", "max-age=0"),
                (_, Some(_)) => then.clone(),
                (_, None) => Reply::fresh("whole"),
            }
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        gateway.client().get("/page").await;
        let answer = gateway.client().get("/page").await;
        assert_eq!((answer.status, answer.text()), (200, "body"), "{answer:#?}");
        assert_eq!(answer.header("etag"), Some("\"a\""), "{answer:#?}");
        assert_eq!(answer.header("x-new"), None, "{answer:#?}");
        assert!(answer.cache_status().contains(detail), "{answer:#?}");
        assert_eq!(origin.last().header("if-none-match"), Some("\"a\""));
        let explain = get("/explain?url=http://shop.test/page");
        let told = gateway.call(explain).await.json();
        assert_eq!(
            told["keys"][0]["last_refusal"]["reason"], detail,
            "{told:#}"
        );
        let next = gateway.client().get("/page").await;
        assert_miss(&next);
        assert_eq!(next.text(), "whole", "{next:#?}");
        assert_hit(&gateway.client().get("/page").await);
        assert_eq!(origin.count(), 3);
    }
}

#[tokio::test]
async fn the_groups_of_a_304_take_the_place_of_those_before() {
    let origin = stale_then(
        tagged().header("Cache-Groups", "\"old\", \"both\""),
        same().header("Cache-Groups", "\"both\", \"new\""),
    )
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.get("/page").await;
    client.get("/page").await;
    for (group, objects) in [("old", 0), ("new", 1)] {
        assert_hit(&client.get("/page").await);
        let purged = gateway.purge(json!({ "tags": [group] })).await;
        assert_eq!(purged["objects"], objects, "{group}: {purged}");
    }
    assert_eq!(origin.count(), 2);
    assert!(!client.get("/page").await.is_hit());
}

#[tokio::test]
async fn what_is_stored_and_what_passes_keep_the_date_of_their_making() {
    let made = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(20));
    let date = made.clone();
    let origin = FakeOrigin::start(move |request| {
        let reply = match request.target.as_str() {
            "/stored" => Reply::fresh("body"),
            _ => Reply::new(200, "body").header("Cache-Control", "no-store"),
        };
        reply.header("Date", &date)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    for (target, is_hit) in [("/stored", false), ("/stored", true), ("/passed", false)] {
        let answer = connection.send(&get(target)).await;
        assert_eq!(answer.is_hit(), is_hit, "{answer:#?}");
        assert_eq!(answer.header("date"), Some(&*made), "{target}: {answer:#?}");
    }
    let own = connection.send(&Request::new("TRACE", "/")).await;
    assert_eq!(own.status, 405);
    assert_ne!(own.header("date"), Some(&*made), "{own:#?}");
    assert!(own.header("date").is_some());
}

#[tokio::test]
async fn an_answer_without_a_date_gets_that_of_its_arrival() {
    let origin = FakeOrigin::start(|_| Reply::fresh("body")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let first = gateway.client().get("/page").await;
    let hit = gateway.client().get("/page").await;
    assert_hit(&hit);
    assert!(first.header("date").is_some());
    assert_eq!(hit.header("date"), first.header("date"));
}
