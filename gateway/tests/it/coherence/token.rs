//! Tokens: a reader of this gateway who knows of a write through another one is not answered with what was before it.

use std::time::{Duration, Instant};

use super::{asked_after, caught_up, following, pages, standing, unleased, write};
use crate::support::{FakeTail, Probes, Request, assert_hit, assert_miss, get, until};

fn read(target: &str, token: &str) -> Request {
    get(target).header("Cache-Coherence-Token", token)
}

#[tokio::test]
async fn a_token_that_has_been_seen_changes_nothing() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "").await;
    let client = gateway.client();
    client.get("/g").await;
    let token = tail.commit(&["g"]);
    caught_up(&gateway, &tail).await;
    let request = read("/g", &format!("3, {token}"));
    assert_miss(&client.send(&request).await);
    assert_hit(&client.send(&request).await);
    assert_eq!(origin.requests()[1].header("cache-coherence-token"), None);
}

#[tokio::test]
async fn a_token_that_is_about_to_be_seen_is_waited_for() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "token_wait = \"10s\"").await;
    let client = gateway.client();
    client.get("/g").await;
    let token = tail.next();
    let waiting = tokio::spawn(async move { client.send(&read("/g", &token.to_string())).await });
    assert_hit(&gateway.client().get("/g").await);
    assert!(!waiting.is_finished());
    tail.commit(&["g"]);
    assert_miss(&waiting.await.unwrap());
}

#[tokio::test]
async fn a_token_that_is_not_seen_in_time_or_cannot_be_read_asks_the_primary() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "token_wait = \"50ms\"").await;
    let client = gateway.client();
    client.get("/g").await;
    let many = vec!["1"; 17].join(",");
    for token in ["100000", "1, 100000", "nonsense", "1,,2", many.as_str()] {
        let (asked, began) = (origin.count(), Instant::now());
        let answer = client.send(&read("/g", token)).await;
        assert_eq!(answer.status, 200);
        assert!(
            answer.cache_status().ends_with("fwd=bypass; detail=token"),
            "{answer:#?}"
        );
        assert_eq!(origin.count(), asked + 1);
        assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    assert_hit(&client.get("/g").await);
}

#[tokio::test]
async fn tokens_make_the_origin_no_busier_than_the_bound() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = "token_wait = \"0s\"\nrevalidations_max = 1";
    let gateway = following(&origin, &[&tail], more).await;
    let client = gateway.client();
    client.get("/g").await;
    let mut refused = 0;
    let began = Instant::now();
    for _ in 0..30 {
        let answer = client.send(&read("/g", "100000")).await;
        if answer.status == 503 {
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        }
    }
    let most = 2 + began.elapsed().as_secs() as usize;
    assert!(origin.count() <= 1 + most);
    assert_eq!(origin.count() - 1 + refused, 30);
}

#[tokio::test]
async fn a_reader_with_a_token_is_not_given_what_everything_made_stale() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = "lease = \"500ms\"\nfresh_without_lease = \"0s\"\nrevalidations_max = 1";
    let gateway = following(&origin, &[&tail], more).await;
    let client = gateway.client();
    let token = tail.commit(&["g"]).to_string();
    caught_up(&gateway, &tail).await;
    client.get("/g").await;
    client.get("/other").await;
    tail.trim();
    tail.cut();
    tail.commit(&["x"]);
    caught_up(&gateway, &tail).await;
    assert_eq!(standing(&gateway).await["everything"]["reason"], "trimmed");
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    until("there is no leave to ask the origin", || async {
        let read = client.get("/other").await;
        read.cache_status().ends_with("detail=no-lease-stale")
    })
    .await;
    let answer = client.send(&read("/g", &token)).await;
    assert!(answer.status == 503 || !answer.is_hit(), "{answer:#?}");
}

#[tokio::test]
async fn the_gateway_that_took_a_write_need_not_wait_for_its_event() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "token_wait = \"10s\"").await;
    let client = gateway.client();
    client.get("/g").await;
    let token = tail.next();
    let written = client.send(&write("g", token)).await;
    let told = written.header("cache-coherence-token").expect("a token");
    assert_eq!(told, token.to_string());
    assert_eq!(written.header("set-cookie"), None);
    let request = read("/g", told);
    assert_miss(&client.send(&request).await);
    assert_hit(&client.send(&request).await);
}

#[tokio::test]
async fn a_browser_presents_its_cookie_where_that_is_asked_for() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = "token_cookie = true\ntoken_wait = \"0s\"";
    let (first, second) = (
        following(&origin, &[&tail], more).await,
        following(&origin, &[&tail], more).await,
    );
    second.client().get("/g").await;
    let token = tail.next();
    let written = first.client().send(&write("g", token)).await;
    let cookie = written.header("set-cookie").expect("a cookie").to_owned();
    assert!(
        cookie.ends_with("; Max-Age=60; Path=/; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let pair = cookie.split(';').next().expect("a pair");
    let request = get("/g").header("Cookie", &format!("other=1; {pair}"));
    let early = second.client().send(&request).await;
    assert!(early.cache_status().contains("detail=token"), "{early:#?}");
    tail.commit(&["g"]);
    caught_up(&second, &tail).await;
    assert_miss(&second.client().send(&request).await);
    assert_hit(&second.client().send(&request).await);
}

#[tokio::test]
async fn a_gateway_that_follows_nothing_keeps_tokens_to_itself() {
    let origin = pages().await;
    let gateway = crate::support::Gateway::general(&[&origin]).await;
    let client = gateway.client();
    client.send(&read("/g", "5")).await;
    assert_eq!(origin.last().header("cache-coherence-token"), None);
    assert_hit(&client.send(&read("/g", "5")).await);
}
