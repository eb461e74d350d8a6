//! The program itself: its command line, its log, its end.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use stack::TestCluster;

use crate::{
    raw::Raw,
    support::{Answer, TestApp, fixture, open},
    tail::Events,
};

pub(crate) fn origin() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_origin"));
    command
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A running program, killed when the test is over.
pub(crate) struct Program(pub(crate) Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The program over this database, where it listens, and the rest of its log.
fn start(url: &str, level: &str) -> (Program, SocketAddr, impl Iterator<Item = String> + use<>) {
    let mut program = Program(
        origin()
            .args([
                "run",
                "--listen=127.0.0.1:0",
                "--private=127.0.0.1:0",
                "--allow-unsafe-durability",
            ])
            .args(["--database-url", url, "--log", level])
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(program.0.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap());
    let listening = lines.find(|line| line.contains("listening")).unwrap();
    let listening: Value = serde_json::from_str(&listening).unwrap();
    assert_eq!(listening["release"].as_str().unwrap().len(), 12);
    let address = listening["public"].as_str().unwrap().parse().unwrap();
    (program, address, lines)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_request_is_one_line_with_its_id_and_no_secret_at_any_level() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let url = TestCluster::shared().app_url(&app.database);
    for level in ["info", "trace"] {
        assert_logged(&url, level).await;
    }
}

async fn assert_logged(url: &str, level: &str) {
    let (mut program, address, lines) = start(url, level);
    let body = r#"{"product_id":2,"rating":5,"body":"PLANTED-BODY","recommend":true,"name":"PLANTED-NAME","email":"planted@example.com"}"#;
    let mut raw = Raw::connect(address).await;
    for request in [
        "GET /cart?user_token=PLANTED-QUERY HTTP/1.1\r\nhost: o\r\nauthorization: Bearer PLANTED-TOKEN\r\n\
         cookie: atelier_cart=PLANTED-COOKIE\r\nx-request-id: one\r\n\r\n"
            .to_owned(),
        format!(
            "POST /reviews/ HTTP/1.1\r\nhost: o\r\nx-request-id: two\r\nidempotency-key: PLANTED-KEY\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
        "GET /%0d%0aX:%1b[31m HTTP/1.1\r\nhost: o\r\nuser-agent: a\u{e9}\tb\r\nx-request-id: three\r\n\r\n".to_owned(),
    ] {
        raw.send(request).await;
        raw.answer().await;
    }
    nix_terminate(&program.0);
    let log: Vec<String> = lines.collect();
    assert!(program.0.wait().unwrap().success());

    let whole = log.join("\n");
    assert!(!whole.to_lowercase().contains("planted"), "{whole}");
    let requests: Vec<Value> = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["target"] == "origin::access")
        .collect();
    let ids: Vec<_> = requests
        .iter()
        .map(|line| line["request.id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["one", "two", "three"]);
    assert_eq!(requests[0]["request.path"], "/cart");
    assert_eq!(requests[1]["request.route"], "/reviews");
    assert_eq!(requests[1]["request.method"], "POST");
    assert_eq!(requests[1]["response.status"], 201);
    assert!(requests[1]["took_us"].as_u64().unwrap() > 0);
    assert_eq!(requests[2]["request.route"], "none");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_bodies_of_ten_megabytes_at_once_are_refused_and_take_little_memory() {
    let app = TestApp::start(&[fixture::REVIEWS_WITH_TIES]).await;
    let url = TestCluster::shared().app_url(&app.database);
    let (program, address, lines) = start(&url, "info");
    // Somebody reads what it says.
    std::thread::spawn(move || lines.for_each(drop));
    let most_resident_kib = || {
        let path = format!("/proc/{}/status", program.0.id());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1));
        kib.unwrap().parse::<u64>().unwrap()
    };
    let mut first = Raw::connect(address).await;
    first.send("GET /cart HTTP/1.1\r\nhost: o\r\n\r\n").await;
    assert_eq!(first.answer().await.status, 200);
    let before = most_resident_kib();
    let body = bytes::Bytes::from(vec![b' '; 10_000_000]);
    let sent = (0..50).map(|number| {
        let body = body.clone();
        tokio::spawn(async move {
            let framing = if number % 2 == 0 {
                format!("content-length: {}\r\n\r\n", body.len())
            } else {
                format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n", body.len())
            };
            let mut raw = Raw::connect(address).await;
            raw.send(format!("POST /reviews HTTP/1.1\r\nhost: o\r\n{framing}"))
                .await;
            raw.send(body).await;
            (number, raw.answer().await.status.as_u16())
        })
    });
    for answered in join_all(sent).await {
        let (number, status) = answered.unwrap();
        // One whose size is not announced may also meet that there is no memory for more bodies.
        let is_refused = status == 413 || (number % 2 == 1 && status == 503);
        assert!(is_refused, "{number}: {status}");
    }
    let grown = most_resident_kib() - before;
    assert!(grown < 20 << 10, "{grown} KiB");
}

/// Asks a program to end, as a supervisor does.
pub(crate) fn nix_terminate(child: &Child) {
    let ended = Command::new("kill")
        .arg(child.id().to_string())
        .status()
        .unwrap();
    assert!(ended.success());
}

#[test]
fn the_settings_in_force_are_printed_without_secrets() {
    let output = origin()
        .args(["run", "--check-config", "--campus=hr-lax"])
        .env("DATABASE_URL", "postgres://app:hush@db.internal/shop")
        .output()
        .unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("hr-lax") && text.contains("app@db.internal:5432/shop"),
        "{text}"
    );
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn bad_settings_are_named_and_end_the_program() {
    for (argument, said) in [
        ("--database-url=mysql://app:hush@db/shop", "--database-url"),
        ("--statement-deadline-ms=1", "--statement-deadline-ms"),
        ("--pool-size=x", "--pool-size"),
        ("--listen=nowhere", "--listen"),
        ("--log=a=b=c", "--log"),
    ] {
        let mut command = origin();
        command.args(["run", argument]);
        if !argument.starts_with("--database-url") {
            command.arg("--database-url=postgres://app:hush@db/shop");
        }
        let mut child = command.spawn().unwrap();
        let status = child.wait().unwrap();
        let mut text = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        assert!(!status.success(), "{argument}");
        assert!(text.contains(said), "{argument}: {text}");
        assert!(!text.contains("hush"), "{argument}: {text}");
    }
}

#[test]
fn the_description_is_printed() {
    let output = origin()
        .args(["openapi", "--public-url=https://shop.example"])
        .output()
        .unwrap();
    assert!(output.status.success());
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed, origin::openapi::document("https://shop.example"));
    let refused = origin()
        .args(["openapi", "--public-url=ftp://shop.example"])
        .output()
        .unwrap();
    assert!(!refused.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_runs_alone_over_tables_of_any_service() {
    let cluster = TestCluster::shared();
    let database = tokio::task::spawn_blocking(|| {
        let database = cluster.create_database(None);
        // Nothing of the shop: what the outbox needs, and a table of somebody else's.
        let outbox = include_str!("../../../sql/coherence.sql");
        let own = "create table public.note (id int primary key, text text);
                   select coherence.watch('public.note', 'note-{id}');
                   select coherence.install();
                   -- Its time has come.
                   update coherence.rotation set rotated_at = now() - interval '2 hours'";
        for statements in [outbox, own] {
            cluster.cluster().psql(&database, statements).unwrap();
        }
        database
    });
    let database = database.await.unwrap();
    let mut program = Program(
        origin()
            .args(["tail", "--listen=127.0.0.1:0"])
            .args(["--database-url", &cluster.owner_url(&database)])
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(program.0.stdout.take().unwrap()).lines();
    let listening = lines
        .find_map(|line| line.ok().filter(|line| line.contains("listening")))
        .unwrap();
    let listening: Value = serde_json::from_str(&listening).unwrap();
    let address: SocketAddr = listening["private"].as_str().unwrap().parse().unwrap();
    let mut events = Events::read(open(address, "/events").await);
    events.next().await.assert_everything("position");
    cluster
        .cluster()
        .psql(&database, "insert into public.note values (7, 'x')")
        .unwrap();
    events.expect_groups(&["note-7"]).await;
    // Nobody else turns the outbox over.
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let slot = "select slot from coherence.rotation";
        let slot = cluster.cluster().psql(&database, slot).unwrap();
        if slot == "1" {
            break;
        }
        assert!(Instant::now() < deadline, "the outbox is never rotated");
        tokio::task::yield_now().await;
    }
    for (path, expected) in [
        ("/readyz", "ready"),
        ("/healthz", "ok"),
        ("/metrics", "origin_events_transactions_total 1"),
    ] {
        let answer = Answer::read(open(address, path).await).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.text().contains(expected), "{path}: {answer:?}");
    }
    for (trigger, status) in [("disable trigger", 503), ("enable always trigger", 200)] {
        let alter = format!("alter table public.note {trigger} coherence_update");
        cluster.cluster().psql(&database, &alter).unwrap();
        let mut answer = Answer::read(open(address, "/readyz").await).await;
        while answer.status != status {
            assert!(Instant::now() < deadline, "{trigger}: {answer:?}");
            answer = Answer::read(open(address, "/readyz").await).await;
        }
        let is_named = answer.text().contains("coherence_update on public.note");
        assert_eq!(is_named, status == 503, "{answer:?}");
    }
    nix_terminate(&program.0);
    assert!(program.0.wait().unwrap().success());
    drop(events);
    cluster.drop_database(&database);
}

#[test]
fn the_readme_names_every_setting() {
    let help: String = ["run", "tail"]
        .map(|command| {
            let output = origin().args([command, "--help"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        })
        .concat();
    let readme = include_str!("../../README.md");
    let flags = help
        .split_whitespace()
        .filter(|word| word.starts_with("--") && word.len() > 2);
    for flag in flags.map(|flag| flag.trim_end_matches([',', ':', ';', '.'])) {
        assert!(
            readme.contains(flag) || flag == "--help",
            "{flag} is not in the README"
        );
    }
}
