//! What the gateway adds, overwrites and keeps to itself.

use crate::support::{FakeOrigin, Gateway, Reply, Request, assert_problem, get};

#[tokio::test]
async fn every_request_has_a_name_that_origin_and_client_both_learn() {
    let origin =
        FakeOrigin::start(|_| Reply::fresh("page").header("X-Request-Id", "the-origins")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let first = client
        .send(&get("/page").header("X-Request-Id", "the-clients"))
        .await;
    let name = first
        .header("x-request-id")
        .expect("a request id")
        .to_owned();
    assert_eq!(origin.last().header("x-request-id"), Some(name.as_str()));
    assert!(name.len() >= 16 && !name.contains("the-"), "{name}");
    let hit = client.get("/page").await;
    assert_ne!(
        hit.header("x-request-id"),
        Some(name.as_str()),
        "a hit has a name of its own"
    );
    let ids = hit
        .headers
        .iter()
        .filter(|(name, _)| name == "x-request-id")
        .count();
    assert_eq!(ids, 1, "{hit:#?}");
    let refused = client.send(&Request::new("TRACE", "/page")).await;
    assert!(refused.header("x-request-id").is_some(), "{refused:#?}");
}

#[tokio::test]
async fn forwarding_fields_say_what_the_gateway_knows_and_not_what_a_client_claims() {
    let origin = FakeOrigin::start(|_| Reply::new(200, "page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let claims = get("/page")
        .header("Host", "real.test")
        .header("X-Forwarded-For", "6.6.6.6")
        .header("X-Forwarded-For", "7.7.7.7")
        .header("X-Forwarded-Host", "evil.test")
        .header("X-Forwarded-Proto", "gopher")
        .header("X-Forwarded-Port", "666")
        .header("X-Forwarded-Prefix", "/evil")
        .header("Forwarded", "for=6.6.6.6")
        .header("X-Real-IP", "6.6.6.6")
        .header("X-Original-URL", "/evil")
        .header("X-HTTP-Method-Override", "DELETE");
    gateway.client().send(&claims).await;
    let received = origin.last();
    let values = |name: &str| -> Vec<String> {
        received
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
            .collect()
    };
    assert_eq!(values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values("x-forwarded-host"), ["real.test"]);
    assert_eq!(values("x-forwarded-proto"), ["http"]);
    for gone in [
        "forwarded",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-original-url",
        "x-http-method-override",
        "x-real-ip",
    ] {
        assert_eq!(values(gone), Vec::<String>::new(), "{gone}: {received:#?}");
    }
}

#[tokio::test]
async fn fields_of_one_connection_end_with_it() {
    let origin = FakeOrigin::start(|_| {
        Reply::fresh("page")
            .header("Keep-Alive", "timeout=5")
            .header("Proxy-Authenticate", "Basic")
            .header("X-Kept", "yes")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let nominated = get("/page")
        .header("Connection", "keep-alive, X-Nominated")
        .header("X-Nominated", "secret")
        .header("Keep-Alive", "timeout=5")
        .header("TE", "trailers")
        .header("Proxy-Authorization", "Basic eA==")
        .header("Proxy-Connection", "keep-alive")
        .header("Upgrade", "websocket");
    client.send(&nominated).await;
    let received = origin.last();
    for gone in [
        "x-nominated",
        "keep-alive",
        "te",
        "proxy-authorization",
        "proxy-connection",
        "upgrade",
    ] {
        assert_eq!(received.header(gone), None, "{gone}: {received:#?}");
    }
    for _ in 0..2 {
        let answer = client.get("/page").await;
        assert_eq!(answer.header("x-kept"), Some("yes"));
        assert_eq!(answer.header("keep-alive"), None, "{answer:#?}");
    }
}

#[tokio::test]
async fn a_client_cannot_nominate_away_what_the_gateway_says() {
    let origin = FakeOrigin::start(|_| Reply::new(200, "page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    for nominated in ["Host", "X-Forwarded-For", "X-Request-Id", "Content-Length"] {
        let before = origin.count();
        let request = Request::new("POST", "/page")
            .header("Connection", nominated)
            .body("{}");
        let answer = gateway.client().send(&request).await;
        if answer.status == 200 {
            let received = origin.last();
            for field in ["host", "x-forwarded-for", "x-request-id"] {
                assert!(
                    received.header(field).is_some(),
                    "{nominated}: {received:#?}"
                );
            }
            assert!(received.whole && received.body == "{}");
        } else {
            assert_eq!(
                (answer.status, origin.count()),
                (400, before),
                "{nominated}"
            );
        }
    }
}

#[tokio::test]
async fn shared_routes_get_no_credentials_and_private_ones_do() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &["g"])).await;
    let gateway = Gateway::shop(&[&origin]).await;
    let with = |request: Request| {
        request
            .header("Cookie", "atelier_cart=1")
            .header("Authorization", "Bearer t")
    };
    gateway.client().send(&with(get("/products/1"))).await;
    let shared = origin.last();
    assert_eq!(
        (shared.header("cookie"), shared.header("authorization")),
        (None, None),
        "{shared:#?}"
    );
    for private in [
        get("/cart"),
        Request::new("POST", "/cart").body("{}"),
        Request::new("POST", "/reviews").body("{}"),
    ] {
        gateway.client().send(&with(private)).await;
        let received = origin.last();
        assert_eq!(
            received.header("cookie"),
            Some("atelier_cart=1"),
            "{received:#?}"
        );
        assert_eq!(
            received.header("authorization"),
            Some("Bearer t"),
            "{received:#?}"
        );
    }
}

#[tokio::test]
async fn an_origins_answer_passes_with_its_own_fields() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(201, "Created")
            .header("Content-Type", "text/plain; charset=utf-8")
            .header("Idempotency-Replayed", "true")
            .header("Set-Cookie", "a=1")
            .header("Set-Cookie", "b=2")
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let answer = gateway.client().post("/cart", "{\"sku_id\":1}").await;
    assert_eq!(origin.last().body, "{\"sku_id\":1}");
    assert_eq!(
        answer.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("idempotency-replayed"), Some("true"));
    let cookies: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .collect();
    assert_eq!(cookies.len(), 2, "{answer:#?}");
}

#[tokio::test]
async fn a_refused_method_names_those_of_its_route_and_an_unknown_path_is_not_found() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    let refused = client.send(&Request::new("TRACE", "/products")).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD"))
    );
    let refused = client.send(&Request::new("BREW", "/reviews/")).await;
    assert_eq!(
        (refused.status, refused.header("allow")),
        (405, Some("GET, HEAD, POST"))
    );
    assert_eq!(
        client.send(&Request::new("BREW", "/nowhere")).await.status,
        404
    );
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn without_routes_methods_that_are_not_on_the_list_are_refused_with_those_that_are() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let general = Gateway::general(&[&origin]).await;
    let reads = Gateway::with(&[&origin], "http.methods = [\"GET\"]\n").await;
    let every = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";
    for (gateway, allowed) in [(&general, every), (&reads, "GET, HEAD")] {
        for (method, target) in [
            ("TRACE", "/page"),
            ("CONNECT", "shop.test:443"),
            ("CONNECT", "/page"),
            ("PURGE", "/page"),
            ("BAN", "/page"),
            ("BREW", "/page"),
            ("M-SEARCH", "/page"),
            ("get", "/page"),
        ] {
            let request = Request::new(method, target);
            let mut connection = gateway.client().connect().await;
            let refused = connection.send(&request).await;
            assert_problem(&refused, 405);
            assert_eq!(refused.header("allow"), Some(allowed), "{method} {target}");
            assert!(refused.header("x-request-id").is_some(), "{refused:#?}");
            assert!(connection.is_closed().await, "{method} {target}");
        }
    }
    assert_eq!(reads.client().post("/page", "").await.status, 405);
    assert_eq!(origin.count(), 0);
    for method in ["PATCH", "DELETE", "OPTIONS"] {
        let request = Request::new(method, "/page");
        assert_eq!(general.client().send(&request).await.status, 200);
    }
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn a_client_of_http_1_0_needs_no_host_where_there_is_only_one() {
    let origin = FakeOrigin::start(|_| Reply::public("page", &[])).await;
    let shop = Gateway::shop(&[&origin]).await;
    assert_eq!(
        shop.client()
            .raw("GET /products HTTP/1.0\r\n\r\n")
            .await
            .status(),
        Some(200)
    );
    let general = Gateway::general(&[&origin]).await;
    assert_eq!(
        general
            .client()
            .raw("GET /products HTTP/1.0\r\n\r\n")
            .await
            .status(),
        Some(400)
    );
}

#[tokio::test]
async fn a_url_whose_variant_is_missing_is_told_from_one_that_is_unknown() {
    let origin =
        FakeOrigin::start(|_| Reply::fresh("page").header("Vary", "Accept-Language")).await;
    let gateway = Gateway::general(&[&origin]).await;
    for (language, reason) in [("en", "fwd=uri-miss;"), ("de", "fwd=vary-miss;")] {
        let answer = gateway
            .client()
            .send(&get("/page").header("Accept-Language", language))
            .await;
        let status = answer.cache_status();
        assert!(
            status.contains(reason) && status.contains("stored"),
            "{answer:#?}"
        );
    }
}
