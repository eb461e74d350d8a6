//! What must not be kept is not kept, and a write never meets the cache.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::{
    FakeOrigin, Gate, Gateway, Reply, Request, assert_hit, assert_not_stored, assert_passed, get,
};

#[tokio::test]
async fn answers_that_forbid_it_are_never_stored() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/no-store" => Reply::new(200, "x").header("Cache-Control", "no-store, max-age=60"),
        "/private" => Reply::new(200, "x").header("Cache-Control", "private, max-age=60"),
        "/class-n" => Reply::new(200, "x").header("Cache-Control", "private, no-store"),
        "/cookie" => Reply::new(200, "x")
            .header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
            .header("Set-Cookie", "id=1"),
        "/failure" => Reply::new(500, "x").header("Cache-Control", "no-store"),
        "/vary-any" => Reply::fresh("x").header("Vary", "*"),
        "/bad-groups" => Reply::fresh("x").header("Cache-Groups", "not a list of strings"),
        "/partial" => Reply::new(206, "x")
            .header("Cache-Control", "max-age=60")
            .header("Content-Range", "bytes 0-0/9"),
        _ => Reply::new(200, "says nothing"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for target in [
        "/no-store",
        "/private",
        "/class-n",
        "/cookie",
        "/failure",
        "/vary-any",
        "/bad-groups",
        "/partial",
        "/silent",
    ] {
        assert_not_stored(&gateway.client(), &origin, target).await;
    }
    assert_eq!(gateway.status().await["cache"]["objects"], 0);
}

#[tokio::test]
async fn what_ones_credentials_forbid_to_keep_is_fetched_once_for_everybody_else() {
    for field in ["authorization", "cookie"] {
        let (gate, known_gate) = (Gate::closed(), Gate::closed());
        let (held, known_held) = (gate.clone(), known_gate.clone());
        let asked = AtomicUsize::new(0);
        let origin = FakeOrigin::start(move |request| {
            let reply = match field {
                "authorization" => Reply::fresh("x"),
                _ => Reply::new(200, "x").header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
            };
            match (asked.fetch_add(1, Ordering::SeqCst), request.header(field)) {
                (0, _) => reply,
                (_, Some(_)) => reply.held(&known_held),
                (_, None) => reply.held(&held),
            }
        })
        .await;
        let gateway = Gateway::general(&[&origin]).await;
        let known = get("/page").header(field, "a");
        assert_passed(&gateway.client().send(&known).await);
        let ask = |request: Request, times: usize| -> Vec<_> {
            (0..times)
                .map(|_| {
                    let (client, request) = (gateway.client(), request.clone());
                    tokio::spawn(async move { client.send(&request).await })
                })
                .collect()
        };
        // Nobody with credentials waits for a fill that does not come.
        let mut answers = ask(known, 2);
        known_gate.reached(2).await;
        known_gate.open();
        answers.extend(ask(get("/page"), 30));
        gate.reached(1).await;
        gate.open();
        for answer in answers {
            assert_eq!(answer.await.expect("an answer").text(), "x");
        }
        assert_eq!(origin.count(), 4, "{field}: one fetch for the thirty");
    }
}

#[tokio::test]
async fn the_shop_keeps_only_what_its_origin_marks() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/products/1" => Reply::new(200, "x").header("Cache-Control", "public, max-age=3600"),
        "/products/2" => Reply::new(200, "x").header("CDN-Cache-Control", "max-age=3600"),
        "/products/3" => Reply::new(404, "x").header("Cache-Control", "private, no-store"),
        "/products/4" => Reply::public("x", &["product-4"]).header("Set-Cookie", "a=b"),
        "/products/5" => Reply::new(503, "x")
            .header("Retry-After", "1")
            .header("Cache-Control", "private, no-store"),
        _ => Reply::public("elsewhere", &["x"]),
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    for target in [
        "/products/1",
        "/products/2",
        "/products/3",
        "/products/4",
        "/products/5",
        "/nowhere",
        "/cart",
    ] {
        assert_not_stored(&gateway.client(), &origin, target).await;
    }
    assert_eq!(gateway.status().await["cache"]["objects"], 0);
}

#[tokio::test]
async fn an_unknown_product_is_kept_as_the_404_it_is() {
    let origin = FakeOrigin::start(|_| {
        let mut reply = Reply::new(404, "{}").header("Content-Type", "application/problem+json");
        reply = reply.header("CDN-Cache-Control", "public, max-age=86400");
        reply.header("Cache-Groups", "\"product-9\"")
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    gateway.client().get("/products/9").await;
    let hit = gateway.client().get("/products/9").await;
    assert_hit(&hit);
    assert_eq!(hit.status, 404);
}

#[tokio::test]
async fn answers_to_requests_with_credentials_are_not_shared_unless_marked() {
    let origin = FakeOrigin::start(|request| {
        let reply = Reply::new(200, "mine");
        let lifetime = if request.target == "/marked" {
            "public, max-age=60"
        } else {
            "max-age=60"
        };
        reply.header("Cache-Control", lifetime)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let with = |target: &str| get(target).header("Authorization", "Bearer secret");
    assert_passed(&client.send(&with("/page")).await);
    assert_eq!(origin.last().header("authorization"), Some("Bearer secret"));
    assert!(!client.get("/page").await.is_hit());
    client.send(&with("/marked")).await;
    assert_hit(&client.get("/marked").await);
}

#[tokio::test]
async fn a_write_is_never_answered_from_nor_stored_in_the_cache() {
    let origin = FakeOrigin::start(|request| Reply::fresh(request.method.clone())).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut sent = 0;
    for method in ["POST", "PUT", "PATCH", "DELETE", "POST", "PUT"] {
        for _ in 0..20 {
            let answer = client.send(&Request::new(method, "/page").body("{}")).await;
            sent += 1;
            assert_eq!(
                (answer.text(), origin.count()),
                (method, sent),
                "{answer:#?}"
            );
            assert!(answer.cache_status().contains("fwd=method"), "{answer:#?}");
        }
    }
    let read = client.get("/page").await;
    assert_eq!(read.text(), "GET", "no write's answer was kept: {read:#?}");
}

#[tokio::test]
async fn an_error_is_not_remembered_against_the_answer_that_follows() {
    let origin = FakeOrigin::start(|request| match request.header("x-round") {
        Some("1") => Reply::new(503, "down"),
        _ => Reply::fresh("up"),
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    assert_eq!(
        client
            .send(&get("/page").header("X-Round", "1"))
            .await
            .status,
        503
    );
    assert_eq!(client.get("/page").await.text(), "up");
    assert_hit(&client.get("/page").await);
}

#[tokio::test]
async fn a_key_that_was_uncacheable_is_kept_once_it_is_cacheable_and_without_anybodys_credentials()
{
    let origin = FakeOrigin::start(|request| match request.header("x-round") {
        Some("1") => Reply::new(200, "not yet").header("Cache-Control", "private, no-store"),
        _ => Reply::public(format!("{:?}", request.header("cookie")), &["products"]),
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    assert_passed(&client.send(&get("/products").header("X-Round", "1")).await);
    // The gateway now expects nothing to keep here; what it keeps all the same must be fit for everybody.
    let second = get("/products")
        .header("Cookie", "id=7")
        .header("Authorization", "t");
    assert_eq!(
        client
            .send(&second.header("Accept-Encoding", "gzip"))
            .await
            .text(),
        "None"
    );
    let received = origin.last();
    for credential in ["cookie", "authorization"] {
        assert_eq!(received.header(credential), None, "{received:#?}");
    }
    assert!(
        matches!(received.header("accept-encoding"), None | Some("identity")),
        "{received:#?}"
    );
    let hit = client.get("/products").await;
    assert_hit(&hit);
    assert_eq!(hit.text(), "None");
}

#[tokio::test]
async fn must_understand_lifts_no_store_only_for_a_status_that_is_known() {
    let origin = FakeOrigin::start(|request| {
        let control = "max-age=60, no-store, must-understand";
        let status = if request.target == "/known" { 200 } else { 299 };
        Reply::new(status, "x").header("Cache-Control", control)
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/known").await;
    assert_hit(&gateway.client().get("/known").await);
    assert_not_stored(&gateway.client(), &origin, "/unknown").await;
}

#[tokio::test]
async fn must_understand_forbids_a_status_that_is_not_known() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(299, "x").header("Cache-Control", "max-age=60, must-understand")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let passed = gateway.client().get("/page").await;
    assert!(
        passed.cache_status().contains("detail=not-understood"),
        "{passed:#?}"
    );
    assert_not_stored(&gateway.client(), &origin, "/page").await;
}

#[tokio::test]
async fn a_cookie_is_shared_where_the_origin_states_a_lifetime_and_no_routes_say_otherwise() {
    let origin = FakeOrigin::start(|_| Reply::fresh("x").header("Set-Cookie", "a=b")).await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    let hit = gateway.client().get("/page").await;
    assert_hit(&hit);
    assert_eq!(hit.header("set-cookie"), Some("a=b"));
    let site = Gateway::with(&[&origin], "[[route]]\npath = \"/page\"").await;
    assert_not_stored(&site.client(), &origin, "/page").await;
}

#[tokio::test]
async fn a_lifetime_is_guessed_for_any_origin_and_not_where_routes_say_what_is_cached() {
    let origin = FakeOrigin::start(|_| {
        Reply::new(200, "x").header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    gateway.client().get("/page").await;
    assert_hit(&gateway.client().get("/page").await);
    let site = Gateway::with(&[&origin], "[[route]]\npath = \"/page\"").await;
    assert_not_stored(&site.client(), &origin, "/page").await;
}

#[tokio::test]
async fn a_failure_with_a_lifetime_is_kept_as_the_answer_it_is() {
    let origin = FakeOrigin::start(|request| {
        let status = request.target[1..].parse().unwrap_or(500);
        Reply::new(status, "x").header("Cache-Control", "max-age=60")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for status in [404, 410, 451, 500, 503] {
        let target = format!("/{status}");
        gateway.client().get(&target).await;
        let hit = gateway.client().get(&target).await;
        assert_hit(&hit);
        assert_eq!(hit.status, status);
    }
}

#[tokio::test]
async fn a_method_that_the_settings_name_passes_and_makes_its_target_old() {
    let origin = FakeOrigin::start(|_| Reply::fresh("x")).await;
    let settings = "[http]\nmethods = [\"GET\", \"M-SEARCH\"]\n";
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    client.get("/page").await;
    let answer = client
        .send(&Request::new("M-SEARCH", "/page").body("x"))
        .await;
    assert_passed(&answer);
    assert_eq!(origin.last().method, "M-SEARCH");
    assert!(!client.get("/page").await.is_hit());
}
