//! Every bound holds, and what is within it is served.

use serde_json::json;

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_problem, get, until,
};

const DRAINED: usize = 64 * 1024;

#[tokio::test]
async fn the_body_of_a_read_is_drained_and_the_connection_serves_on() {
    let origin = FakeOrigin::start(|request| Reply::fresh(request.target.clone())).await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    for (at, size) in [1, 1_000, DRAINED].into_iter().enumerate() {
        for method in ["GET", "HEAD", "GET"] {
            // A body that would be a request of its own if it were left on the connection.
            let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n".repeat(size / 30 + 1);
            let request =
                Request::new(method, &format!("/page/{at}")).body(&body.as_bytes()[..size]);
            let answer = connection.send(&request).await;
            assert_eq!(answer.status, 200, "{method} with {size} bytes");
        }
        let hit = connection.send(&get(&format!("/page/{at}"))).await;
        assert_hit(&hit);
        assert_eq!(hit.text(), format!("/page/{at}"));
    }
    connection.write_bytes(b"GET /page/0 HTTP/1.1\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    assert_hit(&connection.answer(&get("/page/0")).await);
    assert_hit(&connection.send(&get("/page/0")).await);
    assert_eq!((origin.count(), origin.hits("/smuggled")), (3, 0));
    for received in origin.requests() {
        assert!(received.body.is_empty() && received.whole, "{received:#?}");
        assert!(
            matches!(received.header("content-length"), None | Some("0")),
            "{received:#?}"
        );
        assert!(
            received.header("transfer-encoding").is_none(),
            "{received:#?}"
        );
    }
}

#[tokio::test]
async fn a_read_with_a_larger_body_is_refused_and_its_connection_closed() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    for method in ["GET", "HEAD"] {
        let mut connection = gateway.client().connect().await;
        connection
            .write_bytes(
                format!(
                    "{method} /page HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
                    DRAINED + 1
                )
                .as_bytes(),
            )
            .await;
        let answer = connection.answer(&Request::new(method, "/page")).await;
        assert_eq!(answer.status, 413, "{answer:#?}");
        assert!(connection.is_closed().await);
    }
    let mut chunked = gateway.client().connect().await;
    chunked
        .write_bytes(b"GET /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    let piece = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for _ in 0..5 {
        chunked.write_bytes(piece.as_bytes()).await;
    }
    assert_problem(&chunked.answer(&get("/page")).await, 413);
    assert_eq!(origin.count(), 1);
}

#[tokio::test]
async fn the_body_of_a_write_is_bounded_whether_announced_or_not() {
    let origin = FakeOrigin::start(|request| Reply::new(201, request.body.len().to_string())).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nbody_bytes_max = \"100KiB\"").await;
    let within = gateway
        .client()
        .post("/upload", &"x".repeat(100 * 1024))
        .await;
    assert_eq!((within.status, within.text()), (201, "102400"));
    let beyond = gateway
        .client()
        .raw("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 102401\r\n\r\n")
        .await;
    assert_eq!(
        (beyond.status(), beyond.closed),
        (Some(413), true),
        "{beyond:#?}"
    );
    let before = origin.count();
    let mut bytes =
        b"POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..30 {
        bytes.extend_from_slice(format!("1000\r\n{}\r\n", "x".repeat(0x1000)).as_bytes());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let unannounced = gateway.client().raw(bytes).await;
    assert_eq!(unannounced.status(), Some(413), "{unannounced:#?}");
    assert!(
        origin.requests()[before..]
            .iter()
            .all(|received| !received.whole),
        "no origin takes it for whole"
    );
}

#[tokio::test]
async fn headers_and_targets_are_bounded() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let many = (0..70).fold(get("/page"), |request, at| {
        request.header(&format!("X-Field-{at}"), "x")
    });
    let refused = client.send(&many).await;
    assert_problem(&refused, 431);
    assert_problem(
        &client
            .send(&get("/page").header("X-Large", &"x".repeat(17 * 1024)))
            .await,
        431,
    );
    assert_problem(
        &client.get(&format!("/{}", "x".repeat(9 * 1024))).await,
        414,
    );
    assert_eq!(origin.count(), 0);
    let few = (0..60).fold(get("/page"), |request, at| {
        request.header(&format!("X-Field-{at}"), "x")
    });
    assert_eq!(client.send(&few).await.status, 200);
    assert_eq!(
        client
            .get(&format!("/{}", "x".repeat(7 * 1024)))
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_header_that_does_not_end_is_refused_while_it_comes() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let line = "GET / HTTP/1.1\r\nHost: a\r\n";
    let field = format!("X-Field: {}\r\n", "x".repeat(1_000));
    for (start, piece, status) in [
        (line, field.as_str(), 431),
        (line, "x", 431),
        ("GET /", "x", 414),
        ("", "x", 414),
    ] {
        let mut endless = start.to_owned();
        while endless.len() < 63 * 1024 {
            endless.push_str(piece);
        }
        let raw = gateway.client().raw(&endless).await;
        assert!(raw.closed, "{start:?}: {raw:#?}");
        assert_problem(raw.answer.as_ref().expect("an answer"), status);
    }
    assert_eq!(origin.count(), 0);
    let metrics = gateway.call(get("/metrics")).await;
    for reason in ["header-size", "target-size"] {
        let line = format!("gateway_connections_cut_total{{reason=\"{reason}\"}} 2");
        assert!(metrics.text().contains(&line), "{}", metrics.text());
    }
    assert_eq!(gateway.client().get("/page").await.status, 200);
}

#[tokio::test]
async fn a_connection_ends_after_its_share_of_requests() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nkeepalive_requests_max = 5").await;
    let mut connection = gateway.client().connect().await;
    for _ in 0..5 {
        assert_eq!(connection.send(&get("/page")).await.status, 200);
    }
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn a_connection_ends_when_its_client_says_so() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    for _ in 0..2 {
        let mut connection = gateway.client().connect().await;
        let answer = connection
            .send(&get("/page").header("Connection", "close"))
            .await;
        assert_eq!(
            (answer.status, answer.header("connection")),
            (200, Some("close")),
            "{answer:#?}"
        );
        assert!(connection.is_closed().await);
    }
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nkeepalive_timeout = \"1s\"").await;
    let mut connection = gateway.client().connect().await;
    assert_eq!(connection.send(&get("/page")).await.status, 200);
    assert!(connection.is_closed().await);
}

#[tokio::test]
async fn the_budget_is_never_passed_however_much_is_filled() {
    const BUDGET: u64 = 2 << 20;
    let origin = FakeOrigin::start(|request| {
        let number: usize = request
            .target
            .rsplit('/')
            .next()
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        let reply = Reply::fresh("x".repeat(500 + number * 37 % 60_000));
        let reply = reply.header("Cache-Groups", &format!("\"all\", \"number-{number}\""));
        if number.is_multiple_of(3) {
            reply.chunked()
        } else {
            reply
        }
    })
    .await;
    let gateway = Gateway::with(
        &[&origin],
        "[cache]\nbudget = \"2MiB\"\nobject_max = \"1MiB\"",
    )
    .await;
    let client = gateway.client();
    let fillers: Vec<_> = (0..4)
        .map(|filler| {
            tokio::spawn(async move {
                let mut connection = client.connect().await;
                for number in 0..100 {
                    let answer = connection
                        .send(&get(&format!("/page/{}", number * 4 + filler)))
                        .await;
                    assert!(answer.status == 200 && answer.whole);
                }
            })
        })
        .collect();
    let mut seen = 0;
    while !fillers.iter().all(tokio::task::JoinHandle::is_finished) {
        let status = gateway.status().await;
        let used = status["cache"]["used_bytes"].as_u64().unwrap();
        assert!(used <= BUDGET, "{status}");
        seen += 1;
    }
    for filler in fillers {
        filler.await.unwrap();
    }
    let status = gateway.status().await;
    assert!(
        seen > 5 && status["cache"]["evictions"].as_u64().unwrap() > 100,
        "{status}"
    );
    assert!(
        status["cache"]["used_bytes"].as_u64().unwrap() > BUDGET / 2,
        "room is used: {status}"
    );
    gateway.purge(json!({ "all": true })).await;
    assert_eq!(gateway.status().await["cache"]["used_bytes"], 0);
}

#[tokio::test]
async fn one_connection_too_many_is_told_so_and_a_place_that_comes_free_is_given_again() {
    let origin = FakeOrigin::start(|request| Reply::fresh(request.target.clone())).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nconnections_max = 2\n").await;
    until(
        "the place of who asked whether it serves is free",
        || async { gateway.status().await["connections"] == 0 },
    )
    .await;
    let mut first = gateway.client().connect().await;
    let mut second = gateway.client().connect().await;
    assert_eq!(first.send(&get("/a")).await.status, 200);
    assert_eq!(second.send(&get("/a")).await.status, 200);
    let refused = gateway
        .client()
        .raw("GET /a HTTP/1.1\r\nHost: shop.test\r\n\r\n")
        .await;
    assert_eq!(refused.status(), Some(503));
    assert_eq!(
        second.send(&get("/a")).await.status,
        200,
        "those that are there are served on"
    );
    assert_eq!(gateway.status().await["connections"], 2);
    first.abort();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(5);
    loop {
        let answer = gateway
            .client()
            .raw("GET /a HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n")
            .await;
        if answer.status() == Some(200) {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "the place never came free"
        );
    }
}

#[tokio::test]
async fn a_header_that_drips_is_cut_off_at_its_deadline_and_a_slow_request_is_not() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::fresh("late").held(&held)).await;
    let gateway = Gateway::with(&[&origin], "[limits]\nheader_timeout = \"300ms\"\n").await;
    let mut slow = gateway.client().connect().await;
    slow.write(&get("/slow")).await;
    gate.reached(1).await;
    let mut dripping = gateway.client().connect().await;
    let began = tokio::time::Instant::now();
    dripping
        .write_bytes(b"GET / HTTP/1.1\r\nHost: shop.test\r\nX-Drip: ")
        .await;
    assert!(dripping.is_closed().await);
    let lasted = began.elapsed();
    assert!(
        lasted >= std::time::Duration::from_millis(250),
        "{lasted:?}"
    );
    assert!(lasted < std::time::Duration::from_secs(10), "{lasted:?}");
    gate.open();
    assert_eq!(slow.answer(&get("/slow")).await.text(), "late");
}

#[tokio::test]
async fn a_body_that_the_origin_refuses_ends_its_connection() {
    let origin = FakeOrigin::start(|_| Reply::new(413, "too large")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    let answer = connection
        .send(&Request::new("PUT", "/page").body(vec![b'x'; 70_000]))
        .await;
    assert_eq!(answer.status, 413);
    assert!(connection.is_closed().await);
}
