//! Small bodies are taken in before an origin is asked: who drips one holds no place there, and what arrives is what was sent.

use std::time::{Duration, Instant};

use crate::support::{Connection, FakeOrigin, Gateway, Reply, Request, get, until};

const BODY_BYTES: usize = 1024;
/// What a dripping client has sent when a test looks.
const BEGUN_BYTES: usize = 10;
/// The largest body that is taken in.
const LARGEST: usize = 64 * 1024;

async fn origin() -> FakeOrigin {
    FakeOrigin::start(|request| Reply::new(201, request.body.clone())).await
}

/// A body of which no two parts are alike.
fn body(length: usize) -> Vec<u8> {
    let words = (0..).flat_map(|number: u32| number.to_be_bytes());
    words.take(length).collect()
}

fn head(target: &str, length: usize, more: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: {length}\r\n{more}\r\n")
}

/// A client that has begun to send a body.
async fn begin(gateway: &Gateway, target: &str, body: &[u8], sent: usize) -> Connection {
    let mut connection = gateway.client().connect().await;
    connection
        .write_bytes(head(target, body.len(), "").as_bytes())
        .await;
    connection.write_bytes(&body[..sent]).await;
    connection
}

/// Sends the rest of a body; it has to come back as the answer.
async fn finish(mut connection: Connection, body: &[u8], sent: usize) {
    connection.write_bytes(&body[sent..]).await;
    let answer = connection.answer(&Request::new("POST", "/")).await;
    assert_eq!(answer.status, 201, "{answer:#?}");
    assert!(answer.body == body, "another body came back");
}

/// Returns when so much is held of bodies.
async fn holds(gateway: &Gateway, bytes: usize) {
    let line = format!("gateway_held_body_bytes {bytes}\n");
    until(&line, || async {
        let metrics = gateway.call(get("/metrics")).await;
        metrics.text().contains(&line)
    })
    .await;
}

#[tokio::test]
async fn who_drips_a_small_body_holds_no_place_and_what_becomes_whole_is_sent_once() {
    let origin = origin().await;
    let gateway = Gateway::with(&[&origin], "[upstream]\nin_flight_max = 1\nqueue_max = 1\n").await;
    let body = body(BODY_BYTES);
    let mut dripping = Vec::new();
    for number in 0..200 {
        let target = format!("/drip/{number}");
        dripping.push(begin(&gateway, &target, &body, BEGUN_BYTES).await);
    }
    holds(&gateway, 200 * BEGUN_BYTES).await;
    assert_eq!(gateway.in_flight().await, [0]);
    assert_eq!((origin.count(), origin.most_in_flight()), (0, 0));
    let began = Instant::now();
    let answer = gateway.client().post("/good", "good").await;
    assert_eq!((answer.status, answer.text()), (201, "good"));
    assert!(began.elapsed() < Duration::from_secs(2));
    let last = dripping.pop().expect("a client");
    finish(last, &body, BEGUN_BYTES).await;
    let received = origin.last();
    assert!(received.whole && received.body == body);
    assert_eq!(received.target, "/drip/199");
    assert_eq!(received.header("content-length"), Some("1024"));
    // Those who leave in the middle leave nothing behind.
    for connection in dripping {
        connection.abort();
    }
    holds(&gateway, 0).await;
    assert_eq!(gateway.in_flight().await, [0]);
    assert_eq!(origin.count(), 2, "each whole request, once");
}

#[tokio::test]
async fn the_largest_body_that_is_taken_in_and_one_byte_more_arrive_whole() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let (held, passed) = (body(LARGEST), body(LARGEST + 1));
    let first = begin(&gateway, "/held", &held, LARGEST - 1).await;
    holds(&gateway, LARGEST - 1).await;
    assert_eq!(gateway.in_flight().await, [0]);
    let second = begin(&gateway, "/passed", &passed, LARGEST).await;
    until("the larger one is on its way", || async {
        gateway.in_flight().await == [1]
    })
    .await;
    finish(first, &held, LARGEST - 1).await;
    finish(second, &passed, LARGEST).await;
    for target in ["/held", "/passed"] {
        assert_eq!(origin.hits(target), 1, "{target}");
    }
    assert!(origin.requests().iter().all(|received| received.whole));
}

#[tokio::test]
async fn without_memory_for_it_a_body_is_passed_on_as_it_comes() {
    let origin = origin().await;
    let settings = format!("[limits]\nbody_memory = \"{BEGUN_BYTES}B\"\n");
    let gateway = Gateway::with(&[&origin], &settings).await;
    let body = body(BODY_BYTES);
    // The first one fills the memory, and goes on from what is held of it.
    let mut dripping = Vec::new();
    for number in 1..=3 {
        dripping.push(begin(&gateway, &format!("/{number}"), &body, BEGUN_BYTES).await);
        until("it is on its way", || async {
            gateway.in_flight().await == [number]
        })
        .await;
    }
    holds(&gateway, BEGUN_BYTES).await;
    for connection in dripping {
        finish(connection, &body, BEGUN_BYTES).await;
    }
    holds(&gateway, 0).await;
    assert_eq!(origin.count(), 3);
    assert!(origin.requests().iter().all(|received| received.whole));
}

#[tokio::test]
async fn who_waits_for_leave_to_send_a_body_gets_it() {
    let origin = origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let body = body(BODY_BYTES);
    for method in ["POST", "GET"] {
        let mut connection = gateway.client().connect().await;
        let head = head("/page", body.len(), "Expect: 100-continue\r\n");
        let head = head.replacen("POST", method, 1);
        connection.write_bytes(head.as_bytes()).await;
        let leave = connection.answer_head().await;
        assert!(leave.start.contains(" 100 "), "{leave:?}");
        connection.write_bytes(&body).await;
        let answer = connection.answer(&Request::new(method, "/page")).await;
        assert_eq!(answer.status, 201, "{answer:#?}");
        let received = origin.last();
        assert_eq!(received.header("expect"), None, "{received:#?}");
        let expected = if method == "POST" { &body[..] } else { &[] };
        assert!(received.whole && received.body == expected);
        // The connection serves on, without another interim answer.
        connection
            .write(&Request::new("POST", "/next").body("x"))
            .await;
        let next = connection.answer_head().await;
        assert!(next.start.contains(" 201 "), "{next:?}");
    }
}

#[tokio::test]
async fn a_held_body_is_not_sent_a_second_time() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::new(200, "page").header("Cache-Control", "no-store"),
        _ => Reply::hang_up(),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        // On a connection to the origin that was used before.
        assert_eq!(gateway.client().get("/page").await.status, 200);
        let write = Request::new(method, &format!("/{method}")).body("1");
        assert_eq!(gateway.client().send(&write).await.status, 502);
        assert_eq!(origin.hits(&format!("/{method}")), 1);
    }
}
