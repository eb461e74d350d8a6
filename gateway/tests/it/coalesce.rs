//! Many requests for one cold key are one request to the origin.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::support::{Answer, Connection, FakeOrigin, Gate, Gateway, Received, Reply, get};

/// Clients that ask at the same moment; each holds a socket here and one in the gateway.
const CLIENTS: usize = 1_000;

/// The herd waits as long as it takes: a slow machine is not what is tested.
const PATIENT: &str = "[cache]\nlock_wait = \"60s\"\nlock_age = \"60s\"\n";

/// Sends one request on each of many connections, then opens the gate.
async fn herd(gateway: &Gateway, count: usize, gate: &Gate) -> Vec<Answer> {
    let connections = gather(gateway, count, gate).await;
    gate.open();
    answers(connections).await
}

/// Sends one request on each of many connections. Returns when all of them wait for what is held at the gate.
async fn gather(gateway: &Gateway, count: usize, gate: &Gate) -> Vec<Connection> {
    let mut connections: Vec<Connection> = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = gateway.client().connect().await;
        connection.write(&get("/cold")).await;
        connections.push(connection);
    }
    gate.reached(1).await;
    // Whatever was sent before this request, which needs no origin, is read before it is answered.
    let marker = get("/marker").header("Cache-Control", "only-if-cached");
    assert_eq!(gateway.client().send(&marker).await.status, 504);
    connections
}

async fn answers(connections: Vec<Connection>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(connections.len());
    for mut connection in connections {
        answers.push(connection.answer(&get("/cold")).await);
    }
    answers
}

#[tokio::test]
async fn a_thousand_requests_for_a_cold_key_are_one_at_the_origin() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::fresh("shared").held(&held)).await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let answers = herd(&gateway, CLIENTS, &gate).await;
    assert_eq!(origin.count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.status == 200 && answer.text() == "shared")
    );
    let collapsed = answers
        .iter()
        .filter(|answer| answer.cache_status().contains("collapsed"))
        .count();
    assert!(collapsed > 0, "those that waited say so");
}

#[tokio::test]
async fn when_the_one_fetch_fails_a_second_serves_everybody_else() {
    let gate = Gate::closed();
    let (held, asked) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(503, "down").held(&held),
        _ => Reply::fresh("shared"),
    })
    .await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let answers = herd(&gateway, 300, &gate).await;
    assert_eq!(origin.count(), 2);
    let failed = answers.iter().filter(|answer| answer.status == 503).count();
    assert_eq!(failed, 1, "only the request that met the failure gets it");
    assert!(
        answers
            .iter()
            .filter(|answer| answer.status == 200)
            .all(|answer| answer.text() == "shared")
    );
}

#[tokio::test]
async fn a_failing_origin_is_asked_twice_however_many_wait() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::new(503, "down").held(&held)).await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let answers = herd(&gateway, 300, &gate).await;
    assert_eq!(origin.count(), 2);
    assert!(answers.iter().all(|answer| answer.status == 503));
    // Who comes later is news: one more request each herd, not one each client.
    assert_eq!(gateway.client().get("/cold").await.status, 503);
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn an_origin_that_hangs_up_is_asked_twice_however_many_wait() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::hang_up().held(&held)).await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let answers = herd(&gateway, 300, &gate).await;
    assert_eq!(origin.count(), 2);
    assert!(answers.iter().all(|answer| answer.status == 502));
}

#[tokio::test]
async fn those_who_wait_for_a_failed_validation_get_what_is_stale() {
    let gate = Gate::closed();
    let (held, asked) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "kept").header("Cache-Control", "max-age=0, stale-if-error=600"),
        _ => Reply::new(503, "down").held(&held),
    })
    .await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    gateway.client().get("/cold").await;
    let answers = herd(&gateway, 300, &gate).await;
    assert_eq!(origin.count(), 2, "one validation for all of them");
    for answer in answers {
        assert_eq!((answer.status, answer.text()), (200, "kept"));
        let status = answer.cache_status();
        assert!(status.contains("detail=stale-if-error"), "{status}");
    }
}

/// An origin whose first answer is stale at once, with these directives, and whose others are held at the gate.
async fn stale_then(
    directives: &'static str,
    gate: &Gate,
    then: impl Fn(&Received) -> Reply + Send + Sync + 'static,
) -> FakeOrigin {
    let (held, asked) = (gate.clone(), AtomicUsize::new(0));
    FakeOrigin::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::new(200, "kept")
            .header("Cache-Control", &format!("max-age=0{directives}"))
            .header("ETag", "\"a\"")
            .header("Connection", "close"), // what ends a kept one would be asked for again
        _ => then(request).held(&held),
    })
    .await
}

fn assert_all(answers: &[Answer], status: u16, text: Option<&str>) {
    for answer in answers {
        assert_eq!(answer.status, status, "{answer:#?}");
        assert!(text.is_none_or(|text| answer.text() == text), "{answer:#?}");
    }
}

#[tokio::test]
async fn those_who_wait_for_a_dropped_connection_get_what_is_stale_unless_that_is_forbidden() {
    for (directives, status, asked) in [("", 200, 2), (", must-revalidate", 502, 3)] {
        let gate = Gate::closed();
        let origin = stale_then(directives, &gate, |_| Reply::hang_up()).await;
        let gateway = Gateway::with(&[&origin], PATIENT).await;
        gateway.client().get("/cold").await;
        let answers = herd(&gateway, 300, &gate).await;
        assert_eq!(origin.count(), asked, "{directives}");
        assert_all(&answers, status, (status == 200).then_some("kept"));
    }
}

#[tokio::test]
async fn those_who_wait_while_every_origin_is_full_get_what_is_stale_unless_that_is_forbidden() {
    for (directives, status) in [("", 200), (", must-revalidate", 503)] {
        let gate = Gate::closed();
        let origin = stale_then(directives, &gate, |_| Reply::fresh("held")).await;
        let full = "[upstream]\nin_flight_max = 1\nqueue_wait = \"500ms\"\n";
        let gateway = Gateway::with(&[&origin], &format!("{PATIENT}{full}")).await;
        let client = gateway.client();
        client.get("/cold").await;
        let place = tokio::spawn(async move { client.get("/other").await });
        gate.reached(1).await;
        let answers = answers(gather(&gateway, 300, &gate).await).await;
        assert_eq!(origin.hits("/cold"), 1, "there is no place");
        assert_all(&answers, status, (status == 200).then_some("kept"));
        gate.open();
        assert_eq!(place.await.unwrap().text(), "held");
    }
}

#[tokio::test]
async fn those_who_wait_for_a_304_about_something_else_share_one_whole_answer() {
    for (name, value) in [("ETag", "\"b\""), ("Vary", "Accept-Language")] {
        let gate = Gate::closed();
        let origin = stale_then("", &gate, move |request| {
            match request.header("if-none-match") {
                Some(_) => Reply::new(304, "")
                    .header("Cache-Control", "max-age=60")
                    .header(name, value),
                None => Reply::fresh("whole").header(name, value),
            }
        })
        .await;
        let gateway = Gateway::with(&[&origin], PATIENT).await;
        gateway.client().get("/cold").await;
        let answers = herd(&gateway, 300, &gate).await;
        assert_eq!(origin.count(), 3, "{name}: one validation, one fetch");
        let (kept, whole): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .partition(|answer| answer.text() == "kept");
        assert_eq!(
            kept.len(),
            1,
            "who asked is answered with what it asked about"
        );
        assert_all(&whole, 200, Some("whole"));
    }
}

#[tokio::test]
async fn those_who_wait_for_a_304_with_other_groups_share_it_and_the_new_groups_hold() {
    let gate = Gate::closed();
    let origin = stale_then("", &gate, |_| {
        Reply::new(304, "")
            .header("Cache-Control", "max-age=60")
            .header("Cache-Groups", "\"new\"")
    })
    .await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    gateway.client().get("/cold").await;
    let answers = herd(&gateway, 300, &gate).await;
    assert_eq!(origin.count(), 2);
    assert_all(&answers, 200, Some("kept"));
    let purged = gateway.purge(json!({ "tags": ["new"] })).await;
    assert_eq!(purged["objects"], 1, "{purged}");
    gateway.client().get("/cold").await;
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn who_waits_in_vain_is_told_so_and_asks_nobody() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::fresh("late").held(&held)).await;
    let short = "[cache]\nlock_wait = \"200ms\"\nlock_age = \"60s\"\n";
    let gateway = Gateway::with(&[&origin], short).await;
    let client = gateway.client();
    let first = tokio::spawn(async move { client.get("/cold").await });
    gate.reached(1).await;
    assert_eq!(client.get("/cold").await.status, 504);
    gate.open();
    assert_eq!(first.await.unwrap().text(), "late");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn when_the_one_fetch_breaks_a_second_serves_everybody_else() {
    let gate = Gate::closed();
    let (held, asked) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let origin = FakeOrigin::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::hang_up().held(&held),
        _ => Reply::fresh("shared"),
    })
    .await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let answers = herd(&gateway, 100, &gate).await;
    assert_eq!(origin.count(), 2);
    assert!(answers.iter().filter(|answer| answer.status == 200).count() >= 99);
}

#[tokio::test]
async fn uncacheable_answers_are_not_waited_for_one_after_the_other() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |request| {
        let reply = Reply::new(200, "mine").header("Cache-Control", "private, no-store");
        if request.header("x-first").is_some() {
            reply
        } else {
            reply.held(&held)
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.send(&get("/mine").header("X-First", "1")).await;
    let asking: Vec<_> = (0..50)
        .map(|_| tokio::spawn(async move { client.get("/mine").await }))
        .collect();
    // All of them are at the origin at the same time.
    gate.reached(50).await;
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().text(), "mine");
    }
    assert_eq!(origin.most_in_flight(), 50);
}

#[tokio::test]
async fn an_uncacheable_answer_lets_all_its_waiters_go_at_once() {
    let first = Gate::closed();
    let others = Gate::closed();
    let (held, held_others, asked) = (first.clone(), others.clone(), Arc::new(AtomicUsize::new(0)));
    let origin = FakeOrigin::start(move |_| {
        let reply = Reply::new(200, "mine").header("Cache-Control", "private, no-store");
        match asked.fetch_add(1, Ordering::SeqCst) {
            0 => reply.held(&held),
            _ => reply.held(&held_others),
        }
    })
    .await;
    let gateway = Gateway::with(&[&origin], PATIENT).await;
    let client = gateway.client();
    let asking: Vec<_> = (0..20)
        .map(|_| tokio::spawn(async move { client.get("/mine").await }))
        .collect();
    first.reached(1).await;
    first.open();
    others.reached(19).await;
    others.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().text(), "mine");
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody_who_shares_its_fetch() {
    // More than the sockets between the two hold.
    const BYTES: usize = 24_000_000;
    let origin = FakeOrigin::start(|_| Reply::fresh(vec![b'x'; BYTES])).await;
    let gateway = Gateway::with(&[&origin], "[cache]\nobject_max = \"32MiB\"").await;
    let mut idle = gateway.client().connect().await;
    idle.write(&get("/large")).await;
    idle.answer_head().await;
    let other = gateway.client().get("/large").await;
    assert!(
        other.is_hit() && other.body.len() == BYTES,
        "{} bytes",
        other.body.len()
    );
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_costs_nobody_else_a_body_that_turns_out_too_large() {
    // More than the sockets to the idle one hold, and the backlog beside them.
    const BYTES: usize = 32_000_000;
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| {
        Reply::fresh(vec![b'x'; BYTES])
            .chunked()
            .held_after_header(&held)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut first = gateway.client().connect().await;
    first.write(&get("/large")).await;
    gate.reached(1).await;
    let mut idle = gateway.client().connect().await;
    idle.write(&get("/large")).await;
    idle.answer_head().await;
    gate.open();
    let answer = first.answer(&get("/large")).await;
    assert!(
        answer.whole && answer.body.len() == BYTES,
        "{} bytes",
        answer.body.len()
    );
    assert_eq!(origin.count(), 1, "both were of one fetch");
}

#[tokio::test]
async fn nobody_waits_for_a_body_that_is_announced_as_too_large() {
    const BYTES: usize = 24_000_000;
    let origin = FakeOrigin::start(|_| Reply::fresh(vec![b'x'; BYTES])).await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut idle = gateway.client().connect().await;
    idle.write(&get("/large")).await;
    idle.answer_head().await;
    let other = gateway.client().get("/large").await;
    assert!(!other.is_hit() && other.body.len() == BYTES);
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn different_keys_do_not_wait_for_each_other() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |request| {
        let reply = Reply::fresh("page");
        if request.target == "/slow" {
            reply.held(&held)
        } else {
            reply
        }
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let slow = tokio::spawn(async move { client.get("/slow").await });
    gate.reached(1).await;
    assert_eq!(client.get("/quick").await.text(), "page");
    gate.open();
    assert_eq!(slow.await.unwrap().text(), "page");
}
