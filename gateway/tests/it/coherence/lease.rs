//! The lease: what grants it, and what is answered without one.

use std::time::{Duration, Instant};

use super::{
    asked_after, caught_up, following, leased, metric, pages, settings, standing, unleased, write,
};
use crate::support::{
    FakeOrigin, FakeTail, Gate, Gateway, Probes, Reply, assert_hit, assert_miss, get, until,
};

/// A short lease, so that tests can wait for its end.
const SHORT: &str = "lease = \"500ms\"";

#[tokio::test]
async fn a_probe_that_went_elsewhere_grants_nothing() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    tail.probes(Probes::Elsewhere);
    let gateway = Gateway::with(&[&origin], &settings(&[&tail], SHORT)).await;
    caught_up(&gateway, &tail).await;
    let client = gateway.client();
    for target in ["/1", "/2", "/3"] {
        client.get(target).await;
        assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
    }
    assert!(standing(&gateway).await["lease_left_ms"].is_null());
    tail.probes(Probes::Answered);
    leased(&gateway).await;
}

#[tokio::test]
async fn heartbeats_extend_nothing_and_neither_does_a_probe_whose_findings_have_not_come() {
    for probes in [Probes::Untold, Probes::Refused] {
        let (origin, tail) = (pages().await, FakeTail::start("a").await);
        let gateway = following(&origin, &[&tail], SHORT).await;
        tail.probes(probes);
        unleased(&gateway).await;
        until("the loss is counted", || async {
            metric(&gateway, "gateway_coherence_lease_losses_total").await >= 1.0
        })
        .await;
        tail.probes(Probes::Answered);
        leased(&gateway).await;
    }
}

#[tokio::test]
async fn without_a_lease_entries_are_fresh_for_a_short_time_and_say_so() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = format!("{SHORT}\nfresh_without_lease = \"30s\"");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    client.get("/a").await;
    let with = client.get("/a").await;
    assert!(!with.cache_status().contains("no-lease"), "{with:#?}");
    assert!(with.cache_status().contains("ttl=863"), "{with:#?}");
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    let without = client.get("/a").await;
    assert_hit(&without);
    assert!(without.cache_status().contains("ttl=2"), "{without:#?}");
    assert!(
        without.cache_status().ends_with("detail=no-lease"),
        "{without:#?}"
    );
    assert_eq!(origin.hits("/a"), 1);
    assert!(
        metric(
            &gateway,
            "gateway_coherence_unproven_total{outcome=\"fresh\"}"
        )
        .await
            >= 1.0
    );
}

#[tokio::test]
async fn without_a_lease_an_older_entry_is_validated_and_kept_for_the_time_with_one() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = format!("{SHORT}\nfresh_without_lease = \"0s\"");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    client.get("/a").await;
    assert_hit(&client.get("/a").await);
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    for _ in 0..3 {
        let read = client.get("/a").await;
        assert!(read.cache_status().contains("fwd=stale"), "{read:#?}");
    }
    assert_eq!(origin.hits("/a"), 4);
    assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
    tail.probes(Probes::Answered);
    leased(&gateway).await;
    let read = client.get("/a").await;
    assert_hit(&read);
    assert_eq!(read.text(), "3", "what came meanwhile is as good as any");
}

#[tokio::test]
async fn without_a_lease_validations_are_bounded_and_nobody_is_refused() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = format!("{SHORT}\nfresh_without_lease = \"0s\"\nrevalidations_max = 10");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    let targets: Vec<String> = (0..40).map(|page| format!("/{page}")).collect();
    for target in &targets {
        client.get(target).await;
    }
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    let (asked, began) = (origin.count(), Instant::now());
    let mut connection = client.connect().await;
    let mut stale = 0;
    for _ in 0..10 {
        for target in &targets {
            let read = connection.send(&get(target)).await;
            assert_eq!(read.status, 200, "{read:#?}");
            if read.is_hit() {
                assert!(
                    read.cache_status().ends_with("detail=no-lease-stale"),
                    "{read:#?}"
                );
                stale += 1;
            }
        }
    }
    let most = 2 + 10 * began.elapsed().as_millis() / 1_000;
    let validated = origin.count() - asked;
    assert!(
        (1..=most).contains(&(validated as u128)),
        "{validated} of {most}"
    );
    assert_eq!(validated + stale, 400);
}

#[tokio::test]
async fn without_a_lease_a_failing_origin_is_covered_by_what_is_kept() {
    let tail = FakeTail::start("a").await;
    let origin = FakeOrigin::start(|request| match request.header("if-none-match") {
        None => Reply::public("page", &["a"]).header("ETag", "\"1\""),
        Some(_) => Reply::new(503, "no database"),
    })
    .await;
    let more = format!("{SHORT}\nfresh_without_lease = \"0s\"");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    client.get("/a").await;
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    for _ in 0..5 {
        let read = client.get("/a").await;
        assert_eq!((read.status, read.text()), (200, "page"), "{read:#?}");
        assert!(read.cache_status().contains("detail="), "{read:#?}");
    }
    assert!(origin.count() > 1);
}

#[tokio::test]
async fn what_carries_no_group_lives_by_its_own_lifetime() {
    let tail = FakeTail::start("a").await;
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let more = format!("{SHORT}\nfresh_without_lease = \"0s\"");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    client.get("/a").await;
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    let read = client.get("/a").await;
    assert_hit(&read);
    assert!(!read.cache_status().contains("detail"), "{read:#?}");
}

#[tokio::test]
async fn own_writes_are_read_back_without_a_lease_too() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = format!("{SHORT}\nfresh_without_lease = \"1m\"\nrevalidations_max = 1");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    for round in 0..50 {
        client.get("/g").await;
        client.send(&write("g", 1_000 + round)).await;
        assert_miss(&client.get("/g").await);
        assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
    }
}

/// The last lease is over: nobody can see that from outside.
async fn over(since: Instant, length: Duration) {
    until("the lease is over", || async { since.elapsed() > length }).await;
}

#[tokio::test]
async fn a_lease_ends_while_the_process_is_stopped() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = "lease = \"300ms\"\nfresh_without_lease = \"1m\"";
    let gateway = following(&origin, &[&tail], more).await;
    let client = gateway.client();
    client.get("/a").await;
    assert_hit(&client.get("/a").await);
    gateway.freeze().await;
    let stopped = tokio::spawn(async move { client.get("/a").await });
    over(Instant::now(), Duration::from_millis(450)).await;
    tail.probes(Probes::Refused);
    gateway.signal("CONT");
    let read = stopped.await.unwrap();
    assert!(read.cache_status().contains("no-lease"), "{read:#?}");
}

#[tokio::test]
async fn an_ending_gateway_has_no_lease_beyond_the_one_it_had() {
    let tail = FakeTail::start("a").await;
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::public("page", &["a"]).held(&held)).await;
    let more = "lease = \"200ms\"\nfresh_without_lease = \"1m\"\n[limits]\nshutdown_grace = \"5s\"";
    let gateway = following(&origin, &[&tail], more).await;
    let client = gateway.client();
    let fetching = tokio::spawn(async move { client.get("/a").await });
    gate.reached(1).await;
    let mut waiting = client.connect().await;
    waiting.write(&get("/a")).await;
    until("the second request is there", || async {
        gateway.status().await["connections"] == 2
    })
    .await;
    gateway.terminate();
    until("nothing is followed any more", || async { tail.is_left() }).await;
    over(Instant::now(), Duration::from_millis(250)).await;
    gate.open();
    assert_eq!(fetching.await.unwrap().text(), "page");
    let read = waiting.answer(&get("/a")).await;
    assert!(read.cache_status().contains("detail=no-lease"), "{read:#?}");
}
