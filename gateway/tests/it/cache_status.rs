//! `Cache-Status` (RFC 9211) says what was done, behind what others said, and explanations say the same.

use serde_json::{Value, json};

use crate::support::{Answer, FakeOrigin, Gate, Gateway, Reply, get};

fn lines(answer: &Answer) -> Vec<&str> {
    let named = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "cache-status");
    named.map(|(_, value)| value.as_str()).collect()
}

/// Why the last answer of a target was not kept.
async fn last_refusal(gateway: &Gateway, target: &str) -> Value {
    let told = gateway
        .call(get(&format!("/explain?url=http://shop.test{target}")))
        .await
        .json();
    told["keys"][0]["last_refusal"]["reason"].clone()
}

#[tokio::test]
async fn what_caches_nearer_to_the_origin_say_stays_in_front() {
    let origin = FakeOrigin::start(|_| {
        Reply::fresh("page").header("Cache-Status", "inner; hit; ttl=9, other; fwd=miss")
    })
    .await;
    let gateway = Gateway::general(&[&origin]).await;
    for own in ["gateway; fwd=uri-miss", "gateway; hit"] {
        let answer = gateway.client().get("/page").await;
        let told = lines(&answer);
        assert_eq!(told.len(), 2, "{answer:#?}");
        assert_eq!(told[0], "inner; hit; ttl=9, other; fwd=miss");
        assert!(told[1].starts_with(own), "{answer:#?}");
    }
}

#[tokio::test]
async fn an_answer_that_a_purge_overtook_is_not_called_stored() {
    let gate = Gate::closed();
    let held = gate.clone();
    let origin = FakeOrigin::start(move |_| Reply::fresh("page").held(&held)).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let asked = tokio::spawn(async move { client.get("/page").await });
    gate.reached(1).await;
    gateway.purge(json!({ "urls": ["/page"] })).await;
    gate.open();
    let answer = asked.await.unwrap();
    assert_eq!(
        lines(&answer),
        ["gateway; fwd=uri-miss; detail=overtaken"],
        "{answer:#?}"
    );
    assert_eq!(last_refusal(&gateway, "/page").await, "overtaken");
}

#[tokio::test]
async fn an_answer_that_found_no_room_or_was_too_large_in_the_end_is_explained() {
    let origin = FakeOrigin::start(|request| match request.target.as_str() {
        "/full" => Reply::fresh(vec![b'x'; 1 << 20]),
        _ => Reply::fresh(vec![b'x'; (1 << 20) + 1]).chunked(),
    })
    .await;
    for (budget, target, length, reason) in [
        ("1MiB", "/full", 1 << 20, "no-room"),
        ("8MiB", "/large", (1 << 20) + 1, "too-large"),
    ] {
        let settings = format!("[cache]\nbudget = \"{budget}\"\nobject_max = \"1MiB\"");
        let gateway = Gateway::with(&[&origin], &settings).await;
        let answer = gateway.client().get(target).await;
        assert!(answer.whole && answer.body.len() == length, "{target}");
        let refusal = last_refusal(&gateway, target).await;
        assert_eq!(refusal, reason, "{target}");
    }
}

#[tokio::test]
async fn a_request_that_forbids_to_keep_its_answer_is_told_that_it_goes_past_the_cache() {
    let origin = FakeOrigin::start(|_| Reply::fresh("page")).await;
    let gateway = Gateway::general(&[&origin]).await;
    let request = get("/page").header("Cache-Control", "no-store");
    let answer = gateway.client().send(&request).await;
    assert_eq!(
        lines(&answer),
        ["gateway; fwd=bypass; detail=request-no-store"],
        "{answer:#?}"
    );
}
