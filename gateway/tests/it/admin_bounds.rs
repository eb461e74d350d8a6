//! The operators' listener has bounds of its own: nobody keeps operators out by holding connections, on either listener.

use std::time::{Duration, Instant};

use crate::support::{Connection, FakeOrigin, Gateway, Reply, get, until};

/// Lets in so many at once.
const PLACES: usize = 3;

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|_| Reply::fresh("page")).await
}

/// Connections that say nothing, one for each place of the operators' listener.
async fn fill(gateway: &Gateway) -> Vec<Connection> {
    let mut held = Vec::new();
    // Who looked whether the gateway is ready may still have one.
    while held.len() < PLACES {
        let mut connection = gateway.admin().connect().await;
        if !connection.is_refused().await {
            held.push(connection);
        }
    }
    held
}

#[tokio::test]
async fn one_operator_too_many_is_refused_at_once_and_clients_are_served_on() {
    let origin = origin().await;
    let settings =
        format!("[admin]\nconnections_max = {PLACES}\n[limits]\nheader_timeout = \"2s\"\n");
    let gateway = Gateway::with(&[&origin], &settings).await;
    let mut held = fill(&gateway).await;
    let refused = gateway
        .admin()
        .raw("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(refused.closed, "{refused:?}");
    assert!(
        refused.status().is_none_or(|status| status == 503),
        "{refused:?}"
    );
    assert_eq!(gateway.client().get("/page").await.status, 200);
    for silent in &mut held {
        assert!(silent.is_closed().await);
    }
    until("operators are let in again", || async {
        let mut connection = gateway.admin().connect().await;
        !connection.is_refused().await
    })
    .await;
    assert_eq!(gateway.status().await["cache"]["objects"], 1);
}

#[tokio::test]
async fn operators_are_let_in_when_clients_fill_the_public_listener() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], "[limits]\nconnections_max = 2\n").await;
    until("no client is connected", || async {
        gateway.status().await["connections"] == 0
    })
    .await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(gateway.client().connect().await);
    }
    until("the public listener is full", || async {
        gateway.status().await["connections"] == 2
    })
    .await;
    until("one more is refused", || async {
        gateway.client().connect().await.is_refused().await
    })
    .await;
    assert_eq!(gateway.admin().get("/healthz").await.text(), "ok");
}

#[tokio::test]
async fn an_operators_header_has_its_time_and_so_has_an_idle_connection() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], "[limits]\nheader_timeout = \"400ms\"\n").await;
    let mut idle = gateway.admin().connect().await;
    assert_eq!(idle.send(&get("/healthz")).await.text(), "ok");
    let began = Instant::now();
    let mut dripping = gateway.admin().connect().await;
    dripping
        .write_bytes(b"GET /healthz HTTP/1.1\r\nX-Drip: ")
        .await;
    loop {
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            closed = dripping.is_closed() => {
                assert!(closed, "an answer came");
                break;
            }
            () = pause => {}
        }
        let _ = dripping.try_write(b"x").await; // it may have been closed in the meantime
        assert!(began.elapsed() < Duration::from_secs(10), "never cut");
    }
    assert!(
        began.elapsed() >= Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert!(idle.is_closed().await);
}
