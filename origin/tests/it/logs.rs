//! The log of the program: what it says of clients that hang up, and that nobody waits for whoever reads it.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{ChildStdout, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use stack::TestCluster;

use crate::{
    program::{Program, nix_terminate, origin},
    raw::Raw,
    support::{Answer, TestApp, execute, fixture, open},
};

/// A running origin over the database of another one.
struct Running {
    program: Program,
    out: BufReader<ChildStdout>,
    public: SocketAddr,
    private: SocketAddr,
}

impl Running {
    fn start(app: &TestApp) -> Self {
        let mut command = origin();
        command
            .args(["run", "--listen=127.0.0.1:0", "--private=127.0.0.1:0"])
            .args(["--allow-unsafe-durability", "--keep-alive-ms=600000"])
            .args([
                "--database-url",
                &TestCluster::shared().app_url(&app.database),
            ])
            .stderr(Stdio::null());
        let mut program = Program(command.spawn().unwrap());
        let mut out = BufReader::new(program.0.stdout.take().unwrap());
        let listening = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "it has ended");
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["message"] == "listening" {
                break line;
            }
        };
        let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
        Self {
            program,
            out,
            public: address("public"),
            private: address("private"),
        }
    }

    async fn metric(&self, name: &str) -> f64 {
        let answer = Answer::read(open(self.private, "/metrics").await).await;
        let line = answer
            .text()
            .lines()
            .find(|line| line.starts_with(&format!("{name} ")))
            .unwrap_or_else(|| panic!("no {name}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_hangs_up_before_its_answer_is_in_the_log_and_counted_apart() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut running = Running::start(&app);
    let mut owner = app.owner().await;
    execute(
        &mut owner,
        "begin; select from shop.reviews where id = 5 for update",
    )
    .await;
    let mut raw = Raw::connect(running.public).await;
    raw.send("PUT /reviews/5/helpful HTTP/1.1\r\nhost: o\r\nx-request-id: gone\r\n\r\n")
        .await;
    TestApp::until("the vote waits", async || {
        running.metric("origin_in_flight_requests").await == 1.0
    })
    .await;
    drop(raw);
    TestApp::until("it is counted", async || {
        running.metric("origin_hung_up_requests_total").await == 1.0
    })
    .await;
    execute(&mut owner, "commit").await;
    nix_terminate(&running.program.0);
    let mut log = String::new();
    running.out.read_to_string(&mut log).unwrap();
    let line = log.lines().find(|line| line.contains("gone")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["request.id"], "gone");
    assert_eq!(line["response.status"], 499);
    assert_eq!(line["request.route"], "/reviews/{review_id}/helpful");
    assert!(line["took_us"].as_u64().unwrap() > 0);
    assert!(line["response.bytes"].is_null(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_a_reader_of_the_log_that_takes_nothing() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let mut running = Running::start(&app);
    let id = "x".repeat(120);
    let request = format!("GET /nowhere HTTP/1.1\r\nhost: o\r\nx-request-id: {id}\r\n\r\n");
    let mut raw = Raw::connect(running.public).await;
    // The pipe is full, and so is what waits for it.
    while running.metric("origin_log_lines_lost_total").await == 0.0 {
        for _ in 0..500 {
            raw.send(&request).await;
            assert_eq!(raw.answer().await.status, 404);
        }
    }
    let lost = running.metric("origin_log_lines_lost_total").await;
    // The log's own lines are lost as well, and hold up nothing: here that every session has ended.
    app.sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'origin' and datname = current_database()").await;
    TestApp::until("it serves", async || {
        raw.send("GET /products/2 HTTP/1.1\r\nhost: o\r\n\r\n")
            .await;
        raw.answer().await.status == 200
    })
    .await;
    assert!(running.metric("origin_log_lines_lost_total").await > lost);
    drop(raw);
    let told = Instant::now();
    nix_terminate(&running.program.0);
    tokio::task::spawn_blocking(move || assert!(running.program.0.wait().unwrap().success()))
        .await
        .unwrap();
    assert!(
        told.elapsed() < Duration::from_secs(10),
        "{:?}",
        told.elapsed()
    );
}
