//! Replicas answer only readers whom they show all that those have seen, and are never the reason for a failure.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use origin::database::Refusal;
use stack::{Replica, TestCluster};

use crate::support::{Answer, TestApp, fixture, migrate, review};

/// The settings of production, where the test is about time.
const REAL: [&str; 3] = [
    "--acquire-timeout-ms=80",
    "--statement-timeout-ms=900",
    "--statement-deadline-ms=1000",
];

/// An origin over a cluster of its own, and a replica that it may read from.
struct Pair {
    app: TestApp,
    primary: &'static TestCluster,
    replica: &'static Replica,
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

impl Pair {
    async fn start(settings: &[&str]) -> Self {
        let (primary, replica, database) = blocking(|| {
            let primary: &'static TestCluster = Box::leak(Box::new(TestCluster::start()));
            let database = primary.create_database(None);
            migrate(primary.owner_url(&database));
            let replica = Replica::start_temporary(primary.cluster()).unwrap();
            (primary, &*Box::leak(Box::new(replica)), database)
        })
        .await;
        let read_url = format!("--read-url={}", replica.cluster().app_url(&database));
        let settings: Vec<_> = settings.iter().copied().chain([&*read_url]).collect();
        let fixtures = [fixture::ONE_PRODUCT_WITH_EVERYTHING];
        let app = TestApp::start_on(primary, database, &fixtures, &settings).await;
        let pair = Self {
            app,
            primary,
            replica,
        };
        pair.catch_up().await;
        pair.until_used().await;
        pair
    }

    async fn catch_up(&self) {
        let (primary, replica) = (self.primary, self.replica);
        blocking(move || replica.catch_up(primary.cluster()).unwrap()).await;
    }

    /// Where the primary's log ends.
    async fn position(&self) -> String {
        self.app
            .value("select pg_current_wal_insert_lsn()::text")
            .await
    }

    async fn until_used(&self) {
        TestApp::until("the replica answers", async || {
            let before = self.answered_by_replica();
            assert_eq!(self.get_after("0/1").await.status, 200);
            self.answered_by_replica() > before
        })
        .await;
    }

    fn answered_by_replica(&self) -> u64 {
        self.app.state.metrics.reads.replica.get()
    }

    fn refused(&self, refusal: Refusal) -> u64 {
        self.app.state.metrics.reads.refusal(refusal).get()
    }

    async fn get_after(&self, position: &str) -> Answer {
        let after = [("cache-coherence-after", position)];
        self.app.send("GET", "/products/1", &after, "").await
    }

    async fn name_after(&self, position: &str) -> String {
        let answer = self.get_after(position).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["name"].as_str().unwrap().to_owned()
    }

    async fn rename(&self, name: &str) {
        let statement = format!("update shop.products set name = '{name}' where id = 1");
        self.app.sql(&statement).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lags_answers_only_readers_who_have_seen_no_more() {
    let pair = Pair::start(&[]).await;
    pair.rename("old").await;
    let old = pair.position().await;
    pair.catch_up().await;
    let replica = pair.replica;
    blocking(|| replica.pause().unwrap()).await;
    pair.rename("new").await;
    let new = pair.position().await;

    let (by_replica, behind) = (pair.answered_by_replica(), pair.refused(Refusal::Behind));
    assert_eq!(pair.name_after(&old).await, "old");
    assert_eq!(pair.answered_by_replica(), by_replica + 1);
    assert_eq!(pair.name_after(&new).await, "new");
    assert_eq!(pair.refused(Refusal::Behind), behind + 1);
    for anything in ["primary", "", "0", "latest", "0/G", "-1/0", "0/1, 0/1"] {
        assert_eq!(pair.name_after(anything).await, "new", "{anything:?}");
    }
    let twice = [
        ("cache-coherence-after", "0/1"),
        ("cache-coherence-after", "0/1"),
    ];
    let answer = pair.app.send("GET", "/products/1", &twice, "").await;
    assert_eq!(answer.json()["name"], "new");
    let silent = pair.app.get("/products/1").await;
    assert_eq!(
        silent.json()["name"],
        "new",
        "nothing was said of what was seen"
    );
    assert_eq!(pair.answered_by_replica(), by_replica + 1);

    blocking(|| replica.resume().unwrap()).await;
    pair.catch_up().await;
    assert_eq!(pair.name_after(&new).await, "new");
    assert_eq!(pair.answered_by_replica(), by_replica + 2);
    let metrics = pair.app.get_private("/metrics").await;
    for line in [
        r#"origin_replica_refusals_total{reason="behind"} 1"#,
        r#"origin_pool_connections{pool="replica-1",state="idle"} 2"#,
    ] {
        assert!(metrics.text().contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_writes_reads_it_and_a_cart_is_never_read_from_a_replica() {
    let pair = Pair::start(&[]).await;
    let replica = pair.replica;
    blocking(|| replica.pause().unwrap()).await;
    let app = &pair.app;
    for count in 1..=3 {
        let mut review = review();
        review["product_id"] = 1.into();
        app.post("/reviews", &review)
            .await
            .assert_created("/reviews/");
        let primary = [("cache-coherence-after", "primary")];
        let page = app.send("GET", "/reviews?product_id=1", &primary, "").await;
        assert_eq!(page.ids("review_id").len(), count);
    }
    let behind = [("cache-coherence-after", "0/1")];
    let page = app.send("GET", "/reviews?product_id=1", &behind, "").await;
    assert_eq!(
        page.ids("review_id"),
        [0; 0],
        "so it is the replica's own lag"
    );

    let fields = [("authorization", "t"), ("cache-coherence-after", "0/1")];
    app.send("POST", "/cart", &fields, r#"{"sku_id":37}"#)
        .await
        .assert_created("");
    let cart = app.send("GET", "/cart", &fields, "").await;
    assert_eq!(cart.text(), r#"[{"sku_id":37,"count":"1"}]"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_killed_under_load_fails_no_read_and_is_used_again_when_it_is_back() {
    let pair = Pair::start(&[]).await;
    let replica = pair.replica;
    let reads = async || {
        let many = join_all((0..8).map(async |_| {
            for _ in 0..100 {
                assert_eq!(pair.get_after("0/1").await.status, 200);
            }
        }));
        many.await;
    };
    let killed = blocking(|| replica.cluster().kill9().unwrap());
    tokio::join!(reads(), killed);
    reads().await;
    assert_eq!(pair.app.get_private("/readyz").await.text(), "ready");
    blocking(|| replica.start().unwrap()).await;
    pair.until_used().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_costs_the_first_readers_a_tenth_of_a_second_and_the_others_nothing() {
    let pair = Pair::start(&REAL).await;
    let replica = pair.replica;
    blocking(|| replica.cluster().sigstop().unwrap()).await;
    let mut times = Vec::new();
    for _ in 0..300 {
        let started = Instant::now();
        assert_eq!(pair.get_after("0/1").await.status, 200);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    assert!(times[150] < Duration::from_millis(50), "{times:?}");
    assert!(times[299] < Duration::from_millis(1000), "{times:?}");
    assert!(pair.refused(Refusal::Silent) > 0);
    assert!(pair.refused(Refusal::Busy) > 0);
    assert_eq!(pair.app.get_private("/readyz").await.text(), "ready");
    blocking(|| replica.cluster().sigcont().unwrap()).await;
    pair.until_used().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_promoted_is_not_asked_again() {
    let pair = Pair::start(&[]).await;
    pair.rename("old").await;
    pair.catch_up().await;
    let replica = pair.replica;
    blocking(|| replica.promote().unwrap()).await;
    pair.rename("new").await;
    // The position is one that it has replayed; but what it shows from now on is its own.
    for _ in 0..20 {
        assert_eq!(pair.name_after("0/1").await, "new");
    }
    assert!(pair.refused(Refusal::Foreign) > 0);
    TestApp::until("every connection to it has ended", async || {
        pair.app.state.db.sizes().contains(&("replica-1", 0, 0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_no_replica_of_the_primary_is_not_asked() {
    let pair = Pair::start(&[]).await;
    let database = pair.app.database.clone();
    let (primary, other) = (
        pair.primary.app_url(&database),
        pair.replica.cluster().app_url(&database),
    );
    // The primary itself, and a replica of another cluster.
    for read_url in [primary, other] {
        let read_url = format!("--read-url={read_url}");
        let app = TestApp::start_with(&[fixture::ONE_PRODUCT_WITH_EVERYTHING], &[&read_url]).await;
        let after = [("cache-coherence-after", "0/1")];
        for _ in 0..20 {
            let answer = app.send("GET", "/products/1", &after, "").await;
            assert_eq!(answer.status, 200);
        }
        assert_eq!(app.state.metrics.reads.replica.get(), 0);
        assert_eq!(app.get_private("/readyz").await.text(), "ready");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_primary_is_gone_replicas_answer_those_whom_they_may() {
    let pair = Pair::start(&REAL).await;
    let position = pair.position().await;
    pair.catch_up().await;
    let primary = pair.primary;
    blocking(|| primary.cluster().stop_immediate().unwrap()).await;
    TestApp::until("the origin knows", async || {
        pair.app.get("/products/1").await.status == 503
    })
    .await;
    for _ in 0..20 {
        assert_eq!(pair.get_after(&position).await.status, 200);
        pair.get_after("FFFFFFFF/0")
            .await
            .assert_problem(503, "unavailable");
    }
    blocking(|| primary.cluster().start().unwrap()).await;
    TestApp::until("the primary answers", async || {
        pair.app.get("/products/1").await.status == 200
    })
    .await;
}
