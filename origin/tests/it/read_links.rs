//! The shared connections for reads: what one statement does to the others, and what is queued on them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use sqlx::PgConnection;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use crate::{
    raw::Raw,
    support::{TestApp, execute, fixture, socket_dir},
};

const META: &str = "/reviews/meta?product_id=2";
const REVIEWS: &str = "/reviews?product_id=2";

/// Holds up every read of meta, until the transaction ends.
async fn hold_up_meta(app: &TestApp) -> PgConnection {
    let mut owner = app.owner().await;
    execute(
        &mut owner,
        "begin; lock table shop.review_meta in access exclusive mode",
    )
    .await;
    owner
}

async fn until_waiting(app: &TestApp, statements: i64) {
    TestApp::until("statements wait for the lock", async || {
        let waiting = "select count(*) from pg_locks where not granted and relation = 'shop.review_meta'::regclass";
        app.value::<i64>(waiting).await >= statements
    })
    .await;
}

/// The connections for reads, and those of them that carry none.
fn reads(app: &TestApp) -> (usize, usize) {
    let sizes = app.state.db.sizes();
    let (_, open, idle) = sizes.iter().find(|size| size.0 == "reads").unwrap();
    (*open, *idle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_is_held_up_holds_up_its_own_connection_only() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    TestApp::until("both connections are open", async || reads(&app).0 == 2).await;
    let mut owner = hold_up_meta(&app).await;
    let held_up = app.get(META);
    let others = async {
        until_waiting(&app, 1).await;
        let started = Instant::now();
        // Whoever comes within a few milliseconds cannot know.
        TestApp::until("the connection is known to be held up", async || {
            started.elapsed() > Duration::from_millis(10)
        })
        .await;
        for _ in 0..50 {
            assert_eq!(app.get(REVIEWS).await.status, 200);
        }
        assert!(started.elapsed() < Duration::from_secs(5));
        execute(&mut owner, "commit").await;
    };
    let (held_up, ()) = tokio::join!(held_up, others);
    assert_eq!(held_up.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_nobody_waits_for_has_its_place_until_the_server_has_answered_it() {
    let app = TestApp::start_with(&[fixture::REVIEWS_WITH_TIES], &["--read-connections=1"]).await;
    let mut owner = hold_up_meta(&app).await;
    let mut raw = Raw::connect(app.address).await;
    raw.send(format!("GET {META} HTTP/1.1\r\nhost: o\r\n\r\n"))
        .await;
    until_waiting(&app, 1).await;
    drop(raw);
    TestApp::until("the origin has seen that the client is gone", async || {
        app.state.metrics.hung_up.get() == 1
    })
    .await;
    assert_eq!(reads(&app), (1, 0), "the statement is still queued");
    execute(&mut owner, "commit").await;
    TestApp::until("its place is free", async || reads(&app) == (1, 1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_queued_on_a_connection_is_bounded() {
    const QUEUE_MAX: usize = 256;
    const MORE: usize = 20;
    let app = TestApp::start_with(
        &[fixture::REVIEWS_WITH_TIES],
        &["--read-connections=1", "--in-flight-max=1000"],
    )
    .await;
    let mut owner = hold_up_meta(&app).await;
    let mut all: FuturesUnordered<_> = (0..QUEUE_MAX + MORE).map(|_| app.get(META)).collect();
    for _ in 0..MORE {
        let refused = all.next().await.unwrap();
        refused.assert_problem(503, "unavailable");
    }
    execute(&mut owner, "commit").await;
    let mut served = 0;
    while let Some(answer) = all.next().await {
        served += usize::from(answer.status == 200);
    }
    // The origin itself may have had a place, to try the connection.
    assert!(served >= QUEUE_MAX - 1, "{served}");
    assert_eq!(app.get(REVIEWS).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_had_its_time_goes_only_when_another_has_come() {
    let app = TestApp::start_with(
        &[fixture::REVIEWS_WITH_TIES],
        &[
            "--read-connections=1",
            "--pool-size=1",
            "--connection-lifetime-s=1",
        ],
    )
    .await;
    TestApp::until("the connection is open", async || reads(&app).0 == 1).await;
    let backends = "select string_agg(pid::text, ',') from pg_stat_activity where application_name = 'origin' \
         and datname = current_database() and query like '%shop.reviews%'";
    assert_eq!(app.get(REVIEWS).await.status, 200);
    let before: Option<String> = app.value(backends).await;
    let mut fewest = usize::MAX;
    TestApp::until("another connection has taken its place", async || {
        for _ in 0..10 {
            assert_eq!(app.get(REVIEWS).await.status, 200);
            fewest = fewest.min(reads(&app).0);
        }
        app.value::<Option<String>>(backends).await != before
    })
    .await;
    assert_eq!(fewest, 1, "there was always one");
}

/// Lets clients in slowly, and hangs up at their first statement.
fn cutter(server: PathBuf) -> tempfile::TempDir {
    const SOCKET: &str = ".s.PGSQL.5432";
    /// Less than the patience of a read, more than half of it.
    const TO_CONNECT: Duration = Duration::from_millis(60);
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::time::sleep(TO_CONNECT).await;
            let server = UnixStream::connect(server.join(SOCKET)).await.unwrap();
            tokio::spawn(let_in_and_cut_off(client, server));
        }
    });
    dir
}

async fn let_in_and_cut_off(client: UnixStream, server: UnixStream) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut bytes = [0; 4096];
    let length = from_client.read(&mut bytes).await.unwrap();
    to_server.write_all(&bytes[..length]).await.unwrap();
    tokio::select! {
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
        _ = from_client.read(&mut bytes) => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_waits_for_connections_no_longer_than_it_may_however_often_they_break() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let socket = socket_dir(&app);
    let relay = cutter(socket.clone());
    let url = |dir: &std::path::Path| {
        let whole = stack::TestCluster::shared().app_url(&app.database);
        let (before, _) = whole.split_once("host=").unwrap();
        format!("{before}host={}", dir.display())
    };
    let cut_off = TestApp::over(
        &url(relay.path()),
        &["--read-connections=8", "--acquire-timeout-ms=80"],
    )
    .await;
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut raw = Raw::connect(cut_off).await;
        let started = Instant::now();
        raw.send(format!("GET {META} HTTP/1.1\r\nhost: o\r\n\r\n"))
            .await;
        assert_eq!(raw.answer().await.status, 503);
        times.push(started.elapsed());
    }
    times.sort_unstable();
    // Eight connections at sixty milliseconds each would be half a second.
    assert!(times[2] < Duration::from_millis(250), "{times:?}");
}
