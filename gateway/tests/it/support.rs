//! What every test works with: a scripted origin, the built gateway as a child, a client that writes plain bytes, and
//! assertions named for what is promised.

mod client;
mod gateway;
mod origin;
mod tail;
mod wire;

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

pub(crate) use client::{Answer, Client, Connection, Request, get};
pub(crate) use gateway::{Gateway, free_address, serves};
pub(crate) use origin::{FakeOrigin, Gate, Received, Reply};
pub(crate) use tail::{FakeTail, Probes};

/// How long anything may take before a test counts as hung.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Polls until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let end = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < end, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Lets a lifetime under test run out.
pub(crate) async fn expire(lifetime: Duration) {
    tokio::time::sleep(lifetime + Duration::from_millis(50)).await;
}

/// The answer came from the cache.
#[track_caller]
pub(crate) fn assert_hit(answer: &Answer) {
    assert!(answer.is_hit(), "expected a hit: {answer:#?}");
    assert!(
        answer.header("age").is_some(),
        "a hit tells its age: {answer:#?}"
    );
}

/// The answer came from the origin, was not there before, and was kept.
#[track_caller]
pub(crate) fn assert_miss(answer: &Answer) {
    let status = answer.cache_status();
    assert!(
        (status.contains("fwd=uri-miss") || status.contains("fwd=vary-miss"))
            && status.contains("stored"),
        "expected a miss: {answer:#?}"
    );
    assert!(
        answer.header("age").is_none(),
        "a fetched answer has no age: {answer:#?}"
    );
}

/// The answer came from the origin and was not kept.
#[track_caller]
pub(crate) fn assert_passed(answer: &Answer) {
    let status = answer.cache_status();
    assert!(
        status.contains("fwd=") && !status.contains("stored"),
        "expected no storing: {answer:#?}"
    );
}

/// Each of these requests reaches the origin, however often it is repeated.
pub(crate) async fn assert_not_stored(client: &Client, origin: &FakeOrigin, target: &str) {
    for _ in 0..3 {
        let before = origin.count();
        let answer = client.get(target).await;
        assert_passed(&answer);
        assert_eq!(
            origin.count(),
            before + 1,
            "{target} has to be asked for at the origin: {answer:#?}"
        );
    }
}

/// All targets share one entry: the first fills it, the others are hits on the same body.
pub(crate) async fn assert_one_entry(client: &Client, origin: &FakeOrigin, targets: &[&str]) {
    let before = origin.count();
    let first = client.get(targets[0]).await;
    assert_miss(&first);
    for target in &targets[1..] {
        let answer = client.get(target).await;
        assert!(
            answer.is_hit(),
            "{target} is another spelling of {}: {answer:#?}",
            targets[0]
        );
        assert_eq!(answer.body, first.body, "{target}");
    }
    assert_eq!(origin.count(), before + 1, "one fetch serves {targets:?}");
}

/// The answer is a problem document of this status.
#[track_caller]
pub(crate) fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:#?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{answer:#?}"
    );
    assert_eq!(answer.json()["status"], status, "{answer:#?}");
    let cache_control = answer.header("cache-control").unwrap_or_default();
    assert!(
        cache_control.contains("no-store"),
        "nobody may keep an error: {answer:#?}"
    );
}
