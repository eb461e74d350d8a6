//! While every origin is full, requests wait in line: a few, a short time, the first one first.

use std::time::{Duration, Instant};

use crate::support::{FakeOrigin, Gate, Gateway, Reply, assert_problem, until};

fn unkept(body: &'static str) -> Reply {
    Reply::new(200, body).header("Cache-Control", "no-store")
}

async fn waiting(gateway: &Gateway) -> u64 {
    let status = gateway.status().await;
    status["balance"]["waiting"].as_u64().expect("a number")
}

#[tokio::test]
async fn whoever_waits_is_served_in_order_when_places_come_free() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| unkept("served").held(&held)).await;
    let settings = "[upstream]\nin_flight_max = 1\nqueue_wait = \"9s\"";
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    let mut asking = Vec::new();
    for number in 0..6 {
        asking.push(tokio::spawn(async move {
            client.get(&format!("/{number}")).await
        }));
        match number {
            0 => gate.reached(1).await,
            _ => until("it waits", || async { waiting(&gateway).await == number }).await,
        }
    }
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().text(), "served");
    }
    let targets: Vec<_> = origin
        .requests()
        .iter()
        .map(|request| request.target.clone())
        .collect();
    assert_eq!(targets, ["/0", "/1", "/2", "/3", "/4", "/5"]);
    assert_eq!((origin.most_in_flight(), waiting(&gateway).await), (1, 0));
}

#[tokio::test]
async fn whoever_finds_the_line_full_is_told_at_once_and_whoever_waits_in_vain_soon() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| unkept("served").held(&held)).await;
    let settings = "[upstream]\nin_flight_max = 1\nqueue_max = 1\nqueue_wait = \"400ms\"";
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    let first = tokio::spawn(async move { client.get("/first").await });
    gate.reached(1).await;
    let began = Instant::now();
    let second = tokio::spawn(async move { client.get("/second").await });
    until("it waits", || async { waiting(&gateway).await == 1 }).await;
    let refused = client.get("/third").await;
    assert_problem(&refused, 503);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(!second.is_finished(), "the one in line waits on");
    let refused = second.await.unwrap();
    assert_problem(&refused, 503);
    assert!(began.elapsed() >= Duration::from_millis(390));
    gate.open();
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(gateway.status().await["balance"]["refused"], 2);
}
