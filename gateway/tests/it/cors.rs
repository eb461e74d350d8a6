//! Browsers of any origin may use the shop.

use crate::support::{Answer, FakeOrigin, Gate, Gateway, Reply, Request, free_address, get};

#[track_caller]
fn assert_open_to_browsers(answer: &Answer) {
    let values = |name: &str| -> Vec<&str> {
        answer
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect()
    };
    assert_eq!(values("access-control-allow-origin"), ["*"], "{answer:#?}");
    assert_eq!(
        values("access-control-expose-headers"),
        ["Location, ETag, Age, Cache-Status"],
        "{answer:#?}"
    );
    assert!(
        values("access-control-allow-credentials").is_empty(),
        "{answer:#?}"
    );
}

#[tokio::test]
async fn a_preflight_is_answered_by_the_gateway_itself() {
    let origin = FakeOrigin::start(|_| Reply::new(200, "unused")).await;
    let gateway = Gateway::shop(&[&origin]).await;
    for target in [
        "/reviews",
        "/api/reviews/",
        "/qa/answers/1/helpful",
        "/nowhere",
        "/cart?user_token=1",
    ] {
        let preflight = Request::new("OPTIONS", target)
            .header("Origin", "https://shop.example")
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "content-type");
        let answer = gateway.client().send(&preflight).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer:#?}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        assert_eq!(
            answer.header("access-control-allow-methods"),
            Some("GET, HEAD, POST, PUT, OPTIONS")
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            Some("Authorization, Content-Type, Idempotency-Key, If-None-Match")
        );
        assert_eq!(answer.header("access-control-max-age"), Some("86400"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn a_connection_serves_on_after_a_preflight() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    let mut connection = gateway.client().connect().await;
    for _ in 0..3 {
        assert_eq!(
            connection
                .send(&Request::new("OPTIONS", "/products"))
                .await
                .status,
            204
        );
        assert_eq!(connection.send(&get("/products")).await.text(), "page");
    }
}

#[tokio::test]
async fn every_other_answer_is_open_to_browsers() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/products/1" => Reply::public("page", &["g"])
            .header("ETag", "\"v\"")
            .header("Access-Control-Allow-Origin", "https://one.example")
            .header("Access-Control-Expose-Headers", "X-Other"),
        "/products/2" => Reply::new(404, "no").header("Cache-Control", "private, no-store"),
        "/products/3" => Reply::new(500, "no"),
        "/products/4" => Reply::hang_up(),
        "/products/5" => Reply::new(200, "late").held(&Gate::closed()),
        _ => Reply::new(201, "Created"),
    })
    .await;
    let gateway = Gateway::shop_with(
        &[&origin],
        &[("read_timeout = \"15s\"", "read_timeout = \"150ms\"")],
    )
    .await;
    let client = gateway.client();
    let requests = [
        (get("/products/1"), 200),
        (get("/products/1"), 200),
        (Request::new("HEAD", "/products/1"), 200),
        (get("/products/1").header("If-None-Match", "\"v\""), 304),
        (get("/products/1").header("Range", "bytes=0-1"), 206),
        (get("/products/2"), 404),
        (get("/products/3"), 500),
        (get("/products/4"), 502),
        (get("/products/5"), 504),
        (get("/products/../x"), 400),
        (get("/api/api/products"), 404),
        (Request::new("POST", "/reviews").body("{}"), 201),
        (Request::new("TRACE", "/products"), 405),
        (get("/products").header("Host", "a b"), 400),
        (get("/products").header("Content-Length", "70000"), 413),
    ];
    for (request, status) in requests {
        let answer = client.send(&request).await;
        assert_eq!(answer.status, status, "{request:?}: {answer:#?}");
        assert_open_to_browsers(&answer);
    }
    let down = Gateway::start(
        &[free_address()],
        Some(std::fs::read_to_string(gateway.path().join("gateway.toml")).unwrap()),
    )
    .await;
    assert_open_to_browsers(&down.client().get("/products").await);
}

#[tokio::test]
async fn without_a_cors_section_options_is_the_origins_to_answer() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(200, "the origin's").header("Access-Control-Allow-Origin", "https://one.example")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let answer = gateway.client().options("/page").await;
    assert_eq!(
        (answer.text(), origin.last().method.as_str()),
        ("the origin's", "OPTIONS")
    );
    assert_eq!(
        answer.header("access-control-allow-origin"),
        Some("https://one.example")
    );
}
