//! The program itself: arguments, exit codes, files, and a kill.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use etl::report::{LoadReport, Planted};
use tempfile::TempDir;

use crate::{
    generated::generate,
    support::{Shop, collect},
};

/// What is read of a file before its header is looked at, at least.
const BLOCK_BYTES: usize = 512 << 10;

pub(crate) fn etl(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_etl"));
    command.args(arguments).env_remove("DATABASE_URL");
    command
}

fn run(arguments: &[&str]) -> Output {
    etl(arguments).output().unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn generate_migrate_and_load_work_from_the_command_line() {
    let (shop, dir) = (Shop::without_schema(), TempDir::new().unwrap());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (csv, report, rejects) = (path("csv"), path("report.json"), path("rejects.csv"));

    let output = run(&["generate", "--out", &csv, "--products", "20", "--seed", "3"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let output = etl(&["migrate"])
        .env("DATABASE_URL", &shop.url)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let load = [
        "load",
        "--csv",
        &csv,
        "--database-url",
        &shop.url,
        "--report",
        &report,
        "--rejects",
        &rejects,
    ];
    let output = run(&load);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(!stderr(&output).contains("WARN"), "{}", stderr(&output));

    let table = String::from_utf8(output.stdout).unwrap();
    for text in [
        "product.csv",
        "unclosed_quote 1",
        "duplicate_id",
        "all in all",
    ] {
        assert!(table.contains(text), "{text} is not in {table}");
    }
    let report: LoadReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let planted: Planted =
        serde_json::from_slice(&fs::read(path("csv/planted.json")).unwrap()).unwrap();
    assert_eq!(report.files.len(), planted.files.len());
    assert!(
        planted
            .files
            .iter()
            .all(|(name, counts)| report.files[name].counts == *counts)
    );
    let stored = shop
        .rows("select report->>'rows', report->>'rejected' from service.loads")
        .await;
    assert_eq!(stored, [format!("({},{})", report.rows, report.rejected)]);
    // Every refused row has its line; some of them more than one.
    assert!(
        fs::read(rejects)
            .unwrap()
            .split(|byte| *byte == b'\n')
            .count() as u64
            > report.rejected
    );
}

#[test]
fn exit_codes_tell_what_went_wrong() {
    let empty = TempDir::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let nowhere = "postgres://nobody:secret@localhost:1/none?host=/nonexistent";
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    assert_eq!(run(&["load"]).status.code(), Some(2));
    assert_eq!(
        run(&["load", "--csv", empty, "--database-url", nowhere])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        run(&["generate", "--out", empty, "--products", "0"])
            .status
            .code(),
        Some(3)
    );
    assert_eq!(
        run(&[
            "load",
            "--csv",
            empty,
            "--database-url",
            nowhere,
            "--purge",
            "http://edge"
        ])
        .status
        .code(),
        Some(2),
        "a gateway, and no token for it"
    );
    let output = run(&["migrate", "--database-url", nowhere]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("etl: connecting to the database: "),
        "{}",
        stderr(&output)
    );
    assert!(!stderr(&output).contains("secret"));
}

/// Answers one request as the admin listener of a gateway may; the request is what it is joined for.
fn admin_listener(status: &'static str, body: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"}") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).unwrap();
        String::from_utf8(request).unwrap()
    });
    (url, answering)
}

#[tokio::test]
async fn after_a_load_every_gateway_is_purged_and_says_what_it_removed() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    let token = dir.path().join("token");
    fs::write(&token, "abc123\n").unwrap();
    let removed = r#"{"sequence":1,"objects":1234,"bytes":9}"#;
    let (one, two) = (
        admin_listener("200 OK", removed),
        admin_listener("200 OK", removed),
    );
    let output = etl(&["load", "--csv", dir.path().to_str().unwrap()])
        .args(["--database-url", &shop.url, "--purge", &one.0])
        .args(["--purge", &two.0, "--purge-token-file"])
        .arg(&token)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let table = String::from_utf8(output.stdout).unwrap();
    for (url, answering) in [one, two] {
        let line = format!("purged {url}: 1,234 answers removed");
        assert!(table.contains(&line), "{line} is not in {table}");
        let request = answering.join().unwrap();
        assert!(request.starts_with("POST /purge HTTP/1.1\r\n"), "{request}");
        assert!(
            request.contains("authorization: Bearer abc123\r\n"),
            "{request}"
        );
        assert!(request.ends_with("\r\n\r\n{\"all\":true}"), "{request}");
    }
}

#[tokio::test]
async fn a_purge_that_fails_has_its_exit_code_and_says_what_to_run_and_the_load_stays() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("base", &[], dir.path());
    let (token, report) = (dir.path().join("token"), dir.path().join("report.json"));
    fs::write(&token, "abc123").unwrap();
    // One refuses, one is not there, and one is fine.
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gone = format!("http://{gone}");
    let (refusing, refused) = admin_listener("401 Unauthorized", "the token is required");
    let (fine, purged) = admin_listener("200 OK", r#"{"objects":1,"bytes":9}"#);
    let mut load = etl(&["load", "--csv", dir.path().to_str().unwrap()]);
    load.args(["--database-url", &shop.url])
        .arg("--report")
        .arg(&report);
    for url in [&refusing, &gone, &fine] {
        load.args(["--purge", url]);
    }
    let output = load.arg("--purge-token-file").arg(&token).output().unwrap();
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(6), "{error}");
    for text in [
        "the load is done",
        &format!("{refusing}: it answered 401 Unauthorized: the token is required"),
        &format!("{gone}: Connection refused"),
        &format!(
            "{}')\" -d '{{\"all\":true}}' '{gone}/purge'",
            token.display()
        ),
    ] {
        assert!(error.contains(text), "{text} is not in {error}");
    }
    assert!(
        !error.contains(&fine) && !error.contains("abc123"),
        "{error}"
    );
    let report: LoadReport = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let failed: Vec<bool> = report
        .purges
        .iter()
        .map(|purge| purge.error.is_some())
        .collect();
    assert_eq!(failed, [true, true, false]);
    assert_eq!(shop.rows("select count(*) from products").await, ["(3)"]);
    refused.join().unwrap();
    purged.join().unwrap();
}

#[tokio::test]
async fn a_run_that_fails_leaves_nothing_of_an_earlier_run_in_its_files() {
    let (shop, dir) = (Shop::new(), TempDir::new().unwrap());
    collect("bad_price", &[], dir.path());
    let out = TempDir::new().unwrap();
    let (rejects, report) = (
        out.path().join("rejects.csv"),
        out.path().join("report.json"),
    );
    let load = || {
        etl(&[
            "load",
            "--csv",
            dir.path().to_str().unwrap(),
            "--database-url",
            &shop.url,
        ])
        .arg("--rejects")
        .arg(&rejects)
        .arg("--report")
        .arg(&report)
        .output()
        .unwrap()
    };
    assert!(load().status.success());
    assert!(fs::read_to_string(&rejects).unwrap().contains("bad_price"));
    fs::write(dir.path().join("styles.csv"), "id,name\n1,A\n").unwrap();
    assert_eq!(load().status.code(), Some(3));
    assert_eq!(
        fs::read_to_string(&rejects).unwrap(),
        "file,line,byte_offset,reason,raw\n"
    );
    let report: serde_json::Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report["exit_code"], 3);
    let error = report["error"].as_str().unwrap();
    assert!(
        error.starts_with("styles.csv:1: column productId: bad_header"),
        "{error}"
    );
}

#[tokio::test]
async fn a_load_that_is_killed_can_be_run_again() {
    let shop = Shop::new();
    // Other files than those that are live: old, new and mixed rows differ.
    let ((old_dir, _), (dir, _)) = (generate(200, 13), generate(200, 14));
    let undisturbed = Shop::new();
    undisturbed.load(dir.path()).await.unwrap();
    let new = undisturbed.checksum().await;
    shop.load(old_dir.path()).await.unwrap();
    let old = shop.checksum().await;
    assert_ne!(old, new);
    let mut killed_too_late = 0;
    // A line for each file, then one for each step up to the swap.
    for killed_after in 1..=15 {
        let csv = dir.path().to_str().unwrap();
        let mut load = etl(&["load", "--csv", csv, "--database-url", &shop.url]);
        let mut child = load
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let line = lines.nth(killed_after - 1);
        assert!(line.is_some(), "the load ended before line {killed_after}");
        child.kill().unwrap();
        child.wait().unwrap();
        // A statement that was sent is carried out.
        wait_for_lock(&shop).await;
        let live = shop.checksum().await;
        if live == new {
            // It was faster than the kill.
            killed_too_late += 1;
            shop.load(old_dir.path()).await.unwrap();
        } else {
            assert_eq!(live, old, "killed after line {killed_after}");
        }
    }
    assert!(killed_too_late <= 2, "{killed_too_late}");
    let report = shop.load(dir.path()).await.unwrap();
    assert!(report.loaded > 0);
    assert_eq!(shop.checksum().await, new);
}

/// Asks a program to stop and gives its exit code; `None` if it does not heed.
fn code_once_asked(child: &mut Child) -> Option<i32> {
    let id = child.id().to_string();
    let asked = Command::new("kill").args(["-TERM", &id]).status();
    assert!(asked.unwrap().success());
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.kill().unwrap();
    None
}

#[tokio::test]
async fn a_load_that_is_asked_to_stop_stops_with_its_own_exit_code_and_changes_nothing() {
    let shop = Shop::new();
    let (dir, _) = generate(20, 14);
    shop.load(dir.path()).await.unwrap();
    let undisturbed = shop.checksum().await;
    // The last file comes by standard input, and does not end: a block of it is there.
    fs::remove_file(dir.path().join("answers_photos.csv")).unwrap();
    let csv = dir.path().to_str().unwrap();
    let mut load = etl(&["load", "--csv", csv, "--stdin", "answers_photos.csv"]);
    let mut child = load
        .args(["--database-url", &shop.url])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"id,answer_id,url\n").unwrap();
    input.write_all(&[b'\n'; BLOCK_BYTES]).unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("answers.csv")));
    // Meanwhile nobody else can load.
    fs::write(dir.path().join("answers_photos.csv"), "id,answer_id,url\n").unwrap();
    let output = run(&["load", "--csv", csv, "--database-url", &shop.url]);
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert_eq!(code_once_asked(&mut child), Some(130));
    let told = lines.last().unwrap().unwrap();
    assert!(told.contains("stopped before the end"), "{told}");
    assert_eq!(shop.checksum().await, undisturbed);
}

#[test]
fn a_load_can_be_stopped_while_it_waits_for_the_first_line_of_standard_input() {
    let nowhere = "postgres://nobody@localhost:1/none?host=/nonexistent";
    let mut load = etl(&["load", "--stdin", "reviews.csv", "--database-url", nowhere]);
    let mut child = load
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Before it watches the signal it would end by it, and prove nothing.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !catches_sigterm(&child) {
        assert!(Instant::now() < deadline, "it never watches the signal");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert_eq!(code_once_asked(&mut child), Some(130));
}

fn catches_sigterm(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    // Signals count from 1.
    caught & 1 << (15 - 1) != 0
}

/// The server notices soon that the program has gone, and lets go of its lock.
async fn wait_for_lock(shop: &Shop) {
    let gone = "select count(*) from pg_stat_activity where application_name = 'etl' and datname = current_database()";
    let waiting = async {
        while shop.rows(gone).await != ["(0)"] {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .unwrap();
}
