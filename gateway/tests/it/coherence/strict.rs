//! Mode `strict`: what cannot be proven is not answered, and a write's answer waits for the other gateways.

use std::time::{Duration, Instant};

use super::{asked_after, caught_up, following, leased, pages, standing, unleased, write};
use crate::support::{
    FakeOrigin, FakeTail, Gateway, Probes, Reply, assert_hit, assert_miss, assert_problem,
};

const STRICT: &str = "mode = \"strict\"\nlease = \"500ms\"";

#[tokio::test]
async fn with_a_lease_it_is_a_cache_like_any_other() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "mode = \"strict\"").await;
    let client = gateway.client();
    assert_miss(&client.get("/a").await);
    assert_hit(&client.get("/a").await);
    tail.commit(&["a"]);
    caught_up(&gateway, &tail).await;
    assert_miss(&client.get("/a").await);
    assert_eq!(standing(&gateway).await["mode"], "strict");
}

#[tokio::test]
async fn without_a_lease_the_primary_answers_or_nobody() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let more = format!("{STRICT}\nrevalidations_max = 1");
    let gateway = following(&origin, &[&tail], &more).await;
    let client = gateway.client();
    client.get("/a").await;
    assert_hit(&client.get("/a").await);
    tail.probes(Probes::Refused);
    unleased(&gateway).await;
    let (asked, began) = (origin.count(), Instant::now());
    let mut refused = 0;
    for round in 0..30 {
        let answer = client.get(if round % 2 == 0 { "/a" } else { "/b" }).await;
        if answer.status == 503 {
            assert_problem(&answer, 503);
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        } else {
            assert!(
                answer
                    .cache_status()
                    .ends_with("fwd=bypass; detail=no-lease"),
                "{answer:#?}"
            );
            assert_eq!(asked_after(&origin).as_deref(), Some("primary"));
        }
    }
    let passed = origin.count() - asked;
    assert_eq!(passed + refused, 30);
    assert!(
        (1..=2 + began.elapsed().as_secs() as usize).contains(&passed),
        "{passed}"
    );
    assert_eq!(
        client.post("/write", "{}").await.status,
        201,
        "writes go on"
    );
    tail.probes(Probes::Answered);
    leased(&gateway).await;
    assert_hit(&client.get("/a").await);
}

#[tokio::test]
async fn nothing_stale_covers_for_an_origin_that_fails() {
    let tail = FakeTail::start("a").await;
    let origin = FakeOrigin::start(|request| match request.header("if-none-match") {
        None => Reply::public("page", &["a"]).header("ETag", "\"1\""),
        Some(_) => Reply::new(503, "no database"),
    })
    .await;
    let gateway = following(&origin, &[&tail], "mode = \"strict\"").await;
    let client = gateway.client();
    client.get("/a").await;
    gateway
        .purge(serde_json::json!({ "tags": ["a"], "soft": true }))
        .await;
    assert_eq!(client.get("/a").await.status, 503);
}

/// Two gateways in mode `strict` of which the first waits for the second.
async fn pair(origin: &FakeOrigin, tail: &FakeTail, lease: &str) -> (Gateway, Gateway) {
    let section = format!("mode = \"strict\"\nlease = \"{lease}\"");
    let second = following(origin, &[tail], &section).await;
    let more = format!("{section}\npeers = [\"{}\"]", second.admin);
    let first = following(origin, &[tail], &more).await;
    (first, second)
}

#[tokio::test]
async fn a_writes_answer_waits_until_the_other_gateway_has_heard_of_it() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let (first, second) = pair(&origin, &tail, "1m").await;
    second.client().get("/g").await;
    assert_hit(&second.client().get("/g").await);
    let token = tail.next();
    let client = first.client();
    let writing = tokio::spawn(async move { client.send(&write("g", token)).await });
    crate::support::until("the origin has answered the write", || async {
        standing(&first).await["pending_writes"] == 1
    })
    .await;
    assert_hit(&second.client().get("/g").await);
    assert!(
        !writing.is_finished(),
        "the other gateway still answers with what was before"
    );
    tail.commit(&["g"]);
    assert_eq!(writing.await.unwrap().status, 201);
    assert_miss(&second.client().get("/g").await);
}

#[tokio::test]
async fn a_writes_answer_waits_for_a_gateway_that_hangs_as_long_as_its_lease() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let (first, second) = pair(&origin, &tail, "500ms").await;
    second.freeze().await;
    let began = Instant::now();
    let written = first.client().send(&write("g", tail.next())).await;
    assert_eq!(written.status, 201);
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    second.signal("CONT");
}

#[tokio::test]
async fn a_write_that_changed_nothing_kept_waits_for_nobody() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let (first, second) = pair(&origin, &tail, "1m").await;
    second.freeze().await;
    assert_eq!(first.client().post("/write", "{}").await.status, 201);
    second.signal("CONT");
}

#[tokio::test]
async fn a_gateway_tells_others_only_whether_it_has_heard_of_a_write() {
    let (origin, tail) = (pages().await, FakeTail::start("a").await);
    let gateway = following(&origin, &[&tail], "lease = \"200ms\"").await;
    let admin = gateway.admin();
    let heard = admin.get("/coherence/includes?token=5").await;
    assert_eq!((heard.status, heard.text()), (200, "{\"included\":true}"));
    let unheard = admin.get("/coherence/includes?token=100000").await;
    assert_eq!(
        (unheard.status, unheard.text()),
        (200, "{\"included\":false}")
    );
    assert_eq!(admin.get("/coherence/includes?token=x").await.status, 400);
    let without = Gateway::general(&[&origin]).await;
    assert_eq!(
        without
            .admin()
            .get("/coherence/includes?token=5")
            .await
            .status,
        404
    );
}
