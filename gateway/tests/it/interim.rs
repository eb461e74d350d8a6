//! Interim answers (1xx) are never stored; the final one counts. Who fetches gets them, each once.

use crate::support::{
    Connection, FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_problem, get,
};

/// The statuses of the interim answers that come before the final one, and that one's.
async fn statuses(connection: &mut Connection) -> Vec<u16> {
    let mut seen = Vec::new();
    loop {
        let head = connection.answer_head().await;
        let status = head.start.split(' ').nth(1).expect("a status");
        let status = status.parse().expect("a number");
        seen.push(status);
        if status >= 200 {
            return seen;
        }
        for name in ["cache-status", "date", "x-request-id", "accept-ranges"] {
            assert_eq!(head.header(name), None, "{head:?}");
        }
    }
}

fn hinted(body: &'static str) -> Reply {
    Reply::fresh(body)
        .after_interim(102, "X-Step", "1")
        .after_interim(103, "Link", "</style.css>; rel=preload")
}

#[tokio::test]
async fn who_fetches_gets_each_interim_answer_once_however_it_comes() {
    let origin = FakeOrigin::start(|_| hinted("body")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    // With the final answer in one piece, on a connection that serves more requests.
    for target in ["/one", "/two"] {
        let ranged = get(target).header("Range", "bytes=0-1");
        connection.write(&ranged).await;
        assert_eq!(statuses(&mut connection).await, [102, 103, 206]);
        connection = gateway.client().connect().await;
        connection.write(&get(target)).await;
        assert_eq!(statuses(&mut connection).await, [200], "a hit has none");
        connection = gateway.client().connect().await;
    }
}

#[tokio::test]
async fn an_interim_answer_comes_before_the_final_one_is_made() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| hinted("body").held_after_interim(&held)).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut first = client.connect().await;
    first.write(&get("/page")).await;
    for expected in [" 102 ", " 103 "] {
        let head = first.answer_head().await;
        assert!(head.start.contains(expected), "{head:?}");
    }
    let waiter = tokio::spawn(async move { client.get("/page").await });
    gate.open();
    let answer = first.answer(&get("/page")).await;
    assert_eq!((answer.status, answer.text()), (200, "body"));
    assert_eq!(waiter.await.unwrap().text(), "body");
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn an_interim_answer_precedes_a_validated_and_an_uncacheable_one_too() {
    let origin = FakeOrigin::start(|request| {
        let reply = match (request.target.as_str(), request.header("if-none-match")) {
            ("/kept", Some(_)) => Reply::new(304, ""),
            ("/kept", None) => Reply::new(200, "body").header("Cache-Control", "max-age=0"),
            _ => Reply::new(200, "body").header("Cache-Control", "no-store"),
        };
        let reply = reply.header("ETag", "\"1\"");
        reply.after_interim(103, "Link", "</style.css>; rel=preload")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for target in ["/kept", "/kept", "/private", "/private"] {
        let mut connection = gateway.client().connect().await;
        connection.write(&get(target)).await;
        assert_eq!(statuses(&mut connection).await, [103, 200], "{target}");
    }
}

#[tokio::test]
async fn a_client_of_http_1_0_gets_the_final_answer_alone() {
    let origin = FakeOrigin::start(|_| hinted("body")).await;
    for settings in ["", "http.cache_unmatched = false"] {
        let gateway = Gateway::with(&[&origin], settings).await;
        let mut connection = gateway.client().connect().await;
        connection
            .write_bytes(b"GET /page HTTP/1.0\r\nHost: shop.test\r\n\r\n")
            .await;
        assert_eq!(statuses(&mut connection).await, [200]);
    }
}

#[tokio::test]
async fn an_origin_that_dies_after_an_interim_answer_is_a_failure_like_any_other() {
    let origin = FakeOrigin::start(|_| {
        let gate = Gate::closed();
        gate.open();
        Reply::hang_up()
            .after_interim(103, "Link", "</style.css>; rel=preload")
            .held_after_interim(&gate)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    connection.write(&get("/page")).await;
    let interim = connection.answer_head().await;
    assert!(interim.start.contains(" 103 "), "{interim:?}");
    assert_problem(&connection.answer(&get("/page")).await, 502);
}

#[tokio::test]
async fn an_interim_answer_is_neither_kept_nor_taken_for_the_final_one() {
    for status in [100, 102, 103] {
        let origin = FakeOrigin::start(move |_| {
            Reply::fresh("body").after_interim(status, "Cache-Control", "no-store")
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        for round in 0..2 {
            let answer = gateway.client().get("/page").await;
            assert_eq!((answer.status, answer.text()), (200, "body"));
            assert_eq!(answer.header("cache-control"), Some("max-age=3600"));
            assert_eq!(answer.is_hit(), round == 1, "{status}: {answer:#?}");
        }
    }
}

#[tokio::test]
async fn where_nothing_is_kept_an_interim_answer_passes_with_its_own_fields_only() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(200, "body")
            .header("Cache-Control", "no-store")
            .after_interim(103, "Link", "</style.css>; rel=preload")
    })
    .await;
    let gateway = Gateway::with(&[&origin], "http.cache_unmatched = false").await;
    let mut connection = gateway.client().connect().await;
    connection.write(&get("/page")).await;
    let interim = connection.answer_head().await;
    assert!(interim.start.contains(" 103 "), "{interim:?}");
    assert_eq!(interim.header("link"), Some("</style.css>; rel=preload"));
    for name in ["cache-status", "date", "x-request-id"] {
        assert_eq!(interim.header(name), None, "{interim:?}");
    }
    let last = connection.answer_head().await;
    assert!(last.start.contains(" 200 "), "{last:?}");
    assert_eq!(last.header("link"), None, "{last:?}");
}

#[tokio::test]
async fn an_interim_answer_to_a_write_invalidates_nothing() {
    let origin = FakeOrigin::start(|request| match request.method.as_str() {
        "GET" => Reply::fresh("body"),
        _ => Reply::new(500, "failed").after_interim(103, "Location", "/page"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let answer = gateway
        .client()
        .send(&Request::new("POST", "/other").body("x"))
        .await;
    assert_eq!(answer.status, 500, "{answer:#?}");
    assert_hit(&gateway.client().get("/page").await);
}
