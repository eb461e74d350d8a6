//! The race rule: an answer whose origin request began before a purge goes only to requests that came before it.
//!
//! The origin decides on its answer, the purge lands, then the answer is let go: the old one may reach who asked before
//! the purge was answered, and nobody after.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::{Answer, Client, FakeOrigin, Gate, Gateway, Received, Reply, get};

const ROUNDS: usize = 300;

/// No request of these tests has to wait for a timeout of the lock.
const PROMPT: Duration = Duration::from_secs(2);

/// An origin whose body is the version at the moment a request arrives; a gate holds the next answer.
#[derive(Clone, Default)]
struct Versions {
    current: Arc<AtomicUsize>,
    next: Arc<Mutex<Option<Hold>>>,
}

struct Hold {
    gate: Gate,
    after_header: bool,
}

impl Versions {
    fn hold(&self, after_header: bool) -> Gate {
        let gate = Gate::closed();
        *self.next.lock() = Some(Hold {
            gate: gate.clone(),
            after_header,
        });
        gate
    }

    fn now(&self) -> usize {
        self.current.load(Ordering::SeqCst)
    }

    fn advance(&self) {
        self.current.fetch_add(1, Ordering::SeqCst);
    }

    async fn origin(
        &self,
        reply: impl Fn(&Received, usize) -> Reply + Send + Sync + 'static,
    ) -> FakeOrigin {
        let versions = self.clone();
        FakeOrigin::start(move |request| {
            let reply = reply(request, versions.now()).header("Cache-Groups", "\"group\"");
            match versions.next.lock().take() {
                Some(hold) if hold.after_header => reply.held_after_header(&hold.gate),
                Some(hold) => reply.held(&hold.gate),
                None => reply,
            }
        })
        .await
    }
}

/// Every way to name the page.
fn scope(round: usize) -> Value {
    match round % 6 {
        0 => json!({ "tags": ["group"] }),
        1 => json!({ "urls": ["/page"] }),
        2 => json!({ "urls": ["http://shop.test/page"] }),
        3 => json!({ "prefixes": ["/pa"] }),
        4 => json!({ "prefixes": ["http://shop.test/"] }),
        _ => json!({ "all": true }),
    }
}

fn version(answer: &Answer) -> usize {
    assert_eq!(answer.status, 200, "{answer:#?}");
    answer.text().parse().expect("a version")
}

/// A request on its way, begun but not awaited.
fn ask(client: Client) -> tokio::task::JoinHandle<Answer> {
    tokio::spawn(async move { client.get("/page").await })
}

/// The page changes and a purge takes the old one out; somebody asks, and only then the old answer is let go.
async fn overtake(
    (gateway, versions): (&Gateway, &Versions),
    gate: &Gate,
    round: usize,
    purge: Value,
) -> tokio::task::JoinHandle<Answer> {
    pause(round).await;
    versions.advance();
    gateway.purge(purge).await;
    let after = ask(gateway.client());
    pause(round / 7).await;
    gate.open();
    after
}

/// Who asked after the purge, and who asks now, gets the new page. Then everything is taken out for the next round.
async fn assert_new(
    (gateway, versions): (&Gateway, &Versions),
    after: tokio::task::JoinHandle<Answer>,
    round: usize,
) {
    let after = version(&after.await.expect("an answer"));
    assert_eq!(
        after,
        versions.now(),
        "round {round}: asked after the purge"
    );
    let kept = version(&gateway.client().get("/page").await);
    assert_eq!(kept, versions.now(), "round {round}: kept");
    gateway.purge(json!({ "all": true })).await;
}

async fn pause(round: usize) {
    for _ in 0..round % 7 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_fill_that_a_purge_overtakes_is_never_found_again() {
    let versions = Versions::default();
    let origin = versions
        .origin(|_, version| Reply::fresh(version.to_string()))
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS {
        let gate = versions.hold(round % 2 == 1);
        let before = ask(client);
        gate.reached(1).await;
        let after = overtake((&gateway, &versions), &gate, round, scope(round)).await;
        assert!(version(&before.await.unwrap()) + 1 >= versions.now());
        assert_new((&gateway, &versions), after, round).await;
    }
}

#[tokio::test]
async fn waiters_from_before_and_after_a_purge_part_ways() {
    let versions = Versions::default();
    let origin = versions
        .origin(|_, version| Reply::fresh(version.to_string()))
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS / 2 {
        let gate = versions.hold(round % 2 == 1);
        let began = Instant::now();
        let mut before = vec![ask(client)];
        gate.reached(1).await;
        before.extend((0..4).map(|_| ask(client)));
        pause(round).await;
        versions.advance();
        gateway.purge(scope(round)).await;
        let after: Vec<_> = (0..4).map(|_| ask(client)).collect();
        pause(round / 7).await;
        gate.open();
        for waiter in before {
            assert!(version(&waiter.await.unwrap()) + 1 >= versions.now());
        }
        for waiter in after {
            assert_eq!(
                version(&waiter.await.unwrap()),
                versions.now(),
                "round {round}: asked after the purge"
            );
        }
        assert_eq!(
            version(&client.get("/page").await),
            versions.now(),
            "round {round}: kept"
        );
        assert!(
            began.elapsed() < PROMPT,
            "round {round}: somebody waited for a timeout"
        );
        gateway.purge(json!({ "all": true })).await;
    }
}

#[tokio::test]
async fn a_validation_that_a_purge_overtakes_revives_nothing() {
    let versions = Versions::default();
    let origin = versions
        .origin(|request, version| {
            let etag = format!("\"{version}\"");
            let same = request.header("if-none-match") == Some(&etag);
            let reply = if same {
                // Were the entry revived, it would be a hit for an hour.
                Reply::new(304, "").header("Cache-Control", "max-age=3600")
            } else {
                Reply::new(200, version.to_string()).header("Cache-Control", "max-age=0")
            };
            reply.header("ETag", &etag)
        })
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS {
        assert_eq!(
            version(&client.get("/page").await),
            versions.now(),
            "round {round}: filled"
        );
        let gate = versions.hold(false);
        let before = ask(client);
        gate.reached(1).await;
        assert!(
            origin.last().header("if-none-match").is_some(),
            "round {round}: {:?}",
            origin.last()
        );
        let after = overtake((&gateway, &versions), &gate, round, scope(round)).await;
        assert!(version(&before.await.unwrap()) + 1 >= versions.now());
        assert_new((&gateway, &versions), after, round).await;
    }
}

/// Stale when it arrives, and to be served so while a fetch runs.
fn stale_at_once(version: usize) -> Reply {
    Reply::new(200, version.to_string())
        .header("Cache-Control", "max-age=60, stale-while-revalidate=3600")
        .header("Age", "61")
}

#[tokio::test]
async fn a_background_refresh_that_a_purge_overtakes_is_not_kept() {
    let versions = Versions::default();
    let stale_next = Arc::new(AtomicBool::new(false));
    let stale = Arc::clone(&stale_next);
    let origin = versions
        .origin(
            move |_, version| match stale.swap(false, Ordering::SeqCst) {
                true => stale_at_once(version),
                false => Reply::fresh(version.to_string()),
            },
        )
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS {
        stale_next.store(true, Ordering::SeqCst);
        assert_eq!(
            version(&client.get("/page").await),
            versions.now(),
            "round {round}: filled"
        );
        let gate = versions.hold(round % 2 == 1);
        let stale = client.get("/page").await;
        assert!(
            stale
                .cache_status()
                .contains("detail=stale-while-revalidate"),
            "{stale:#?}"
        );
        gate.reached(1).await;
        let after = overtake((&gateway, &versions), &gate, round, scope(round)).await;
        assert_new((&gateway, &versions), after, round).await;
    }
}

#[tokio::test]
async fn a_purge_between_a_stale_answer_and_its_refresh_holds_nobody_up() {
    let versions = Versions::default();
    let origin = versions.origin(|_, version| stale_at_once(version)).await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let mut admin = gateway.admin().connect().await;
    let bearer = format!("Bearer {}", gateway.token());
    for round in 0..ROUNDS {
        assert_eq!(
            version(&client.get("/page").await),
            versions.now(),
            "round {round}: filled"
        );
        let purge = crate::support::Request::new("POST", "/purge")
            .header("Authorization", &bearer)
            .body(scope(round).to_string());
        // The refresh is started by the very request that the purge races with.
        let stale = ask(client);
        pause(round).await;
        versions.advance();
        assert_eq!(admin.send(&purge).await.status, 200);
        let began = Instant::now();
        assert_eq!(
            version(&client.get("/page").await),
            versions.now(),
            "round {round}: asked after the purge"
        );
        assert!(
            began.elapsed() < PROMPT,
            "round {round}: waited {:?}",
            began.elapsed()
        );
        stale.await.unwrap();
        assert_eq!(admin.send(&purge).await.status, 200);
    }
}

#[tokio::test]
async fn a_validation_with_a_new_body_that_a_purge_overtakes_is_not_kept() {
    let versions = Versions::default();
    let origin = versions
        .origin(|request, version| {
            // A new representation at each request, good for an hour if it came by a validation.
            let lifetime = match request.header("if-none-match") {
                Some(_) => "max-age=3600",
                None => "max-age=0",
            };
            Reply::new(200, version.to_string())
                .header("Cache-Control", lifetime)
                .header("ETag", &format!("\"{version}\""))
        })
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS {
        client.get("/page").await;
        let gate = versions.hold(round % 2 == 1);
        let before = ask(client);
        gate.reached(1).await;
        assert!(origin.last().header("if-none-match").is_some());
        let after = overtake((&gateway, &versions), &gate, round, scope(round)).await;
        assert!(version(&before.await.unwrap()) + 1 >= versions.now());
        assert_new((&gateway, &versions), after, round).await;
    }
}

#[tokio::test]
async fn a_fill_that_a_soft_purge_overtakes_is_never_fresh() {
    let versions = Versions::default();
    let origin = versions
        .origin(|_, version| Reply::fresh(version.to_string()))
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    for round in 0..ROUNDS {
        let gate = versions.hold(round % 2 == 1);
        let before = ask(client);
        gate.reached(1).await;
        let mut soft = scope(round);
        soft["soft"] = true.into();
        let after = overtake((&gateway, &versions), &gate, round, soft).await;
        before.await.unwrap();
        assert_new((&gateway, &versions), after, round).await;
    }
}

#[tokio::test]
async fn readers_never_fall_behind_the_newest_answered_purge() {
    let versions = Versions::default();
    let origin = versions
        .origin(|_, version| Reply::fresh(version.to_string()))
        .await;
    let gateway = Gateway::general(&[&origin]).await;
    let client = gateway.client();
    let purged = Arc::new(AtomicUsize::new(0));
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let purged = Arc::clone(&purged);
            tokio::spawn(async move {
                let mut connection = client.connect().await;
                for _ in 0..500 {
                    let floor = purged.load(Ordering::SeqCst);
                    let read = version(&connection.send(&get("/page")).await);
                    assert!(
                        read >= floor,
                        "read {read} after the purge of everything below {floor}"
                    );
                }
            })
        })
        .collect();
    let mut rounds = 0;
    while !readers.iter().all(tokio::task::JoinHandle::is_finished) {
        versions.advance();
        let floor = versions.now();
        gateway.purge(scope(rounds)).await;
        purged.store(floor, Ordering::SeqCst);
        rounds += 1;
    }
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(rounds > 20, "only {rounds} purges raced with the readers");
}
