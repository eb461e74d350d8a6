//! One question, one entry: spellings that mean the same share it, and the origin sees one of them only.

use serde_json::json;

use crate::support::{
    FakeOrigin, Gateway, Reply, Request, assert_hit, assert_miss, assert_one_entry, assert_problem,
    get,
};

/// An origin whose answer is the target it was asked for.
async fn echo() -> FakeOrigin {
    FakeOrigin::start(|request| Reply::public(request.target.clone(), &["g"])).await
}

#[tokio::test]
async fn prefixes_slashes_and_escapes_share_an_entry() {
    let origin = echo().await;
    let gateway = Gateway::shop(&[&origin]).await;
    let spellings = [
        "/products/2/styles",
        "/products/2/styles/",
        "//products///2/styles",
        "/api/products/2/styles",
        "/api/fec2/hr-rfp/products/2/styles/",
        "/api//products/2/styles",
        "/%70roducts/%32/styles",
        "/%61pi/products/2/styles",
        "/products/2/styles?unknown=1&nothing",
        "/products/2/styles?",
        "http://shop.test/products/2/styles",
    ];
    assert_one_entry(&gateway.client(), &origin, &spellings).await;
    assert_eq!(origin.last().target, "/products/2/styles");
}

#[tokio::test]
async fn defaults_order_unknown_and_repeated_parameters_share_an_entry() {
    let origin = echo().await;
    let gateway = Gateway::shop(&[&origin]).await;
    let spellings = [
        "/reviews?product_id=2",
        "/reviews/?product_id=2",
        "/reviews?product_id=2&page=1&count=5&sort=relevant",
        "/reviews?sort=RELEVANCE&count=5&page=1&product_id=2",
        "/reviews?product_id=2&sort=nonsense&page=0&count=-3",
        "/reviews?product_id=2&page=&count=x",
        "/reviews?utm_source=mail&product_id=2&fbclid=1",
        "/reviews?product_id=2&product_id=3&page=1&page=7",
        "/reviews?%70roduct_id=%32",
        "/api/reviews?&&product_id=2&",
    ];
    assert_one_entry(&gateway.client(), &origin, &spellings).await;
    assert_eq!(
        origin.last().target,
        "/reviews?product_id=2&page=1&count=5&sort=relevant"
    );
}

#[tokio::test]
async fn what_differs_in_meaning_differs_in_the_entry() {
    let origin = echo().await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    let questions = [
        (
            "/reviews?product_id=2",
            "/reviews?product_id=2&page=1&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=2&sort=newest",
            "/reviews?product_id=2&page=1&count=5&sort=newest",
        ),
        (
            "/reviews?product_id=2&sort=helpful",
            "/reviews?product_id=2&page=1&count=5&sort=helpful",
        ),
        (
            "/reviews?product_id=2&page=2",
            "/reviews?product_id=2&page=2&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=2&count=99999999999999999999",
            "/reviews?product_id=2&page=1&count=10000&sort=relevant",
        ),
        (
            "/reviews?product_id=02",
            "/reviews?product_id=02&page=1&count=5&sort=relevant",
        ),
        (
            "/reviews?product_id=",
            "/reviews?product_id=&page=1&count=5&sort=relevant",
        ),
        ("/reviews", "/reviews?page=1&count=5&sort=relevant"),
        ("/products", "/products?page=1&count=5"),
        ("/Products", "/Products"),
        ("/products/2", "/products/2"),
        ("/products/2%2Fstyles", "/products/2%2Fstyles"),
    ];
    for (asked, expected) in questions {
        let answer = client.get(asked).await;
        assert!(!answer.is_hit(), "{asked}: {answer:#?}");
        assert_eq!(
            answer.text(),
            expected,
            "the origin gets the canonical target of {asked}"
        );
        assert_eq!(origin.last().target, expected);
    }
}

#[tokio::test]
async fn the_host_splits_the_cache_unless_the_configuration_names_one() {
    let origin = FakeOrigin::start(|request| {
        Reply::fresh(request.header("host").unwrap_or_default().to_owned())
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for host in ["one.test", "two.test", "one.test:8080"] {
        let answer = client.send(&get("/").header("Host", host)).await;
        assert_eq!(
            answer.text(),
            host,
            "each host has its own entries: {answer:#?}"
        );
    }
    for same in ["ONE.test", "one.test.", "one.test:80"] {
        let answer = client.send(&get("/").header("Host", same)).await;
        assert_hit(&answer);
        assert_eq!(answer.text(), "one.test");
    }
    client
        .send(&get("/other").header("Host", "ONE.test.:80"))
        .await;
    assert_eq!(
        origin.last().header("host"),
        Some("one.test"),
        "the origin gets the spelling that is keyed"
    );
    let shop_origin = echo().await;
    let shop = Gateway::shop(&[&shop_origin]).await;
    shop.client()
        .send(&get("/products").header("Host", "a.test"))
        .await;
    assert_hit(
        &shop
            .client()
            .send(&get("/products").header("Host", "b.test:99"))
            .await,
    );
}

#[tokio::test]
async fn outside_the_routes_a_query_reaches_the_origin_as_sent() {
    let origin = echo().await;
    let gateway = Gateway::shop(&[&origin]).await;
    for (asked, expected) in [
        ("/cart?user_token=a%20b&x=1", "/cart?user_token=a%20b&x=1"),
        ("/api/cart/?b=2&a=1&a=3", "/cart?b=2&a=1&a=3"),
        ("/elsewhere?z&y=", "/elsewhere?z&y="),
    ] {
        gateway.client().get(asked).await;
        assert_eq!(origin.last().target, expected);
    }
}

#[tokio::test]
async fn a_location_gets_the_prefix_back_that_its_request_had() {
    let origin = FakeOrigin::start(|request| {
        let location = match request.target.split('?').next() {
            Some("/qa/questions") => "https://elsewhere.test/qa/1",
            Some("/cart") => "//elsewhere.test/cart",
            _ => "/reviews/77",
        };
        Reply::new(201, "Created").header("Location", location)
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    for (asked, expected) in [
        ("/reviews", "/reviews/77"),
        ("/api/reviews", "/api/reviews/77"),
        ("/api/fec2/hr-rfp/reviews/", "/api/fec2/hr-rfp/reviews/77"),
        ("/api/qa/questions", "https://elsewhere.test/qa/1"),
        ("/api/cart", "//elsewhere.test/cart"),
    ] {
        let answer = client.post(asked, "{}").await;
        assert_eq!(answer.header("location"), Some(expected), "{asked}");
    }
}

#[tokio::test]
async fn targets_that_could_mean_two_things_are_refused_and_the_origin_never_sees_them() {
    let origin = echo().await;
    let gateway = Gateway::shop(&[&origin]).await;
    for (target, status) in [
        ("/products/../cart", 400),
        ("/products/%2e%2e/cart", 400),
        ("/products/.%2E%2fcart", 400),
        ("/./products", 400),
        ("/api/api/products", 404),
        ("/api/fec2/x/api/products", 404),
    ] {
        assert_problem(&gateway.client().get(target).await, status);
    }
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn an_odd_request_leaves_nothing_behind_for_a_clean_one() {
    let origin = FakeOrigin::start(|request| {
        let seen: Vec<String> = request
            .headers
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        Reply::public(
            format!("{} {} {}", request.method, request.target, seen.join(" ")),
            &["g"],
        )
    })
    .await;
    let gateway = Gateway::shop(&[&origin]).await;
    let client = gateway.client();
    let odd = [
        ("Host", "evil.test"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Proto", "evil"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Port", "666"),
        ("X-Original-URL", "/evil"),
        ("X-Rewrite-URL", "/evil"),
        ("X-HTTP-Method-Override", "EVIL"),
        ("X-HTTP-Method", "EVIL"),
        ("X-Method-Override", "EVIL"),
        ("Forwarded", "host=evil.test"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("Cookie", "evil=1"),
        ("Authorization", "evil"),
    ];
    for (at, (name, value)) in odd.iter().enumerate() {
        let target = format!("/products/{}", at + 1);
        client
            .send(&get(&target).header(name, value).body("fat=evil"))
            .await;
        let clean = client.get(&target).await;
        assert_hit(&clean);
        let said = clean.text().to_ascii_lowercase();
        assert!(
            !said.contains("evil") && !said.contains("6.6.6.6") && !said.contains("666"),
            "{name}: {said}"
        );
    }
    let overridden = client.send(&Request::new("HEAD", "/products/99")).await;
    assert_eq!(overridden.status, 200);
    assert!(
        client
            .get("/products/99")
            .await
            .text()
            .starts_with("GET /products/99")
    );
}

const REDUCED: &str = "[http]
query_sort = true
query_ignore = [\"utm_*\", \"fbclid\", \"*gclid\"]
";

#[tokio::test]
async fn without_routes_what_means_nothing_in_a_query_makes_no_difference_where_the_file_says_so() {
    let origin = echo().await;
    let gateway = Gateway::with(&[&origin], REDUCED).await;
    let spellings = [
        "/page?a=1&b=2",
        "/page?b=2&a=1",
        "/page?utm_source=mail&b=2&utm_medium=x&a=1&fbclid=7",
        "/page?a=1&%75tm_source=mail&b=2&gclid&&dgclid=",
    ];
    assert_one_entry(&gateway.client(), &origin, &spellings).await;
    assert_eq!(origin.last().target, "/page?a=1&b=2");
    let client = gateway.client();
    for (asked, expected) in [
        ("/page?utm_source=mail", "/page"),
        ("/page?b=1&a=2&b=0", "/page?a=2&b=1&b=0"),
        ("/page?b=2&a=%31", "/page?a=%31&b=2"),
        ("/page?utm=1", "/page?utm=1"),
    ] {
        assert_eq!(client.get(asked).await.text(), expected, "{asked}");
    }
    let purged = gateway
        .purge(json!({ "urls": ["/page?fbclid=1&b=2&a=1"] }))
        .await;
    assert_eq!(
        purged["objects"], 1,
        "a purge reads a query alike: {purged}"
    );
    client.get("/page?a=1&b=2").await;
    client.post("/page?b=2&a=1&utm_source=x", "{}").await;
    assert_miss(&client.get("/page?a=1&b=2").await);
}

#[tokio::test]
async fn without_anything_about_it_in_the_file_a_query_is_keyed_and_sent_as_it_came() {
    let origin = echo().await;
    let gateway = Gateway::general(&[&origin]).await;
    for target in [
        "/page?b=2&a=1",
        "/page?a=1&b=2",
        "/page?utm_source=x&&",
        "/page?",
    ] {
        let answer = gateway.client().get(target).await;
        assert_miss(&answer);
        assert_eq!(answer.text(), target);
    }
}

#[tokio::test]
async fn a_list_of_what_is_kept_drops_the_rest_outside_the_routes_and_a_route_has_its_own() {
    let settings = "[http]
cache_unmatched = true
query_keep = [\"page\"]
query_ignore = [\"filter_trace\"]
[[route]]
path = \"/list\"
query = [{ name = \"sort\", kind = \"choice\", default = \"new\", values = { new = [], old = [] } }]
query_keep = [\"filter_*\"]
[[route]]
path = \"/strict\"
[[route]]
path = \"/passed\"
cache = false
";
    let origin = echo().await;
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    for (asked, expected) in [
        ("/any?x=1&page=2&y", "/any?page=2"),
        ("/any?x=1", "/any"),
        (
            "/list?filter_size=9&x=1&filter_trace=1&sort=odd&filter_color=red",
            "/list?sort=new&filter_color=red&filter_size=9",
        ),
        ("/strict?page=2&filter_a=1", "/strict"),
        ("/passed?x=1&filter_trace=2", "/passed?x=1&filter_trace=2"),
    ] {
        assert_eq!(client.get(asked).await.text(), expected, "{asked}");
        assert_eq!(origin.last().target, expected, "{asked}");
    }
}
