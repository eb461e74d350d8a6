//! A fetch that hangs, and a purge after it: who comes after the purge waits for none that began before it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::support::{Answer, Client, FakeOrigin, Gate, Gateway, Reply, assert_hit, get};

/// Far below every timeout of a lock or of an origin.
const PROMPT: Duration = Duration::from_secs(2);

/// What the origin answers next, in this order; the last one for ever.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Vec<Reply>>>);

impl Script {
    fn set(&self, replies: impl IntoIterator<Item = Reply>) {
        let mut replies: Vec<Reply> = replies.into_iter().collect();
        replies.reverse();
        *self.0.lock() = replies;
    }

    async fn origin(&self) -> FakeOrigin {
        let script = self.clone();
        FakeOrigin::start(move |_| {
            let mut replies = script.0.lock();
            let next = if replies.len() > 1 {
                replies.pop()
            } else {
                replies.first().cloned()
            };
            next.expect("a reply for every request")
        })
        .await
    }
}

fn page(body: &'static str) -> Reply {
    Reply::fresh(body).header("Cache-Groups", "\"group\"")
}

fn stale(body: &'static str, directives: &str) -> Reply {
    Reply::new(200, body)
        .header("Cache-Control", &format!("max-age=60{directives}"))
        .header("Age", "61")
        .header("ETag", "\"1\"")
        .header("Cache-Groups", "\"group\"")
}

/// Every way to name the page.
fn scopes() -> [Value; 6] {
    [
        json!({ "tags": ["group"] }),
        json!({ "urls": ["/page"] }),
        json!({ "urls": ["http://shop.test/page"] }),
        json!({ "prefixes": ["/pa"] }),
        json!({ "prefixes": ["http://shop.test/"] }),
        json!({ "all": true }),
    ]
}

fn ask(client: Client) -> JoinHandle<Answer> {
    tokio::spawn(async move { client.get("/page").await })
}

/// Asks, and is answered long before any timeout.
async fn promptly(client: Client) -> Answer {
    let began = Instant::now();
    let answer = client.get("/page").await;
    assert!(began.elapsed() < PROMPT, "waited {:?}", began.elapsed());
    answer
}

/// Returns when every request sent before has been read: this one needs no origin.
async fn settle(client: Client) {
    let marker = get("/marker").header("Cache-Control", "only-if-cached");
    assert_eq!(client.send(&marker).await.status, 504);
}

#[tokio::test]
async fn a_request_after_a_purge_does_not_wait_for_a_miss_that_hangs() {
    for (round, scope) in scopes().into_iter().enumerate() {
        for known in [false, true] {
            let script = Script::default();
            let origin = script.origin().await;
            let gateway = Gateway::general(&[&origin]).await;
            let client = gateway.client();
            if known {
                // The page was here before: its groups are known.
                script.set([page("first")]);
                client.get("/page").await;
                gateway.purge(json!({ "all": true })).await;
            }
            let gate = Gate::closed();
            let old = page("old");
            let old = match round % 2 {
                0 => old.held(&gate),
                _ => old.held_after_header(&gate),
            };
            script.set([old, page("new")]);
            let before = ask(client);
            gate.reached(1).await;
            gateway.purge(scope.clone()).await;
            assert_eq!(promptly(client).await.text(), "new", "{scope}");
            let kept = promptly(client).await;
            assert_hit(&kept);
            gate.open();
            assert_eq!(before.await.unwrap().text(), "old");
            assert_eq!(client.get("/page").await.text(), "new", "{scope}");
        }
    }
}

#[tokio::test]
async fn a_request_after_a_purge_does_not_wait_for_a_validation_that_hangs() {
    for scope in scopes() {
        for soft in [false, true] {
            let script = Script::default();
            let origin = script.origin().await;
            let gateway = Gateway::general(&[&origin]).await;
            let client = gateway.client();
            let gate = Gate::closed();
            let same = Reply::new(304, "").header("ETag", "\"1\"");
            let same = same
                .header("Cache-Control", "max-age=3600")
                .header("Cache-Groups", "\"group\"");
            script.set([stale("old", ""), same.held(&gate), page("new")]);
            client.get("/page").await;
            let before = ask(client);
            gate.reached(1).await;
            assert!(origin.last().header("if-none-match").is_some());
            let mut purge = scope.clone();
            purge["soft"] = soft.into();
            gateway.purge(purge).await;
            assert_eq!(promptly(client).await.text(), "new", "{scope}");
            gate.open();
            assert_eq!(before.await.unwrap().text(), "old");
            assert_eq!(client.get("/page").await.text(), "new", "{scope}");
        }
    }
}

#[tokio::test]
async fn a_request_after_a_purge_does_not_wait_for_a_background_refresh_that_hangs() {
    for scope in scopes() {
        let script = Script::default();
        let origin = script.origin().await;
        let gateway = Gateway::general(&[&origin]).await;
        let client = gateway.client();
        let gate = Gate::closed();
        let first = stale("old", ", stale-while-revalidate=3600");
        script.set([first, page("old").held(&gate), page("new")]);
        client.get("/page").await;
        assert_eq!(client.get("/page").await.text(), "old");
        gate.reached(1).await;
        gateway.purge(scope.clone()).await;
        assert_eq!(promptly(client).await.text(), "new", "{scope}");
        gate.open();
        assert_eq!(client.get("/page").await.text(), "new", "{scope}");
        assert_eq!(origin.count(), 3, "{scope}");
    }
}

#[tokio::test]
async fn after_a_purge_a_herd_is_one_fetch_beside_the_one_that_hangs() {
    let script = Script::default();
    let origin = script.origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let (old, new) = (Gate::closed(), Gate::closed());
    script.set([page("old").held(&old), page("new").held(&new)]);
    let fetcher = ask(client);
    old.reached(1).await;
    let waiter = ask(client);
    settle(client).await;
    gateway.purge(json!({ "tags": ["group"] })).await;
    let after: Vec<_> = (0..100).map(|_| ask(client)).collect();
    new.reached(1).await;
    settle(client).await;
    assert_eq!(origin.count(), 2);
    new.open();
    for answer in after {
        assert_eq!(answer.await.unwrap().text(), "new");
    }
    let waited = waiter.await.unwrap();
    assert_eq!(waited.text(), "new", "nor need the first herd wait longer");
    old.open();
    assert_eq!(fetcher.await.unwrap().text(), "old");
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn a_purge_of_something_else_parts_no_herd() {
    let script = Script::default();
    let origin = script.origin().await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    script.set([page("first")]);
    client.get("/page").await;
    gateway.purge(json!({ "all": true })).await;
    let gate = Gate::closed();
    script.set([page("second").held(&gate)]);
    let mut asking = vec![ask(client)];
    gate.reached(1).await;
    let others = [
        json!({ "tags": ["other"] }),
        json!({ "urls": ["/other", "http://other.test/page"] }),
        json!({ "prefixes": ["/other", "http://other.test/"] }),
    ];
    for other in others {
        gateway.purge(other).await;
        asking.push(ask(client));
        settle(client).await;
    }
    gate.open();
    for answer in asking {
        assert_eq!(answer.await.unwrap().text(), "second");
    }
    assert_eq!(origin.count(), 2);
}
