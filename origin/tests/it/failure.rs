//! Postgres gone, hung, slow or unsafe; clients that hang up; too many requests; the end of the process.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use origin::App;
use stack::TestCluster;

use crate::{
    raw::Raw,
    support::{
        Answer, STRICT, TestApp, cluster_of_its_own, config, execute, fixture, interaction,
        question, review,
    },
};

/// The settings of production, where the test is about time.
const REAL: [&str; 3] = [
    "--acquire-timeout-ms=80",
    "--statement-timeout-ms=900",
    "--statement-deadline-ms=1000",
];

/// An origin over a cluster of its own.
async fn app_of_its_own() -> (TestApp, &'static TestCluster) {
    let (cluster, database) = cluster_of_its_own(TestCluster::start).await;
    let app = TestApp::start_on(cluster, database, &[fixture::REVIEWS_WITH_TIES], &REAL).await;
    serves(&app).await;
    (app, cluster)
}

async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) {
    tokio::task::spawn_blocking(work).await.unwrap().unwrap();
}

async fn serves(app: &TestApp) {
    TestApp::until("the origin serves", async || {
        app.get("/reviews?product_id=2").await.status == 200
    })
    .await;
}

fn assert_unavailable(answer: &Answer) {
    answer.assert_problem(503, "unavailable");
    assert_eq!(answer.field("retry-after"), "1");
}

/// A read, a vote and a POST; and how long the slowest took.
async fn one_of_each(app: &TestApp) -> (Vec<Answer>, Duration) {
    let started = Instant::now();
    let (get, put, body) = (
        app.get("/reviews?product_id=2"),
        app.put("/reviews/5/helpful"),
        review(),
    );
    let (get, put, post) = tokio::join!(get, put, app.post("/reviews", &body));
    (vec![get, put, post], started.elapsed())
}

/// Refused within a tenth of a second; but tests share two cores, where single ones may take longer.
async fn assert_refused_fast(app: &TestApp) {
    let mut times = Vec::new();
    for _ in 0..20 {
        let (answers, took) = one_of_each(app).await;
        answers.iter().for_each(assert_unavailable);
        times.push(took);
    }
    times.sort_unstable();
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
}

/// Every connection is there, and idle.
const WHOLE: [(&str, usize, usize); 2] = [("primary", 4, 4), ("reads", 2, 2)];

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_every_request_is_503_fast_and_all_is_well_soon_after_it_is_back() {
    let (app, cluster) = app_of_its_own().await;
    blocking(|| cluster.cluster().stop_immediate()).await;
    assert_refused_fast(&app).await;
    assert_eq!(app.get_private("/healthz").await.status, 200);
    assert_eq!(app.get_private("/readyz").await.status, 503);

    blocking(|| cluster.cluster().start()).await;
    let back = Instant::now();
    serves(&app).await;
    // Reads and writes find out each for themselves.
    TestApp::until("the origin takes writes", async || {
        app.put("/reviews/5/helpful").await.status == 204
    })
    .await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    let (answers, _) = one_of_each(&app).await;
    let statuses: Vec<_> = answers
        .iter()
        .map(|answer| answer.status.as_u16())
        .collect();
    assert_eq!(statuses, [200, 204, 201]);
    assert_eq!(app.get_private("/readyz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_is_given_up_after_a_second_and_no_connection_stays_stuck() {
    let (app, cluster) = app_of_its_own().await;
    blocking(|| cluster.cluster().sigstop()).await;
    let started = Instant::now();
    let answers = join_all((0..20).map(|_| app.get("/reviews?product_id=2"))).await;
    answers.iter().for_each(assert_unavailable);
    assert!(
        started.elapsed() < Duration::from_millis(1800),
        "{:?}",
        started.elapsed()
    );
    assert_refused_fast(&app).await;

    blocking(|| cluster.cluster().sigcont()).await;
    let back = Instant::now();
    serves(&app).await;
    assert!(
        back.elapsed() < Duration::from_secs(5),
        "{:?}",
        back.elapsed()
    );
    TestApp::until("the pool is whole and idle", async || {
        app.state.db.sizes() == WHOLE && app.state.metrics.in_flight.get() == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_origin_starts_without_postgres_and_serves_when_there_is_one() {
    let (app, cluster) = app_of_its_own().await;
    let database = app.database.clone();
    app.stop().await.unwrap();
    blocking(|| cluster.cluster().stop_immediate()).await;
    let config = config(&cluster.app_url(&database), &REAL);
    let late = App::build(config, "late").await.unwrap();
    let (address, _) = late.addresses().unwrap();
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(late.serve(async {
        let _ = ended.await;
    }));
    let status = async || {
        let mut raw = Raw::connect(address).await;
        raw.send("GET /reviews?product_id=2 HTTP/1.1\r\nhost: o\r\n\r\n")
            .await;
        raw.answer().await.status.as_u16()
    };
    assert_eq!(status().await, 503);
    blocking(|| cluster.cluster().start()).await;
    TestApp::until("the late origin serves", async || status().await == 200).await;
    end.send(()).unwrap();
    served.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_survive_the_end_of_every_connection() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    for _ in 0..5 {
        TestApp::until("the pool is whole", async || app.state.db.sizes() == WHOLE).await;
        app.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'origin' and datname = current_database()").await;
        for _ in 0..4 {
            assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_waits_too_long_is_503_and_the_others_go_on() {
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &REAL).await;
    let mut owner = app.owner().await;
    execute(
        &mut owner,
        "begin; select from shop.reviews where id = 5 for update",
    )
    .await;
    let vote = app.put("/reviews/5/helpful");
    let reads = async {
        for _ in 0..10 {
            assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
        }
    };
    let (vote, ()) = tokio::join!(vote, reads);
    assert_unavailable(&vote);
    execute(&mut owner, "rollback").await;
    assert_eq!(app.put("/reviews/5/helpful").await.status, 204);
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 5")
            .await,
        6
    );
}

/// How long a write may take that has nothing to do with a row that somebody holds: no wait for a lock ends so soon.
const UNAFFECTED: Duration = Duration::from_millis(600);

/// Sends what nobody else's row should hold up, one after the other; gives what was not answered well and in time.
async fn slow_or_refused(app: &TestApp, round: i32) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut judge = |what: &str, status: u16, started: Instant| {
        let took = started.elapsed();
        if !(200..300).contains(&status) || took > UNAFFECTED {
            wrong.push(format!("{what}: {status} after {took:?}"));
        }
    };
    let cart = format!("/cart?user_token=somebody-{round}");
    let item = serde_json::json!({ "sku_id": 37, "count": 1 });
    let (mut question, mut review) = (question(), review());
    question["product_id"] = 2.into();
    review["product_id"] = 9.into();
    for (what, path, body) in [
        ("interaction", "/interactions", &interaction()),
        ("question", "/qa/questions", &question),
        ("cart", cart.as_str(), &item),
        ("review of another product", "/reviews", &review),
    ] {
        let started = Instant::now();
        judge(what, app.post(path, body).await.status.as_u16(), started);
    }
    let started = Instant::now();
    judge(
        "vote",
        app.put("/reviews/6/helpful").await.status.as_u16(),
        started,
    );
    let started = Instant::now();
    judge("cart read", app.get(&cart).await.status.as_u16(), started);
    let started = Instant::now();
    judge(
        "ready",
        app.get_private("/readyz").await.status.as_u16(),
        started,
    );
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_somebody_holds_stops_nobody_who_writes_elsewhere() {
    let app = TestApp::start_with(
        &[
            fixture::REVIEWS_WITH_TIES,
            "insert into shop.styles (id, product_id, name, original_price, is_default) values (1, 2, 's', 1, true);
             insert into shop.skus (id, style_id, size, quantity) values (37, 1, 'M', 1);",
        ],
        &REAL,
    )
    .await;
    for lock in [
        "select from shop.reviews where id = 5 for update",
        "select from shop.review_meta where product_id = 2 for update",
    ] {
        let mut owner = app.owner().await;
        execute(&mut owner, &format!("begin; {lock}")).await;
        let before: i32 = app
            .value("select helpfulness from shop.reviews where id = 5")
            .await;
        // Fifty clients that insist.
        let is_vote = lock.contains("reviews");
        let stop = AtomicBool::new(false);
        let insist = join_all((0..50).map(|_| async {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                answers.push(if is_vote {
                    app.put("/reviews/5/helpful").await
                } else {
                    app.post("/reviews", &review()).await
                });
            }
            answers
        }));
        let others = async {
            TestApp::until("two wait for the row", async || {
                app.value::<i64>("select count(*) from pg_locks where not granted")
                    .await
                    >= 2
            })
            .await;
            let mut wrong = Vec::new();
            for round in 0..10 {
                wrong.extend(slow_or_refused(&app, round).await);
            }
            stop.store(true, Ordering::Relaxed);
            wrong
        };
        let (insisted, wrong) = tokio::join!(insist, others);
        assert!(wrong.is_empty(), "{lock}: {wrong:#?}");
        insisted.iter().flatten().for_each(assert_unavailable);
        execute(&mut owner, "rollback").await;
        let after: i32 = app
            .value("select helpfulness from shop.reviews where id = 5")
            .await;
        assert_eq!(after, before, "who was refused has not voted");
        assert_eq!(app.put("/reviews/5/helpful").await.status, 204);
        assert_eq!(app.post("/reviews", &review()).await.status, 201);
    }
}

/// Whether a write is refused, while reads go on, and readiness says why.
async fn is_unsafe(app: &TestApp) -> bool {
    let vote = app.put("/reviews/5/helpful").await;
    let ready = app.get_private("/readyz").await;
    let said = "the database has synchronous_commit off";
    assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    vote.status == 503 && ready.status == 503 && ready.text().contains(said)
}

/// Whether a write is taken, and readiness has nothing to say.
async fn is_safe(app: &TestApp) -> bool {
    let vote = app.put("/reviews/5/helpful").await;
    vote.status == 204 && app.get_private("/readyz").await.text() == "ready"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_becomes_unsafe_or_comes_back_so_gets_no_writes_until_it_is_safe() {
    let (cluster, database) = cluster_of_its_own(TestCluster::start_durable).await;
    let settings = [STRICT];
    let fixtures = [fixture::REVIEWS_WITH_TIES];
    let app = TestApp::start_on(cluster, database.clone(), &fixtures, &settings).await;
    assert!(is_safe(&app).await);
    // No connection ends: sessions follow the server's file.
    app.sql("alter system set synchronous_commit = off").await;
    app.sql("select pg_reload_conf()").await;
    TestApp::until("writes are refused", async || is_unsafe(&app).await).await;
    let before: i32 = app
        .value("select helpfulness from shop.reviews where id = 5")
        .await;
    for _ in 0..20 {
        assert!(is_unsafe(&app).await);
    }
    assert_eq!(
        app.value::<i32>("select helpfulness from shop.reviews where id = 5")
            .await,
        before
    );
    app.sql("alter system set synchronous_commit = on").await;
    app.sql("select pg_reload_conf()").await;
    TestApp::until("writes are taken again", async || is_safe(&app).await).await;

    app.sql("alter system set synchronous_commit = off").await;
    app.stop().await.unwrap();
    blocking(|| cluster.cluster().stop_immediate()).await;
    let config = config(&cluster.app_url(&database), &settings);
    let late = App::build(config, "late").await.unwrap();
    let (address, _) = late.addresses().unwrap();
    tokio::spawn(late.serve(std::future::pending()));
    let status = async |request: &str| {
        let mut raw = Raw::connect(address).await;
        raw.send(format!("{request} HTTP/1.1\r\nhost: o\r\n\r\n"))
            .await;
        raw.answer().await.status.as_u16()
    };
    // It serves: what it has found at its start was nothing.
    assert_eq!(status("GET /reviews?product_id=2").await, 503);
    blocking(|| cluster.cluster().start()).await;
    TestApp::until("the late origin reads", async || {
        status("GET /reviews?product_id=2").await == 200
    })
    .await;
    for _ in 0..20 {
        assert_eq!(status("PUT /reviews/5/helpful").await, 503);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_do_not_wait_for_a_server_that_reads_have_found_to_hang() {
    let (app, cluster) = app_of_its_own().await;
    blocking(|| cluster.cluster().sigstop()).await;
    let reads = join_all((0..4).map(|_| app.get("/reviews?product_id=2"))).await;
    reads.iter().for_each(assert_unavailable);
    let started = Instant::now();
    assert_unavailable(&app.put("/reviews/5/helpful").await);
    let took = started.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
    let metrics = app.get_private("/metrics").await;
    let line = r#"origin_breaker_open{pool="primary"} 1"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
    blocking(|| cluster.cluster().sigcont()).await;
    TestApp::until("the pool is whole and idle", async || {
        app.state.db.sizes() == WHOLE
    })
    .await;
    assert_eq!(app.put("/reviews/5/helpful").await.status, 204);
    let metrics = app.get_private("/metrics").await;
    let line = r#"origin_breaker_open{pool="primary"} 0"#;
    assert!(metrics.text().contains(line), "{}", metrics.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_too_many_is_told_so_at_once_and_ends() {
    let app = TestApp::start_with(&[], &["--connections-max=2"]).await;
    let request = "GET /cart HTTP/1.1\r\nhost: o\r\n\r\n";
    let mut served = Vec::new();
    for _ in 0..2 {
        let mut raw = Raw::connect(app.address).await;
        raw.send(request).await;
        assert_eq!(raw.answer().await.status, 200);
        served.push(raw);
    }
    for _ in 0..3 {
        let started = Instant::now();
        let mut refused = Raw::connect(app.address).await;
        refused.send(request).await;
        let answer = refused.answer().await;
        assert!(started.elapsed() < Duration::from_millis(500));
        assert_eq!(answer.status, 503);
        assert_eq!(answer.field("retry-after"), "1");
        assert_eq!(answer.field("cache-control"), "private, no-store");
        assert!(answer.closes() && refused.is_closed().await);
    }
    // One that asks for nothing is not kept for long.
    let mut mute = Raw::connect(app.address).await;
    assert!(mute.is_closed().await);
    assert_eq!(app.state.metrics.refused_connections.get(), 3);
    // Those that are served go on, and the place of one that ends is the next one's.
    served[0].send(request).await;
    assert_eq!(served[0].answer().await.status, 200);
    served.pop();
    TestApp::until("there is a place again", async || {
        let mut raw = Raw::connect(app.address).await;
        raw.send(request).await;
        raw.answer().await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_too_large_to_be_held_is_500_and_the_others_go_on() {
    let app = TestApp::start(&[
        fixture::REVIEWS_WITH_TIES,
        "insert into shop.reviews (id, product_id, rating, date, summary, body, recommend, reported, reviewer_name, reviewer_email, helpfulness)
         select 1000 + n, 4, 5, '2020-01-01', '', repeat('x', 1048576), true, false, 'a', 'a@b.c', 0 from generate_series(1, 33) as n",
    ])
    .await;
    for _ in 0..3 {
        let too_large = app.get("/reviews?product_id=4&count=10000").await;
        too_large.assert_problem(500, "internal");
        assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    }
    let page = app.get("/reviews?product_id=4&count=31").await;
    assert_eq!(page.status, 200);
    assert!(page.body.len() > 31 * 1024 * 1024);
    TestApp::until("nothing is left to be read", async || {
        app.state.db.sizes() == WHOLE
    })
    .await;
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_503_and_still_read() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    app.sql(&format!(
        "alter database {} set default_transaction_read_only = on",
        app.database
    ))
    .await;
    app.sql("set transaction read write; select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'origin' and datname = current_database()").await;
    TestApp::until("new connections are read-only", async || {
        app.get_private("/readyz").await.text() == "the database is read-only"
    })
    .await;
    assert_unavailable(&app.put("/reviews/5/helpful").await);
    assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    let ready = app.get_private("/readyz").await;
    assert_eq!(ready.status, 503);
    assert_eq!(ready.text(), "the database is read-only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_costs_no_connection() {
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &["--pool-size=1"]).await;
    let backends = "select string_agg(pid::text, ',') from pg_stat_activity where application_name = 'origin' and datname = current_database()";
    assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    let before: String = app.value(backends).await;
    let mut owner = app.owner().await;
    for _ in 0..3 {
        execute(
            &mut owner,
            "begin; select from shop.reviews where id = 5 for update",
        )
        .await;
        let mut raw = Raw::connect(app.address).await;
        raw.send("PUT /reviews/5/helpful HTTP/1.1\r\nhost: o\r\n\r\n")
            .await;
        TestApp::until("the vote waits", async || {
            app.value::<i64>("select count(*) from pg_locks where not granted")
                .await
                > 0
        })
        .await;
        drop(raw);
        execute(&mut owner, "commit").await;
        assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
    }
    assert_eq!(app.value::<String>(backends).await, before);
    assert_eq!(app.state.metrics.hung_up.get(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_allowed_at_a_time_are_refused_at_once() {
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &["--in-flight-max=2"]).await;
    let mut owner = app.owner().await;
    execute(
        &mut owner,
        "begin; select from shop.reviews where id = 5 for update",
    )
    .await;
    let votes = join_all((0..2).map(|_| app.put("/reviews/5/helpful")));
    let refused = async {
        TestApp::until("two votes wait", async || {
            app.state.metrics.in_flight.get() == 2
        })
        .await;
        let started = Instant::now();
        assert_unavailable(&app.get("/nowhere").await);
        assert!(started.elapsed() < Duration::from_millis(500));
        execute(&mut owner, "commit").await;
    };
    let (votes, ()) = tokio::join!(votes, refused);
    assert!(votes.iter().all(|vote| vote.status == 204));
    assert_eq!(app.state.metrics.shed.get(), 1);
    assert_eq!(app.state.metrics.in_flight.get(), 0);
    assert_eq!(app.get("/reviews?product_id=2").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_share_a_bounded_memory() {
    let app = TestApp::start_with(&[], &["--body-bytes-max=1048576"]).await;
    let head = "POST /reviews HTTP/1.1\r\nhost: o\r\ncontent-length: 1000000\r\n\r\n";
    let mut slow = Raw::connect(app.address).await;
    slow.send(head).await;
    slow.send(" ".repeat(900_000)).await;
    TestApp::until("most of the body is there", async || {
        app.state.body_memory.available_permits() < 200_000
    })
    .await;
    let mut other = Raw::connect(app.address).await;
    other.send(head).await;
    other.send(" ".repeat(1_000_000)).await;
    assert_eq!(other.answer().await.status, 503);
    assert!(slow.is_silent_for(Duration::from_millis(50)).await);
    slow.send(" ".repeat(100_000)).await;
    assert_eq!(slow.answer().await.status, 422);
    TestApp::until("the memory is given back", async || {
        app.state.body_memory.available_permits() == 1_048_576
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_504_and_the_end_of_the_connection() {
    let settings = [
        "--statement-timeout-ms=100",
        "--statement-deadline-ms=200",
        "--request-timeout-ms=300",
    ];
    let app = TestApp::start_with(&[], &settings).await;
    for request_line in ["POST /reviews", "PUT /reviews/5/helpful", "GET /products"] {
        let mut raw = Raw::connect(app.address).await;
        raw.send(format!(
            "{request_line} HTTP/1.1\r\nhost: o\r\ncontent-length: 100\r\n\r\n{{"
        ))
        .await;
        let answer = raw.answer().await;
        assert_eq!(answer.status, 504, "{request_line}");
        assert!(answer.closes());
        assert!(raw.is_closed().await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_process_waits_for_the_requests_in_flight() {
    let mut app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut idle = Raw::connect(app.address).await;
    idle.send("GET /cart HTTP/1.1\r\nhost: o\r\n\r\n").await;
    assert_eq!(idle.answer().await.status, 200);
    let mut owner = app.owner().await;
    execute(
        &mut owner,
        "begin; select from shop.reviews where id = 5 for update",
    )
    .await;
    let mut raw = Raw::connect(app.address).await;
    raw.send("PUT /reviews/5/helpful HTTP/1.1\r\nhost: o\r\n\r\n")
        .await;
    TestApp::until("the vote waits", async || {
        app.value::<i64>("select count(*) from pg_locks where not granted")
            .await
            > 0
    })
    .await;
    app.begin_end();
    assert!(idle.is_closed().await, "an idle connection ends at once");
    TestApp::until("readiness says so", async || {
        app.get_private("/readyz")
            .await
            .text()
            .contains("shutting down")
    })
    .await;
    TestApp::until("nobody else is accepted", async || {
        tokio::net::TcpStream::connect(app.address).await.is_err()
    })
    .await;
    execute(&mut owner, "commit").await;
    let vote = raw.answer().await;
    assert_eq!(vote.status, 204);
    let stored = app
        .value::<i32>("select helpfulness from shop.reviews where id = 5")
        .await;
    assert_eq!(stored, 6);
    app.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_could_lose_writes_is_refused_unless_allowed() {
    let app = TestApp::start(&[]).await;
    // The cluster of the tests has fsync off; a role may have more.
    let mut strict = config(&TestCluster::shared().app_url(&app.database), &[]);
    strict.allow_unsafe_durability = false;
    let refused = App::build(strict.clone(), "x")
        .await
        .unwrap()
        .serve(std::future::pending())
        .await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("fsync, full_page_writes off"), "{message}");

    app.sql(&format!(
        "alter database {} set synchronous_commit = off",
        app.database
    ))
    .await;
    let refused = App::build(strict, "x")
        .await
        .unwrap()
        .serve(std::future::pending())
        .await;
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("synchronous_commit"), "{message}");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let app = TestApp::start(&[]).await;
    let mut second = config(&TestCluster::shared().app_url(&app.database), &[]);
    second.listen = app.address;
    let error = App::build(second, "x").await.unwrap_err().to_string();
    assert!(error.contains(&app.address.to_string()), "{error}");
}

#[tokio::test]
async fn a_write_that_was_refused_left_nothing_behind() {
    let app = TestApp::start_with(&[fixture::QUESTIONS_WITH_ANSWERS], &REAL).await;
    // The last part of the statement fails: so does all of it.
    app.sql("alter table coherence.outbox add constraint test check (slot < 0) not valid")
        .await;
    let before = app.count("shop.questions").await;
    let failed = app
        .send(
            "POST",
            "/qa/questions",
            &[("idempotency-key", "k")],
            question().to_string(),
        )
        .await;
    failed.assert_problem(500, "internal");
    assert_eq!(failed.field("cache-group-invalidation"), "");
    app.sql("alter table coherence.outbox drop constraint test")
        .await;
    assert_eq!(app.count("shop.questions").await, before);
    assert_eq!(app.count("service.idempotency_keys").await, 0);
    let again = app
        .send(
            "POST",
            "/qa/questions",
            &[("idempotency-key", "k")],
            question().to_string(),
        )
        .await;
    again.assert_created("/qa/questions/");
}
