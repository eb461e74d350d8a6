//! The connection layer: nobody takes more time, descriptors or requests than is theirs, and those who behave are served.

use std::time::{Duration, Instant};

use crate::support::{Connection, FakeOrigin, Gateway, Reply, Request, assert_problem, get, until};

/// Rates that a test can wait for.
const SLOW: &str =
    "[limits]\nread_rate_min = \"1KiB\"\nwrite_rate_min = \"1KiB\"\nrate_slack = \"300ms\"\n";

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|request| {
        Reply::new(200, request.body.len().to_string()).header("Cache-Control", "no-store")
    })
    .await
}

async fn connections(gateway: &Gateway) -> u64 {
    let status = gateway.status().await;
    status["connections"].as_u64().expect("a number")
}

/// Connections that were refused or cut for this reason.
pub(crate) async fn cuts(gateway: &Gateway, reason: &str) -> u64 {
    let metrics = gateway.call(get("/metrics")).await;
    let name = format!("gateway_connections_cut_total{{reason=\"{reason}\"}} ");
    let count = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(&name));
    count.and_then(|count| count.parse().ok()).expect("a count")
}

/// Sends a byte from time to time until the gateway closes the connection.
async fn drip(connection: &mut Connection) -> Duration {
    let began = Instant::now();
    loop {
        let pause = tokio::time::sleep(Duration::from_millis(50));
        tokio::select! {
            closed = connection.is_closed() => {
                assert!(closed, "an answer came");
                return began.elapsed();
            }
            () = pause => {}
        }
        // The gateway may have closed in the meantime: the next look tells.
        let _ = connection.try_write(b"x").await;
        assert!(began.elapsed() < Duration::from_secs(10), "never cut");
    }
}

#[tokio::test]
async fn a_body_that_drips_is_cut_and_its_request_ends_everywhere() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], SLOW).await;
    for method in ["POST", "GET"] {
        let mut dripping = gateway.client().connect().await;
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n");
        dripping.write_bytes(head.as_bytes()).await;
        let lasted = drip(&mut dripping).await;
        assert!(lasted >= Duration::from_millis(250), "{lasted:?}");
    }
    until("nothing is in flight", || async {
        gateway.in_flight().await == [0] && connections(&gateway).await == 0
    })
    .await;
    assert_eq!(cuts(&gateway, "body-slow").await, 2);
    assert_eq!(gateway.client().post("/", "whole").await.text(), "5");
}

#[tokio::test]
async fn a_slow_body_above_the_rate_is_taken_however_long_it_lasts() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], SLOW).await;
    let mut steady = gateway.client().connect().await;
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6000\r\n\r\n";
    steady.write_bytes(head.as_bytes()).await;
    // Ten times the rate, for longer than the slack.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        steady.write_bytes(&[b'x'; 500]).await;
    }
    let answer = steady.answer(&Request::new("POST", "/")).await;
    assert_eq!((answer.status, answer.text()), (200, "6000"));
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_cut() {
    let body = "x".repeat(24_000_000);
    let origin = FakeOrigin::start(move |_| {
        Reply::new(200, body.clone()).header("Cache-Control", "no-store")
    })
    .await;
    let gateway = Gateway::with(&[&origin], SLOW).await;
    let mut deaf = gateway.client().connect().await;
    deaf.write(&get("/large")).await;
    deaf.answer_head().await;
    until("it is cut", || async {
        connections(&gateway).await == 0 && gateway.in_flight().await == [0]
    })
    .await;
    assert_eq!(cuts(&gateway, "answer-slow").await, 1);
}

#[tokio::test]
async fn a_client_that_asks_too_often_is_told_so_and_others_are_not_touched() {
    let origin = origin().await;
    let settings =
        "[limits]\nclient_rate = 1\nclient_burst = 3\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let gateway = Gateway::with(&[&origin], settings).await;
    let from = |client: &str| get("/page").header("X-Forwarded-For", client);
    let mut connection = gateway.client().connect().await;
    for _ in 0..3 {
        assert_eq!(connection.send(&from("192.0.2.1")).await.status, 200);
    }
    let began = Instant::now();
    let refused = connection.send(&from("192.0.2.1")).await;
    if began.elapsed() < Duration::from_millis(300) {
        assert_problem(&refused, 429);
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    // What stands before the last address is the client's invention.
    let invented = connection.send(&from("192.0.2.9, 192.0.2.1")).await;
    assert_eq!(invented.status, 429, "{invented:#?}");
    assert_eq!(connection.send(&from("192.0.2.2")).await.status, 200);
    until("its bucket fills", || async {
        gateway.client().send(&from("192.0.2.1")).await.status == 200
    })
    .await;
    let told = origin.last();
    assert_eq!(told.header("x-forwarded-for"), Some("192.0.2.1"));
}

#[tokio::test]
async fn whoever_is_no_trusted_proxy_is_not_believed() {
    let origin = origin().await;
    let settings =
        "[limits]\nclient_rate = 1\nclient_burst = 1\ntrusted_proxies = [\"10.0.0.0/8\"]";
    let gateway = Gateway::with(&[&origin], settings).await;
    let mut refused = 0;
    for number in 0..20 {
        let claim = get("/page").header("X-Forwarded-For", &format!("192.0.2.{number}"));
        refused += usize::from(gateway.client().send(&claim).await.status == 429);
    }
    assert!(refused > 10, "{refused} of 20");
    for received in origin.requests() {
        assert_eq!(received.header("x-forwarded-for"), Some("127.0.0.1"));
    }
}

#[tokio::test]
async fn without_descriptors_the_new_are_refused_the_old_are_served_and_it_ends_soon() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut old = client.connect().await;
    assert_eq!(old.send(&get("/")).await.status, 200);
    gateway.limit_descriptors(100);
    let mut crowd = Vec::new();
    for _ in 0..200 {
        crowd.push(client.connect().await);
    }
    let mut refused = 0;
    for connection in &mut crowd {
        refused += usize::from(connection.is_refused().await);
    }
    assert!(refused > 100, "{refused} of 200 were refused");
    assert!(cuts(&gateway, "descriptors").await > 100);
    for number in 0..20 {
        let target = format!("/{number}");
        assert_eq!(
            old.send(&get(&target)).await.status,
            200,
            "the old one is served on"
        );
    }
    let late = client.connect().await.send(&get("/late")).await;
    assert_problem(&late, 503);
    drop(crowd);
    let began = Instant::now();
    until("new ones are let in", || async {
        client.get("/new").await.status == 200
    })
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn an_idle_connection_may_bring_one_more_request_after_the_stop() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut idle = gateway.client().connect().await;
    assert_eq!(idle.send(&get("/")).await.status, 200);
    gateway.terminate();
    let public = gateway.public;
    until("nobody new is let in", || async {
        tokio::net::TcpStream::connect(public).await.is_err()
    })
    .await;
    let last = idle.send(&get("/last")).await;
    assert_eq!(
        (last.status, last.header("connection")),
        (200, Some("close"))
    );
    assert!(idle.is_closed().await);
}

#[tokio::test]
async fn connections_that_say_nothing_cost_little_and_those_that_have_been_served_too() {
    let origin = FakeOrigin::start(|_| Reply::fresh("x".repeat(10_000))).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nheader_timeout = \"1m\"").await;
    let client = gateway.client();
    client.get("/page").await;
    let before = gateway.resident_bytes();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(client.connect().await);
    }
    until("they are all there", || async {
        connections(&gateway).await >= 500
    })
    .await;
    let beside_silent = gateway.resident_bytes();
    let page = get("/page");
    for connection in &mut silent {
        let begun = b"GET /page HTTP/1.1\r\nHost: shop.test\r\n";
        connection.write_bytes(begun).await;
    }
    let beside_dripping = gateway.resident_bytes();
    for connection in &mut silent {
        connection.write_bytes(b"\r\n").await;
        assert_eq!(connection.answer(&page).await.status, 200);
    }
    let beside_served = gateway.resident_bytes();
    let each = |now: usize| now.saturating_sub(before) / 500;
    for (now, most) in [
        (beside_silent, 10_000),
        (beside_dripping, 14_000),
        (beside_served, 18_000),
    ] {
        assert!(each(now) < most, "{} bytes each", each(now));
    }
}
