//! Answers that there is nothing, kept as long as the file says where the origin says nothing.

use crate::support::{FakeOrigin, Gateway, Reply, assert_hit, assert_miss, get};

/// An origin whose target names the status, and a `Cache-Control` behind it.
async fn refusing() -> FakeOrigin {
    FakeOrigin::start(|request| {
        let (status, control) = request.target[1..].split_once('/').unwrap_or_default();
        let reply = Reply::new(status.parse().expect("a status"), "nothing");
        match control {
            "plain" => reply,
            "cookie" => reply.header("Set-Cookie", "a=b"),
            control => reply.header("Cache-Control", control),
        }
    })
    .await
}

#[tokio::test]
async fn by_default_an_answer_that_there_is_nothing_is_kept_only_where_it_states_a_lifetime() {
    let origin = refusing().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for status in [404, 405, 410, 414, 501] {
        for _ in 0..2 {
            assert!(!client.get(&format!("/{status}/plain")).await.is_hit());
        }
        let stated = format!("/{status}/max-age=60");
        assert_miss(&client.get(&stated).await);
        let hit = client.get(&stated).await;
        assert_hit(&hit);
        assert_eq!(hit.status, status);
    }
}

#[tokio::test]
async fn with_a_negative_lifetime_it_is_kept_so_long_unless_it_says_otherwise() {
    let origin = refusing().await;
    let gateway = Gateway::with(&[&origin], "[cache]\nnegative_ttl = \"1h\"").await;
    let client = gateway.client();
    for status in [404, 405, 410, 414, 501] {
        let target = format!("/{status}/plain");
        assert_miss(&client.get(&target).await);
        let hit = client.get(&target).await;
        assert_hit(&hit);
        let ttl: u64 = hit
            .cache_status()
            .split("ttl=")
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        assert!((3_500..=3_600).contains(&ttl), "{hit:#?}");
    }
    for target in [
        "/404/no-store",
        "/404/private",
        "/404/max-age=0",
        "/404/cookie",
        "/200/plain",
        "/400/plain",
        "/403/plain",
        "/429/plain",
        "/500/plain",
        "/503/plain",
    ] {
        client.get(target).await;
        let again = client.get(target).await;
        assert!(!again.is_hit(), "{target}: {again:#?}");
    }
    let with_cookie = get("/404/plain?x").header("Cookie", "who=me");
    client.send(&with_cookie).await;
    assert!(
        !client.send(&with_cookie).await.is_hit(),
        "the origin may have looked at the cookie"
    );
    let told = gateway
        .call(get("/explain?url=http://shop.test/404/plain"))
        .await
        .json();
    let entry = &told["keys"][0]["entries"][0];
    assert_eq!(entry["lifetime_from"], "negative_ttl", "{told:#}");
}

#[tokio::test]
async fn a_route_has_a_negative_lifetime_of_its_own_whatever_cookies_clients_send() {
    let settings = "[cache]
negative_ttl = \"1h\"
[[route]]
path = \"/404/{control}\"
[[route]]
path = \"/410/{control}\"
negative_ttl = \"0s\"
";
    let origin = refusing().await;
    let gateway = Gateway::with(&[&origin], settings).await;
    let client = gateway.client();
    let with_cookie = get("/404/plain").header("Cookie", "who=me");
    assert_miss(&client.send(&with_cookie).await);
    assert_eq!(origin.last().header("cookie"), None);
    assert_hit(&client.send(&with_cookie).await);
    for _ in 0..2 {
        assert!(!client.get("/410/plain").await.is_hit());
    }
}
